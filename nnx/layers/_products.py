"""The products of convolutions with windows, written once for all numbers of axes.

Two functions are adjoint to each other, and every convolution consists of them: `correlate` maps x
to z, `distribute` maps dz to dx. A transposed convolution uses the second in its forward. Both
gather along all axes of space except the first: slices with a step, stacked, are the columns of a
matrix product. The results for the taps of the first axis are added up. Gathering along no axis
needs more and smaller products; gathering along all holds more memory and takes longer, unless
there are few channels.
"""

from __future__ import annotations

import math

from nnx.backend import Array, array_namespace
from nnx.layers._windows import Windows, pad, spaced

__all__ = ["correlate", "distribute", "gather", "products"]


def gather(x: Array, windows: list[Windows], kernel: tuple[int, ...]) -> list[Array]:
    """x (ni, *space, samples) as blocks of columns (ni taps, positions samples), for `correlate`.

    Either all taps make one block, which is gathered, or each tap of the first axis of space makes
    a block, a view of what is gathered along the other axes. One block needs a single product.
    Several need a sum of products, but less memory, by the number of taps of that axis. The choice
    depends on which is larger, the columns of one tap or z.
    """
    xp, n = array_namespace(x), len(windows)
    for axis, w in enumerate(windows, start=1):
        x = pad(x, axis, w.before, w.after)
    first, *others = windows
    for w in reversed(others):  # the axis of each is n, since taps were put before it
        x = w.gather(x, n)
    ni, samples = x.shape[0], x.shape[-1]
    taps, places = math.prod(w.kernel for w in others), math.prod(w.positions for w in windows)
    if kernel[1] * taps >= kernel[0]:
        return [xp.reshape(tap, (ni * taps, places * samples)) for tap in first.slices(x, n)]
    return [xp.reshape(first.gather(x, n), (ni * taps * first.kernel, places * samples))]


def correlate(W: Array, columns: list[Array], windows: list[Windows], groups: int) -> Array:
    """W (no, ni / groups, *kernel) by the columns -> z (no, *positions, samples)."""
    xp, no = array_namespace(W, *columns), W.shape[0]
    if len(columns) > 1:
        W = xp.permute_dims(W, (2, 0, 1, *range(3, W.ndim)))
    W = xp.reshape(W, (len(columns), no, math.prod(W.shape) // (len(columns) * no)))
    z = _product(W[0, ...], columns[0], groups)
    for tap, block in enumerate(columns[1:], start=1):
        z += _product(W[tap, ...], block, groups)
    space = [w.positions for w in windows]
    return xp.reshape(z, (no, *space, columns[0].shape[1] // math.prod(space)))


def products(rows: Array, columns: list[Array], kernel: tuple[int, ...], groups: int) -> Array:
    """rows (no, positions samples) by the transposed columns -> (no, ni / groups, *kernel)."""
    xp = array_namespace(rows, *columns)
    parts = [_outer(rows, block, groups) for block in columns]
    if len(parts) == 1:
        return xp.reshape(parts[0], kernel)
    shape = (*kernel[:2], *kernel[3:])
    return xp.stack([xp.reshape(part, shape) for part in parts], axis=2)


def distribute(W: Array, z: Array, windows: list[Windows], groups: int) -> Array:
    """The adjoint of `correlate(gather(x))`: z (no, *positions, samples) -> the shape of x.

    Along the first axis of space, the results of the taps are added up. Along the others, each cell
    gathers the positions of the windows that it is in, which is cheaper than adding up more.
    """
    xp, n = array_namespace(W, z), len(windows)
    (no, inside, *kernel), samples = W.shape, z.shape[-1]
    first, *others = windows
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
