"""Pooling: windows of an image become one number each.

A maximum or a sum over a window is taken along its rows first, then along the column of the
results: the functions below work on one axis of space at a time.

NaN in a window makes its maximum and its mean NaN. A mean is a sum over its window first: sums
above the largest number of the dtype give inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError
from nnx.layers._shapes import Shape
from nnx.layers._windows import (
    Geometry,
    Padding,
    Windows,
    images,
    laid_out,
    layout,
    pad,
    restored,
    short,
)
from nnx.layers.base import Backward, Layer

__all__ = ["AvgPool2DLayer", "GlobalAvgPoolLayer", "MaxPool2DLayer", "PoolingLayer"]

Along = tuple[Array, Callable[[Array], Array]]


class PoolingLayer(Layer):
    """Base class of the layers whose windows slide over the `dimensions` axes of each channel.

    Subclasses define `along(x, windows, axis) -> (y, backward)`, the pooling of one axis.
    """

    dimensions: ClassVar[int]

    def __init__(
        self,
        pool_size: int | Sequence[int],
        stride: int | Sequence[int] | None,
        padding: Padding,
        dilation: int | Sequence[int],
        name: str | None,
    ) -> None:
        super().__init__(name=name)
        step = pool_size if stride is None else stride
        self.geometry = Geometry(
            self, self.dimensions, pool_size, step, padding, dilation, size="pool_size"
        )
        self.pool_size = short(self.geometry.kernel)
        self.stride = None if stride is None else short(self.geometry.stride)
        self.padding = short(self.geometry.padding)
        self.dilation = short(self.geometry.dilation)
        paddings = self.geometry.padding
        if not isinstance(paddings, str) and any(
            p > k // 2 for p, k in zip(paddings, self.geometry.kernel, strict=True)
        ):
            raise ValueError(
                f"{type(self).__name__}: expected padding to be at most half the pool_size "
                f"{self.geometry.kernel}, got {padding!r}"
            )

    def along(self, x: Array, windows: Windows, axis: int) -> Along:
        """The pooling of one axis of x, and its backward."""
        raise NotImplementedError(f"{type(self).__name__} must define along(x, windows, axis)")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Pool the axes of space in turn, the last one first; backward in reverse order."""
        order = layout(x)
        y = laid_out(x, order)
        backwards = []
        for axis, windows in reversed(list(enumerate(self.geometry.over(x.shape[2:]), start=2))):
            y, backward = self.along(y, windows, order.index(axis))
            backwards.append(backward)

        def backward_of_all(delta: Array) -> tuple[Array, dict[str, Array]]:
            delta = laid_out(delta, order)
            for backward in reversed(backwards):
                delta = backward(delta)
            return restored(delta, order), {}

        return restored(y, order), backward_of_all

    def output_shape(self, input_shape: Shape) -> Shape:
        """(channels, *space) -> (channels, *numbers of windows)."""
        space = images(self, None, self.dimensions, input_shape)
        shape = (input_shape[0], *self.geometry.output(space, input_shape))
        if not all(w is None or w.all_see_cells() for w in self.geometry.known(space)):
            raise ShapeError(
                f"has windows with nothing but padding in input of shape {input_shape}: take less "
                "padding or dilation"
            )
        return shape


class MaxPool2DLayer(PoolingLayer):
    """Take the largest cell of every window: y_c(p) = max_t x_c(p stride + t dilation).

    Backward: dx_c(q) is the sum of delta_c(p) over the windows p whose largest cell is q. If
    several cells are largest, the first one counts, row by row. Cells of padding are -infinity.

    Shapes: x (samples, channels, height, width), y (samples, channels, *positions). There are
    floor((n + padding - span) / stride) + 1 positions along an axis of n cells, span =
    (pool_size - 1) dilation + 1.

    Args:
        pool_size: cells of a window; a number, or a pair (height, width).
        stride: from one window to the next; a number or a pair, or None for the pool_size.
        padding: "valid": none; "same": as much as gives ceil(n / stride) windows, an odd cell at
            the end; a number or a pair, at most half the pool_size.
        dilation: from one cell of a window to the next; a number or a pair.
        name: what messages call the layer.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.

    Source: Ranzato, Huang, Boureau and LeCun, CVPR 2007; ONNX operator MaxPool.
    """

    dimensions = 2

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        stride: int | Sequence[int] | None = None,
        padding: Padding = "valid",
        dilation: int | Sequence[int] = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(pool_size, stride, padding, dilation, name)

    def along(self, x: Array, windows: Windows, axis: int) -> Along:
        """y(p) = max_t x(p, t); backward gives delta(p) to the first tap that equals y(p)."""
        xp = array_namespace(x)
        taps = windows.slices(pad(x, axis, windows.before, windows.after, -math.inf), axis)
        y = taps[0]
        for tap in taps[1:]:
            y = xp.maximum(y, tap)

        def backward(delta: Array) -> Array:
            # A product with the mask is faster than `where` on a CPU: it has no branches.
            pieces = []
            for tap in taps[:-1]:
                piece = xp.astype(tap == y, delta.dtype)
                piece *= delta
                delta = delta - piece
                pieces.append(piece)
            return windows.join([*pieces, delta], axis)

        return y, backward


class AvgPool2DLayer(PoolingLayer):
    """Take the mean of every window: y_c(p) = sum_t x_c(p stride + t) / number of cells.

    Backward: dx_c(q) is the sum of delta_c(p) / number of cells over the windows p that contain q.

    Shapes: x (samples, channels, height, width), y (samples, channels, *positions). There are
    floor((n + padding - pool_size) / stride) + 1 positions along an axis of n cells.

    Args:
        pool_size: cells of a window; a number, or a pair (height, width).
        stride: from one window to the next; a number or a pair, or None for the pool_size.
        padding: "valid": none; "same": as much as gives ceil(n / stride) windows, an odd cell at
            the end; a number or a pair, at most half the pool_size.
        count_include_pad: are cells of padding, which are zero, part of the number of cells?
        name: what messages call the layer.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.

    Source: LeCun et al., Proc. IEEE 86, 1998; ONNX operator AveragePool.
    """

    dimensions = 2

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        stride: int | Sequence[int] | None = None,
        padding: Padding = "valid",
        count_include_pad: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(pool_size, stride, padding, 1, name)
        self.count_include_pad = checks.flag(self, "count_include_pad", count_include_pad)

    def along(self, x: Array, windows: Windows, axis: int) -> Along:
        """y(p) = sum_t x(p, t) / cells(p), with the backward delta(p) / cells(p) to each tap."""
        share = self._share(x, windows, axis)
        y = _sum(windows.slices(pad(x, axis, windows.before, windows.after), axis)) * share
        return y, lambda delta: windows.join([delta * share] * windows.kernel, axis)

    def _share(self, x: Array, windows: Windows, axis: int) -> Array | float:
        """1 / cells(p), shaped to multiply y."""
        if self.count_include_pad or windows.before == windows.after == 0:
            return 1.0 / windows.kernel
        xp = array_namespace(x)
        ones = xp.ones((windows.size,), dtype=x.dtype, device=getattr(x, "device", None))
        cells = _sum(windows.slices(pad(ones, 0, windows.before, windows.after), 0))
        return xp.reshape(1.0 / cells, (windows.positions, *[1] * (x.ndim - 1 - axis)))


class GlobalAvgPoolLayer(Layer):
    """Take the mean of every channel over all of space: y_c = sum_p x_c(p) / number of cells.

    Backward: dx_c(p) = delta_c / number of cells.

    Shapes: x (samples, channels, *space) with one axis of space or more, y (samples, channels).

    Args:
        name: what messages call the layer.

    Source: Lin, Chen and Yan, ICLR 2014; ONNX operator GlobalAveragePool.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The means, and delta -> delta / number of cells in every cell."""
        xp, shape = array_namespace(x), x.shape
        cells = math.prod(shape[2:])

        def backward(delta: Array) -> tuple[Array, dict[str, Array]]:
            share = xp.reshape(delta / cells, (*shape[:2], *[1] * (len(shape) - 2)))
            return xp.broadcast_to(share, shape), {}

        return xp.mean(x, axis=tuple(range(2, len(shape)))), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(channels, *space) -> (channels,)."""
        if len(input_shape) < 2 or 0 in input_shape[1:]:
            raise ShapeError(
                f"takes input of shape (channels, height, width) or (channels, length), got "
                f"{input_shape}: put it before any FlattenLayer"
            )
        return input_shape[:1]


def _sum(arrays: list[Array]) -> Array:
    total = arrays[0] if len(arrays) == 1 else arrays[0] + arrays[1]
    for array in arrays[2:]:
        total += array
    return total
