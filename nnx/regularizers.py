"""Penalties on weights: `update(p, dp)` adds their gradient, `value(p)` is the penalty."""

from __future__ import annotations

from nnx.backend import Array, array_namespace

__all__ = ["L2Regularizer", "Regularizer"]


class Regularizer:
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
        if not l2 >= 0:
            raise ValueError(f"L2Regularizer: l2 must be >= 0, got {l2!r}")
        self.l2 = float(l2)

    def value(self, p: Array) -> Array:
        """l2/2 |p|^2."""
        return array_namespace(p).sum(p * p) * (0.5 * self.l2)

    def gradient(self, p: Array) -> Array:
        """l2 p."""
        return self.l2 * p

    def __repr__(self) -> str:
        return f"L2Regularizer({self.l2})"
