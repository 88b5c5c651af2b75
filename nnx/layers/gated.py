"""Recurrent layers with gates: LSTM and GRU."""

from __future__ import annotations

from typing import Any

from nnx import checks
from nnx.backend import Array, array_namespace, owner_of
from nnx.initializers import Initializer, RandnAverage
from nnx.layers._sequences import place
from nnx.layers.base import Backward, Parameter
from nnx.layers.recurrent import Arrays, Cell, RecurrentLayer
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["GRULayer", "LSTMLayer"]


class _LSTMCell(Cell):
    """c' = f c + i g, h' = o tanh(c').

    All gates share one tanh, since s(z) = (1 + tanh(z / 2)) / 2: with a = 1 for g and a = 1/2 for
    the others, a gate is a tanh(a z) + 1 - a.
    """

    def __init__(self, layer: Any, like: Array) -> None:
        super().__init__(layer, like)
        self.scale = _by_gates((self.no, 1), like, (0.5, 0.5, 1.0, 0.5))
        self.a = _by_gates(like.shape, like, (0.5, 0.5, 1.0, 0.5))
        self.offset = 1.0 - self.a

    @staticmethod
    def of_library(layer: Any, x: Array, training: bool) -> tuple[Array, Backward] | None:
        """Return what `OptionalHooks.lstm` does."""
        owner, how = owner_of(x), (layer.reverse, layer.return_sequences, training)
        return None if owner is None else owner.lstm(x, layer.parameters, *how)

    def step(self, u: Array, v: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """Keep the gates and y = tanh(c')."""
        xp = array_namespace(u)
        v += u
        gates = xp.tanh(v)
        gates *= self.a
        gates += self.offset
        gates = xp.reshape(gates, (4, *state[1].shape))
        i, f, g, o = xp.unstack(gates)
        c = f * state[1]
        c += i * g
        y = xp.tanh(c)
        return (o * y, c), (gates, y)

    def slopes(self, before: Arrays, kept: Arrays) -> Arrays:
        """dc / dh = o (1 - y^2), S = dz / (dc, dc, dc, dh), and f.

        The slopes of the gates are i (1 - i), f (1 - f), (g + 1) (1 - g), o (1 - o).
        """
        (_, c), (gates, y) = before, kept
        xp = array_namespace(gates)
        i, f, g, o = xp.unstack(gates, axis=1)
        gates = xp.reshape(gates, (gates.shape[0], *self.a.shape))
        S = xp.concat([g, c, i, y], axis=1)
        S *= gates + (2.0 * self.a - 1.0)
        S *= 1.0 - gates
        return o * (1.0 - y * y), S, f

    def back(self, d: Arrays, slopes: Arrays) -> tuple[Array, Array, tuple[None, Array]]:
        """dc = dc + dh o (1 - y^2), dz = (dc, dc, dc, dh) S; dc of the step before is dc f."""
        (dh, dc), (of_h, S, f) = d, slopes
        dc = dc + dh * of_h
        dz = array_namespace(dc).concat([dc, dc, dc, dh], axis=-2)
        dz *= S
        return dz, dz, (None, dc * f)


class LSTMLayer(RecurrentLayer):
    """Long short-term memory: gates i, f, o and the candidate g, from z = u + v in this order.

        i, f, o = s(z_i), s(z_f), s(z_o),  g = tanh(z_g)
        c_t = f c_(t-1) + i g,             h_t = o tanh(c_t)

    with u = x_t W_ih^T + b_ih + b_hh, v = h_(t-1) W_hh^T, s(z) = 1 / (1 + exp(-z)).

    Backward: dc = dc_t + dh_t o (1 - tanh(c_t)^2), di = dc g, df = dc c_(t-1), dg = dc i,
    do = dh_t tanh(c_t), dz = each times the slope of its gate, dc_(t-1) = dc f,
    dh_(t-1) = dz W_hh.

    Shapes and other arguments: see `RecurrentLayer`; gates = 4, in the order i, f, g, o. Names,
    shapes and order are those of PyTorch's LSTM, so that weights can be copied from it.

    Args:
        forget_bias: initial b_ih of the gate f; all other initial biases are zero. With 1 the
            memory lasts at first, as Jozefowicz, Zaremba and Sutskever, ICML 2015, recommend; it is
            the default of Keras too. (PyTorch draws its biases.)

    Source: Hochreiter and Schmidhuber, Neural Computation 9, 1997; Gers, Schmidhuber and Cummins,
    Neural Computation 12, 2000, for the gate f; ONNX operator LSTM.
    """

    gates = 4
    memories = 2
    cell = _LSTMCell
    b_ih = Parameter()
    b_hh = Parameter()

    def __init__(
        self,
        ni: int,
        no: int,
        optim: Optimizer = SGD(),
        initializer: Initializer = RandnAverage(),
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        forget_bias: float = 1.0,
        recurrent_regularizer: Regularizer | None = None,
        return_sequences: bool = False,
        truncate: int | None = None,
        mask_value: float | None = None,
        reverse: bool = False,
    ) -> None:
        super().__init__(
            ni,
            no,
            optim,
            initializer,
            kernel_regularizer,
            name,
            recurrent_regularizer=recurrent_regularizer,
            return_sequences=return_sequences,
            truncate=truncate,
            mask_value=mask_value,
            reverse=reverse,
        )
        self.forget_bias = checks.number(self, "forget_bias", forget_bias)
        self.b_ih = _by_gates((self.no,), self.W_ih, (0.0, self.forget_bias, 0.0, 0.0))
        self.b_hh = self._zero_bias()

    def biases(self) -> tuple[Array]:
        """b_ih + b_hh, of which only the sum matters."""
        return (self.parameters["b_ih"] + self.parameters["b_hh"],)


class _GRUCell(Cell):
    """h' = n + z (h - n). The gates r and z are s(x) = (1 + tanh(x / 2)) / 2."""

    def __init__(self, layer: Any, like: Array) -> None:
        super().__init__(layer, like)
        self.scale = _by_gates((self.no, 1), like, (0.5, 0.5, 1.0))
        self.half = _by_gates(like.shape, like, (0.5, 0.5))

    def step(self, u: Array, v: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """Keep r and z, n, and v_n."""
        xp, two = array_namespace(u), 2 * self.no
        rz = u[:two, :] + v[:two, :]
        rz = xp.tanh(rz)
        rz *= self.half
        rz += self.half
        r, z, v_n = rz[: self.no, :], rz[self.no :, :], v[two:, :]
        n = r * v_n
        n += u[two:, :]
        n = xp.tanh(n)
        h = state[0] - n
        h *= z
        h += n
        return (h,), (rz, n, v_n)

    def slopes(self, before: Arrays, kept: Arrays) -> Arrays:
        """du / dh, dv / dh, and z."""
        (h,), (rz, n, v_n) = before, kept
        xp, r, z = array_namespace(n), rz[:, : self.no, :], rz[:, self.no :, :]
        rest = 1.0 - z
        du_n = 1.0 - n * n
        du_n *= rest
        du_z = h - n
        du_z *= z
        du_z *= rest
        du_r = du_n * v_n
        du_r *= r
        du_r *= 1.0 - r
        of_u, of_v = (xp.concat([du_r, du_z, last], axis=-2) for last in (du_n, du_n * r))
        return of_u, of_v, z

    def back(self, d: Arrays, slopes: Arrays) -> tuple[Array, Array, tuple[Array]]:
        """Each gradient is dh times what `slopes` returned."""
        (dh,), (of_u, of_v, z) = d, slopes
        dh_3 = array_namespace(dh).concat([dh, dh, dh], axis=-2)
        return dh_3 * of_u, dh_3 * of_v, (dh * z,)


class GRULayer(RecurrentLayer):
    """Gated recurrent unit: gates r and z, and the candidate n, in this order.

        r, z = s(u_r + v_r), s(u_z + v_z),  n = tanh(u_n + r v_n)
        h_t = (1 - z) n + z h_(t-1)

    with u = x_t W_ih^T + b_ih, v = h_(t-1) W_hh^T + b_hh, s(x) = 1 / (1 + exp(-x)).

    Backward: du_n = dh_t (1 - z) (1 - n^2), dr = du_n v_n, dz = dh_t (h_(t-1) - n),
    du_r = dr r (1 - r), du_z = dz z (1 - z); dv = du except dv_n = du_n r;
    dh_(t-1) = dh_t z + dv W_hh.

    Shapes and other arguments: see `RecurrentLayer`; gates = 3, in the order r, z, n. Names, shapes
    and order are those of PyTorch's GRU, so that weights can be copied from it. As there, r
    multiplies the product with W_hh; in the first version of the paper it multiplies the state
    before that product.

    Source: Cho et al., EMNLP 2014; ONNX operator GRU with linear_before_reset = 1.
    """

    gates = 3
    cell = _GRUCell
    b_ih = Parameter()
    b_hh = Parameter()

    def __init__(
        self,
        ni: int,
        no: int,
        optim: Optimizer = SGD(),
        initializer: Initializer = RandnAverage(),
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        recurrent_regularizer: Regularizer | None = None,
        return_sequences: bool = False,
        truncate: int | None = None,
        mask_value: float | None = None,
        reverse: bool = False,
    ) -> None:
        super().__init__(
            ni,
            no,
            optim,
            initializer,
            kernel_regularizer,
            name,
            recurrent_regularizer=recurrent_regularizer,
            return_sequences=return_sequences,
            truncate=truncate,
            mask_value=mask_value,
            reverse=reverse,
        )
        self.b_ih, self.b_hh = self._zero_bias(), self._zero_bias()

    def biases(self) -> tuple[Array, Array]:
        """b_ih, and b_hh apart from it, since r multiplies v."""
        return self.parameters["b_ih"], self.parameters["b_hh"]


def _by_gates(shape: tuple[int, ...], like: Array, numbers: tuple[float, ...]) -> Array:
    """Blocks of this shape, one for each gate, with one number each."""
    xp, dtype, device = array_namespace(like), like.dtype, place(like)
    return xp.concat([xp.full(shape, number, dtype=dtype, device=device) for number in numbers])
