"""Parameters that one rule steps together.

Layers hold their parameters as arrays of their own, and optimizers their states. Where arrays can
be written in place, those whose optimizers do the same are gathered: small arrays become views
of one flat array, so that a rule is a few operations for all of them, and large ones are given
to the rule in blocks of rows that stay in the cache. A rule works elementwise, so its results are
the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

from nnx.backend import Array, Backend, array_namespace
from nnx.layers.container import Slot
from nnx.optimizers import Factors, Optimizer, State

__all__ = ["Group", "grouped"]

Rule = Callable[[Array, Array, State, Factors], None]


class _Member(NamedTuple):
    """A parameter that is trained: whose optimizer, which of its parameters, and where it is."""

    optimizer: Optimizer
    number: int
    slot: Slot


class Group:
    """Parameters and the optimizers that treat them alike.

    Args:
        backend: of the parameters.
        optimizers: of one class, with the same hyper-parameters and step count.
        slots: for each optimizer its parameters, in the order in which it has their states. Those
            of frozen layers have a state, and no step.
        numbers: the numbers of the others among the parameters of the network that are trained.
    """

    def __init__(
        self,
        backend: Backend,
        optimizers: Sequence[Optimizer],
        slots: Sequence[Sequence[Slot]],
        numbers: Sequence[int],
    ) -> None:
        self.backend, self.optimizers, self.numbers = backend, list(optimizers), list(numbers)
        self.members = [
            _Member(optimizer, number, slot)
            for optimizer, of in zip(optimizers, slots, strict=True)
            for number, slot in enumerate(of)
            if not slot.leaf.frozen
        ]
        self.lead = self.optimizers[0]
        self.follows_rule = type(self.lead).update is Optimizer.update
        known = self.lead.hyperparameters if self.follows_rule else {}
        self.constants = {name: value for name, value in known.items() if name != "eta"}
        self.segments: list[_Segment] | None = None
        if self.follows_rule:
            for optimizer, of in zip(self.optimizers, slots, strict=True):
                optimizer.begin([slot.leaf.parameters[slot.name] for slot in of])

    def step(self, gradients: list[Array]) -> None:
        """One step with the gradients of the network's parameters, in their order.

        It takes its own out of the list: their memory is free as soon as they are used up.
        """
        if not (self.follows_rule and self.backend.mutable):
            self.update(gradients)
            return
        own: list[Array] = []
        for number in self.numbers:
            own.append(gradients[number])
            gradients[number] = None
        if self.segments is None:
            self._pack(own)
        if self.lead.clip is not None:
            own = self.lead.clip(own)
        factors = self.advance()
        for segment in self.segments:  # type: ignore[union-attr]
            segment.step(own, self.rule, factors)

    def update(self, gradients: Sequence[Array]) -> None:
        """The same step by the optimizers' own `update`, array for array."""
        own = iter([gradients[number] for number in self.numbers])
        for optimizer in self.optimizers:
            members = [member for member in self.members if member.optimizer is optimizer]
            parameters = [m.slot.leaf.parameters[m.slot.name] for m in members]
            with _only(optimizer, [m.number for m in members] if self.follows_rule else None):
                updated = optimizer.update(parameters, [next(own) for _ in members])
            for member, p in zip(members, updated, strict=True):
                member.slot.leaf.parameters[member.slot.name] = p

    def advance(self) -> Factors:
        """Count one step, for every optimizer; what the rule must know of it."""
        factors = [optimizer.advance() for optimizer in self.optimizers]
        return factors[0]

    def parameters(self) -> list[Array]:
        """The parameters, in order."""
        return [m.slot.leaf.parameters[m.slot.name] for m in self.members]

    def states(self) -> list[State]:
        """Their states."""
        return [m.optimizer.state[m.number] for m in self.members]  # type: ignore[index]

    def keep(self, parameters: Sequence[Array], states: Sequence[State]) -> None:
        """Put new parameters and states where the layers and the optimizers have theirs."""
        self.keep_parameters(parameters)
        for member, state in zip(self.members, states, strict=True):
            member.optimizer.state[member.number] = state  # type: ignore[index]

    def keep_parameters(self, parameters: Sequence[Array]) -> None:
        """Put new parameters where the layers have theirs."""
        for member, p in zip(self.members, parameters, strict=True):
            member.slot.leaf.parameters[member.slot.name] = p

    def new(
        self,
        parameters: Sequence[Array],
        gradients: Sequence[Array],
        states: Sequence[State],
        factors: Factors,
    ) -> tuple[list[Array], list[State]]:
        """The new parameters and states as a function of the old ones; nothing is kept."""
        if self.lead.clip is not None:
            gradients = self.lead.clip(gradients)
        pairs = [
            self.lead.rule(p, g, state, factors)
            for p, g, state in zip(parameters, gradients, states, strict=True)
        ]
        return [p for p, _ in pairs], [state for _, state in pairs]

    def still(self) -> bool:
        """Are parameters and states still those that were packed?"""
        return (
            self.segments is not None
            and _same(self.parameters(), self._packed[0])
            and _same(self.states(), self._packed[1])
        )

    def like(self, other: Group) -> bool:
        """Is the other made of the same optimizers and parameters, in the same state of work?"""
        return (
            self.numbers == other.numbers
            and self.constants == other.constants
            and _same(self.optimizers, other.optimizers)
            and len(self.members) == len(other.members)
            and all(
                a.optimizer is b.optimizer
                and a.number == b.number
                and a.slot.leaf is b.slot.leaf
                and a.slot.name == b.slot.name
                for a, b in zip(self.members, other.members, strict=True)
            )
        )

    def _pack(self, gradients: list[Array]) -> None:
        """Make the segments; what fails on the way leaves everything as it was."""
        parameters, states = self.parameters(), self.states()
        self.lead.check(parameters, gradients)
        rule = self.lead.rule
        fused = self.backend.fuse_rule(rule, len(states[0])) if self.lead.fusible else None
        segments: list[_Segment] = []
        block, small = self.backend.block or math.inf, list[int]()

        def finish() -> None:
            if small:
                segments.append(_flat(small.copy(), parameters, states))
                small.clear()

        for i, p in enumerate(parameters):
            if math.prod(p.shape) >= block / 8:  # to copy its gradient takes more than it saves
                segments.append(_Rows(i, p, states[i], block))
                continue
            size = sum(math.prod(parameters[j].shape) for j in [*small, i])
            if small and (size > block or p.dtype != parameters[small[0]].dtype):
                finish()
            small.append(i)
        finish()
        self.keep(parameters, states)
        self.rule, self._packed = fused or _in_place(rule), (parameters, states)
        self.segments = segments


@contextmanager
def _only(optimizer: Optimizer, indices: list[int] | None) -> Iterator[None]:
    """For the time of a step an optimizer has the states of these parameters alone."""
    if indices is None or optimizer.shapes is None or optimizer.state is None:
        yield
        return
    shapes, states = optimizer.shapes, optimizer.state
    optimizer.shapes = [shapes[i] for i in indices]
    optimizer.state = [states[i] for i in indices]
    try:
        yield
        for i, state in zip(indices, optimizer.state, strict=True):
            states[i] = state
    finally:
        optimizer.shapes, optimizer.state = shapes, states


class _Segment:
    """Parameters that go through the rule together: blocks of a parameter and its states."""

    blocks: list[tuple[Array, State]]

    def gradients(self, gradients: list[Array]) -> list[Array]:
        """The gradient of each block."""
        raise NotImplementedError

    def step(self, gradients: list[Array], rule: Rule, factors: Factors) -> None:
        """The rule, block for block."""
        for (p, state), g in zip(self.blocks, self.gradients(gradients), strict=True):
            rule(p, g, state, factors)


class _Rows(_Segment):
    """One array as it is, in blocks of rows, which are views whatever its layout."""

    def __init__(self, number: int, p: Array, state: State, block: float) -> None:
        self.number = number
        count = math.ceil(math.prod(p.shape) / block)
        count = min(count, p.shape[0]) if p.ndim else 1
        if count <= 1:
            self.rows: list[Any] = [...]
        else:
            edges = [p.shape[0] * i // count for i in range(count + 1)]
            self.rows = [(slice(a, b), ...) for a, b in pairwise(edges)]
        self.blocks = [(p[rows], tuple(s[rows] for s in state)) for rows in self.rows]

    def gradients(self, gradients: list[Array]) -> list[Array]:
        g = gradients[self.number]
        return [g[rows] for rows in self.rows]


class _Flat(_Segment):
    """Several arrays as views of one; their gradients are copied into one too."""

    def __init__(self, numbers: list[int], p: Array, g: Array, state: State, views: list[Array]):
        self.numbers = numbers
        self.blocks = [(p, state)]
        self.g, self.views = [g], views

    def gradients(self, gradients: list[Array]) -> list[Array]:
        for number, view in zip(self.numbers, self.views, strict=True):
            view[...] = gradients[number]
            gradients[number] = None
        return self.g


def _in_place(rule: Callable[..., Any]) -> Rule:
    """The rule; what it returns as a new array is written to the old one."""

    def step(p: Array, g: Array, state: State, factors: Factors) -> None:
        new, new_state = rule(p, g, state, factors)
        if new is not p:
            p[...] = new
        for old, now in zip(state, new_state, strict=True):
            if now is not old:
                old[...] = now

    return step


def _flat(numbers: list[int], parameters: list[Array], states: list[State]) -> _Segment:
    """A segment of several arrays; in the lists, views of the flat ones take their place."""
    if len(numbers) == 1:
        (i,) = numbers
        return _Rows(i, parameters[i], states[i], math.inf)
    first = parameters[numbers[0]]
    xp = array_namespace(first)
    sizes = [math.prod(parameters[i].shape) for i in numbers]

    def flat() -> tuple[Array, list[Array]]:
        whole = xp.zeros((sum(sizes),), dtype=first.dtype, device=first.device)
        views, start = [], 0
        for i, size in zip(numbers, sizes, strict=True):
            views.append(xp.reshape(whole[start : start + size], parameters[i].shape))
            start += size
        return whole, views

    p, of_p = flat()
    g, of_g = flat()
    of_states = [flat() for _ in states[numbers[0]]]
    for k, i in enumerate(numbers):
        of_p[k][...] = parameters[i]
        parameters[i] = of_p[k]
        for (_, views), old in zip(of_states, states[i], strict=True):
            views[k][...] = old
        states[i] = tuple(views[k] for _, views in of_states)
    return _Flat(numbers, p, g, tuple(whole for whole, _ in of_states), of_g)


def grouped(backend: Backend, slots: Sequence[Slot], optim: Optimizer | None) -> list[Group]:
    """The parameters in groups: all under one optimizer, or those whose own ones are alike.

    Raises:
        ValueError: two layers have one optimizer object.
    """
    trained = [slot for slot in slots if not slot.leaf.frozen]
    if optim is not None:
        return [Group(backend, [optim], [slots], range(len(trained)))] if trained else []
    leaves: dict[int, list[int]] = {}
    owners: dict[int, Any] = {}
    for number, slot in enumerate(trained):
        leaves.setdefault(id(slot.leaf), []).append(number)
        owner = owners.setdefault(id(slot.leaf.optim), slot.leaf)
        if owner is not slot.leaf:
            raise ValueError(
                f"the layers {owner.name} and {slot.leaf.name} have one optimizer object, whose "
                "state belongs to one of them; give each its own, optim.clone(), or the network "
                "one for all: SequentialNet(..., optim=...)"
            )
    alike: list[list[list[int]]] = []
    for numbers in leaves.values():
        optimizer = trained[numbers[0]].leaf.optim
        for group in alike:
            if optimizer.alike(trained[group[0][0]].leaf.optim):
                group.append(numbers)
                break
        else:
            alike.append([numbers])
    return [
        Group(
            backend,
            [trained[numbers[0]].leaf.optim for numbers in group],
            [[trained[number] for number in numbers] for numbers in group],
            [number for numbers in group for number in numbers],
        )
        for group in alike
    ]


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
