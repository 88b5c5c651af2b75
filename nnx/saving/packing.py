"""A network as plain data and arrays: everything that training goes on with.

Parameters and buffers have their paths as names, "0.W". The arrays of a parameter's state are
"optimizer/0.W/0", "optimizer/0.W/1", ..., those that an optimizer itself keeps "optimizers/0/...".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nnx.backend import Array, Backend, array_namespace
from nnx.config import Configured, classes_of, is_own, plain
from nnx.layers.base import Layer
from nnx.layers.container import Container
from nnx.layers.tree import ParameterState, once, slots
from nnx.optimizers import Optimizer
from nnx.saving.text import split

__all__ = [
    "arrays_of",
    "check_finite",
    "classes_in",
    "host_arrays",
    "leaves_of",
    "pack",
    "shapes_of",
    "size_of_state",
    "states_of",
]


def pack(layer: Layer) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the whole description of a network or layer, and copies of its arrays by name.

    Raises:
        ValueError: a parameter or buffer is not finite; two classes have the same name.
        TypeError: an argument is not plain data.
    """
    if isinstance(layer, Container):
        layer.check_backend()
    leaves = leaves_of(layer)
    optimizers = _optimizers(layer, leaves.values())
    index = {id(optimizer): i for i, optimizer in enumerate(optimizers)}
    arrays = host_arrays(layer)
    states = {}
    for path, (state, optimizer, parameter) in states_of(layer).items():
        if state is None or state.kind is not type(optimizer):
            continue  # the next step would begin a new one
        # Nor would it go on with arrays that an optimizer with other arguments has left.
        kept = state.arrays if len(state.arrays) == size_of_state(optimizer, parameter) else ()
        states[path] = {"t": int(state.t), "arrays": len(kept)}
        for i, array in enumerate(kept):
            arrays[f"optimizer/{path}/{i}"] = _host(layer.backend, array)
    described = []
    for i, optimizer in enumerate(optimizers):
        state, own = split(optimizer.state, f"optimizers/{i}")
        described.append({"made": plain(optimizer), "t": int(optimizer.t), "state": state})
        arrays |= own
    network = layer.optim if layer.children else None
    about = vars(layer).get("about")
    return {
        **({} if about is None else {"about": dict(about)}),
        "kind": "network",
        "dtype": layer.backend.dtype_name,
        "classes": _names_of_own(classes_in(layer)),
        "architecture": plain(layer),
        "optimizers": described,
        "optimizer": None if network is None else index[id(network)],
        "layers": {
            path: {
                "optimizer": index[id(leaf.optim)],
                "frozen": bool(leaf.frozen),
                "regularizers": {name: plain(r) for name, r in leaf.regularizers.items()},
            }
            for path, leaf in leaves.items()
        },
        "states": states,
    }, arrays


def leaves_of(layer: Layer) -> dict[str, Layer]:
    """Return the layers that are not made of layers, each once, by their path: "1.0"."""
    return {".".join(map(str, keys)): leaf for keys, leaf in once(layer) if not leaf.children}


def arrays_of(layer: Layer) -> dict[str, tuple[Layer, str, str]]:
    """Return where each parameter and buffer is: path -> layer, attribute, name.

    Raises:
        ValueError: two of them have one path, or a name has "/" in it.
    """
    found: dict[str, tuple[Layer, str, str]] = {}
    for prefix, leaf in leaves_of(layer).items():
        for attribute in ("parameters", "buffers"):
            for name in getattr(leaf, attribute):
                path = f"{prefix}.{name}" if prefix else name
                if path in found or "/" in name:
                    raise ValueError(
                        f"{leaf.name}: expected parameters and buffers with names of their own "
                        f"without '/', got {name!r}; rename it"
                    )
                found[path] = leaf, attribute, name
    return found


def shapes_of(layer: Layer) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter and buffer, by path."""
    return {
        path: tuple(getattr(leaf, attribute)[name].shape)
        for path, (leaf, attribute, name) in arrays_of(layer).items()
    }


def host_arrays(layer: Layer) -> dict[str, np.ndarray]:
    """Return copies of all parameters and buffers on the host, by path.

    Raises:
        ValueError: one is not finite.
    """
    arrays = {}
    for path, (leaf, attribute, name) in arrays_of(layer).items():
        arrays[path] = _host(layer.backend, getattr(leaf, attribute)[name])
        check_finite(path, arrays[path], ValueError)
    return arrays


def states_of(layer: Layer) -> dict[str, tuple[ParameterState | None, Optimizer, Array]]:
    """Return the state of each parameter, its optimizer and the parameter itself, by path."""
    found = slots(once(layer))
    return {
        ".".join(map(str, found[number].places[0])): (
            found[number].layer.states.get(found[number].name),
            optimizer,
            found[number].array,
        )
        for optimizer, numbers in layer.optimized(found)
        for number in numbers
    }


def size_of_state(optimizer: Optimizer, parameter: Array) -> int:
    """Return how many arrays an optimizer keeps for a parameter."""
    xp, shape = array_namespace(parameter), tuple(min(n, 2) for n in parameter.shape)
    small = xp.zeros(shape, dtype=parameter.dtype, device=parameter.device)
    return len(optimizer.init(small))


def check_finite(path: str, array: np.ndarray, error: Callable[[str], Exception]) -> None:
    """Raise the error if an array of floating-point numbers has others than finite ones."""
    if array.dtype.kind != "f" or (finite := np.isfinite(array)).all():
        return
    first = np.unravel_index(int(np.argmin(finite)), array.shape)
    raise error(
        f"{path}: expected finite numbers, got {array[first]} at [{', '.join(map(str, first))}]; "
        "go back to the last good file, and train with a smaller learning rate"
    )


def _optimizers(layer: Layer, leaves: Iterable[Layer]) -> list[Optimizer]:
    """Return the optimizers of a network and of its layers, each once."""
    found = [layer.optim, *(leaf.optim for leaf in leaves)]
    return list({id(optimizer): optimizer for optimizer in found if optimizer is not None}.values())


def classes_in(layer: Layer) -> set[type[Configured]]:
    """Return the classes of a network, its layers, and all they were made with or got later."""
    leaves = leaves_of(layer).values()
    penalties = [list(leaf.regularizers.values()) for leaf in leaves]
    return classes_of([layer, penalties, [leaf.optim for leaf in leaves]])


def _names_of_own(kinds: Iterable[type[Configured]]) -> list[str]:
    """Return the names of the classes that are not nnx's.

    Raises:
        ValueError: two classes have the same name.
    """
    names = [kind.__name__ for kind in kinds]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"expected classes with names of their own, got several called {', '.join(twice)}; "
            "rename yours"
        )
    return sorted(kind.__name__ for kind in kinds if not is_own(kind))


def _host(backend: Backend, array: Array) -> np.ndarray:
    return np.array(backend.to_numpy(array), order="C")
