"""Penalties on weights: `update(p, dp)` adds their gradient, `value(p)` is the penalty."""

from __future__ import annotations

import math

from nnx.backend import Array, array_namespace
from nnx.config import Value

__all__ = [
    "ElasticNetRegularizer",
    "L1Regularizer",
    "L2Regularizer",
    "OrthogonalityRegularizer",
    "Regularizer",
]


class Regularizer(Value):
    """Base class; subclasses define `value(p)` and `gradient(p)`."""

    def value(self, p: Array) -> Array:
        """The penalty, a 0-d array."""
        raise NotImplementedError(f"{type(self).__name__} must define value(p)")

    def gradient(self, p: Array) -> Array:
        """The gradient of the penalty, of the shape of p."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(p)")

    def update(self, p: Array, dp: Array) -> Array:
        """dp plus the gradient of the penalty; dp itself is left as it is."""
        return dp + self.gradient(p)

class L2Regularizer(Regularizer):
    """Penalty l2/2 |p|^2 with gradient l2 p; under plain SGD this is weight decay.

    Args:
        l2: the factor lambda, >= 0.
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = _not_negative("L2Regularizer", "l2", l2)

    def value(self, p: Array) -> Array:
        """l2/2 |p|^2."""
        return array_namespace(p).sum(p * p) * (0.5 * self.l2)

    def gradient(self, p: Array) -> Array:
        """l2 p."""
        return self.l2 * p


class L1Regularizer(Regularizer):
    """Penalty l1 sum |p_i| with gradient l1 sign(p), 0 at 0; it makes weights sparse.

    Args:
        l1: the factor, >= 0.

    Source: Tibshirani, Journal of the Royal Statistical Society B 58 (1996).
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = _not_negative("L1Regularizer", "l1", l1)

    def value(self, p: Array) -> Array:
        """l1 sum |p_i|."""
        xp = array_namespace(p)
        return xp.sum(xp.abs(p)) * self.l1

    def gradient(self, p: Array) -> Array:
        """l1 sign(p)."""
        return self.l1 * _sign(p)


class ElasticNetRegularizer(Regularizer):
    """Penalty l1 sum |p_i| + l2/2 |p|^2 with gradient l1 sign(p) + l2 p.

    Args:
        l1: the factor of the absolute values, >= 0.
        l2: the factor of the squares, >= 0.

    Source: Zou and Hastie, Journal of the Royal Statistical Society B 67 (2005).
    """

    def __init__(self, l1: float = 0.01, l2: float = 0.01) -> None:
        self.l1 = _not_negative("ElasticNetRegularizer", "l1", l1)
        self.l2 = _not_negative("ElasticNetRegularizer", "l2", l2)

    def value(self, p: Array) -> Array:
        """l1 sum |p_i| + l2/2 |p|^2."""
        xp = array_namespace(p)
        size = xp.abs(p)
        return xp.sum(size * (self.l1 + (0.5 * self.l2) * size))

    def gradient(self, p: Array) -> Array:
        """l1 sign(p) + l2 p."""
        return self.l1 * _sign(p) + self.l2 * p


class OrthogonalityRegularizer(Regularizer):
    """Penalty l/4 |W W^T - 1|^2 with gradient l (W W^T - 1) W: it pulls rows to orthonormal ones.

    Where W has more rows than columns it acts on the columns: l/4 |W^T W - 1|^2 with gradient
    l W (W^T W - 1). |.| is the Frobenius norm. Filters (out_channels, in_channels, *kernel) are
    the matrix (out_channels, in_channels x area).

    Args:
        l: the factor lambda, >= 0.

    Source: Brock, Lim, Ritchie and Weston, ICLR 2017 (with the Frobenius norm of Bansal, Chen and
    Wang, NeurIPS 2018).
    """

    def __init__(self, l: float = 0.01) -> None:  # noqa: E741
        self.l = _not_negative("OrthogonalityRegularizer", "l", l)

    def value(self, p: Array) -> Array:
        """l/4 |W W^T - 1|^2."""
        _, defect = self._defect(p)
        return array_namespace(p).sum(defect * defect) * (0.25 * self.l)

    def gradient(self, p: Array) -> Array:
        """l (W W^T - 1) W."""
        W, defect = self._defect(p)
        product = W @ defect if W.shape[0] > W.shape[1] else defect @ W
        return array_namespace(p).reshape(self.l * product, p.shape)

    def _defect(self, p: Array) -> tuple[Array, Array]:
        """The matrix W, and W W^T - 1 or W^T W - 1, whichever is smaller."""
        if p.ndim < 2:
            raise ValueError(
                "OrthogonalityRegularizer expects a matrix or filters, got an array of shape "
                f"{tuple(p.shape)}"
            )
        xp = array_namespace(p)
        W = p if p.ndim == 2 else xp.reshape(p, (p.shape[0], -1))
        gram = W.T @ W if W.shape[0] > W.shape[1] else W @ W.T
        device = getattr(p, "device", None)  # a traced JAX array has none
        return W, gram - xp.eye(gram.shape[0], dtype=p.dtype, device=device)


def _sign(p: Array) -> Array:
    """1, 0 or -1; `xp.sign` would read back from a GPU."""
    xp = array_namespace(p)
    return xp.astype(p > 0, p.dtype) - xp.astype(p < 0, p.dtype)


def _not_negative(owner: str, name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{owner}: expected {name} >= 0, got {value!r}")
    return float(value)
