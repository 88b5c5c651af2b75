"""Penalties: numbers by hand, the gradient is the derivative of the value, dp is left alone."""

import math

import numpy as np
import pytest
from conftest import compile_on, usable
from numpy.testing import assert_allclose, assert_array_equal

import nnx
from nnx import regularizers

REGULARIZERS = {
    "ElasticNetRegularizer": nnx.ElasticNetRegularizer(0.3, 0.7),
    "L1Regularizer": nnx.L1Regularizer(0.3),
    "L2Regularizer": nnx.L2Regularizer(0.7),
    "OrthogonalityRegularizer": nnx.OrthogonalityRegularizer(0.4),
}
SHAPES = [(3, 4), (4, 3), (3, 3), (1, 5), (2, 2, 3)]


def test_the_table_has_every_regularizer():
    public = set(regularizers.__all__)
    assert public == {"Regularizer", *REGULARIZERS}
    assert all(type(made).__name__ == name for name, made in REGULARIZERS.items())


def away_from_zero(shape):
    p = np.random.default_rng(1).standard_normal(shape)
    return p + np.copysign(0.1, p)


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_the_numeric_derivative_of_value(name, shape, backend64):
    regularizer, p = REGULARIZERS[name], away_from_zero(shape)

    def value(p):
        return float(backend64.to_numpy(regularizer.value(backend64.asarray(p))))

    numeric, h = np.zeros(shape), 1e-5
    for i in np.ndindex(*shape):
        e = np.zeros(shape)
        e[i] = h
        numeric[i] = (value(p + e) - value(p - e)) / (2 * h)
    gradient = backend64.to_numpy(regularizer.gradient(backend64.asarray(p)))
    assert_allclose(gradient, numeric, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_update_returns_dp_plus_the_gradient_and_touches_nothing(name, shape, backend):
    regularizer, rng = REGULARIZERS[name], np.random.default_rng(2)
    host = rng.standard_normal(shape), rng.standard_normal(shape)
    p, dp = map(backend.asarray, host)
    before = [backend.to_numpy(a).copy() for a in (p, dp)]
    updated = regularizer.update(p, dp)
    assert updated is not dp
    assert tuple(updated.shape) == shape
    assert updated.dtype == regularizer.value(p).dtype == backend.dtype
    assert regularizer.value(p).shape == ()
    for array, copy in zip((p, dp), before, strict=True):
        assert_array_equal(backend.to_numpy(array), copy)
    expected = before[1] + backend.to_numpy(regularizer.gradient(p))
    assert_allclose(backend.to_numpy(updated), expected, rtol=1e-6)


P = [[3.0, -4.0], [0.0, 1.0]]
# P P^T - 1 = [[24, -4], [-4, 0]]
HAND = [
    (nnx.L2Regularizer(0.5), 0.25 * 26, [[1.5, -2], [0, 0.5]]),
    (nnx.L1Regularizer(0.5), 0.5 * 8, [[0.5, -0.5], [0, 0.5]]),
    (nnx.ElasticNetRegularizer(0.5, 2), 4 + 26, [[6.5, -8.5], [0, 2.5]]),
    (nnx.OrthogonalityRegularizer(2), 0.5 * 608, [[144, -200], [-24, 32]]),
]


@pytest.mark.parametrize(("regularizer", "value", "gradient"), HAND, ids=repr)
def test_hand_worked_numbers(regularizer, value, gradient, backend):
    p = backend.asarray(P)
    assert_allclose(backend.to_numpy(regularizer.value(p)), value, rtol=1e-6)
    assert_allclose(backend.to_numpy(regularizer.gradient(p)), gradient, rtol=1e-6)


def test_an_orthonormal_matrix_has_no_orthogonality_penalty(backend64):
    regularizer = nnx.OrthogonalityRegularizer(1.0)
    for shape in [(3, 6), (6, 3), (4, 4)]:
        W = nnx.RandnOrthonormal().wfun(*shape)
        assert float(backend64.to_numpy(regularizer.value(W))) < 1e-28
        assert_allclose(backend64.to_numpy(regularizer.gradient(W)), 0.0, atol=1e-14)


def test_descent_on_the_orthogonality_penalty_makes_rows_orthonormal():
    with nnx.use_backend("numpy", dtype="float64"):
        W = nnx.RandnAverage().wfun(3, 6)
        for _ in range(300):
            W = W - nnx.OrthogonalityRegularizer(0.1).gradient(W)
        assert_allclose(W @ W.T, np.eye(3), atol=1e-6)


def test_elastic_net_is_the_sum_of_the_two(backend64):
    p = backend64.asarray(away_from_zero((3, 4)))
    both = nnx.ElasticNetRegularizer(0.3, 0.7)
    apart = nnx.L1Regularizer(0.3), nnx.L2Regularizer(0.7)
    to_numpy = backend64.to_numpy
    for method in ("value", "gradient"):
        total = sum(to_numpy(getattr(one, method)(p)) for one in apart)
        assert_allclose(to_numpy(getattr(both, method)(p)), total, rtol=1e-14)


def test_weight_decay_by_hand_under_plain_sgd(backend64):
    """W3 = W0 (1-le)^3 - e g0 (1-le)^2 - e g1 (1-le) - e g2."""
    le, e, gradients = 0.5 * 0.1, 0.1, [1.0, -2.0, 0.5]
    W, optim = backend64.asarray([[2.0]]), nnx.SGD(e)
    for g in gradients:
        dW = nnx.L2Regularizer(0.5).update(W, backend64.asarray([[g]]))
        (W,) = optim.update([W], [dW])
    q = 1 - le
    expected = 2 * q**3 - e * gradients[0] * q**2 - e * gradients[1] * q - e * gradients[2]
    assert_allclose(backend64.to_numpy(W), [[expected]], rtol=1e-14)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_layer_adds_it_to_the_weights_alone_and_reports_its_value(name, backend):
    regularizer = REGULARIZERS[name]
    nnx.seed(1)
    plain = nnx.DenseLayer(3, 2)
    nnx.seed(1)
    layer = nnx.DenseLayer(3, 2, kernel_regularizer=regularizer)
    x = backend.asarray(np.ones((4, 3)))
    for one in (plain, layer):
        one.backprop(one.evaluate(x))
    expected = backend.to_numpy(plain.dW) + backend.to_numpy(regularizer.gradient(layer.W))
    assert_allclose(backend.to_numpy(layer.dW), expected, rtol=1e-5, atol=1e-6)
    assert_array_equal(backend.to_numpy(layer.db), backend.to_numpy(plain.db))
    assert float(backend.to_numpy(layer.penalty())) > 0


@pytest.mark.parametrize("name", REGULARIZERS)
def test_nothing_is_read_where_there_is_no_data(name):
    usable("torch")
    with nnx.use_backend("torch:meta") as backend:
        p = backend.asarray(np.ones((3, 4)))
        assert tuple(REGULARIZERS[name].update(p, p).shape) == (3, 4)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_it_can_be_compiled(name, backend):
    p = backend.asarray(away_from_zero((3, 4)))
    compiled = compile_on(backend, REGULARIZERS[name].gradient)(p)
    assert_allclose(
        backend.to_numpy(compiled),
        backend.to_numpy(REGULARIZERS[name].gradient(p)),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nnx.L2Regularizer(-1), "L2Regularizer: expected l2 >= 0, got -1"),
        (lambda: nnx.L1Regularizer(math.nan), "L1Regularizer: expected l1 >= 0, got nan"),
        (
            lambda: nnx.ElasticNetRegularizer(0, -1),
            "ElasticNetRegularizer: expected l2 >= 0, got -1",
        ),
        (
            lambda: nnx.ElasticNetRegularizer(-1, 0),
            "ElasticNetRegularizer: expected l1 >= 0, got -1",
        ),
        (
            lambda: nnx.OrthogonalityRegularizer(math.inf),
            "OrthogonalityRegularizer: expected l >= 0, got inf",
        ),
        (
            lambda: nnx.OrthogonalityRegularizer().value(np.ones(3)),
            r"OrthogonalityRegularizer expects a matrix or filters, got an array of shape \(3,\)",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unfinished_regularizer_says_so():
    for call in (nnx.Regularizer().value, nnx.Regularizer().gradient):
        with pytest.raises(NotImplementedError, match="Regularizer must define"):
            call(np.ones((2, 2)))


def test_a_regularizer_shows_its_arguments():
    assert repr(nnx.L2Regularizer(0.5)) == "L2Regularizer(0.5)"
    for made in REGULARIZERS.values():
        assert repr(eval(repr(made), vars(nnx))) == repr(made)
