"""The samples of a batch that belong to this process.

A batch of n samples is that of all processes together. Rank r of s takes its rows from n r // s to
n (r + 1) // s. If a batch has fewer samples than there are processes, some have none; they compute
on a sample that counts nothing, so that all take part in every sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnx.backend import Array, Backend
from nnx.communication.contract import Communicator

__all__ = ["Rows", "Share", "current_share", "own_samples", "sharing"]


def own_samples(samples: int, rank: int, size: int) -> tuple[int, int]:
    """Return the first row of a batch that belongs to a process, and the first that does not."""
    return samples * rank // size, samples * (rank + 1) // size


@dataclass(slots=True)
class Share:
    """The rows of the current batch that belong to this process.

    Attributes:
        communicator: of the training.
        backend: of the network.
        start, stop: the rows.
        samples: how many the batch has.
    """

    communicator: Communicator
    backend: Backend
    start: int = 0
    stop: int = 0
    samples: int = 1

    def of_batch(self, samples: int) -> None:
        """Go on to a batch of so many samples."""
        communicator = self.communicator
        self.start, self.stop = own_samples(samples, communicator.rank, communicator.size)
        self.samples = samples

    @property
    def weight(self) -> float:
        """What a mean over the rows counts in the mean over the batch."""
        return (self.stop - self.start) / self.samples

    @property
    def present(self) -> int:
        """How many samples this process computes on; one that counts nothing if it has none."""
        return max(1, self.stop - self.start)

    def sum(self, array: Array) -> Array:
        """Return the sum of an array over all processes; the host waits for it."""
        backend, communicator = self.backend, self.communicator
        xp, shape = backend.xp, array.shape
        flat: Any = xp.reshape(array, (-1,))
        if communicator.takes(backend):
            total = xp.empty_like(flat)
            communicator.start_sum(flat, total)()
            return xp.reshape(total, shape)
        host = np.ascontiguousarray(backend.to_numpy(flat))
        total = np.empty_like(host)
        communicator.start_sum(host, total)()
        return xp.reshape(backend.from_numpy(total), shape)

    def means(self, axes: tuple[int, ...], count: int) -> Callable[..., list[Array]]:
        """Return a function of arrays: their means over the axes and over all processes.

        Args:
            axes: that of the samples, and others; they are kept with length 1.
            count: how many values the arrays of all processes have for each mean.
        """
        used = float(self.start < self.stop)

        def means(*arrays: Array) -> list[Array]:
            xp = self.backend.xp
            sums = [xp.sum(array, axis=axes, keepdims=True) for array in arrays]
            total = self.sum(used * xp.concat(sums, axis=0))
            return [total[i : i + 1, ...] / count for i in range(len(arrays))]

        return means


_share: ContextVar[Share | None] = ContextVar("share", default=None)


def current_share() -> Share | None:
    """Return the share of the training step that is running, None if there is one process."""
    return _share.get()


@contextmanager
def sharing(share: Share) -> Iterator[Share]:
    """A block in which `current_share()` is this one."""
    token = _share.set(share)
    try:
        yield share
    finally:
        _share.reset(token)


class Rows:
    """A generator that draws for the whole batch, and returns the rows of this process.

    So all processes draw the same numbers, and their streams stay together. Only draws whose first
    axis is that of the samples can be divided; a draw without a size is the same for all.

    Args:
        rng: the generator; its bits are those of PCG64.
        share: the rows.
    """

    def __init__(self, rng: np.random.Generator, share: Share) -> None:
        self.rng, self.share = rng, share

    def random(self, size: Any = None, dtype: Any = np.float64) -> Any:
        """Return uniform numbers in [0, 1); those of the other rows are skipped, not drawn."""
        if size is None:
            return self.rng.random(dtype=dtype)
        share, (rows, *rest) = self.share, _axes(size)
        row = int(np.prod(rest, dtype=np.int64)) * self._per_sample(rows)
        bits = np.dtype(dtype).itemsize * 8
        _skip(self.rng, share.start * row, bits)
        if share.start == share.stop:
            drawn = np.zeros(size, dtype)
        else:
            drawn = self.rng.random(size, dtype=dtype)
        _skip(self.rng, (share.samples - share.stop) * row, bits)
        return drawn

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> Any:
        """Return normal numbers."""
        return self._of_all(lambda whole: self.rng.standard_normal(whole, dtype=dtype), size)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        """Return normal numbers of a mean and a deviation."""
        return self._of_all(lambda whole: self.rng.normal(loc, scale, whole), size)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
        """Return uniform numbers in [low, high)."""
        return self._of_all(lambda whole: self.rng.uniform(low, high, whole), size)

    def integers(self, low: int, high: Any = None, size: Any = None, **options: Any) -> Any:
        """Return integers from low to below high."""
        return self._of_all(lambda whole: self.rng.integers(low, high, whole, **options), size)

    def beta(self, a: float, b: float, size: Any = None) -> Any:
        """Return numbers of a beta distribution."""
        return self._of_all(lambda whole: self.rng.beta(a, b, whole), size)

    def _of_all(self, draw: Any, size: Any) -> Any:
        if size is None:
            return draw(None)
        share, (rows, *rest) = self.share, _axes(size)
        several = self._per_sample(rows)
        drawn = draw((share.samples * several, *rest))
        if share.start == share.stop:
            return drawn[: share.present * several]
        return drawn[share.start * several : share.stop * several]

    def _per_sample(self, rows: int) -> int:
        """Return how many rows of a draw belong to a sample."""
        present = self.share.present
        if rows % present:
            raise ValueError(
                f"noise: expected a draw whose first axis is that of the {present} samples, got "
                f"{rows} rows; with several processes, each gets the rows of its own samples"
            )
        return rows // present


def _axes(size: Any) -> tuple[int, ...]:
    return tuple(size) if isinstance(size, tuple | list) else (int(size),)


def _skip(rng: np.random.Generator, numbers: int, bits: int) -> None:
    """Leave so many uniform numbers out, without drawing them.

    PCG64 makes 64 bits at a time. Of a float32 it takes half of them, and keeps the other half.
    """
    pcg: Any = rng.bit_generator
    if not numbers:
        return
    if bits == 64:
        words = numbers
    else:
        if pcg.state["has_uint32"]:
            rng.random(dtype=np.float32)
            numbers -= 1
        words, odd = divmod(numbers, 2)
    state = pcg.state
    pcg.advance(words)  # forgets the half that is kept
    if bits == 64:
        pcg.state = {**pcg.state, **{n: state[n] for n in ("has_uint32", "uinteger")}}
    elif odd:
        rng.random(dtype=np.float32)
