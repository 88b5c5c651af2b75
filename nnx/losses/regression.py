"""Losses of real numbers."""

from __future__ import annotations

from nnx.backend import Array, array_namespace
from nnx.checks import number
from nnx.losses.base import ENTRIES, SAMPLES, Loss

__all__ = ["Huber", "MeanAbsoluteError", "MeanSquaredError", "QuadraticCost"]


class QuadraticCost(Loss):
    """1/2 |a - y|^2, averaged over the samples; its gradient is (a - y) / samples.

    |.|^2 is the sum of the squares of all entries of a sample.
    """

    over = SAMPLES

    def losses(self, a: Array, t: Array) -> Array:
        """Return 1/2 |a - y|^2."""
        difference = a - t
        axes = tuple(range(1, a.ndim))
        return array_namespace(a).sum(0.5 * difference * difference, axis=axes)

    def slopes(self, a: Array, t: Array) -> Array:
        """Return a - y."""
        return a - t


class MeanSquaredError(Loss):
    """(a - y)^2, averaged over all entries; its gradient is 2 (a - y) / entries.

    For n outputs it is 2/n times `QuadraticCost`.
    """

    over = ENTRIES

    def losses(self, a: Array, t: Array) -> Array:
        """Return (a - y)^2."""
        difference = a - t
        return difference * difference

    def slopes(self, a: Array, t: Array) -> Array:
        """Return 2 (a - y)."""
        return 2.0 * (a - t)


class MeanAbsoluteError(Loss):
    """|a - y|, averaged over all entries; its gradient is sign(a - y) / entries, 0 at 0.

    Libraries that flush subnormal numbers take a subnormal difference as 0.
    """

    over = ENTRIES

    def losses(self, a: Array, t: Array) -> Array:
        """Return |a - y|."""
        return array_namespace(a).abs(a - t)

    def slopes(self, a: Array, t: Array) -> Array:
        """Return sign(a - y); NaN, which no comparison sees, stays NaN."""
        xp = array_namespace(a)
        return xp.where(a > t, 1.0, xp.where(a < t, -1.0, a - t))


class Huber(Loss):
    """d^2/2 up to |d| = delta, delta (|d| - delta/2) beyond, for d = a - y; over all entries.

    Its gradient is d, limited to [-delta, delta], / entries.

    Args:
        delta: the size of d at which the parabola becomes a line, > 0.

    Source: Huber, Annals of Mathematical Statistics 35 (1964).
    """

    over = ENTRIES

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = number(self, "delta", delta, "> 0")

    def losses(self, a: Array, t: Array) -> Array:
        """Return m (|d| - m/2) with m = min(|d|, delta): a large d is not squared."""
        xp = array_namespace(a)
        size = xp.abs(a - t)
        m = xp.minimum(size, self.delta)
        return m * (size - 0.5 * m)

    def slopes(self, a: Array, t: Array) -> Array:
        """Return min(max(a - y, -delta), delta)."""
        xp = array_namespace(a)
        return xp.minimum(xp.maximum(a - t, -self.delta), self.delta)
