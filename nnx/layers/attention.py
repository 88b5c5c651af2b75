"""Attention, and the encoding of positions, which gives it the order of the time steps."""

from __future__ import annotations

import math
from collections.abc import Callable

from nnx import checks
from nnx.backend import Array, array_namespace, transposed_product
from nnx.checks import ShapeError
from nnx.initializers import Initializer, RandnAverage
from nnx.layers._arguments import Checked, Penalty
from nnx.layers._attention import attend
from nnx.layers._padding import Padding
from nnx.layers._sequences import check_input, check_sequence, is_data, padding_value, place
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["MultiHeadAttentionLayer", "PositionalEncodingLayer"]


class MultiHeadAttentionLayer(Layer):
    """Self-attention: every time step attends to all time steps, in several heads.

        Q, K, V = x W_in^T + b_in, three parts, each split into heads of d = ni / heads features
        A = softmax(Q K^T / sqrt(d)) along the keys,  O = A V,  y = O W_out^T + b_out

    Backward, with dO = delta W_out: dV = A^T dO, dA = dO V^T, dS = A (dA - sum(dA A)),
    dQ = dS K / sqrt(d), dK = dS^T Q / sqrt(d), dx = (dQ, dK, dV) W_in; dW_in = (dQ, dK, dV)^T x,
    dW_out = delta^T O; db_in and db_out are the sums of (dQ, dK, dV) and delta. `_attention` has
    the formulas between Q, K, V and O as they are computed.

    Shapes: x, y (samples, time, ni); W_in (3 ni, ni), b_in (3 ni,), W_out (ni, ni), b_out (ni,).
    They are PyTorch's in_proj_weight, in_proj_bias, out_proj.weight and out_proj.bias, so weights
    can be copied from it. A is (samples, heads, time, time); if it has more than four million
    entries, it is computed for some queries at a time, and again in the backward, so that memory
    grows with time, and not with its square.

    The initial weights are `initializer.weights((ni, ni))` for each of Q, K, V and the output, the
    initial biases are zero.

    Args:
        ni: number of features of the input, and of the output.
        heads: number of heads; ni is a multiple of it.
        optim: optimizer; the layer keeps a clone of it.
        initializer: of the weights.
        kernel_regularizer: penalty on W_in and on W_out, never on the biases.
        name: what messages call the layer.
        causal: a time step attends to itself and to earlier steps only.
        mask_value: a time step whose features are all equal to this number is padding; None if
            there is no padding. No other step attends to padding, its output is 0, and no
            gradient flows through it.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range, or ni is not a multiple of heads.

    Source: Vaswani et al., Attention is all you need, NeurIPS 2017.
    """

    can_skip_dx = True
    W_in = Parameter()
    b_in = Parameter()
    W_out = Parameter()
    b_out = Parameter()
    initializer = Checked(Initializer, "RandnAverage()")
    kernel_regularizer = Penalty("W_in", "W_out")

    def __init__(
        self,
        ni: int,
        heads: int,
        optim: Optimizer = SGD(),
        initializer: Initializer = RandnAverage(),
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        causal: bool = False,
        mask_value: float | None = None,
    ) -> None:
        super().__init__(optim, name)
        self.ni = ni = checks.count(self, "ni", ni)
        self.heads = checks.count(self, "heads", heads)
        if ni % self.heads:
            raise ValueError(
                f"MultiHeadAttentionLayer: expected ni to be a multiple of heads, got ni={ni}, "
                f"heads={self.heads}; change one of them"
            )
        self.initializer = initializer
        self.kernel_regularizer = kernel_regularizer
        self.causal = checks.flag(self, "causal", causal)
        self.mask_value = padding_value(self, mask_value)
        xp, dtype, device = self.backend.xp, self.backend.dtype, self.backend.device
        self.W_in = xp.concat([initializer.weights((ni, ni)) for _ in range(3)])
        self.b_in = xp.zeros((3 * ni,), dtype=dtype, device=device)
        self.W_out = initializer.weights((ni, ni))
        self.b_out = xp.zeros((ni,), dtype=dtype, device=device)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """y = softmax(Q K^T / sqrt(d)) V W_out^T + b_out."""
        check_input(self, x)
        p = self.parameters
        W_in, W_out = p["W_in"], p["W_out"]
        xp = array_namespace(x, W_in)
        samples, time, ni = x.shape
        data = is_data(x, self.mask_value)

        def only_data(array: Array) -> Array:
            return array if data is None else xp.where(data, array, 0.0)

        rows = xp.reshape(x, (-1, ni))
        projected = W_in @ rows.T
        projected += xp.expand_dims(p["b_in"], axis=-1)
        heads = xp.reshape(projected, (3, self.heads, -1, samples, time))
        heads = xp.permute_dims(heads, (0, 1, 3, 2, 4))  # (3, heads, samples, d, time)
        Q, K, V = (heads[part, ...] for part in range(3))
        scale = 1.0 / math.sqrt(ni // self.heads)
        hidden, queries = self._hidden(x, data)
        O, backward_of_heads = attend(Q * scale, K, V, hidden, queries)  # noqa: E741
        O = xp.reshape(xp.permute_dims(O, (0, 2, 1, 3)), (ni, -1))  # noqa: E741
        y = transposed_product(O, W_out.T)
        y += p["b_out"]

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            delta = xp.reshape(only_data(delta), (-1, ni))
            dO = xp.reshape(W_out.T @ delta.T, (self.heads, -1, samples, time))
            dQ, dK, dV = backward_of_heads(xp.permute_dims(dO, (0, 2, 1, 3)))
            dQ *= scale
            d = xp.stack([xp.permute_dims(part, (0, 2, 1, 3)) for part in (dQ, dK, dV)])
            d = xp.reshape(d, (3 * ni, -1))
            gradients = {
                "W_in": d @ rows,
                "b_in": xp.sum(d, axis=-1),
                "W_out": transposed_product(delta, O.T),
                "b_out": xp.sum(delta, axis=0),
            }
            return xp.reshape(transposed_product(d, W_in), x.shape) if need_dx else None, gradients

        return only_data(xp.reshape(y, x.shape)), backward

    def _hidden(
        self, x: Array, data: Array | None
    ) -> tuple[Callable[..., Array] | None, list[Array]]:
        """Return what `attend` needs to hide keys from queries.

        A query of padding attends to all keys, so that its softmax has something to sum over. Its
        output and its gradient are set to zero.
        """
        xp, time = array_namespace(x), x.shape[1]
        if data is None and not self.causal:
            return None, []
        t = xp.arange(time, dtype=xp.int32, device=place(x)) if self.causal else None

        def hidden(*queries: Array) -> Array:
            given, found = iter(queries), None
            if data is not None:  # (samples, time, 1): a row for each key
                found = xp.logical_and(xp.logical_not(data), next(given))
            if t is not None:
                future = xp.expand_dims(t, axis=1) > next(given)
                found = future if found is None else xp.logical_or(future, found)
            return xp.where(found, xp.asarray(-math.inf, dtype=x.dtype, device=place(x)), 0.0)

        queries = [] if data is None else [xp.matrix_transpose(data)]
        return hidden, queries if t is None else [*queries, t]

    def output_shape(self, input_shape: Shape) -> Shape:
        """(time, ni) -> (time, ni); time may be None, any."""
        check_sequence(input_shape, self.ni)
        return input_shape

    def padding_after(self, before: Padding) -> Padding:
        """It is 0."""
        return before.found_by(self, 0.0)


class PositionalEncodingLayer(Layer):
    """Add waves that encode the position: y_t = x_t + P_t, with features 2i and 2i + 1 of P_t

        sin(t / 10000^(2i / ni)),  cos(t / 10000^(2i / ni)).

    Backward: dx = delta. P is a buffer, not a parameter. It is computed once on the host in
    float64, where large times lose no digits.

    Shapes: x, y (samples, time, ni), P (max_time, ni).

    Args:
        ni: number of features.
        max_time: the length of the longest sequence.
        name: what messages call the layer.
        mask_value: a time step whose features are all equal to this number is padding and is left
            unchanged, so that the layers that follow recognise it too; None if there is no padding.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.

    Source: Vaswani et al., Attention is all you need, NeurIPS 2017, section 3.5.
    """

    def __init__(
        self,
        ni: int,
        max_time: int = 1000,
        name: str | None = None,
        *,
        mask_value: float | None = None,
    ) -> None:
        super().__init__(name=name)
        self.ni = ni = checks.count(self, "ni", ni)
        self.max_time = checks.count(self, "max_time", max_time)
        self.mask_value = padding_value(self, mask_value)
        waves = [
            (10000.0 ** (-(j - j % 2) / ni), math.cos if j % 2 else math.sin) for j in range(ni)
        ]
        P = [[wave(t * rate) for rate, wave in waves] for t in range(self.max_time)]
        self.buffers["P"] = self.backend.asarray(P)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """y = x + P[:time]; backward: dx = delta."""
        check_input(self, x)
        P = self.buffers["P"]
        xp = array_namespace(x, P)
        y = x + P[: x.shape[1], :]
        data = is_data(x, self.mask_value)
        if data is not None:
            y = xp.where(data, y, x)
        return y, lambda delta: (delta, {})

    def output_shape(self, input_shape: Shape) -> Shape:
        """(time, ni) -> (time, ni), time up to max_time; it may be None, any."""
        time = check_sequence(input_shape, self.ni)
        if time is not None and time > self.max_time:
            raise ShapeError(
                f"takes input of shape (time, {self.ni}), time up to max_time={self.max_time}, got "
                f"{input_shape}; make it with a larger max_time, or shorten the sequences"
            )
        return input_shape

    def padding_after(self, before: Padding) -> Padding:
        """It is kept."""
        return before.found_by(self, before.value)
