"""What the two estimators share: their arguments, and a fit from checked data to a trained net."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from nnx.activations import Activation
from nnx.backend import Array, Backend, get_backend, resolve, use_backend
from nnx.checks import choice, count, flag, number
from nnx.data import held_out
from nnx.data.parts import taken
from nnx.estimators.choices import built
from nnx.estimators.libraries import dispatches, dtype_of, host, library_of
from nnx.estimators.packed import Packed
from nnx.estimators.quasi_newton import minimised
from nnx.estimators.streams import noise_of, streams_of
from nnx.layers.container import SequentialLayer
from nnx.losses import Loss
from nnx.networks import SequentialNet
from nnx.synonyms import named, remedy
from nnx.training import EarlyStopping, History
from nnx.training.callbacks import as_callbacks

__all__ = ["NetworkEstimator", "has_batches"]


def has_batches(estimator: Any) -> bool:
    """Return whether an estimator can train with a part of the samples."""
    return estimator.solver != "lbfgs"


class NetworkEstimator(BaseEstimator):
    """Base class: a subclass says what targets mean, by `encoded` and `head`.

    Attributes:
        quantity: the name in the history of what `validation_scores_` holds.
    """

    quantity: ClassVar[str]

    @named
    def __init__(
        self,
        hidden: Any = (100,),
        *,
        activation: Any = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        regularizer: Any = None,
        initializer: Any = None,
        layers: Any = None,
        loss: Any = None,
        solver: str = "batches",
        optimizer: Any = "adam",
        learning_rate: Any = None,
        batch_size: int = 32,
        epochs: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        tol: float = 1e-4,
        callbacks: Any = (),
        backend: Any = None,
        dtype: str | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.regularizer = regularizer
        self.initializer = initializer
        self.layers = layers
        self.loss = loss
        self.solver = solver
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.tol = tol
        self.callbacks = callbacks
        self.backend = backend
        self.dtype = dtype
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def default(cls, name: str) -> Any:
        """Return the default of an argument."""
        return inspect.signature(cls).parameters[name].default

    def set_params(self, **params: Any) -> Self:
        """Set arguments, as scikit-learn does; a name that is not there is told what to write.

        Raises:
            ValueError: there is no such argument.
        """
        try:
            return super().set_params(**params)
        except ValueError as error:
            known = self.get_params(deep=False)
            wrong = [name for name in params if "__" not in name and name not in known]
            if not wrong:
                raise
            hint = remedy(wrong[0], known, params[wrong[0]])
            raise ValueError(f"{str(error).rstrip('.')}; {hint}") from error

    # What a subclass defines.

    def encoded(self, y: Any, new: bool, partial: bool, classes: Any) -> tuple[np.ndarray, int]:
        """Return the targets of the network, and how many outputs these need.

        Args:
            y: as scikit-learn has checked it.
            new: is this the first fit of a network?
            partial: are there other samples than these?
            classes: the argument of `partial_fit`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define encoded(y, ...)")

    def head(self) -> tuple[Activation, tuple[Loss, ...]]:
        """Return the last activation of a network made from `hidden`, and losses for the targets.

        Of the losses the first is taken that goes with the last activation of the network.
        """
        raise NotImplementedError(f"{type(self).__name__} must define head()")

    def class_factors(self, y: Any, partial: bool) -> np.ndarray | None:
        """Return a weight for each sample, from its class."""
        return None

    # Fitting.

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network; with `warm_start`, train the one of the last fit further.

        Args:
            X: (samples, features), or (samples, ...) if the first layer takes such samples.
            y: targets, one for each sample.
            sample_weight: (samples,), >= 0. Only their ratios count.

        Raises:
            ValueError, TypeError: the data or an argument does not fit, with what to do.
            NonFiniteLossError: the training diverges.
        """
        new = not (self.warm_start and hasattr(self, "net_"))
        return self._fit(X, y, sample_weight, new)

    def _fit(
        self,
        X: Any,
        y: Any,
        weights: Any,
        new: bool,
        partial: bool = False,
        classes: Any = None,
    ) -> Self:
        self._check_arguments()
        numeric = self.quantity != "accuracy"
        checks = {"dtype": "numeric", "allow_nd": True, "multi_output": True, "y_numeric": numeric}
        try:
            X, y = validate_data(self, X, host(y), reset=new, **checks)
        except (TypeError, ValueError) as error:
            if hint := _hint(X):
                raise ValueError(f"{error}; {hint}") from error
            raise
        weights = _checked_weights(weights, X.shape[0])
        targets, outputs = self.encoded(y, new, partial, classes)
        if (factors := self.class_factors(y, partial)) is not None:
            weights = factors if weights is None else weights * factors
        library = self._library(X, "partial_fit" if partial else "fit", new)
        if new:
            self._rng = check_random_state(self.random_state)
        seed, held = int(self._rng.randint(2**31 - 1)), None
        if new:
            self._build(X, outputs, library, seed)
        if self.early_stopping and not partial:
            with streams_of(seed):
                strata = targets if targets.ndim == 1 else None
                held = held_out(X.shape[0], self.validation_fraction, strata)
        self._train(self._inputs(X), targets, weights, held, seed, partial)
        return self

    def _build(self, X: Any, outputs: int, library: str | None, seed: int) -> None:
        """Make a network for the data, and forget what the last one has seen."""
        chosen = self.backend or library or get_backend()
        with streams_of(seed), use_backend(resolve(chosen, self.dtype or dtype_of(X))):
            shape = tuple(int(size) for size in X.shape[1:])
            self.net_: SequentialNet = built(self, shape, outputs, *self.head())
        self.n_outputs_, self.n_iter_ = outputs, 0
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] = []
        self.validation_scores_: list[float] = []

    def _train(
        self,
        x: Any,
        y: np.ndarray,
        weights: np.ndarray | None,
        held: np.ndarray | None,
        seed: int,
        partial: bool,
    ) -> None:
        """Train the network with checked data, and append what has happened to the attributes."""
        valid, callbacks = None, as_callbacks(self.callbacks)
        if held is not None:
            kept = np.setdiff1d(np.arange(len(y)), held)
            valid = (self._rows(x, held), y[held], *([] if weights is None else [weights[held]]))
            x, y = self._rows(x, kept), y[kept]
            weights = None if weights is None else weights[kept]
            callbacks = (*callbacks, EarlyStopping(patience=self.patience, min_delta=self.tol))
        if weights is not None and not partial:
            total = weights.sum()
            weights = weights * (len(weights) / total) if total > 0 else weights
        with noise_of(self.net_, seed):
            if self.solver == "lbfgs":
                history = minimised(self.net_, x, y, weights, self.epochs, self.tol, self.verbose)
            else:
                history = self.net_.train(
                    x,
                    y,
                    self._batch_size(len(y)),
                    1 if partial else self.epochs,
                    validation=valid,
                    callbacks=callbacks,
                    progress=bool(self.verbose),
                    sample_weights=weights,
                    rng=np.random.default_rng([seed, 1]),
                )
        self._remember(history)

    def _batch_size(self, samples: int) -> int:
        """Return the size of a batch, larger if a layer could not take the last batch."""
        net, size = self.net_, min(self.batch_size, samples)
        while rest := samples % size:
            try:
                net.check_batch(net.input_shape, rest)
                break
            except ValueError:  # batch normalization needs more than one sample
                size += 1
        return size

    def _remember(self, history: History) -> None:
        self.n_iter_ += len(history.loss)
        self.loss_curve_ += history.loss
        self.validation_loss_curve_ += history.validation_loss
        if (name := f"validation_{self.quantity}") in history.keys():  # noqa: SIM118 - has no `in`
            self.validation_scores_ += history[name]

    def _check_arguments(self) -> None:
        """Check the arguments that nothing else checks; raises TypeError, ValueError."""
        owner = type(self).__name__
        if self.solver in ("adam", "sgd"):  # what scikit-learn calls a solver
            raise ValueError(
                f"{owner}: expected solver to be one of 'batches', 'lbfgs', got {self.solver!r}; "
                f"write optimizer={self.solver!r}"
            )
        choice(owner, "solver", self.solver, ("batches", "lbfgs"))
        for name in ("batch_size", "epochs", "patience"):
            count(owner, name, getattr(self, name))
        number(owner, "tol", self.tol, ">= 0")
        number(owner, "validation_fraction", self.validation_fraction, "in (0, 1)")
        for name in ("early_stopping", "warm_start"):
            flag(owner, name, getattr(self, name))
        for name in ("early_stopping", "callbacks"):
            if self.solver == "lbfgs" and getattr(self, name):
                raise ValueError(
                    f"{owner}: expected no {name} with solver='lbfgs', which has no epochs, got "
                    f"{getattr(self, name)!r}; leave it out, or write solver='batches'"
                )

    # Arrays in and out.

    def _library(self, X: Any, method: str, new: bool = False) -> str | None:
        """Return the library of X, which is that of the last fit unless this is a new one."""
        library = library_of(X)
        if new:
            self._fitted_on = library
        elif library != self._fitted_on and dispatches():
            fitted, given = (name or "numpy" for name in (self._fitted_on, library))
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace "
                f"and device as those of fit(): expected {fitted}, got {given}; convert X, or "
                "fit again"
            )
        return library

    def _inputs(self, X: Any) -> Any:
        """Return X as the network takes it: an array of its backend, or NumPy data."""
        return X if self.net_.backend.owns(X) else host(X)

    def _rows(self, x: Any, index: np.ndarray) -> Any:
        return x[index] if isinstance(x, np.ndarray) else taken(self.net_.backend, x, index)

    def _outputs(self, X: Any, method: str) -> tuple[Array, str | None]:
        """Return the outputs of the network for the user's data, and the library of that."""
        check_is_fitted(self, "net_")
        X = validate_data(self, X, reset=False, dtype="numeric", allow_nd=True)
        library = self._library(X, method)
        return self.net_.predict(self._inputs(X)), library

    # Copies.

    def to(self, backend: str | Backend, dtype: str | None = None) -> Self:
        """Return a copy whose network is on another backend, for example before pickling it.

        Raises:
            BackendError: the backend cannot be used here.
        """
        check_is_fitted(self, "net_")
        twin = copy.copy(self)
        twin.net_ = self.net_.to(backend, dtype)
        target = twin.net_.backend
        twin._fitted_on = None if target.name == "numpy" else target.spec
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, networks and layers as bytes of their file format."""
        state = dict(super().__getstate__())
        if "net_" in state:
            state["net_"] = Packed(state["net_"])
        if isinstance(layers := state.get("layers"), list | tuple):
            state["layers"] = Packed(SequentialLayer(layers))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if isinstance(packed := state.get("net_"), Packed):
            state["net_"] = packed.layer()
        if isinstance(packed := state.get("layers"), Packed):
            state["layers"] = packed.layer().layers
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags


def _hint(X: Any) -> str:
    """Return what to do about columns that hold no numbers; empty if there are none."""
    columns = [c for c in getattr(X, "columns", ()) if np.asarray(X[c]).dtype.kind not in "fiub"]
    if columns:
        return (
            f"the columns {', '.join(map(str, columns[:5]))} hold no numbers: encode them first, "
            "with OneHotEncoder in a ColumnTransformer or pandas.get_dummies, or leave them out"
        )
    return ""


def _checked_weights(weights: Any, samples: int) -> np.ndarray | None:
    """Return weights (samples,) as NumPy data; nnx checks their signs.

    Raises:
        ValueError: another shape, or all of them are zero.
    """
    if weights is None:
        return None
    weights = np.asarray(host(weights))
    if weights.shape != (samples,):
        raise ValueError(
            f"expected sample_weight of shape ({samples},), one for each sample, got "
            f"{weights.shape}; write numpy.ravel(sample_weight) if there are as many"
        )
    weights = weights.astype(np.float64)
    if not np.any(weights):
        raise ValueError(
            "expected sample_weight above zero for some sample, got a weight of zero for all of "
            "them; leave it out, or give some samples a weight"
        )
    return weights
