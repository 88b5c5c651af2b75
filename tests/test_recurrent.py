import copy
from itertools import pairwise

import numpy as np
import pytest
from conftest import QUICK_AUTODIFF, compile_on

import nnx
from nnx.backend.loops import plain_scan
from nnx.layers import Layer, RecurrentLayer, ShapeError
from nnx.layers.recurrent import Cell
from nnx.testing import assert_no_host_sync, check_backends, check_gradients

LAYERS = {"RNN": nnx.RNNLayer, "LSTM": nnx.LSTMLayer, "GRU": nnx.GRULayer}
rng = np.random.default_rng(7)
X, RAGGED, LENGTHS = rng.standard_normal((4, 6, 3)), rng.standard_normal((4, 6, 3)), [6, 2, 1, 4]
for sample, length in enumerate(LENGTHS):
    RAGGED[sample, length:] = 0.0
WAYS = [
    {"return_sequences": sequences, "reverse": reverse}
    for sequences in (False, True)
    for reverse in (False, True)
]


# ---------------------------------------------------------------- worked by hand


def test_two_steps_of_a_simple_network_by_hand(backend):
    layer = nnx.RNNLayer(1, 1, nnx.Linear(), return_sequences=True)
    layer.W_ih, layer.W_hh = backend.asarray([[2.0]]), backend.asarray([[3.0]])
    layer.b = backend.asarray([1.0])
    y, backward = layer.forward(backend.asarray([[[1.0], [2.0]]]))
    # h1 = 2 * 1 + 1 = 3, h2 = 2 * 2 + 3 * 3 + 1 = 14
    np.testing.assert_array_equal(backend.to_numpy(y), [[[3.0], [14.0]]])
    dx, gradients = backward(backend.asarray([[[10.0], [1.0]]]))
    # dz2 = 1, dz1 = 10 + 3 * 1 = 13
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[26.0], [2.0]]])
    assert backend.to_numpy(gradients["W_ih"]) == 13 * 1 + 1 * 2
    assert backend.to_numpy(gradients["W_hh"]) == 1 * 3
    assert backend.to_numpy(gradients["b"]) == 14


def test_one_step_of_an_lstm_by_hand(backend):
    """All weights 0 but for the biases: s(0) = 1/2, s(ln 3) = 3/4, tanh(ln 2) = 3/5."""
    layer = nnx.LSTMLayer(1, 1)
    ln2, ln3 = np.log(2.0), np.log(3.0)
    layer.W_ih, layer.W_hh = backend.asarray(np.zeros((4, 1))), backend.asarray(np.zeros((4, 1)))
    layer.b_ih, layer.b_hh = backend.asarray([ln3, 0, 0, 0]), backend.asarray([0, 0, ln2, 0])
    y, backward = layer.forward(backend.asarray([[[5.0]]]))
    # i = 3/4, f = 1/2, g = 3/5, o = 1/2: c = 9/20, h = tanh(9/20) / 2
    tanh_c = np.tanh(0.45)
    np.testing.assert_allclose(backend.to_numpy(y), [[0.5 * tanh_c]], rtol=1e-6)
    dx, gradients = backward(backend.asarray([[2.0]]))
    dc = 2 * 0.5 * (1 - tanh_c**2)
    # slopes: i 3/16, f meets c = 0, g 1 - 9/25 = 16/25, o 1/4
    dz = [dc * 0.6 * 3 / 16, 0.0, dc * 0.75 * 16 / 25, 2 * tanh_c / 4]
    np.testing.assert_allclose(backend.to_numpy(gradients["b_ih"]), dz, rtol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(gradients["b_hh"]), dz, rtol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(gradients["W_ih"])[:, 0], np.multiply(dz, 5), 1e-5)
    np.testing.assert_array_equal(backend.to_numpy(gradients["W_hh"]), np.zeros((4, 1)))
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[0.0]]])


def test_one_step_of_a_gru_by_hand(backend):
    """r = s(0) = 1/2, z = s(ln 3) = 3/4, n = tanh(r * 2 ln 2) = 3/5."""
    layer = nnx.GRULayer(1, 1)
    ln2, ln3 = np.log(2.0), np.log(3.0)
    layer.W_ih, layer.W_hh = backend.asarray(np.zeros((3, 1))), backend.asarray(np.zeros((3, 1)))
    layer.b_ih, layer.b_hh = backend.asarray([0, ln3, 0]), backend.asarray([0, 0, 2 * ln2])
    y, backward = layer.forward(backend.asarray([[[5.0]]]))
    np.testing.assert_allclose(backend.to_numpy(y), [[0.25 * 0.6]], rtol=1e-6)
    _, gradients = backward(backend.asarray([[1.0]]))
    du_n = 0.25 * 16 / 25
    du = [du_n * 2 * ln2 * 0.25, -0.6 * 3 / 16, du_n]
    dv = [*du[:2], 0.5 * du_n]
    np.testing.assert_allclose(backend.to_numpy(gradients["b_ih"]), du, rtol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(gradients["b_hh"]), dv, rtol=1e-5)


# ---------------------------------------------------------------- gradients, backends


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_backward_is_the_derivative_of_forward(kind, options):
    report = check_gradients(LAYERS[kind](3, 4, **options), X, autodiff=QUICK_AUTODIFF)
    assert report.autodiff or not QUICK_AUTODIFF


class Padded(Layer):
    """A layer behind a fixed padding, which makes a smooth function of it."""

    def __init__(self, layer, data):
        super().__init__(name="padded")
        self.layer, self.data = layer, data
        self.parameters = layer.parameters

    def to(self, backend):
        return Padded(self.layer.to(backend), self.data)

    def forward(self, x, training=False):
        xp, layer = nnx.array_namespace(x), copy.copy(self.layer)
        layer.parameters = self.parameters
        data = xp.asarray(self.data)[: x.shape[0], :, None]
        y, backward = layer.forward(xp.where(data, x, 0.0), training)

        def padded_backward(delta):
            dx, gradients = backward(delta)
            return xp.where(data, dx, 0.0), gradients

        return y, padded_backward


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_backward_is_the_derivative_with_padding_too(kind, options):
    layer = LAYERS[kind](3, 4, mask_value=0.0, **options)
    assert (
        check_gradients(
            Padded(layer, np.any(RAGGED != 0, axis=-1)), X, autodiff=QUICK_AUTODIFF
        ).autodiff
        or not QUICK_AUTODIFF
    )


@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True, "mask_value": 0.0, "truncate": 2}], ids=str
)
@pytest.mark.parametrize("kind", LAYERS)
def test_backends_agree(kind, options):
    check_backends(lambda: LAYERS[kind](3, 4, **options), RAGGED)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 1), (3, 1, 2), (1, 2, 3)])
@pytest.mark.parametrize("no", [1, 2])
def test_odd_sizes(kind, shape, no):
    x = np.random.default_rng(0).standard_normal(shape)
    for sequences in (False, True):
        layer = LAYERS[kind](shape[2], no, return_sequences=sequences)
        check_gradients(layer, x, autodiff=())
    check_backends(lambda: LAYERS[kind](shape[2], no), x, dtypes=["float32"])


@pytest.mark.parametrize("kind", LAYERS)
def test_a_compiled_step_gives_the_same(kind, backend):
    layer = LAYERS[kind](3, 4, return_sequences=True, mask_value=0.0, truncate=4)

    def step(x, delta):
        y, backward = layer.forward(x)
        dx, gradients = backward(delta)
        return y, dx, gradients["W_hh"]

    x = backend.asarray(RAGGED)
    delta = backend.asarray(rng.standard_normal((4, 6, 4)))
    for plain, compiled in zip(step(x, delta), compile_on(backend, step)(x, delta)):
        plain, compiled = backend.to_numpy(plain), backend.to_numpy(compiled)
        np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- against PyTorch


def pair(kind, ni=3, no=4, **options):
    """A layer of float64 on NumPy and PyTorch's with the same weights."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind)(ni, no, batch_first=True, dtype=torch.float64)
    with nnx.use_backend("numpy", dtype="float64"):
        layer = LAYERS[kind](ni, no, **options)
    carry(theirs, layer)
    return torch, theirs, layer


def carry(theirs, layer, suffix=""):
    values = {n: getattr(theirs, f"{of}_l0{suffix}").detach().numpy() for n, of in NAMES.items()}
    if "b" in layer.parameters:
        values["b"] = values.pop("b_ih") + values.pop("b_hh")
    for name, value in values.items():
        setattr(layer, name, value)


NAMES = {"W_ih": "weight_ih", "W_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}


def compare(layer, gradients, theirs, suffix=""):
    for name, gradient in gradients.items():
        of = NAMES["b_ih" if name == "b" else name]
        expected = getattr(theirs, f"{of}_l0{suffix}").grad.numpy()
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_values_and_gradients_are_those_of_pytorch(kind, sequences):
    torch, theirs, layer = pair(kind, return_sequences=sequences)
    x = torch.tensor(X, requires_grad=True)
    expected = theirs(x)[0]
    expected = expected if sequences else expected[:, -1]
    delta = rng.standard_normal(expected.shape)
    expected.backward(torch.asarray(delta))
    y, backward = layer.forward(X)
    dx, gradients = backward(delta)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, x.grad.numpy(), rtol=0, atol=1e-10)
    compare(layer, gradients, theirs)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_weights_can_be_carried_to_pytorch(kind):
    torch = pytest.importorskip("torch")
    with nnx.use_backend("numpy", dtype="float64"):
        layer = LAYERS[kind](3, 4)
    theirs = getattr(torch.nn, kind)(3, 4, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(
        {f"{NAMES[n]}_l0": torch.asarray(p) for n, p in layer.parameters.items()}
    )
    expected = theirs(torch.asarray(X))[0][:, -1].detach().numpy()
    np.testing.assert_allclose(layer.forward(X)[0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_ragged_samples_are_those_of_packed_sequences(kind, sequences):
    torch, theirs, layer = pair(kind, return_sequences=sequences, mask_value=0.0)
    x = torch.tensor(RAGGED, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, True, enforce_sorted=False)
    y, h = theirs(packed)
    if sequences:
        expected = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]
    else:
        expected = (h[0] if kind == "LSTM" else h)[0]
    delta = rng.standard_normal(expected.shape)
    expected.backward(torch.asarray(delta))
    y, backward = layer.forward(RAGGED)
    dx, gradients = backward(delta)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, x.grad.numpy(), rtol=0, atol=1e-10)
    compare(layer, gradients, theirs)
    padding = np.all(RAGGED == 0, axis=-1)
    assert not np.any(dx[padding])
    if sequences:
        assert not np.any(y[padding])


@pytest.mark.parametrize("k", [1, 2, 4, 6, 9])
@pytest.mark.parametrize("kind", LAYERS)
def test_truncation_is_that_of_a_detached_state(kind, k):
    torch, theirs, layer = pair(kind, return_sequences=True, truncate=k)
    x = torch.tensor(X, requires_grad=True)
    state, pieces = None, []
    for first in range(0, 6, k):
        piece, state = theirs(x[:, first : first + k], state)
        state = tuple(s.detach() for s in state) if kind == "LSTM" else state.detach()
        pieces.append(piece)
    expected = torch.concat(pieces, dim=1)
    delta = rng.standard_normal(expected.shape)
    expected.backward(torch.asarray(delta))
    y, backward = layer.forward(X)
    dx, gradients = backward(delta)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, x.grad.numpy(), rtol=0, atol=1e-10)
    compare(layer, gradients, theirs)


@pytest.mark.parametrize("kind", LAYERS)
def test_without_sequences_truncation_leaves_the_last_segment(kind):
    layer = LAYERS[kind](3, 4, truncate=4)
    y, backward = layer.forward(X.astype(np.float32))
    dx, _ = backward(np.ones_like(y))
    assert not np.any(dx[:, :4])
    assert np.all(np.any(dx[:, 4:], axis=-1))


# ---------------------------------------------------------------- the scan, a cell of one's own


class Leaky(Cell):
    """h' = h / 2 + tanh(u) v: u and v apart from each other, and a part of h beside v."""

    def step(self, u, v, state):
        t = nnx.array_namespace(u).tanh(u)
        return (0.5 * state[0] + t * v,), (t, v)

    def slopes(self, before, kept):
        t, v = kept
        return v * (1.0 - t * t), t

    def back(self, d, slopes):
        (dh,), (of_u, of_v) = d, slopes
        return dh * of_u, dh * of_v, (0.5 * dh,)


class LeakyLayer(RecurrentLayer):
    cell = Leaky
    b = nnx.Parameter()

    def __init__(
        self, ni, no, return_sequences=False, truncate=None, mask_value=None, reverse=False
    ):
        super().__init__(
            ni,
            no,
            return_sequences=return_sequences,
            truncate=truncate,
            mask_value=mask_value,
            reverse=reverse,
        )
        self.b = np.full(no, 0.25)

    def biases(self):
        return (self.parameters["b"],)


LAYERS_AND_OWN = {**LAYERS, "own": LeakyLayer}
OPTIONS = [
    {"return_sequences": True, "mask_value": 0.0, "truncate": 4, "reverse": True},
    {"truncate": 4},
]


def test_a_cell_of_ones_own():
    assert check_gradients(LeakyLayer(3, 4, return_sequences=True), X, autodiff=())
    check_backends(lambda: LeakyLayer(3, 4), X, dtypes=["float32"])


@pytest.mark.parametrize("afun", [nnx.SoftMax(), nnx.LogSoftmax(), nnx.SoftSign()], ids=str)
def test_an_activation_of_rows_or_of_entries(afun):
    assert check_gradients(nnx.RNNLayer(3, 4, afun, return_sequences=True), X, autodiff=())


def results(layer, x, delta):
    y, backward = layer.forward(x)
    dx, gradients = backward(delta)
    return [y, dx, *(gradients[name] for name in sorted(gradients))]


def differences(kind, options, backend):
    """How far the numbers of a compiled step on this backend are from those of a plain loop."""
    with nnx.use_backend("numpy", dtype="float64"):
        plain = LAYERS_AND_OWN[kind](3, 4, **options)
    layer = plain.to(backend)
    delta = np.random.default_rng(1).standard_normal(np.shape(plain.forward(RAGGED)[0]))
    expected = results(plain, RAGGED, delta)
    step = compile_on(backend, lambda x, delta: results(layer, x, delta), skip=False)
    found = step(backend.asarray(RAGGED), backend.asarray(delta))
    return max(np.abs(backend.to_numpy(f) - e).max() for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", LAYERS_AND_OWN)
def test_a_scan_of_the_backend_gives_the_numbers_of_the_plain_loop(kind, options, backend64):
    assert differences(kind, options, backend64) < 1e-12


@pytest.mark.parametrize("plant", ["order", "carry", "output"])
def test_a_planted_difference_of_a_scan_is_caught(plant, monkeypatch):
    with nnx.use_backend("numpy", dtype="float64") as backend:

        def wrong(step, carry, rows, reverse):
            if plant == "order":
                return plain_scan(step, carry, rows, not reverse)
            last, (first, *others) = plain_scan(step, carry, rows, reverse)
            if plant == "carry":
                return tuple(a + 1e-10 for a in last), (first, *others)
            return last, (tuple(a + 1e-10 for a in first), *others)

        reference = LAYERS["LSTM"](3, 4, return_sequences=True)
        delta = rng.standard_normal((4, 6, 4))
        expected = results(reference, X, delta)
        monkeypatch.setattr(type(backend), "scan", lambda self, *arguments: wrong(*arguments))
        found = results(reference, X, delta)
    assert max(np.abs(f - e).max() for f, e in zip(found, expected, strict=True)) > 1e-12


# ---------------------------------------------------------------- masks, reverse, sizes


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_padding_does_not_matter(kind, reverse, backend64):
    """A padded sample gives what it gives alone, wherever its padding is."""
    layer = LAYERS[kind](3, 4, mask_value=-1.0, reverse=reverse)
    alone = backend64.to_numpy(layer.forward(backend64.asarray(X[:, :3]))[0])
    for places in ([0, 1, 2], [3, 4, 5], [0, 2, 5]):
        padded = np.full((4, 6, 3), -1.0)
        padded[:, places] = X[:, :3]
        y = backend64.to_numpy(layer.forward(backend64.asarray(padded))[0])
        np.testing.assert_allclose(y, alone, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_sample_of_padding_alone_gives_the_first_state(kind, backend):
    layer = LAYERS[kind](3, 4, mask_value=0.0)
    y, backward = layer.forward(backend.asarray(np.zeros((2, 5, 3))))
    dx, gradients = backward(y + 1.0)
    for array in (y, dx, *gradients.values()):
        assert not np.any(backend.to_numpy(array))


@pytest.mark.parametrize("kind", LAYERS)
def test_in_reverse_is_forward_of_the_flipped_sequence(kind, backend64):
    layer = LAYERS[kind](3, 4, return_sequences=True, reverse=True)
    forward = copy.copy(layer)
    forward.reverse = False
    y, backward = layer.forward(backend64.asarray(X))
    flipped, flipped_backward = forward.forward(backend64.asarray(X[:, ::-1].copy()))
    y, flipped = backend64.to_numpy(y), backend64.to_numpy(flipped)
    np.testing.assert_allclose(y, flipped[:, ::-1], rtol=0, atol=1e-15)
    delta = rng.standard_normal(y.shape)
    ours = backward(backend64.asarray(delta))[1]
    theirs = flipped_backward(backend64.asarray(delta[:, ::-1].copy()))[1]
    for name, gradient in ours.items():
        expected = backend64.to_numpy(theirs[name])
        np.testing.assert_allclose(backend64.to_numpy(gradient), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", LAYERS)
def test_one_layer_takes_sequences_of_any_length(kind, backend):
    layer = LAYERS[kind](3, 4)
    for time in (1, 2, 6):
        y, backward = layer.forward(backend.asarray(X[:, :time]))
        assert tuple(y.shape) == (4, 4)
        assert tuple(backward(y)[0].shape) == (4, time, 3)
        assert backward(y, need_dx=False)[0] is None
    assert layer.output_shape((None, 3)) == (4,)
    assert LAYERS[kind](3, 4, return_sequences=True).output_shape((None, 3)) == (None, 4)


@pytest.mark.parametrize("kind", LAYERS)
def test_arguments_are_left_alone(kind, backend):
    layer = LAYERS[kind](3, 4, return_sequences=True, mask_value=0.0)
    kept = {name: backend.to_numpy(p).copy() for name, p in layer.parameters.items()}
    delta_host = rng.standard_normal((4, 6, 4)).astype(np.float32)
    x, delta = backend.asarray(RAGGED.copy()), backend.asarray(delta_host.copy())
    _, backward = layer.forward(x)
    first = backend.to_numpy(backward(delta)[0]).copy()
    second = backend.to_numpy(backward(delta)[0])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(backend.to_numpy(x), RAGGED.astype(np.float32))
    np.testing.assert_array_equal(backend.to_numpy(delta), delta_host)
    for name, p in layer.parameters.items():
        np.testing.assert_array_equal(backend.to_numpy(p), kept[name])


@pytest.mark.parametrize("kind", LAYERS)
def test_large_inputs_overflow_nothing(kind, backend):
    layer = LAYERS[kind](3, 4)
    y, backward = layer.forward(backend.asarray(1e18 * X))
    dx, gradients = backward(y)
    for array in (y, dx, *gradients.values()):
        assert np.all(np.isfinite(backend.to_numpy(array)))


# ---------------------------------------------------------------- initial weights, penalties


@pytest.mark.parametrize("kind", LAYERS)
def test_initial_weights(kind):
    layer = LAYERS[kind](300, 200)
    W_ih, W_hh = nnx.to_numpy(layer.W_ih), nnx.to_numpy(layer.W_hh)
    assert W_ih.shape == (layer.gates * 200, 300)
    assert abs(W_ih.std() / np.sqrt(2 / 500) - 1) < 0.02
    gates = np.split(W_hh, layer.gates)
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(200), atol=1e-5)
    for one, other in pairwise(gates):
        assert np.abs(one - other).max() > 0.1
    for name in layer.parameters.keys() - {"W_ih", "W_hh"}:
        bias = nnx.to_numpy(layer.parameters[name])
        ones = slice(200, 400) if (kind, name) == ("LSTM", "b_ih") else slice(0)
        assert np.all(bias[ones] == 1)
        assert bias.sum() == bias[ones].sum()


def test_the_forget_bias_is_a_choice():
    assert not np.any(nnx.to_numpy(nnx.LSTMLayer(3, 2, forget_bias=0.0).b_ih))
    bias = nnx.to_numpy(nnx.LSTMLayer(3, 2, forget_bias=2.5).b_ih)
    np.testing.assert_array_equal(bias, [0, 0, 2.5, 2.5, 0, 0, 0, 0])


def test_an_initializer_and_the_gain_of_the_activation():
    class Halves(nnx.Initializer):
        def draw(self, shape, rng):
            return np.full(shape, 0.5)

    layer = nnx.RNNLayer(3, 2, nnx.ReLU(), initializer=Halves())
    np.testing.assert_allclose(layer.W_ih, np.full((2, 3), np.sqrt(0.5)), rtol=1e-6)
    layer = nnx.RNNLayer(3, 2, nnx.ReLU(), initializer=nnx.Ones())
    np.testing.assert_array_equal(layer.W_ih, np.ones((2, 3)))
    np.testing.assert_array_equal(nnx.GRULayer(3, 2, initializer=nnx.Ones()).W_ih, np.ones((6, 3)))


@pytest.mark.parametrize("kind", LAYERS)
def test_each_penalty_acts_on_its_own_weights(kind):
    layer = LAYERS[kind](
        3,
        4,
        kernel_regularizer=nnx.L2Regularizer(0.5),
        recurrent_regularizer=nnx.L2Regularizer(0.25),
    )
    layer.backprop(0.0 * layer.evaluate(X.astype(np.float32)))
    np.testing.assert_array_equal(layer.dW_ih, 0.5 * layer.W_ih)
    np.testing.assert_array_equal(layer.dW_hh, 0.25 * layer.W_hh)
    biases = layer.parameters.keys() - {"W_ih", "W_hh"}
    assert not any(np.any(layer.gradients[name]) for name in biases)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("shape", [(6, 4), (3,), (0, 3), (2, 6, 3)])
def test_wrong_shapes_are_refused(kind, shape):
    layer = LAYERS[kind](3, 4)
    with pytest.raises(ShapeError, match=r"takes input of shape \(time, 3\), got"):
        layer.output_shape(shape)
    with pytest.raises(ShapeError, match=rf"{kind}Layer takes input of shape \(time, 3\), got"):
        layer.forward(np.zeros((2, *shape), dtype=np.float32))


# ---------------------------------------------------------------- both directions


def both(kind, merge="concat", no=4, **options):
    make = LAYERS[kind]
    return nnx.BidirectionalLayer(
        make(3, 4, **options), make(3, no, reverse=True, **options), merge
    )


def test_both_directions_by_hand(backend):
    layers = [nnx.RNNLayer(1, 1, nnx.Linear(), reverse=reverse) for reverse in (False, True)]
    for layer, weight in zip(layers, (2.0, 3.0)):
        layer.W_ih, layer.W_hh = backend.asarray([[1.0]]), backend.asarray([[weight]])
    x, delta = backend.asarray([[[1.0], [10.0]]]), [[100.0, 1.0]]
    y, backward = nnx.BidirectionalLayer(*layers).forward(x)
    # forward 1 * 2 + 10, backward 10 * 3 + 1
    np.testing.assert_array_equal(backend.to_numpy(y), [[12.0, 31.0]])
    dx, gradients = backward(backend.asarray(delta))
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[201.0], [103.0]]])
    assert backend.to_numpy(gradients[0]["W_hh"]) == 100 * 1
    assert backend.to_numpy(gradients[1]["W_hh"]) == 10
    y, _ = nnx.BidirectionalLayer(*layers, "sum").forward(x)
    np.testing.assert_array_equal(backend.to_numpy(y), [[43.0]])


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_both_directions_are_checked(kind, merge, sequences):
    assert (
        check_gradients(
            both(kind, merge, return_sequences=sequences), X, autodiff=QUICK_AUTODIFF
        ).autodiff
        or not QUICK_AUTODIFF
    )
    check_backends(lambda: both(kind, merge, return_sequences=sequences), X, dtypes=["float32"])


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_both_directions_are_those_of_pytorch(kind, sequences):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind)(
        3, 4, batch_first=True, bidirectional=True, dtype=torch.float64
    )
    with nnx.use_backend("numpy", dtype="float64"):
        layer = both(kind, return_sequences=sequences, mask_value=0.0)
    for child, suffix in zip(layer.children, ("", "_reverse")):
        carry(theirs, child, suffix)
    x = torch.tensor(RAGGED, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, True, enforce_sorted=False)
    y, h = theirs(packed)
    if sequences:
        expected = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]
    else:
        expected = torch.concat(tuple(h[0] if kind == "LSTM" else h), dim=-1)
    delta = rng.standard_normal(expected.shape)
    expected.backward(torch.asarray(delta))
    y, backward = layer.forward(RAGGED)
    dx, gradients = backward(delta)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, x.grad.numpy(), rtol=0, atol=1e-10)
    for number, suffix in enumerate(("", "_reverse")):
        own = gradients[number]
        assert own.keys() == layer.children[number].parameters.keys()
        compare(layer, own, theirs, suffix)


@pytest.mark.parametrize("whole", [None, nnx.Adam(0.02)])
def test_both_directions_learn_which_number_was_the_largest(whole, backend):
    x = np.random.default_rng(0).uniform(-1, 1, (64, 4, 1))
    optim = nnx.Adam(0.02)
    layers = [
        nnx.BidirectionalLayer(
            nnx.GRULayer(1, 6, optim, return_sequences=True),
            nnx.GRULayer(1, 6, optim, return_sequences=True, reverse=True),
        ),
        nnx.GRULayer(12, 6, optim),
        nnx.DenseLayer(6, 4, nnx.SoftMax(), optim),
    ]
    net = nnx.SequentialNet((4, 1), layers, nnx.CrossEntropy(), whole)
    history = net.train(x, x[..., 0].argmax(axis=1), 16, 30, progress=False)
    assert history.loss[-1] < 0.6 * history.loss[0]


@pytest.mark.parametrize(
    ("layers", "merge", "message"),
    [
        ((nnx.RNNLayer(3, 4), nnx.RNNLayer(3, 4)), "concat", "made with reverse=True"),
        ((nnx.RNNLayer(3, 4, reverse=True),) * 2, "concat", "made with reverse=True"),
        ((nnx.RNNLayer(3, 4), nnx.RNNLayer(2, 4, reverse=True)), "concat", "same ni, got 3 and 2"),
        ((nnx.RNNLayer(3, 4), nnx.RNNLayer(3, 2, reverse=True)), "sum", "same no, got 4 and 2"),
        (
            (nnx.RNNLayer(3, 4, mask_value=0), nnx.RNNLayer(3, 4, reverse=True)),
            "sum",
            "same mask_value, got 0.0 and None",
        ),
        ((nnx.RNNLayer(3, 4), nnx.RNNLayer(3, 4, reverse=True)), "mean", "merge to be one of"),
    ],
)
def test_layers_that_do_not_go_together_are_refused(layers, merge, message):
    with pytest.raises(ValueError, match=f"BidirectionalLayer: .*{message}"):
        nnx.BidirectionalLayer(*layers, merge)


def test_shapes_of_both_directions():
    layer = both("GRU", no=2, return_sequences=True)
    assert layer.output_shape((None, 3)) == (None, 6)
    assert both("GRU").output_shape((5, 3)) == (8,)
    assert both("GRU", "sum").output_shape((5, 3)) == (4,)
    with pytest.raises(ShapeError, match=r"takes input of shape \(time, 3\), got \(5, 4\)"):
        layer.output_shape((5, 4))


# ---------------------------------------------------------------- in a network, on a device


@pytest.mark.parametrize("kind", LAYERS)
def test_a_step_reads_nothing_back(kind):
    layers = [
        LAYERS[kind](3, 4, return_sequences=True, mask_value=0.0, truncate=2),
        LAYERS[kind](4, 2, reverse=True, mask_value=0.0),
    ]
    net = nnx.SequentialNet((6, 3), layers)
    x, y = RAGGED.astype(np.float32), np.zeros((4, 2), dtype=np.float32)
    assert_no_host_sync(lambda net, x, y: net.step(x, y), net, x, y)


@pytest.mark.parametrize("kind", LAYERS)
def test_it_learns_to_remember_the_first_number(kind, backend):
    x = np.random.default_rng(0).uniform(-1, 1, (64, 5, 1))
    layers = [
        LAYERS[kind](1, 8, optim=nnx.Adam(0.02)),
        nnx.DenseLayer(8, 1, nnx.Linear(), nnx.Adam(0.02)),
    ]
    net = nnx.SequentialNet((5, 1), layers)
    history = net.train(x, x[:, 0], 16, 40, progress=False)
    assert history.loss[-1] < 0.2 * history.loss[0]


# layer -> kernels and copies on the device for one step of time, forward and backward
LAUNCHES = {"RNN": 7, "LSTM": 23, "GRU": 25}


@pytest.mark.gpu
@pytest.mark.parametrize("kind", LAYERS)
def test_a_step_of_time_stays_within_its_launches(kind, record_property):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    with nnx.use_backend("cupy") as cupy:
        layer = LAYERS[kind](3, 4, return_sequences=True)

        def counted(time):
            x, delta = cupy.asarray(np.ones((2, time, 3))), cupy.asarray(np.ones((2, time, 4)))
            layer.forward(x)[1](delta)
            counters.reset()
            layer.forward(x)[1](delta)
            return counters.stats()

        few, many = counted(10), counted(20)
    each = {
        name: (many.get(name, 0) - few.get(name, 0)) / 10 for name in ("launches", "d2d", "gemm")
    }
    record_property("counted", each)
    print(kind, each, many)
    assert each["launches"] + each["d2d"] <= LAUNCHES[kind]
    assert each["gemm"] == 2
    forbidden = ("h2d", "d2h", "stream_sync", "dev_sync", "event_sync")
    assert {name: many.get(name, 0) for name in forbidden} == dict.fromkeys(forbidden, 0)


class RowSum(nnx.activations.Activation):
    """y_i = tanh(z_i) mean(z), a function of all entries of a row, as a user may write it."""

    def forward(self, z):
        xp = nnx.array_namespace(z)
        t, m = xp.tanh(z), xp.mean(z, axis=-1, keepdims=True)

        def backward(delta):
            return delta * (1 - t * t) * m + xp.mean(delta * t, axis=-1, keepdims=True)

        return t * m, backward


@pytest.mark.parametrize("phi", [RowSum(), nnx.SoftMax(), nnx.LogSoftmax()])
def test_an_activation_of_whole_rows(phi):
    x = np.random.default_rng(0).standard_normal((3, 4, 2))
    check_gradients(nnx.RNNLayer(2, 3, phi), x, autodiff=[])
