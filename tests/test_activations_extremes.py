"""Activations at the largest, the smallest and the subnormal numbers, at infinity and at NaN.

Expected values are the formulas of activations_table in mpmath, with enough digits for the
largest number of float64 beside the smallest. TOLERANCE counts epsilons of the dtype, relative to
max(1, |expected|).
"""

import contextlib
import functools
import math

import numpy as np
import pytest
from activations_table import CASES, ELEMENTWISE, FORMULAS, Case

import nnx

TOLERANCE = 6
DIGITS = 420  # 308 of the largest number, twice 20 of the step, and those of the result
FLAT = [  # the cases of the table have k and alpha of 1 and more
    *(Case(cls, {"k": 0.3}) for cls in (nnx.Logistic, nnx.TanH, nnx.SoftSign, nnx.SoftPlus)),
    *(Case(cls, {"k": 0.3}) for cls in (nnx.Swish, nnx.LOCo, nnx.Twist, nnx.SoftAbs)),
    *(Case(cls, {"alpha": 0.3}) for cls in (nnx.ISRU, nnx.ELU, nnx.CELU)),
    Case(nnx.LeakyReLU, {"alpha": 0.0}),
    Case(nnx.Squareplus, {"b": 50.0}),
    Case(nnx.Abs, {"alpha": 50.0}),
]
ALL = (*ELEMENTWISE, *FLAT)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_elementwise = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)


def ends(dtype):
    """The largest numbers, numbers whose square overflows or underflows, the smallest ones."""
    info = np.finfo(dtype)
    largest, tiny, least = float(info.max), float(info.tiny), float(info.smallest_subnormal)
    large = [largest, 0.49 * largest, 1.5 * math.sqrt(largest), 0.2 * math.sqrt(largest)]
    small = [3 * math.sqrt(tiny), 3 * tiny, tiny, 0.3 * tiny, least]
    x = np.array(large + small, dtype=dtype)
    return np.concatenate([x, -x])


def flushes(backend):
    """Does the library take subnormal numbers for 0?"""
    least = np.finfo(backend.dtype_name).smallest_subnormal
    return not nnx.to_numpy(backend.asarray(np.array([least])) > 0)[0]


@functools.cache
def expected(name, dtype, flushed):
    """Value and derivative at the ends; what is too large for the dtype is infinite.

    If subnormal numbers are flushed, they are taken for 0.
    """
    import mpmath

    def rounded(number):
        largest = mpmath.mpf(float(np.finfo(dtype).max)) * (1 + mpmath.mpf(2) ** -60)
        return float(number) if abs(number) <= largest else math.copysign(math.inf, number)

    case = next(case for case in ALL if case.name == name)
    formula, results = FORMULAS[case.cls.__name__], []
    with mpmath.workdps(DIGITS):
        for x in ends(dtype):
            x = 0.0 if flushed and abs(x) < np.finfo(dtype).tiny else float(x)
            at = mpmath.mpf(x)
            # mpmath's erfc ends before, and its tanh takes seconds; Phi is 0 or 1 there
            if case.cls in (nnx.GELU, nnx.GELUTanh) and abs(at) > 1000:
                results.append((max(x, 0.0), float(x > 0)))
                continue
            h = mpmath.mpf("1e-20") * (min(1, abs(at)) or 1)
            left, value, right = (
                formula(mpmath, at + step, at, **case.arguments) for step in (-h, 0, h)
            )
            results.append((rounded(value), rounded((right - left) / (2 * h))))
    return np.array(results).T


def run(case, backend, x):
    """Value and derivative as NumPy arrays; RuntimeWarnings are errors, but those of the promise.

    The dtype is too small for kx of a steep function and for values of Exp, SELU, BentIdentity.
    """
    of_arguments = bool(case.arguments) or case.cls in (nnx.Exp, nnx.SELU, nnx.BentIdentity)
    with np.errstate(over="ignore") if of_arguments else contextlib.nullcontext():
        x = backend.asarray(x)
        y, backward = case.make().forward(x)
        dx = backward(backend.asarray(np.ones(x.shape, dtype=backend.dtype_name)))
    return nnx.to_numpy(y), nnx.to_numpy(dx)


def check_ends(case, backend):
    pytest.importorskip("mpmath")
    dtype = np.dtype(backend.dtype_name)
    x = ends(dtype)
    if case.cls is nnx.Sinusoid:  # kx must be a number of the dtype, and is rounded
        keep = np.abs(x) < 1
        x = x[keep]
    else:
        keep = np.full(x.shape, True)
    wanted = expected(case.name, dtype, flushes(backend))[:, keep]
    for got, want in zip(run(case, backend, x), wanted, strict=True):
        finite = np.isfinite(want)
        assert np.array_equal(got[~finite], want[~finite]), f"{got} for {want} at {x}"
        error = np.abs(got[finite] - want[finite]) / np.maximum(1, np.abs(want[finite]))
        worst = error / np.finfo(dtype).eps
        bad = ~(worst <= TOLERANCE)
        assert not bad.any(), f"{got[finite][bad]} for {want[finite][bad]} at {x[finite][bad]}"


@every_elementwise
def test_ends_of_float32(case, backend):
    check_ends(case, backend)


@every_elementwise
def test_ends_of_float64(case, backend64):
    check_ends(case, backend64)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_elementwise
def test_infinity_gives_the_limit_or_nan(case, backend):
    pytest.importorskip("mpmath")
    x = np.array([math.inf, -math.inf], dtype=np.float32)
    size = len(ends("float32")) // 2
    for got, want in zip(run(case, backend, x), expected(case.name, "float32", False), strict=True):
        limit = want[[0, size]]  # at the largest number and at its negative
        limit = np.where(np.abs(limit) > 1e30, np.copysign(math.inf, limit), limit)
        if case.cls is nnx.Sinusoid:
            assert np.all(np.isnan(got))
        assert np.all(np.isnan(got) | np.isclose(got, limit, rtol=1e-6, atol=1e-6)), (got, limit)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_case
def test_nan_stays_nan(case, backend):
    """A network that has diverged must be seen to have diverged."""
    y = case.make().forward(backend.asarray([[math.nan, math.nan]]))[0]
    assert np.all(np.isnan(nnx.to_numpy(y)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_elementwise
def test_an_infinite_delta_gives_no_wrong_number(case, backend):
    """Infinity times the derivative; NaN or 0 if that is 0, by the two paths of `masked`."""
    x = np.array([-30.0, -1.7, -0.2, 0.3, 1.6, 30.0], dtype=np.float32)
    slope = run(case, backend, x)[1]
    backward = case.make().forward(backend.asarray(x))[1]
    dx = nnx.to_numpy(backward(backend.asarray(np.full(x.shape, np.inf))))
    flat = slope == 0
    assert np.array_equal(dx[~flat], np.copysign(np.inf, slope[~flat]))
    assert np.all(np.isnan(dx[flat]) | (dx[flat] == 0))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@every_elementwise
def test_the_largest_delta_is_multiplied_by_the_derivative(case, backend):
    x = np.array([-3e38, -30.0, -1.7, -0.2, 0.0, 0.3, 1.6, 30.0, 3e38], dtype=np.float32)
    if case.cls is nnx.Sinusoid:
        x = x[1:-1]
    slope = run(case, backend, x)[1].astype(float)
    backward = case.make().forward(backend.asarray(x))[1]
    dx = nnx.to_numpy(backward(backend.asarray(np.full(x.shape, LARGEST))))
    want = np.where(abs(slope) > 1 + 1e-6, np.copysign(np.inf, slope), slope * LARGEST)
    near_one = (abs(abs(slope) - 1) < 1e-6) & np.isinf(dx)  # a slope of 1 + epsilon overflows
    np.testing.assert_allclose(dx[~near_one], want[~near_one], rtol=1e-5, atol=1e-6 * LARGEST)


LARGEST = float(np.finfo(np.float32).max)
ROWS = [
    # row, SoftMax, LogSoftmax
    ([LARGEST, -LARGEST, 0.0], [1, 0, 0], [0, -math.inf, -LARGEST]),
    ([LARGEST, LARGEST, -LARGEST], [0.5, 0.5, 0], [-math.log(2), -math.log(2), -math.inf]),
    ([-LARGEST] * 4, [0.25] * 4, [-math.log(4)] * 4),
    ([0.0, -math.inf, 0.0], [0.5, 0, 0.5], [-math.log(2), -math.inf, -math.log(2)]),
    ([1e-45, -1e-45, 1e-38], [1 / 3] * 3, [-math.log(3)] * 3),
    ([2e38, 0.0, -2e38], [1, 0, 0], [0, -2e38, -math.inf]),
]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("known", ROWS, ids=lambda known: str(known[0]))
def test_rows_at_the_ends(known, backend):
    x, probabilities, logarithms = known
    y = np.array(probabilities)
    delta = np.arange(1.0, len(x) + 1)
    jacobian_product = {
        nnx.SoftMax: y * (delta - np.sum(delta * y)),
        nnx.LogSoftmax: delta - y * np.sum(delta),
    }
    for cls, want in ((nnx.SoftMax, probabilities), (nnx.LogSoftmax, logarithms)):
        value, backward = cls().forward(backend.asarray(x))
        gradient = nnx.to_numpy(backward(backend.asarray(delta)))
        np.testing.assert_allclose(nnx.to_numpy(value), want, rtol=1e-6)
        np.testing.assert_allclose(gradient, jacobian_product[cls], rtol=1e-5, atol=1e-6)
