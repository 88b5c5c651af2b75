"""Transposed convolutions, the adjoints of convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from nnx import checks
from nnx.activations import Activation, ReLU
from nnx.backend import Array
from nnx.checks import ShapeError
from nnx.initializers import Initializer, RandnAverage
from nnx.layers._products import way_of
from nnx.layers._shapes import Shape
from nnx.layers._windows import Padding, images, short
from nnx.layers.base import Backward
from nnx.layers.convolution import ConvolutionLayer
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["ConvTranspose2DLayer"]


class ConvTranspose2DLayer(ConvolutionLayer):
    """Adjoint of a convolution: z_o(q) = b_o + sum of W_co(t) x_c(p).

    The sum is over all channels c of o's group, positions p and taps t with p stride + t dilation
    = q + padding; a = phi(z). z is the dx of the `Conv2DLayer` with the same W for dz = x.

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
        afun: activation.
        optim: optimizer; the layer keeps a clone of it.
        initializer: of the weights.
        kernel_regularizer: penalty on W, never on b.
        name: what messages call the layer.
        stride: between the positions of the kernel; a number or a pair.
        padding: cells that are cut off at both ends; a number or a pair. "valid": none; "same":
            as many as leave n stride cells.
        dilation: from one tap to the next; a number or a pair.
        groups: number of groups of channels; each group of outputs sees one group of inputs.
        bias: is there a b?
        output_padding: further cells at the end, since inputs of several sizes give a convolution
            with a stride the same number of positions; a number or a pair, below the stride or the
            dilation.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range; ni or no is not a multiple of groups.

    Source: Zeiler et al., CVPR 2010; ONNX operator ConvTranspose.
    """

    dimensions = 2

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
        more = checks.counts(self, "output_padding", output_padding, 2, least=0)
        largest = tuple(map(max, self.geometry.stride, self.geometry.dilation))
        if self.geometry.padding == "same" and any(more):
            raise ValueError(
                'ConvTranspose2DLayer: expected output_padding to be 0 with padding="same", which '
                f"fixes the size of the output, got {output_padding!r}"
            )
        if any(extra >= limit for extra, limit in zip(more, largest, strict=True)):
            raise ValueError(
                "ConvTranspose2DLayer: expected output_padding to be below the larger of stride "
                f"and dilation, {largest}, got {output_padding!r}"
            )
        self.output_padding, self._more = short(more), more

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
        windows = self.geometry.from_counts(x.shape[2:], self._more)
        way = way_of(x, W.shape, windows, self.groups)
        x = way.arranged(x)
        z, bias = self._biased(way, way.distribute(W, x))

        def backward(dz: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            dz = way.arranged(dz)
            columns = way.gather(dz)
            dx = way.restored(way.correlate(W, columns)) if need_dx else None
            return dx, {"W": way.products(x, columns), **bias(dz)}

        return z, backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(ni, height, width) -> (no, *space)."""
        counts = images(self, self.ni, self.dimensions, input_shape)
        windows = self.geometry.from_counts([1 if n is None else n for n in counts], self._more)
        space = tuple(n if n is None else w.size for n, w in zip(counts, windows, strict=True))
        if any(n is not None and n < 1 for n in (*space, *counts)):
            raise ShapeError(
                f"cuts off the whole output for input of shape {input_shape}, leaving {space}: "
                "take less padding"
            )
        return (self.no, *space)
