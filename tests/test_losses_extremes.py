"""Losses at infinity, at NaN, and at the ends of the dtype, against closed forms in mpmath."""

import math

import numpy as np
import pytest
from conftest import usable
from losses_table import BINARY, LOSSES, make
from numpy.testing import assert_allclose, assert_array_equal

import nnx

mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp.clone()
mp.prec = 2200  # 1e308 + 1e-308 is exact
INF = math.inf


@pytest.fixture(params=["float32", "float64"])
def backend_of_both(request, backend_spec):
    with (
        nnx.use_backend(usable(backend_spec), dtype=request.param) as chosen,
        np.errstate(all="ignore"),
    ):
        yield chosen


def found(backend, loss, a, y, *weights):
    a = backend.from_numpy(np.asarray(a, backend.dtype_name))
    y, *weights = (backend.asarray(np.asarray(x)) for x in (y, *weights))
    value, gradient = loss.value(a, y, *weights), loss.gradient(a, y, *weights)
    return float(backend.to_numpy(value)), backend.to_numpy(gradient)


# The ends of the dtype. Each term and its derivative in exact arithmetic, for one sample.


def tiny(facts):
    return mp.mpf(float(facts.smallest_normal)) / mp.mpf(float(facts.eps))


def exp(x):
    return mp.exp(x) if x > -1e5 else mp.mpf(0)  # 1e-43430 is 0 beside 1 in any dtype


def quadratic(a, t, facts):
    return mp.fsum((x - y) ** 2 for x, y in zip(a, t)) / 2, [x - y for x, y in zip(a, t)]


def squared(a, t, facts):
    n = len(a)
    value = mp.fsum((x - y) ** 2 for x, y in zip(a, t)) / n
    return value, [2 * (x - y) / n for x, y in zip(a, t)]


def absolute(a, t, facts):
    n = len(a)
    value = mp.fsum(abs(x - y) for x, y in zip(a, t)) / n
    return value, [mp.sign(x - y) / n for x, y in zip(a, t)]


def huber(a, t, facts):
    d = [x - y for x, y in zip(a, t)]
    value = mp.fsum(x * x / 2 if abs(x) <= 1 else abs(x) - mp.mpf(1) / 2 for x in d) / len(a)
    return value, [min(max(x, -1), 1) / len(a) for x in d]


def cross(a, t, facts):
    p = [max(x, tiny(facts)) for x in a]
    return -mp.fsum(y * mp.log(x) for x, y in zip(p, t)), [-y / x for x, y in zip(p, t)]


def softmax_cross(a, t, facts):
    top = max(a)
    total = mp.fsum(exp(x - top) for x in a)
    value = mp.fsum(y * (mp.log(total) - (x - top)) for x, y in zip(a, t))
    return value, [exp(x - top) / total - y for x, y in zip(a, t)]


def binary_cross(a, t, facts):
    n, low = len(a), tiny(facts)
    no = [max(1 - x, low) for x in a]
    yes = [max(x, low) for x in a]
    value = -mp.fsum(y * mp.log(p) + (1 - y) * mp.log(q) for p, q, y in zip(yes, no, t)) / n
    return value, [((1 - y) / q - y / p) / n for p, q, y in zip(yes, no, t)]


def logistic_cross(a, t, facts):
    n = len(a)
    wrong = [-x if y else x for x, y in zip(a, t)]  # log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))
    value = mp.fsum(max(x, 0) + mp.log1p(exp(-abs(x))) for x in wrong) / n
    sure = [1 / (1 + exp(-abs(x))) for x in a]
    return value, [((s if x >= 0 else 1 - s) - y) / n for s, x, y in zip(sure, a, t)]


def hinge(a, t, facts):
    own = t.index(1)
    excess = [0 if j == own else max(0, 1 + x - a[own]) for j, x in enumerate(a)]
    inside = [int(x > 0) for x in excess]
    return mp.fsum(excess), [-sum(inside) if j == own else i for j, i in enumerate(inside)]


EXACT = {
    "QuadraticCost": quadratic,
    "MeanSquaredError": squared,
    "MeanAbsoluteError": absolute,
    "Huber": huber,
    "CrossEntropy": cross,
    "SoftMaxCrossEntropy": softmax_cross,
    "BinaryCrossEntropy": binary_cross,
    "LogisticCrossEntropy": logistic_cross,
    "Hinge": hinge,
    "KullbackLeibler": cross,  # of one-hot rows
}


def corners(name, facts):
    normal = float(facts.smallest_normal)
    small = [0.0, normal / 4, normal]
    if LOSSES[name][0] != "numbers":
        return [*small, float(facts.eps), 0.5, 1 - float(facts.eps), 1.0]
    largest = float(facts.max)
    sizes = [*small, 0.75, 0.6 * largest, largest]
    return [*sizes, *(-x for x in sizes[1:])]


def rounded(x, largest):
    if abs(x) > mp.mpf(largest) * 1.0001:
        return math.copysign(INF, x)
    return float(min(max(mp.mpf(x), -largest), largest))


def test_every_loss_has_a_closed_form():
    assert set(EXACT) == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_at_the_ends_of_the_dtype(name, backend_of_both):
    backend = backend_of_both
    facts = np.finfo(backend.dtype_name)
    largest = float(facts.max)
    close = {"rtol": 16 * float(facts.eps), "atol": 4 * float(facts.smallest_normal)}
    for first in corners(name, facts):
        for second in corners(name, facts):
            row = [float(np.dtype(facts.dtype).type(x)) for x in (first, second)]
            a = [mp.mpf(x) for x in row]
            for c in (0, 1):
                value, gradient = found(backend, make(name), [row], [c])
                exact, slopes = EXACT[name](a, [int(j == c) for j in range(2)], facts)
                expected = rounded(exact, largest)
                if name == "MeanSquaredError" and max(abs(x) for x in a) > mp.sqrt(largest):
                    expected = INF  # a single term overflows before the mean
                assert_allclose(value, expected, **close, err_msg=f"{name} {row} {c}")
                slopes = [rounded(x, largest) for x in slopes]
                if name == "MeanAbsoluteError":  # XLA takes a subnormal difference as 0
                    lost = [
                        abs(x - (j == c)) < float(facts.smallest_normal) for j, x in enumerate(a)
                    ]
                    slopes = [
                        0.0 if m and g == 0 else x for m, g, x in zip(lost, gradient[0], slopes)
                    ]
                if name == "MeanSquaredError":  # 2 (a - y) overflows before the mean
                    gradient = np.where(np.isinf(gradient), largest * np.sign(gradient), gradient)
                    slopes = [
                        s if abs(s) < largest / 2.01 else largest * np.sign(s) for s in slopes
                    ]
                assert_allclose(gradient[0], slopes, **close, err_msg=f"{name} {row} {c}")


def test_the_mean_of_large_terms_is_finite(backend_of_both):
    largest = float(np.finfo(backend_of_both.dtype_name).max)
    for name in ("MeanAbsoluteError", "Huber", "LogisticCrossEntropy"):
        a, y = np.full((4, 2), 0.9 * largest), np.zeros((4, 2))
        value, gradient = found(backend_of_both, make(name), a, y)
        assert_allclose(value, 0.9 * largest, rtol=1e-6)
        assert_allclose(gradient, 1 / 8, rtol=1e-6)


# Infinite outputs.


@pytest.mark.parametrize("y", [[2], [[0.0, 0.0, 1.0]]])
def test_a_logit_of_minus_infinity_is_an_impossible_class(y, backend_of_both):
    a = [[1.0, -INF, 2.0]]
    p = np.array([math.exp(-1), 0.0, 1.0]) / (1 + math.exp(-1))
    value, gradient = found(backend_of_both, nnx.SoftMaxCrossEntropy(), a, y)
    assert_allclose(value, math.log1p(math.exp(-1)), rtol=1e-6)
    assert_allclose(gradient[0], p - [0, 0, 1], rtol=1e-6)
    weighted = nnx.SoftMaxCrossEntropy(class_weights=[1.0, 2.0, 3.0])
    assert_allclose(found(backend_of_both, weighted, a, y)[0], 3 * value, rtol=1e-6)


@pytest.mark.parametrize("cost", [nnx.SoftMaxCrossEntropy(), nnx.SoftMaxCrossEntropy(0.1)])
def test_an_impossible_class_that_is_the_target_costs_infinitely(cost, backend_of_both):
    y = [1] if not cost.label_smoothing else [0]  # smoothing gives every class its part
    value, gradient = found(backend_of_both, cost, [[1.0, -INF, 2.0]], y)
    assert value == INF
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("k", [1.0, 2.5])
def test_infinite_binary_logits_are_sure_answers(k, backend_of_both):
    loss = nnx.LogisticCrossEntropy(k=k)
    value, gradient = found(backend_of_both, loss, [[INF], [-INF]], [1, 0])
    assert value == 0.0
    assert_array_equal(gradient, 0.0)
    for a, y, slope in (([[INF]], [0], k), ([[-INF]], [1], -k)):
        value, gradient = found(backend_of_both, loss, a, y)
        assert value == INF
        assert_allclose(gradient, [[slope]])
    assert found(backend_of_both, nnx.LogisticCrossEntropy(0.1), [[INF]], [1])[0] == INF


def test_infinite_scores_of_wrong_classes_keep_their_margin(backend_of_both):
    value, gradient = found(backend_of_both, nnx.Hinge(), [[0.0, -INF, 0.5]], [0])
    assert_allclose(value, 1.5)
    assert_array_equal(gradient, [[-1, 0, 1]])
    value, gradient = found(backend_of_both, nnx.Hinge(), [[-INF, 0.0, 0.5]], [0])
    assert value == INF
    assert_array_equal(gradient, [[-2, 1, 1]])
    value, gradient = found(backend_of_both, nnx.Hinge(), [[INF], [-INF]], [1, 0])
    assert value == 0.0
    assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("name", ["MeanAbsoluteError", "Huber"])
def test_infinite_numbers_pull_with_a_finite_slope(name, backend_of_both):
    value, gradient = found(backend_of_both, make(name), [[INF, 1.0], [-INF, 1.0]], np.ones((2, 2)))
    assert value == INF
    assert_array_equal(gradient, [[0.25, 0], [-0.25, 0]])


def test_an_infinite_loss_of_weight_zero_does_not_count(backend_of_both):
    a, y = [[0.0, 0.0], [0.0, -INF]], [0, 1]
    value, gradient = found(backend_of_both, nnx.SoftMaxCrossEntropy(), a, y, [1.0, 0.0])
    assert_allclose(value, math.log(2) / 2, rtol=1e-6)
    assert_allclose(gradient, [[-0.25, 0.25], [0, 0]])
    assert found(backend_of_both, nnx.SoftMaxCrossEntropy(), a, y, [1.0, 0.1])[0] == INF


# NaN.


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_seen_in_the_value_and_in_the_gradient(name, place, backend_of_both):
    a = np.full((2, 3), 0.25)
    a[1, place] = np.nan
    for y in ([0, 1], np.eye(3)[[0, 1]]):
        value, gradient = found(backend_of_both, make(name), a, y)
        assert math.isnan(value)
        assert math.isnan(gradient[1, place])
        assert np.isfinite(gradient[0]).all()


@pytest.mark.parametrize("name", [*BINARY, "Hinge", "QuadraticCost", "MeanAbsoluteError"])
def test_nan_is_seen_of_a_single_output(name, backend_of_both):
    for y in (0, 1):
        value, gradient = found(backend_of_both, make(name), [[np.nan]], [y])
        assert math.isnan(value)
        assert math.isnan(gradient[0, 0])


@pytest.mark.parametrize("name", [n for n, (_, rows) in LOSSES.items() if rows != "numbers"])
def test_rows_with_nan_are_refused(name, backend):
    for rows in ([[1.0, 0.0], [np.nan, 1.0]], [[1.0], [np.nan]], [[1.0], [np.inf]]):
        with pytest.raises(ValueError, match=f"{name} expects "):
            make(name).check_targets(backend.asarray(np.array(rows)))
