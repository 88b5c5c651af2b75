"""`nnx show`: what a file holds. Nothing in it is built or run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import nnx
from nnx.commands.tables import About
from nnx.commands.words import KINDS, words_of
from nnx.config import parameters_of, plain
from nnx.saving import FileError, read_file

__all__ = ["lines_of", "show"]


def show(path: str) -> dict[str, Any]:
    """Return what is in a safetensors file: arrays, layers, loss, optimizers, a run.

    Raises:
        FileError, OSError: it cannot be read.
    """
    with read_file(path) as file:
        data = file.data
        arrays = {
            name: {"shape": list(shape), "dtype": file.dtypes[name]}
            for name, shape in file.shapes.items()
        }
    weights = {name: a for name, a in arrays.items() if not (data and "/" in name)}
    found: dict[str, Any] = {
        "file": path,
        "kind": data.get("kind", "arrays"),
        "numbers": sum(math.prod(a["shape"]) for a in weights.values()),
        "arrays": weights,
    }
    if not data:
        return found
    try:
        return {**found, **_network(data, weights)}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{path}: expected the description of a network, got one that is damaged "
            f"({type(error).__name__}: {error}); copy the file or write it again"
        ) from error


def _network(data: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the plain data of a file says."""
    found: dict[str, Any] = {"dtype": data.get("dtype")}
    if "architecture" in data:
        made = data["architecture"]
        known = _classes()
        layers = {f"{i}.": layer for i, layer in enumerate(made.get("layers", []))}
        found["input_shape"] = made.get("input_shape")
        found["layers"] = [
            {"layer": _called(layer, known), "numbers": _numbers(weights, path)}
            for path, layer in (layers or {"": made}).items()
        ]
        found["loss"] = _called(made.get("cost"), known)
        used = [made["optim"]] if made.get("optim") else [of["made"] for of in data["optimizers"]]
        found["optimizers"] = list(dict.fromkeys(_called(optimizer, known) for optimizer in used))
        found["own_classes"] = data.get("classes", [])
    about = About.of(data.get("about")).plain()
    found["data"] = {name: value for name, value in about.items() if value}
    if "run" in data:
        found["run"] = {name: data["run"][name] for name in ("epoch", "batches", "seconds")}
    return found


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines of text for what `show` returns."""
    dtype = f", {found['dtype']}" if found.get("dtype") else ""
    yield f"{found['file']}: {found['kind']}, {found['numbers']:,} numbers{dtype}"
    if "layers" in found:
        if found["input_shape"] is not None:
            yield f"input  {found['input_shape']}"
        for i, layer in enumerate(found["layers"]):
            yield f"{i}  {layer['layer']}  {layer['numbers']:,}"
        if found["loss"]:
            yield f"loss  {found['loss']}"
        for one in found["optimizers"]:
            yield f"optimizer  {one}"
        if found["own_classes"]:
            yield f"classes of its own  {', '.join(map(str, found['own_classes']))}"
    for name, names in found.get("data", {}).items():
        if name != "classes":
            yield f"{'classes' if name == 'labels' else name}  {', '.join(names)}"
    if "run" in found:
        run = found["run"]
        yield f"run  {run['epoch']} epochs finished, {run['batches']} batches of the next"
    for name, array in found["arrays"].items():
        yield f"{name}  {tuple(array['shape'])}  {array['dtype']}"


def _classes() -> dict[str, type]:
    known = {kind.__name__: kind for name in KINDS for kind in words_of(name).values()}
    return {**known, "SequentialNet": nnx.SequentialNet}


def _numbers(arrays: Mapping[str, Any], path: str) -> int:
    return sum(math.prod(a["shape"]) for name, a in arrays.items() if name.startswith(path))


def _called(data: Any, known: Mapping[str, type]) -> str:
    """Return plain data as the call that makes it; arguments with their defaults are left out."""
    if isinstance(data, list):
        return f"[{', '.join(_called(item, known) for item in data)}]"
    if not isinstance(data, dict):
        return "" if data is None else repr(data)
    if "class" not in data:
        return repr(data)
    kind = known.get(data["class"])
    defaults = {}
    if kind is not None:
        for name, parameter in parameters_of(kind).items():
            if parameter.default is not parameter.empty:
                defaults[name] = plain(parameter.default)
    shown = [
        f"{name}={_called(value, known) or None}"
        for name, value in data.items()
        if name != "class" and not (name in defaults and defaults[name] == value)
    ]
    return f"{data['class']}({', '.join(shown)})"
