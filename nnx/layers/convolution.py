"""Convolutions: z is a sum of products of weights with windows of x, written once for all spaces.

Two functions are adjoint to each other, and everything here is made of them: `_correlate` takes x
to z, `_distribute` takes dz to dx. A transposed convolution is the second going forward. Both
gather along all axes of space but the first: slices with a step, stacked, are the columns of a
matrix product. What the taps of the first axis give is added up. To gather along no axis needs
more and smaller products, to gather along all holds more memory and takes longer, unless there
are few channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

from nnx.activations import Activation, LogSoftmax, ReLU, SoftMax
from nnx.backend import Array, array_namespace
from nnx.initializers import Initializer, RandnAverage
from nnx.layers._windows import (
    Geometry,
    Padding,
    Windows,
    images,
    numbers,
    pad,
    samples_first,
    samples_last,
    short,
    spaced,
)
from nnx.checks import ShapeError
from nnx.layers.base import AffineLayer, Backward
from nnx.optimizers import Optimizer
from nnx.regularizers import Regularizer

__all__ = ["Conv1DLayer", "Conv2DLayer", "ConvTranspose2DLayer", "ConvolutionLayer"]


class ConvolutionLayer(AffineLayer):
    """Base class of the layers whose kernel slides over space; `dimensions` says of how many axes.

    Its forward and backward are those of a convolution, in formulas those of `Conv2DLayer`.
    """

    dimensions: ClassVar[int]

    def __init__(
        self,
        ni: int,
        no: int,
        kernel_size: int | Sequence[int],
        afun: Activation | None = None,
        optim: Optimizer | None = None,
        initializer: Initializer | None = None,
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(afun or ReLU(), optim, kernel_regularizer, name)
        if isinstance(afun, SoftMax | LogSoftmax):
            raise ValueError(
                f"{self.name}: {afun!r} works along the last axis, which is the width here; for "
                "classes of pixels put PermuteLayer((2, 3, 1)) and ActivationLayer(SoftMax()) "
                "after a layer with Linear()"
            )
        owner = type(self).__name__
        for size in (ni, no, groups):
            if not isinstance(size, Integral) or size < 1:
                raise ValueError(
                    f"{owner}(ni={ni!r}, no={no!r}, groups={groups!r}): expected positive integers"
                )
        if ni % groups or no % groups:
            raise ValueError(
                f"{owner}(ni={ni}, no={no}, groups={groups}): expected ni and no to be multiples "
                "of groups"
            )
        self.ni, self.no, self.groups = int(ni), int(no), int(groups)
        self.geometry = Geometry(owner, self.dimensions, kernel_size, stride, padding, dilation)
        self.W = self.afun.factor * self._filters(initializer or RandnAverage())
        if bias:
            backend = self.backend
            self.b = backend.xp.zeros((self.no,), dtype=backend.dtype, device=backend.device)

    def _filters(self, initializer: Initializer) -> Array:
        """Initial weights: those of every group by themselves, as if it were a layer."""
        shape = (self.no // self.groups, self.ni // self.groups, *self.geometry.kernel)
        drawn = [initializer.filters(shape) for _ in range(self.groups)]
        return drawn[0] if len(drawn) == 1 else self.backend.xp.concat(drawn, axis=0)

    def preactivation(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """z = W * x + b; backward: dW = dz * x, db = sum(dz), dx = W^T * dz."""
        W = self.parameters["W"]
        xp = array_namespace(x, W)
        windows = self.geometry.over(x.shape[2:])
        columns = _gather(samples_last(x), windows, W.shape)
        z, bias = self._biased(_correlate(W, columns, windows, self.groups))

        def backward(dz: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            dz = samples_last(dz)
            rows = xp.reshape(dz, (self.no, columns[0].shape[1]))
            dW = _products(rows, columns, W.shape, self.groups)
            dx = samples_first(_distribute(W, dz, windows, self.groups)) if need_dx else None
            return dx, {"W": dW, **bias(rows)}

        return z, backward

    def _biased(self, z: Array) -> tuple[Array, Any]:
        """z (no, *space, samples) plus the bias, samples first, and how db comes from dz's rows."""
        xp = array_namespace(z)
        if "b" not in self.parameters:
            return samples_first(z), lambda rows: {}
        z += xp.reshape(self.parameters["b"], (self.no, *[1] * (z.ndim - 1)))
        return samples_first(z), lambda rows: {"b": xp.sum(rows, axis=1)}

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(ni, *space) -> (no, *numbers of windows)."""
        space = images(self, self.ni, self.dimensions, input_shape)
        return (self.no, *self.geometry.output(space, input_shape))

    def __repr__(self) -> str:
        text = f"{type(self).__name__}({self.ni}, {self.no}, {short(self.geometry.kernel)!r}"
        text += f", afun={self.afun!r}"
        text += self.geometry.describe(stride=1, padding=["valid", 0], dilation=1)
        text += f", groups={self.groups}" if self.groups > 1 else ""
        text += "" if "b" in self.parameters else ", bias=False"
        return f"{text})"


class Conv2DLayer(ConvolutionLayer):
    """A kernel slides over images: z_o(p) = b_o + sum_{c,t} W_oc(t) x_c(p stride + t dilation).

    The sum is over the channels c of o's group and the taps t of the kernel; cells of padding are
    zero; a = phi(z). (The field calls convolution what is a cross-correlation.)

    Backward: dz = phi'(z) delta, dW_oc(t) = sum_p dz_o(p) x_c(p stride + t dilation) over the
    positions p of all samples, db_o = sum_p dz_o(p), and dx_c(q) is the sum of W_oc(t) dz_o(p)
    over all o, p, t with p stride + t dilation = q. The initial weights are
    `afun.factor * initializer.filters((no, ni, *kernel_size))`, group by group, so that fans are
    those of a group; the initial bias is zero.

    Shapes: x (samples, ni, height, width), a (samples, no, *positions), W (no, ni / groups,
    *kernel_size), b (no,). There are floor((n + padding - span) / stride) + 1 positions along an
    axis of n cells, span = (kernel_size - 1) dilation + 1.

    Args:
        ni: channels of x.
        no: channels of a.
        kernel_size: cells of the kernel; a number, or a pair (height, width).
        afun: activation; ReLU() if not given.
        optim: optimizer; the layer takes a clone of it. SGD() if not given.
        initializer: of the weights; RandnAverage() if not given.
        kernel_regularizer: penalty on W, never on b.
        name: what messages call the layer.
        stride: from one position to the next; a number or a pair.
        padding: zeros around the image. "valid": none; "same": so many that there are
            ceil(n / stride) positions, an odd one at the end; a number for both ends of all
            axes, or a pair.
        dilation: from one tap to the next; a number or a pair.
        groups: channels are split into so many groups that do not see each other.
        bias: is there a b?

    Raises:
        ValueError: an argument is out of its range; ni or no is no multiple of groups.

    Source: LeCun et al., Proc. IEEE 86, 1998; ONNX operator Conv.
    """

    dimensions = 2


class Conv1DLayer(ConvolutionLayer):
    """A kernel slides over sequences: z_o(p) = b_o + sum_{c,t} W_oc(t) x_c(p stride + t dilation).

    `Conv2DLayer` with one axis: the same formulas, arguments and errors, numbers where that one
    has pairs.

    Shapes: x (samples, ni, length), a (samples, no, positions), W (no, ni / groups, kernel_size),
    b (no,).

    Source: Waibel et al., IEEE Trans. ASSP 37, 1989; ONNX operator Conv.
    """

    dimensions = 1


class ConvTranspose2DLayer(ConvolutionLayer):
    """The adjoint of a convolution: z_o(q) = b_o + sum of W_co(t) x_c(p).

    The sum is over all channels c of o's group, positions p and taps t with p stride + t dilation
    = q + padding; a = phi(z). It is the dx of the `Conv2DLayer` with the same W, whose dz is x.

    Backward: dz = phi'(z) delta, dx_c(p) = sum_{o,t} W_co(t) dz_o(p stride + t dilation - padding),
    dW_co(t) = sum_p x_c(p) dz_o(p stride + t dilation - padding), db_o = sum_q dz_o(q). Initial
    weights have the fans of a convolution from ni to no channels.

    Shapes: x (samples, ni, height, width), a (samples, no, *space), W (ni, no / groups,
    *kernel_size), b (no,). From n cells along an axis come (n - 1) stride + span - 2 padding +
    output_padding, span = (kernel_size - 1) dilation + 1.

    Args:
        ni: channels of x.
        no: channels of a.
        kernel_size: cells of the kernel; a number, or a pair (height, width).
        afun: activation; ReLU() if not given.
        optim: optimizer; the layer takes a clone of it. SGD() if not given.
        initializer: of the weights; RandnAverage() if not given.
        kernel_regularizer: penalty on W, never on b.
        name: what messages call the layer.
        stride: between the places where the kernel is laid down; a number or a pair.
        padding: cells that are cut off at both ends; a number or a pair. "valid": none; "same":
            so many that n stride cells are left.
        dilation: from one tap to the next; a number or a pair.
        groups: channels are split into so many groups that do not see each other.
        bias: is there a b?
        output_padding: further cells at the end, as a convolution with a stride forgets how many
            there were; a number or a pair, below the stride or the dilation.

    Raises:
        ValueError: an argument is out of its range; ni or no is no multiple of groups.

    Source: Zeiler et al., CVPR 2010; ONNX operator ConvTranspose.
    """

    dimensions = 2

    def __init__(
        self,
        ni: int,
        no: int,
        kernel_size: int | Sequence[int],
        afun: Activation | None = None,
        optim: Optimizer | None = None,
        initializer: Initializer | None = None,
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            ni,
            no,
            kernel_size,
            afun,
            optim,
            initializer,
            kernel_regularizer,
            name,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        more = numbers("ConvTranspose2DLayer", "output_padding", output_padding, 2, least=0)
        largest = tuple(map(max, self.geometry.stride, self.geometry.dilation))
        if self.geometry.padding == "same" and any(more):
            raise ValueError(
                'ConvTranspose2DLayer: padding="same" leaves nothing open, expected '
                f"output_padding=0, got {output_padding!r}"
            )
        if any(extra >= limit for extra, limit in zip(more, largest, strict=True)):
            raise ValueError(
                "ConvTranspose2DLayer: expected output_padding below the stride or the dilation, "
                f"{largest}, got {output_padding!r}"
            )
        self.output_padding = more

    def _filters(self, initializer: Initializer) -> Array:
        xp, inside = self.backend.xp, self.no // self.groups
        drawn = super()._filters(initializer)
        parts = [
            xp.permute_dims(drawn[g * inside : (g + 1) * inside, ...], (1, 0, 2, 3))
            for g in range(self.groups)
        ]
        return xp.concat(parts, axis=0)

    def preactivation(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """z = W^T * x + b; backward: dW = x * dz, db = sum(dz), dx = W * dz."""
        W = self.parameters["W"]
        xp = array_namespace(x, W)
        windows = self.geometry.from_counts(x.shape[2:], self.output_padding)
        x = samples_last(x)
        z, bias = self._biased(_distribute(W, x, windows, self.groups))

        def backward(dz: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            dz = samples_last(dz)
            columns = _gather(dz, windows, W.shape)
            rows = xp.reshape(x, (self.ni, columns[0].shape[1]))
            dW = _products(rows, columns, W.shape, self.groups)
            dx = samples_first(_correlate(W, columns, windows, self.groups)) if need_dx else None
            return dx, {"W": dW, **bias(xp.reshape(dz, (self.no, -1)))}

        return z, backward

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(ni, height, width) -> (no, *space)."""
        counts = images(self, self.ni, self.dimensions, input_shape)
        windows = self.geometry.from_counts(counts, self.output_padding)
        space = tuple(w.size for w in windows)
        if min(*space, *counts) < 1:
            raise ShapeError(
                f"cuts off all that input of shape {input_shape} gives, {space}: take less padding"
            )
        return (self.no, *space)

    def __repr__(self) -> str:
        text = super().__repr__()
        more = short(self.output_padding)
        return f"{text[:-1]}, output_padding={more!r})" if more else text


def _gather(x: Array, windows: list[Windows], kernel: tuple[int, ...]) -> list[Array]:
    """x (ni, *space, samples) as blocks of columns (ni taps, positions samples), for `_correlate`.

    Either all taps make one block, gathered, or each tap of the first axis of space makes one,
    and these overlap: views of what is gathered along the other axes. One block is one product,
    several are several, whose results must be added, but are smaller together by the taps of that
    axis. So it depends on what is larger, the columns of one tap or z.
    """
    xp, n = array_namespace(x), len(windows)
    for axis, w in enumerate(windows, start=1):
        x = pad(x, axis, w.before, w.after)
    first, *others = windows
    for w in reversed(others):  # the axis of each is n by then, as taps were put before it
        x = w.gather(x, n)
    ni, samples = x.shape[0], x.shape[-1]
    taps, places = math.prod(w.kernel for w in others), math.prod(w.positions for w in windows)
    if kernel[1] * taps >= kernel[0]:
        return [xp.reshape(tap, (ni * taps, places * samples)) for tap in first.slices(x, n)]
    return [xp.reshape(first.gather(x, n), (ni * taps * first.kernel, places * samples))]


def _correlate(W: Array, columns: list[Array], windows: list[Windows], groups: int) -> Array:
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


def _products(rows: Array, columns: list[Array], kernel: tuple[int, ...], groups: int) -> Array:
    """rows (no, positions samples) by the transposed columns -> (no, ni / groups, *kernel)."""
    xp = array_namespace(rows, *columns)
    parts = [_outer(rows, block, groups) for block in columns]
    if len(parts) == 1:
        return xp.reshape(parts[0], kernel)
    shape = (*kernel[:2], *kernel[3:])
    return xp.stack([xp.reshape(part, shape) for part in parts], axis=2)


def _distribute(W: Array, z: Array, windows: list[Windows], groups: int) -> Array:
    """The adjoint of `_correlate(_gather(x))`: z (no, *positions, samples) -> x's shape.

    Along the first axis of space, what each tap gives is added up. Along the others, each cell
    gathers the positions that it takes part in, which is cheaper than to add up more.
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
