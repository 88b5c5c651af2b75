"""Loops over the first axis of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnx.backend.namespace import Array, array_namespace, owner_of

__all__ = [
    "by_array",
    "fuses_steps",
    "joining",
    "last_places",
    "plain_scan",
    "samples_first",
    "scan",
    "steps_at_a_time",
    "whole",
]

Step = Callable[[Any, Any], tuple[Any, Any]]


def scan(
    step: Step, carry: Any, rows: Any, reverse: bool = False, join: int | None = None
) -> tuple[Any, Any]:
    """Apply a function step by step; return the last carry and the outputs of all steps.

    The outputs are those of one step, with an array (steps, ...) in place of each array, or a list
    of the steps' arrays, of which `whole` makes one: who needs no outputs pays for no stack.

    By the library's own way if its backend has one (`Backend.scan`), else by `plain_scan`.

    Args:
        step: (carry, row) -> (carry, output). It only computes, since it may be traced once.
        carry: a tuple of arrays, whose shapes stay.
        rows: groups of arrays (steps, ...), as a tuple of tuples, of which step t gets the parts t.
            An output is made of groups too.
        reverse: begin with the last step. The output of step t stays at t.
        join: an axis, -1 or -2, or None. With it, a step finds the carry's first array in the last
            places along this axis of the first array of its row. All of these are an additional
            first group of the outputs; the array in `rows` may be written.
    """
    owner = owner_of(carry[0])
    own = None if owner is None else owner.scan(step, carry, rows, reverse, join)
    return plain_scan(step, carry, rows, reverse, join) if own is None else own


def plain_scan(
    step: Step, carry: Any, rows: Any, reverse: bool = False, join: int | None = None
) -> tuple[Any, Any]:
    """Return the same as `scan`, by a loop in Python.

    Arrays that can be written hold the outputs from the first step on, since CuPy stacks no more
    than a few arrays without waiting.
    """
    owner = owner_of(carry[0])
    if owner is None or not owner.mutable:
        return _listing_scan(step, carry, rows, reverse, join)
    xp = array_namespace(carry[0])
    parts = [[xp.unstack(a) for a in group] for group in rows]
    ends = None if join is None else xp.unstack(last_places(rows[0][0], carry[0], join))
    steps = next(len(arrays) for group in parts for arrays in group)
    buffers: list[Array] = []
    for t in range(steps)[:: -1 if reverse else 1]:
        if ends is not None:
            ends[t][...] = carry[0]
        carry, output = step(carry, [[arrays[t] for arrays in group] for group in parts])
        found = [a for group in output for a in group]
        buffers = buffers or [_many(a, steps) for a in found]
        for buffer, a in zip(buffers, found, strict=True):
            buffer[t, ...] = a
    own = iter(buffers)
    outputs = tuple(tuple(next(own) for _ in group) for group in output)
    return carry, outputs if join is None else ((rows[0][0],), *outputs)


def _listing_scan(
    step: Step, carry: Any, rows: Any, reverse: bool, join: int | None
) -> tuple[Any, Any]:
    """The plain loop for arrays that cannot be written."""
    step = step if join is None else joining(step, join)
    steps = next(a.shape[0] for group in rows for a in group)
    outputs = []
    for t in range(steps)[:: -1 if reverse else 1]:
        carry, output = step(carry, [[a[t, ...] for a in group] for group in rows])
        outputs.append(output)
    return carry, by_array(outputs[:: -1 if reverse else 1])


def joining(step: Step, axis: int) -> Step:
    """Return a step that does by `concat` what `join` asks for."""

    def joined(carry: Any, row: Any) -> tuple[Any, Any]:
        (array, *others), *groups = row
        size = array.shape[axis] - carry[0].shape[axis]
        start = array[..., :size] if axis == -1 else array[..., :size, :]
        array = array_namespace(start).concat([start, carry[0]], axis=axis)
        carry, output = step(carry, ((array, *others), *groups))
        return carry, ((array,), *output)

    return joined


def last_places(array: Array, like: Array, axis: int) -> Array:
    """Return the last places of an array along an axis, -1 or -2, as many as another has."""
    start = array.shape[axis] - like.shape[axis]
    return array[..., start:] if axis == -1 else array[..., start:, :]


def fuses_steps(array: Array) -> bool:
    """Return whether what a step of a `scan` needs had better be computed in the step."""
    owner = owner_of(array)
    return owner is not None and owner.fuses_steps


def samples_first(array: Array) -> bool:
    """Return whether products in a loop over time are faster with the samples first."""
    owner = owner_of(array)
    return owner is not None and owner.samples_first


def steps_at_a_time(like: Array, size: int, steps: int) -> int:
    """Return how many of the steps to compute at a time, if a step has arrays of this size."""
    owner = owner_of(like)
    block = None if owner is None else owner.block
    return steps if block is None else max(1, block // size)


def _many(a: Array, steps: int) -> Array:
    """Return an array for as many arrays like this one."""
    return array_namespace(a).empty((steps, *a.shape), dtype=a.dtype, device=a.device)


def by_array(outputs: list[Any]) -> Any:
    """Return the outputs of the steps as one, with a list in place of each array."""
    return tuple(
        tuple(list(arrays) for arrays in zip(*groups, strict=True))
        for groups in zip(*outputs, strict=True)
    )


def whole(arrays: Array | list[Array], few: slice = slice(None)) -> Array:
    """Return an output of `scan`, or some steps of it, as an array (steps, ...)."""
    if isinstance(arrays, list):
        return array_namespace(arrays[0]).stack(arrays[few])
    return arrays[few, ...]
