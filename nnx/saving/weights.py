"""Parameters and buffers alone, for a network that is there already."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from nnx.backend import Array, Backend, use_backend
from nnx.checks import flag
from nnx.layers.base import Layer
from nnx.saving.differences import Differences, compared
from nnx.saving.errors import FileError
from nnx.saving.files import read_file, write_file
from nnx.saving.networks import unchanged_on_error
from nnx.saving.packing import arrays_of, check_finite, host_arrays
from nnx.saving.unpacking import converted

__all__ = ["load_weights", "save_weights"]


def save_weights(layer: Layer, path: str | os.PathLike[str]) -> None:
    """Write the parameters and buffers of a network or layer to a safetensors file, by path.

    Raises:
        ValueError: one of them is not finite.
        OSError: the file cannot be written; what was there before stays.
    """
    write_file(path, host_arrays(layer), {"kind": "weights", "dtype": layer.backend.dtype_name})


def load_weights(layer: Layer, path: str | os.PathLike[str], strict: bool = True) -> Differences:
    """Read parameters and buffers into a network or layer, whose optimizers keep their states.

    Args:
        layer: the network. Arrays take the types of those that it has.
        path: a file of nnx, or any safetensors file with the same names.
        strict: True refuses a file with other arrays; False reads those that fit.

    Returns:
        What does not fit; nothing if `strict`.

    Raises:
        FileError: it is not such a file, or does not fit. Nothing has changed then.
        OSError: it cannot be read.
        TypeError: `strict` is not a bool.
    """
    strict = flag("load_weights", "strict", strict)
    mine, backend = arrays_of(layer), layer.backend
    known = {path: getattr(leaf, attribute)[name] for path, (leaf, attribute, name) in mine.items()}
    with read_file(path) as file, use_backend(backend):
        # In files of nnx, what is beside the weights has "/" in its name.
        found = {n: shape for n, shape in file.shapes.items() if not (file.data and "/" in n)}
        differences = compared({name: tuple(a.shape) for name, a in known.items()}, found)
        if strict and differences:
            raise FileError(
                f"expected the arrays of {layer.name}, got others; {differences.in_words()}; "
                "strict=False reads those that fit"
            )
        fitting = [name for name in known if name in found and name not in differences.shapes]
        read = {
            name: backend.from_numpy(_as_type(name, file.read(name), _type(backend, known[name])))
            for name in fitting
        }
    with unchanged_on_error(layer):
        for name, array in read.items():
            leaf, attribute, own = mine[name]
            getattr(leaf, attribute)[own] = array
    return differences


def _as_type(name: str, host: np.ndarray, dtype: str) -> np.ndarray:
    check_finite(name, host, FileError)
    if host.dtype.kind == np.dtype(dtype).kind == "f":
        return converted(name, host, dtype)
    if host.dtype.name != dtype:
        raise FileError(f"{name}: expected numbers of type {dtype}, got {host.dtype.name}")
    return host


def _type(backend: Backend, array: Array) -> str:
    known: dict[str, Any] = backend.xp.__array_namespace_info__().dtypes(device=backend.device)
    return next(name for name, own in known.items() if own == array.dtype)
