import math

import numpy as np
import pytest
from conftest import QUICK_AUTODIFF, QUICK_BACKENDS, compile_on

import nnx
from nnx.layers import ShapeError
from nnx.testing import assert_no_host_sync, check_backends, check_gradients

rng = np.random.default_rng(11)
X, RAGGED, LENGTHS = rng.standard_normal((3, 5, 4)), rng.standard_normal((3, 5, 4)), [5, 2, 3]
for sample, length in enumerate(LENGTHS):
    RAGGED[sample, length:] = 0.0
NAMES = {
    "W_in": "in_proj_weight",
    "b_in": "in_proj_bias",
    "W_out": "out_proj.weight",
    "b_out": "out_proj.bias",
}


def identity(backend, heads=1, **options):
    """A layer of two features whose projections change nothing."""
    layer = nnx.MultiHeadAttentionLayer(2, heads, **options)
    layer.W_in = backend.asarray(np.tile(np.eye(2), (3, 1)))
    layer.W_out = backend.asarray(np.eye(2))
    return layer


def test_forward_and_backward_by_hand(backend):
    """One feature in each of two heads: d = 1, A is a softmax of products of numbers."""
    layer = identity(backend, heads=2)
    ln3 = math.log(3.0)
    x = backend.asarray([[[1.0, 0.0], [1.0 + ln3, 0.0]]])
    y, backward = layer.forward(x)
    # Head 1, query 1: products 1 and 1 + ln 3, so A = (1/4, 3/4); head 2 is all zero.
    first = 0.25 + 0.75 * (1 + ln3)
    np.testing.assert_allclose(backend.to_numpy(y)[0, 0], [first, 0.0], rtol=1e-6)
    dx, gradients = backward(backend.asarray([[[1.0, 0.0], [0.0, 0.0]]]))
    np.testing.assert_allclose(
        backend.to_numpy(gradients["W_out"]), [[first, 0], [0, 0]], rtol=1e-6
    )
    np.testing.assert_array_equal(backend.to_numpy(gradients["b_out"]), [1.0, 0.0])
    # dV = A, dS = A (V - sum A V) = 3/16 ln 3 (-1, 1), dQ_1 = dS K, dK = dS Q_1
    dS = 3 / 16 * ln3
    dQ = [dS * (-1 + 1 + ln3), 0.0]
    dK, dV = [-dS, dS], [0.25, 0.75]
    np.testing.assert_allclose(
        backend.to_numpy(dx)[0, :, 0], np.sum([dQ, dK, dV], axis=0), rtol=1e-5
    )


def test_causal_attention_by_hand(backend):
    """The first step sees itself alone; the second both, here with equal weights."""
    layer = identity(backend, causal=True)
    y, _ = layer.forward(backend.asarray([[[1.0, 0.0], [0.0, 0.0], [0.0, 3.0]]]))
    y = backend.to_numpy(y)
    np.testing.assert_allclose(y[0, 0], [1.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(y[0, 1], [0.5, 0.0], rtol=1e-6)
    assert y[0, 2, 1] > 2.9


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"causal": True}], ids=str)
def test_backward_is_the_derivative_of_forward(heads, options):
    assert (
        check_gradients(
            nnx.MultiHeadAttentionLayer(4, heads, **options), X, autodiff=QUICK_AUTODIFF
        ).autodiff
        or not QUICK_AUTODIFF
    )


@pytest.mark.parametrize("options", [{}, {"causal": True, "mask_value": 0.0}], ids=str)
def test_backends_agree(options):
    check_backends(lambda: nnx.MultiHeadAttentionLayer(4, 2, **options), RAGGED)


@pytest.mark.parametrize("alone", ["one time step", "padding"])
def test_nothing_is_learned_from_scores_of_one_key(alone, backend):
    # Softmax of one score is 1 whatever it is. Adam would make a full step of any rounding.
    x = rng.standard_normal((16, 1 if alone == "one time step" else 3, 64)).astype("float32")
    x[:, 1:, :] = 0.0
    layer = nnx.MultiHeadAttentionLayer(64, 4, mask_value=None if x.shape[1] == 1 else 0.0)
    y, backward = layer.forward(backend.asarray(x))
    _, gradients = backward(backend.asarray(rng.standard_normal(y.shape).astype("float32")))
    of_queries_and_keys = nnx.to_numpy(gradients["W_in"])[: 2 * 64, :]
    assert not of_queries_and_keys.any()
    assert nnx.to_numpy(gradients["W_in"])[2 * 64 :, :].any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1), (2, 1, 2), (1, 2, 3)])
def test_odd_sizes(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    for heads in {1, shape[2]}:
        check_gradients(nnx.MultiHeadAttentionLayer(shape[2], heads, causal=True), x, autodiff=())
    backends = None if shape == (1, 3, 1) else QUICK_BACKENDS
    make = lambda: nnx.MultiHeadAttentionLayer(shape[2], 1)
    check_backends(make, x, dtypes=["float32"], backends=backends)


def pair(**options):
    """A layer of float64 on NumPy and PyTorch's with the same weights."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():  # biases begin with zeros there
        theirs.in_proj_bias += torch.asarray(rng.standard_normal(12))
        theirs.out_proj.bias += torch.asarray(rng.standard_normal(4))
    with nnx.use_backend("numpy", dtype="float64"):
        layer = nnx.MultiHeadAttentionLayer(4, 2, **options)
    for name, of in NAMES.items():
        setattr(layer, name, theirs.get_parameter(of).detach().numpy())
    return torch, theirs, layer


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_values_and_gradients_are_those_of_pytorch(causal, ragged):
    torch, theirs, layer = pair(causal=causal, mask_value=0.0 if ragged else None)
    host = RAGGED if ragged else X
    x = torch.tensor(host, requires_grad=True)
    later = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    padding = torch.asarray(np.all(host == 0, axis=-1)) if ragged else None
    expected = theirs(x, x, x, need_weights=False, attn_mask=later, key_padding_mask=padding)[0]
    if ragged:
        expected = torch.where(padding[:, :, None], 0.0, expected)
    delta = rng.standard_normal(host.shape)
    expected.backward(torch.asarray(delta))
    y, backward = layer.forward(host)
    dx, gradients = backward(delta)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, x.grad.numpy(), rtol=0, atol=1e-10)
    for name, gradient in gradients.items():
        grad = theirs.get_parameter(NAMES[name]).grad.numpy()
        np.testing.assert_allclose(gradient, grad, rtol=0, atol=1e-10, err_msg=name)


def test_weights_can_be_carried_to_pytorch():
    torch = pytest.importorskip("torch")
    with nnx.use_backend("numpy", dtype="float64"):
        layer = nnx.MultiHeadAttentionLayer(4, 2)
    theirs = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict({NAMES[n]: torch.asarray(p) for n, p in layer.parameters.items()})
    x = torch.asarray(X)
    expected = theirs(x, x, x, need_weights=False)[0].detach().numpy()
    np.testing.assert_allclose(layer.forward(X)[0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_not_matter_wherever_it_is(causal, backend64):
    layer = nnx.MultiHeadAttentionLayer(4, 2, causal=causal, mask_value=-1.0)
    alone = backend64.to_numpy(layer.forward(backend64.asarray(X[:, :3]))[0])
    for places in ([0, 1, 2], [2, 3, 4], [0, 2, 4]):
        padded = np.full((3, 5, 4), -1.0)
        padded[:, places] = X[:, :3]
        y, backward = layer.forward(backend64.asarray(padded))
        expected = np.zeros_like(padded)
        expected[:, places] = alone
        np.testing.assert_allclose(backend64.to_numpy(y), expected, rtol=0, atol=1e-14)
        dx, gradients = backward(backend64.asarray(np.ones((3, 5, 4))))
        dx = backend64.to_numpy(dx)
        assert np.all(np.isfinite(dx))
        assert not np.any(np.delete(dx, places, axis=1))
        assert all(np.all(np.isfinite(backend64.to_numpy(g))) for g in gradients.values())


def test_a_causal_layer_does_not_see_the_future(backend):
    layer = nnx.MultiHeadAttentionLayer(4, 2, causal=True)
    changed = X.copy()
    changed[:, 3:] += 10.0
    one, other = (backend.to_numpy(layer.forward(backend.asarray(x))[0]) for x in (X, changed))
    np.testing.assert_allclose(one[:, :3], other[:, :3], rtol=0, atol=1e-6)
    assert np.abs(one[:, 3:] - other[:, 3:]).max() > 0.1


@pytest.mark.parametrize("causal", [False, True])
def test_large_inputs_overflow_nothing(causal, backend):
    layer = nnx.MultiHeadAttentionLayer(4, 2, causal=causal)
    y, backward = layer.forward(backend.asarray(1e15 * X))
    dx, gradients = backward(backend.asarray(X))
    for array in (y, dx, *gradients.values()):
        assert np.all(np.isfinite(backend.to_numpy(array)))


def test_initial_weights_and_penalties():
    layer = nnx.MultiHeadAttentionLayer(100, 5, kernel_regularizer=nnx.L2Regularizer(0.5))
    for W in (*np.split(nnx.to_numpy(layer.W_in), 3), nnx.to_numpy(layer.W_out)):
        assert abs(W.std() / 0.1 - 1) < 0.05
    layer.backprop(0.0 * layer.evaluate(np.ones((2, 3, 100), dtype=np.float32)))
    np.testing.assert_array_equal(layer.dW_in, 0.5 * layer.W_in)
    np.testing.assert_array_equal(layer.dW_out, 0.5 * layer.W_out)
    assert not np.any(layer.db_in)
    assert not np.any(layer.db_out)


def test_a_step_reads_nothing_back():
    layers = [
        nnx.PositionalEncodingLayer(4, 8, mask_value=0.0),
        nnx.MultiHeadAttentionLayer(4, 2, causal=True, mask_value=0.0),
        nnx.LSTMLayer(4, 2, mask_value=0.0),
    ]
    net = nnx.SequentialNet((5, 4), layers)
    x, y = RAGGED.astype(np.float32), np.zeros((3, 2), dtype=np.float32)
    assert_no_host_sync(lambda net, x, y: net.step(x, y), net, x, y)


def test_a_compiled_step_gives_the_same(backend):
    layer = nnx.MultiHeadAttentionLayer(4, 2, causal=True, mask_value=0.0)

    def step(x):
        y, backward = layer.forward(x)
        return y, *backward(y)

    x = backend.asarray(RAGGED)
    (y, dx, gradients), compiled = step(x), compile_on(backend, step)(x)
    np.testing.assert_allclose(backend.to_numpy(compiled[0]), backend.to_numpy(y), atol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(compiled[1]), backend.to_numpy(dx), atol=1e-5)
    assert gradients.keys() == compiled[2].keys()


def test_wrong_shapes_are_refused():
    for layer in (nnx.MultiHeadAttentionLayer(4, 2), nnx.PositionalEncodingLayer(4, 8)):
        assert layer.output_shape((5, 4)) == (5, 4)
        assert layer.output_shape((None, 4)) == (None, 4)
        for shape in ((5, 3), (4,), (0, 4), (2, 5, 4)):
            with pytest.raises(ShapeError, match=r"takes input of shape \(time, 4\), got"):
                layer.output_shape(shape)
            with pytest.raises(ShapeError, match=rf"{layer.name} takes input of shape"):
                layer.forward(np.zeros((1, *shape), dtype=np.float32))
    with pytest.raises(ShapeError, match=r"time up to max_time=8, got \(9, 4\)"):
        nnx.PositionalEncodingLayer(4, 8).output_shape((9, 4))
    with pytest.raises(ShapeError, match="time up to max_time=8"):
        nnx.PositionalEncodingLayer(4, 8).forward(np.zeros((1, 9, 4), dtype=np.float32))


# ---------------------------------------------------------------- the encoding of positions


@pytest.mark.parametrize("ni", [1, 2, 5, 6])
def test_positions_are_waves_of_the_paper(ni, backend64):
    layer = nnx.PositionalEncodingLayer(ni, 200)
    P = backend64.to_numpy(layer.buffers["P"])
    t, i = np.arange(200)[:, None], np.arange((ni + 1) // 2)
    angle = t / 10000 ** (2 * i / ni)
    np.testing.assert_allclose(P[:, 0::2], np.sin(angle), rtol=0, atol=1e-12)
    np.testing.assert_allclose(P[:, 1::2], np.cos(angle)[:, : ni // 2], rtol=0, atol=1e-12)


def test_positions_by_hand(backend):
    layer = nnx.PositionalEncodingLayer(4, 10)
    y, backward = layer.forward(backend.asarray(np.ones((1, 2, 4))))
    expected = [[1, 2, 1, 2], [1 + math.sin(1), 1 + math.cos(1), 1 + math.sin(0.01), 2]]
    np.testing.assert_allclose(backend.to_numpy(y)[0], expected, rtol=0, atol=1e-4)
    dx, gradients = backward(y)
    np.testing.assert_array_equal(backend.to_numpy(dx), backend.to_numpy(y))
    assert gradients == {}


def test_positions_of_padding_stay_padding(backend):
    layer = nnx.PositionalEncodingLayer(4, 10, mask_value=0.0)
    y = backend.to_numpy(layer.forward(backend.asarray(RAGGED))[0])
    np.testing.assert_array_equal(np.all(y == 0, axis=-1), np.all(RAGGED == 0, axis=-1))


def test_positions_agree_with_derivatives_and_between_backends():
    make = lambda: nnx.PositionalEncodingLayer(4, 10)
    check_gradients(make(), X, autodiff=QUICK_AUTODIFF)
    check_backends(make, X)
