"""The data of a network, checked together: inputs, targets and weights.

A result is a list of parts, (x, y) or (x, y, weights): arrays of the network's backend, with
samples of one shape in each part. Ordinary data is a list of one part.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np

from nnx.backend import Array
from nnx.checks import ShapeError
from nnx.data import weighing
from nnx.data.arrays import (
    as_targets,
    as_weights,
    check_finite,
    is_classification,
    on_host,
    unreachable_targets,
    unsuited_classes,
)
from nnx.data.division import held_out
from nnx.data.host import HostSide
from nnx.data.parts import equal_parts, selected, taken
from nnx.data.rows import Rows
from nnx.data.sources import Parts
from nnx.data.streaming import input_rows, on_this_host, target_rows

__all__ = [
    "are_classes",
    "checked_samples",
    "described",
    "training_data",
    "warn_of_targets",
]

FIRST = 1024  # samples that stand for all, of targets that are on disk


class _Checked(NamedTuple):
    """A part before labels that do not count and weights of classes become weights."""

    x: Array
    y: Array
    weights: Array | None
    ignored: np.ndarray | None  # which class indices do not count
    outputs: tuple[int, ...]  # the shape of one output for these inputs


def checked_samples(
    net: Any,
    x: Any,
    y: Any,
    weights: Any = None,
    owner: str = "",
    *,
    ignore_label: int | None = None,
    class_weights: Any = None,
    on_device: bool | None = True,
) -> Parts:
    """Return the user's data as parts of the network's backend.

    Args:
        net: a network.
        x: inputs; for an input_shape with free axes, also a list of arrays that differ there.
        y: targets; for such a list, a list of arrays too, or one entry for each sample.
        weights: of the samples, or of the time steps of a sequence; a list of these for a list.
        owner: what errors call the three together: "validation"; their own names if not given.
        ignore_label: a label that does not count: see `nnx.data.weighing`.
        class_weights: "balanced", {class: weight} or one for each class; they multiply the others.
        on_device: move the inputs to the device, see `input_rows`; if they stay on the host, a part
            has `Rows` of inputs, and NumPy arrays.

    Raises:
        ShapeError, ValueError, TypeError: they do not fit, with what to do.
    """
    label = weighing.checked_ignore_label(ignore_label)
    names = _names(owner)
    checked = _checked(net, x, y, weights, names, label, on_device)
    return _weighed(net, checked, names, label, class_weights)


def training_data(
    net: Any,
    x: Any,
    y: Any,
    weights: Any = None,
    *,
    validation: Any = None,
    ignore_label: int | None = None,
    class_weights: Any = None,
    on_device: bool | None = True,
) -> tuple[Parts, Parts | None]:
    """Return the parts to train with, and those of the validation if there is one.

    The weights of the classes are for training alone; the label that does not count is the same
    in both. A fraction is taken out of the samples by `split` before anything is counted.

    Args:
        validation: what `checked_validation` returns: a fraction, data of its own, or None.
        net, x, y, weights, ignore_label, class_weights, on_device: those of `checked_samples`.

    Raises:
        ShapeError, ValueError, TypeError: they do not fit, with what to do.
    """
    label = weighing.checked_ignore_label(ignore_label)
    names = _names("")
    checked = _checked(net, x, y, weights, names, label, on_device)
    if isinstance(validation, float):
        checked, held = _split(net, checked, validation)
        valid = _weighed(net, held, [f"the validation's part of {n}" for n in names], label, None)
    elif validation is not None:
        x, y, weights = (*validation, None)[:3]
        valid = checked_samples(
            net, x, y, weights, "validation", ignore_label=label, on_device=on_device
        )
    else:
        valid = None
    return _weighed(net, checked, names, label, class_weights), valid


def are_classes(net: Any, parts: Parts) -> bool:
    """Return whether the targets of all parts are classes; see `is_classification`."""
    outputs, per_entry = net.output_shape, net.cost.per_entry
    return all(
        is_classification(net.backend, outputs, _known(part[1]), per_entry) for part in parts
    )


def warn_of_targets(net: Any, parts: Parts) -> None:
    """Log a warning of checked targets that do not go with the end of a network.

    Class indices go with a loss of classes, not with one of real numbers or of separate questions;
    rows should be within reach of the last activation.
    """
    if parts[0][1].ndim == len(net.output_shape):
        if net.cost.per_entry or not hasattr(net.cost, "class_weights"):
            message = unsuited_classes(net.cost, net.last_activations() or (), net.output_shape[-1])
            if message:
                logging.getLogger("nnx").warning(message)
        return
    bounded = [f for f in net.last_activations() or () if f.range != (-np.inf, np.inf)]
    if not bounded:
        return
    rows = [on_host(net.backend, _known(part[1])) for part in parts]
    for afun in bounded:
        if message := unreachable_targets(rows, net.layers[-1].name, afun):
            logging.getLogger("nnx").warning(message)


def described(parts: Parts, x: Any, y: Any) -> dict[str, Any]:
    """Return what tells one set of data from another, as plain data.

    Args:
        parts: the checked data.
        x: the inputs as they were given.
        y: the targets as they were given.
    """
    return {
        "samples": sum(part[0].shape[0] for part in parts),
        "x": {"shapes": [list(part[0].shape) for part in parts], "dtype": _dtype_name(x)},
        "y": {"shapes": [list(part[1].shape) for part in parts], "dtype": _dtype_name(y)},
        "weights": len(parts[0]) > 2,
        **({"on_device": False} if isinstance(parts[0][0], Rows) else {}),
    }


def _known(y: Any) -> Any:
    """Return targets, or the first of them if they are on disk."""
    return y.read(np.arange(min(FIRST, y.shape[0]))) if isinstance(y, Rows) else y


def _all(y: Any) -> Any:
    """Return targets, read as a whole if they are on disk."""
    return y.read(np.arange(y.shape[0])) if isinstance(y, Rows) else y


def _names(owner: str) -> list[str]:
    return [f"{owner}[{i}]" for i in range(3)] if owner else ["x", "y", "sample_weights"]


def _checked(
    net: Any,
    x: Any,
    y: Any,
    weights: Any,
    names: list[str],
    label: int | None,
    on_device: bool | None,
) -> list[_Checked]:
    """Return the checked parts of the data."""
    backend = net.backend
    if (rows := input_rows(net, x, names[0], on_device)) is not None:
        return [_checked_part(net, rows, y, weights, None, names, label)]
    inputs, indices = equal_parts(net, x, names[0])
    if indices is None:
        every = [(inputs[0], y, weights, None)]
    else:
        samples = sum(map(len, indices))
        ys = selected(backend, y, names[1], samples, indices)
        ws: list[Any] = [None] * len(inputs)
        if weights is not None:
            ws = selected(backend, weights, names[2], samples, indices)
        every = list(zip(inputs, ys, ws, indices, strict=True))  # type: ignore[arg-type]
    return [_checked_part(net, *part, names, label) for part in every]


def _checked_part(
    net: Any,
    x: Array,
    y: Any,
    weights: Any,
    indices: np.ndarray | None,
    names: list[str],
    label: int | None,
) -> _Checked:
    backend: Any = net.backend
    try:
        outputs = net.shapes(tuple(x.shape[1:]), "the network's input is")[-1]
    except ShapeError as error:
        if indices is None:
            raise
        raise ShapeError(f"{names[0]}[{indices[0]}]: {error}") from error
    if isinstance(x, Rows):
        backend = HostSide(backend)
        y, weights = target_rows(net, y, outputs, names[1]), on_this_host(net.backend, weights)
    ignored = None
    if label is not None:
        y, ignored = weighing.without_ignored(backend, len(outputs), _all(y), label, names[1])
    if not isinstance(y, Rows):
        y = as_targets(backend, outputs, y, names[1], indices)
    if x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"expected as many samples in {names[1]} as in {names[0]}, got {y.shape[0]} and "
            f"{x.shape[0]}; pass one target for each sample"
        )
    if not isinstance(x, Rows):
        check_finite(x, names[0], indices)
    if not isinstance(y, Rows) and y.ndim > len(outputs):
        net.cost.check_targets(y)
    if weights is not None:
        terms = (x.shape[0], *outputs)[net.cost.over]
        shapes = [terms[:axes] for axes in range(1, min(len(terms), len(outputs)) + 1)]
        weights = as_weights(backend, weights, shapes, names[2], indices)
    return _Checked(x, y, weights, ignored, outputs)


def _weighed(
    net: Any, parts: list[_Checked], names: list[str], label: int | None, class_weights: Any
) -> Parts:
    """Return the parts with the weights that all wishes together give."""
    masks = [part.ignored for part in parts if part.ignored is not None]
    ignores = any(mask.any() for mask in masks)
    if not ignores and class_weights is None:
        plain = [(p.x, p.y) if p.weights is None else (p.x, p.y, p.weights) for p in parts]
        return _not_all_zero(net, plain, names[2])
    factors = [np.asarray(1.0)] * len(parts)
    if class_weights is not None:
        factors = _factors_of_classes(net, parts, names[1], class_weights)
    if ignores:
        scale = weighing.scale(masks, label, names[1])  # type: ignore[arg-type]
        factors = [f * ~mask * scale for f, mask in zip(factors, masks, strict=True)]
    found, backend = [], net.backend
    for part, factor in zip(parts, factors, strict=True):
        if factor.ndim > len((part.x.shape[0], *part.outputs)[net.cost.over]):
            what = "ignore_label" if ignores else "class_weights"
            raise ValueError(
                f"expected a loss that is a mean over the time steps, because {what} weighs each "
                f"of them, got {net.cost!r}; give the network CrossEntropy(), or "
                "BinaryCrossEntropy() for a single output"
            )
        if part.weights is not None:
            given = on_host(backend, part.weights)
            factor = factor * given.reshape(*given.shape, *[1] * (factor.ndim - given.ndim))
        side: Any = HostSide(backend) if isinstance(part.x, Rows) else backend
        found.append((part.x, part.y, side.asarray(factor, dtype=side.dtype)))
    return _not_all_zero(net, found, names[2])


def _factors_of_classes(
    net: Any, parts: list[_Checked], name: str, class_weights: Any
) -> list[np.ndarray]:
    """Return the weight of the class of each term."""
    outputs = parts[0].outputs[-1]
    numbers = max(outputs, 2)
    counts, found = np.zeros(numbers, dtype=np.int64), []
    for part in parts:
        y = on_host(net.backend, _all(part.y))
        per_entry = net.cost.per_entry
        classes = weighing.classes_of_terms(y, len(part.outputs), outputs, per_entry)
        if classes is None:
            raise ValueError(
                f"expected {name} as class indices, one-hot rows, or 0 and 1 for a single output, "
                "because class_weights are given, got other rows; pass sample_weights instead"
            )
        found.append(classes)
        counted = classes if part.ignored is None else classes[~part.ignored]
        counts += np.bincount(counted.reshape(-1), minlength=numbers)
    factors = weighing.class_factors(class_weights, counts)
    return [factors[classes] for classes in found]


def _not_all_zero(net: Any, parts: Parts, name: str) -> Parts:
    """Refuse weights of which none is above 0."""
    if len(parts[0]) > 2 and not any((on_host(net.backend, part[2]) > 0).any() for part in parts):
        raise ValueError(
            f"expected a weight above 0 for some sample, got {name} and class weights whose "
            "products are all 0; leave them out, or give some samples a weight"
        )
    return parts


def _split(
    net: Any, parts: list[_Checked], fraction: float
) -> tuple[list[_Checked], list[_Checked]]:
    """Return the parts without a fraction of the samples, and those with it."""
    sizes = [part.x.shape[0] for part in parts]
    held = held_out(sum(sizes), fraction, _strata(net, parts))
    sides: tuple[list[_Checked], list[_Checked]] = ([], [])
    starts = np.cumsum([0, *sizes])
    for part, start, stop in zip(parts, starts, starts[1:], strict=False):
        mine = held[(held >= start) & (held < stop)] - start
        others = np.setdiff1d(np.arange(stop - start), mine)
        for side, index in zip(sides, (others, mine), strict=True):
            if len(index):
                side.append(_taken(net, part, index))
    return sides


def _strata(net: Any, parts: list[_Checked]) -> np.ndarray | None:
    """Return the class of each sample; None if the targets are not one class for each."""
    found = []
    for part in parts:
        outputs = part.outputs
        y = on_host(net.backend, _all(part.y))
        if len(outputs) > 1:
            return None
        classes = weighing.classes_of_terms(y, 1, outputs[-1], net.cost.per_entry)
        if classes is None:
            return None
        found.append(classes if part.ignored is None else np.where(part.ignored, -1, classes))
    return np.concatenate(found)


def _taken(net: Any, part: _Checked, index: np.ndarray) -> _Checked:
    weights = part.weights
    return _Checked(
        taken(net.backend, part.x, index),
        taken(net.backend, part.y, index),
        weights if weights is None else taken(net.backend, weights, index),
        part.ignored if part.ignored is None else part.ignored[index],
        part.outputs,
    )


def _dtype_name(data: Any) -> str:
    """Return "uint8" or "float32" without the name of the library, or the container's type."""
    dtype = getattr(data, "dtype", None)
    name = getattr(dtype, "name", None) or (str(dtype) if dtype is not None else "")
    return name.rpartition(".")[2] or type(data).__name__
