"""Whatever can be checked (activation, loss, layer, regularizer, network) as one kind of function.

A subject is a function of named arrays, the inputs and every parameter, with the backward that
was written for it. It can be evaluated on any backend, at any values of the arrays, any number of
times: what forward draws and changes (masks, running means) starts from the same state each time.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nnx import randomness
from nnx.backend import Array, Backend, to_numpy
from nnx.layers import Layer
from nnx.layers._by_hand import check_forward
from nnx.layers._contract import explain_backward
from nnx.layers.tree import Slot, gather, slots, walk
from nnx.losses import Loss

Arrays = dict[str, Array]
Backward = Callable[[Array], Arrays]
Forward = Callable[[Arrays], tuple[Array, Backward]]


@dataclass(frozen=True)
class Subject:
    """A function of named arrays: `at(backend)` gives where it starts, and its forward.

    Attributes:
        name: what messages call the thing.
        forms: for a backend, the arrays by name and the forward, arrays -> (value, backward).
        samples: the length of the first axis of the inputs, 0 if they have none.
        apart: whether the values of a sample must not depend on the other samples.
    """

    name: str
    forms: Callable[[Backend], tuple[Arrays, Forward]]
    samples: int
    apart: bool

    def at(self, backend: Backend) -> tuple[Arrays, Forward]:
        """Return the arrays on that backend, and a forward that starts from the same state."""
        arrays, forward = self.forms(backend)

        def repeatable(arrays: Arrays) -> tuple[Array, Backward]:
            with same_draws():
                return forward(arrays)

        return arrays, repeatable


def subject_of(thing: Any, x: Any, y: Any, training: bool) -> Subject:
    """Return an activation, loss, layer, regularizer or network as a subject.

    Raises:
        TypeError: the thing is something else, or a loss without targets.
    """
    name = getattr(thing, "name", None) or type(thing).__name__
    if hasattr(thing, "cost") and y is not None:
        form = _training
    elif hasattr(thing, "parameters"):
        form = _layer
    elif hasattr(thing, "forward"):
        form = _activation
    elif hasattr(thing, "value") and hasattr(thing, "gradient"):
        if y is None and isinstance(thing, Loss):
            raise TypeError(f"check_gradients({name}, a): a loss needs targets; pass y=")
        form = _regularizer if y is None else _loss
    else:
        raise TypeError(
            "check_gradients: expected an activation, layer or network (with forward), or a loss "
            f"or regularizer (with value and gradient), got {thing!r}"
        )
    shape = getattr(x, "shape", None) or to_numpy(x).shape
    forms = lambda backend: form(thing, x, y, training, backend)
    apart = form in (_activation, _layer) and not training and len(shape) > 1
    return Subject(name, forms, shape[0] if shape else 0, apart)


def _activation(
    thing: Any, x: Any, y: Any, training: bool, backend: Backend
) -> tuple[Arrays, Forward]:
    def forward(arrays: Arrays) -> tuple[Array, Backward]:
        value, backward = thing.forward(arrays["x"])
        return value, lambda delta: {"x": backward(delta)}

    return {"x": _moved(x, backend)}, forward


def _loss(thing: Any, x: Any, y: Any, training: bool, backend: Backend) -> tuple[Arrays, Forward]:
    y = _moved(y, backend)

    def forward(arrays: Arrays) -> tuple[Array, Backward]:
        a = arrays["a"]
        return thing.value(a, y), lambda delta: {"a": thing.gradient(a, y)}

    return {"a": _moved(x, backend)}, forward


def _regularizer(
    thing: Any, x: Any, y: Any, training: bool, backend: Backend
) -> tuple[Arrays, Forward]:
    def forward(arrays: Arrays) -> tuple[Array, Backward]:
        p = arrays["p"]
        return thing.value(p), lambda delta: {"p": thing.gradient(p)}

    return {"p": _moved(x, backend)}, forward


def _layer(thing: Any, x: Any, y: Any, training: bool, backend: Backend) -> tuple[Arrays, Forward]:
    twin = _moved(thing, backend)
    names = _names(twin)

    def forward(arrays: Arrays) -> tuple[Array, Backward]:
        layer = _fresh(twin, backend)
        found = _with_parameters(layer, [arrays[name] for name in names])
        result = layer.forward(arrays["x"], training)
        if isinstance(layer, Layer):
            check_forward(layer, result)
        value, layer_backward = result

        def backward(delta: Array) -> Arrays:
            result = layer_backward(delta)
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise explain_backward(layer, result)
            dx, gradients = result
            if not getattr(layer, "children", ()):
                return {"x": dx, **gradients}
            return {"x": dx, **dict(zip(names, gather(found, gradients), strict=True))}

        return value, backward

    return {"x": _moved(x, backend), **_parameters(twin)}, forward


def _training(
    thing: Any, x: Any, y: Any, training: bool, backend: Backend
) -> tuple[Arrays, Forward]:
    """Return what training minimises, loss and penalties, with the optimizer's gradients."""
    twin, y = _moved(thing, backend), _moved(y, backend)
    twin.frozen = False
    names = _names(twin)

    def forward(arrays: Arrays) -> tuple[Array, Backward]:
        net = _fresh(twin, backend)
        _with_parameters(net, [arrays[name] for name in names])
        outputs, net_backward = net.forward(arrays["x"], True)
        value = net.cost.value(outputs, y) + net.penalty()

        def backward(delta: Array) -> Arrays:
            dx, _ = net_backward(net.cost.gradient(outputs, y))
            stepped = _fresh(twin, backend)
            _with_parameters(stepped, [arrays[name] for name in names])
            with same_draws():
                _, gradients = stepped.plan().gradients(arrays["x"], y)
            return {"x": dx, **dict(zip(names, gradients, strict=True))}

        return value, backward

    return {"x": _moved(x, backend), **_parameters(twin)}, forward


def _slots(thing: Any) -> list[Slot]:
    """Return the parameters of a layer or a network, or of a thing that has no base class."""
    if isinstance(thing, Layer):
        return slots(walk(thing))
    return [Slot(thing, name, [(name,)]) for name in thing.parameters]


def _names(thing: Any) -> list[str]:
    """Return what messages call the parameters of a layer or a network, in the order of slots."""
    names = []
    for slot in _slots(thing):
        *indices, name = slot.places[0]
        if hasattr(thing, "cost"):
            where = ".".join(str(i + 1 if n == 0 else i) for n, i in enumerate(indices))
            names.append(f"{name} of layer {where} ({slot.layer.name})")
        else:
            names.append(".".join(map(str, slot.places[0])))
    return names


def _parameters(thing: Any) -> Arrays:
    return dict(zip(_names(thing), (s.array for s in _slots(thing)), strict=True))


def _with_parameters(thing: Any, arrays: list[Array]) -> list[Slot]:
    """Give a layer or a network these parameters; return where they are."""
    found = _slots(thing)
    for slot, array in zip(found, arrays, strict=True):
        slot.layer.parameters[slot.name] = array
    return found


def _moved(thing: Any, backend: Backend) -> Any:
    """Return a copy on the backend, of an array or of an object with parameters."""
    if hasattr(thing, "parameters") or hasattr(thing, "layers"):
        if hasattr(thing, "to"):
            return thing.to(backend)
        twin = copy.copy(thing)
        twin.parameters = {n: backend.asarray(to_numpy(p)) for n, p in thing.parameters.items()}
        return twin
    return backend.asarray(to_numpy(thing).copy())


def _fresh(thing: Any, backend: Backend) -> Any:
    """Return a deep copy, so that buffers and generators keep their state."""
    memo: dict[int, Any] = {id(module): module for module in list(sys.modules.values())}
    return copy.deepcopy(thing, memo | {id(backend): backend})


@contextmanager
def same_draws() -> Iterator[None]:
    """Restore the state of the random streams after the block."""
    kept = randomness.state()
    try:
        yield
    finally:
        randomness.set_state(kept)
