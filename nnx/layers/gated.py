"""Recurrent layers with gates: LSTM and GRU."""

from __future__ import annotations

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.initializers import Initializer, RandnAverage
from nnx.layers._sequences import place
from nnx.layers.base import Parameter
from nnx.layers.recurrent import Cell, CellBackward, RecurrentLayer, State
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["GRULayer", "LSTMLayer"]


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
        self.b_ih = self._by_gates(self.W_ih, (0.0, self.forget_bias, 0.0, 0.0))
        self.b_hh = self._zero_bias()

    def biases(self) -> tuple[Array, None]:
        """b_ih + b_hh, of which only the sum matters."""
        return self.parameters["b_ih"] + self.parameters["b_hh"], None

    def cell(self, u: Array) -> Cell:
        """c' = f c + i g, h' = o tanh(c').

        All gates share one tanh, since s(z) = (1 + tanh(z / 2)) / 2: with a = 1 for g and a = 1/2
        for the others, a gate is a t + 1 - a with t = tanh(a z), and its slope is a^2 (1 - t^2).
        """
        xp = array_namespace(u)
        a = self._by_gates(u, (0.5, 0.5, 1.0, 0.5))
        offset, slope = 1.0 - a, a * a
        quarters = [slice(k * self.no, (k + 1) * self.no) for k in range(4)]

        def step(u: Array, v: Array, state: State) -> tuple[State, CellBackward]:
            c = state[1]
            z = u + v
            z *= a
            t = xp.tanh(z)
            gates = t * a
            gates += offset
            i, f, g, o = (gates[:, quarter] for quarter in quarters)
            c_next = f * c
            c_next += i * g
            y = xp.tanh(c_next)

            def backward(dh: Array, dc: Array) -> tuple[Array, Array, tuple[None, Array]]:
                dc = dc + dh * o * (1.0 - y * y)
                dz = xp.concat([dc * g, dc * c, dc * i, dh * y], axis=-1)
                dz *= 1.0 - t * t
                dz *= slope
                return dz, dz, (None, dc * f)

            return (o * y, c_next), backward

        return step

    def _by_gates(self, like: Array, numbers: tuple[float, ...]) -> Array:
        """A row (gates * no,) with one number for each gate."""
        xp = array_namespace(like)
        rows = [
            xp.full((self.no,), number, dtype=like.dtype, device=place(like)) for number in numbers
        ]
        return xp.concat(rows)


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

    def cell(self, u: Array) -> Cell:
        """h' = (1 - z) n + z h."""
        xp = array_namespace(u)
        both, first, second = slice(0, 2 * self.no), slice(0, self.no), slice(self.no, None)
        third = slice(2 * self.no, None)

        def step(u: Array, v: Array, state: State) -> tuple[State, CellBackward]:
            (h,) = state
            rz = u[:, both] + v[:, both]
            rz *= 0.5
            rz = xp.tanh(rz)  # s(x) = (1 + tanh(x / 2)) / 2
            rz *= 0.5
            rz += 0.5
            r, z, v_n = rz[:, first], rz[:, second], v[:, third]
            n = r * v_n
            n += u[:, third]
            n = xp.tanh(n)
            change = h - n

            def backward(dh: Array) -> tuple[Array, Array, tuple[Array]]:
                kept = dh * z
                dn = (dh - kept) * (1.0 - n * n)
                drz = xp.concat([dn * v_n, dh * change], axis=-1)
                drz *= rz
                drz *= 1.0 - rz
                du = xp.concat([drz, dn], axis=-1)
                dv = xp.concat([drz, dn * r], axis=-1)
                return du, dv, (kept,)

            return (z * change + n,), backward

        return step
