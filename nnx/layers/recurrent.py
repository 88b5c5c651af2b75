"""Recurrent layers: a cell computes one time step, and one loop over time serves all of them.

A cell takes the inputs' part u = x_t W_ih^T + b, the state's part v = h W_hh^T, both (samples,
gates * no), and the state (h, ...), and returns the next state. The loop computes u for all steps
in one product before it begins, v step by step, and the gradients of the weights in one product for
all steps at its end:

    dW_ih = sum_t du_t^T x_t,   dW_hh = sum_t dv_t^T h_(t-1),   dx_t = du_t W_ih

where du and dv are the gradients of u and v, which the cell's backward returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from nnx import checks
from nnx.activations import Activation, TanH
from nnx.backend import Array, array_namespace
from nnx.initializers import Initializer, RandnAverage, RandnOrthonormal
from nnx.layers._arguments import Checked, Penalty
from nnx.layers._sequences import check_input, check_sequence, is_data, padding_value, place
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["RNNLayer", "RecurrentLayer"]

State = tuple[Array, ...]
# The gradients of the next state -> du, dv, and for each array of the state the gradient of what
# does not pass through v, None if there is no such part.
CellBackward = Callable[..., tuple[Array, Array, tuple[Array | None, ...]]]
Cell = Callable[[Array, Array, State], tuple[State, CellBackward]]


class RecurrentLayer(Layer):
    """Base class of the layers that process sequences step by step: the loop over time.

    Subclasses set `gates`, the number of their gates, and `memories`, the number of arrays in their
    state. They define `cell(u)`, the function of one time step, and `biases()`.

    Shapes: x (samples, time, ni); y (samples, time, no) with return_sequences, else (samples, no);
    W_ih (gates * no, ni), W_hh (gates * no, no), biases (gates * no,). The first state is zero.

    A library that compiles a step unrolls the loop, so that compiling takes longer for longer
    sequences: with JAX seconds for 20 steps, minutes for 100. Cut long sequences into pieces there.

    Args:
        ni: number of features of the input.
        no: number of features of the state, and of the output.
        optim: optimizer; the layer keeps a clone of it.
        initializer: of W_ih, gate by gate: `weights((no, ni), gain)`. W_hh is orthonormal gate by
            gate, biases are zero.
        kernel_regularizer: penalty on W_ih.
        name: what messages call the layer.
        recurrent_regularizer: penalty on W_hh.
        return_sequences: return the states h of all steps, instead of the last one alone.
        truncate: a number k of steps, or None. The gradient does not flow back over the boundaries
            of segments of k steps, counted from the step that is processed first; the state is
            carried over them. Without return_sequences only the last segment has a gradient then.
        mask_value: a time step whose features are all equal to this number is padding; None if
            there is no padding. The state passes through padding unchanged, its output is 0, and
            no gradient flows through it. The last state is the one after a sample's last step that
            is not padding.
        reverse: process time from the last step to the first. The output of step t stays at t;
            "the last state" is the one after the first step.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """

    can_skip_dx = True
    gates: ClassVar[int] = 1
    memories: ClassVar[int] = 1
    factor: float = 1.0
    W_ih = Parameter()
    W_hh = Parameter()
    initializer = Checked(Initializer, "RandnAverage()")
    kernel_regularizer = Penalty("W_ih")
    recurrent_regularizer = Penalty("W_hh")

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
        super().__init__(optim, name)
        self.ni = checks.count(self, "ni", ni)
        self.no = checks.count(self, "no", no)
        self.initializer = initializer
        self.kernel_regularizer = kernel_regularizer
        self.recurrent_regularizer = recurrent_regularizer
        self.return_sequences = checks.flag(self, "return_sequences", return_sequences)
        self.truncate = None if truncate is None else checks.count(self, "truncate", truncate)
        self.mask_value = padding_value(self, mask_value)
        self.reverse = checks.flag(self, "reverse", reverse)
        xp, gates, of_states = self.backend.xp, range(self.gates), RandnOrthonormal()
        shape = (self.no, self.ni)
        self.W_ih = xp.concat([initializer.weights(shape, self.factor) for _ in gates])
        self.W_hh = xp.concat([of_states.weights((self.no, self.no)) for _ in gates])

    def cell(self, u: Array) -> Cell:
        """Return the function of one time step, (u_t, v_t, state) -> (next state, backward).

        Its backward takes the gradients of the next state. It returns those of u_t and v_t and, for
        each array of the state, the gradient of what does not pass through v_t, or None.

        Args:
            u: that of all steps; the function will get slices of it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define cell(u)")

    def biases(self) -> tuple[Array, Array | None]:
        """The bias of u, and that of v, or None if the bias of u contains it."""
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
        state: State = (zeros,) * self.memories
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
            """The arrays of the steps as one, (samples, time, ...)."""
            return xp.stack(arrays[::-1] if self.reverse else arrays, axis=1)

        def only_data(array: Array) -> Array:
            """The array with zeros for padding."""
            return array if data is None else xp.where(data, array, 0.0)

        h_all = in_time(hs) if self.return_sequences else None

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            d: list[Array] = [zeros] * self.memories
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
                    d = [zeros] * self.memories
                dus.append(du)
                dvs.append(dv)
            du_all = only_data(in_time(dus[::-1]))
            dv_all = du_all if dus[0] is dvs[0] else only_data(in_time(dvs[::-1]))
            # dv^T h of each step, h the state before it; that before the first step is zero.
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

    def output_shape(self, input_shape: Shape) -> Shape:
        """(time, ni) -> (time, no) with return_sequences, else (no,); time may be None, any."""
        time = check_sequence(input_shape, self.ni)
        return (time, self.no) if self.return_sequences else (self.no,)

    def _zero_bias(self) -> Array:
        backend = self.backend
        shape = (self.gates * self.no,)
        return backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)


class RNNLayer(RecurrentLayer):
    """Simple recurrent layer: h_t = phi(x_t W_ih^T + h_(t-1) W_hh^T + b).

    Backward, with dh_t from the output and from step t + 1: dz_t = phi'(z_t) dh_t,
    dh_(t-1) = dz_t W_hh, dx_t = dz_t W_ih, dW_ih = sum dz_t^T x_t, dW_hh = sum dz_t^T h_(t-1),
    db = sum dz_t.

    The initial W_ih is `initializer.weights((no, ni), afun.factor)`. Shapes and other arguments:
    see `RecurrentLayer`; gates = 1. PyTorch's RNN has two biases; b here is their sum b_ih + b_hh.

    Args:
        afun: activation phi.

    Source: Elman, Cognitive Science 14, 1990; ONNX operator RNN.
    """

    b = Parameter()
    afun = Checked(Activation, "TanH()")

    def __init__(
        self,
        ni: int,
        no: int,
        afun: Activation = TanH(),
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
        self.afun = afun
        self.factor = self.afun.factor
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


def _choose(condition: Array, yes: Any, no: Any) -> State:
    """Array by array, `yes` if the condition holds, else `no`."""
    xp = array_namespace(condition)
    return tuple(xp.where(condition, a, b) for a, b in zip(yes, no, strict=True))
