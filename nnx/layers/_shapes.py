"""Shapes of samples whose axes may have any length, which is written None.

A layer computes with the lengths that it knows. What follows from None is None, and is checked when
an array comes, whose lengths are all known.
"""

from __future__ import annotations

import math
from typing import Any

from nnx.checks import ShapeError

__all__ = ["KNOWN", "Shape", "fits", "merged", "output_shape", "product", "told", "total"]

# The shape of a sample: the length of each axis, or None for any length.
Shape = tuple[Any, ...]

KNOWN = "give the network's input shape without None"


def total(*lengths: int | None) -> Any:
    """Return the sum of lengths; None if one of them is None."""
    return None if None in lengths else sum(lengths)


def product(*lengths: int | None) -> Any:
    """Return the product of lengths; None if one of them is None."""
    return None if None in lengths else math.prod(lengths)


def fits(shape: Shape, other: Shape) -> bool:
    """Can an array have both shapes? None is any length."""
    return len(shape) == len(other) and all(
        m == n or m is None or n is None for m, n in zip(shape, other, strict=True)
    )


def merged(shape: Shape, *others: Shape) -> Shape | None:
    """Return what is known of an array that has all these shapes; None if none can have them."""
    for other in others:
        if not fits(shape, other):
            return None
        shape = tuple(n if m is None else m for m, n in zip(shape, other, strict=True))
    return shape


def output_shape(layer: Any, shape: Shape) -> Shape:
    """Return `layer.output_shape(shape)`.

    Raises:
        ShapeError: the layer does not take that input, or cannot compute with None.
    """
    try:
        return layer.output_shape(shape)
    except TypeError as error:
        if None not in shape:
            raise
        raise told(layer, shape, error) from error


def told(layer: Any, shape: Shape, error: Exception) -> Exception:
    """Return an error of `output_shape`; a TypeError because of None as a ShapeError."""
    if isinstance(error, ShapeError) or None not in shape:
        return error
    return ShapeError(
        f"does not take axes of any length: {type(layer).__name__}.output_shape({shape}) raises "
        f"TypeError, {error}; handle None in it, or {KNOWN}"
    )
