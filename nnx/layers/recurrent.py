"""Recurrent layers: a cell, which is one step of time, and one loop over time for all of them.

A cell has the inputs' part u = x_t W_ih^T + b, the state's part v = h W_hh^T, both (samples,
gates * no), and the state (h, ...), and gives the next state. The loop computes u for all steps in
one product before it begins, v step by step, and the gradients of the weights in one product for
all steps when it has ended:

    dW_ih = sum_t du_t^T x_t,   dW_hh = sum_t dv_t^T h_(t-1),   dx_t = du_t W_ih

where du and dv are the gradients of u and v, which the cell's backward gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

from nnx.activations import Activation, TanH
from nnx.backend import Array, array_namespace
from nnx.initializers import Initializer, RandnAverage, RandnOrthonormal
from nnx.layers._sequences import (
    check_input,
    check_sequence,
    expect,
    flag,
    initializer_of,
    is_data,
    padding_value,
    penalties,
    place,
    size,
)
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import Optimizer
from nnx.regularizers import Regularizer

__all__ = ["GRULayer", "LSTMLayer", "RNNLayer", "RecurrentLayer"]

State = tuple[Array, ...]
# The gradients of the next state -> du, dv, and the gradients of the state where it enters the
# cell beside v; None where it does not.
CellBackward = Callable[..., tuple[Array, Array, tuple[Array | None, ...]]]
Cell = Callable[[Array, Array, State], tuple[State, CellBackward]]


class RecurrentLayer(Layer):
    """Base class of the layers that go through time step by step: the loop.

    Subclasses say the number of their `gates` and of the arrays in their `states`, and define
    `cell(u)`, the function of one step, and `biases()`.

    Shapes: x (samples, time, ni); y (samples, time, no) with return_sequences, else (samples, no);
    W_ih (gates * no, ni), W_hh (gates * no, no), biases (gates * no,). The state begins with zeros.

    A library that compiles a step sees the loop unrolled, and takes the longer to compile the more
    steps there are: with JAX seconds for 20, minutes for 100. Then cut long sequences into pieces.

    Args:
        ni: number of features of the input.
        no: number of features of the state, and of the output.
        optim: optimizer; the layer takes a clone of it. SGD() if not given.
        initializer: of W_ih, gate by gate: `wfun(no, ni)`; RandnAverage() if not given. W_hh is
            orthonormal gate by gate, biases are zero.
        kernel_regularizer: penalty on W_ih.
        name: what messages call the layer.
        recurrent_regularizer: penalty on W_hh.
        return_sequences: give the states h of all steps, instead of the last one alone.
        truncate: k: the gradient does not go back over the boundaries of segments of k steps,
            counted from where the layer begins; the state does go on. Without return_sequences
            only the last segment then has a gradient.
        mask_value: a time step whose features are all equal to this number is padding. The state
            goes through it unchanged, its output is 0, and no gradient goes through it. So the
            last state is that after a sample's last step that is no padding.
        reverse: go through time from the last step to the first. The output of step t stays at t;
            "the last state" is that after the first step.

    Raises:
        ValueError: an argument is not what it should be.
    """

    can_skip_dx = True
    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    factor: float = 1.0
    W_ih = Parameter()
    W_hh = Parameter()

    def __init__(
        self,
        ni: int,
        no: int,
        optim: Optimizer | None = None,
        initializer: Initializer | None = None,
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        recurrent_regularizer: Regularizer | None = None,
        return_sequences: bool = False,
        truncate: int | None = None,
        mask_value: float | None = None,
        reverse: bool = False,
    ) -> None:
        super().__init__(optim, name)
        self.ni, self.no = size(self.name, "ni", ni), size(self.name, "no", no)
        self.return_sequences = flag(self.name, "return_sequences", return_sequences)
        self.truncate = None if truncate is None else size(self.name, "truncate", truncate)
        self.mask_value = padding_value(self.name, mask_value)
        self.reverse = flag(self.name, "reverse", reverse)
        penalties(self, W_ih=kernel_regularizer, W_hh=recurrent_regularizer)
        xp = self.backend.xp
        of_inputs = initializer_of(self.name, initializer, RandnAverage)
        of_states = RandnOrthonormal()
        gates = range(self.gates)
        self.W_ih = self.factor * xp.concat([of_inputs.wfun(self.no, self.ni) for _ in gates])
        self.W_hh = xp.concat([of_states.wfun(self.no, self.no) for _ in gates])

    def cell(self, u: Array) -> Cell:
        """The function of one step, (u_t, v_t, state) -> (next state, backward).

        Its backward takes the gradients of the next state. It returns those of u_t and v_t, and
        those of the state where that enters beside v_t, None where it does not.

        Args:
            u: of all steps, an array like those that the function will get.
        """
        raise NotImplementedError(f"{type(self).__name__} must define cell(u)")

    def biases(self) -> tuple[Array, Array | None]:
        """The bias of u, and that of v where it cannot be part of the other."""
        raise NotImplementedError(f"{type(self).__name__} must define biases()")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The loop over time, and the loop back."""
        check_input(self, x)
        W_ih, W_hh = self.parameters["W_ih"], self.parameters["W_hh"]
        xp = array_namespace(x, W_ih)
        samples, time, _ = x.shape
        inputs = xp.reshape(x, (-1, self.ni))
        bias, state_bias = self.biases()
        u = inputs @ W_ih.T
        u += bias
        u = xp.reshape(u, (samples, time, -1))
        data = is_data(x, self.mask_value)
        zeros = xp.zeros((samples, self.no), dtype=x.dtype, device=place(x))
        steps = range(time)[::-1] if self.reverse else range(time)

        cell = self.cell(u)
        state: State = (zeros,) * self.states
        hs, backwards = [], []
        for t in steps:
            v = state[0] @ W_hh.T
            if state_bias is not None:
                v += state_bias
            following, cell_backward = cell(u[:, t, :], v, state)
            state = following if data is None else _choose(data[:, t, :], following, state)
            hs.append(state[0])
            backwards.append(cell_backward)

        def in_time(arrays: list[Array]) -> Array:
            """What belongs to the steps, as (samples, time, ...)."""
            return xp.stack(arrays[::-1] if self.reverse else arrays, axis=1)

        def only_data(array: Array) -> Array:
            """Zeros in the place of padding."""
            return array if data is None else xp.where(data, array, 0.0)

        h_all = in_time(hs) if self.return_sequences else None

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            d: list[Array] = [zeros] * self.states
            if self.return_sequences:
                delta = only_data(delta)
            else:
                d[0] = delta
            dus, dvs = [], []
            for step in range(time - 1, -1, -1):
                t = steps[step]
                if self.return_sequences:
                    d[0] = d[0] + delta[:, t, :]
                du, dv, beside = backwards[step](*d)
                dh = dv @ W_hh
                if beside[0] is not None:
                    dh += beside[0]
                before = (dh, *beside[1:])
                d = list(before if data is None else _choose(data[:, t, :], before, d))
                if self.truncate and step % self.truncate == 0:
                    d = [zeros] * self.states
                dus.append(du)
                dvs.append(dv)
            du_all = only_data(in_time(dus[::-1]))
            dv_all = du_all if dus[0] is dvs[0] else only_data(in_time(dvs[::-1]))
            # Step by step dv^T h, h being the state before the step; that of the first is zero.
            earlier, later = slice(None, -1), slice(1, None)
            if self.reverse:
                earlier, later = later, earlier
            states = in_time(hs) if h_all is None else h_all
            h_before = xp.reshape(states[:, earlier, :], (-1, self.no))
            dv_after = xp.reshape(dv_all[:, later, :], (-1, self.gates * self.no))
            du_rows = xp.reshape(du_all, (-1, self.gates * self.no))
            gradients = {"W_ih": du_rows.T @ inputs, "W_hh": dv_after.T @ h_before}
            for name in self.parameters:
                if name not in gradients:
                    gradients[name] = xp.sum(dv_all if name == "b_hh" else du_all, axis=(0, 1))
            dx = xp.reshape(du_rows @ W_ih, x.shape) if need_dx else None
            return dx, gradients

        return state[0] if h_all is None else only_data(h_all), backward

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(time, ni) -> (time, no) with return_sequences, else (no,); time may be None."""
        time: Any = check_sequence(input_shape, self.ni)
        return (time, self.no) if self.return_sequences else (self.no,)

    def __repr__(self) -> str:
        options = {
            "return_sequences": self.return_sequences,
            "truncate": self.truncate,
            "mask_value": self.mask_value,
            "reverse": self.reverse,
        }
        shown = (f", {n}={v!r}" for n, v in options.items() if v is not None and v is not False)
        given = "".join(shown)
        return f"{type(self).__name__}({self.ni}, {self.no}{self._own_arguments()}{given})"

    def _own_arguments(self) -> str:
        return ""

    def _zero_bias(self) -> Array:
        backend = self.backend
        shape = (self.gates * self.no,)
        return backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)


class RNNLayer(RecurrentLayer):
    """The simple recurrent network: h_t = phi(x_t W_ih^T + h_(t-1) W_hh^T + b).

    Backward, with dh_t from the output and from step t + 1: dz_t = phi'(z_t) dh_t,
    dh_(t-1) = dz_t W_hh, dx_t = dz_t W_ih, dW_ih = sum dz_t^T x_t, dW_hh = sum dz_t^T h_(t-1),
    db = sum dz_t.

    W_ih begins with `afun.factor * initializer.wfun(no, ni)`. Shapes and other arguments: see
    `RecurrentLayer`; gates = 1. PyTorch's RNN has a second bias: here b = b_ih + b_hh.

    Args:
        afun: activation phi; TanH() if not given.

    Source: Elman, Cognitive Science 14, 1990; ONNX operator RNN.
    """

    b = Parameter()

    def __init__(
        self,
        ni: int,
        no: int,
        afun: Activation | None = None,
        optim: Optimizer | None = None,
        initializer: Initializer | None = None,
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        expect(name or "RNNLayer", Activation | None, afun, "TanH()")
        self.afun = afun or TanH()
        self.factor = self.afun.factor
        super().__init__(ni, no, optim, initializer, kernel_regularizer, name, **options)
        self.b = self._zero_bias()

    def biases(self) -> tuple[Array, None]:
        """b."""
        return self.parameters["b"], None

    def cell(self, u: Array) -> Cell:
        """h = phi(u + v); backward: du = dv = phi'(u + v) dh."""

        def step(u: Array, v: Array, state: State) -> tuple[State, CellBackward]:
            h, activation = self.afun.forward(u + v)

            def backward(dh: Array) -> tuple[Array, Array, tuple[None]]:
                dz = activation(dh)
                return dz, dz, (None,)

            return (h,), backward

        return step

    def _own_arguments(self) -> str:
        return f", afun={self.afun!r}"


class LSTMLayer(RecurrentLayer):
    """Long short-term memory: gates i, f, o and the candidate g, from z = u + v in this order.

        i, f, o = s(z_i), s(z_f), s(z_o),  g = tanh(z_g)
        c_t = f c_(t-1) + i g,             h_t = o tanh(c_t)

    with u = x_t W_ih^T + b_ih + b_hh, v = h_(t-1) W_hh^T, s(z) = 1 / (1 + exp(-z)).

    Backward: dc = dc_t + dh_t o (1 - tanh(c_t)^2), di = dc g, df = dc c_(t-1), dg = dc i,
    do = dh_t tanh(c_t), dz = each times the slope of its gate, dc_(t-1) = dc f,
    dh_(t-1) = dz W_hh.

    Shapes and other arguments: see `RecurrentLayer`; gates = 4, in the order i, f, g, o. Names,
    shapes and order are those of PyTorch's LSTM, so weights can be carried over.

    Args:
        forget_bias: where b_ih of the gate f begins, all other biases being zero. 1, so that the
            memory lasts at first: Jozefowicz, Zaremba and Sutskever, ICML 2015; Keras does so
            too. (PyTorch draws its biases.)

    Source: Hochreiter and Schmidhuber, Neural Computation 9, 1997; Gers, Schmidhuber and Cummins,
    Neural Computation 12, 2000, for the gate f; ONNX operator LSTM.
    """

    gates = 4
    states = 2
    b_ih = Parameter()
    b_hh = Parameter()

    def __init__(
        self,
        ni: int,
        no: int,
        optim: Optimizer | None = None,
        initializer: Initializer | None = None,
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        *,
        forget_bias: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(ni, no, optim, initializer, kernel_regularizer, name, **options)
        if not isinstance(forget_bias, Real) or not math.isfinite(forget_bias):
            raise ValueError(f"{self.name}: expected a finite forget_bias, got {forget_bias!r}")
        self.b_ih = self._by_gates(self.W_ih, (0.0, float(forget_bias), 0.0, 0.0))
        self.b_hh = self._zero_bias()

    def biases(self) -> tuple[Array, None]:
        """b_ih + b_hh: only their sum counts."""
        return self.parameters["b_ih"] + self.parameters["b_hh"], None

    def cell(self, u: Array) -> Cell:
        """c' = f c + i g, h' = o tanh(c').

        All gates are one tanh, since s(z) = (1 + tanh(z / 2)) / 2: with a = 1 for g, a = 1/2 for
        the others, a gate is a t + 1 - a, t = tanh(a z), and its slope a^2 (1 - t^2).
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
        """One number for each gate, as a row (gates * no,)."""
        xp = array_namespace(like)
        rows = [
            xp.full((self.no,), number, dtype=like.dtype, device=place(like)) for number in numbers
        ]
        return xp.concat(rows)


class GRULayer(RecurrentLayer):
    """The gated recurrent unit: gates r and z, and the candidate n, in this order.

        r, z = s(u_r + v_r), s(u_z + v_z),  n = tanh(u_n + r v_n)
        h_t = (1 - z) n + z h_(t-1)

    with u = x_t W_ih^T + b_ih, v = h_(t-1) W_hh^T + b_hh, s(x) = 1 / (1 + exp(-x)).

    Backward: du_n = dh_t (1 - z) (1 - n^2), dr = du_n v_n, dz = dh_t (h_(t-1) - n),
    du_r = dr r (1 - r), du_z = dz z (1 - z); dv = du but for dv_n = du_n r;
    dh_(t-1) = dh_t z + dv W_hh.

    Shapes and other arguments: see `RecurrentLayer`; gates = 3, in the order r, z, n. Names, shapes
    and order are those of PyTorch's GRU, so weights can be carried over. As there, r acts on the
    product with W_hh; in the first version of the paper it acts on the state before it.

    Source: Cho et al., EMNLP 2014; ONNX operator GRU with linear_before_reset = 1.
    """

    gates = 3
    b_ih = Parameter()
    b_hh = Parameter()

    def __init__(
        self,
        ni: int,
        no: int,
        optim: Optimizer | None = None,
        initializer: Initializer | None = None,
        kernel_regularizer: Regularizer | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(ni, no, optim, initializer, kernel_regularizer, name, **options)
        self.b_ih, self.b_hh = self._zero_bias(), self._zero_bias()

    def biases(self) -> tuple[Array, Array]:
        """b_ih, and b_hh apart from it, since r multiplies its part."""
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


def _choose(condition: Array, yes: Any, no: Any) -> State:
    """State by state yes where the condition holds, else no."""
    xp = array_namespace(condition)
    return tuple(xp.where(condition, a, b) for a, b in zip(yes, no, strict=True))
