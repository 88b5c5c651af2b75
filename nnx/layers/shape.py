"""Layers that rearrange, pad or repeat their inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError
from nnx.layers._shapes import KNOWN, Shape, product, total
from nnx.layers._windows import images, laid_out, layout, pad, part, restored, short
from nnx.layers.base import Backward, Layer

__all__ = [
    "FlattenLayer",
    "PermuteLayer",
    "ReshapeLayer",
    "UpSampling2DLayer",
    "ZeroPadding2DLayer",
]


class ReshapeLayer(Layer):
    """Give every sample another shape, row by row: y = reshape(x).

    Backward: dx = reshape(delta), back to the shape of x.

    Shapes: x (samples, *input_shape), y (samples, *shape).

    Args:
        shape: of a sample; the length of one axis may be -1, it follows from the others.
        name: what messages call the layer.

    Raises:
        TypeError: the shape is not a list of integers.
        ValueError: the integers are not positive, except for at most one -1.

    Source: ONNX operator Reshape.
    """

    keeps_values = True

    def __init__(self, shape: Sequence[int], name: str | None = None) -> None:
        super().__init__(name=name)
        what = "a tuple of positive integers, one of which may be -1"
        items = checks.sequence(self, "shape", shape, what)
        self.shape = tuple(
            checks.count(self, f"shape[{i}]", n, least=-1) for i, n in enumerate(items)
        )
        if 0 in self.shape or self.shape.count(-1) > 1:
            raise ValueError(f"ReshapeLayer: expected shape to be {what}, got {shape!r}")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The reshape; backward reshapes delta to the shape of x."""
        return _reshaped(x, self.output_shape(x.shape[1:]))

    def output_shape(self, input_shape: Shape) -> Shape:
        """input_shape -> shape."""
        given, known = product(*input_shape), math.prod(n for n in self.shape if n > 0)
        if -1 in self.shape:
            if given is not None and (given % known or given == 0):
                raise ShapeError(
                    f"gives shape {self.shape}, got input of shape {tuple(input_shape)}: its "
                    f"{given} numbers are not a multiple of {known}"
                )
            follows = None if given is None else given // known
            return tuple(follows if n == -1 else n for n in self.shape)
        least = product(*[n for n in input_shape if n is not None])
        if given != known and (given is not None or not least or known % least):
            raise ShapeError(
                f"gives shape {self.shape} of {known} numbers, got input of shape "
                f"{tuple(input_shape)} with {given or f'a multiple of {least}'}: one axis may be -1"
            )
        return self.shape


class FlattenLayer(Layer):
    """Put the numbers of every sample in one row: y = reshape(x).

    Backward: dx = reshape(delta), back to the shape of x.

    Shapes: x (samples, *input_shape), y (samples, product of input_shape).

    Args:
        name: what messages call the layer.

    Source: ONNX operator Flatten.
    """

    keeps_values = True

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The reshape; backward reshapes delta to the shape of x."""
        return _reshaped(x, self.output_shape(x.shape[1:]))

    def output_shape(self, input_shape: Shape) -> Shape:
        """input_shape -> (its product,)."""
        if len(input_shape) > 1 and None in input_shape:
            images = input_shape[0] is not None and len(input_shape) > 2
            remedy = "put a GlobalAvgPoolLayer before it, or " if images else ""
            raise ShapeError(
                f"takes input whose axes have known lengths, got {input_shape}; {remedy}{KNOWN}"
            )
        return (product(*input_shape),)


class ZeroPadding2DLayer(Layer):
    """Put zeros around every image: y = x inside, 0 in the cells of padding.

    Backward: dx is the inner part of delta.

    Shapes: x (samples, channels, height, width), y (samples, channels, top + height + bottom,
    left + width + right).

    Args:
        padding: cells; a number for all four sides, a pair (height, width) for both sides of
            each, or two pairs ((top, bottom), (left, right)).
        name: what messages call the layer.

    Raises:
        TypeError: the padding is not made of integers.
        ValueError: the padding is negative or has another shape.

    Source: ONNX operator Pad.
    """

    def __init__(
        self,
        padding: int | Sequence[int] | Sequence[Sequence[int]] = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        given: Any = padding
        if isinstance(given, list | tuple) and any(isinstance(p, list | tuple) for p in given):
            if len(given) != 2:
                raise ValueError(
                    "ZeroPadding2DLayer: expected padding to be ((top, bottom), (left, right)), "
                    f"got {padding!r}"
                )
            self.padding = tuple(
                checks.counts(self, f"padding[{i}]", sides, 2, least=0)
                for i, sides in enumerate(given)
            )
        else:
            self.padding = tuple((n, n) for n in checks.counts(self, "padding", given, 2, least=0))

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x with zeros around it; backward returns the inner part of delta."""
        space = x.shape[2:]
        order = layout(x)
        y = laid_out(x, order)
        for axis, (before, after) in enumerate(self.padding, start=2):
            y = pad(y, order.index(axis), before, after)

        def backward(delta: Array) -> tuple[Array, dict[str, Array]]:
            for axis, (n, (before, _)) in enumerate(zip(space, self.padding, strict=True), start=2):
                delta = part(delta, axis, before, before + n)
            return delta, {}

        return restored(y, order), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(channels, height, width) -> (channels, height + padding, width + padding)."""
        space = images(self, None, 2, input_shape)
        padded = (total(n, *sides) for n, sides in zip(space, self.padding, strict=True))
        return (input_shape[0], *padded)


class PermuteLayer(Layer):
    """Put the axes of every sample in another order: y = transpose(x); backward: transpose back.

    PermuteLayer((2, 1)) turns a sequence (time, features) into (channels, length) and back,
    PermuteLayer((2, 3, 1)) puts the channels of an image last.

    Shapes: x (samples, *input_shape), y (samples, *those axes in the order of `axes`).

    Args:
        axes: of a sample, counted from 1, in their new order.
        name: what messages call the layer.

    Raises:
        TypeError: axes is not a list of integers.
        ValueError: axes is not an order of 1, 2, ..., n.

    Source: ONNX operator Transpose; Keras calls it Permute.
    """

    keeps_values = True

    def __init__(self, axes: Sequence[int], name: str | None = None) -> None:
        super().__init__(name=name)
        what = "an order of the axes 1, 2, ... such as (2, 1)"
        items = checks.sequence(self, "axes", axes, what)
        self.axes = tuple(checks.count(self, f"axes[{i}]", n) for i, n in enumerate(items))
        if not items or sorted(self.axes) != list(range(1, len(items) + 1)):
            raise ValueError(f"PermuteLayer: expected axes to be {what}, got {axes!r}")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The transpose; backward transposes delta back."""
        self.output_shape(tuple(x.shape[1:]))
        xp, axes = array_namespace(x), (0, *self.axes)
        back = tuple(axes.index(i) for i in range(len(axes)))
        return xp.permute_dims(x, axes), lambda delta: (xp.permute_dims(delta, back), {})

    def output_shape(self, input_shape: Shape) -> Shape:
        """The axes of the input in their new order."""
        if len(input_shape) != len(self.axes):
            raise ShapeError(
                f"takes input with {len(self.axes)} axes, got shape {tuple(input_shape)}"
            )
        return tuple(input_shape[axis - 1] for axis in self.axes)


class UpSampling2DLayer(Layer):
    """Repeat every cell in a block of cells: y_c(q) = x_c(floor(q / size)), the nearest neighbour.

    Backward: dx_c(p) is the sum of delta_c over the block of p.

    Shapes: x (samples, channels, height, width), y (samples, channels, size height, size width).

    Args:
        size: cells of a block; a number or a pair (height, width).
        name: what messages call the layer.

    Raises:
        TypeError: the size is not made of integers.
        ValueError: the size is less than 1, or has another length.

    Source: ONNX operator Resize, mode nearest.
    """

    def __init__(self, size: int | Sequence[int] = 2, name: str | None = None) -> None:
        super().__init__(name=name)
        self._block = checks.counts(self, "size", size, 2)
        self.size = short(self._block)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The blocks; backward sums delta over each block."""
        xp = array_namespace(x)
        (high, wide), (samples, channels, height, width) = self._block, x.shape
        order = (1, 2, 3, 0)
        y = xp.reshape(laid_out(x, order), (channels, height, 1, width, 1, samples))
        y = xp.broadcast_to(y, (channels, height, high, width, wide, samples))
        y = xp.reshape(y, (channels, height * high, width * wide, samples))

        def backward(delta: Array) -> tuple[Array, dict[str, Array]]:
            blocks = (channels, height, high, width, wide, samples)
            dx = xp.sum(xp.reshape(laid_out(delta, order), blocks), axis=(2, 4))
            return restored(dx, order), {}

        return restored(y, order), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(channels, height, width) -> (channels, size height, size width)."""
        space = images(self, None, 2, input_shape)
        larger = (product(n, block) for n, block in zip(space, self._block, strict=True))
        return (input_shape[0], *larger)


def _reshaped(x: Array, shape: tuple[int, ...]) -> tuple[Array, Backward]:
    """(samples, *shape), and delta -> (its reshape back, {})."""
    xp = array_namespace(x)
    return xp.reshape(x, (x.shape[0], *shape)), lambda delta: (xp.reshape(delta, x.shape), {})
