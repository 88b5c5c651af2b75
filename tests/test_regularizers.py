"""Penalties: numbers by hand, the gradient is the derivative of the value, dp is left alone."""

import inspect
import math

import numpy as np
import pytest
from conftest import compile_on, usable
from numpy.testing import assert_allclose, assert_array_equal

import nnx
from nnx import regularizers
from nnx.config import build, plain

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


WRONG = (-1.0, math.nan, math.inf, "0.1", None, True, [0.1], nnx.ReLU, 1j)
BAD = [
    (type(made), argument, bad)
    for made in REGULARIZERS.values()
    for argument in inspect.signature(type(made)).parameters
    for bad in WRONG
]


@pytest.mark.parametrize(("cls", "argument", "bad"), BAD)
def test_wrong_arguments_are_told_by_class_argument_and_value(cls, argument, bad):
    with pytest.raises((TypeError, ValueError)) as caught:
        cls(**{argument: bad})
    expected = f"{cls.__name__}: expected {argument} to be a number >= 0, got {bad!r}"
    assert str(caught.value).startswith(expected)


def test_orthogonality_wants_a_matrix(backend):
    for method in ("value", "gradient"):
        message = (
            r"^OrthogonalityRegularizer: expected a matrix or filters, .* shape \(3,\); use L2"
        )
        with pytest.raises(nnx.ShapeError, match=message):
            getattr(nnx.OrthogonalityRegularizer(), method)(backend.asarray([1.0, 2.0, 3.0]))


# At the ends of the dtype.


def flushed(backend, numbers):
    """The numbers as the library sees them: some take subnormal ones for 0."""
    least = np.finfo(backend.dtype_name).smallest_subnormal
    if nnx.to_numpy(backend.asarray(np.array([least])) > 0)[0]:
        return numbers
    return np.where(np.abs(numbers) < np.finfo(backend.dtype_name).tiny, 0, numbers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["L1Regularizer", "L2Regularizer", "ElasticNetRegularizer"])
def test_gradients_at_the_ends_of_the_dtype(name, dtype, backend, backend64):
    regularizer, one = REGULARIZERS[name], backend if dtype == "float32" else backend64
    info = np.finfo(dtype)
    numbers = [info.max, 2 * math.sqrt(info.max), info.tiny, 0.3 * info.tiny]
    p = np.array([*numbers, info.smallest_subnormal, 0.0], dtype=dtype)
    p = np.concatenate([p, -p]).reshape(3, 4)
    l1, l2 = getattr(regularizer, "l1", 0.0), getattr(regularizer, "l2", 0.0)
    expected = l1 * np.sign(flushed(one, p)).astype(float) + l2 * p.astype(float)
    found = one.to_numpy(regularizer.gradient(one.asarray(p)))
    assert_allclose(found, expected, rtol=4 * info.eps, atol=2 * info.tiny)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["L1Regularizer", "L2Regularizer", "ElasticNetRegularizer"])
def test_values_at_the_ends_are_right_or_infinite(name, backend):
    regularizer = REGULARIZERS[name]
    l1, l2 = getattr(regularizer, "l1", 0.0), getattr(regularizer, "l2", 0.0)
    for x in (3e38, 2e19, 1e18, 1e-38, 1e-45):
        expected = l1 * x + 0.5 * l2 * x * x
        found = backend.to_numpy(regularizer.value(backend.asarray([[x]])))
        overflows = x * x > 3.4e38 and l2 > 0
        assert (overflows and np.isinf(found)) or abs(found - expected) <= 1e-6 * expected + 1e-37


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_nan_stays_nan(name, zero, backend):
    cls = type(REGULARIZERS[name])
    made = cls(*[0.0 for _ in inspect.signature(cls).parameters]) if zero else REGULARIZERS[name]
    p = backend.asarray([[1.0, math.nan], [-2.0, 0.0]])
    assert np.isnan(backend.to_numpy(made.value(p)))
    assert np.isnan(backend.to_numpy(made.gradient(p))[0, 1])
    assert np.isnan(backend.to_numpy(made.update(p, backend.asarray(np.ones((2, 2)))))[0, 1])


def test_an_infinite_weight_has_the_gradient_of_its_sign(backend):
    p = backend.asarray([[math.inf, -math.inf]])
    found = backend.to_numpy(nnx.L1Regularizer(0.5).gradient(p))
    assert_array_equal(found, [[0.5, -0.5]])


# Regularizers of a user's own that break their contract.


def own(value=None, gradient=None):
    methods = {"value": lambda self, p: value(p), "gradient": lambda self, p: gradient(p)}
    return type("Own", (nnx.Regularizer,), methods)()


BROKEN_GRADIENTS = {
    "nothing": (lambda p: None, r"got None; return the derivative"),
    "a number": (lambda p: 0.5, r"got 0\.5; return"),
    "a sum": (lambda p: p.sum(), r"got shape \(\); return"),
    "one row, which broadcasts": (lambda p: p[:1], r"got shape \(1, 3\); return"),
    "transposed": (lambda p: p.T, r"got shape \(3, 2\); return"),
}
BROKEN_VALUES = {
    "nothing": (lambda p: None, r"got None; return one number"),
    "a float": (lambda p: 0.5, r"got 0\.5; return one number"),
    "all terms": (lambda p: p * p, r"got shape \(2, 3\); return one number"),
}


@pytest.mark.parametrize("defect", BROKEN_GRADIENTS)
def test_a_broken_gradient_is_told(defect):
    gradient, message = BROKEN_GRADIENTS[defect]
    start = r"^Own\.gradient: expected it to return an array of shape \(2, 3\), "
    with pytest.raises((TypeError, ValueError), match=start + message):
        own(gradient=gradient).update(np.ones((2, 3)), np.ones((2, 3)))


@pytest.mark.parametrize("defect", BROKEN_VALUES)
def test_a_broken_value_is_told(defect):
    value, message = BROKEN_VALUES[defect]
    start = r"^Own\.value: expected it to return an array of shape \(\), "
    with pytest.raises((TypeError, ValueError), match=start + message):
        own(value=value).checked_value(np.ones((2, 3)))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer_keeps_the_contract(name, backend):
    p = backend.asarray(away_from_zero((3, 4)))
    assert REGULARIZERS[name].checked_value(p).dtype == backend.dtype


def test_an_unfinished_regularizer_says_so():
    for call in (nnx.Regularizer().value, nnx.Regularizer().gradient):
        with pytest.raises(NotImplementedError, match="Regularizer must define"):
            call(np.ones((2, 2)))


def test_a_regularizer_shows_its_arguments():
    assert repr(nnx.L2Regularizer(0.5)) == "L2Regularizer(l2=0.5)"
    for made in REGULARIZERS.values():
        twin = eval(repr(made), dict(vars(nnx)))
        assert twin == made == made.clone() == build(plain(made))
        assert hash(twin) == hash(made)
