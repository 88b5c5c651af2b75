"""Steps of training as one compiled loop, for a library that traces.

The loop traces the plan of a twin of the network. The twin's arrays are inputs of the trace; the
network itself is not touched by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nnx.backend import Array
from nnx.config import Itself, is_own, key
from nnx.data import as_floats
from nnx.layers.tree import once, state_of
from nnx.randomness import Draw, generator, noise_from
from nnx.training.mixing import Mixing, mixed

__all__ = ["CompiledLoop", "compile_key"]

# How many numbers a compiled loop may be given, or give, at a time.
LOOP = 1 << 24


class CompiledLoop:
    """An epoch of steps as a compiled loop.

    Args:
        plan: a plan of the twin, which has the arrays of the trace.
        key: what tells whether the loop may be used for a plan; see `compile_key`.
        mixing: makes another batch of every batch, before its step.
    """

    def __init__(self, plan: Any, key: Any, mixing: Mixing | None = None) -> None:
        self.plan, self.key, self.backend, self.mixing = plan, key, plan.backend, mixing
        self.leaves = _leaves(plan)
        self.loop = self.backend.compile_loop(self._step)
        # A loss of a user's own may read values outside of a step.
        self.value = plan.loss.value
        if is_own(type(plan.loss)):
            self.value = self.backend.compiled(self.value)
        self.draws: dict[tuple[int, ...], list[tuple[Draw, np.ndarray]]] = {}

    def epoch(
        self,
        plan: Any,
        data: tuple[Array, ...],
        order: np.ndarray,
        batch_size: int,
        start: int = 0,
        until: Callable[[], int] | None = None,
    ) -> Iterator[tuple[tuple[Array, ...], int]]:
        """Train the network of a plan: whole batches in as few loops as memory allows.

        Args:
            plan: the network's.
            data: inputs, targets and, if there are any, weights.
            order: the indices of the samples, in order.
            batch_size: samples per step.
            start: how many samples of the order have been trained on.
            until: returns the number of batches after which a loop must end.

        Yields the outputs (samples, ...) of each loop, and the number of samples so far. If samples
        are mixed, their targets, and weights if there are any, stand beside the outputs.
        """
        xp, samples = self.backend.xp, len(order)
        outputs = math.prod(plan.chain.shapes(tuple(data[0].shape[1:]), "")[-1])
        outputs *= 1 if self.mixing is None else 2
        while start < samples:
            size = min(batch_size, samples - start)
            draws = self._draws(plan, data, size)
            numbers = outputs * size + sum(host.size for _, host in draws)
            steps = min((samples - start) // size, max(1, LOOP // numbers))
            if until is not None:
                steps = min(steps, until())
            stop = start + steps * size
            found = self._run(plan, data, order[start:stop].reshape(steps, size), draws)
            yield tuple(xp.reshape(a, (steps * size, *a.shape[2:])) for a in found), stop
            start = stop

    def _run(
        self,
        plan: Any,
        data: tuple[Array, ...],
        index: np.ndarray,
        draws: list[tuple[Draw, np.ndarray]],
    ) -> tuple[Array, ...]:
        """Make as many steps as index has rows; return the outputs. If it fails, none was made."""
        steps = range(1, len(index) + 1)
        rows = {
            "index": self.backend.asarray(index),
            "factors": [
                [
                    self.backend.asarray(
                        np.array([group.optimizer.factors_of(t + i) for i in steps])
                    )
                    for t in times
                ]
                for group, times in zip(plan.groups, _times(plan), strict=True)
            ],
            "noise": self._noise(draws, len(index)),
        }
        (parameters, buffers, states), found = self.loop(_carry(plan), rows, data)
        for leaf, p, b in zip(_leaves(plan), parameters, buffers, strict=True):
            leaf.parameters.update(p)
            leaf.buffers.update(b)
        for group, of_group in zip(plan.groups, states, strict=True):
            for slot, arrays in zip(group.slots, of_group, strict=True):
                state = slot.layer.states[slot.name]
                state.t, state.arrays = state.t + len(index), tuple(arrays)
        return found

    def _step(self, carry: Any, row: Any, data: tuple[Array, ...]) -> tuple[Any, Any]:
        """Return the next carry and the outputs, as a function of what belongs to one batch."""
        xp, numbers, plan = self.backend.xp, iter(row["noise"]), self.plan
        self._hold(carry)
        with noise_from(lambda draw, like: next(numbers)):
            batch = [xp.take(part, row["index"], axis=0) for part in data]
            outputs, gradients = self._gradients(*batch)
        states = []
        for group, times, old, factors in zip(
            plan.groups, _times(plan), carry[2], row["factors"], strict=True
        ):
            own = [gradients[number] for number in group.numbers]
            if group.optimizer.clip is not None:
                own = group.optimizer.clip(own)
            of_time = {
                t: tuple(f[i] for i in range(f.shape[0]))
                for t, f in zip(times, factors, strict=True)
            }
            new = []
            for slot, g, state in zip(group.slots, own, old, strict=True):
                t = slot.layer.states[slot.name].t
                p, state = group.optimizer.rule(slot.array, g, state, of_time[t])
                slot.layer.parameters[slot.name] = p
                new.append(state)
            states.append(new)
        return (*_carry_of(self.leaves), states), outputs

    def _gradients(self, x: Array, *others: Array) -> tuple[tuple[Array, ...], list[Array]]:
        """Return the outputs for a batch, with what was mixed, and the gradients."""
        x = as_floats(self.backend, x)
        if self.mixing is None:
            a, gradients = self.plan.gradients(x, *others)
            return (a,), gradients
        batch = mixed(self.mixing, self.plan, x, *others)
        a, gradients = self.plan.gradients(*batch)
        return (a, *batch[1:]), gradients

    def _hold(self, carry: Any) -> None:
        """Give the twin the arrays of a trace."""
        for leaf, parameters, buffers in zip(self.leaves, *carry[:2], strict=True):
            leaf.parameters.update(parameters)
            leaf.buffers.update(buffers)

    def _draws(
        self, plan: Any, data: tuple[Array, ...], size: int
    ) -> list[tuple[Draw, np.ndarray]]:
        """Return what a step of so many samples draws, with an example of each."""
        shape = (size, *data[0].shape[1:])
        if shape in self.draws:
            return self.draws[shape]
        found: list[tuple[Draw, np.ndarray]] = []

        def note(draw: Draw, like: Array) -> Array:
            found.append((draw, draw(np.random.default_rng(0))))
            return self._moved(found[-1][1])

        def step(carry: Any, data: tuple[Array, ...]) -> Any:
            self._hold(carry)
            with noise_from(note):
                return self._gradients(*[part[:size, ...] for part in data])

        self.backend.rehearse(step, _carry(plan), data)
        self.draws[shape] = found
        return found

    def _noise(self, draws: list[tuple[Draw, np.ndarray]], steps: int) -> list[Array]:
        """Return the random numbers of the steps, drawn in the order in which these need them."""
        stream = generator("dropout")
        drawn = [[draw(stream) for draw, _ in draws] for _ in range(steps)]
        return [self._moved(np.stack(numbers)) for numbers in zip(*drawn, strict=True)]

    def _moved(self, host: np.ndarray) -> Array:
        boolean = host.dtype == bool
        return self.backend.from_numpy(host) if boolean else self.backend.asarray(host)


def compile_key(plan: Any) -> Any:
    """Return what a trace depends on besides its inputs, for comparison.

    Inputs are parameters, buffers, states and, by way of the factors, the learning rates. What a
    trace reads from attributes that are not arguments is known by the number of assignments.
    """
    layers = [layer for _, layer in once(plan.chain)]
    steps = [[state_of(g.optimizer, slot).t for slot in g.slots] for g in plan.groups]
    patterns = [[sorted(set(of)).index(t) for t in of] for of in steps]
    return (
        _without_rates([key(plan.chain), key(plan.cost)]),
        [(Itself(layer), layer.others, layer.frozen) for layer in layers],
        [{name: key(r) for name, r in layer.regularizers.items()} for layer in layers],
        [(group.numbers, group.optimizer.others) for group in plan.groups],
        patterns,  # which parameters of a group have made the same number of steps
    )


def _leaves(plan: Any) -> list[Any]:
    return [layer for _, layer in once(plan.chain) if not layer.children]


def _times(plan: Any) -> list[list[int]]:
    """Return, of each group, the different numbers of steps that its parameters have made."""
    return [
        sorted({slot.layer.states[slot.name].t for slot in group.slots}) for group in plan.groups
    ]


def _carry_of(leaves: list[Any]) -> tuple[Any, Any]:
    return [dict(leaf.parameters) for leaf in leaves], [dict(leaf.buffers) for leaf in leaves]


def _carry(plan: Any) -> tuple[Any, Any, Any]:
    """Return what goes from step to step: parameters, buffers, states."""
    states = [
        [slot.layer.states[slot.name].arrays for slot in group.slots] for group in plan.groups
    ]
    return (*_carry_of(_leaves(plan)), states)


def _without_rates(data: Any) -> Any:
    """Return a key without the learning rates of optimizers and the names of layers."""
    if isinstance(data, list):
        return [_without_rates(item) for item in data]
    if not isinstance(data, dict):
        return data
    kept = {name: _without_rates(value) for name, value in data.items() if name != "name"}
    if isinstance(optim := kept.get("optim"), dict):
        kept["optim"] = {name: value for name, value in optim.items() if name != "eta"}
    return kept
