"""Sources: where the batches of an epoch come from, as stretches of samples on the device.

A source yields an epoch as stretches: arrays of the backend, and the order of their samples.
`Arrays` are checked parts. Those in the memory of the device are a stretch each, or several if
samples have several shapes; those on the host are read in blocks of batches, the next block while
the present one trains. `Batches` is an iterable of batches of the user.

The order of an epoch is drawn as a whole, before its first batch; the rows of a batch are a slice
of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnx.backend import Array, Backend
from nnx.data.ahead import ahead
from nnx.data.arrays import batches
from nnx.data.rows import Rows

__all__ = [
    "BLOCK",
    "Arrays",
    "Parts",
    "Piece",
    "Source",
    "Stretch",
    "block_of",
    "first_samples",
    "moved",
]

Parts = list[tuple[Array, ...]]  # x, y and, if there are any, weights

# How many bytes of inputs are read and moved at a time, and how many such blocks are shuffled
# together by shuffle="blocks".
BLOCK = 1 << 23
WINDOW = 8


class Piece(NamedTuple):
    """Samples of a part in the order of an epoch.

    Attributes:
        part: the index of the part.
        first: how many samples of the epoch are before them.
        order: their indices, in order; None for all as they are.
        windows: where in the order the windows end within which it is random, if it is not on all.
    """

    part: int
    first: int
    order: np.ndarray | None
    windows: np.ndarray | None = None


class Stretch(NamedTuple):
    """Samples of an epoch that are on the device.

    Attributes:
        data: inputs, targets and, if there are any, weights.
        first: how many samples of the epoch are before them.
        order: the indices of the samples in the arrays, in order; None for all as they are.
        batch_size: samples per step.
        part: the index of the part whose arrays they are; None if they will not come again.
        whole: how many samples the stretch has, if the arrays have those of this process alone.
    """

    data: tuple[Array, ...]
    first: int
    order: np.ndarray | None
    batch_size: int
    part: int | None
    whole: int | None = None

    @property
    def samples(self) -> int:
        """How many there are, of all processes that train together."""
        if self.whole is not None:
            return self.whole
        return self.data[0].shape[0] if self.order is None else len(self.order)


class Source:
    """Where batches come from.

    Attributes:
        samples: of an epoch; None if that is not known before its end.
        parts: what is known of the data before an epoch: all of it, or its first samples.
        ordered: is the order of an epoch drawn by nnx?
        block: how many samples shuffle="blocks" takes as one block.
    """

    samples: int | None
    parts: Parts
    ordered = True
    block = 1

    def draw(self, rng: np.random.Generator, shuffle: bool | str, batch_size: int) -> list[Piece]:
        """Draw the order of an epoch."""
        raise NotImplementedError

    def stretches(self, order: Sequence[Piece], done: int, batch_size: int) -> Iterator[Stretch]:
        """Yield an epoch in this order, without stretches whose samples are all done.

        A stretch that is done in part is yielded as a whole. Close the generator when an epoch ends
        early: it may have a thread.
        """
        raise NotImplementedError


class Arrays(Source):
    """Checked parts, each with samples of one shape.

    Args:
        backend: the network's.
        parts: (x, y) or (x, y, weights): arrays of the backend, or `Rows` and NumPy arrays, which
            are read in blocks.
        block: how many samples shuffle="blocks" takes as one block.

    Attributes:
        own: returns which of so many samples, in batches of a size, this process computes; then it
            reads them alone.
    """

    own: Callable[[int, int], np.ndarray] | None = None

    def __init__(self, backend: Backend, parts: Parts, block: int = 1) -> None:
        self.backend, self.parts, self.block = backend, parts, block
        self.samples: int = 0
        for x, *_ in parts:
            self.samples += x.shape[0]

    def draw(self, rng: np.random.Generator, shuffle: bool | str, batch_size: int) -> list[Piece]:
        """Draw the order of an epoch: parts of the data, each with its samples in order.

        Samples of one shape are one part, and one permutation. Of several shapes, the batches
        are shuffled.
        """
        drawn: list[Piece] = []
        several = len(self.parts) > 1
        for index, (x, *_) in enumerate(self.parts):
            samples = x.shape[0]
            order: np.ndarray | None = None
            windows = None
            if shuffle == "blocks":
                order, windows = _order_of_blocks(rng, samples, self.block)
            elif shuffle:
                order = rng.permutation(samples)
            if order is None or not several:
                drawn.append(Piece(index, 0, order, windows))
            else:
                drawn += [Piece(index, 0, order[batch]) for batch in batches(samples, batch_size)]
        if shuffle and several:
            drawn = [drawn[i] for i in rng.permutation(len(drawn))]
        first, placed = 0, []
        for piece in drawn:
            placed.append(piece._replace(first=first))
            first += self._samples_of(piece)
        return placed

    def stretches(self, order: Sequence[Piece], done: int, batch_size: int) -> Iterator[Stretch]:
        """Yield the pieces: those in the memory of the device as they are, others in blocks."""
        for piece in order or self.draw(None, False, batch_size):  # type: ignore[arg-type]
            if piece.first + self._samples_of(piece) <= done:
                continue
            part = self.parts[piece.part]
            if isinstance(part[0], Rows):
                yield from moved(self.backend, self._blocks(piece, done, batch_size))
            else:
                yield Stretch(part, piece.first, piece.order, batch_size, piece.part)

    def _samples_of(self, piece: Piece) -> int:
        return len(piece.order) if piece.order is not None else self.parts[piece.part][0].shape[0]

    def _blocks(self, piece: Piece, done: int, batch_size: int) -> Iterator[Stretch]:
        """Read a piece in blocks of whole batches, the last of which may be smaller."""
        part, samples = self.parts[piece.part], self._samples_of(piece)
        several = batch_size * _batches_of_a_block(part[0], samples, batch_size)
        readers = [_reader(array, piece) for array in part]
        for block in batches(samples, several):
            if piece.first + block.stop > done:
                whole = own = None
                if self.own is not None:
                    whole = block.stop - block.start
                    own = self.own(whole, batch_size)
                arrays = tuple(read(block, own) for read in readers)
                yield Stretch(arrays, piece.first + block.start, None, batch_size, None, whole)


def moved(backend: Backend, blocks: Iterator[Stretch]) -> Iterator[Stretch]:
    """Yield blocks of the host as stretches on the device, the next on its way meanwhile."""
    uploader = backend.uploader()

    def uploaded() -> Iterator[tuple[Stretch, Any]]:
        for block in blocks:
            yield block, uploader.upload(block.data)

    made = ahead(uploaded())
    try:
        for block, ticket in made:
            yield block._replace(data=uploader.arrived(ticket))
            uploader.used(ticket)
            del block, ticket
    finally:
        made.close()  # type: ignore[attr-defined]
        uploader.close()


def first_samples(backend: Backend, part: tuple[Array, ...], samples: int) -> list[Array]:
    """Return the first samples of a part, fewer if it has fewer, as arrays of the backend."""
    index, found = np.arange(min(samples, part[0].shape[0])), []
    for array in part:
        some = array.read(index) if isinstance(array, Rows) else array[: len(index), ...]
        found.append(backend.from_numpy(np.array(some)) if isinstance(some, np.ndarray) else some)
    return found


def block_of(x: Any) -> int:
    """Return how many samples are a block of shuffle="blocks": those of a chunk, or BLOCK bytes.

    It depends on the data alone, so that the order does too.
    """
    chunks = getattr(x, "chunks", None)
    if isinstance(chunks, tuple) and chunks and isinstance(chunks[0], int):
        return max(1, chunks[0])
    size = math.prod(x.shape[1:]) * getattr(x.dtype, "itemsize", 4)
    return max(1, BLOCK // max(1, size))


def _order_of_blocks(
    rng: np.random.Generator, samples: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return blocks in random order, shuffled within windows, and where the windows end."""
    starts = block * rng.permutation(-(-samples // block))
    windows = []
    for some in batches(len(starts), WINDOW):
        rows = [np.arange(s, min(s + block, samples)) for s in starts[some].tolist()]
        windows.append(rng.permutation(np.concatenate(rows)))
    return np.concatenate(windows), np.cumsum([len(window) for window in windows])


def _batches_of_a_block(x: Rows, samples: int, batch_size: int) -> int:
    """Return how many batches are a block: if possible, all blocks have as many whole batches.

    Then a library that compiles does so once for all of them.
    """
    most = max(1, BLOCK // max(1, batch_size * x.dtype.itemsize * math.prod(x.shape[1:])))
    whole = samples // batch_size
    if most >= whole:
        return max(1, whole) + 1
    return next((n for n in range(most, most // 2, -1) if whole % n == 0), most)


def _reader(array: Any, piece: Piece) -> Callable[[slice, np.ndarray | None], np.ndarray]:
    """Return what reads a slice of a piece's order, or some places of it."""
    order, windows = piece.order, piece.windows

    def places(block: slice, own: np.ndarray | None) -> np.ndarray:
        found = np.arange(block.start, block.stop) if order is None else order[block]
        return found if own is None else found[own]

    if not isinstance(array, Rows):
        if order is None:
            return lambda block, own: array[block] if own is None else array[block][own]
        return lambda block, own: array[places(block, own)]
    if order is None or windows is None:
        return lambda block, own: array.read(places(block, own))
    ends = windows
    held: dict[int, np.ndarray] = {}  # the window that is in memory

    def read(block: slice, own: np.ndarray | None) -> np.ndarray:
        start, found = block.start, []
        while start < block.stop:
            number = int(np.searchsorted(ends, start, "right"))
            first, end = int(ends[number - 1]) if number else 0, int(ends[number])
            if number not in held:
                held.clear()
                held[number] = array.read(order[first:end])
            stop = min(end, block.stop)
            found.append(held[number][start - first : stop - first])
            start = stop
        whole = found[0] if len(found) == 1 else np.concatenate(found)
        return whole if own is None else whole[own]

    return read
