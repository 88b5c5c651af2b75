"""What the layers of sequences share: checks of shapes, padding."""

from __future__ import annotations

from typing import Any

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError
from nnx.layers._shapes import KNOWN, Shape
from nnx.layers.base import Layer


def padding_value(layer: Layer, value: Any) -> float | None:
    """Return a finite number, or None for no padding. NaN would equal nothing."""
    return None if value is None else checks.number(layer, "mask_value", value)


def check_input(layer: Layer, x: Array) -> None:
    """Refuse an array that the layer does not take.

    Raises:
        ShapeError: what the layer takes, and what came.
    """
    try:
        layer.output_shape(tuple(x.shape[1:]))
    except ShapeError as error:
        raise ShapeError(f"{layer.name} {error}, both without the samples") from None


def check_sequence(input_shape: Shape, features: int) -> int | None:
    """Return the time of a shape (time, features); None stands for any time.

    Raises:
        ShapeError: another shape.
    """
    if len(input_shape) != 2 or input_shape[1] != features or input_shape[0] == 0:
        remedy = f"; {KNOWN} for the features" if input_shape[1:] == (None,) else ""
        raise ShapeError(f"takes input of shape (time, {features}), got {input_shape}{remedy}")
    return input_shape[0]


def is_data(x: Array, mask_value: float | None) -> Array | None:
    """Return (samples, time, 1), False for padding; None if there is no padding."""
    if mask_value is None:
        return None
    return array_namespace(x).any(x != mask_value, axis=-1, keepdims=True)


def place(x: Array) -> Any:
    """Return the device of x; None, the default, for arrays that JAX traces."""
    return getattr(x, "device", None)
