"""Loops over the first axis of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnx.backend.namespace import Array, array_namespace, owner_of

__all__ = ["by_array", "plain_scan", "scan", "whole"]

Step = Callable[[Any, Any], tuple[Any, Any]]


def scan(step: Step, carry: Any, rows: Any, reverse: bool = False) -> tuple[Any, Any]:
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
    """
    owner = owner_of(carry[0])
    own = None if owner is None else owner.scan(step, carry, rows, reverse)
    return plain_scan(step, carry, rows, reverse) if own is None else own


def plain_scan(step: Step, carry: Any, rows: Any, reverse: bool = False) -> tuple[Any, Any]:
    """Return the same as `scan`, by a loop in Python.

    Arrays that can be written hold the outputs from the first step on, since CuPy stacks no more
    than a few arrays without waiting.
    """
    owner, xp = owner_of(carry[0]), array_namespace(carry[0])
    parts = [[xp.unstack(a) for a in group] for group in rows]
    steps = next(len(arrays) for group in parts for arrays in group)
    buffers: Any = None
    outputs = []
    for t in range(steps)[:: -1 if reverse else 1]:
        carry, output = step(carry, [[arrays[t] for arrays in group] for group in parts])
        if owner is None or not owner.mutable:
            outputs.append(output)
            continue
        if buffers is None:
            buffers = tuple(tuple(_many(a, steps) for a in group) for group in output)
        for own, group in zip(buffers, output, strict=True):
            for buffer, a in zip(own, group, strict=True):
                buffer[t, ...] = a
    if buffers is None:
        buffers = by_array(outputs[:: -1 if reverse else 1])
    return carry, buffers


def _many(a: Array, steps: int) -> Array:
    """Return an array for as many arrays like this one."""
    return array_namespace(a).empty((steps, *a.shape), dtype=a.dtype, device=a.device)


def by_array(outputs: list[Any]) -> Any:
    """Return the outputs of the steps as one, with a list in place of each array."""
    return tuple(
        tuple(list(arrays) for arrays in zip(*groups, strict=True))
        for groups in zip(*outputs, strict=True)
    )


def whole(arrays: Array | list[Array]) -> Array:
    """Return an output of `scan` as an array (steps, ...)."""
    return array_namespace(arrays[0]).stack(arrays) if isinstance(arrays, list) else arrays
