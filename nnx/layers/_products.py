"""The products of convolutions with windows, written once for all numbers of axes.

Every convolution consists of two functions that are adjoint to each other: `correlate` maps x to z,
`distribute` maps dz to dx; and of `products`, the gradient of W. A transposed convolution uses the
second in its forward. There are two ways to compute them, which differ in the order of the axes and
in what they gather: slices with a step, which are the columns of matrix products.

* `Blocks`: a few large products. Arrays are (channels, *space, samples).
* `Rows`: a product for each position along the first axis of space, for libraries whose views may
  overlap. Arrays are (first axis, channels, other axes, samples), and a product fits in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from nnx.backend import Array, array_namespace, owner_of
from nnx.layers._windows import ROWS, Windows, laid_out, pad, restored, slides, spaced

__all__ = ["Blocks", "Rows", "way_of"]


FEW = 64


def way_of(x: Array, kernel: tuple[int, ...], windows: list[Windows], groups: int) -> Blocks | Rows:
    """Return the faster way for an x (samples, channels, *space) on its backend.

    Args:
        x: what slides under the windows, or for a transposed convolution what they give.
        kernel: the shape of W, (no, ni / groups, *kernel).
        windows: along each axis of space.
        groups: of channels.
    """
    columns = x.shape[0] * math.prod(w.positions for w in windows[1:])
    # Rows read W for each position, which must not be more than the columns of it; and with few
    # columns, as of one sample, calls take longer than products.
    rows = groups == 1 and len(windows) == 2 and columns >= max(kernel[0], FEW)
    return (Rows if rows and slides(x) else Blocks)(kernel, windows, groups)


@dataclass
class Blocks:
    """Arrays (channels, *space, samples): all positions of all samples are columns of one product.

    Windows are gathered along all axes of space except the first, and the results for the taps of
    the first axis are added up. Gathering along no axis needs more and smaller products; gathering
    along all holds more memory and takes longer, unless there are few channels.
    """

    kernel: tuple[int, ...]
    windows: list[Windows]
    groups: int

    channels: ClassVar[int] = 0  # the axis of the channels

    def arranged(self, x: Array) -> Array:
        """(samples, channels, *space) -> (channels, *space, samples), laid out in this order."""
        return laid_out(x, (*range(1, x.ndim), 0))

    def restored(self, x: Array) -> Array:
        """(channels, *space, samples) -> (samples, channels, *space), a view."""
        return restored(x, (*range(1, x.ndim), 0))

    def gather(self, x: Array) -> list[Array]:
        """x (ni, *space, samples) as blocks of columns (ni taps, positions samples).

        Either all taps make one block, which is gathered, or each tap of the first axis of space
        makes a block, a view of what is gathered along the other axes. One block needs a single
        product. Several need a sum of products, but less memory, by the number of taps of that
        axis. The choice depends on which is larger, the columns of one tap or z; a library whose
        slices are copies has nothing to win by several.
        """
        xp, n = array_namespace(x), len(self.windows)
        for axis, w in enumerate(self.windows, start=1):
            x = pad(x, axis, w.before, w.after)
        first, *others = self.windows
        for w in reversed(others):  # the axis of each is n, since taps were put before it
            x = w.gather(x, n)
        ni, samples = x.shape[0], x.shape[-1]
        taps = math.prod(w.kernel for w in others)
        columns = math.prod(w.positions for w in self.windows) * samples
        views = getattr(owner_of(x), "mutable", False)
        if views and self.kernel[1] * taps >= self.kernel[0]:
            return [xp.reshape(tap, (ni * taps, columns)) for tap in first.slices(x, n)]
        return [xp.reshape(first.gather(x, n), (ni * taps * first.kernel, columns))]

    def correlate(self, W: Array, columns: list[Array]) -> Array:
        """W (no, ni / groups, *kernel) by the columns -> z (no, *positions, samples)."""
        xp, no = array_namespace(W, *columns), W.shape[0]
        if len(columns) > 1:
            W = xp.permute_dims(W, (2, 0, 1, *range(3, W.ndim)))
        W = xp.reshape(W, (len(columns), no, math.prod(W.shape) // (len(columns) * no)))
        z = _product(W[0, ...], columns[0], self.groups)
        for tap, block in enumerate(columns[1:], start=1):
            z += _product(W[tap, ...], block, self.groups)
        space = [w.positions for w in self.windows]
        return xp.reshape(z, (no, *space, columns[0].shape[1] // math.prod(space)))

    def products(self, z: Array, columns: list[Array]) -> Array:
        """The columns by z (no, *positions, samples), transposed -> (no, ni / groups, *kernel).

        The longer factor comes first: libraries are up to twice as slow at z by the columns.
        """
        xp, (no, inside, *kernel), groups = array_namespace(z, *columns), self.kernel, self.groups
        rows = xp.reshape(z, (no, columns[0].shape[1]))
        taps = kernel if len(columns) == 1 else kernel[1:]
        shape = (groups, inside, *taps, no // groups)
        parts = [xp.reshape(_outer(block, rows, groups), shape) for block in columns]
        dW = parts[0] if len(parts) == 1 else xp.stack(parts, axis=2)
        dW = xp.permute_dims(dW, (0, dW.ndim - 1, *range(1, dW.ndim - 1)))
        return xp.reshape(dW, self.kernel)

    def distribute(self, W: Array, z: Array) -> Array:
        """The adjoint of `correlate(W, gather(x))`: z -> the shape of x.

        Along the first axis of space, the results of the taps are added up. Along the others, each
        cell gathers the positions of the windows that it is in, which is cheaper than adding up
        more.
        """
        xp, n, groups = array_namespace(W, z), len(self.windows), self.groups
        (no, inside, *kernel), samples = W.shape, z.shape[-1]
        first, *others = self.windows
        for axis, w in enumerate(others, start=2):
            turned = w.turned()
            z = pad(spaced(z, axis, w.stride), axis, turned.before, turned.after)
        for w in reversed(others):
            z = w.turned().gather(z, n, last_first=True)
        shape = (first.kernel, first.positions, *(w.size for w in others), samples)
        z = xp.reshape(z, (no * math.prod(kernel[1:]), math.prod(shape[1:])))
        # (no, inside, k1, k2, ...) -> a row for each (inside, k1), a column for each (no, k2, ...)
        W = xp.reshape(W, (groups, no // groups, inside, *kernel))
        W = xp.permute_dims(W, (0, 2, 3, 1, *range(4, n + 3)))
        W = xp.reshape(W, (groups * inside * kernel[0], no // groups * math.prod(kernel[1:])))
        x = xp.reshape(_product(W, z, groups), (groups * inside, *shape))
        return first.spread(x, 1)


@dataclass
class Rows:
    """Arrays (height, channels, width, samples): a product for each row of positions.

    Windows are gathered along the width. The rows of a window then lie one after another, so that
    the columns of the products are views.
    """

    kernel: tuple[int, ...]
    windows: list[Windows]
    groups: int = 1

    channels: ClassVar[int] = 1

    def arranged(self, x: Array) -> Array:
        """(samples, channels, height, width) -> (height, channels, width, samples), laid out so."""
        return laid_out(x, ROWS)

    def restored(self, x: Array) -> Array:
        """(height, channels, width, samples) -> (samples, channels, height, width), a view."""
        return restored(x, ROWS)

    def gather(self, x: Array) -> Array:
        """x (height, ni, width, samples) -> columns (positions, kernel ni, positions samples)."""
        xp, (high, wide) = array_namespace(x), self.windows
        x = pad(pad(x, 2, wide.before, wide.after), 0, high.before, high.after)
        ni, columns = x.shape[1], wide.positions * x.shape[3]
        rows = xp.reshape(wide.gather(x, 2), (x.shape[0], wide.kernel * ni, columns))
        taps = high.kernel * wide.kernel * ni
        return xp.reshape(high.view(rows), (high.positions, taps, columns))

    def correlate(self, W: Array, columns: Array) -> Array:
        """W (no, ni, *kernel) by the columns -> z (positions, no, positions, samples)."""
        xp, positions = array_namespace(W, columns), self.windows[1].positions
        W = xp.reshape(xp.permute_dims(W, (0, 2, 3, 1)), (W.shape[0], columns.shape[1]))
        z = xp.broadcast_to(W, (columns.shape[0], *W.shape)) @ columns
        return xp.reshape(z, (*z.shape[:2], positions, z.shape[2] // positions))

    def products(self, z: Array, columns: Array) -> Array:
        """The columns of each row by z, transposed, added up -> (no, ni, *kernel)."""
        xp, (no, ni, high, wide) = array_namespace(z, columns), self.kernel
        z = xp.reshape(z, (*z.shape[:2], columns.shape[2]))
        dW = columns[0, ...] @ z[0, ...].T
        for row in range(1, z.shape[0]):
            dW += columns[row, ...] @ z[row, ...].T
        return xp.permute_dims(xp.reshape(dW, (high, wide, ni, no)), (3, 2, 0, 1))

    def distribute(self, W: Array, z: Array) -> Array:
        """The adjoint of `correlate(W, gather(x))`: z -> the shape of x.

        Along the width, each cell gathers the positions of the windows that it is in. Along the
        height, the results of the taps are added to their rows.
        """
        xp, (high, wide) = array_namespace(W, z), self.windows
        (no, ni, *kernel), samples = W.shape, z.shape[3]
        turned = wide.turned()
        z = pad(spaced(z, 2, wide.stride), 2, turned.before, turned.after)
        # (no, ni, k1, k2) -> a row for each (k1, ni), a column for each (no, k2)
        W = xp.reshape(xp.permute_dims(W, (2, 1, 0, 3)), (kernel[0] * ni, no * kernel[1]))
        span, columns = (high.kernel - 1) * high.dilation + 1, wide.size * samples
        size = max((high.positions - 1) * high.stride + span, high.before + high.size)
        x = xp.zeros((size, ni, columns), dtype=z.dtype, device=getattr(z, "device", None))
        for row in range(high.positions):
            start = row * high.stride
            taps = turned.gather(z[row, ...], 1, last_first=True)
            part = W @ xp.reshape(taps, (W.shape[1], columns))
            rows = x[start : start + span : high.dilation, ...]
            rows += xp.reshape(part, (kernel[0], ni, columns))
        x = x[high.before : high.before + high.size, ...]
        return xp.reshape(x, (high.size, ni, wide.size, samples))


def _product(A: Array, B: Array, groups: int) -> Array:
    """A (groups m, k) by B (groups k, n), group by group -> (groups m, n)."""
    if groups == 1:
        return A @ B
    C = _grouped(A, groups) @ _grouped(B, groups)
    return array_namespace(C).reshape(C, (A.shape[0], B.shape[1]))


def _outer(A: Array, B: Array, groups: int) -> Array:
    """A (groups m, n) by the transpose of B (groups k, n), group by group -> (groups m, k)."""
    if groups == 1:
        return A @ B.T
    xp = array_namespace(A, B)
    C = _grouped(A, groups) @ xp.matrix_transpose(_grouped(B, groups))
    return xp.reshape(C, (A.shape[0], B.shape[0] // groups))


def _grouped(A: Array, groups: int) -> Array:
    """(groups m, n) -> (groups, m, n)."""
    return array_namespace(A).reshape(A, (groups, A.shape[0] // groups, A.shape[1]))
