"""Standardized inputs: when `nnx train` puts a StandardizeLayer first, and what it is fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import nnx
from nnx.commands.files import Samples
from nnx.data import batches, held_out
from nnx.data.weighing import classes_of_terms
from nnx.layers.tree import once

__all__ = ["Notes", "fit", "prepared"]

BLOCK = 1024  # samples that are read at a time
PREPARE = (nnx.StandardizeLayer, nnx.RescalingLayer, nnx.EmbeddingLayer)


class Notes(nnx.Callback):
    """Lines that are shown when a training begins, and not if its arguments are wrong.

    Args:
        show: is called with each line.
        lines: the lines.
    """

    def __init__(self, show: Any, lines: Sequence[str]) -> None:
        self.show = show
        self.lines = lines

    def begin(self, run: Any) -> None:
        """Show the lines."""
        for line in self.lines:
            self.show(line)


def prepared(net: Any, samples: Samples, chosen: bool | None) -> tuple[Any, list[str]]:
    """Return the network, with a layer before the others that standardizes if needed, and lines.

    Args:
        net: the network of the layers that the user names.
        samples: the data.
        chosen: what the user says; None standardizes the rows of a file, unless the layers prepare
            them or the rows are bytes or tokens.

    Raises:
        ValueError: the user wants it beside a layer that prepares the inputs.
    """
    shape, layers = net.input_shape, [layer for _, layer in once(net)]
    own = [layer for layer in layers if isinstance(layer, PREPARE)]
    if own and chosen:
        raise ValueError(
            "expected --standardize with layers that leave the inputs as they are, got "
            f"{own[0]!r}; leave one of the two out"
        )
    if own or chosen is False or (samples.scaled and not chosen):
        return net, []
    if chosen or (samples.x.ndim == 2 and samples.x.dtype.kind in "fi"):
        slides = any(getattr(layer, "dimensions", 0) == 1 for layer in layers)
        axis = -1 if len(shape) == 2 and not slides else 1  # of sequences, or of channels
        n = shape[0 if axis == 1 else -1]
        what = "features" if axis == -1 or len(shape) == 1 else "channels"
        line = f"the inputs are standardized: each of the {n} {what} gets mean 0 and deviation 1"
        hint = "" if chosen else "; --no-standardize leaves them as they are"
        first = nnx.StandardizeLayer(n, axis)
        return nnx.SequentialNet(shape, [first, *net.layers], net.cost, net.optim), [line + hint]
    remedy = "--standardize gives each feature or channel mean 0 and deviation 1"
    if samples.x.dtype == np.uint8:
        remedy = "numbers from 0 to 1 are better: begin --layers with rescaling 1/255"
    what = f"{samples.x.dtype} of shape {shape}"
    return net, [f"the inputs, {what}, are taken as they are; {remedy}"]


def fit(net: Any, x: Any, y: Any, validation: Any) -> None:
    """Fit the layers that standardize to the samples of the training.

    Args:
        net: the network.
        x: the inputs.
        y: the targets as the network takes them.
        validation: the fraction of the samples that is kept for it, or None.

    Raises:
        ValueError, TypeError, ShapeError: the inputs are not finite numbers; or the layer is inside
            of another one.
    """
    found = [layer for _, layer in once(net) if isinstance(layer, nnx.StandardizeLayer)]
    if lost := [layer for layer in found if not any(layer is one for one in net.layers)]:
        raise ValueError(
            f"expected standardize between the other layers, got {lost[0]!r} inside of one; put it "
            "before that"
        )
    held = _held(net, x, y, validation) if found else None
    for i, layer in enumerate(net.layers):
        if isinstance(layer, nnx.StandardizeLayer):
            try:
                layer.fit(_inputs(net, i, x, held))
            except ValueError:
                layer.fit(_inputs(net, i, x, None))  # its message has the index in the file
                raise


def _inputs(net: Any, index: int, x: Any, held: Any) -> Iterator[Any]:
    """Yield what a layer gets in batches, without the samples that are held out."""
    for block in batches(len(x), BLOCK):
        rows = np.asarray(x[block])
        if held is not None:
            rows = rows[~held[block]]
        if len(rows) and index:
            rows = nnx.SequentialNet(net.input_shape, net.layers[:index]).predict(rows)
        yield rows


def _held(net: Any, x: Any, y: Any, validation: Any) -> Any:
    """Return which samples `train` keeps for the validation; None without one.

    Arguments that do not fit are refused by `train`.
    """
    outputs = net.output_shape
    if validation is None or not 0 < validation < 1 or len(x) != len(y) or len(x) < 2:
        return None
    classes = None
    if len(outputs) == 1:
        classes = classes_of_terms(np.asarray(y), 1, outputs[-1], net.cost.per_entry)
    held = np.zeros(len(x), dtype=bool)
    held[held_out(len(x), validation, classes)] = True
    return held
