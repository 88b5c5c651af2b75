"""Recurrent layers: a cell computes one time step, and one loop over time serves all of them.

A cell takes z = W (x_t, 1, h), one product with the input, 1 for the bias, and the state h, and
returns the next state. The cell's way back returns dz, and the gradients of the weights are

    dW = sum_t dz_t (x_t, 1, h_(t-1))^T,   dx_t = W_ih^T dz_t,   dh_(t-1) = W_hh^T dz_t + ...

The way back takes a few steps at a time: it computes what it needs of the slopes of the gates for
these steps at once, goes back through them, and adds their part of dW. So what it reads again is
still in the cache of a processor. A GPU takes all steps at a time. A library that compiles the loop
computes the slopes in it.

The order of the axes inside of the loops is that of `Layout`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnx import checks
from nnx.activations import Activation, LogSoftmax, SoftMax, TanH
from nnx.backend import Array, array_namespace
from nnx.backend.loops import fuses_steps, samples_first, scan, steps_at_a_time, whole
from nnx.initializers import Initializer, RandnAverage, RandnOrthonormal
from nnx.layers._arguments import Checked, Penalty
from nnx.layers._layout import Layout
from nnx.layers._sequences import check_input, check_sequence, is_data, padding_value, place
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward, Layer, Parameter
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["Cell", "RNNLayer", "RecurrentLayer", "by_gates"]

Arrays = tuple[Array, ...]


class Cell:
    """One time step, and its way back; made anew for each forward.

    For each sample z has `blocks` blocks of no numbers, the state arrays of no numbers.

    Args:
        layer: whose cell it is.
        layout: the order of the axes.
        like: a state of zeros.

    Attributes:
        of_x: for each gate the block of z that contains W_ih x + b.
        of_h: for each gate the block of z that contains W_hh h, and b_hh if there is one.
        scale: None, or a number for each block, by which `step` gets it multiplied; `back` returns
            the gradient of z without it.
    """

    of_x: ClassVar[tuple[int, ...]] = (0,)
    of_h: ClassVar[tuple[int, ...]] = (0,)
    scale: ClassVar[tuple[float, ...] | None] = None

    def __init__(self, layer: Any, layout: Layout, like: Array) -> None:
        self.no, self.layout = layer.no, layout

    def step(self, z: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """Return the next state, and arrays to keep for the way back; it may write to z."""
        raise NotImplementedError(f"{type(self).__name__} must define step(z, state)")

    def slopes(self, before: Arrays, kept: Arrays) -> Arrays:
        """Return what `back` needs, for many steps at once.

        Args:
            before: the states before each step, (time, ...).
            kept: what `step` kept, (time, ...).
        """
        raise NotImplementedError(f"{type(self).__name__} must define slopes(before, kept)")

    def back(self, d: Arrays, slopes: Arrays) -> tuple[Array, tuple[Array | None, ...]]:
        """Return dz, and for each array of the state the gradient of what is not in z, or None.

        Args:
            d: the gradients of the next state.
            slopes: the step's part of what `slopes` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} must define back(d, slopes)")


class RecurrentLayer(Layer):
    """Base class of the layers that process sequences step by step: the loop over time.

    Subclasses set `gates`, the number of their gates, and `memories`, the number of arrays in their
    state. They define `cell`, a class derived from `Cell`. Their other parameters are biases: b_hh
    that of W_hh h, all others of W_ih x.

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

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The loop over time, and the loop back."""
        check_input(self, x)
        p = self.parameters
        xp, (samples, time, _) = array_namespace(x, p["W_ih"]), x.shape
        layout = Layout(samples_first(x))
        zeros = xp.zeros(layout.shape(self.no, samples), dtype=x.dtype, device=place(x))
        cell = self.cell(self, layout, zeros)
        count = 1 + max(cell.of_x + cell.of_h)
        W_x, W_h = _to_blocks(p["W_ih"], cell.of_x, count), _to_blocks(p["W_hh"], cell.of_h, count)
        biases = [_to_blocks(p[name], of, count) for name, of in self._biases(cell)]
        W = xp.concat([W_x, xp.reshape(sum(biases[1:], biases[0]), (-1, 1)), W_h], axis=1)
        if cell.scale is not None:
            W = W * by_gates((self.no, 1), W, cell.scale)
        one, state = (
            make((time, *layout.shape(n, samples)), dtype=x.dtype, device=place(x))
            for make, n in ((xp.ones, 1), (xp.zeros, self.no))
        )
        inputs = layout.concat([layout.inside(x), one, state])
        data = is_data(x, self.mask_value)
        masks = () if data is None else (layout.inside(data),)

        def step(state: Arrays, row: Any) -> tuple[Arrays, Any]:
            (joined,), mask = row
            after, kept = cell.step(layout.product(W, joined), state)
            return _choose(mask, after, state), (state[1:], kept)

        nothing = (zeros,) * self.memories
        last, found = scan(step, nothing, ((inputs,), masks), self.reverse, layout.axis)

        def only_data(array: Array, few: slice = slice(None)) -> Array:
            """The array with zeros for padding."""
            return xp.where(masks[0][few, ...], array, 0.0) if masks else array

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, dict[str, Array]]:
            d: Arrays = nothing
            deltas: Arrays = ()
            if self.return_sequences:
                deltas = (only_data(layout.inside(delta)),)
            else:
                d = (layout.turned(delta), *nothing[1:])

            def step_back(d: Arrays, row: Any) -> tuple[Arrays, Any]:
                before, kept, mask, delta, inside = row
                slopes = cell.slopes(before, kept) if fuses else before
                if delta:
                    d = (d[0] + delta[0], *d[1:])
                dz, beside = cell.back(d, slopes)
                dh = layout.product(W_h.T, dz)
                if beside[0] is not None:
                    dh += beside[0]
                d = _choose(mask, (dh, *beside[1:]), d)
                return _choose(inside, d, nothing), ((dz,),)

            fuses = fuses_steps(x)
            at_a_time = steps_at_a_time(W, count * self.no * samples, time)
            others = masks, deltas, self._inside(x)
            dW: Any = None
            dx: list[Array] = []
            for few in _pieces(time, at_a_time, not self.reverse):
                (joined,), memories, kept = (tuple(whole(a, few) for a in g) for g in found)
                before = layout.part(joined, self.ni + 1), *memories
                if not fuses:
                    before, kept = cell.slopes(before, kept), ()
                rows = before, kept, *(tuple(a[few, ...] for a in group) for group in others)
                d, ((dz,),) = scan(step_back, d, rows, not self.reverse)
                dz = only_data(whole(dz), few)
                part = layout.outer(dz, joined)
                dW = part if dW is None else dW + part
                if need_dx:
                    dx.append(layout.product(W_x.T, dz))
            gradients = {
                "W_ih": _of_gates(dW[:, : self.ni], cell.of_x, count),
                "W_hh": _of_gates(dW[:, self.ni + 1 :], cell.of_h, count),
            }
            for name, of in self._biases(cell):
                gradients[name] = _of_gates(dW[:, self.ni], of, count)
            if not need_dx:
                return None, gradients
            return layout.outside(xp.concat(dx if self.reverse else dx[::-1])), gradients

        if not self.return_sequences:
            return layout.turned(last[0]), backward
        end = xp.expand_dims(last[0], axis=0)
        h = layout.part(whole(found[0][0]), self.ni + 1)
        h = (end, h[:-1, ...]) if self.reverse else (h[1:, ...], end)
        return layout.outside(only_data(xp.concat(h))), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(time, ni) -> (time, no) with return_sequences, else (no,); time may be None, any."""
        time = check_sequence(input_shape, self.ni)
        return (time, self.no) if self.return_sequences else (self.no,)

    def _inside(self, x: Array) -> Arrays:
        """(time, 1, 1), False for the steps that begin a segment; nothing without segments."""
        if self.truncate is None:
            return ()
        xp, time = array_namespace(x), x.shape[1]
        t = xp.arange(time, dtype=xp.int32, device=place(x))
        t = xp.reshape(time - 1 - t if self.reverse else t, (-1, 1, 1))
        return (t % self.truncate != 0,)

    def _biases(self, cell: Cell) -> list[tuple[str, tuple[int, ...]]]:
        """The name of each bias, and for each gate the block of z that contains it."""
        names = [name for name in self.parameters if name not in ("W_ih", "W_hh")]
        return [(name, cell.of_h if name == "b_hh" else cell.of_x) for name in names]

    def _zero_bias(self) -> Array:
        backend = self.backend
        shape = (self.gates * self.no,)
        return backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)


class _RNNCell(Cell):
    """h = phi(z)."""

    def __init__(self, layer: Any, layout: Layout, like: Array) -> None:
        super().__init__(layer, layout, like)
        self.phi = layer.afun.forward
        # One of a user's own may be a function of all entries of a sample.
        ours = type(layer.afun).__module__.startswith("nnx.")
        self.elementwise = ours and not isinstance(layer.afun, SoftMax | LogSoftmax)

    def step(self, z: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """Keep z."""
        return (self.layout.turned(self.phi(self.layout.turned(z))[0]),), (z,)

    def slopes(self, before: Arrays, kept: Arrays) -> Arrays:
        """phi'(z); z itself if phi is a function of all entries of a sample."""
        (z,) = kept
        return (self.phi(z)[1](array_namespace(z).ones_like(z)),) if self.elementwise else kept

    def back(self, d: Arrays, slopes: Arrays) -> tuple[Array, tuple[None]]:
        """dz = phi'(z) dh."""
        (dh,), (s,), turned = d, slopes, self.layout.turned
        return s * dh if self.elementwise else turned(self.phi(turned(s))[1](turned(dh))), (None,)


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


def by_gates(shape: tuple[int, ...], like: Array, numbers: tuple[float, ...]) -> Array:
    """Blocks of this shape, one for each gate, with one number each."""
    xp, dtype, device = array_namespace(like), like.dtype, place(like)
    return xp.concat([xp.full(shape, number, dtype=dtype, device=device) for number in numbers])


def _to_blocks(gates: Array, of: tuple[int, ...], blocks: int) -> Array:
    """Return blocks of rows: at of[k] those of gate k, elsewhere zeros."""
    if len(of) == blocks:
        return gates
    xp, no = array_namespace(gates), gates.shape[0] // len(of)
    parts = [gates[k * no : (k + 1) * no, ...] for k in range(len(of))]
    nothing = xp.zeros_like(parts[0])
    return xp.concat([parts[of.index(j)] if j in of else nothing for j in range(blocks)])


def _of_gates(blocks: Array, of: tuple[int, ...], count: int) -> Array:
    """Return the rows of the blocks of[k] as an array of its own."""
    xp, no = array_namespace(blocks), blocks.shape[0] // count
    if len(of) == count:
        return xp.asarray(blocks, copy=True)
    return xp.concat([blocks[j * no : (j + 1) * no, ...] for j in of])


def _pieces(steps: int, few: int, reverse: bool) -> list[slice]:
    """Return slices of a few steps, of which the last are the first if time is reversed."""
    pieces = [slice(start, start + few) for start in range(0, steps, few)]
    return pieces[::-1] if reverse else pieces


def _choose(mask: Arrays, yes: Any, no: Any) -> Any:
    """Array by array, `yes` if the mask holds, else `no`; `yes` if there is no mask."""
    if not mask:
        return yes
    xp = array_namespace(mask[0])
    return tuple(xp.where(mask[0], a, b) for a, b in zip(yes, no, strict=True))
