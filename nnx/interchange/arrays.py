"""Arrays of other libraries on the host, and arrays put into layers, all or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nnx.backend import use_backend
from nnx.checks import ShapeError
from nnx.layers.base import Layer
from nnx.layers.tree import walk
from nnx.saving import FileError, read_file
from nnx.saving.networks import unchanged_on_error
from nnx.saving.packing import arrays_of, check_finite
from nnx.saving.unpacking import converted

__all__ = ["at_path", "host", "joined", "leaves", "put", "torch_file"]


def host(name: str, value: Any) -> np.ndarray:
    """Return a copy of an array of any library as NumPy array of floating-point numbers.

    A tensor of PyTorch is recognised by its methods. Numbers of bfloat16 become float32, exactly.

    Raises:
        TypeError: NumPy cannot convert it, or it does not hold floating-point numbers.
    """
    for method in ("detach", "cpu", *(["float"] if "bfloat16" in _type(value) else []), "numpy"):
        if callable(getattr(value, method, None)):
            value = getattr(value, method)()
    try:
        array = np.array(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: expected an array that NumPy can convert, got {type(value).__name__}: "
            f"{error}; convert it to a NumPy array first"
        ) from error
    if array.dtype.name == "bfloat16":
        array = array.astype("float32")
    if array.dtype.kind != "f":
        raise TypeError(
            f"{name}: expected floating-point numbers, got {array.dtype}; convert them first: "
            'array.astype("float32")'
        )
    return array


def leaves(layer: Layer) -> list[tuple[str, Layer]]:
    """Return the layers that are not made of layers, with their paths; a shared one in each."""
    return [(".".join(map(str, keys)), leaf) for keys, leaf in walk(layer) if not leaf.children]


def joined(*parts: str) -> str:
    """Return parts of a dotted name as one; empty parts are left out."""
    return ".".join(filter(None, parts))


def at_path(owner: str, layer: Layer, path: Any) -> Layer:
    """Return the layer at a path such as "1.0"; the layer itself for "".

    Raises:
        ValueError: there is none.
    """
    found = layer
    for key in str(path).split(".") if str(path) else []:
        if not key.isdecimal() or int(key) >= len(found.children):
            known = ", ".join(repr(".".join(map(str, keys))) for keys, _ in walk(layer)[1:])
            raise ValueError(
                f"{owner}: expected the path of a layer, got {path!r}; the paths of this network "
                f"are {known}"
            )
        found = found.children[int(key)]
    return found


def put(layer: Layer, values: Mapping[str, np.ndarray], error: Callable[[str], Exception]) -> None:
    """Put arrays into a network under the paths of its parameters and buffers: all, or none.

    Args:
        layer: the network; its optimizers keep their states.
        values: path -> array of the right shape.
        error: is raised if one of them is not finite.
    """
    places, backend = arrays_of(layer), layer.backend
    with use_backend(backend), unchanged_on_error(layer):
        for path, array in values.items():
            check_finite(path, array, error)
            leaf, attribute, name = places[path]
            known = getattr(leaf, attribute)
            if tuple(known[name].shape) != array.shape:
                raise ShapeError(
                    f"{path}: expected shape {tuple(known[name].shape)}, got {array.shape}"
                )
            own = np.array(converted(path, array, backend.dtype_name), order="C")
            known[name] = backend.from_numpy(own)


def _type(value: Any) -> str:
    return str(getattr(value, "dtype", ""))


def torch_file(path: str | os.PathLike[str], counts: Callable[[str], bool]) -> dict[str, Any]:
    """Return the arrays of a safetensors file whose names count.

    Raises:
        FileError: it is another file; how to read one of torch.save.
    """
    try:
        with read_file(path) as file:
            return {name: file.read(name) for name in sorted(file.shapes) if counts(name)}
    except FileError as error:
        if not os.fsdecode(path).endswith((".pt", ".pth", ".bin", ".ckpt")):
            raise
        raise FileError(
            f"{os.fsdecode(path)}: expected a safetensors file, got one of torch.save, which nnx "
            f'does not read; write load_torch(net, torch.load("{os.fsdecode(path)}", '
            "weights_only=True))"
        ) from error
