"""Attention, and the encoding of positions that tells it the order of time."""

from __future__ import annotations

import math
from typing import Any

from nnx.activations import SoftMax
from nnx.backend import Array, array_namespace
from nnx.initializers import Initializer, RandnAverage
from nnx.layers._sequences import (
    check_input,
    check_sequence,
    flag,
    initializer_of,
    is_data,
    padding_value,
    penalties,
    place,
    size,
)
from nnx.checks import ShapeError
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import Optimizer
from nnx.regularizers import Regularizer

__all__ = ["MultiHeadAttentionLayer", "PositionalEncodingLayer"]


class MultiHeadAttentionLayer(Layer):
    """Self-attention: every step of time looks at all the others, in several heads side by side.

        Q, K, V = x W_in^T + b_in, in three parts, each cut into heads of d = ni / heads features
        A = softmax(Q K^T / sqrt(d)) along the keys,  O = A V,  y = O W_out^T + b_out

    Backward, with dO = delta W_out: dV = A^T dO, dA = dO V^T, dS = A (dA - sum(dA A)),
    dQ = dS K / sqrt(d), dK = dS^T Q / sqrt(d), dx = (dQ, dK, dV) W_in; dW_in = (dQ, dK, dV)^T x,
    dW_out = delta^T O, and biases the sums.

    Shapes: x, y (samples, time, ni); W_in (3 ni, ni), b_in (3 ni,), W_out (ni, ni), b_out (ni,).
    They are PyTorch's in_proj_weight, in_proj_bias, out_proj.weight and out_proj.bias, so weights
    can be carried over. A is (samples, heads, time, time): memory grows with the square of time.

    The initial weights are `initializer.wfun(ni, ni)` for each of Q, K, V and the output, the
    initial biases are zero.

    Args:
        ni: number of features of the input, and of the output.
        heads: number of heads; ni is a multiple of it.
        optim: optimizer; the layer takes a clone of it. SGD() if not given.
        initializer: of the weights; RandnAverage() if not given.
        kernel_regularizer: penalty on W_in and on W_out, never on the biases.
        name: what messages call the layer.
        causal: a step looks at itself and at what was before it, never at what comes.
        mask_value: a time step whose features are all equal to this number is padding: nothing
            looks at it, its output is 0, and no gradient goes through it.

    Raises:
        ValueError: an argument is not what it should be.

    Source: Vaswani et al., Attention is all you need, NeurIPS 2017.
    """

    can_skip_dx = True
    W_in = Parameter()
    b_in = Parameter()
    W_out = Parameter()
    b_out = Parameter()

    def __init__(
        self,
        ni: int,
        heads: int,
        optim: Optimizer | None = None,
        initializer: Initializer | None = None,
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        causal: bool = False,
        mask_value: float | None = None,
    ) -> None:
        super().__init__(optim, name)
        self.ni, self.heads = ni, heads = size(self.name, "ni", ni), size(self.name, "heads", heads)
        if ni % heads:
            raise ValueError(
                f"{self.name}: expected ni to be a multiple of heads, got {ni}, {heads}"
            )
        self.causal = flag(self.name, "causal", causal)
        self.mask_value = padding_value(self.name, mask_value)
        penalties(self, W_in=kernel_regularizer, W_out=kernel_regularizer)
        draw = initializer_of(self.name, initializer, RandnAverage)
        xp, dtype, device = self.backend.xp, self.backend.dtype, self.backend.device
        self.W_in = xp.concat([draw.wfun(ni, ni) for _ in range(3)])
        self.b_in = xp.zeros((3 * ni,), dtype=dtype, device=device)
        self.W_out = draw.wfun(ni, ni)
        self.b_out = xp.zeros((ni,), dtype=dtype, device=device)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """y = softmax(Q K^T / sqrt(d)) V W_out^T + b_out."""
        check_input(self, x)
        p = self.parameters
        W_in, W_out = p["W_in"], p["W_out"]
        xp = array_namespace(x, W_in)
        samples, time, ni = x.shape
        scale = 1.0 / math.sqrt(ni // self.heads)
        data = is_data(x, self.mask_value)

        def only_data(array: Array) -> Array:
            return array if data is None else xp.where(data, array, 0.0)

        rows = xp.reshape(x, (-1, ni))
        projected = rows @ W_in.T
        projected += p["b_in"]
        heads = xp.reshape(projected, (samples, time, 3, self.heads, -1))
        heads = xp.permute_dims(heads, (2, 0, 3, 1, 4))  # (3, samples, heads, time, d)
        Q, K, V = (heads[part, ...] for part in range(3))
        Q = Q * scale
        scores = Q @ xp.matrix_transpose(K)
        visible = self._visible(x, data)
        if visible is not None:
            # Half of the lowest number: what SoftMax subtracts from it must not overflow.
            scores = xp.where(visible, scores, 0.5 * float(xp.finfo(x.dtype).min))
        A, softmax = SoftMax().forward(scores)
        O = xp.reshape(xp.permute_dims(A @ V, (0, 2, 1, 3)), (-1, ni))  # noqa: E741
        y = O @ W_out.T
        y += p["b_out"]

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            delta = xp.reshape(only_data(delta), (-1, ni))
            dO = xp.reshape(delta @ W_out, (samples, time, self.heads, -1))
            dO = xp.permute_dims(dO, (0, 2, 1, 3))
            dV = xp.matrix_transpose(A) @ dO
            dS = softmax(dO @ xp.matrix_transpose(V))
            dQ = dS @ K
            dQ *= scale
            dK = xp.matrix_transpose(dS) @ Q
            d = xp.permute_dims(xp.stack([dQ, dK, dV]), (1, 3, 0, 2, 4))
            d = xp.reshape(d, (-1, 3 * ni))
            gradients = {
                "W_in": d.T @ rows,
                "b_in": xp.sum(d, axis=0),
                "W_out": delta.T @ O,
                "b_out": xp.sum(delta, axis=0),
            }
            return xp.reshape(d @ W_in, x.shape) if need_dx else None, gradients

        return only_data(xp.reshape(y, x.shape)), backward

    def _visible(self, x: Array, data: Array | None) -> Array | None:
        """Which keys (last axis) a query may look at; None: all."""
        xp, time = array_namespace(x), x.shape[1]
        visible = None
        if data is not None:
            visible = xp.reshape(data, (x.shape[0], 1, 1, time))
        if self.causal:
            t = xp.arange(time, dtype=xp.int32, device=place(x))
            past = xp.expand_dims(t, axis=1) >= t
            visible = past if visible is None else xp.logical_and(past, visible)
        return visible

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(time, ni) -> (time, ni); time may be None."""
        check_sequence(input_shape, self.ni)
        return input_shape

    def __repr__(self) -> str:
        causal = ", causal=True" if self.causal else ""
        mask = "" if self.mask_value is None else f", mask_value={self.mask_value}"
        return f"MultiHeadAttentionLayer({self.ni}, {self.heads}{causal}{mask})"


class PositionalEncodingLayer(Layer):
    """Adds waves that tell the time: y_t = x_t + P_t, with features 2i and 2i + 1 of P_t

        sin(t / 10000^(2i / ni)),  cos(t / 10000^(2i / ni)).

    Backward: dx = delta. P is no parameter but a buffer, computed once on the host, where large
    times lose no digits.

    Shapes: x, y (samples, time, ni), P (max_time, ni).

    Args:
        ni: number of features.
        max_time: the longest sequence that it takes.
        name: what messages call the layer.
        mask_value: a time step whose features are all equal to this number is padding and stays
            as it is, so that the layers that follow recognise it too.

    Raises:
        ValueError: an argument is not what it should be.

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
        self.ni, self.max_time = size(self.name, "ni", ni), size(self.name, "max_time", max_time)
        self.mask_value = padding_value(self.name, mask_value)
        waves = [
            (10000.0 ** (-(j - j % 2) / ni), math.cos if j % 2 else math.sin) for j in range(ni)
        ]
        P = [[wave(t * rate) for rate, wave in waves] for t in range(max_time)]
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

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(time, ni) -> (time, ni), time up to max_time; it may be None."""
        time: Any = check_sequence(input_shape, self.ni)
        if time is not None and time > self.max_time:
            raise ShapeError(
                f"takes input of shape (time, {self.ni}), time up to max_time={self.max_time}, got "
                f"{input_shape}"
            )
        return input_shape

    def __repr__(self) -> str:
        mask = "" if self.mask_value is None else f", mask_value={self.mask_value}"
        return f"PositionalEncodingLayer({self.ni}, {self.max_time}{mask})"
