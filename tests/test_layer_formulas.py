"""What must hold for the formulas of every layer of images, in one place."""

import numpy as np
import pytest
import test_convolution
import test_pooling
import test_shape_layers
from conftest import QUICK_AUTODIFF, compile_on, usable

import nnx
from nnx.testing import assert_no_host_sync, check_backends, check_gradients

LAYERS = {
    f"{module.__name__.removeprefix('test_')}: {kind}": case
    for module in (test_convolution, test_pooling, test_shape_layers)
    for kind, case in module.LAYERS.items()
}


def normal(*shape):
    return np.random.default_rng(7).standard_normal(shape)


@pytest.mark.parametrize("kind", LAYERS)
def test_backward_is_the_derivative_of_forward(kind):
    make, shape = LAYERS[kind]
    with nnx.use_backend("numpy"):
        check_gradients(make(), normal(*shape), autodiff=QUICK_AUTODIFF)


@pytest.mark.parametrize("kind", LAYERS)
def test_backends_agree(kind, backend_spec):
    make, shape = LAYERS[kind]
    check_backends(make, normal(*shape), backends=[usable(backend_spec)])


@pytest.mark.parametrize("kind", LAYERS)
def test_no_value_is_read_on_the_host(kind):
    make, shape = LAYERS[kind]

    def step(layer, x):
        y, backward = layer.forward(x, training=True)
        return backward(y + 1.0)[0] + 1.0

    with nnx.use_backend("numpy"):
        assert_no_host_sync(step, make(), np.float32(normal(*shape)))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_compiled_step_gives_the_same(kind, backend):
    make, shape = LAYERS[kind]
    layer, x = make(), backend.asarray(normal(*shape))

    def step(x):
        y, backward = layer.forward(x, training=True)
        return y, backward(y)[0]

    for compiled, plain in zip(compile_on(backend, step)(x), step(x)):
        assert compiled.dtype == backend.dtype
        np.testing.assert_allclose(
            backend.to_numpy(compiled), backend.to_numpy(plain), rtol=1e-5, atol=1e-5
        )


def test_layers_that_keep_values_say_so():
    kept = {kind.__name__ for kind in vars(nnx).values() if getattr(kind, "keeps_values", False)}
    assert kept == {"FlattenLayer", "PermuteLayer", "ReshapeLayer"}
    for layer, shape in (
        (nnx.FlattenLayer(), (2, 3, 4)),
        (nnx.PermuteLayer((2, 1)), (2, 3, 4)),
        (nnx.ReshapeLayer((4, -1)), (2, 3, 4)),
    ):
        x = normal(*shape)
        np.testing.assert_array_equal(
            np.sort(layer.forward(x)[0], axis=None), np.sort(x, axis=None)
        )
