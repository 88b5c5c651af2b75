"""Batches of the user: a function or an object that gives an iterator of them for each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, cycle
from typing import Any

import array_api_compat
import numpy as np

from nnx.backend import Array
from nnx.checks import ShapeError
from nnx.data.arrays import as_targets, as_weights, fits
from nnx.data.containers import kind_of
from nnx.data.host import HostSide
from nnx.data.sources import BLOCK, Piece, Source, Stretch, moved
from nnx.data.streaming import checked_inputs, on_this_host

__all__ = ["Batches", "gives_batches"]

FORMS = "(x, y) or (x, y, weights)"
ENDLESS = -1  # tf.data.INFINITE_CARDINALITY


def gives_batches(data: Any) -> bool:
    """Return whether this is a function, or an object other than arrays, that gives batches."""
    if isinstance(data, str | bytes | Mapping | set | frozenset):
        return False
    if type(data).__module__.partition(".")[0] == "datasets":  # of Hugging Face: has a shape
        return True
    if hasattr(data, "dtype") or hasattr(data, "dtypes") or hasattr(data, "shape"):
        return False
    if isinstance(data, list | tuple):
        return bool(data) and all(isinstance(item, list | tuple | Mapping) for item in data)
    return callable(data) or isinstance(data, Iterable)


class Batches(Source):
    """An iterable of batches, checked as they come.

    Args:
        net: a network.
        data: a function without arguments that returns an iterable, or an object that can be
            iterated once for each epoch. Its end is that of the epoch.
        name: what errors call it.
        epochs: how often it is iterated.
        inputs: does a batch need inputs alone? Other items of it are left aside.

    Raises:
        TypeError: what it gives are not batches.
        ValueError: it gives none, can be iterated only once, or has no end.
        ShapeError: the first batch does not fit.
    """

    ordered = False

    def __init__(
        self, net: Any, data: Any, name: str = "x", epochs: int = 1, inputs: bool = False
    ) -> None:
        self.net, self.backend, self.data, self.name = net, net.backend, data, name
        self.inputs = inputs
        self.side: Any = HostSide(net.backend)
        self.samples = None
        if isinstance(data, Iterator) and epochs > 1:
            raise ValueError(
                f"train: expected {name} to give its batches {epochs} times, once for each epoch, "
                f"got {kind_of(data)}, which ends after the first; pass the function that makes "
                "it, or write epochs=1"
            )
        self.opened = False
        iterator = self._open()
        try:
            first = next(iterator)
        except StopIteration:
            raise self._none() from None
        self.waiting: Iterator[Any] | None = chain([first], iterator)
        self.example: tuple[np.ndarray, ...] | None = None
        self.sizes: set[tuple[int, ...]] = set()
        self.example = self._checked(first, 0, 0)
        self.parts = [tuple(map(net.backend.from_numpy, self.example))]

    def draw(self, rng: np.random.Generator, shuffle: bool | str, batch_size: int) -> list[Piece]:
        """Return nothing: the order is that of the batches."""
        return []

    def stretches(self, order: Sequence[Piece], done: int, batch_size: int) -> Iterator[Stretch]:
        """Yield batches of one size that follow each other as one stretch."""
        yield from moved(self.backend, self._blocks(done))

    def _open(self) -> Iterator[Any]:
        data = self.data() if callable(self.data) and not _iterable(self.data) else self.data
        if not isinstance(data, Iterable):
            raise TypeError(
                f"expected {self.name} to be a function that returns an iterable of batches, got "
                f"one that returns {kind_of(data)}; write yield x, y in it"
            )
        if _endless(data):
            remedy = f"lambda: itertools.islice({self.name}, 100)"
            remedy = f"{self.name}.take(100)" if hasattr(self.data, "take") else remedy
            raise ValueError(
                f"expected {self.name} to end, which is the end of an epoch, got "
                f"{kind_of(data)} without an end; for epochs of 100 batches: write {remedy}"
            )
        return iter(data)

    def _none(self) -> ValueError:
        remedy = "see that it has samples"
        if self.opened:
            remedy = "pass a function or an object that can be iterated once for each epoch"
        return ValueError(
            f"expected a batch {FORMS} from {self.name}, got none"
            f"{' in a later epoch' if self.opened else ''}; {remedy}"
        )

    def _blocks(self, done: int) -> Iterator[Stretch]:
        """Join batches of one size, the last of which may be smaller, to stretches."""
        held: list[tuple[np.ndarray, ...]] = []
        first, size, number = 0, 0, -1
        iterator, self.waiting = self.waiting or self._open(), None
        for number, batch in enumerate(iterator):
            arrays = self._checked(batch, number, first + size)
            if held and not _fit(held[0], arrays):
                if first + size > done:
                    yield self._joined(held, first)
                held, first, size = [], first + size, 0
            held.append(arrays)
            size += len(arrays[0])
            full = size // len(arrays[0]) * arrays[0].nbytes >= BLOCK
            if full or len(arrays[0]) < len(held[0][0]):
                if first + size > done:
                    yield self._joined(held, first)
                held, first, size = [], first + size, 0
        if held and first + size > done:
            yield self._joined(held, first)
        if number < 0:
            raise self._none()
        self.opened = True
        self._check_length(number + 1)

    def _joined(self, held: list[tuple[np.ndarray, ...]], first: int) -> Stretch:
        arrays = held[0] if len(held) == 1 else tuple(map(np.concatenate, zip(*held, strict=True)))
        return Stretch(arrays, first, None, len(held[0][0]), None)

    def _check_length(self, batches: int) -> None:
        """Refuse an end that comes before the length that the source has told."""
        try:
            told = len(self.data)
        except TypeError:  # it has none, or does not know it
            return
        if batches < told:
            raise ValueError(
                f"expected {told} batches from {self.name}, as len({self.name}) says, got "
                f"{batches}; pass a source that does not end early"
            )

    def _checked(self, batch: Any, number: int, first: int) -> tuple[np.ndarray, ...]:
        """Return a batch as NumPy arrays in the dtypes in which they go to the device."""
        items = self._items(batch, number)
        try:
            return self._checked_items([self._on_host(item) for item in items], first)
        except (ShapeError, ValueError, TypeError) as error:
            taken = ""
            if isinstance(batch, Mapping):
                pairs = zip("xy", batch, strict=False)
                taken = f" ({', '.join(f'{item} is {key!r}' for item, key in pairs)})"
            raise type(error)(f"batch {number} of {self.name}{taken}: {error}") from error

    def _items(self, batch: Any, number: int) -> list[Any]:
        """Return what a batch consists of: the items of a mapping are in its order."""
        keys = list(batch) if isinstance(batch, Mapping) else []
        items = list(batch.values()) if keys else batch
        several = isinstance(items, tuple | list)
        if self.inputs:
            return list(items[:1]) if several else [items]
        weighted = len(keys) != 3 or "weight" in str(keys[2]).lower()
        if several and len(items) in (2, 3) and weighted:
            return list(items)
        got, remedy = kind_of(batch), "write yield x, y"
        if several:
            got = f"{len(items)} item{'s' * (len(items) != 1)}"
        if keys:
            got += f", {', '.join(map(repr, keys))}"
            remedy = "write yield batch[...], batch[...] with the names of the inputs and targets"
        raise TypeError(
            f"expected batch {number} of {self.name} to be {FORMS}, got {got}; {remedy}"
        )

    def _on_host(self, item: Any) -> Any:
        item = on_this_host(self.backend, item)
        foreign = not isinstance(item, np.ndarray) and array_api_compat.is_array_api_obj(item)
        return np.asarray(item) if foreign else item

    def _checked_items(self, items: list[Any], first: int) -> tuple[np.ndarray, ...]:
        net, side = self.net, self.side
        if isinstance(items[0], Mapping):
            raise TypeError(
                f"expected x as one array, got {kind_of(items[0])} of {len(items[0])}; write yield "
                f"x[{next(iter(items[0]), None)!r}], y"
            )
        x = np.asarray(items[0])
        if fits(x.shape, net.input_shape) and not fits(x.shape[1:], net.input_shape):
            shape = ", ".join(map(str, ("samples", *net.input_shape)))
            raise ShapeError(
                f"expected x of shape ({shape}), got one sample, {x.shape}; {self._batched()}"
            )
        places = np.arange(first, first + len(x)) if x.ndim else np.arange(0)
        x = checked_inputs(net, side, x, "x", places)
        outputs = net.shapes(tuple(x.shape[1:]), "the network's input is")[-1]
        if (known := (len(x), *x.shape[1:])) not in self.sizes:
            net.check_batch(known[1:], known[0])
            self.sizes.add(known)
        if self.inputs:
            return (x,)
        y = as_targets(side, outputs, items[1], "y", places)
        if len(x) != len(y):
            raise ShapeError(
                f"expected as many samples in y as in x, got {len(y)} and {len(x)}; a batch has "
                "one target for each sample"
            )
        if y.ndim > len(outputs):
            net.cost.check_targets(y)
        found = [x, y]
        if len(items) > 2:
            terms = (len(x), *outputs)[net.cost.over]
            shapes = [terms[:axes] for axes in range(1, min(len(terms), len(outputs)) + 1)]
            weights = as_weights(side, items[2], shapes, "weights", places)
            found.append(weights)
        if self.example is not None:
            self._check_kind(found)
        return tuple(found)

    def _batched(self) -> str:
        """Return how a source of single samples gives batches of them."""
        if hasattr(self.data, "iter"):
            return f"write lambda: {self.name}.iter(batch_size=32)"
        if hasattr(self.data, "batch"):
            return f"write {self.name}.batch(32)"
        return "give several samples at a time, as a DataLoader with batch_size=32 does"

    def _check_kind(self, found: list[np.ndarray]) -> None:
        """Refuse a batch of another kind than the first."""
        if len(found) != len(self.example or ()):
            raise ValueError(
                f"expected {'no ' * (len(found) > 2)}weights, as in the first batch, got "
                f"{len(found)} items; give all batches weights, or none"
            )
        y = (self.example or ())[1]
        if found[1].ndim != y.ndim:
            raise ShapeError(
                f"expected y with {y.ndim} axes, as in the first batch, got shape "
                f"{found[1].shape}; give class indices in all batches, or rows in all"
            )


def _iterable(data: Any) -> bool:
    return hasattr(data, "__iter__") or hasattr(data, "__getitem__")


def _endless(data: Any) -> bool:
    """Return whether it is known that batches never end: a cycle, or a tf.data.Dataset repeated."""
    told = getattr(data, "cardinality", None)
    return isinstance(data, cycle) or (callable(told) and int(told()) == ENDLESS)


def _fit(one: Sequence[Array], other: Sequence[Array]) -> bool:
    """Return whether arrays can follow others in a stretch: in shape, type and batch size."""
    alike = all(
        a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in zip(one, other, strict=True)
    )
    return alike and len(other[0]) <= len(one[0])
