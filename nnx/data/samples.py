"""The data of a network, checked together: inputs, targets and weights."""

from __future__ import annotations

import logging
from typing import Any

from nnx.backend import Array
from nnx.checks import ShapeError
from nnx.data.arrays import (
    as_inputs,
    as_targets,
    as_weights,
    check_finite,
    unreachable_targets,
)

__all__ = ["checked_samples", "warn_of_targets"]


def checked_samples(
    net: Any,
    x: Any,
    y: Any,
    weights: Any = None,
    owner: str = "",
) -> tuple[Array, ...]:
    """Return the user's data as arrays of the network's backend: x, y and, if given, weights.

    Args:
        net: a network.
        x: inputs.
        y: targets.
        weights: of the samples, or of the time steps of a sequence.
        owner: what errors call the three together: "validation"; their own names if not given.

    Raises:
        ShapeError, ValueError, TypeError: they do not fit, with what to do.
    """
    backend, outputs = net.backend, net.output_shape
    names = [f"{owner}[{i}]" for i in range(3)] if owner else ["x", "y", "sample_weights"]
    net.check_inputs(x)
    x = as_inputs(backend, net.input_shape, x, names[0])
    y = as_targets(backend, outputs, y, names[1])
    if x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"expected as many samples in {names[1]} as in {names[0]}, got {y.shape[0]} and "
            f"{x.shape[0]}"
        )
    check_finite(x, names[0])
    if y.ndim > len(outputs):
        net.cost.check_targets(y)
    if weights is None:
        return x, y
    terms = (x.shape[0], *outputs)[net.cost.over]
    shapes = [terms[:axes] for axes in range(1, min(len(terms), len(outputs)) + 1)]
    return x, y, as_weights(backend, weights, shapes, names[2])


def warn_of_targets(net: Any, y: Array) -> None:
    """Log a warning if the last activation of a network cannot reach some checked targets."""
    if y.ndim == len(net.output_shape):
        return
    for afun in net.last_activations() or ():
        low, high = afun.range
        if message := unreachable_targets(net.backend, y, low, high, net.layers[-1].name, afun):
            logging.getLogger("nnx").warning(message)
