"""Data that stays on the host: whether it does, and its rows, checked as they are read."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from nnx.backend import Backend
from nnx.data.arrays import as_inputs, as_targets, batches, check_finite, fits, kept_dtype
from nnx.data.containers import items, kind_of, real_numbers
from nnx.data.host import HostSide
from nnx.data.rows import Rows, on_disk

__all__ = ["SMALL", "checked_inputs", "input_rows", "on_this_host", "target_rows"]

# Data stays on the host if it takes more than this share of the free memory of the device. Targets
# on disk that are rows are read at once if they have at most so many bytes.
SHARE = 0.5
READ_AT_ONCE = 1 << 26
SMALL = 1 << 20  # bytes in memory for which nobody asks how much of it is free


def input_rows(net: Any, x: Any, name: str, on_device: bool | None) -> Rows | None:
    """Return the inputs as rows that are read in blocks; None if they move to the device at once.

    The shape and the type are checked. The values are if the data is in memory; otherwise they are
    when they are read.

    Args:
        net: a network.
        x: inputs of the user.
        name: what errors call them.
        on_device: move them at once? If None, they are if that takes less than half of the free
            memory.

    Raises:
        ShapeError, TypeError, ValueError: they do not fit, or cannot stay on the host.
    """
    backend, disk = net.backend, on_disk(x)
    if on_device or not (disk or type(x) is np.ndarray or on_device is False):
        return None
    if on_device is None and not disk and x.nbytes < SMALL:
        return None
    if not disk:
        x = _in_memory(net, x, name, on_device)
    side: Any = HostSide(backend)
    if disk:
        real_numbers(side, np.empty(0, x.dtype), name)
    dtype = kept_dtype(side, np.empty(0, x.dtype))
    if on_device is None and not _too_large(backend, x, dtype, disk, name):
        return None
    if not fits(x.shape[1:], net.input_shape) or not x.shape[0]:
        as_inputs(side, net.input_shape, _outline(x), name)  # raises

    def checked(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        return checked_inputs(net, side, rows, name, places)

    if disk:
        return Rows(x, name, dtype, checked)
    several = max(1, READ_AT_ONCE // max(1, x[:1].nbytes))
    for block in batches(len(x), several):
        checked(x[block], np.arange(block.start, block.stop))
    return Rows(x, name, dtype, lambda rows, places: rows.astype(dtype, copy=False))


def checked_inputs(
    net: Any, side: Any, rows: np.ndarray, name: str, places: np.ndarray
) -> np.ndarray:
    """Return rows of inputs, checked, in the dtype in which they go to the device.

    Raises:
        ShapeError, TypeError, ValueError: a value that does not fit; its place is named.
    """
    try:
        net.check_inputs(rows)
    except (TypeError, ValueError) as error:
        for row, place in zip(rows, places.tolist(), strict=True):
            try:
                net.check_inputs(row[None])
            except (TypeError, ValueError) as of_one:
                raise type(of_one)(f"{name}[{place}]: {of_one}") from error
        raise
    found = as_inputs(side, net.input_shape, rows, name)
    check_finite(found, name, places)
    return found


def target_rows(net: Any, y: Any, outputs: tuple[int, ...], name: str) -> Any:
    """Return targets that belong to such rows: read, or rows of their own if they are large.

    Class indices, and whatever is in memory, come back as they are, to be checked as a whole.
    """
    side: Any = HostSide(net.backend)
    if not on_disk(y):
        return on_this_host(net.backend, y)
    size = math.prod(y.shape) * np.dtype(y.dtype).itemsize
    if len(y.shape) <= len(outputs) or size <= READ_AT_ONCE:
        return np.asarray(y[0 : y.shape[0]])
    real_numbers(side, np.empty(0, y.dtype), name)
    if not fits(y.shape[1:], outputs):
        as_targets(side, outputs, _outline(y), name)

    def checked(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        found = as_targets(side, outputs, rows, name, places)
        net.cost.check_targets(found)
        return found

    return Rows(y, name, side.dtype, checked)


def on_this_host(backend: Backend, data: Any) -> Any:
    """Return arrays of the backend as NumPy arrays, whatever else as it is."""
    if not isinstance(data, np.ndarray) and backend.owns(data):
        return backend.to_numpy(data)
    return data


def _in_memory(net: Any, x: Any, name: str, on_device: bool | None) -> np.ndarray:
    """Return data in the memory of the host as an array."""
    if on_device is None:
        return x
    if None in net.input_shape and items(x) is not None:
        raise ValueError(
            f"expected {name} as one array, because on_device=False is given, got {kind_of(x)} of "
            "samples; leave out on_device"
        )
    array = real_numbers(net.backend, x, name)
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"expected {name} on the host, because on_device=False is given, got an array of "
            f"backend {net.backend.name!r}; leave out on_device, or write nnx.to_numpy({name})"
        )
    return array


def _too_large(backend: Backend, x: Any, dtype: np.dtype[Any], disk: bool, name: str) -> bool:
    """Decide whether the data stays on the host, and tell."""
    log, size = logging.getLogger("nnx"), math.prod(x.shape) * dtype.itemsize
    shared = not disk and backend.shares_host and dtype == x.dtype
    memory = None if shared or size < SMALL else backend.memory()
    stays = memory is not None and size >= SHARE * memory.free
    if stays:
        log.info(
            "%s, %.1f MB of %s, stays on the host and is read in blocks: %s has %.1f MB free",
            *(name, size / 1e6, dtype, backend.device_name(), memory.free / 1e6),  # type: ignore[union-attr]
        )
    else:
        log.info("%s, %.1f MB of %s, is on the device", name, size / 1e6, dtype)
    return stays


def _outline(x: Any) -> np.ndarray:
    """Return an array of this shape and type that takes no memory."""
    return np.broadcast_to(np.zeros((), x.dtype), tuple(x.shape))
