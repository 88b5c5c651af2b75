"""The dense layer."""

from __future__ import annotations

import math
from typing import Any

from nnx import checks
from nnx.activations import Activation, ReLU
from nnx.backend import Array, array_namespace, transposed_product
from nnx.checks import ShapeError
from nnx.initializers import Initializer, RandnAverage
from nnx.layers._arguments import Checked
from nnx.layers._shapes import KNOWN, Shape
from nnx.layers.base import AffineLayer, Backward
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["DenseLayer"]


class DenseLayer(AffineLayer):
    """Connect every output to every input: z = x W^T + b, a = phi(z).

    Backward: dz = phi'(z) delta, dW = dz^T x, db = sum(dz), dx = dz W. The initial weights are
    `initializer.weights((no, ni), afun.factor)`, the initial bias is zero.

    Shapes: x (samples, ni), a (samples, no), W (no, ni), b (no,). For sequences, x (samples, time,
    ni), every time step goes through the same layer, and a is (samples, time, no).

    Args:
        ni: number of inputs.
        no: number of outputs.
        afun: activation.
        optim: optimizer; the layer keeps a clone of it.
        initializer: of the weights.
        kernel_regularizer: penalty on W, never on b.
        name: what messages call the layer.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ni or no is less than 1.
    """

    initializer = Checked(Initializer, "RandnAverage()")

    def __init__(
        self,
        ni: int,
        no: int,
        afun: Activation = ReLU(),
        optim: Optimizer = SGD(),
        initializer: Initializer = RandnAverage(),
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(afun, optim, kernel_regularizer, name)
        self.ni = checks.count(self, "ni", ni)
        self.no = checks.count(self, "no", no)
        self.initializer = initializer
        backend = self.backend
        self.W = initializer.weights((self.no, self.ni), self.afun.factor)
        self.b = backend.xp.zeros((self.no,), dtype=backend.dtype, device=backend.device)

    def preactivation(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """z = x W^T + b; backward: dW = dz^T x, db = sum(dz), dx = dz W."""
        W, b = self.parameters["W"], self.parameters["b"]
        xp = array_namespace(x, W)
        if x.ndim > 2:
            return self._each_step(x, xp)
        z = x @ W.T
        z += b

        def backward(dz: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            # Where dz is the shorter one, no library has a better way, and calls cost.
            dW = transposed_product(dz, x) if self.no > self.ni else dz.T @ x
            return dz @ W if need_dx else None, {"W": dW, "b": xp.sum(dz, axis=0)}

        return z, backward

    def _each_step(self, x: Array, xp: Any) -> tuple[Array, Backward]:
        """Treat the time steps of all samples as that many samples."""
        z, of_rows = self.preactivation(xp.reshape(x, (-1, self.ni)))

        def backward(dz: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            dx, gradients = of_rows(xp.reshape(dz, (-1, self.no)), need_dx)
            return xp.reshape(dx, x.shape) if need_dx else None, gradients

        return xp.reshape(z, (*x.shape[:-1], self.no)), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(ni,) -> (no,); for sequences (time, ni) -> (time, no)."""
        if len(input_shape) not in (1, 2) or input_shape[-1] != self.ni:
            remedy = ""
            if None in input_shape[2:]:
                remedy = f"; put a GlobalAvgPoolLayer before it, or {KNOWN}"
            elif input_shape[-1:] == (None,):
                remedy = f"; {KNOWN} for the last axis"
            elif None in input_shape:
                remedy = f"; give it {input_shape[-1]} inputs"
            elif len(input_shape) > 1:
                size = math.prod(input_shape)
                remedy = "; put FlattenLayer() before it"
                remedy += "" if size == self.ni else f", and give it {size} inputs"
            raise ShapeError(f"takes input of shape ({self.ni},), got {input_shape}{remedy}")
        return (*input_shape[:-1], self.no)
