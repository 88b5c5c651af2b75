"""The sources of a training, of a score and of a prediction, from what the user gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnx.backend import Array, Backend
from nnx.checks import count, flag
from nnx.data.arrays import check_finite
from nnx.data.containers import kind_of
from nnx.data.iterables import Batches, gives_batches
from nnx.data.parts import checked_array, equal_parts
from nnx.data.samples import checked_samples, training_data
from nnx.data.sources import Arrays, Source, block_of
from nnx.data.streaming import SMALL, input_rows
from nnx.layers.base import Layer
from nnx.layers.tree import Prepared, walk

__all__ = [
    "BATCH_SIZE",
    "KnownInputs",
    "checked_on_device",
    "input_source",
    "is_feed",
    "one_batch",
    "source_of",
    "step_size",
    "training_sources",
]

BATCH_SIZE = 10  # the default of `train`


def is_feed(x: Any, y: Any = None) -> bool:
    """Return whether x is an iterable of batches, which have the targets too.

    Raises:
        TypeError: it is, but there are targets beside it.
    """
    if not gives_batches(x) or (isinstance(x, list | tuple) and y is not None):
        return False
    if y is not None:
        raise TypeError(
            f"expected x as an array, because y is given, got {kind_of(x)}; for batches (x, y): "
            "leave out y; for samples: write list(x)"
        )
    return True


def checked_on_device(on_device: Any, owner: str = "train") -> bool | None:
    """Return True, False or None.

    Raises:
        TypeError: anything else.
    """
    return on_device if on_device is None else flag(owner, "on_device", on_device)


def training_sources(
    net: Any,
    data: tuple[Any, Any, Any],
    epochs: int,
    *,
    shuffle: bool | str,
    validation: Any,
    on_device: bool | None,
    **wishes: Any,
) -> tuple[Source, Source | None]:
    """Return the source to train with, and that of the validation if there is one.

    Args:
        net: a network.
        data: inputs, targets and sample weights; or an iterable of batches and None.
        epochs: how often the batches are needed.
        shuffle: how the order of an epoch is drawn.
        validation: what `checked_validation` returns, or an iterable of batches.
        on_device: see `input_rows`.
        wishes: class_weights and ignore_label; see `checked_samples`.

    Raises:
        ShapeError, ValueError, TypeError: they do not fit, with what to do.
    """
    feeds = is_feed(*data[:2])
    if feeds:
        given = {"sample_weights": data[2], **wishes, "on_device": on_device or None}
        _refuse_beside_batches({**given, "shuffle": shuffle if shuffle == "blocks" else None})
        if isinstance(validation, float):
            raise ValueError(
                f"train: expected validation as (x, y) or batches of its own, because x gives "
                f"batches, got the fraction {validation:g}; pass validation=(x, y)"
            )
    own = not isinstance(validation, float | tuple | None)
    if feeds:
        trained: Source = Batches(net, data[0], "x", epochs)
        parts = None
        if validation is not None and not own:
            label = wishes["ignore_label"]
            x, y, weights = (*validation, None)[:3]
            parts = checked_samples(
                net, x, y, weights, "validation", ignore_label=label, on_device=on_device
            )
    else:
        found, parts = training_data(
            net, *data, validation=None if own else validation, on_device=on_device, **wishes
        )
        shaped = hasattr(data[0], "shape") and hasattr(data[0], "dtype")
        block = block_of(data[0] if shaped else found[0][0])
        trained = Arrays(net.backend, found, block)
    if own:
        return trained, Batches(net, validation, "validation", epochs)
    return trained, None if parts is None else Arrays(net.backend, parts)


def source_of(
    net: Any,
    x: Any,
    y: Any,
    weights: Any,
    on_device: bool | None,
    ignore_label: Any,
) -> Source:
    """Return the source of a score.

    Raises:
        ShapeError, ValueError, TypeError: the data does not fit, with what to do.
    """
    if is_feed(x, y):
        _refuse_beside_batches(
            {"sample_weights": weights, "ignore_label": ignore_label, "on_device": on_device}
        )
        return Batches(net, x)
    parts = checked_samples(net, x, y, weights, ignore_label=ignore_label, on_device=on_device)
    return Arrays(net.backend, parts)


def input_source(
    net: Any, x: Any, on_device: bool | None
) -> tuple[Source, list[np.ndarray] | None]:
    """Return the source of a prediction, and the indices of the samples if x is a list of them.

    Raises:
        ShapeError, ValueError, TypeError: the data does not fit, with what to do.
    """
    if gives_batches(x) and not isinstance(x, list | tuple):
        _refuse_beside_batches({"on_device": on_device})
        return Batches(net, x, inputs=True), None
    rows, indices = input_rows(net, x, "x", on_device), None
    parts: list[Any] = [rows]
    if rows is None:
        parts, indices = equal_parts(net, x)
        for i, part in enumerate(parts):
            check_finite(part, "x", None if indices is None else indices[i])
    for part in parts:
        net.shapes(tuple(part.shape[1:]), "a sample of x is")
    return Arrays(net.backend, [(part,) for part in parts]), indices


def one_batch(
    net: Any, backend: Backend, x: Any, batch_size: int, on_device: bool | None
) -> Array | None:
    """Return checked inputs that need no source: an array that is one batch, in floats.

    None is for all others, which `input_source` takes: its 40 us are more than a prediction of one
    sample.

    Raises:
        ShapeError, ValueError, TypeError: the data does not fit, with what to do.
    """
    host = type(x) is np.ndarray
    if host:
        at_once = on_device or (on_device is None and x.nbytes < SMALL)
    else:
        at_once = on_device is not False and not isinstance(x, np.ndarray) and backend.owns(x)
    # A list of samples, in an array of objects, has one axis.
    if not at_once or len(shape := x.shape) < 2 or shape[0] > batch_size:
        return None
    known, sample = net.known_inputs, shape[1:]
    if known is None or known.shape != sample or known.changes != net.changes or known.stale:
        part = checked_array(net, backend, x, "x", kept=False)
        net.shapes(tuple(sample), "a sample of x is")
        vars(net)["known_inputs"] = KnownInputs(net, x, part)
    elif host and known.as_is and x.dtype == known.dtype and shape[0]:
        part = x
    else:
        part = checked_array(net, backend, x, "x", kept=False)
    if host and x.dtype.kind in "biu":
        return part
    # If the sum of squares is finite, so are all numbers: this takes 1 us. Large ones need a look.
    if not host or not math.isfinite(np.vdot(x, x)):
        check_finite(part, "x")
    return part


class KnownInputs(Prepared):
    """Inputs that a network takes, as long as it does not change: all of their shape and dtype.

    Args:
        net: a network.
        x: inputs that were checked.
        part: the same as an array of the network's backend.

    Attributes:
        shape: that of a sample.
        dtype: that of x.
        as_is: is x an array of the backend already, and does the first layer take any numbers?
        changes: of the network when they were checked.
    """

    def __init__(self, net: Any, x: Any, part: Array) -> None:
        self.shape, self.dtype, self.changes = tuple(x.shape[1:]), x.dtype, net.changes
        self.as_is = part is x and type(net.layers[0]).check_inputs is Layer.check_inputs
        _, *below = walk(net)  # without the network, which would hold itself
        self.watch((layer for _, layer in below), with_optimizers=False)
        self._lists.append((net.layers, net.layers.copy()))


def step_size(net: Any, source: Source, batch_size: Any) -> int:
    """Return how many samples a step takes, and check that the network can be trained with them.

    Raises:
        TypeError, ValueError: the batch size does not fit.
        ShapeError: a layer does not take a batch of this size.
    """
    if isinstance(source, Batches):
        if batch_size != BATCH_SIZE:
            _refuse_beside_batches({"batch_size": batch_size})
        return source.parts[0][0].shape[0]
    size = count("train", "batch_size", batch_size)
    if source.samples is not None:
        size = min(size, source.samples)
    for x, *_ in source.parts:
        for samples in {min(size, x.shape[0]), x.shape[0] % size} - {0}:
            net.check_batch(tuple(x.shape[1:]), samples)
    return size


def _refuse_beside_batches(arguments: dict[str, Any]) -> None:
    """Refuse arguments that have no meaning for an iterable of batches."""
    for name, value in arguments.items():
        if value is not None:
            remedy = "leave it out"
            if "weights" in name or "label" in name:
                remedy = "give weights in the batches: write yield x, y, weights"
            raise ValueError(
                f"expected no {name}, because x gives batches of its own, got {value!r:.60}; "
                f"{remedy}"
            )
