import numpy as np
import pytest
from conftest import AUTODIFF, usable

import nnx
from nnx.backend import namespace, sum_rows
from nnx.backend.namespace import one_hot_sum
from nnx.layers import ShapeError
from nnx.testing import assert_no_host_sync, check_backends, check_gradients

TOKENS = np.random.default_rng(3).integers(0, 7, (4, 5))


def test_forward_and_backward_by_hand(backend):
    layer = nnx.EmbeddingLayer(3, 2)
    layer.E = backend.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for tokens in ([[2, 0, 2]], [[2.0, 0.0, 2.0]]):
        y, backward = layer.forward(backend.asarray(tokens))
        np.testing.assert_array_equal(backend.to_numpy(y), [[[5, 6], [1, 2], [5, 6]]])
        dx, gradients = backward(backend.asarray([[[1.0, 0.0], [0.0, 1.0], [10.0, 2.0]]]))
        # token 2 stands there twice: 1 + 10, 0 + 2; token 1 not at all
        np.testing.assert_array_equal(backend.to_numpy(gradients["E"]), [[0, 1], [0, 0], [11, 2]])
        np.testing.assert_array_equal(backend.to_numpy(dx), [[0.0, 0.0, 0.0]])


def test_padding_is_zero_whatever_stands_in_its_row_and_gets_no_gradient(backend):
    layer = nnx.EmbeddingLayer(3, 2, padding_index=1)
    layer.E = backend.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    y, backward = layer.forward(backend.asarray([[1, 2, 1]]))
    np.testing.assert_array_equal(backend.to_numpy(y), [[[0, 0], [5, 6], [0, 0]]])
    _, gradients = backward(backend.asarray([[[1.0, 1.0], [2.0, 3.0], [1.0, 1.0]]]))
    np.testing.assert_array_equal(backend.to_numpy(gradients["E"]), [[0, 0], [0, 0], [2, 3]])


@pytest.mark.parametrize("options", [{}, {"padding_index": 0}])
@pytest.mark.parametrize("kind", [int, float])
def test_backward_is_the_derivative_and_backends_agree(options, kind):
    make = lambda: nnx.EmbeddingLayer(7, 3, **options)
    assert check_gradients(make(), TOKENS.astype(kind)).autodiff or not AUTODIFF
    check_backends(make, TOKENS.astype(kind))


@pytest.mark.parametrize("padding", [None, 2])
def test_values_and_gradients_are_those_of_pytorch(padding):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Embedding(7, 3, padding_idx=padding, dtype=torch.float64)
    with nnx.use_backend("numpy", dtype="float64"):
        layer = nnx.EmbeddingLayer(7, 3, padding_index=padding)
        layer.E = theirs.weight.detach().numpy()
    delta = np.random.default_rng(0).standard_normal((4, 5, 3))
    expected = theirs(torch.asarray(TOKENS))
    expected.backward(torch.asarray(delta))
    y, backward = layer.forward(TOKENS)
    _, gradients = backward(delta)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-15)
    np.testing.assert_allclose(gradients["E"], theirs.weight.grad.numpy(), rtol=0, atol=1e-14)


def test_the_product_is_the_same_in_blocks(monkeypatch, backend64):
    rng = np.random.default_rng(0)
    rows, index = backend64.asarray(rng.standard_normal((20, 3))), backend64.asarray(TOKENS)
    index = backend64.xp.reshape(index, (-1,))
    whole = backend64.to_numpy(one_hot_sum(rows, index, 7))
    monkeypatch.setattr(namespace, "ONE_HOT_BLOCK", 7 * 6)  # six tokens at a time, then two
    np.testing.assert_allclose(
        backend64.to_numpy(one_hot_sum(rows, index, 7)), whole, rtol=0, atol=1e-14
    )


def test_tokens_up_to_the_last_whole_number_of_float32(backend):
    """2^24 - 1 and its neighbours stay apart: the cast is exact."""
    last = 2**24
    tokens = backend.asarray([float(last - 1), float(last - 2), float(last)])
    whole = backend.to_numpy(backend.xp.astype(tokens, backend.xp.int32))
    np.testing.assert_array_equal(whole, [last - 1, last - 2, last])


def test_the_first_layer_need_not_give_dx(backend):
    layer = nnx.EmbeddingLayer(7, 3)
    y, backward = layer.forward(backend.asarray(TOKENS))
    assert backward(y, need_dx=False)[0] is None


def test_a_step_reads_nothing_back():
    layers = [nnx.EmbeddingLayer(7, 3, padding_index=0), nnx.GRULayer(3, 4, mask_value=0.0)]
    net = nnx.SequentialNet((5,), layers)
    x, y = TOKENS.astype(np.float32), np.zeros((4, 4), dtype=np.float32)
    assert_no_host_sync(lambda net, x, y: net.step(x, y), net, x, y)


def test_rows_begin_with_a_length_of_about_one():
    E = nnx.to_numpy(nnx.EmbeddingLayer(50, 400).E)
    np.testing.assert_allclose(np.linalg.norm(E, axis=1), 1.0, atol=0.2)


def test_a_penalty_acts_on_the_rows(backend):
    layer = nnx.EmbeddingLayer(3, 2, kernel_regularizer=nnx.L2Regularizer(0.5))
    layer.E = backend.asarray([[2.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    layer.backprop(0.0 * layer.evaluate(backend.asarray([[0, 1]])))
    np.testing.assert_array_equal(backend.to_numpy(layer.dE), [[1, 0], [0, 2], [0, 0]])


def test_shapes():
    layer = nnx.EmbeddingLayer(7, 3, padding_index=0)
    assert layer.output_shape((5,)) == (5, 3)
    assert layer.output_shape((None,)) == (None, 3)
    with pytest.raises(ShapeError, match=r"takes input of shape \(time,\).*got \(0,\)"):
        layer.output_shape((0,))


GOOD = [[0, 4], [1, 2]]


@pytest.mark.parametrize(
    ("on_device", "kind"),
    [
        *((False, kind) for kind in ("int8", "uint8", "int32", "int64", "float32", "float64")),
        *((True, kind) for kind in ("uint8", "int64", "float32")),  # each has kernels of its own
    ],
)
def test_tokens_of_every_type_are_looked_through(kind, on_device, backend):
    layer = nnx.EmbeddingLayer(5, 3)
    make = backend.from_numpy if on_device else (lambda host: host)
    layer.check_inputs(make(np.array(GOOD, dtype=kind)))
    with pytest.raises(ValueError, match=r"integers from 0 to 4, got 5 at x\[1, 0\]; give .*ni=6"):
        layer.check_inputs(make(np.array([[0, 4], [5, 9]], dtype=kind)))
    if kind != "uint8":
        with pytest.raises(ValueError, match=r"from 0 to 4, got -1 at x\[0, 1\]; number the tok"):
            layer.check_inputs(make(np.array([[0, -1], [5, 2]], dtype=kind)))


@pytest.mark.parametrize("token", [1.5, float("nan"), float("inf"), -float("inf"), -0.5, 1e30])
def test_tokens_that_are_not_integers_are_refused(token, backend):
    layer = nnx.EmbeddingLayer(5, 3, name="words")
    x = np.array([[0.0, 1.0], [token, 2.0]])
    for data in (x, x.tolist(), backend.asarray(x)):
        with pytest.raises(
            ValueError, match=r"^words: expected tokens, .* 0 to 4, .* at x\[1, 0\]"
        ):
            layer.check_inputs(data)
        with pytest.raises(ValueError, match=r"^words: expected tokens"):
            layer.evaluate(data)


@pytest.mark.parametrize("x", [[["a", "b"]], [[True, False]], [[1j, 0]]])
def test_what_is_not_a_number_is_not_a_token(x):
    with pytest.raises(TypeError, match=r"EmbeddingLayer: expected tokens, .*astype\(int\)"):
        nnx.EmbeddingLayer(5, 3).check_inputs(x)


def test_tokens_are_read_from_the_device_once(monkeypatch):
    with nnx.use_backend(usable("strict")) as backend:
        layer, x = nnx.EmbeddingLayer(5, 3), backend.asarray(np.array(GOOD))
        reads = []
        kind = type(x)
        for name in ("__bool__", "__int__", "__float__", "__index__"):
            original = getattr(kind, name)
            monkeypatch.setattr(
                kind, name, lambda self, f=original, n=name: reads.append(n) or f(self)
            )
        layer.check_inputs(x)
    assert reads == ["__bool__"]


@pytest.mark.parametrize(
    ("samples", "count"), [(1, 5000), (7, 1), (400, 3), (400, 50), (400, 5000)]
)
def test_a_librarys_own_sums_of_rows_are_those_of_the_product(samples, count, backend64):
    """The fast way beside the one that every library has, and beside a loop."""
    rng = np.random.default_rng(samples)
    host, index = rng.standard_normal((samples, 4)), rng.integers(0, count, samples)
    rows, tokens = backend64.asarray(host), backend64.asarray(index)
    expected = np.zeros((count, 4))
    for i, row in zip(index, host):
        expected[i] += row
    for way in (sum_rows, one_hot_sum):
        total = way(rows, tokens, count)
        assert total.dtype == rows.dtype
        np.testing.assert_allclose(backend64.to_numpy(total), expected, rtol=1e-12, atol=1e-13)
    again = backend64.to_numpy(sum_rows(rows, tokens, count))
    np.testing.assert_array_equal(again, backend64.to_numpy(sum_rows(rows, tokens, count)))
