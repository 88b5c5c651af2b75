"""Layers that vary images at random in training, so that a network learns what may vary.

In evaluation they are the identity, and so they are in training while they are frozen. They draw
a few numbers for each sample on the host, as the layers that add noise do; the images are made on
the device. Backward is the exact adjoint: flips and shifts go back, and what was cut out is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.layers._sequences import place
from nnx.layers._shapes import Shape
from nnx.layers._windows import images, laid_out, restored, short
from nnx.layers.base import Backward, Layer
from nnx.layers.noise import unchanged
from nnx.randomness import noise

__all__ = ["CutoutLayer", "RandomFlipLayer", "RandomShiftLayer"]

ORDER = (1, 2, 3, 0)  # of the axes of images in memory, while they are shifted: samples last


class RandomFlipLayer(Layer):
    """Mirror each image at random in training: y = x with its columns or rows in reverse, or y = x.

    Backward: dx is delta, mirrored again. Every image is mirrored with probability 1/2, in each
    direction by itself. In evaluation y = x.

    Shapes: x and y (samples, channels, height, width).

    Args:
        horizontal: exchange left and right?
        vertical: exchange top and bottom?
        name: what messages call the layer.

    Raises:
        TypeError: an argument has the wrong type.

    Source: Keras calls it RandomFlip.
    """

    def __init__(
        self, horizontal: bool = True, vertical: bool = False, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.horizontal = checks.flag(self, "horizontal", horizontal)
        self.vertical = checks.flag(self, "vertical", vertical)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x, mirrored or not; backward: the same of delta. The identity in evaluation."""
        axes = [2] * self.vertical + [3] * self.horizontal
        if not training or self.frozen or not axes:
            return x, unchanged
        xp, shape = array_namespace(x), (len(axes), x.shape[0], 1, 1, 1)
        flips = noise(lambda rng: rng.random(shape, dtype="float32") < 0.5, x)

        def mirrored(array: Array) -> Array:
            for i, axis in enumerate(axes):
                array = xp.where(flips[i, ...], xp.flip(array, axis=axis), array)
            return array

        return mirrored(x), lambda delta: (mirrored(delta), {})

    def output_shape(self, input_shape: Shape) -> Shape:
        """(channels, height, width), unchanged."""
        images(self, None, 2, input_shape)
        return input_shape


class RandomShiftLayer(Layer):
    """Shift each image at random in training: y(h, w) = x(h - d, w - e), 0 from outside of x.

    That is a random crop of the image with `shift` cells of zeros around it. Backward:
    dx(h, w) = delta(h + d, w + e), 0 from outside. All shifts -shift <= d, e <= shift are equally
    likely, and all channels of an image are shifted alike. In evaluation y = x.

    Shapes: x and y (samples, channels, height, width).

    Args:
        shift: the largest shift, in cells; a number or a pair (height, width).
        name: what messages call the layer.

    Raises:
        TypeError: the shift is not made of integers.
        ValueError: the shift is negative, or has another length.

    Source: He et al., arXiv:1512.03385, section 4.2.
    """

    def __init__(self, shift: int | Sequence[int] = 4, name: str | None = None) -> None:
        super().__init__(name=name)
        self._reach = checks.counts(self, "shift", shift, 2, least=0)
        self.shift = short(self._reach)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x, shifted; backward: delta, shifted back. The identity in evaluation."""
        if not training or self.frozen or self._reach == (0, 0):
            return x, unchanged
        xp = array_namespace(x)
        shifts = xp.astype(_integers(x, [(-n, n + 1) for n in self._reach]), xp.int32)
        return _shifted(x, shifts), lambda delta: (_shifted(delta, -shifts), {})

    def output_shape(self, input_shape: Shape) -> Shape:
        """(channels, height, width), unchanged."""
        images(self, None, 2, input_shape)
        return input_shape


class CutoutLayer(Layer):
    """Cut a rectangle out of each image at random in training: y = 0 in it, y = x elsewhere.

    Backward: dx = 0 in it, dx = delta elsewhere. Its centre is any cell of the image with equal
    probability, and what lies outside of the image is left out, so that less may be cut out. All
    channels of an image lose the same cells. In evaluation y = x.

    Shapes: x and y (samples, channels, height, width).

    Args:
        size: of the rectangle, in cells; a number or a pair (height, width).
        name: what messages call the layer.

    Raises:
        TypeError: the size is not made of integers.
        ValueError: the size is less than 1, or has another length.

    Source: DeVries and Taylor, arXiv:1708.04552.
    """

    def __init__(self, size: int | Sequence[int] = 8, name: str | None = None) -> None:
        super().__init__(name=name)
        self._sides = checks.counts(self, "size", size, 2)
        self.size = short(self._sides)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x, 0 in the rectangle; backward: the same of delta. The identity in evaluation."""
        if not training or self.frozen:
            return x, unchanged
        xp, (height, width) = array_namespace(x), x.shape[2:]
        centres = _integers(x, [(0, height), (0, width)])
        inside = []
        for i, (n, side, shape) in enumerate(
            zip((height, width), self._sides, ((1, 1, height, 1), (1, 1, 1, width)), strict=True)
        ):
            first = xp.reshape(centres[i, :], (-1, 1, 1, 1)) - float(side // 2)
            cells = xp.reshape(xp.arange(n, dtype=x.dtype, device=place(x)), shape)
            inside.append(xp.logical_and(cells >= first, cells < first + float(side)))
        hole = xp.logical_and(*inside)

        def cut(array: Array) -> Array:
            return xp.where(hole, 0.0, array)

        return cut(x), lambda delta: (cut(delta), {})

    def output_shape(self, input_shape: Shape) -> Shape:
        """(channels, height, width), unchanged."""
        images(self, None, 2, input_shape)
        return input_shape


def _integers(x: Array, ranges: list[tuple[int, int]]) -> Array:
    """An integer from each range, its end excluded, for each sample: (ranges, samples), floats."""
    size, lows, ends = (x.shape[0], len(ranges)), *map(list, zip(*ranges, strict=True))
    return noise(lambda rng: rng.integers(lows, ends, size).astype("float32").T, x)


def _shifted(x: Array, shifts: Array) -> Array:
    """y(h, w) = x(h - d, w - e), with shifts (d, e) for each sample; 0 from outside of x."""
    xp, device = array_namespace(x), place(x)
    channels, height, width, samples = (cells := laid_out(x, ORDER)).shape

    def along(n: int, shape: tuple[int, ...]) -> Array:
        return xp.reshape(xp.arange(n, dtype=xp.int32, device=device), shape)

    h = along(height, (height, 1, 1)) - shifts[0, :]
    w = along(width, (width, 1)) - shifts[1, :]
    inside = xp.logical_and(
        xp.logical_and(h >= 0, h < height), xp.logical_and(w >= 0, w < width)
    )  # (height, width, samples)
    index = xp.where(inside, (h * width + w) * samples + along(samples, (samples,)), 0)
    flat = xp.reshape(cells, (channels, height * width * samples))
    y = xp.reshape(xp.take(flat, xp.reshape(index, (-1,)), axis=1), cells.shape)
    return restored(xp.where(inside, y, 0.0), ORDER)
