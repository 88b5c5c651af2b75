"""Convolutions: z is a sum of products of weights with windows of x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nnx import checks
from nnx.activations import Activation, LogSoftmax, ReLU, SoftMax
from nnx.backend import Array, array_namespace
from nnx.initializers import Initializer, RandnAverage
from nnx.layers._arguments import Checked
from nnx.layers._products import Blocks, Rows, way_of
from nnx.layers._shapes import Shape
from nnx.layers._windows import Geometry, Padding, images, short
from nnx.layers.base import AffineLayer, Backward
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["Conv1DLayer", "Conv2DLayer", "ConvolutionLayer"]


class ConvolutionLayer(AffineLayer):
    """Base class of the layers whose kernel slides over space, which has `dimensions` axes.

    Its forward and backward are those of a convolution; see `Conv2DLayer` for the formulas.
    """

    dimensions: ClassVar[int]
    initializer = Checked(Initializer, "RandnAverage()")

    def __init__(
        self,
        ni: int,
        no: int,
        kernel_size: int | Sequence[int],
        afun: Activation = ReLU(),
        optim: Optimizer = SGD(),
        initializer: Initializer = RandnAverage(),
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(afun, optim, kernel_regularizer, name)
        if isinstance(afun, SoftMax | LogSoftmax):
            raise ValueError(
                f"{type(self).__name__}: expected afun to act on each entry, got {afun!r}, which "
                "acts along the last axis, here the width; for classes of pixels put "
                "PermuteLayer((2, 3, 1)) and ActivationLayer(SoftMax()) after a layer with Linear()"
            )
        self.ni = checks.count(self, "ni", ni)
        self.no = checks.count(self, "no", no)
        self.groups = checks.count(self, "groups", groups)
        if self.ni % self.groups or self.no % self.groups:
            raise ValueError(
                f"{type(self).__name__}: expected ni and no to be multiples of groups, got "
                f"ni={self.ni}, no={self.no}, groups={self.groups}; change one of them"
            )
        self.geometry = Geometry(self, self.dimensions, kernel_size, stride, padding, dilation)
        self.kernel_size = short(self.geometry.kernel)
        self.stride = short(self.geometry.stride)
        self.padding = short(self.geometry.padding)
        self.dilation = short(self.geometry.dilation)
        self.initializer = initializer
        self.bias = checks.flag(self, "bias", bias)
        self.W = self._filters(initializer)
        if self.bias:
            backend = self.backend
            self.b = backend.xp.zeros((self.no,), dtype=backend.dtype, device=backend.device)

    def _filters(self, initializer: Initializer) -> Array:
        """Initial weights, drawn for every group as if it were a layer of its own."""
        shape = (self.no // self.groups, self.ni // self.groups, *self.geometry.kernel)
        drawn = [initializer.weights(shape, self.afun.factor) for _ in range(self.groups)]
        return drawn[0] if len(drawn) == 1 else self.backend.xp.concat(drawn, axis=0)

    def preactivation(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """z = W * x + b; backward: dW = dz * x, db = sum(dz), dx = W^T * dz."""
        W = self.parameters["W"]
        way = way_of(x, W.shape, self.geometry.over(x.shape[2:]), self.groups)
        columns = way.gather(way.arranged(x))
        z, bias = self._biased(way, way.correlate(W, columns))

        def backward(dz: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            dz = way.arranged(dz)
            dx = way.restored(way.distribute(W, dz)) if need_dx else None
            return dx, {"W": way.products(dz, columns), **bias(dz)}

        return z, backward

    def _biased(self, way: Blocks | Rows, z: Array) -> tuple[Array, Any]:
        """z, arranged in that way, plus the bias, restored; and dz, arranged -> db."""
        xp = array_namespace(z)
        if "b" not in self.parameters:
            return way.restored(z), lambda dz: {}
        z += xp.reshape(self.parameters["b"], (self.no, *[1] * (z.ndim - 1 - way.channels)))
        others = tuple(axis for axis in range(z.ndim) if axis != way.channels)
        return way.restored(z), lambda dz: {"b": xp.sum(dz, axis=others)}

    def output_shape(self, input_shape: Shape) -> Shape:
        """(ni, *space) -> (no, *numbers of windows)."""
        space = images(self, self.ni, self.dimensions, input_shape)
        return (self.no, *self.geometry.output(space, input_shape))


class Conv2DLayer(ConvolutionLayer):
    """Slide a kernel over images: z_o(p) = b_o + sum_{c,t} W_oc(t) x_c(p stride + t dilation).

    The sum is over the channels c of o's group and the taps t of the kernel; cells of padding are
    zero; a = phi(z). (This is a cross-correlation; the field calls it a convolution.)

    Backward: dz = phi'(z) delta, dW_oc(t) = sum_p dz_o(p) x_c(p stride + t dilation) over the
    positions p of all samples, db_o = sum_p dz_o(p), and dx_c(q) is the sum of W_oc(t) dz_o(p)
    over all o, p, t with p stride + t dilation = q. The initial weights are
    `initializer.weights((no, ni, *kernel_size), afun.factor)`, group by group, so that the fans are
    those of a group; the initial bias is zero.

    Shapes: x (samples, ni, height, width), a (samples, no, *positions), W (no, ni / groups,
    *kernel_size), b (no,). There are floor((n + padding - span) / stride) + 1 positions along an
    axis of n cells, span = (kernel_size - 1) dilation + 1.

    Args:
        ni: channels of x.
        no: channels of a.
        kernel_size: cells of the kernel; a number, or a pair (height, width).
        afun: activation.
        optim: optimizer; the layer keeps a clone of it.
        initializer: of the weights.
        kernel_regularizer: penalty on W, never on b.
        name: what messages call the layer.
        stride: from one position to the next; a number or a pair.
        padding: zeros around the image. "valid": none; "same": as many as give
            ceil(n / stride) positions, an odd one at the end; a number for both ends of all
            axes, or a pair.
        dilation: from one tap to the next; a number or a pair.
        groups: number of groups of channels; each group of outputs sees one group of inputs.
        bias: is there a b?

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range; ni or no is not a multiple of groups.

    Source: LeCun et al., Proc. IEEE 86, 1998; ONNX operator Conv.
    """

    dimensions = 2


class Conv1DLayer(ConvolutionLayer):
    """Slide a kernel over sequences: z_o(p) = b_o + sum_{c,t} W_oc(t) x_c(p stride + t dilation).

    This is `Conv2DLayer` with one axis: the same formulas, arguments and errors, with numbers
    instead of pairs.

    Shapes: x (samples, ni, length), a (samples, no, positions), W (no, ni / groups, kernel_size),
    b (no,).

    Source: Waibel et al., IEEE Trans. ASSP 37, 1989; ONNX operator Conv.
    """

    dimensions = 1
