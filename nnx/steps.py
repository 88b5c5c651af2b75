"""A step of training: forward, the gradient of the loss, backward, penalties, update.

`Step` is that step as it is written down, prepared once for many batches. `CompiledSteps` is an
epoch of them as one compiled loop, where the library traces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import array_api_compat
import numpy as np

from nnx.backend import Array, Backend
from nnx.groups import Group, grouped
from nnx.layers.base import Layer
from nnx.layers.container import first_to_train, gather, run, run_back
from nnx.optimizers import Optimizer
from nnx.randomness import Draw, generator, noise_from

if TYPE_CHECKING:
    from nnx.networks import SequentialNet

__all__ = ["CompiledSteps", "Step"]

# How many numbers a compiled loop may be given, or give, at a time.
LOOP = 1 << 24

_groups: WeakKeyDictionary[SequentialNet, list[Group]] = WeakKeyDictionary()
_compiled: WeakKeyDictionary[SequentialNet, CompiledSteps] = WeakKeyDictionary()


class Step:
    """What a step of training needs and does not change from batch to batch.

    Make a new one when layers, optimizers or the loss were changed.
    """

    def __init__(self, net: SequentialNet) -> None:
        objective = net.objective()
        self.backend, self.chain = net.backend, net.chain
        self.forwards, self.loss = objective.forwards, objective.loss
        self.layers = net.chain.children
        self.slots = net.chain.slots(frozen=False)
        self.lowest = first_to_train(self.layers)
        self.penalties = [
            (number, slot.leaf, slot.name, slot.leaf.regularizers[slot.name])
            for number, slot in enumerate(self.slots)
            if slot.name in slot.leaf.regularizers
        ]
        self.groups = _known_groups(net, grouped(net.backend, net.chain.slots(), net.optim))

    def __call__(self, x: Array, y: Array, *weights: Array) -> Array:
        """The step; returns the outputs of the last forward, before the step."""
        a, gradients = self.gradients(x, y, *weights)
        for group in self.groups:
            group.step(gradients)
        return a

    def gradients(self, x: Array, y: Array, *weights: Array) -> tuple[Array, list[Array]]:
        """The outputs, and the gradients of loss and penalties for every parameter in `slots`."""
        a, backwards = run(self.forwards, self.layers, x, True)
        delta = self.loss.gradient(a, y, *weights)
        _, of_layers = run_back(self.layers, backwards, delta, self.lowest, need_dx=False)
        gradients = gather(self.slots, self.layers, of_layers)
        for number, leaf, name, regularizer in self.penalties:
            gradients[number] = regularizer.update(leaf.parameters[name], gradients[number])
        return a, gradients


def _known_groups(net: SequentialNet, groups: list[Group]) -> list[Group]:
    """Those of the last step of the network in place of new ones, where nothing has changed."""
    known = _groups.get(net, [])
    _groups[net] = [
        next((old for old in known if old.like(group) and old.still()), group) for group in groups
    ]
    return _groups[net]


class CompiledSteps:
    """Steps of training as one compiled loop, for a network whose library traces.

    The step that is traced is `Step`'s own: for the time of the trace the layers hold its arrays.
    """

    @classmethod
    def of(cls, net: SequentialNet, step: Step) -> CompiledSteps | None:
        """That of the last epoch, if nothing has changed since.

        None where the library does not trace, or where a layer or an optimizer must not be.
        """
        if not (net.chain.traceable and all(group.follows_rule for group in step.groups)):
            return None
        leaves = {id(leaf) for _, leaf in net.chain.leaves()}
        groups = [[group.lead, group.numbers] for group in step.groups]
        facts = _facts([net.chain, net.cost, groups], leaves, {})
        known = _compiled.get(net)
        if known is None or known.facts != facts:
            known = cls(step, facts, math.prod(net.output_shape))
            _compiled[net] = known
        known.groups = step.groups
        return known if known.loop is not None else None

    def __init__(self, step: Step, facts: Any, outputs: int) -> None:
        self.outputs = outputs  # of one sample
        self.step, self.facts, self.groups = step, facts, step.groups
        self.backend: Backend = step.backend
        self.leaves = [leaf for _, leaf in step.chain.leaves()]
        self.loop = self.backend.compile_loop(self._function)
        self.draws: dict[int, list[tuple[Draw, np.ndarray]]] = {}

    def epoch(
        self, data: tuple[Array, ...], order: np.ndarray, batch_size: int
    ) -> Iterator[tuple[Array, int]]:
        """Train: whole batches in as few loops as memory allows, then what is left over.

        Yields the outputs (samples, ...) of each loop, and the number of samples so far.
        """
        samples, start = len(order), 0
        while start < samples:
            size = min(batch_size, samples - start)
            draws = self._draws(data, size)
            numbers = self.outputs * size + sum(host.size for _, host in draws)
            steps = min((samples - start) // size, max(1, LOOP // numbers))
            stop = start + steps * size
            a = self._loop(data, order[start:stop].reshape(steps, size), draws)
            yield self.backend.xp.reshape(a, (steps * size, *a.shape[2:])), stop
            start = stop

    def _loop(
        self, data: tuple[Array, ...], index: np.ndarray, draws: list[tuple[Draw, np.ndarray]]
    ) -> Array:
        """As many steps as index has rows; the outputs. Steps that were not made do not count."""
        optimizers = [optimizer for group in self.groups for optimizer in group.optimizers]
        before = [optimizer.t for optimizer in optimizers]
        try:
            rows = {
                "index": self.backend.asarray(index),
                "factors": [
                    self.backend.asarray(np.array([group.advance() for _ in index]))
                    for group in self.groups
                ],
                "noise": self._noise(draws, len(index)),
            }
            carry, a = self.loop(self._carry(), rows, data)  # type: ignore[misc]
        except BaseException:
            for optimizer, t in zip(optimizers, before, strict=True):
                optimizer.t = t
            raise
        for leaf, parameters, buffers in zip(self.leaves, *carry[:2], strict=True):
            # In the order they had: a trace gives dictionaries back sorted by their keys.
            leaf.parameters = {name: parameters[name] for name in leaf.parameters}
            leaf.buffers = {name: buffers[name] for name in leaf.buffers}
        for group, states in zip(self.groups, carry[2], strict=True):
            group.keep(group.parameters(), states)
        return a

    def _carry(self) -> tuple[Any, ...]:
        """What goes from step to step: parameters, buffers, states."""
        return (
            [dict(leaf.parameters) for leaf in self.leaves],
            [dict(leaf.buffers) for leaf in self.leaves],
            [group.states() for group in self.groups],
        )

    def _function(self, carry: Any, row: Any, data: tuple[Array, ...]) -> tuple[Any, Array]:
        """A step as a function of the carry and of what belongs to one batch."""
        xp, numbers = self.backend.xp, iter(row["noise"])
        with self._holding(*carry[:2]), noise_from(lambda draw, like: next(numbers)):
            batch = [xp.take(array, row["index"], axis=0) for array in data]
            a, gradients = self.step.gradients(batch[0], batch[1], *batch[2:])
            states = []
            for group, old, factors in zip(self.groups, carry[2], row["factors"], strict=True):
                own = [gradients[number] for number in group.numbers]
                plain = tuple(factors[i] for i in range(factors.shape[0]))
                parameters, new = group.new(group.parameters(), own, old, plain)
                group.keep_parameters(parameters)
                states.append(new)
            return (*self._carry()[:2], states), a

    @contextmanager
    def _holding(self, parameters: list[Any], buffers: list[Any]) -> Iterator[None]:
        kept = [(leaf.parameters, leaf.buffers) for leaf in self.leaves]
        try:
            for leaf, p, b in zip(self.leaves, parameters, buffers, strict=True):
                leaf.parameters, leaf.buffers = dict(p), dict(b)
            yield
        finally:
            for leaf, (p, b) in zip(self.leaves, kept, strict=True):
                leaf.parameters, leaf.buffers = p, b

    def _draws(self, data: tuple[Array, ...], size: int) -> list[tuple[Draw, np.ndarray]]:
        """What a step of so many samples draws, with an example of each."""
        if size in self.draws:
            return self.draws[size]
        found: list[tuple[Draw, np.ndarray]] = []

        def note(draw: Draw, like: Array) -> Array:
            found.append((draw, draw(np.random.default_rng(0))))
            return self._moved(found[-1][1])

        def step(carry: Any, data: tuple[Array, ...]) -> Array:
            with self._holding(*carry[:2]), noise_from(note):
                few = [array[:size, ...] for array in data]
                return self.step.gradients(few[0], few[1], *few[2:])

        self.backend.rehearse(step, self._carry(), data)
        self.draws[size] = found
        return found

    def _noise(self, draws: list[tuple[Draw, np.ndarray]], steps: int) -> list[Array]:
        """The random numbers of the steps, drawn in the order in which these need them."""
        stream = generator("dropout")
        drawn = [[draw(stream) for draw, _ in draws] for _ in range(steps)]
        return [self._moved(np.stack(numbers)) for numbers in zip(*drawn, strict=True)]

    def _moved(self, host: np.ndarray) -> Array:
        boolean = host.dtype == bool
        return self.backend.from_numpy(host) if boolean else self.backend.asarray(host)


class _Same:
    """An array, which is equal to itself alone."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.array is other.array

    __hash__ = None  # type: ignore[assignment]


def _facts(thing: Any, leaves: set[int], seen: dict[int, Any]) -> Any:
    """What a trace depends on besides its inputs, as something that can be compared.

    Inputs are the parameters and buffers of the leaves, and the learning rate, by way of the
    factors.
    """

    def facts(value: Any) -> Any:
        return _facts(value, leaves, seen)

    if isinstance(thing, np.ndarray):
        return thing.shape, str(thing.dtype), thing.tobytes()
    if array_api_compat.is_array_api_obj(thing):
        return _Same(thing)
    if isinstance(thing, type | FunctionType | Backend | str | int | float | None):
        return thing
    if id(thing) in seen:
        return id(thing)
    seen[id(thing)] = thing  # which keeps it, and its id, for as long as this takes
    if isinstance(thing, dict):
        return tuple((key, facts(value)) for key, value in thing.items())
    if isinstance(thing, list | tuple):
        return tuple(facts(value) for value in thing)
    if isinstance(thing, partial):
        return facts([thing.func, thing.args, thing.keywords])
    if isinstance(thing, MethodType):
        return facts([thing.__self__, thing.__func__])
    if isinstance(thing, Optimizer):
        hidden = {"eta", "t", "state", "shapes"}
    elif isinstance(thing, Layer):
        hidden = {"gradients", "optim", "name", "_backward"}
        hidden |= {"parameters", "buffers"} if id(thing) in leaves else set()
    else:
        hidden = {"_backward"}
    attributes = {k: v for k, v in getattr(thing, "__dict__", {}).items() if k not in hidden}
    own = id(thing) if isinstance(thing, Layer) or not attributes else None
    return type(thing), own, facts(attributes)
