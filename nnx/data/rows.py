"""Arrays whose rows are read when they are needed: on disk, or in the memory of the host."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import array_api_compat
import numpy as np

__all__ = ["Rows", "on_disk"]

# Rows that are at most so far apart are read as one slice, with those between them. What is farther
# apart is read by a list of indices, if the array takes one.
GAP = 8


def on_disk(data: Any) -> bool:
    """Return whether this is an array that is read from a file, or made, slice by slice.

    That is a numpy.memmap, or anything with shape, dtype and slices that is not an array in
    memory, as h5py.Dataset and zarr.Array.
    """
    if isinstance(data, np.ndarray):
        return isinstance(data, np.memmap)
    if not all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")):
        return False
    if type(data).__module__.partition(".")[0] in ("pandas", "polars", "scipy", "sparse"):
        return False
    try:
        np.dtype(data.dtype)
    except TypeError:  # that of a library whose arrays are in memory, such as TensorFlow
        return False
    return not isinstance(data, np.generic) and not array_api_compat.is_array_api_obj(data)


class Rows:
    """Rows of an array that is not in the memory of the device.

    Args:
        array: anything with shape, dtype and slices.
        name: what errors call it.
        dtype: that of the rows as `read` returns them.
        convert: checks rows as they are stored, whose indices it gets too, and returns them in
            this dtype.
        index: which rows of the array, in order; all if not given.

    Attributes:
        shape, dtype, ndim: those of an array of these rows.
    """

    def __init__(
        self,
        array: Any,
        name: str,
        dtype: np.dtype[Any],
        convert: Callable[[np.ndarray, np.ndarray], np.ndarray],
        index: np.ndarray | None = None,
    ) -> None:
        self.array, self.name, self.index = array, name, index
        self.dtype, self.convert = dtype, convert
        samples = array.shape[:1] if index is None else (len(index),)
        self.shape: tuple[int, ...] = (*map(int, samples), *map(int, array.shape[1:]))
        self.ndim = len(self.shape)
        self._lists: bool | None = None

    def taken(self, index: np.ndarray) -> Rows:
        """Return some of the rows."""
        return Rows(self.array, self.name, self.dtype, self.convert, self.places(index))

    def places(self, index: np.ndarray) -> np.ndarray:
        """Return where these rows are in the whole array."""
        return index if self.index is None else self.index[index]

    def read(self, index: np.ndarray) -> np.ndarray:
        """Return the rows of these indices, each one at most once, as a new array of NumPy."""
        places = self.places(index)
        try:
            self._check_file()
            return self.convert(self._read(places), places)
        except Exception as error:
            low, high = int(places.min()), int(places.max())
            error.add_note(f"while samples {low} to {high} of {self.name} were read")
            raise

    def _read(self, places: np.ndarray) -> np.ndarray:
        if isinstance(self.array, np.ndarray):
            array, first = np.asarray(self.array), int(places[0])
            if (np.diff(places) == 1).all():
                return np.array(array[first : first + len(places)])
            return np.take(array, places, axis=0)
        order = np.argsort(places, kind="stable")
        places = places[order]
        cuts = np.flatnonzero(np.diff(places) > GAP) + 1
        if len(places) < GAP * len(cuts) and self._takes_lists(places[:2]):
            found = np.asarray(self.array[places])
        else:
            found = np.empty((len(places), *self.shape[1:]), self.array.dtype)
            starts = [0, *cuts.tolist(), len(places)]
            for start, stop in pairwise(starts):
                some = places[start:stop]
                span = np.asarray(self.array[int(some[0]) : int(some[-1]) + 1])
                found[start:stop] = span if len(span) == len(some) else span[some - some[0]]
        rows = np.empty_like(found)
        rows[order] = found
        return rows

    def _takes_lists(self, places: np.ndarray) -> bool:
        """Return whether a list of indices gives these rows, as it does for NumPy's arrays."""
        if self._lists is None:
            try:
                found = np.asarray(self.array[places])
                self._lists = found.shape == (len(places), *self.shape[1:])
            except Exception:
                self._lists = False
        return self._lists

    def _check_file(self) -> None:
        """Refuse a file that has become shorter: to read a part that is not there ends Python."""
        if not isinstance(self.array, np.memmap) or self.array.filename is None:
            return
        size = os.path.getsize(self.array.filename)
        if size < self.array.offset + self.array.nbytes:
            raise OSError(
                f"expected {self.array.offset + self.array.nbytes:,} bytes in the file of "
                f"{self.name}, {self.array.filename}, got {size:,}; it has become shorter since it "
                "was opened: write it again, and open it anew"
            )
