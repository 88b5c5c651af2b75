import numpy as np
import pytest

import nnx

LAYERS = {
    "flatten": (nnx.FlattenLayer, (3, 2, 4, 5)),
    "reshape": (lambda: nnx.ReshapeLayer((4, -1)), (3, 2, 4, 5)),
    "reshape to one": (lambda: nnx.ReshapeLayer((40,)), (3, 2, 4, 5)),
    "padding": (lambda: nnx.ZeroPadding2DLayer(((1, 2), (0, 3))), (3, 2, 4, 5)),
    "no padding": (lambda: nnx.ZeroPadding2DLayer(0), (3, 2, 4, 5)),
    "upsampling": (lambda: nnx.UpSampling2DLayer((2, 3)), (3, 2, 4, 5)),
}


def normal(*shape):
    return np.random.default_rng(7).standard_normal(shape)


def test_a_sample_in_another_shape_by_hand(backend):
    x = backend.asarray([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    for layer, expected in (
        (nnx.FlattenLayer(), [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]),
        (nnx.ReshapeLayer((3, 2)), [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]),
        (nnx.ReshapeLayer((1, -1)), [[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]]),
    ):
        y, backward = layer.forward(x)
        np.testing.assert_array_equal(backend.to_numpy(y), expected)
        np.testing.assert_array_equal(backend.to_numpy(backward(y)[0]), backend.to_numpy(x))


def test_padding_by_hand(backend):
    y, backward = nnx.ZeroPadding2DLayer(((0, 1), (2, 0))).forward(backend.asarray([[[[7.0]]]]))
    np.testing.assert_array_equal(backend.to_numpy(y), [[[[0.0, 0.0, 7.0], [0.0, 0.0, 0.0]]]])
    delta = backend.asarray([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    np.testing.assert_array_equal(backend.to_numpy(backward(delta)[0]), [[[[3.0]]]])


def test_upsampling_by_hand(backend):
    y, backward = nnx.UpSampling2DLayer((1, 2)).forward(backend.asarray([[[[1.0, 2.0]]]]))
    np.testing.assert_array_equal(backend.to_numpy(y), [[[[1.0, 1.0, 2.0, 2.0]]]])
    dx = backward(backend.asarray([[[[1.0, 2.0, 3.0, 4.0]]]]))[0]
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[[3.0, 7.0]]]])


@pytest.mark.parametrize("size", [1, 2, (3, 1)])
def test_upsampling_against_pytorch(size):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, 4, 5)
    y, backward = nnx.UpSampling2DLayer(size).forward(x)
    factors = (size, size) if isinstance(size, int) else size
    theirs = torch.tensor(x, requires_grad=True)
    value = torch.nn.functional.interpolate(theirs, scale_factor=factors, mode="nearest")
    delta = normal(*y.shape)
    value.backward(torch.tensor(delta))
    np.testing.assert_array_equal(y, value.detach().numpy())
    np.testing.assert_allclose(backward(delta)[0], theirs.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", [0, 2, (1, 2), ((1, 2), (0, 3))])
def test_padding_against_pytorch(padding):
    torch = pytest.importorskip("torch")
    layer = nnx.ZeroPadding2DLayer(padding)
    x = normal(2, 3, 4, 5)
    y, backward = layer.forward(x)
    assert layer.output_shape(x.shape[1:]) == y.shape[1:]
    (top, bottom), (left, right) = layer.padding
    theirs = torch.tensor(x, requires_grad=True)
    value = torch.nn.functional.pad(theirs, (left, right, top, bottom))
    delta = normal(*y.shape)
    value.backward(torch.tensor(delta))
    np.testing.assert_array_equal(y, value.detach().numpy())
    np.testing.assert_array_equal(backward(delta)[0], theirs.grad.numpy())


def test_shapes():
    assert nnx.FlattenLayer().output_shape((2, 3, 4)) == (24,)
    assert nnx.FlattenLayer().output_shape((5,)) == (5,)
    assert nnx.ReshapeLayer((2, -1)).output_shape((3, 4)) == (2, 6)
    assert nnx.UpSampling2DLayer((2, 3)).output_shape((1, 4, 5)) == (1, 8, 15)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nnx.ReshapeLayer((2, 5)), (3, 4), r"\(2, 5\) of 10 numbers, got .* \(3, 4\) with 12"),
        (nnx.ReshapeLayer((5, -1)), (3, 4), "its 12 numbers are not a multiple of 5"),
        (nnx.ZeroPadding2DLayer(1), (3, 4), r"\(channels, height, width\), got \(3, 4\): put Resh"),
        (nnx.UpSampling2DLayer(2), (3,), r"\(channels, height, width\), got \(3,\)"),
    ],
)
def test_wrong_shapes_are_refused(layer, shape, message):
    with pytest.raises(nnx.ShapeError, match=message):
        layer.output_shape(shape)
