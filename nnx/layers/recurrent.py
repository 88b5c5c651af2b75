"""Recurrent layers: a cell computes one time step, and one loop over time serves all of them.

A cell takes the inputs' part u = x_t W_ih^T + b, the state's part v = h W_hh^T, both (samples,
gates * no), and the state (h, ...), and returns the next state. The loop computes u for all steps
in one product before it begins, v step by step, and the gradients of the weights in one product for
all steps at its end:

    dW_ih = sum_t du_t^T x_t,   dW_hh = sum_t dv_t^T h_(t-1),   dx_t = du_t W_ih

where du and dv are the gradients of u and v, which the cell's way back returns. What that needs of
the slopes of the gates is computed for all steps at once, before the loop back begins. Arrays of
all steps have the time first, so that those of one step are contiguous.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnx import checks
from nnx.activations import Activation, TanH
from nnx.backend import Array, array_namespace, scan
from nnx.initializers import Initializer, RandnAverage, RandnOrthonormal
from nnx.layers._arguments import Checked, Penalty
from nnx.layers._sequences import check_input, check_sequence, is_data, padding_value, place
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["Cell", "RNNLayer", "RecurrentLayer"]

Arrays = tuple[Array, ...]


class Cell:
    """One time step, and its way back; made anew for each forward.

    Args:
        layer: whose cell it is.
        like: an array of its library, dtype and device.
    """

    def __init__(self, layer: Any, like: Array) -> None:
        self.no = layer.no

    def step(self, u: Array, v: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """Return the next state, and arrays to keep for the way back."""
        raise NotImplementedError(f"{type(self).__name__} must define step(u, v, state)")

    def slopes(self, before: Arrays, kept: Arrays) -> Arrays:
        """Return what `back` needs, for all steps at once.

        Args:
            before: the states before each step, arrays (time, samples, no).
            kept: what `step` kept, (time, ...).
        """
        raise NotImplementedError(f"{type(self).__name__} must define slopes(before, kept)")

    def back(self, d: Arrays, slopes: Arrays) -> tuple[Array, Array, tuple[Array | None, ...]]:
        """Return du, dv, and for each array of the state the gradient of what is not in v, or None.

        du and dv are one array if u and v appear in their sum alone.

        Args:
            d: the gradients of the next state.
            slopes: the step's part of what `slopes` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} must define back(d, slopes)")


class RecurrentLayer(Layer):
    """Base class of the layers that process sequences step by step: the loop over time.

    Subclasses set `gates`, the number of their gates, and `memories`, the number of arrays in their
    state. They define `biases()`, and `cell`, a class derived from `Cell`.

    Shapes: x (samples, time, ni); y (samples, time, no) with return_sequences, else (samples, no);
    W_ih (gates * no, ni), W_hh (gates * no, no), biases (gates * no,). The first state is zero.

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
    cell: ClassVar[type[Cell]] = Cell
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

    def biases(self) -> tuple[Array, Array | None]:
        """The bias of u, and that of v, or None if the bias of u contains it."""
        raise NotImplementedError(f"{type(self).__name__} must define biases()")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The loop over time, and the loop back."""
        check_input(self, x)
        W_ih, W_hh = self.parameters["W_ih"], self.parameters["W_hh"]
        xp = array_namespace(x, W_ih)
        samples, time, _ = x.shape
        inputs = xp.reshape(_turned(x), (-1, self.ni))
        bias, state_bias = self.biases()
        u = inputs @ W_ih.T
        u += bias
        u = xp.reshape(u, (time, samples, -1))
        data = is_data(_turned(x), self.mask_value)
        masks = () if data is None else (data,)
        zeros = xp.zeros((samples, self.no), dtype=x.dtype, device=place(x))
        cell = self.cell(self, u)
        W = xp.reshape(xp.reshape(W_hh.T, (-1,)), W_hh.T.shape)  # contiguous, for many products

        def step(state: Arrays, row: Any) -> tuple[Arrays, Any]:
            u, mask = row
            v = state[0] @ W
            if state_bias is not None:
                v += state_bias
            after, kept = cell.step(*u, v, state)
            return _choose(mask, after, state), (state, kept)

        last, (before, kept) = scan(step, (zeros,) * self.memories, ((u,), masks), self.reverse)

        def only_data(array: Array) -> Array:
            """The array with zeros for padding."""
            return array if data is None else xp.where(data, array, 0.0)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            nothing = (zeros,) * self.memories
            first = nothing if self.return_sequences else (delta, *nothing[1:])
            deltas = (only_data(_turned(delta)),) if self.return_sequences else ()

            def step_back(d: Arrays, row: Any) -> tuple[Arrays, Arrays]:
                slopes, mask, delta, inside = row
                if delta:
                    d = (d[0] + delta[0], *d[1:])
                du, dv, beside = cell.back(d, slopes)
                dh = dv @ W_hh
                if beside[0] is not None:
                    dh += beside[0]
                d = _choose(mask, (dh, *beside[1:]), d)
                return _choose(inside, d, nothing), ((du,) if dv is du else (du, dv),)

            rows = cell.slopes(before, kept), masks, deltas, self._inside(x)
            _, (found,) = scan(step_back, first, rows, not self.reverse)
            du, *others = [xp.reshape(only_data(a), (-1, self.gates * self.no)) for a in found]
            dv = others[0] if others else du
            h = xp.reshape(before[0], (-1, self.no))
            gradients = {"W_ih": du.T @ inputs, "W_hh": dv.T @ h}
            for name in self.parameters:
                if name not in gradients:
                    gradients[name] = xp.sum(dv if name == "b_hh" else du, axis=0)
            dx = xp.reshape(du @ W_ih, (time, samples, self.ni)) if need_dx else None
            return dx if dx is None else _turned(dx), gradients

        if not self.return_sequences:
            return last[0], backward
        end = xp.expand_dims(last[0], axis=0)
        h = (end, before[0][:-1, ...]) if self.reverse else (before[0][1:, ...], end)
        return _turned(only_data(xp.concat(h))), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(time, ni) -> (time, no) with return_sequences, else (no,); time may be None, any."""
        time = check_sequence(input_shape, self.ni)
        return (time, self.no) if self.return_sequences else (self.no,)

    def _inside(self, x: Array) -> Arrays:
        """(time, 1, 1), False for the steps that begin a segment; nothing without segments."""
        if self.truncate is None:
            return ()
        xp, time = array_namespace(x), x.shape[1]
        t = xp.arange(time, device=place(x))
        t = xp.reshape(time - 1 - t if self.reverse else t, (-1, 1, 1))
        return (t % self.truncate != 0,)

    def _zero_bias(self) -> Array:
        backend = self.backend
        shape = (self.gates * self.no,)
        return backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)


class _RNNCell(Cell):
    """h = phi(u + v)."""

    def __init__(self, layer: Any, like: Array) -> None:
        self.phi = layer.afun.forward

    def step(self, u: Array, v: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """h = phi(z)."""
        z = u + v
        return (self.phi(z)[0],), (z,)

    def slopes(self, before: Arrays, kept: Arrays) -> Arrays:
        """z itself, since phi may be a function of whole rows."""
        return kept

    def back(self, d: Arrays, slopes: Arrays) -> tuple[Array, Array, tuple[None]]:
        """du = dv = phi'(z) dh."""
        (dh,), (z,) = d, slopes
        dz = self.phi(z)[1](dh)
        return dz, dz, (None,)


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

    cell = _RNNCell
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


def _turned(x: Array) -> Array:
    """(samples, time, n) -> (time, samples, n), or back."""
    return array_namespace(x).permute_dims(x, (1, 0, 2))


def _choose(mask: Arrays, yes: Any, no: Any) -> Any:
    """Array by array, `yes` if the mask holds, else `no`; `yes` if there is no mask."""
    if not mask:
        return yes
    xp = array_namespace(mask[0])
    return tuple(xp.where(mask[0], a, b) for a, b in zip(yes, no, strict=True))
