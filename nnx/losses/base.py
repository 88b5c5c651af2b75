"""The base class of the losses, and targets as rows."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import array_api_compat

from nnx.activations import Activation, LogSoftmax
from nnx.backend import Array, BackendError, array_namespace, get_backend
from nnx.config import Value
from nnx.synonyms import not_called

__all__ = ["ENTRIES", "ROWS", "SAMPLES", "Loss", "always_the_same", "device_of", "one_hot"]

# The axes of the outputs that a loss is a mean over: `a.shape[ROWS]` is the shape of its terms.
SAMPLES = slice(0, 1)
ROWS = slice(None, -1)
ENTRIES = slice(None)


def one_hot(y: Array, a: Array) -> Array:
    """Return the targets as rows of the shape and dtype of the outputs a.

    Class indices (samples,) become rows with a one at the class. For a single output the index
    itself is the row. Rows of the right dtype are returned as they are.

    Indices are not compared with the number of classes, because that would read the device: an
    index that is not a class becomes a row of zeros. `train` and `score` check them once.

    Raises:
        ValueError: the targets have neither the shape of the outputs nor that of indices.
        TypeError: the outputs are not float32 or float64.
        BackendError: the targets belong to another library than the outputs.
    """
    xp = array_namespace(a) if type(y) is type(a) else _namespace_of_both(a, y, "targets", "y")
    if a.dtype not in (xp.float32, xp.float64):
        raise TypeError(
            f"expected outputs of dtype float32 or float64, got {a.dtype}; convert them: "
            "nnx.get_backend().asarray(a, dtype=nnx.get_backend().dtype)"
        )
    if y.shape == a.shape:
        return y if y.dtype == a.dtype else xp.astype(y, a.dtype)
    if y.ndim != a.ndim - 1:
        raise ValueError(
            f"expected targets as rows of shape {tuple(a.shape)} or class indices of shape "
            f"{tuple(a.shape[:-1])}, got shape {tuple(y.shape)}"
        )
    y = y[..., None]
    if a.shape[-1] > 1:
        if y.dtype not in (xp.int64, xp.int32):  # int8 cannot count to 200 classes
            y = xp.astype(y, a.dtype)
        y = y == xp.arange(a.shape[-1], dtype=y.dtype, device=device_of(a))
    return xp.astype(y, a.dtype)


class Loss(Value):
    """Base class; a subclass defines `losses(a, t)` and `slopes(a, t)` for target rows t.

    value(a, y) = sum_i w_i losses(a, t)_i / number of i, and gradient(a, y) is its derivative.

    Attributes:
        over: the axes of a that the value is a mean over.
        threshold: a single output stands for the second of two classes from this value on.
        per_entry: True if several outputs are separate yes-or-no questions. Accuracy is then the
            fraction of right entries instead of right rows: see `nnx.metrics.hits`.
    """

    over: ClassVar[slice] = ROWS
    threshold: ClassVar[float] = 0.5
    per_entry: ClassVar[bool] = False
    _dtype: Any = None  # of the outputs last seen, which `one_hot` has accepted

    __call__ = not_called("loss.value(outputs, targets)")

    def losses(self, a: Array, t: Array) -> Array:
        """Return the terms of the mean, of shape a.shape[over]."""
        raise NotImplementedError(f"{type(self).__name__} must define losses(a, t)")

    def slopes(self, a: Array, t: Array) -> Array:
        """Return the derivative of the sum of the terms: a new array of the shape of a."""
        raise NotImplementedError(f"{type(self).__name__} must define slopes(a, t)")

    def value(self, a: Array, y: Array, weights: Array | None = None) -> Array:
        """Return the mean loss, a 0-d array.

        Args:
            a: outputs, float32 or float64.
            y: targets of the same library, rows or class indices.
            weights: one per sample, (samples,), or one per term: for sequences (samples, time)
                if the loss is a mean over rows or entries, and the shape of a if it is a mean
                over entries.

        Raises:
            ValueError: shapes do not fit.
            TypeError: the outputs are not float32 or float64.
            BackendError: the arrays belong to different libraries.
        """
        t, weights = self.prepare(a, one_hot(y, a), weights)
        losses, terms = self.losses(a, t), a.shape[self.over]
        if getattr(losses, "shape", None) != terms:
            raise self._broken("losses", losses, f"the terms of the mean, of shape {tuple(terms)}")
        xp = array_namespace(a)
        if weights is not None:
            weights = self._align(weights, a, losses.ndim)
            # With weight 0 an infinite loss counts as a finite one: 0 * inf would be NaN.
            finite = xp.minimum(losses, float(xp.finfo(a.dtype).max))
            losses = xp.where(weights == 0, finite, losses) * weights
        return xp.sum(losses / math.prod(terms))  # divided first: the sum could overflow

    def gradient(self, a: Array, y: Array, weights: Array | None = None) -> Array:
        """Return the derivative of `value` with respect to a, an array of the shape of a.

        Arguments and errors are those of `value`.
        """
        try:  # what `one_hot` does with rows, without the call, which would cost 5 %
            shape, dtype = a.shape, a.dtype
            known = type(y) is type(a) and y.shape == shape and y.dtype is dtype is self._dtype
        except AttributeError:  # lists; one_hot says what to do
            known = False
        if not known:
            y = one_hot(y, a)
            self._dtype = dtype
        t, weights = self.prepare(a, y, weights)
        slopes = self.slopes(a, t)
        try:
            if slopes is a or slopes is t or slopes.shape != shape:
                raise TypeError
            rows = len(shape) == 2 and self.over is not ENTRIES  # the usual case, in 0.1 us
            slopes /= shape[0] if rows else math.prod(shape[self.over])
        except Exception as error:
            expected = f"a new array of shape {tuple(shape)} and dtype {a.dtype}"
            raise self._broken("slopes", slopes, expected, (a, t)) from error
        return slopes if weights is None else slopes * self._align(weights, a, a.ndim)

    def prepare(self, a: Array, t: Array, weights: Array | None) -> tuple[Array, Array | None]:
        """Return the target rows and the weights that the formulas see."""
        return t, weights

    def check_targets(self, y: Array) -> None:
        """Refuse rows that this loss is not defined for; called once, with all of them.

        Raises:
            ValueError: what was expected of the rows, and what came.
        """

    def check_activation(self, afun: Activation, outputs: int) -> None:
        """Refuse a last activation whose values this loss does not take.

        Args:
            afun: the last activation.
            outputs: the length of the last axis of the outputs.

        Raises:
            ValueError: which activation or loss to use instead.
        """
        if outputs == 1 and always_the_same(afun):
            use = "LogSigmoid()" if isinstance(afun, LogSoftmax) else "Logistic()"
            raise self._refused("an activation that varies", afun, 1, f"give the last layer {use}")

    def fused(self, afun: Activation) -> Loss | None:
        """Return the loss of the preactivation in which this loss and the activation cancel.

        None if there is none. The fused loss has the same value, and its gradient is the one that
        comes out of the activation's backward, without the rounding errors of a saturated one.
        """
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments alone: a dtype would need its library in order to be loaded."""
        return {name: value for name, value in vars(self).items() if name != "_dtype"}

    def _keeps_formulas_of(self, kind: type[Loss]) -> bool:
        """Return whether a subclass of kind overrides nothing that the fused loss replaces."""
        for name in ("losses", "slopes", "value", "gradient", "prepare", "over", "threshold"):
            if getattr(type(self), name) is not getattr(kind, name):
                return False
        return True

    def _align(self, weights: Array, a: Array, ndim: int) -> Array:
        """Return the weights in the dtype of a, with axes of length 1 appended."""
        xp = _namespace_of_both(a, weights, "weights", "weights")
        terms = tuple(a.shape[self.over])
        if weights.ndim == 0 or tuple(weights.shape) != terms[: weights.ndim]:
            raise ValueError(
                f"{type(self).__name__} expects weights of shape {terms[:1]}"
                + (f", or of more axes of {terms}," if len(terms) > 1 else "")
                + f" for outputs of shape {tuple(a.shape)}, got {tuple(weights.shape)}"
            )
        shape = (*weights.shape, *[1] * (ndim - weights.ndim))
        return xp.reshape(xp.astype(weights, a.dtype, copy=False), shape)

    def _refused(self, expected: str, afun: Activation, outputs: int, remedy: str) -> ValueError:
        several = "a single output" if outputs == 1 else f"{outputs} outputs"
        return ValueError(
            f"{type(self).__name__}: expected {expected} in the last layer, got {afun!r} with "
            f"{several}; {remedy}"
        )

    def _broken(
        self, method: str, got: Any, expected: str, given: tuple[Array, ...] = ()
    ) -> Exception:
        """Return the error of a subclass whose method returns something else than it should."""
        if any(got is array for array in given):
            found = "its argument itself; return a copy: xp.asarray(..., copy=True)"
        elif array_api_compat.is_array_api_obj(got):
            found = f"one of shape {tuple(got.shape)} and dtype {got.dtype}"
        else:
            found = repr(got)
        kind = ValueError if array_api_compat.is_array_api_obj(got) else TypeError
        return kind(f"{type(self).__name__}.{method}(a, t): expected {expected}, got {found}")


def always_the_same(afun: Activation) -> bool:
    """Return whether a single output of this activation is always the same number."""
    return afun.distribution or isinstance(afun, LogSoftmax)


def device_of(a: Array) -> Any:
    """Return the device of a; None, the default, in a trace of JAX, where arrays have none."""
    return getattr(a, "device", None)


def _namespace_of_both(a: Array, array: Array, what: str, name: str) -> Any:
    """Return the namespace of the outputs and another array, or say how to move that one."""
    xp = array_namespace(a)
    try:
        return array_namespace(a, array)
    except BackendError:
        numbers = array_api_compat.is_array_api_obj(array)
        host = not numbers or array_api_compat.is_numpy_array(array)
        given = name if host else f"nnx.to_numpy({name})"
        if array_api_compat.is_numpy_array(a) and not host:
            move = given
        elif get_backend().owns(a):
            move = f"nnx.get_backend().asarray({given})"
        else:
            move = f"net.backend.asarray({given}), where net is the network of the outputs"
        raise BackendError(
            f"outputs of {xp.__name__} and {what} that are a {type(array).__name__} in one formula",
            f"move the {what}: {name} = {move}",
        ) from None
