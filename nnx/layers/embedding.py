"""The embedding of tokens, integers that stand for words, letters or digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnx import checks
from nnx.backend import Array, array_namespace, sum_rows
from nnx.checks import ShapeError
from nnx.initializers import Initializer, LeCunNormal
from nnx.layers._arguments import Checked, Penalty
from nnx.layers._padding import Padding
from nnx.layers._sequences import place
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["EmbeddingLayer"]


class EmbeddingLayer(Layer):
    """Look up a row of E for every token: y = E[x], the product of one-hot rows with E.

    Backward: dE = onehot(x)^T delta, dx = 0: row i of dE is the sum of the rows of delta whose
    token is i. The sums have a fixed order, so that results can be repeated. The initial rows are
    `initializer.weights((ni, no))`.

    Shapes: x (samples, time), or (samples, ...) of any number of axes; y (samples, time, no);
    E (ni, no), the transpose of a dense layer's W.

    Tokens are integers, or floating-point numbers with integer values, to which a network converts
    its data: float32 holds every integer up to 2^24 = 16,777,216 exactly. `check_inputs` refuses
    other tokens once, before the first step. `forward` itself does not look at them, since it would
    have to wait for the device.

    Args:
        ni: number of tokens: they are 0 to ni - 1.
        no: number of features of each.
        optim: optimizer; the layer keeps a clone of it.
        initializer: of the rows. The default gives rows of length about 1.
        kernel_regularizer: penalty on E.
        name: what messages call the layer.
        padding_index: the token that fills up short sequences, or None. Its rows of y are exactly
            0, whatever E holds, and its row of dE is 0: the layers that follow recognise it with
            mask_value=0.0.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ni or no is less than 1, or padding_index is not a token from 0 to ni - 1.

    Source: Bengio, Ducharme, Vincent and Jauvin, JMLR 3, 2003; ONNX operator Gather.
    """

    can_skip_dx = True
    E = Parameter()
    initializer = Checked(Initializer, "LeCunNormal()")
    kernel_regularizer = Penalty("E")

    def __init__(
        self,
        ni: int,
        no: int,
        optim: Optimizer = SGD(),
        initializer: Initializer = LeCunNormal(),
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        padding_index: int | None = None,
    ) -> None:
        super().__init__(optim, name)
        self.ni = checks.count(self, "ni", ni)
        self.no = checks.count(self, "no", no)
        self.initializer = initializer
        self.kernel_regularizer = kernel_regularizer
        if padding_index is not None:
            padding_index = checks.count(self, "padding_index", padding_index, least=0)
            if padding_index >= self.ni:
                raise ValueError(
                    f"EmbeddingLayer: expected padding_index to be a token from 0 to "
                    f"{self.ni - 1}, got {padding_index!r}; choose one of them, or a larger ni"
                )
        self.padding_index = padding_index
        self.E = initializer.weights((self.ni, self.no))

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """y = E[x]; backward: dE = onehot(x)^T delta, dx = 0."""
        E = self.parameters["E"]
        xp = array_namespace(x, E)
        whole = xp.isdtype(x.dtype, "integral")
        tokens = xp.reshape(x if whole else xp.astype(x, xp.int32), (-1,))
        y = xp.take(E, tokens, axis=0)
        padding = None
        if self.padding_index is not None:
            padding = xp.expand_dims(tokens == self.padding_index, axis=-1)
            y = xp.where(padding, 0.0, y)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            rows = xp.reshape(delta, (-1, self.no))
            if padding is not None:
                rows = xp.where(padding, 0.0, rows)
            dE = sum_rows(rows, tokens, self.ni)
            if not need_dx:
                return None, {"E": dE}
            return xp.zeros(x.shape, dtype=E.dtype, device=place(x)), {"E": dE}

        return xp.reshape(y, (*x.shape, self.no)), backward

    def check_inputs(self, x: Any) -> None:
        """Raise an error if x holds anything but tokens from 0 to ni - 1; the device is read once.

        Raises:
            TypeError: x does not hold numbers.
            ValueError: a token is out of range or not an integer; its position is named.
        """
        if not hasattr(x, "dtype"):
            x = np.asarray(x)
        xp = array_namespace(x)
        if not xp.isdtype(x.dtype, ("integral", "real floating")):
            raise TypeError(
                f"{self.name}: expected tokens, integers from 0 to {self.ni - 1}, got {x.dtype}; "
                "convert them first: x.astype(int)"
            )
        good = xp.logical_and(x >= 0, x < self.ni)
        if not xp.isdtype(x.dtype, "integral"):
            good = xp.logical_and(good, xp.floor(x) == x)
        if bool(xp.all(good)):
            return
        first = int(xp.argmin(xp.astype(xp.reshape(good, (-1,)), xp.int32)))
        position = tuple(map(int, np.unravel_index(first, x.shape)))
        token = float(x[position])
        remedy = "number the tokens from 0"
        if token >= self.ni and token.is_integer():
            remedy = f"give the layer at least {int(token) + 1} tokens: ni={int(token) + 1}"
        raise ValueError(
            f"{self.name}: expected tokens, integers from 0 to {self.ni - 1}, got {token:.17g} at "
            f"x[{', '.join(map(str, position))}]; {remedy}"
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        """(time,) -> (time, no)."""
        if 0 in input_shape:
            raise ShapeError(
                f"takes input of shape (time,) with at least one time step, got {input_shape}"
            )
        return (*input_shape, self.no)

    def padding_after(self, before: Padding) -> Padding:
        """It is 0 with padding_index."""
        if self.padding_index is None:
            return before.lost(self, "give it padding_index=0, if 0 is the token of padding")
        return Padding(0.0, self)
