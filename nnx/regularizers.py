"""Penalties on weights: `update(p, dp)` adds their gradient, `value(p)` is the penalty.

NaN in the weights stays NaN in the value and in the gradient.
"""

from __future__ import annotations

from nnx.activations.formulas import keep_nan, sign
from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError, number
from nnx.config import Value
from nnx.synonyms import not_called

__all__ = [
    "ElasticNetRegularizer",
    "L1Regularizer",
    "L2Regularizer",
    "OrthogonalityRegularizer",
    "Regularizer",
]


class Regularizer(Value):
    """Base class; subclasses define `value(p)` and `gradient(p)`."""

    __call__ = not_called("regularizer.value(W)")

    def value(self, p: Array) -> Array:
        """Return the penalty, a 0-d array."""
        raise NotImplementedError(f"{type(self).__name__} must define value(p)")

    def gradient(self, p: Array) -> Array:
        """Return the gradient of the penalty, of the shape of p."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(p)")

    def update(self, p: Array, dp: Array) -> Array:
        """Return dp plus the gradient of the penalty; dp itself is left unchanged.

        Raises:
            ShapeError: `gradient` returns an array of another shape than p.
            TypeError: it does not return an array.
        """
        gradient = self.gradient(p)
        if getattr(gradient, "shape", None) != getattr(p, "shape", None):  # symbols have none
            _refuse(self, "gradient", gradient, p.shape, "the derivative by every entry of p")
        return dp + gradient

    def checked_value(self, p: Array) -> Array:
        """Return `value(p)` if it is a 0-d array; a training step uses `value` unchecked.

        Raises:
            ShapeError: `value` returns an array of another shape.
            TypeError: it does not return an array.
        """
        value = self.value(p)
        if getattr(value, "shape", None) != ():
            _refuse(self, "value", value, (), "one number, such as xp.sum(p * p)")
        return value


class L2Regularizer(Regularizer):
    """Penalty l2/2 |p|^2 with gradient l2 p; with plain SGD this is weight decay.

    The value is infinite if p_i^2 overflows, from 1.8e19 in float32; the gradient is right there.

    Args:
        l2: the factor lambda, >= 0.
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = number(self, "l2", l2, ">= 0")

    def value(self, p: Array) -> Array:
        """Return l2/2 |p|^2."""
        return array_namespace(p).sum(p * p) * (0.5 * self.l2)

    def gradient(self, p: Array) -> Array:
        """Return l2 p."""
        return self.l2 * p


class L1Regularizer(Regularizer):
    """Penalty l1 sum |p_i| with gradient l1 sign(p), which is 0 at 0; it makes weights sparse.

    Args:
        l1: the factor, >= 0.

    Source: Tibshirani, Journal of the Royal Statistical Society B 58 (1996).
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = number(self, "l1", l1, ">= 0")

    def value(self, p: Array) -> Array:
        """Return l1 sum |p_i|."""
        xp = array_namespace(p)
        return xp.sum(xp.abs(p)) * self.l1

    def gradient(self, p: Array) -> Array:
        """Return l1 sign(p)."""
        xp = array_namespace(p)
        return self.l1 * keep_nan(sign(p, xp), p, xp)


class ElasticNetRegularizer(Regularizer):
    """Penalty l1 sum |p_i| + l2/2 |p|^2 with gradient l1 sign(p) + l2 p.

    Args:
        l1: the factor of the absolute values, >= 0.
        l2: the factor of the squares, >= 0.

    Source: Zou and Hastie, Journal of the Royal Statistical Society B 67 (2005).
    """

    def __init__(self, l1: float = 0.01, l2: float = 0.01) -> None:
        self.l1 = number(self, "l1", l1, ">= 0")
        self.l2 = number(self, "l2", l2, ">= 0")

    def value(self, p: Array) -> Array:
        """Return l1 sum |p_i| + l2/2 |p|^2."""
        xp = array_namespace(p)
        size = xp.abs(p)
        return xp.sum(size * (self.l1 + (0.5 * self.l2) * size))

    def gradient(self, p: Array) -> Array:
        """Return l1 sign(p) + l2 p."""
        return self.l1 * sign(p, array_namespace(p)) + self.l2 * p  # l2 p keeps NaN


class OrthogonalityRegularizer(Regularizer):
    """Penalty l/4 |W W^T - 1|^2 with gradient l (W W^T - 1) W: it makes the rows orthonormal.

    If W has more rows than columns, it acts on the columns: l/4 |W^T W - 1|^2 with gradient
    l W (W^T W - 1). |.| is the Frobenius norm. Filters (out_channels, in_channels, *kernel) are
    the matrix (out_channels, in_channels x area). The fourth power of an entry must be a number of
    the dtype: beyond 4e9 in float32 the value is infinite or NaN.

    Args:
        l: the factor lambda, >= 0.

    Source: Brock, Lim, Ritchie and Weston, ICLR 2017 (with the Frobenius norm of Bansal, Chen and
    Wang, NeurIPS 2018).
    """

    def __init__(self, l: float = 0.01) -> None:  # noqa: E741
        self.l = number(self, "l", l, ">= 0")

    def value(self, p: Array) -> Array:
        """Return l/4 |W W^T - 1|^2."""
        _, defect = self._defect(p)
        return array_namespace(p).sum(defect * defect) * (0.25 * self.l)

    def gradient(self, p: Array) -> Array:
        """Return l (W W^T - 1) W."""
        W, defect = self._defect(p)
        product = W @ defect if W.shape[0] > W.shape[1] else defect @ W
        return array_namespace(p).reshape(self.l * product, p.shape)

    def _defect(self, p: Array) -> tuple[Array, Array]:
        """Return the matrix W, and W W^T - 1 or W^T W - 1, whichever is smaller."""
        if p.ndim < 2:
            raise ShapeError(
                "OrthogonalityRegularizer: expected a matrix or filters, got an array of shape "
                f"{tuple(p.shape)}; use L2Regularizer for vectors"
            )
        xp = array_namespace(p)
        W = p if p.ndim == 2 else xp.reshape(p, (p.shape[0], -1))
        gram = W.T @ W if W.shape[0] > W.shape[1] else W @ W.T
        device = getattr(p, "device", None)  # a traced JAX array has none
        return W, gram - xp.eye(gram.shape[0], dtype=p.dtype, device=device)


def _refuse(
    regularizer: Regularizer, method: str, result: object, shape: tuple[int, ...], remedy: str
) -> None:
    owner = f"{type(regularizer).__name__}.{method}"
    expected = f"{owner}: expected it to return an array of shape {tuple(shape)}"
    if hasattr(result, "shape"):
        raise ShapeError(f"{expected}, got shape {tuple(result.shape)}; return {remedy}")
    raise TypeError(f"{expected}, got {result!r:.60}; return {remedy}")
