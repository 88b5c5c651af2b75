"""Where the samples are inside of a loop over time: last, or first if the library prefers it."""

from __future__ import annotations

from nnx.backend import Array, array_namespace

__all__ = ["Layout"]


class Layout:
    """The order of the axes of arrays inside of a loop over time.

    With the samples last, an array of a step is (n, samples): the numbers of a gate are contiguous,
    and the weights are on the left in products. With the samples first it is (samples, n). Arrays
    of many steps have the time before these axes.

    Args:
        first: are the samples first?

    Attributes:
        axis: the axis of the n numbers, -1 or -2.
    """

    def __init__(self, first: bool) -> None:
        self.first = first
        self.axis = -1 if first else -2

    def inside(self, x: Array) -> Array:
        """(samples, time, n) in the order of the loop."""
        return array_namespace(x).permute_dims(x, (1, 0, 2) if self.first else (1, 2, 0))

    def outside(self, x: Array) -> Array:
        """Steps of the loop as (samples, time, n)."""
        return array_namespace(x).permute_dims(x, (1, 0, 2) if self.first else (2, 0, 1))

    def turned(self, x: Array) -> Array:
        """(samples, n) in the order of the loop, and back."""
        return x if self.first else x.T

    def shape(self, n: int, samples: int) -> tuple[int, int]:
        """Of an array with n numbers for each sample."""
        return (samples, n) if self.first else (n, samples)

    def product(self, W: Array, x: Array) -> Array:
        """W x for each sample, of a step or of many."""
        return x @ W.T if self.first else W @ x

    def outer(self, d: Array, x: Array) -> Array:
        """Sum of d x^T over steps and samples."""
        xp = array_namespace(d)
        if self.first:
            d, x = (xp.reshape(a, (-1, a.shape[-1])) for a in (d, x))
            return (x.T @ d).T
        d, x = (xp.reshape(xp.permute_dims(a, (1, 0, 2)), (a.shape[1], -1)) for a in (d, x))
        return d @ x.T

    def part(self, x: Array, start: int, stop: int | None = None) -> Array:
        """Numbers from start to stop of each sample."""
        return x[..., start:stop] if self.first else x[..., start:stop, :]

    def split(self, x: Array, parts: int) -> tuple[Array, ...]:
        """The n numbers of each sample in parts of equal size."""
        xp, axis = array_namespace(x), x.ndim + self.axis
        shape = (*x.shape[:axis], parts, -1, *x.shape[axis + 1 :])
        found: tuple[Array, ...] = xp.unstack(xp.reshape(x, shape), axis=axis)
        return found

    def concat(self, parts: list[Array]) -> Array:
        """Parts of the numbers of each sample as one array."""
        return array_namespace(parts[0]).concat(parts, axis=self.axis)
