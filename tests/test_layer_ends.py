"""Layers at the ends of float32 and float64: the largest, the smallest, infinity and NaN."""

import contextlib
import math

import numpy as np
import pytest
from conftest import usable

import nnx

DTYPES = ("float32", "float64")
NORMS = {
    "batch": lambda **options: nnx.BatchNormLayer(4, **options),
    "layer": lambda **options: nnx.LayerNormLayer(4, **options),
    "group": lambda **options: nnx.GroupNormLayer(2, 4, **options),
}


@contextlib.contextmanager
def on(spec, dtype):
    """The backend; what NumPy says of numbers out of its range is the subject here."""
    with nnx.use_backend(usable(spec), dtype=dtype) as backend, np.errstate(all="ignore"):
        yield backend


def samples(size):
    """Eight samples of four features with deviations from their mean of about `size`."""
    return size * np.random.default_rng(1).uniform(-1, 1, (8, 4))


def normalized(kind, x, epsilon):
    """xhat in extended precision."""
    x = np.asarray(x, dtype=np.longdouble)
    if kind == "group":
        x = x.reshape(8, 2, 2)
    axes = {"batch": (0,), "layer": (1,), "group": (2,)}[kind]
    centred = x - x.mean(axis=axes, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=axes, keepdims=True) + np.longdouble(epsilon))
    return (centred / deviation).reshape(8, 4)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("power", [-1.0, -0.75, -0.5, 0.0, 0.25, 0.45])
def test_a_normalization_is_right_as_far_as_squares_fit(kind, dtype, power, backend_spec):
    # from the smallest normal number to a little below the root of the largest
    with on(backend_spec, dtype) as backend:
        x = backend.asarray(samples(float(np.finfo(dtype).max) ** power))
        y = backend.to_numpy(NORMS[kind]().forward(x, training=True)[0])
        expected = normalized(kind, backend.to_numpy(x), 1e-5)
    tolerance = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected.astype(float), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", NORMS)
def test_deviations_whose_squares_overflow_have_an_infinite_variance(kind, dtype, backend_spec):
    # as the module says: x / inf = 0
    with on(backend_spec, dtype) as backend:
        layer = NORMS[kind]()
        y, backward = layer.forward(
            backend.asarray(samples(float(np.finfo(dtype).max) ** 0.6)), training=True
        )
        dx = backend.to_numpy(backward(backend.asarray(np.ones((8, 4))))[0])
        np.testing.assert_array_equal(backend.to_numpy(y), np.zeros((8, 4)))
        np.testing.assert_array_equal(dx, np.zeros((8, 4)))
        if kind == "batch":
            assert np.all(np.isinf(backend.to_numpy(layer.buffers["variance"])))


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e-30, 1e5, 1e18])
def test_equal_numbers_are_zero_up_to_the_rounding_of_their_mean(kind, dtype, value, backend_spec):
    # the mean of eight numbers is off by some ulp, of which nothing but rounding noise is left
    noise = 8 * float(np.finfo(dtype).eps) * abs(value)
    with on(backend_spec, dtype) as backend:
        for epsilon in (1e-5, float(np.finfo(dtype).smallest_normal)):
            x = backend.asarray(np.full((8, 4), value))
            y, backward = NORMS[kind](epsilon=epsilon).forward(x, training=True)
            bound = min(1.0, noise / math.sqrt(epsilon)) * (1 + 1e-6)
            assert np.all(np.abs(backend.to_numpy(y)) <= bound)
            assert np.all(np.isfinite(backend.to_numpy(backward(y)[0])))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_does_not_vanish(kind, dtype, value, backend_spec):
    with on(backend_spec, dtype) as backend:
        x = samples(1.0)
        x[3, 1] = value
        y = backend.to_numpy(NORMS[kind]().forward(backend.asarray(x), training=True)[0])
    assert np.isnan(y[3, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [0.0, 1e10, 0.6])
def test_attention_never_looks_at_what_is_hidden(causal, size, dtype, backend_spec):
    """Scores from zero to 0.6 of the lowest number, below half of it."""
    largest = float(np.finfo(dtype).max)
    size = size * largest if size == 0.6 else size
    with on(backend_spec, dtype) as backend:
        layer = nnx.MultiHeadAttentionLayer(2, 1, causal=causal, mask_value=0.0)
        # Q = (a x_0, 0), K = (-a x_0, 0), V = x: all scores are -size at features (1, v)
        root = math.sqrt(size) * 2**0.25
        eye = np.eye(2)
        Q, K = np.array([[root, 0.0], [0.0, 0.0]]), np.array([[-root, 0.0], [0.0, 0.0]])
        layer.W_in = backend.asarray(np.concatenate([Q, K, eye]))
        layer.W_out = backend.asarray(eye)
        x = np.array([[[0.0, 0.0], [1.0, 2.0], [1.0, 4.0], [0.0, 0.0], [1.0, 9.0]]])
        y, backward = layer.forward(backend.asarray(x))
        dx, gradients = backward(backend.asarray(np.ones(x.shape)))
        means = [2.0, 3.0, 5.0] if causal else [5.0, 5.0, 5.0]
        expected = [[0, 0], [1, means[0]], [1, means[1]], [0, 0], [1, means[2]]]
        np.testing.assert_allclose(backend.to_numpy(y)[0], expected, rtol=1e-6)
        assert np.all(backend.to_numpy(dx)[0, [0, 3]] == 0)
        for array in (dx, *gradients.values()):
            assert not np.any(np.isnan(backend.to_numpy(array)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_of_both_signs_near_the_largest_choose_the_largest(dtype, backend_spec):
    size = 0.6 * float(np.finfo(dtype).max)
    with on(backend_spec, dtype) as backend:
        layer = nnx.MultiHeadAttentionLayer(2, 1)
        root = math.sqrt(size) * 2**0.25
        one = np.array([[root, 0.0], [0.0, 0.0]])
        layer.W_in = backend.asarray(np.concatenate([one, one, np.eye(2)]))
        layer.W_out = backend.asarray(np.eye(2))
        x = backend.asarray([[[1.0, 2.0], [-1.0, 8.0]]])
        y, backward = layer.forward(x)
        np.testing.assert_allclose(backend.to_numpy(y)[0], [[1, 2], [-1, 8]], rtol=1e-6)
        assert not np.any(np.isnan(backend.to_numpy(backward(y)[0])))


SPECIAL = [0.0, 1.0, -1.0, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 1])
def test_every_pair_of_special_numbers_in_a_window(dtype, padding, backend_spec):
    numbers = [*SPECIAL, float(np.finfo(dtype).max), -float(np.finfo(dtype).max)]
    x = np.array([[[[a, b], [-math.inf, -math.inf]]] for a in numbers for b in numbers])
    with on(backend_spec, dtype) as backend:
        y, backward = nnx.MaxPool2DLayer(2, padding=padding).forward(backend.asarray(x))
        dx = backend.to_numpy(backward(backend.asarray(np.ones(y.shape)))[0])
        y = backend.to_numpy(y)
    if padding == 0:
        np.testing.assert_array_equal(y[:, 0, 0, 0], np.maximum(x[:, 0, 0, 0], x[:, 0, 0, 1]))
        np.testing.assert_array_equal(dx.sum(axis=(1, 2, 3)), np.ones(len(x)))
    else:
        np.testing.assert_array_equal(y, x.astype(dtype))
        finite = np.isfinite(x)  # with -inf and NaN the cell may be one of padding
        np.testing.assert_array_equal(dx[finite], np.ones(np.count_nonzero(finite)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [nnx.AvgPool2DLayer, nnx.GlobalAvgPoolLayer])
def test_a_mean_of_numbers_whose_sum_overflows_is_infinite(kind, dtype, backend_spec):
    largest = float(np.finfo(dtype).max)
    cases = [
        ([largest / 4, 0, 0, 0], largest / 16),
        ([largest, largest, 0, 0], math.inf),
        ([math.nan, 0, 0, 0], math.nan),
        ([math.inf, 0, 0, 0], math.inf),
        ([math.inf, -math.inf, 0, 0], math.nan),
        ([float(np.finfo(dtype).smallest_normal)] * 4, float(np.finfo(dtype).smallest_normal)),
    ]
    with on(backend_spec, dtype) as backend:
        x = backend.asarray(np.array([cells for cells, _ in cases]).reshape(-1, 1, 2, 2))
        y = backend.to_numpy(kind().forward(x)[0]).ravel()
    np.testing.assert_array_equal(y, np.array([mean for _, mean in cases], dtype=dtype))
