"""Plain data and arrays become a network again, after all has been checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnx.backend import Array, Backend, get_backend, resolve, use_backend
from nnx.checks import sequence
from nnx.config import is_own, parameters_of
from nnx.layers.tree import ParameterState
from nnx.optimizers import Optimizer
from nnx.regularizers import Regularizer
from nnx.saving.differences import compared
from nnx.saving.errors import FileError, listed
from nnx.saving.files import File
from nnx.saving.outline import built, outline
from nnx.saving.packing import (
    arrays_of,
    check_finite,
    leaves_of,
    shapes_of,
    size_of_state,
    states_of,
)
from nnx.saving.text import join

__all__ = ["checked", "converted", "unpacked"]

DTYPES = ("float32", "float64")
MOST_STEPS = 1 << 53  # beyond, a count is no longer exact as a float


def unpacked(
    data: Mapping[str, Any],
    file: File,
    backend: str | Backend | None = None,
    dtype: str | None = None,
    layers: Iterable[type] = (),
) -> tuple[Any, set[str]]:
    """Return the layer of a description, and the names of the arrays in it; see `unpack`."""
    if not isinstance(data, Mapping):
        raise FileError(f"expected the description of a network, got {data!r:.100}")
    _one_of(data, "kind", ("network",))
    born = _one_of(data, "dtype", DTYPES)
    target = resolve(get_backend() if backend is None else backend, dtype or born)
    classes = _classes(data, layers)
    layer = checked(data, classes, file.shapes, file.dtypes)
    described: list[Any] = _value(data, "optimizers", list)
    optimizers = [_optimizer(i, item, classes) for i, item in enumerate(described)]
    _set_leaves(layer, _value(data, "layers", dict), optimizers, classes)
    _set_optimizer(layer, _value(data, "optimizer", int | None), optimizers)

    used: set[str] = set()

    def read(name: str, finite: bool = False) -> Array:
        host = file.read(name)
        used.add(name)
        if finite:
            check_finite(name, host, FileError)
        if host.dtype.name == born:
            host = converted(name, host, target.dtype_name)
        return target.from_numpy(host)

    with use_backend(target):
        _set_states(layer, _value(data, "states", dict), file, read)
        for path, (leaf, attribute, name) in arrays_of(layer).items():
            getattr(leaf, attribute)[name] = read(path, finite=True)
        for leaf in leaves_of(layer).values():
            vars(leaf)["backend"] = target
        for i, (optimizer, item) in enumerate(zip(optimizers, described, strict=True)):
            optimizer.state = _own_state(i, type(optimizer), item["state"], read)
    of_states = {name for name in file.shapes if name.startswith(("optimizer/", "optimizers/"))}
    if left := sorted(of_states - used):
        raise FileError(f"expected no more states than those described, got {listed(left)}")
    return layer, used


def checked(
    data: Mapping[str, Any],
    classes: Iterable[type],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
) -> Any:
    """Return the layer of a description with zeros, after comparing its arrays with those found.

    Raises:
        FileError: their names, shapes or types do not fit.
    """
    numbers = sum(map(math.prod, shapes.values()))
    layer = outline(_value(data, "architecture", dict), classes, data["dtype"], numbers)
    found = {name: tuple(shape) for name, shape in shapes.items() if "/" not in name}
    if differences := compared(shapes_of(layer), found):
        raise FileError(
            f"expected the arrays of the layers described, got others; {differences.in_words()}"
        )
    for path, (leaf, attribute, name) in arrays_of(layer).items():
        own = getattr(leaf, attribute)[name].dtype
        _check_type(path, dtypes[path], DTYPES if own.kind == "f" else (own.name,))
    return layer


def _check_type(name: str, found: str, expected: Sequence[str]) -> None:
    if found not in expected:
        raise FileError(f"{name}: expected numbers of type {' or '.join(expected)}, got {found}")


def converted(name: str, host: np.ndarray, dtype: str) -> np.ndarray:
    """Return floating-point numbers in another type.

    Raises:
        FileError: a finite number is beyond its range.
    """
    if host.dtype.name == dtype:
        return host
    with np.errstate(over="ignore"):
        cast = host.astype(dtype)
    beyond = np.isfinite(host) & ~np.isfinite(cast)
    if beyond.any():
        raise FileError(
            f"{name}: expected numbers that {dtype} can hold, got {host[beyond][0]}; "
            f'load it with dtype="{host.dtype.name}"'
        )
    return cast


def _set_leaves(
    layer: Any, described: dict[str, Any], optimizers: list[Optimizer], classes: Any
) -> None:
    """Give the layers their optimizers and penalties, and freeze some."""
    leaves = leaves_of(layer)
    if set(described) != set(leaves):
        others = listed(sorted(set(described) ^ set(leaves)))
        raise FileError(
            f"expected an entry for each layer, got others; missing or left over: {others}"
        )
    for path, leaf in leaves.items():
        entry = _entry(described[path], f"layers.{path}")
        leaf.optim = _indexed(optimizers, _value(entry, "optimizer", int))
        if (frozen := _value(entry, "frozen", bool)) != leaf.frozen:
            leaf.frozen = frozen
        penalties = _value(entry, "regularizers", dict)
        if odd := sorted(set(penalties) - set(leaf.parameters)):
            raise FileError(f"layers.{path}: expected penalties on parameters, got {listed(odd)}")
        leaf.regularizers = {
            name: built(made, classes, Regularizer) for name, made in penalties.items()
        }


def _set_optimizer(layer: Any, index: int | None, optimizers: list[Optimizer]) -> None:
    """Give the network its optimizer."""
    has_one = bool(layer.children) and "optim" in parameters_of(type(layer))
    if has_one:
        layer.optim = None if index is None else _indexed(optimizers, index)
    elif index is not None:
        raise FileError(f"expected a {type(layer).__name__} without an optimizer, got one")


def _set_states(layer: Any, described: dict[str, Any], file: File, read: Any) -> None:
    """Give the parameters their states."""
    known = states_of(layer)
    if odd := sorted(set(described) - set(known)):
        raise FileError(f"expected states of parameters, got {listed(odd)}")
    arrays = arrays_of(layer)
    for path, item in described.items():
        _, optimizer, parameter = known[path]
        entry = _entry(item, f"states.{path}")
        number, most = _count(entry, "arrays"), size_of_state(optimizer, parameter)
        if number not in (0, most):
            raise FileError(
                f"states.{path}: expected {most} arrays, as {type(optimizer).__name__} keeps, "
                f"got {number}"
            )
        names = [f"optimizer/{path}/{i}" for i in range(number)]
        for name in names:
            _check_type(name, file.dtypes.get(name, DTYPES[0]), DTYPES)
            if file.shapes.get(name, parameter.shape) != tuple(parameter.shape):
                raise FileError(
                    f"{name}: expected the shape of the parameter, {tuple(parameter.shape)}, got "
                    f"{file.shapes[name]}"
                )
        leaf, _, parameter_name = arrays[path]
        leaf.states[parameter_name] = ParameterState(
            _count(entry, "t"), tuple(map(read, names)), type(optimizer)
        )


def _optimizer(index: int, item: Any, classes: Any) -> Optimizer:
    entry = _entry(item, f"optimizers[{index}]")
    optimizer = built(_value(entry, "made", dict), classes, Optimizer)
    optimizer.t = _count(entry, "t")
    if "state" not in entry:
        raise FileError(f"optimizers[{index}]: expected a state or None, got nothing")
    return optimizer


def _own_state(index: int, kind: type, state: Any, read: Any) -> Any:
    """Return what an optimizer itself keeps, usually a list of tuples of arrays."""

    class Source:
        def read(self, name: str) -> Any:
            if not f"{name}/".startswith(f"optimizers/{index}/"):
                raise FileError(f"optimizers[{index}]: expected arrays of its own, got {name!r}")
            return read(name)

    joined = join(state, Source())
    if isinstance(joined, list):
        joined = [tuple(item) if isinstance(item, list) else item for item in joined]
    if is_own(kind) and joined is not None:
        for item in joined if isinstance(joined, list) else [joined]:
            shapes = (
                [getattr(a, "shape", None) for a in item] if isinstance(item, tuple) else [None]
            )
            if None in shapes or len(set(shapes)) > 1:
                raise FileError(
                    f"optimizers[{index}]: expected a state of tuples of arrays of one shape, got "
                    f"{state!r:.100}"
                )
    return joined


def _classes(data: Mapping[str, Any], layers: Iterable[type]) -> list[type]:
    """Return those of the user's classes that the file is made of."""
    items = sequence("load", "layers", layers, "a list of classes")
    for kind in items:
        if not isinstance(kind, type):
            raise TypeError(
                f"load: expected layers to be classes, got {kind!r:.100}; pass its class"
            )
    given = {kind.__name__: kind for kind in items}
    names = _value(data, "classes", list)
    if missing := [name for name in names if not isinstance(name, str) or name not in given]:
        text = ", ".join(map(str, missing))
        raise FileError(
            f"expected the classes of your own that are in the file, {text:.200}, got none of that "
            f"name; pass them: layers=[{text:.200}]"
        )
    return [given[name] for name in names]


def _indexed(optimizers: list[Optimizer], index: int | None) -> Optimizer:
    if index is None or not 0 <= index < len(optimizers):
        raise FileError(f"expected the index of one of {len(optimizers)} optimizers, got {index}")
    return optimizers[index]


def _entry(item: Any, place: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise FileError(f"{place}: expected a dict, got {item!r:.100}")
    return item


def _value(data: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = data.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        what = getattr(kind, "__name__", str(kind))
        raise FileError(f"{name}: expected {what}, got {value!r:.100}")
    return value


def _count(data: Mapping[str, Any], name: str) -> int:
    value = _value(data, name, int)
    if not 0 <= value <= MOST_STEPS:
        raise FileError(f"{name}: expected a number of steps or arrays, got {value!r:.100}")
    return value


def _one_of(data: Mapping[str, Any], name: str, known: Iterable[str]) -> str:
    value = data.get(name)
    if not isinstance(value, str) or value not in known:
        raise FileError(f"{name}: expected one of {', '.join(known)}, got {value!r:.100}")
    return value
