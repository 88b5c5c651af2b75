"""Mean and deviation of data in one pass over its blocks, on the host in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nnx.backend import to_numpy
from nnx.checks import ShapeError

__all__ = ["moments"]

BLOCK = 1 << 20  # numbers that are read at a time

NUMBERS = "numbers for the samples: an array, or batches of them"


def moments(layer: Any, x: Any, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation over all axes of x but one; the deviation of a constant is 1.

    A value is subtracted from all of an index first, so that a constant has the deviation 0 to the
    last bit. The blocks' means and sums of squares are then merged, as in Chan, Golub and LeVeque,
    The American Statistician 37 (1983).

    Args:
        layer: for its `output_shape`, its dtype, and for messages.
        x: an array, anything with shape, dtype and slices, or batches: see `StandardizeLayer.fit`.
        axis: 1 or -1.

    Raises:
        TypeError: x is none of these, or does not hold real numbers.
        ValueError: there is no sample, or one that is not finite; it is named by its index.
        ShapeError: the layer does not take its samples.
    """
    samples, count = 0, 0
    origin = mean = squares = np.zeros(())
    for given in _blocks(layer, x):
        block = _checked(layer, given, samples)
        if not block.shape[0]:
            continue
        samples += block.shape[0]
        axes = tuple(i for i in range(block.ndim) if i != axis % block.ndim)
        if not count:
            origin = np.moveaxis(block, axis, -1)[(0,) * len(axes)].copy()
            mean = squares = np.zeros_like(origin)
        block -= origin.reshape([1 if i in axes else -1 for i in range(block.ndim)])
        size = block.size // origin.size
        own = block.mean(axis=axes, keepdims=True)
        block -= own
        block *= block
        difference, total = own.reshape(-1) - mean, count + size
        squares = squares + block.sum(axis=axes) + difference**2 * (count * size / total)
        mean = mean + difference * (size / total)
        count = total
    if not count:
        raise ValueError(
            f"{layer.name}.fit: expected at least one sample, got none; check the data"
        )
    deviation, least = np.sqrt(squares / count), np.finfo(layer.backend.dtype_name).tiny
    return origin + mean, np.where(deviation < least, 1.0, deviation)


def _checked(layer: Any, given: Any, before: int) -> np.ndarray:
    """Return a block as a new float64 array, checked."""
    block = given if isinstance(given, np.ndarray) else to_numpy(given)
    if block.dtype.kind not in "biuf":
        raise TypeError(
            f"{layer.name}.fit: expected {NUMBERS}, got {block.dtype}; convert it first: "
            "x.astype(float)"
        )
    try:
        if not block.ndim:
            raise ShapeError("takes samples, got a single number")
        layer.output_shape(block.shape[1:])
    except ShapeError as error:
        raise ShapeError(
            f"{layer.name}.fit {error}, each without the samples; pass what the layer gets in the "
            "network, or change its arguments"
        ) from None
    block = np.array(block, dtype=np.float64)
    if not (finite := np.isfinite(block)).all():
        index = np.unravel_index(int(np.argmin(finite)), block.shape)
        raise ValueError(
            f"{layer.name}.fit: expected finite numbers, got {block[index]} in sample "
            f"{before + int(index[0])}; replace it, or leave this sample out"
        )
    return block


def _blocks(layer: Any, x: Any) -> Iterator[Any]:
    """Yield the samples of x, some of them at a time."""
    if not all(hasattr(x, name) for name in ("shape", "dtype", "__getitem__")):
        if not isinstance(x, Sequence) and not hasattr(x, "__array__"):
            yield from _batches(layer, x)
            return
        try:
            x = to_numpy(x)
        except ValueError as error:
            raise ValueError(
                f"{layer.name}.fit: expected rows of one length, got {type(x).__name__}: {error}; "
                "for a list of batches, write fit(iter(x))"
            ) from None
    if not x.shape:
        yield x
        return
    per_sample = 1
    for n in x.shape[1:]:
        per_sample *= int(n)
    rows = max(1, BLOCK // max(1, per_sample))
    for start in range(0, int(x.shape[0]), rows):
        yield x[start : min(start + rows, int(x.shape[0])), ...]


def _batches(layer: Any, x: Any) -> Iterator[Any]:
    """Yield the inputs of batches: arrays, or pairs and triples that begin with one."""
    source: Callable[[], Any] | Iterable[Any] = x
    batches = source() if callable(source) else source
    if isinstance(batches, str | bytes | dict | set) or not isinstance(batches, Iterable):
        raise TypeError(
            f"{layer.name}.fit: expected {NUMBERS}, got {type(x).__name__}; pass an array"
        )
    for batch in batches:
        yield batch[0] if isinstance(batch, tuple | list) else batch
