"""Parameters that one rule steps together.

Layers hold their parameters as arrays of their own. Where arrays can be written in place, those
whose optimizers do the same are packed: small arrays become views of one flat array, so that a
rule is a few operations for all of them, and large ones go through the rule in blocks of rows that
stay in the cache. A rule works elementwise, so the results have the same bits. If the backend makes
one kernel of a rule, as many kernels as parameters are less work than to pack the gradients.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from nnx.backend import Array, Backend, array_namespace, to_numpy
from nnx.config import is_own
from nnx.layers.tree import ParameterState, Slot, state_of, take_step
from nnx.optimizers import Factors, Optimizer
from nnx.optimizers.base import check_rule

__all__ = ["Group", "grouped"]

COUNTS = ("t", "state", "changes", "others")  # of an optimizer: they do not change its rule
Arrays = tuple[Array, ...]
Rule = Callable[[Array, Array, Arrays, Factors], None]


class Group:
    """Parameters updated by optimizers with equal arguments.

    Args:
        backend: that of the parameters.
        optimizer: one of those optimizers.
        slots: all parameters of the network that are trained.
        numbers: the indices of those of the group.
    """

    def __init__(
        self, backend: Backend, optimizer: Optimizer, slots: Sequence[Slot], numbers: list[int]
    ) -> None:
        self.backend, self.optimizer = backend, optimizer
        self.slots, self.numbers = [slots[number] for number in numbers], numbers
        self.follows_rule = type(optimizer).update is Optimizer.update
        self.in_place = self.follows_rule and backend.mutable and optimizer.elementwise
        self.segments: list[_Segment] = []
        self.packed: list[tuple[Any, str, Array, ParameterState]] = []

    def step(self, gradients: list[Array]) -> None:
        """Make one step.

        It removes its gradients from the list, so that their memory is freed once they are used.
        """
        own: list[Array] = []
        for number in self.numbers:
            own.append(gradients[number])
            gradients[number] = None
        if not self.in_place:
            take_step(self.optimizer, self.slots, own)
            return
        for layer, name, array, state in self.packed:
            if layer.parameters[name] is not array or layer.states.get(name) is not state:
                self.segments = []  # somebody has assigned others
                break
        if not self.segments:
            self._pack(own)
        optimizer = self.optimizer
        if optimizer.clip is not None:
            own = optimizer.clip(own)
        t, factors = 0, Factors()
        for segment in self.segments:
            if segment.t + 1 != t:
                t = segment.t + 1
                factors = optimizer.factors_of(t)
            segment.step(own, self.rule, factors)

    def _pack(self, gradients: list[Array]) -> None:
        """Make the segments, with arrays of their own; if it fails, everything is as it was."""
        optimizer, block = self.optimizer, self.backend.block or math.inf
        parameters = [slot.array for slot in self.slots]
        optimizer.check(parameters, gradients)
        check_rule(optimizer, parameters[0])
        states = [state_of(optimizer, slot) for slot in self.slots]
        fused = _fused(self.backend, optimizer, parameters[0])
        self.rule = fused or _in_place(optimizer.rule)
        segments: list[_Segment] = []
        small: dict[Any, list[int]] = {}  # by step and dtype: the indices of one flat array
        for i, (p, state) in enumerate(zip(parameters, states, strict=True)):
            size, key = math.prod(p.shape), (state.t, p.dtype)
            if fused or size >= block / 4:  # to copy its gradient takes more than it saves
                segments.append(_Segment([i], parameters, states, block))
                continue
            others = small.setdefault(key, [])
            if others and size + sum(math.prod(parameters[j].shape) for j in others) > block:
                segments.append(_Segment(others, parameters, states, block))
                others = small[key] = []
            others.append(i)
        segments += [_Segment(of, parameters, states, block) for of in small.values() if of]
        self.packed = []
        for segment in segments:
            for i, p, arrays in segment.parts:
                slot = self.slots[i]
                slot.layer.parameters[slot.name], states[i].arrays = p, arrays
                self.packed.append((slot.layer, slot.name, p, states[i]))
        self.segments = segments


class _Segment:
    """Parameters that go through the rule together: one in blocks of rows, or several as one.

    All arrays are new ones: nobody else has read them, and they can be written.

    Attributes:
        parts: of each parameter its index, its array and those of its state.
        t: the number of steps so far.
    """

    def __init__(
        self,
        numbers: list[int],
        parameters: list[Array],
        states: list[ParameterState],
        block: float,
    ) -> None:
        self.numbers, self.states = numbers, [states[i] for i in numbers]
        self.t = self.states[0].t
        p, of_p = _joined([parameters[i] for i in numbers])
        joined = [_joined(arrays) for arrays in zip(*(s.arrays for s in self.states), strict=True)]
        of_states = list(zip(*(parts for _, parts in joined), strict=True)) or [()] * len(numbers)
        self.parts = list(zip(numbers, of_p, of_states, strict=True))
        self.rows = _rows(p, block)
        self.blocks = [(p[rows], tuple(whole[rows] for whole, _ in joined)) for rows in self.rows]
        self.g: Array | None = None
        if len(numbers) > 1:
            self.g, self.of_g = _joined(of_p)

    def step(self, gradients: list[Array], rule: Rule, factors: Factors) -> None:
        """Apply the rule, block for block."""
        g = self.g
        if g is None:
            g = gradients[self.numbers[0]]
        else:
            for number, part in zip(self.numbers, self.of_g, strict=True):
                part[...] = gradients[number]
                gradients[number] = None
        for rows, (p, state) in zip(self.rows, self.blocks, strict=True):
            rule(p, g[rows], state, factors)
        self.t += 1
        for of_parameter in self.states:
            of_parameter.t = self.t


def grouped(
    backend: Backend, owners: Sequence[tuple[Optimizer, list[int]]], slots: Sequence[Slot]
) -> list[Group]:
    """Return the parameters in groups: one for all optimizers with equal arguments.

    An optimizer that clips has a group of its own: a norm is that of its own gradients. So has one
    that defines `update` itself.

    Args:
        backend: that of the parameters.
        owners: optimizers, each with the indices of its parameters.
        slots: the parameters, in the order of their gradients.
    """
    groups: list[tuple[Optimizer, list[int]]] = []
    for optimizer, numbers in owners:
        for lead, together in groups:
            if _alike(lead, optimizer):
                together += numbers
                break
        else:
            groups.append((optimizer, numbers))
    return [Group(backend, lead, slots, sorted(numbers)) for lead, numbers in groups]


def _alike(one: Optimizer, other: Optimizer) -> bool:
    """Do both make the same steps, array by array?"""
    if type(one) is not type(other) or type(one).update is not Optimizer.update or one.clip:
        return False
    mine = {n: v for n, v in vars(one).items() if n not in COUNTS and n[0] != "_"}
    theirs = {n: v for n, v in vars(other).items() if n not in COUNTS and n[0] != "_"}
    return bool(mine == theirs)


def _fused(backend: Backend, optimizer: Optimizer, p: Array) -> Rule | None:
    """Return the optimizer's rule as one kernel, if the backend makes one of it.

    A rule of the user may inherit `fusible` and do what cannot be fused: sum, read a value, or
    compute with two numbers, for which a library may use half precision. It is tried on a few
    numbers first. If it fails, its class is not fusible from then on.
    """
    if not optimizer.fusible:
        return None
    fused = backend.fuse_rule(optimizer.rule, len(optimizer.init(p)))
    kind = type(optimizer)
    if fused is None or is_own(kind):
        return fused
    xp, shape = array_namespace(p), tuple(min(n, 2) for n in p.shape)
    few = xp.arange(math.prod(shape), dtype=p.dtype, device=p.device)
    old, g = xp.reshape(few / 7.0, shape), xp.reshape(few * 0.3 + 0.1, shape)
    factors, stepped = optimizer.factors_of(1), []
    try:
        for rule in (_in_place(optimizer.rule), fused):
            new = xp.asarray(old, copy=True)
            state = optimizer.init(new)
            rule(new, g, state, factors)
            stepped.append((new, *state))
        for one, other in zip(*stepped, strict=True):
            error = xp.abs(one - other) - 1e-5 * (xp.abs(one) + xp.abs(other) + old)
            if not float(to_numpy(xp.max(error))) <= 0.0:
                raise ValueError("it gives other numbers then")
    except Exception as error:  # of the library or of its compiler: whatever tracing has met
        logging.getLogger("nnx").warning(
            "%s.rule cannot be fused to one kernel: %s: %s; it is computed operation by operation. "
            "Set `fusible = False` in %s, or write the rule with elementwise array functions alone",
            kind.__name__,
            type(error).__name__,
            str(error).strip().partition("\n")[0],
            kind.__name__,
        )
        kind.fusible = False
        return None
    return fused


def _joined(arrays: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Return a new array that holds them all, and each as a part of it; one keeps its shape."""
    xp: Any = array_namespace(arrays[0])
    if len(arrays) == 1:
        whole = xp.asarray(arrays[0], copy=True)
        return whole, [whole]
    whole = xp.concat([xp.reshape(array, (-1,)) for array in arrays])
    parts, start = [], 0
    for array in arrays:
        size = math.prod(array.shape)
        parts.append(xp.reshape(whole[start : start + size], array.shape))
        start += size
    return whole, parts


def _rows(p: Array, block: float) -> list[Any]:
    """Return the indices of blocks of rows, views of an array whatever its layout."""
    count = math.ceil(math.prod(p.shape) / block)
    count = min(count, p.shape[0]) if p.ndim else 1
    if count <= 1:
        return [...]
    edges = [p.shape[0] * i // count for i in range(count + 1)]
    return [(slice(a, b), ...) for a, b in pairwise(edges)]


def _in_place(rule: Callable[..., Any]) -> Rule:
    """Return the rule; what it returns as a new array is written to the old one."""

    def step(p: Array, g: Array, state: Arrays, factors: Factors) -> None:
        new, new_state = rule(p, g, state, factors)
        if new is not p:
            p[...] = new
        for old, now in zip(state, new_state, strict=True):
            if now is not old:
                old[...] = now

    return step
