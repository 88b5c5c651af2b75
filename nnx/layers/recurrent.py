"""Recurrent layers: a cell computes one time step, and one loop over time serves all of them.

A cell takes the inputs' part u = W_ih x_t + b, the state's part v = W_hh h and the state (h, ...),
and returns the next state. The loop computes u for all steps
in one product before it begins, v step by step, and the gradients of the weights in one product for
all steps at its end:

    dW_ih = sum_t du_t x_t^T,   dW_hh = sum_t dv_t h_(t-1)^T,   dx_t = W_ih^T du_t

where du and dv are the gradients of u and v, which the cell's way back returns. What that needs of
the slopes of the gates is computed for all steps at once, before the loop back begins.

Inside of the loops the samples are last: u and v are (gates * no, samples), the state (no,
samples), and arrays of all steps have the time first. So the numbers of a gate are contiguous, and
products with a matrix on the left are the faster ones.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnx import checks
from nnx.activations import Activation, LogSoftmax, SoftMax, TanH
from nnx.backend import Array, array_namespace, scan, whole
from nnx.config import is_own
from nnx.initializers import Initializer, RandnAverage, RandnOrthonormal
from nnx.layers._arguments import Checked, Penalty
from nnx.layers._padding import Padding
from nnx.layers._sequences import check_input, check_sequence, is_data, padding_value, place
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["Cell", "RNNLayer", "RecurrentLayer"]

Arrays = tuple[Array, ...]


class Cell:
    """One time step, and its way back; made anew for each forward.

    u and v are (gates * no, samples), an array of the state is (no, samples).

    Args:
        layer: whose cell it is.
        like: an array of its library, dtype and device.

    Attributes:
        scale: None, or a column by which `step` gets u and v multiplied; `back` returns the
            gradients of u and v without it.
    """

    scale: Array | None = None

    def __init__(self, layer: Any, like: Array) -> None:
        self.no = layer.no

    @staticmethod
    def of_library(layer: Any, x: Array, training: bool) -> tuple[Array, Backward] | None:
        """Return what `RecurrentLayer.forward` does by an operator of x's library, if it has one.

        It is asked for layers without padding and truncation.
        """
        return None

    def step(self, u: Array, v: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """Return the next state, and arrays to keep for the way back; it may write to v."""
        raise NotImplementedError(f"{type(self).__name__} must define step(u, v, state)")

    def slopes(self, before: Arrays, kept: Arrays) -> Arrays:
        """Return what `back` needs, for all steps at once.

        Args:
            before: the states before each step, arrays (time, no, samples).
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

    def biases(self) -> tuple[Array, ...]:
        """The bias of u, and that of v, if that of u does not contain it."""
        raise NotImplementedError(f"{type(self).__name__} must define biases()")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The loop over time, and the loop back."""
        check_input(self, x)
        W_ih, W_hh = self.parameters["W_ih"], self.parameters["W_hh"]
        xp = array_namespace(x, W_ih)
        plain = self.mask_value is None and self.truncate is None
        if plain and (own := self.cell.of_library(self, x, training)) is not None:
            return own
        samples, inputs = x.shape[0], xp.permute_dims(x, (1, 2, 0))
        zeros = xp.zeros((self.no, samples), dtype=x.dtype, device=place(x))
        cell = self.cell(self, zeros)
        affine = [W_ih, W_hh, *(xp.reshape(b, (-1, 1)) for b in self.biases())]
        if cell.scale is not None:
            affine = [part * cell.scale for part in affine]
        W_u, W_v, *columns = affine
        # in memory, since adding a column to many arrays takes longer
        biases = [column + xp.zeros_like(zeros[:1, :]) for column in columns]
        u = W_u @ inputs
        u += biases[0]
        data = is_data(x, self.mask_value)
        masks = () if data is None else (xp.permute_dims(data, (1, 2, 0)),)

        def step(state: Arrays, row: Any) -> tuple[Arrays, Any]:
            (u,), mask = row
            v = W_v @ state[0]
            if len(biases) > 1:
                v += biases[1]
            after, kept = cell.step(u, v, state)
            return _choose(mask, after, state), (state, kept)

        last, found = scan(step, (zeros,) * self.memories, ((u,), masks), self.reverse)

        def only_data(array: Array) -> Array:
            """The array with zeros for padding."""
            return xp.where(masks[0], array, 0.0) if masks else array

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            before, kept = (tuple(map(whole, group)) for group in found)
            nothing, W_back = (zeros,) * self.memories, W_hh.T
            first: Arrays = nothing
            deltas: Arrays = ()
            if self.return_sequences:
                deltas = (only_data(xp.permute_dims(delta, (1, 2, 0))),)
            else:
                first = (delta.T, *nothing[1:])

            W_back = W_hh.T  # outside of the loop, where a library may lay it out in memory

            def step_back(d: Arrays, row: Any) -> tuple[Arrays, Any]:
                slopes, mask, delta, inside = row
                if delta:
                    d = (d[0] + delta[0], *d[1:])
                du, dv, beside = cell.back(d, slopes)
                dh = W_back @ dv
                if beside[0] is not None:
                    dh += beside[0]
                d = _choose(mask, (dh, *beside[1:]), d)
                return _choose(inside, d, nothing), ((du,) if dv is du else (du, dv),)

            rows = cell.slopes(before, kept), masks, deltas, self._inside(x)
            _, (both,) = scan(step_back, first, rows, not self.reverse)
            du_all, *apart = (only_data(whole(a)) for a in both)
            du = _flat(du_all)
            dv = _flat(apart[0]) if apart else du
            gradients = {"W_ih": du @ _flat(inputs).T, "W_hh": dv @ _flat(before[0]).T}
            of_u = xp.sum(du, axis=1)
            of_v = xp.asarray(of_u, copy=True) if dv is du else xp.sum(dv, axis=1)
            for name in self.parameters.keys() - gradients.keys():
                gradients[name] = of_v if name == "b_hh" else of_u
            dx = xp.permute_dims(W_ih.T @ du_all, (2, 0, 1)) if need_dx else None
            return dx, gradients

        if not self.return_sequences:
            return last[0].T, backward
        end = xp.expand_dims(last[0], axis=0)
        h = whole(found[0][0])
        h = (end, h[:-1, ...]) if self.reverse else (h[1:, ...], end)
        return xp.permute_dims(only_data(xp.concat(h)), (2, 0, 1)), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(time, ni) -> (time, no) with return_sequences, else (no,); time may be None, any."""
        time = check_sequence(input_shape, self.ni)
        return (time, self.no) if self.return_sequences else (self.no,)

    def padding_after(self, before: Padding) -> Padding:
        """It is 0."""
        return before.found_by(self, 0.0)

    def _inside(self, x: Array) -> Arrays:
        """(time, 1, 1), False for the steps that begin a segment; nothing without segments."""
        if self.truncate is None:
            return ()
        xp, time = array_namespace(x), x.shape[1]
        t = xp.arange(time, dtype=xp.int32, device=place(x))
        t = xp.reshape(time - 1 - t if self.reverse else t, (-1, 1, 1))
        return (t % self.truncate != 0,)

    def _zero_bias(self) -> Array:
        backend = self.backend
        shape = (self.gates * self.no,)
        return backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)


class _RNNCell(Cell):
    """h = phi(u + v)."""

    def __init__(self, layer: Any, like: Array) -> None:
        super().__init__(layer, like)
        self.phi = layer.afun.forward
        # One of a user's own may be a function of all entries of a sample.
        ours = is_own(type(layer.afun))
        self.elementwise = ours and not isinstance(layer.afun, SoftMax | LogSoftmax)

    def step(self, u: Array, v: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """Keep z."""
        v += u
        return (self.phi(v.T)[0].T,), (v,)

    def slopes(self, before: Arrays, kept: Arrays) -> Arrays:
        """phi'(z); z itself if phi is a function of all entries of a sample."""
        (z,) = kept
        return (self.phi(z)[1](array_namespace(z).ones_like(z)),) if self.elementwise else kept

    def back(self, d: Arrays, slopes: Arrays) -> tuple[Array, Array, tuple[None]]:
        """du = dv = phi'(z) dh."""
        (dh,), (s,) = d, slopes
        dz = s * dh if self.elementwise else self.phi(s.T)[1](dh.T).T
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

    def biases(self) -> tuple[Array]:
        """b."""
        return (self.parameters["b"],)


def _flat(x: Array) -> Array:
    """(time, n, samples) -> (n, time samples)."""
    xp = array_namespace(x)
    return xp.reshape(xp.permute_dims(x, (1, 0, 2)), (x.shape[1], -1))


def _choose(mask: Arrays, yes: Any, no: Any) -> Any:
    """Array by array, `yes` if the mask holds, else `no`; `yes` if there is no mask."""
    if not mask:
        return yes
    xp = array_namespace(mask[0])
    return tuple(xp.where(mask[0], a, b) for a, b in zip(yes, no, strict=True))
