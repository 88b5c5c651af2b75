"""Layers that move numbers and leave them as they are."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from nnx.backend import Array, array_namespace
from nnx.layers._windows import images, numbers, pad, part, samples_first, samples_last, short
from nnx.checks import ShapeError
from nnx.layers.base import Backward, Layer

__all__ = [
    "FlattenLayer",
    "PermuteLayer",
    "ReshapeLayer",
    "UpSampling2DLayer",
    "ZeroPadding2DLayer",
]


class ReshapeLayer(Layer):
    """The numbers of a sample in another shape, row by row: y = reshape(x).

    Backward: dx = reshape(delta), the other way.

    Shapes: x (samples, *input_shape), y (samples, *shape).

    Args:
        shape: of a sample; one axis may be -1, it takes what is left.
        name: what messages call the layer.

    Raises:
        ValueError: the shape is not a tuple of positive integers and at most one -1.

    Source: ONNX operator Reshape.
    """

    def __init__(self, shape: Sequence[int], name: str | None = None) -> None:
        super().__init__(name=name)
        try:
            self.shape = tuple(map(operator.index, shape))
        except TypeError:
            self.shape = (0,)
        if any(n < 1 and n != -1 for n in self.shape) or self.shape.count(-1) > 1:
            raise ValueError(
                "ReshapeLayer: expected a tuple of positive integers, one of which may be -1, got "
                f"{shape!r}"
            )

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The reshape, and delta -> its reshape back."""
        return _reshaped(x, self.output_shape(x.shape[1:]))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """input_shape -> shape."""
        known, size = math.prod(n for n in self.shape if n > 0), math.prod(input_shape)
        if -1 in self.shape:
            if size % known or size == 0:
                raise ShapeError(
                    f"gives shape {self.shape}, got input of shape {tuple(input_shape)}: its "
                    f"{size} numbers are no multiple of {known}"
                )
            return tuple(size // known if n == -1 else n for n in self.shape)
        if known != size:
            raise ShapeError(
                f"gives shape {self.shape} of {known} numbers, got input of shape "
                f"{tuple(input_shape)} with {size}: one axis may be -1"
            )
        return self.shape

    def __repr__(self) -> str:
        return f"ReshapeLayer({self.shape})"


class FlattenLayer(Layer):
    """The numbers of a sample in one row: y = reshape(x).

    Backward: dx = reshape(delta), the other way.

    Shapes: x (samples, *input_shape), y (samples, product of input_shape).

    Args:
        name: what messages call the layer.

    Source: ONNX operator Flatten.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The reshape, and delta -> its reshape back."""
        return _reshaped(x, self.output_shape(x.shape[1:]))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """input_shape -> (its product,)."""
        return (math.prod(input_shape),)

    def __repr__(self) -> str:
        return "FlattenLayer()"


class ZeroPadding2DLayer(Layer):
    """Zeros around every image: y = x inside, 0 in the cells of padding.

    Backward: dx is the part of delta inside.

    Shapes: x (samples, channels, height, width), y (samples, channels, top + height + bottom,
    left + width + right).

    Args:
        padding: cells; a number for all four sides, a pair (height, width) for both sides of
            each, or two pairs ((top, bottom), (left, right)).
        name: what messages call the layer.

    Raises:
        ValueError: the padding is none of these.

    Source: ONNX operator Pad.
    """

    def __init__(
        self,
        padding: int | Sequence[int] | Sequence[Sequence[int]] = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        owner = "ZeroPadding2DLayer"
        given: Any = padding
        if isinstance(given, Sequence) and all(isinstance(p, Sequence) for p in given):
            sides = [numbers(owner, "each pair of padding", p, 2, least=0) for p in given]
        else:
            sides = [(p, p) for p in numbers(owner, "padding", given, 2, least=0)]
        if len(sides) != 2:
            raise ValueError(
                f"{owner}: expected padding ((top, bottom), (left, right)), got {padding!r}"
            )
        self.padding = tuple((first, last) for first, last in sides)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x with zeros around, and delta -> what is inside."""
        space = x.shape[2:]
        y = samples_last(x)
        for axis, (before, after) in enumerate(self.padding, start=1):
            y = pad(y, axis, before, after)

        def backward(delta: Array) -> tuple[Array, dict[str, Array]]:
            for axis, (n, (before, _)) in enumerate(zip(space, self.padding, strict=True), start=2):
                delta = part(delta, axis, before, before + n)
            return delta, {}

        return samples_first(y), backward

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(channels, height, width) -> (channels, height + padding, width + padding)."""
        space = images(self, None, 2, input_shape)
        padded = (n + sum(sides) for n, sides in zip(space, self.padding, strict=True))
        return (input_shape[0], *padded)

    def __repr__(self) -> str:
        return f"ZeroPadding2DLayer({self.padding})"


class PermuteLayer(Layer):
    """The axes of a sample in another order: y = transpose(x), backward: transpose back.

    PermuteLayer((2, 1)) makes (channels, length) of a sequence (time, features) and the other way
    round, PermuteLayer((2, 3, 1)) puts the channels of an image last.

    Shapes: x (samples, *input_shape), y (samples, *those axes in the order of `axes`).

    Args:
        axes: of a sample, counted from 1, in their new order.
        name: what messages call the layer.

    Raises:
        ValueError: axes is not an order of 1, 2, ..., n.

    Source: ONNX operator Transpose; Keras calls it Permute.
    """

    def __init__(self, axes: Sequence[int], name: str | None = None) -> None:
        super().__init__(name=name)
        self.axes = tuple(axes) if isinstance(axes, Sequence) else (axes,)
        if sorted(self.axes, key=str) != list(range(1, len(self.axes) + 1)):
            raise ValueError(
                "PermuteLayer: expected an order of the axes 1, 2, ... such as (2, 1), got "
                f"{axes!r}"
            )

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The transpose, and delta -> its transpose back."""
        self.output_shape(tuple(x.shape[1:]))
        xp, axes = array_namespace(x), (0, *self.axes)
        back = tuple(axes.index(i) for i in range(len(axes)))
        return xp.permute_dims(x, axes), lambda delta: (xp.permute_dims(delta, back), {})

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of the input in their new order."""
        if len(input_shape) != len(self.axes):
            raise ShapeError(f"takes input of {len(self.axes)} axes, got {tuple(input_shape)}")
        return tuple(input_shape[axis - 1] for axis in self.axes)

    def __repr__(self) -> str:
        return f"PermuteLayer({self.axes})"


class UpSampling2DLayer(Layer):
    """Every cell becomes a block of cells: y_c(q) = x_c(floor(q / size)), the nearest neighbour.

    Backward: dx_c(p) is the sum of delta_c over the block of p.

    Shapes: x (samples, channels, height, width), y (samples, channels, size height, size width).

    Args:
        size: cells of a block; a number or a pair (height, width).
        name: what messages call the layer.

    Raises:
        ValueError: the size is none of these.

    Source: ONNX operator Resize, mode nearest.
    """

    def __init__(self, size: int | Sequence[int] = 2, name: str | None = None) -> None:
        super().__init__(name=name)
        self.size = numbers("UpSampling2DLayer", "size", size, 2)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The blocks, and delta -> their sums."""
        xp = array_namespace(x)
        (high, wide), (samples, channels, height, width) = self.size, x.shape
        y = xp.reshape(samples_last(x), (channels, height, 1, width, 1, samples))
        y = xp.broadcast_to(y, (channels, height, high, width, wide, samples))
        y = xp.reshape(y, (channels, height * high, width * wide, samples))

        def backward(delta: Array) -> tuple[Array, dict[str, Array]]:
            blocks = (channels, height, high, width, wide, samples)
            dx = xp.sum(xp.reshape(samples_last(delta), blocks), axis=(2, 4))
            return samples_first(dx), {}

        return samples_first(y), backward

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(channels, height, width) -> (channels, size height, size width)."""
        height, width = images(self, None, 2, input_shape)
        return (input_shape[0], height * self.size[0], width * self.size[1])

    def __repr__(self) -> str:
        return f"UpSampling2DLayer({short(self.size)!r})"


def _reshaped(x: Array, shape: tuple[int, ...]) -> tuple[Array, Backward]:
    """(samples, *shape), and delta -> (its reshape back, {})."""
    xp = array_namespace(x)
    return xp.reshape(x, (x.shape[0], *shape)), lambda delta: (xp.reshape(delta, x.shape), {})
