"""Networks as files: saved, loaded, and put back into a network that is there already."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nnx.backend import Backend
from nnx.config import Watched, is_own, parameters_of, plain
from nnx.layers.base import Layer
from nnx.layers.tree import once
from nnx.saving.differences import compared, first_difference
from nnx.saving.errors import FileError, listed
from nnx.saving.files import File, read_file, write_file
from nnx.saving.packing import classes_in, pack, shapes_of
from nnx.saving.unpacking import checked, unpacked
from nnx.synonyms import named

__all__ = ["first_difference", "load", "pack", "restore", "save", "unchanged_on_error", "unpack"]


def save(
    layer: Layer, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None
) -> None:
    """Write a network or layer to a safetensors file, with all that training goes on with.

    Args:
        layer: the network or layer.
        path: the file.
        about: plain data to keep beside it, `read_file(path).data["about"]`; `layer.about` if not
            given.

    Raises:
        ValueError: a parameter or buffer is not finite, or the network could not be read again.
        TypeError: an argument is not plain data.
        OSError: the file cannot be written; what was there before stays.
    """
    data, arrays = pack(layer)
    if about is not None:
        data["about"] = dict(about)
    try:
        shapes = {name: array.shape for name, array in arrays.items()}
        dtypes = {name: array.dtype.name for name, array in arrays.items()}
        checked(data, _own_classes(layer), shapes, dtypes)
    except FileError as error:
        raise ValueError(
            f"{layer.name}: expected layers that their constructors make again from their "
            f"arguments, got others: {error}; a changed layer can keep its values alone: "
            "save_weights"
        ) from error
    write_file(path, arrays, data)


@named
def load(
    path: str | os.PathLike[str],
    backend: str | Backend | None = None,
    dtype: str | None = None,
    layers: Iterable[type] = (),
) -> Any:
    """Return the network or layer that `save` has written; training goes on where it stood.

    Nothing in the file is executed, and nothing is drawn from the random streams.

    Args:
        path: the file.
        backend: where the arrays go; the current backend if not given.
        dtype: "float32" or "float64"; that of the file if not given.
        layers: classes of your own in the network: layers, activations, losses and so on.

    Raises:
        FileError: it is not such a file; the message says what was expected and what came.
        OSError: it cannot be read.
        BackendError: the backend cannot be used here.
    """
    with read_file(path) as file:
        if file.data.get("kind") != "network":
            kind = f"one of kind {file.data.get('kind')!r:.60}" if file.data else "one without it"
            raise FileError(
                f"expected a file with the description of a network, got {kind}; arrays with the "
                "names of parameters are read by net.load_weights(...)"
            )
        layer, used = unpacked(file.data, file, backend, dtype, layers)
        used |= {name for name in file.shapes if name.startswith("run/")}  # of a checkpoint
        if left := sorted(set(file.shapes) - used):
            raise FileError(f"expected no more arrays than those described, got {listed(left)}")
        if isinstance(about := file.data.get("about"), dict):
            vars(layer)["about"] = about
        return layer


def unpack(
    data: Mapping[str, Any],
    file: File,
    backend: str | Backend | None = None,
    dtype: str | None = None,
    layers: Iterable[type] = (),
) -> Any:
    """Return the network or layer of what `pack` returned, once it has been written and read.

    Args:
        data: the description.
        file: the open file that has the arrays.
        backend: where they go; the current backend if not given.
        dtype: that of the description if not given.
        layers: classes of your own in the network.

    Raises:
        FileError: description and arrays are not what `pack` returns, or do not fit together.
    """
    return unpacked(data, file, backend, dtype, layers)[0]


def restore(layer: Layer, data: Mapping[str, Any], file: File) -> None:
    """Put what `pack` returned into a network or layer of the same tree that is there already.

    Its layers and optimizers stay the same objects. They get the arrays, states, counts, penalties
    and those arguments that differ. On any error, nothing has changed.

    Args:
        layer: the network.
        data: the description.
        file: the open file that has the arrays.

    Raises:
        FileError: they do not fit together; the first difference is named.
    """
    saved, _ = unpacked(data, file, layer.backend, layer.backend.dtype_name, _own_classes(layer))
    mine, its = ([(keys, type(of), of) for keys, of in once(tree)] for tree in (layer, saved))
    differences = compared(shapes_of(layer), shapes_of(saved))
    if [found[:2] for found in mine] != [found[:2] for found in its] or differences:
        where = first_difference(plain(layer), plain(saved)) or differences.in_words()
        raise FileError(
            f"expected the layers of this network, got others; here and in the file: {where}"
        )
    pairs = [(one, other) for (_, _, one), (_, _, other) in zip(mine, its, strict=True)]
    with unchanged_on_error(layer):
        optimizers = _matched(layer, pairs)
        for one, other in pairs:
            _take_arguments(one, other)
            optimizer = optimizers.get(id(other.optim), other.optim)
            if one.optim is not optimizer:
                one.optim = optimizer
        for one, other in pairs:
            if not one.children:
                for name in ("parameters", "buffers", "regularizers", "states"):
                    setattr(one, name, getattr(other, name))
                if one.frozen != other.frozen:
                    one.frozen = other.frozen


@contextlib.contextmanager
def unchanged_on_error(layer: Layer) -> Iterator[None]:
    """A block after which layers and optimizers are what they were, if it raises an error."""
    things: list[Any] = [below for _, below in once(layer)]
    things += [thing.optim for thing in things if thing.optim is not None]
    kept = [vars(thing) for thing in things]
    kept += [value for own in kept for value in own.values() if isinstance(value, dict)]
    before = [(own, dict(own)) for own in kept]
    try:
        yield
    except BaseException:
        for own, values in before:
            own.clear()
            own.update(values)
        raise


def _matched(layer: Layer, pairs: list[tuple[Layer, Layer]]) -> dict[int, Any]:
    """Return the optimizers that take over from saved ones, by id of the saved one.

    An optimizer does so if it has the same class and the same layers; else the saved one itself
    becomes that of the layers.
    """
    partners: dict[int, tuple[Any, set[int]]] = {}
    backwards: dict[int, set[int]] = {}
    for one, other in pairs:
        if one.optim is not None and other.optim is not None:
            partners.setdefault(id(other.optim), (other.optim, set()))[1].add(id(one.optim))
            backwards.setdefault(id(one.optim), set()).add(id(other.optim))
    objects = {id(one.optim): one.optim for one, _ in pairs}
    found = {}
    for key, (saved, candidates) in partners.items():
        own = objects[min(candidates)]
        if len(candidates) > 1 or len(backwards[id(own)]) > 1 or type(own) is not type(saved):
            continue
        _take_arguments(own, saved)
        own.t, own.state = saved.t, saved.state
        found[key] = own
    return found


def _take_arguments(one: Any, other: Any) -> None:
    """Assign the arguments of a thing that differ, except those that are layers or optimizers."""
    mine, its = plain(one), plain(other)
    for name in parameters_of(type(one)):
        if name in one.transient or name == "optim" or _layers_in(getattr(one, name)):
            continue
        if first_difference(mine[name], its[name]):
            # All of them fit together, which is checked; one alone may not fit before the others.
            vars(one).pop(name, None)
            Watched.__setattr__(one, name, getattr(other, name))


def _layers_in(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_layers_in, value))
    return isinstance(value, Layer)


def _own_classes(layer: Layer) -> list[type]:
    return [kind for kind in classes_in(layer) if not is_own(kind)]
