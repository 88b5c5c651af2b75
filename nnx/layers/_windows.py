"""Windows that slide along the axes of images and sequences, and their adjoint, without scatter.

A window has `kernel` taps along an axis. The t-th taps of all windows are one slice with a step,
so that all windows are a few slices. The adjoint adds overlapping windows up. Not every library
can write in place, so it reshapes instead: lay the windows of each tap out in rows of equal length,
cut the whole into rows that are shorter by the dilation, so that each tap is shifted against the
one before it by the dilation, then sum.

Layers that slide lay their arrays out with samples last, so that slices along space copy long runs
of samples. `layout` tells the order of the other axes. Between two such layers nothing is copied.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from nnx import checks
from nnx.backend import Array, array_namespace, owner_of
from nnx.checks import ShapeError
from nnx.layers._shapes import KNOWN, Shape

__all__ = [
    "ROWS",
    "Geometry",
    "Windows",
    "images",
    "laid_out",
    "layout",
    "pad",
    "part",
    "restored",
    "short",
    "slides",
    "spaced",
]

Padding = str | int | Sequence[int]

ROWS = (2, 1, 3, 0)  # (height, channels, width, samples)
AXES = {1: ("length",), 2: ("height", "width")}


class Windows(NamedTuple):
    """Windows along one axis of `size` cells with `before` and `after` cells of padding.

    Window l, 0 <= l < positions, has its tap t at the cell l stride + t dilation; cells of padding
    are counted.
    """

    kernel: int
    stride: int
    dilation: int
    size: int
    before: int
    after: int
    positions: int

    def slices(self, x: Array, axis: int) -> list[Array]:
        """For each tap its cells in all windows of a padded axis."""
        index: list[Any] = [slice(None)] * x.ndim
        taps = []
        for start in range(0, self.kernel * self.dilation, self.dilation):
            index[axis] = slice(start, start + (self.positions - 1) * self.stride + 1, self.stride)
            taps.append(x[tuple(index)])
        return taps

    def gather(self, x: Array, axis: int, last_first: bool = False) -> Array:
        """(.., size, ..) -> (.., kernel, .., positions, ..): the slices, stacked at axis 1."""
        xp = array_namespace(x)
        taps = self.slices(x, axis)
        if len(taps) == 1:
            return xp.expand_dims(taps[0], axis=1)
        return xp.stack(taps[::-1] if last_first else taps, axis=1)

    def view(self, x: Array) -> Array:
        """The same as `gather(x, 0)`; nothing is copied if the backend slides."""
        if not slides(x):
            return self.gather(x, 0)
        return owner_of(x).sliding(x, (self.positions, self.stride), (self.kernel, self.dilation))

    def join(self, pieces: list[Array], axis: int) -> Array:
        """The adjoint of `pad` and `slices`: a piece for each tap, an entry for each position."""
        xp = array_namespace(*pieces)
        if getattr(owner_of(pieces[0]), "mutable", False):
            return self._join_in_place(pieces, axis)
        gap = self.stride - self.kernel
        if self.dilation > 1 or gap < 0:
            return self.spread(xp.stack(pieces, axis=axis), axis)
        pieces = [*pieces, *[xp.zeros_like(pieces[0])] * gap]
        x = pieces[0]
        if len(pieces) > 1:
            shape = x.shape
            x = xp.stack(pieces, axis=axis + 1)
            x = xp.reshape(x, (*shape[:axis], shape[axis] * len(pieces), *shape[axis + 1 :]))
        return part(x, axis, self.before, self.before + self.size)

    def _join_in_place(self, pieces: list[Array], axis: int) -> Array:
        """The same as `join`, for arrays that can be written: pieces are added to their slices."""
        xp, first = array_namespace(*pieces), pieces[0]
        reach = (self.positions - 1) * self.stride + 1 + (self.kernel - 1) * self.dilation
        size = max(reach, self.before + self.size)
        shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
        x = xp.zeros(shape, dtype=first.dtype, device=getattr(first, "device", None))
        for piece, cells in zip(pieces, self.slices(x, axis), strict=True):
            if self.stride < self.kernel or self.dilation > 1:
                cells += piece
            else:
                cells[...] = piece
        return part(x, axis, self.before, self.before + self.size)

    def spread(self, x: Array, axis: int) -> Array:
        """(.., kernel, positions, ..) -> (.., size, ..): each entry is added to its tap's cell."""
        xp = array_namespace(x)
        x = spaced(x, axis + 1, self.stride)
        if self.kernel == 1:
            return part(xp.squeeze(x, axis=axis), axis, self.before, self.before + self.size)
        reach = (self.positions - 1) * self.stride + 1 + (self.kernel - 1) * self.dilation
        row = max(reach, self.before + self.size)
        x = part(x, axis + 1, 0, row + self.dilation)
        head, tail = x.shape[:axis], x.shape[axis + 2 :]
        x = xp.reshape(x, (*head, self.kernel * (row + self.dilation), *tail))
        x = part(x, axis, 0, self.kernel * row)
        x = xp.reshape(x, (*head, self.kernel, row, *tail))
        x = part(x, axis + 1, self.before, self.before + self.size)
        return xp.sum(x, axis=axis)

    def all_see_cells(self) -> bool:
        """Does every window have a tap that is not padding?"""
        cells = range(self.before, self.before + self.size)
        return all(
            any(p * self.stride + t * self.dilation in cells for t in range(self.kernel))
            for p in range(self.positions)
        )

    def turned(self) -> Windows:
        """The windows along `spaced(x, axis, stride)` that `spread` sums, one for each cell.

        The window of a cell holds the windows that the cell is in, those of the last tap first.
        """
        length = (self.positions - 1) * self.stride + 1
        before = (self.kernel - 1) * self.dilation - self.before
        after = self.size + (self.kernel - 1) * self.dilation - before - length
        return Windows(self.kernel, 1, self.dilation, length, before, after, self.size)


class Geometry:
    """How windows slide over space: one number for each of its axes.

    Args:
        owner: the layer, for messages.
        dimensions: number of axes.
        kernel, stride, dilation: positive integers, one or one for each axis.
        padding: "valid" (none), "same" (output as large as input, over the stride), or integers.
        size: the name of the kernel's argument, for messages.

    Raises:
        TypeError: an argument is not made of integers.
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        owner: Any,
        dimensions: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int],
        padding: Padding,
        dilation: int | Sequence[int],
        size: str = "kernel_size",
    ) -> None:
        self.kernel = checks.counts(owner, size, kernel, dimensions)
        self.stride = checks.counts(owner, "stride", stride, dimensions)
        self.dilation = checks.counts(owner, "dilation", dilation, dimensions)
        self.padding: str | tuple[int, ...]
        if isinstance(padding, str):
            self.padding = checks.choice(owner, "padding", padding, ("valid", "same"))
        else:
            self.padding = checks.counts(owner, "padding", padding, dimensions, least=0)
        self.span = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @functools.cached_property
    def _axes(self) -> list[tuple[int, int, int, int, int | str]]:
        paddings: Any = self.padding
        if isinstance(paddings, str):
            paddings = [paddings] * len(self.kernel)
        return list(zip(self.kernel, self.stride, self.dilation, self.span, paddings, strict=True))

    def over(self, space: Sequence[int]) -> list[Windows]:
        """The windows along each axis of a space; they have no positions if it is too small."""
        return [self._along(n, *axis) for n, axis in zip(space, self._axes, strict=True)]

    def known(self, space: Shape) -> list[Windows | None]:
        """The windows along each axis; None along an axis of any length."""
        axes = zip(space, self._axes, strict=True)
        return [None if n is None else self._along(n, *axis) for n, axis in axes]

    def _along(
        self, n: int, kernel: int, stride: int, dilation: int, span: int, padding: int | str
    ) -> Windows:
        if padding == "same":
            count = -(-n // stride)
            total = max((count - 1) * stride + span - n, 0)
            before, after = total // 2, total - total // 2
        else:
            before = after = 0 if isinstance(padding, str) else padding
            count = (n + before + after - span) // stride + 1
        return Windows(kernel, stride, dilation, n, before, after, count)

    def from_counts(self, counts: Sequence[int], more: Sequence[int]) -> list[Windows]:
        """The windows of the smallest space with so many of them, plus `more` cells at its end."""
        found = []
        for n, extra, (kernel, stride, dilation, span, padding) in zip(
            counts, more, self._axes, strict=True
        ):
            if padding == "same":
                total = max(span - stride, 0)
                size, before, after = n * stride, total // 2, total - total // 2
            else:
                before = after = 0 if isinstance(padding, str) else padding
                size = (n - 1) * stride + span - before - after + extra
            found.append(Windows(kernel, stride, dilation, size, before, after, n))
        return found

    def output(self, space: Shape, given: Shape) -> Shape:
        """The numbers of windows; None along an axis of any length.

        Raises:
            ShapeError: the space is too small for one.
        """
        windows = self.known(space)
        for w, span, name in zip(windows, self.span, AXES[len(space)], strict=True):
            if w is not None and (w.positions < 1 or w.size < 1):
                raise ShapeError(
                    f"has windows of {name} {span}, got input of shape {given}, whose {name} is "
                    f"{w.size}, with padding {w.size + w.before + w.after}: take a smaller kernel "
                    'or dilation, or padding="same"'
                )
        return tuple(None if w is None else w.positions for w in windows)


def short(value: Any) -> Any:
    """(3, 3) as 3."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def images(layer: Any, channels: int | None, dimensions: int, input_shape: Shape) -> Shape:
    """The space of an input (channels, *space).

    Raises:
        ShapeError: the input has another number of axes or channels.
    """
    if len(input_shape) != dimensions + 1 or channels not in (None, input_shape[0]):
        axes = ", ".join(AXES[dimensions])
        first = "channels" if channels is None else channels
        hint = ""
        if len(input_shape) != dimensions + 1:
            hint = f": put ReshapeLayer(({first}, {axes})) before it"
        elif input_shape[0] is None:
            hint = f"; {KNOWN} for the channels"
        elif input_shape[-1] == channels:
            hint = ": channels come first, (samples, channels, ...)"
        elif channels is not None:
            hint = f": {type(layer).__name__}({input_shape[0]}, ...)"
        raise ShapeError(f"takes input of shape ({first}, {axes}), got {input_shape}{hint}")
    return input_shape[1:]


def slides(x: Array) -> bool:
    """Return whether the backend of an array slides; see `OptionalHooks.slides`."""
    owner = owner_of(x)
    return owner is not None and owner.slides(x)


def layout(x: Array) -> tuple[int, ...]:
    """The axes of an x (samples, channels, *space) in the order that suits its backend.

    It is `ROWS`, (height, channels, width, samples), for images if the backend slides, else
    (channels, *space, samples).
    """
    return ROWS if x.ndim == len(ROWS) and slides(x) else (*range(1, x.ndim), 0)


def laid_out(x: Array, order: tuple[int, ...]) -> Array:
    """The axes in this order, in memory, too.

    A reshape to one axis copies only if the memory is laid out in another order.
    """
    xp = array_namespace(x)
    x = xp.permute_dims(x, order)
    return xp.reshape(xp.reshape(x, (-1,)), x.shape)


def restored(x: Array, order: tuple[int, ...]) -> Array:
    """The inverse of `laid_out`, a view."""
    return array_namespace(x).permute_dims(x, tuple(order.index(i) for i in range(x.ndim)))


def pad(x: Array, axis: int, before: int, after: int, value: float = 0.0) -> Array:
    """Add cells of a value at both ends of an axis; negative numbers remove cells."""
    if before < 0 or after < 0:
        x = part(x, axis, max(-before, 0), x.shape[axis] - max(-after, 0))
    if before <= 0 and after <= 0:
        return x
    xp = array_namespace(x)

    def cells(number: int) -> list[Array]:
        if number <= 0:
            return []
        shape = (*x.shape[:axis], number, *x.shape[axis + 1 :])
        device = getattr(x, "device", None)
        if value == 0:  # zeros need no kernel on a GPU
            return [xp.zeros(shape, dtype=x.dtype, device=device)]
        return [xp.full(shape, value, dtype=x.dtype, device=device)]

    return xp.concat([*cells(before), x, *cells(after)], axis=axis)


def part(x: Array, axis: int, start: int, stop: int) -> Array:
    """The cells start .. stop - 1 of an axis, zeros beyond its end."""
    n = x.shape[axis]
    if stop > n:
        x = pad(x, axis, 0, stop - n)
    if start == 0 and stop >= n:
        return x
    return x[(*[slice(None)] * axis, slice(start, stop), ...)]


def spaced(x: Array, axis: int, stride: int) -> Array:
    """Insert stride - 1 zeros after every cell of an axis except the last."""
    if stride == 1 or x.shape[axis] == 1:
        return x
    xp = array_namespace(x)
    n = x.shape[axis]
    x = pad(xp.expand_dims(x, axis=axis + 1), axis + 1, 0, stride - 1)
    x = xp.reshape(x, (*x.shape[:axis], n * stride, *x.shape[axis + 2 :]))
    return part(x, axis, 0, (n - 1) * stride + 1)
