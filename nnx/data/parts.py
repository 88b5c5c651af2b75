"""Samples of several shapes, as parts of equal shape.

A network whose input_shape has free axes, None, takes a list of arrays that differ there:
sequences of several lengths. The samples of one shape form a part, which is one array. A part
knows the indices of its samples, so that errors can name them and predictions return in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.backend import Array, Backend
from nnx.checks import ShapeError
from nnx.data.arrays import as_inputs, converted, fits, kept_dtype
from nnx.data.containers import items, real_numbers
from nnx.data.rows import Rows

__all__ = ["checked_array", "equal_parts", "in_order", "selected", "taken"]


def equal_parts(net: Any, x: Any, name: str = "x") -> tuple[list[Array], list[np.ndarray] | None]:
    """Return the inputs as arrays of the backend, (samples, *shape) with one shape for each.

    Samples of one shape are a part, in the order in which the shapes first occur.

    Args:
        net: a network.
        x: inputs; a list of arrays of several shapes if input_shape has free axes.
        name: what errors call them.

    Returns:
        The parts, and for each the indices of its samples; None in place of the indices if x is
        not a list of samples for free axes, but one array of all.

    Raises:
        ShapeError, ValueError, TypeError: x does not fit, with what to do.
    """
    backend, shape = net.backend, net.input_shape
    listed = items(x) if None in shape else None
    if listed is None:
        return [checked_array(net, backend, x, name, kept=True)], None
    samples = [real_numbers(backend, one, f"{name}[{i}]") for i, one in enumerate(listed)]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(tuple(sample.shape), []).append(i)
    if len(groups) == 1:
        (given,) = groups
        if not fits(given, shape):  # the hints for an array suit these: "for a single sample"
            as_inputs(backend, shape, x, name)
    for given, (first, *_) in groups.items():
        if not fits(given, shape):
            reason = "drop the samples without a time step"
            if 0 not in given:
                reason = f"pass arrays of shape ({', '.join(map(str, shape))}) that differ only "
                reason += "where it says None"
            raise ShapeError(
                f"expected {name}[{first}] of shape ({', '.join(map(str, shape))}"
                f"{',' if len(shape) == 1 else ''}), got {given}; {reason}"
            )
    parts, indices = [], [np.asarray(group) for group in groups.values()]
    for group in indices:
        part = _stacked(backend, [samples[i] for i in group])
        try:
            net.check_inputs(part)
        except (TypeError, ValueError) as error:
            for i in group:
                _check_one(net, samples[i], f"{name}[{i}]")
            raise error
        parts.append(as_inputs(backend, shape, part, name))
    return parts, indices


def checked_array(net: Any, backend: Backend, x: Any, name: str, kept: bool) -> Array:
    """Return inputs (samples, *shape) of one shape as an array of the network's backend.

    Args:
        net: a network.
        backend: that of the network.
        x: inputs.
        name: what errors call them.
        kept: do they keep a small dtype? See `kept_dtype`.

    Raises:
        ShapeError, ValueError, TypeError: x does not fit, with what to do.
    """
    array, shape = real_numbers(backend, x, name), net.input_shape
    if 0 in array.shape[:1] or not fits(array.shape[1:], shape):
        as_inputs(backend, shape, x, name)  # raises; it sees what a remedy can begin with
    net.check_inputs(array)
    return converted(backend, array, kept_dtype(backend, array) if kept else backend.dtype, name)


def selected(
    backend: Backend, data: Any, name: str, samples: int, parts: Sequence[np.ndarray]
) -> list[Any]:
    """Return targets or weights of the samples in each part: one array for all, or a list of some.

    Raises:
        ShapeError: another number of samples, or arrays that differ in shape within a part.
    """
    listed = items(data)
    whole = None if listed is not None else real_numbers(backend, data, name)
    if whole is not None and whole.ndim == 0:
        raise ShapeError(f"expected {name} with one entry for each sample, got a single number")
    given = len(listed) if listed is not None else whole.shape[0]  # type: ignore[union-attr]
    if given != samples:
        x = name.replace("validation[1]", "validation[0]").replace("validation[2]", "validation[0]")
        x = x if x != name else "x"
        raise ShapeError(f"expected as many samples in {name} as in {x}, got {given} and {samples}")
    if whole is not None:
        if isinstance(whole, np.ndarray):
            return [whole[part] for part in parts]
        return [taken(backend, whole, part) for part in parts]
    arrays = [real_numbers(backend, one, f"{name}[{i}]") for i, one in enumerate(listed or [])]
    found = []
    for part in parts:
        first = arrays[part[0]]
        for i in part:
            if arrays[i].shape != first.shape:
                raise ShapeError(
                    f"expected {name}[{i}] of shape {tuple(first.shape)}, as {name}[{part[0]}] for "
                    f"an input of the same shape, got {tuple(arrays[i].shape)}; pass an entry for "
                    "each time step of its sample"
                )
        found.append(_stacked(backend, [arrays[i] for i in part]))
    return found


def in_order(net: Any, outputs: Sequence[Array], indices: Sequence[np.ndarray]) -> Any:
    """Return the outputs of all parts in the order of the samples.

    Args:
        net: the network that has given them.
        outputs: one array (samples, ...) for each part.
        indices: the samples of each part, from `equal_parts`.

    Returns:
        One array if the network's output_shape has no free axes, else a list of arrays.
    """
    xp = net.backend.xp
    if None not in net.output_shape:
        where = np.argsort(np.concatenate(indices))
        whole = outputs[0] if len(outputs) == 1 else xp.concat(list(outputs), axis=0)
        return taken(net.backend, whole, where)
    ordered: list[Any] = [None] * sum(len(part) for part in indices)
    for array, part in zip(outputs, indices, strict=True):
        for row, i in enumerate(part):
            ordered[i] = array[row, ...]
    return ordered


def taken(backend: Backend, array: Array, index: np.ndarray) -> Array:
    """Return the samples of these indices: of an array of the backend, of NumPy, or of `Rows`."""
    if isinstance(array, Rows):
        return array.taken(index)
    if isinstance(array, np.ndarray):
        return array[index]
    return backend.xp.take(array, backend.from_numpy(np.asarray(index)), axis=0)


def _stacked(backend: Backend, arrays: list[Any]) -> Any:
    """Return one array of several; arrays of the backend stay on its device."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np.stack(arrays)
    if all(backend.owns(array) and array.dtype == arrays[0].dtype for array in arrays):
        return backend.xp.stack(arrays)
    return np.stack([a if isinstance(a, np.ndarray) else backend.to_numpy(a) for a in arrays])


def _check_one(net: Any, sample: Any, name: str) -> None:
    """Check the values of one sample; the message names it."""
    try:
        net.check_inputs(sample[None, ...])
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error
