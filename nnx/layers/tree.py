"""One walk over a tree of layers, and what follows from it: parameters, gradients, steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nnx.backend import Array, array_namespace
from nnx.optimizers import Optimizer

__all__ = [
    "ParameterState",
    "Prepared",
    "Slot",
    "gather",
    "once",
    "slots",
    "state_of",
    "take_step",
    "walk",
]


@dataclass(slots=True)
class ParameterState:
    """What an optimizer keeps for one parameter: the number of its steps, arrays, its class."""

    t: int
    arrays: tuple[Array, ...]
    kind: type
    fits: Any = None  # the optimizer that the arrays are known to fit, as it was

    def converted(self, convert: Callable[[Array], Array]) -> ParameterState:
        """Return a state with arrays of its own."""
        return ParameterState(self.t, tuple(convert(a) for a in self.arrays), self.kind)


class Slot(NamedTuple):
    """A parameter in a tree: its layer, its name, and the places of its gradients.

    A place is the keys that lead to one of its gradients in what the backward of the tree returns:
    indices of children, then the name. A layer that stands in several places has as many.
    """

    layer: Any
    name: str
    places: list[tuple[Any, ...]]

    @property
    def array(self) -> Array:
        """The parameter."""
        return self.layer.parameters[self.name]


def walk(layer: Any, keys: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Any]]:
    """Return the layer and all below it, in order, each with the indices that lead to it.

    A layer that is used in several places comes several times.
    """
    found = [(keys, layer)]
    for i, child in enumerate(layer.children):
        found += walk(child, (*keys, i))
    return found


def once(layer: Any) -> list[tuple[tuple[int, ...], Any]]:
    """Return what `walk` does, each layer at its first place only."""
    found: dict[int, tuple[tuple[int, ...], Any]] = {}
    for keys, below in walk(layer):
        found.setdefault(id(below), (keys, below))
    return list(found.values())


def slots(places: Sequence[tuple[tuple[int, ...], Any]], frozen: bool = True) -> list[Slot]:
    """Return the parameters of a walk, each once; `frozen=False` leaves out frozen layers."""
    found: dict[tuple[int, str], Slot] = {}
    for keys, layer in places:
        if layer.children or (layer.frozen and not frozen):
            continue
        for name in layer.parameters:
            place = (*keys, name)
            known = found.get((id(layer), name))
            if known is None:
                found[id(layer), name] = Slot(layer, name, [place])
            else:
                known.places.append(place)
    return list(found.values())


class Prepared:
    """What was prepared for layers and optimizers, and holds until one of them changes.

    A change is an assignment to an argument, or to `frozen` and the like, or another layer in a
    list of layers.
    """

    def watch(self, layers: Iterable[Any], with_optimizers: bool = True) -> None:
        """Remember how often they have changed, and the lists of containers."""
        self._made_of: list[tuple[Any, int]] = []
        self._lists: list[tuple[list[Any], list[Any]]] = []
        for layer in layers:
            self._made_of.append((layer, layer.changes))
            if with_optimizers and layer.optim is not None:
                self._made_of.append((layer.optim, layer.optim.changes))
            if layer.children:
                for value in vars(layer).values():
                    if type(value) is list:
                        self._lists.append((value, value.copy()))

    @property
    def stale(self) -> bool:
        """Has something changed since?"""
        for thing, changes in self._made_of:
            if thing.changes != changes:
                return True
        for items, known in self._lists:
            if items != known:
                return True
        return False


def gather(slots: Sequence[Slot], gradients: Any) -> list[Array]:
    """Return the gradient of each parameter, summed over its places.

    Raises:
        ValueError: the backward of a layer has not returned one of them.
    """
    found = []
    for slot in slots:
        try:
            ((i, name),) = slot.places  # once, and outside of containers: the usual case
            found.append(gradients[i][name])
        except (ValueError, KeyError, TypeError):
            found.append(_gathered(slot, gradients))
    return found


def _gathered(slot: Slot, gradients: Any) -> Array:
    total = None
    for place in slot.places:
        gradient = gradients
        try:
            for key in place:
                gradient = gradient[key]
        except (KeyError, IndexError, TypeError):
            path = ".".join(map(str, place))
            raise ValueError(
                f"expected a gradient of {path} ({slot.name} of {slot.layer.name}), got none; a "
                "layer's backward returns (dx, {name of a parameter: its gradient}), that of a "
                "container (dx, {index of a child: the gradients of the child})"
            ) from None
        total = gradient if total is None else total + gradient
    return total


def state_of(optimizer: Optimizer, slot: Slot) -> ParameterState:
    """Return the state of a parameter; a new one if it has none that belongs to the optimizer."""
    known = slot.layer.states.get(slot.name)
    fits = (optimizer, optimizer.changes, slot.array.shape)
    if known is not None and known.fits == fits:
        return known
    fresh = optimizer.init(slot.array)
    shapes = [array.shape for array in fresh]
    if known is None or known.kind is not type(optimizer):
        known = None
    elif [array.shape for array in known.arrays] == shapes:
        known.fits = fits
        return known
    # The same optimizer with a momentum that it had not before keeps its count.
    count = known.t if known is not None and len(known.arrays) != len(fresh) else 0
    state = slot.layer.states[slot.name] = ParameterState(count, fresh, type(optimizer), fits)
    return state


def take_step(optimizer: Optimizer, slots: Sequence[Slot], gradients: Sequence[Array]) -> None:
    """Step parameters by an optimizer, array by array.

    The layers get new arrays: what somebody has read before stays as it is, and arrays that cannot
    be written are taken too.
    """
    parameters = [slot.array for slot in slots]
    optimizer.check(parameters, gradients)
    copied = [_copy(p) for p in parameters]
    if type(optimizer).update is not Optimizer.update:
        updated = optimizer.update(copied, gradients)
        shapes = [tuple(getattr(p, "shape", ())) for p in updated or ()]
        if shapes != [tuple(p.shape) for p in copied]:
            raise ValueError(
                f"{type(optimizer).__name__}.update: expected {len(copied)} arrays of the shapes "
                f"of the parameters, got {updated!r}; return the list of new parameters"
            )
    else:
        updated = list(_steps(optimizer, slots, copied, gradients))
    for slot, p in zip(slots, updated, strict=True):
        slot.layer.parameters[slot.name] = p


def _steps(
    optimizer: Optimizer,
    slots: Sequence[Slot],
    parameters: Sequence[Array],
    gradients: Sequence[Array],
) -> Iterator[Array]:
    if optimizer.clip is not None:
        gradients = optimizer.clip(gradients)
    for slot, p, g in zip(slots, parameters, gradients, strict=True):
        state = state_of(optimizer, slot)
        arrays, factors = tuple(map(_copy, state.arrays)), optimizer.factors_of(state.t + 1)
        p, state.arrays = optimizer.rule(p, g, arrays, factors)
        state.t += 1
        yield p


def _copy(array: Array) -> Array:
    return array_namespace(array).asarray(array, copy=True)
