"""A network as a classifier of scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from nnx.activations import Activation, Logistic, SoftMax
from nnx.backend import Array, array_namespace, resolve
from nnx.estimators.base import NetworkEstimator, has_batches
from nnx.estimators.libraries import as_library
from nnx.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Hinge,
    LogisticCrossEntropy,
    Loss,
    SoftMaxCrossEntropy,
)
from nnx.synonyms import named

__all__ = ["NetworkClassifier"]


def _has_probabilities(estimator: Any) -> bool:
    return not isinstance(estimator.loss, Hinge) and str(estimator.loss).lower() != "hinge"


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """A network that classifies, as an estimator of scikit-learn.

    Labels may be of any type; y as an indicator matrix (samples, labels) means several labels for a
    sample. The network ends with SoftMax and minimises CrossEntropy; for several labels with
    Logistic and BinaryCrossEntropy.

    Shapes: X (samples, features), or (samples, ...) for `layers` that take such samples.

    Args:
        hidden: sizes of the hidden dense layers, a tuple or one number.
        activation: of the hidden layers: a name such as "relu", or an nnx.Activation.
        dropout: the rate of a DropoutLayer after each hidden layer, in [0, 1).
        batch_norm: put a BatchNormLayer after each hidden layer.
        regularizer: l2 of the penalty l2/2 |W|^2 on the weights, or an nnx.Regularizer.
        initializer: of the initial weights: a name such as "HeNormal", or an nnx.Initializer; None
            takes that of DenseLayer.
        layers: instead of all these, a function of (input_shape, output_shape) that returns the
            list of layers, for example to take pre-trained ones, or such a list. The layers of a
            list are made anew, with initial weights of their own, for each fit.
        loss: a name such as "hinge", or an nnx.Loss; None takes one that suits y and the layers.
        solver: "batches", or "lbfgs" for all samples in every step, which suits small data.
        optimizer: a name such as "adam", or an nnx.Optimizer; None leaves `layers` their own.
        learning_rate: of the optimizer, a number or an nnx.Schedule; None takes the optimizer's.
        batch_size: samples per step, at most all.
        epochs: passes over the data; for "lbfgs" the most iterations.
        early_stopping: keep a part of the samples for validation, end the training if its loss does
            not improve, and restore the best weights.
        validation_fraction: how large that part is; each class has its share.
        patience: how many epochs without an improvement end the training.
        tol: an improvement is larger; "lbfgs" ends if no entry of the gradient is.
        callbacks: nnx.Callback objects, or functions of (net, history).
        backend: "cupy", "torch:cuda" and so on; None takes the library of X if scikit-learn's
            array_api_dispatch is on and X is not NumPy's, else the current backend.
        dtype: "float32" or "float64"; None takes float32 if it holds the numbers of X, else
            float64.
        warm_start: `fit` continues with the network of the last one.
        random_state: an integer for repeatable results, a RandomState, or None.
        verbose: show a progress bar.
        class_weight: "balanced" or {label: weight}; they multiply the sample weights.

    Attributes:
        classes_: the labels, sorted.
        net_: the nnx.SequentialNet.
        loss_curve_: the loss of each epoch.
        validation_loss_curve_, validation_scores_: with early stopping, loss and accuracy on the
            part for validation after each epoch.
        n_iter_: how many epochs that were.
        n_outputs_, n_features_in_, feature_names_in_: of y and X.
    """

    quantity = "accuracy"

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
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            hidden,
            activation=activation,
            dropout=dropout,
            batch_norm=batch_norm,
            regularizer=regularizer,
            initializer=initializer,
            layers=layers,
            loss=loss,
            solver=solver,
            optimizer=optimizer,
            learning_rate=learning_rate,
            batch_size=batch_size,
            epochs=epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            tol=tol,
            callbacks=callbacks,
            backend=backend,
            dtype=dtype,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    @available_if(has_batches)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Make one pass over some samples, with the network that there is or a new one.

        Args:
            X, y: as in `fit`.
            classes: all labels; needed in the first call, unless y is an indicator matrix.
            sample_weight: (samples,), >= 0. Their size counts, not only their ratios.

        Raises:
            ValueError, TypeError: the data or an argument does not fit, with what to do.
        """
        new = not hasattr(self, "net_")
        return self._fit(X, y, sample_weight, new, partial=True, classes=classes)

    def predict(self, X: Any) -> Any:
        """Return the label of each sample, (samples,) or an indicator matrix, in the library of X.

        Labels that are not numbers are NumPy's.
        """
        a, library = self._outputs(X, "predict")
        net, xp = self.net_, array_namespace(a)
        with net.backend.selected():
            if self._multilabel or a.shape[1] == 1:
                index = xp.astype(a > net.cost.threshold, net.backend.integer_dtype)
                index = index if self._multilabel else index[:, 0]
            else:
                index = xp.argmax(a, axis=1)
        if self._multilabel:
            return as_library(index, net.backend, library)
        if library is None or self.classes_.dtype.kind not in "biuf":
            return self.classes_[net.backend.to_numpy(index)]
        target = resolve(library, net.backend.dtype_name)
        index = as_library(index, net.backend, library)
        return target.xp.take(target.from_numpy(self.classes_), index, axis=0)

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each label, (samples, labels), in the library of X.

        Raises:
            ValueError: the outputs of the network are not probabilities.
        """
        a, library = self._outputs(X, "predict_proba")
        return as_library(self._probabilities(a), self.net_.backend, library)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithms of `predict_proba`."""
        a, library = self._outputs(X, "predict_log_proba")
        p = self._probabilities(a)
        with self.net_.backend.selected(), np.errstate(divide="ignore"):
            return as_library(array_namespace(p).log(p), self.net_.backend, library)

    def _probabilities(self, a: Array) -> Array:
        net, xp = self.net_, array_namespace(a)
        cost, afuns = net.cost, net.last_activations() or []
        with net.backend.selected():
            single = self._multilabel or a.shape[1] == 1
            if isinstance(cost, SoftMaxCrossEntropy):
                a = SoftMax().forward(a)[0]
            elif isinstance(cost, LogisticCrossEntropy) and single:
                a = Logistic(cost.k).forward(a)[0]
            elif not all(
                (f.range[0] >= 0 and f.range[1] <= 1) if single else f.distribution for f in afuns
            ):
                raise ValueError(
                    f"{type(self).__name__}: expected a last activation whose values are "
                    f"probabilities, got {afuns[0]!r}; end the network with "
                    f"{'Logistic' if single else 'SoftMax'}()"
                )
            if single and not self._multilabel:
                a = xp.concat([1.0 - a, a], axis=1)
        return a

    def head(self) -> tuple[Activation, tuple[Loss, ...]]:
        """SoftMax and losses of classes; for several labels Logistic and losses of answers."""
        answers = (BinaryCrossEntropy(), LogisticCrossEntropy())
        if self._multilabel:
            return Logistic(), answers
        return SoftMax(), (CrossEntropy(), SoftMaxCrossEntropy(), *answers)

    def encoded(self, y: Any, new: bool, partial: bool, classes: Any) -> tuple[np.ndarray, int]:
        """Return class indices, or rows of 0 and 1 for several labels.

        Raises:
            ValueError: these are not classes, or not those of the first call.
        """
        y = y.toarray() if hasattr(y, "toarray") else y
        check_classification_targets(y)
        several = type_of_target(y, input_name="y") == "multilabel-indicator"
        if several:
            labels = np.arange(y.shape[1])
        else:
            if y.ndim == 2 and y.shape[1] > 1:
                raise ValueError(
                    f"y should be a 1d array, got an array of shape {y.shape}; for several targets "
                    f"with classes, write MultiOutputClassifier({type(self).__name__}(...))"
                )
            y = column_or_1d(y, warn=True)
            labels = np.unique(y if classes is None else classes)
        if new:
            if partial and classes is None and not several:
                raise ValueError(
                    f"{type(self).__name__}: expected all classes in the first call of partial_fit,"
                    " as other samples may have others than these, got None; write "
                    "classes=numpy.unique(all_y)"
                )
            if len(labels) < 2 and not several:
                raise ValueError(
                    f"{type(self).__name__}: expected y with at least two classes, got one class, "
                    f"{labels.tolist()}; pass samples of another one too"
                )
            self._multilabel, self.classes_ = several, labels
        elif several != self._multilabel or (
            (several or classes is not None) and not np.array_equal(labels, self.classes_)
        ):
            raise ValueError(
                f"{type(self).__name__}: expected y with the classes of the first call, "
                f"{self.classes_!r}, got {labels!r}; fit a new estimator for others"
            )
        if several:
            return y.astype(np.float64), len(labels)
        index = np.searchsorted(self.classes_, y)
        known = self.classes_[np.minimum(index, len(self.classes_) - 1)] == y
        if not np.all(known):
            raise ValueError(
                f"{type(self).__name__}: expected y with labels of {self.classes_!r}, got "
                f"{y[~known][0]!r}; pass all labels to the first partial_fit: classes=[...]"
            )
        return index.astype(np.int64), len(self.classes_)

    def class_factors(self, y: Any, partial: bool) -> np.ndarray | None:
        """Return the weight of the class of each sample.

        Raises:
            ValueError: "balanced", for a part of the samples.
        """
        if self.class_weight is None:
            return None
        if partial and isinstance(self.class_weight, str):
            raise ValueError(
                f"{type(self).__name__}: expected class_weight as {{label: weight}} for "
                f"partial_fit, which does not see all samples, got {self.class_weight!r}; write "
                "dict(zip(classes, compute_class_weight('balanced', classes=classes, y=y)))"
            )
        y = y.toarray() if hasattr(y, "toarray") else y
        return compute_sample_weight(self.class_weight, y if self._multilabel else np.ravel(y))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
