"""The embedding of tokens, whole numbers that stand for words, letters or digits."""

from __future__ import annotations

from numbers import Integral

from nnx.backend import Array, array_namespace
from nnx.initializers import Initializer, LeCunNormal
from nnx.layers._sequences import initializer_of, penalties, place, size
from nnx.checks import ShapeError
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import Optimizer
from nnx.regularizers import Regularizer

__all__ = ["EmbeddingLayer"]

# The one-hot rows of the backward have at most so many entries at a time.
BLOCK = 1 << 24


class EmbeddingLayer(Layer):
    """A row of E for every token: y = E[x], which is the product of one-hot rows with E.

    Backward: dE = onehot(x)^T delta, a product and no scatter, so that its sums have an order and
    a result that can be repeated; dx = 0. The initial rows are `initializer.wfun(ni, no)`.

    Shapes: x (samples, time), or (samples, ...) of any number of axes; y (samples, time, no);
    E (ni, no), the transpose of a dense layer's W.

    Tokens are integers, or floating-point numbers that are whole, as a network makes them of its
    data: float32 holds every whole number up to 2^24 = 16,777,216 exactly. What stands behind the
    point is cut off. A token below 0 or from ni on cannot be seen on the device without waiting
    for it, and so gives no error: by library it wraps, or gives another row, NaN, or an error of
    its own. Check such data once on the host: `0 <= x.min() and x.max() < ni`.

    Args:
        ni: number of tokens: they are 0 to ni - 1.
        no: number of features of each.
        optim: optimizer; the layer takes a clone of it. SGD() if not given.
        initializer: of the rows; LeCunNormal() if not given, rows of length about 1.
        kernel_regularizer: penalty on E.
        name: what messages call the layer.
        padding_index: the token that fills up short sequences. Its rows of y are exactly 0,
            whatever stands in E, and its row of dE is 0: the layers that follow recognise it
            with mask_value=0.0.

    Raises:
        ValueError: ni or no is not a positive integer, padding_index none from 0 to ni - 1.

    Source: Bengio, Ducharme, Vincent and Jauvin, JMLR 3, 2003; ONNX operator Gather.
    """

    can_skip_dx = True
    E = Parameter()

    def __init__(
        self,
        ni: int,
        no: int,
        optim: Optimizer | None = None,
        initializer: Initializer | None = None,
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        padding_index: int | None = None,
    ) -> None:
        super().__init__(optim, name)
        self.ni, self.no = size(self.name, "ni", ni), size(self.name, "no", no)
        if padding_index is not None and (
            not isinstance(padding_index, Integral)
            or isinstance(padding_index, bool)
            or not 0 <= padding_index < ni
        ):
            raise ValueError(
                f"{self.name}: expected padding_index to be a token from 0 to {ni - 1} or None, "
                f"got {padding_index!r}"
            )
        self.padding_index = None if padding_index is None else int(padding_index)
        penalties(self, E=kernel_regularizer)
        self.E = initializer_of(self.name, initializer, LeCunNormal).wfun(self.ni, self.no)

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
            numbers = xp.arange(self.ni, dtype=tokens.dtype, device=place(tokens))
            total, step = tokens.shape[0], max(1, BLOCK // self.ni)
            dE = None
            for start in range(0, max(total, 1), step):
                few = slice(start, min(start + step, total))
                one_hot = xp.astype(xp.expand_dims(numbers, axis=-1) == tokens[few], E.dtype)
                part = one_hot @ rows[few, :]
                dE = part if dE is None else dE + part
            if not need_dx:
                return None, {"E": dE}
            return xp.zeros(x.shape, dtype=E.dtype, device=place(x)), {"E": dE}

        return xp.reshape(y, (*x.shape, self.no)), backward

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(time,) -> (time, no)."""
        if 0 in input_shape:
            raise ShapeError(f"takes input of shape (time,) from one step on, got {input_shape}")
        return (*input_shape, self.no)

    def __repr__(self) -> str:
        padding = "" if self.padding_index is None else f", padding_index={self.padding_index}"
        return f"EmbeddingLayer({self.ni}, {self.no}{padding})"
