"""What the layers of sequences share: checks of arguments and shapes, padding."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from nnx.backend import Array, array_namespace
from nnx.initializers import Initializer
from nnx.checks import ShapeError
from nnx.layers.base import Layer
from nnx.regularizers import Regularizer


def size(owner: str, name: str, value: Any) -> int:
    """A positive integer; True is none."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{owner}: expected a positive integer {name}, got {value!r}")
    return int(value)


def flag(owner: str, name: str, value: Any) -> bool:
    """True or False, nothing that is only like them."""
    if not isinstance(value, bool):
        raise ValueError(f"{owner}: expected {name} to be True or False, got {value!r}")
    return value


def padding_value(owner: str, value: Any) -> float | None:
    """A finite number, or None: NaN would be equal to nothing."""
    if value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{owner}: expected mask_value to be a finite number, got {value!r}")
    return float(value)


def penalties(layer: Layer, **given: Any) -> None:
    """The penalties of a layer, by the names of their parameters; None is none.

    Raises:
        TypeError: something else than a regularizer.
    """
    for name, regularizer in given.items():
        expect(layer.name, Regularizer | None, regularizer, "L2Regularizer(0.01)")
        if regularizer is not None:
            layer.regularizers[name] = regularizer


def expect(owner: str, kind: Any, given: Any, example: str) -> None:
    """Refuse what is no object of that kind.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(given, kind):
        raise TypeError(f"{owner}: expected an object such as {example}, got {given!r}")


def initializer_of(owner: str, given: Any, default: type[Initializer]) -> Initializer:
    """The initializer given, or a default one."""
    expect(owner, Initializer | None, given, f"{default.__name__}()")
    return given or default()


def check_input(layer: Layer, x: Array) -> None:
    """Refuse an array that the layer does not take.

    Raises:
        ShapeError: what the layer takes, and what came.
    """
    try:
        layer.output_shape(tuple(x.shape[1:]))
    except ShapeError as error:
        raise ShapeError(f"{layer.name} {error}, both without the samples") from None


def check_sequence(input_shape: tuple[int | None, ...], features: int) -> int | None:
    """The time of a shape (time, features); None where any is meant.

    Raises:
        ShapeError: another shape.
    """
    if len(input_shape) != 2 or input_shape[1] != features or input_shape[0] == 0:
        raise ShapeError(f"takes input of shape (time, {features}), got {input_shape}")
    return input_shape[0]


def is_data(x: Array, mask_value: float | None) -> Array | None:
    """(samples, time, 1): False where a time step is padding; None where there is no padding."""
    if mask_value is None:
        return None
    return array_namespace(x).any(x != mask_value, axis=-1, keepdims=True)


def place(x: Array) -> Any:
    """Where x is; None, the default, in a trace of JAX, whose arrays are nowhere yet."""
    return getattr(x, "device", None)
