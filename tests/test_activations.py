"""Activations: values and derivatives against other sources, stability, and the contract.

TOLERANCE counts epsilons of the dtype, relative to max(1, |expected|).
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from activations_table import CASES, ELEMENTWISE, FACTORS, FORMULAS, ROWWISE

import nnx
from nnx import activations
from nnx.activations import AbsLike, Activation, HeavisideLike, ReLULike, SignLike, formulas

TOLERANCE = 6
RECORD = json.loads((Path(__file__).parent / "fixtures" / "activations.json").read_text())
BASES = (Activation, HeavisideLike, SignLike, ReLULike, AbsLike)

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_elementwise = pytest.mark.parametrize("case", ELEMENTWISE, ids=lambda case: case.name)
every_rowwise = pytest.mark.parametrize("case", ROWWISE, ids=lambda case: case.name)


@pytest.fixture
def numpy32():
    with nnx.use_backend("numpy", dtype="float32") as backend:
        yield backend


@pytest.fixture
def numpy64():
    with nnx.use_backend("numpy", dtype="float64") as backend:
        yield backend


# ---------------------------------------------------------------- the checks, as functions


def assert_close(got, want, dtype, tolerance=TOLERANCE):
    """Equal to some epsilons of dtype, relative to max(1, |want|)."""
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    assert got.shape == want.shape
    error = np.abs(got - want) / np.maximum(1, np.abs(want)) / np.finfo(dtype).eps
    assert np.all(error <= tolerance), (
        f"{np.nanmax(error):.3g} epsilons, NaN {np.isnan(error).sum()}"
    )


def assert_digits(got, want, digits):
    """Equal to so many decimal digits, relative to the number itself."""
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    assert np.all(np.abs(got - want) <= 10.0**-digits * np.abs(want)), f"{got} for {want}"


def run(activation, backend, x, delta=None):
    """Value and backward on the backend, as NumPy arrays; x is rounded to the backend's dtype."""
    x = backend.asarray(np.asarray(x, dtype=backend.dtype_name))
    ones = np.ones(x.shape, dtype=backend.dtype_name)
    y, backward = activation.forward(x)
    gradient = backward(backend.asarray(ones if delta is None else delta))
    return nnx.to_numpy(y), nnx.to_numpy(gradient)


def check_recorded(activation, case, backend):
    """Against mpmath's values: 27 points from -1e4 to 1e4, for rows three of them."""
    known = RECORD[case.name]
    if case.rowwise:
        value, gradient = run(activation, backend, known["x"], known["delta"])
        want = known["value"], known["gradient"]
    else:
        inside = [index for index, y in enumerate(known["value"]) if y is not None]
        pick = lambda numbers: [numbers[index] for index in inside]
        value, gradient = run(activation, backend, pick(RECORD["x"]))
        want = pick(known["value"]), pick(known["derivative"])
    assert_close(value, want[0], backend.dtype_name)
    assert_close(gradient, want[1], backend.dtype_name)


def check_near_zero(activation, backend, x, value, derivative, digits):
    """Digits of values and derivatives that are themselves tiny, which `assert_close` lets pass."""
    got = run(activation, backend, [x])
    assert_digits(got[0], [value], digits)
    if derivative is not None:
        assert_digits(got[1], [derivative], digits)


def check_finite(activation, backend, largest=1e4):
    """No NaN, no infinity (and no warning: pytest makes it an error)."""
    tiny = [1e-30, 1e-12, 1e-6, 0.0]
    wide = [*np.linspace(0, min(largest, 120), 121), *np.geomspace(1, largest, 30), *tiny]
    x = np.asarray(wide)
    for row in (x, -x):
        y, gradient = run(activation, backend, row)
        assert np.all(np.isfinite(y)), row[~np.isfinite(y)]
        assert np.all(np.isfinite(gradient)), row[~np.isfinite(gradient)]


def check_keeps_dtype(activation, backend):
    """dtype, shape, device and library of the value and of the gradient are those of x."""
    x = backend.asarray([[-2.0, 0.0, 3.0], [0.5, -0.5, 1.0]])
    y, backward = activation.forward(x)
    gradient = backward(backend.asarray([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]]))
    for result in (y, gradient):
        assert result.dtype == x.dtype
        assert result.shape == x.shape
        assert result.device == x.device
        assert backend.owns(result)


def check_independent_backwards(activation, backend):
    """One object in two layers: the first backward does not see the second x."""
    first, second = np.array([[0.3, -0.7, 1.1]]), np.array([[-1.5, 2.0, 0.1]])
    delta = [[1.0, -2.0, 0.5]]
    x1, x2 = backend.asarray(first), backend.asarray(second)
    _, backward1 = activation.forward(x1)
    _, backward2 = activation.forward(x2)
    together = [nnx.to_numpy(b(backend.asarray(delta))) for b in (backward1, backward2)]
    alone = [run(activation, backend, x, delta)[1] for x in (first, second)]
    assert np.array_equal(together, alone)


# ---------------------------------------------------------------- the table is complete


def test_every_activation_is_in_the_table():
    public = {getattr(activations, name) for name in activations.__all__}
    assert {case.cls for case in CASES} == public - set(BASES)
    assert {case.cls.__name__ for case in ELEMENTWISE} == set(FORMULAS)
    assert {case.name for case in CASES} == set(RECORD) - {"x"}
    assert {case.cls.__name__ for case in CASES} == set(TORCH) >= set(JAX)
    assert len({case.name for case in CASES}) == len(CASES)


def test_public_names_are_those_of_the_module():
    defined = {
        name
        for name, thing in vars(activations).items()
        if isinstance(thing, type) and issubclass(thing, Activation)
    }
    assert set(activations.__all__) == {*defined, "leakyReLU"}


@pytest.mark.parametrize("family", FACTORS)
def test_families(family):
    base = getattr(activations, family)
    for name in FACTORS[family].split():
        assert getattr(activations, name).__bases__ == (base,)
    count = sum(len(names.split()) for names in FACTORS.values()) + len(BASES)
    assert count == len({getattr(activations, name) for name in activations.__all__})


def test_factors_are_python_floats():
    expected = {"HeavisideLike": 1.0, "SignLike": 1.0, "ReLULike": 2**0.5, "AbsLike": 1.0}
    for case in CASES:
        want = 1.0 if case.cls is nnx.SELU else expected.get(case.cls.__base__.__name__, 1.0)
        assert case.make().factor == want
        assert type(case.make().factor) is float


# ---------------------------------------------------------------- against other sources


@every_case
def test_recorded_values_float32(case, backend):
    check_recorded(case.make(), case, backend)


@every_case
def test_recorded_values_float64(case, backend64):
    check_recorded(case.make(), case, backend64)


def sample(case, dtype):
    """Random x away from kinks, where one rounding decides, and random delta."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(scale=3, size=700), rng.uniform(-30, 30, 300)])
    x = x[np.all([np.abs(x - kink) > 1e-4 for kink in (*case.kinks, 1e9)], axis=0)].astype(dtype)
    if case.rowwise:
        x = x[:900].reshape(90, 10)
    return x, rng.uniform(-1, 1, x.shape).astype(dtype)


# Formulas of PyTorch and JAX; F and J are their libraries of functions.
TORCH = {
    "Heaviside": lambda t, F, x: (x >= 0) + 0 * x,
    "ModifiedHeaviside": lambda t, F, x: ((x > 0) * 0.5 + (x >= 0) * 0.5) + 0 * x,
    "Logistic": lambda t, F, x, k=1: t.sigmoid(k * x),
    "SoftMax": lambda t, F, x: F.softmax(x, -1),
    "Exp": lambda t, F, x: t.exp(x),
    "HardSigmoid": lambda t, F, x, alpha=0.2, beta=0.5: t.clamp(alpha * x + beta, 0, 1),
    "Sign": lambda t, F, x: t.sign(x),
    "TanH": lambda t, F, x, k=1: t.tanh(k * x),
    "SoftSign": lambda t, F, x, k=1: F.softsign(k * x),
    "HardTanh": lambda t, F, x: F.hardtanh(x),
    "ArcTan": lambda t, F, x: t.atan(x),
    "ISRU": lambda t, F, x, alpha=1: x * (1 + alpha * x**2) ** -0.5,
    "ReLU": lambda t, F, x: F.relu(x),
    "LeakyReLU": lambda t, F, x, alpha=0.01: F.leaky_relu(x, alpha),
    "ELU": lambda t, F, x, alpha=1: F.elu(x, alpha),
    "SoftPlus": lambda t, F, x, k=1: F.softplus(x, k, threshold=40),
    "Swish": lambda t, F, x, k=1: F.silu(k * x) / k,
    "GELU": lambda t, F, x: F.gelu(x),
    "GELUTanh": lambda t, F, x: F.gelu(x, approximate="tanh"),
    "SELU": lambda t, F, x: F.selu(x),
    "CELU": lambda t, F, x, alpha=1: F.celu(x, alpha),
    "Mish": lambda t, F, x: F.mish(x),
    "HardSwish": lambda t, F, x: F.hardswish(x),
    "ReLU6": lambda t, F, x: F.relu6(x),
    "ThresholdedReLU": lambda t, F, x, alpha=1: F.threshold(x, alpha, 0),
    "Squareplus": lambda t, F, x, b=4: (x + t.sqrt(x**2 + b)) / 2,
    "Abs": lambda t, F, x, alpha=0: t.sqrt(x**2 + alpha**2) - alpha,
    "LOCo": lambda t, F, x, k=1: t.log(t.cosh(k * x)) / k,
    "Twist": lambda t, F, x, k=1: x * t.tanh(k * x),
    "SoftAbs": lambda t, F, x, k=1: k * x**2 / (1 + k * t.abs(x)),
    "Linear": lambda t, F, x: 1 * x,
    "LogSigmoid": lambda t, F, x: F.logsigmoid(x),
    "LogSoftmax": lambda t, F, x: F.log_softmax(x, -1),
    "Gaussian": lambda t, F, x: t.exp(-(x**2)),
    "Sinusoid": lambda t, F, x, k=1: t.sin(k * x),
    "BentIdentity": lambda t, F, x: (t.sqrt(x**2 + 1) - 1) / 2 + x,
    "TanhShrink": lambda t, F, x: F.tanhshrink(x),
    "SoftShrink": lambda t, F, x, lambd=0.5: F.softshrink(x, lambd),
    "HardShrink": lambda t, F, x, lambd=0.5: F.hardshrink(x, lambd),
}
JAX = {
    "Logistic": lambda j, J, x, k=1: J.sigmoid(k * x),
    "SoftMax": lambda j, J, x: J.softmax(x),
    "Exp": lambda j, J, x: j.exp(x),
    "HardSigmoid": lambda j, J, x, alpha=0.2, beta=0.5: j.clip(alpha * x + beta, 0, 1),
    "TanH": lambda j, J, x, k=1: j.expm1(2 * k * x) / (j.expm1(2 * k * x) + 2),
    "SoftSign": lambda j, J, x, k=1: J.soft_sign(k * x),
    "HardTanh": lambda j, J, x: J.hard_tanh(x),
    "ArcTan": lambda j, J, x: j.arctan2(x, j.ones_like(x)),
    "ISRU": lambda j, J, x, alpha=1: x / j.sqrt(1 + alpha * x**2),
    "ReLU": lambda j, J, x: J.relu(x),
    "LeakyReLU": lambda j, J, x, alpha=0.01: J.leaky_relu(x, alpha),
    "ELU": lambda j, J, x, alpha=1: J.elu(x, alpha),
    "SoftPlus": lambda j, J, x, k=1: J.softplus(k * x) / k,
    "Swish": lambda j, J, x, k=1: J.silu(k * x) / k,
    "GELU": lambda j, J, x: J.gelu(x, approximate=False),
    "GELUTanh": lambda j, J, x: J.gelu(x, approximate=True),
    "SELU": lambda j, J, x: J.selu(x),
    "CELU": lambda j, J, x, alpha=1: J.celu(x, alpha),
    "Mish": lambda j, J, x: x * (1 - 2 / ((1 + j.exp(x)) ** 2 + 1)),
    "HardSwish": lambda j, J, x: J.hard_swish(x),
    "ReLU6": lambda j, J, x: J.relu6(x),
    "ThresholdedReLU": lambda j, J, x, alpha=1: j.where(x > alpha, x, 0),
    "Squareplus": lambda j, J, x, b=4: J.squareplus(x, b),
    "LOCo": lambda j, J, x, k=1: j.log(j.cosh(k * x)) / k,
    "LogSigmoid": lambda j, J, x: J.log_sigmoid(x),
    "LogSoftmax": lambda j, J, x: J.log_softmax(x),
    "Sinusoid": lambda j, J, x, k=1: j.sin(k * x),
    "SoftAbs": lambda j, J, x, k=1: k * x * J.soft_sign(k * x) / k,
}


def torch_oracle(case, x, delta):
    torch = pytest.importorskip("torch")
    x = torch.tensor(x.astype(float), requires_grad=True)
    y = TORCH[case.cls.__name__](torch, torch.nn.functional, x, **case.arguments)
    y.backward(torch.tensor(delta.astype(float)))
    return y.detach().numpy(), x.grad.numpy()


def jax_oracle(case, x, delta):
    jax = pytest.importorskip("jax")
    if not jax.config.jax_enable_x64:
        pytest.skip("JAX runs without float64: JAX_ENABLE_X64=0")
    formula = lambda x: JAX[case.cls.__name__](jax.numpy, jax.nn, x, **case.arguments)
    y, pull = jax.vjp(formula, jax.numpy.asarray(x.astype(float)))
    return np.asarray(y), np.asarray(pull(jax.numpy.asarray(delta.astype(float)))[0])


ORACLES = {
    **{f"torch {case.name}": (case, torch_oracle) for case in CASES},
    **{f"jax {case.name}": (case, jax_oracle) for case in CASES if case.cls.__name__ in JAX},
}


@pytest.mark.parametrize(("case", "oracle"), ORACLES.values(), ids=ORACLES)
def test_automatic_differentiation_agrees(case, oracle, backend, backend64):
    # float64 gets room for the cancellation in the other library's own formulas.
    for one, tolerance in ((backend, TOLERANCE), (backend64, 200)):
        x, delta = sample(case, one.dtype_name)
        want = oracle(case, x, delta)
        got = run(case.make(), one, x, delta)
        assert_close(got[0], want[0], one.dtype_name, tolerance)
        assert_close(got[1], want[1], one.dtype_name, tolerance)


@every_elementwise
def test_mpmath_agrees_at_the_edges(case, backend64):
    pytest.importorskip("mpmath")
    x = [1e-15, 3e-6, 0.031, 0.99, 1.7, 6.5, 12.0, 18.5, 36.7, 60.0, 700.3, 745.2, 5e3]
    x = [number for number in x if number <= case.largest]
    x = [*x, *(-number for number in x)]
    pairs = [case.reference(number) for number in x]
    value, derivative = (np.array(part, dtype=float) for part in zip(*pairs, strict=True))
    got = run(case.make(), backend64, x)
    assert_close(got[0], value, "float64")
    assert_close(got[1], derivative, "float64")


BY_HAND = [
    # activation, x, value, derivative
    (nnx.Logistic(), math.log(3), 0.75, 3 / 16),
    (nnx.Logistic(k=2), math.log(3) / 2, 0.75, 3 / 8),
    (nnx.TanH(), math.log(2), 0.6, 0.64),
    (nnx.TanH(k=2), math.log(2) / 2, 0.6, 1.28),
    (nnx.SoftSign(k=2), 1.5, 0.75, 1 / 8),
    (nnx.SoftSign(), 0.0, 0.0, 1.0),
    (nnx.HardSigmoid(), 1.0, 0.7, 0.2),
    (nnx.ArcTan(), 1.0, math.pi / 4, 0.5),
    (nnx.ISRU(), 0.75, 0.6, 0.512),
    (nnx.ISRU(alpha=4), 0.375, 0.3, 0.512),
    (nnx.LeakyReLU(), -2.0, -0.02, 0.01),
    (nnx.ELU(alpha=2), -math.log(2), -1.0, 1.0),
    (nnx.SoftPlus(), 0.0, math.log(2), 0.5),
    (nnx.SoftPlus(k=2), math.log(3) / 2, math.log(2), 0.75),
    (nnx.Swish(), 0.0, 0.0, 0.5),
    (nnx.Swish(k=2), math.log(3) / 2, 0.375 * math.log(3), 0.75 * (1 + math.log(3) / 4)),
    (nnx.GELU(), 0.0, 0.0, 0.5),
    (nnx.GELU(), 1.0, 0.8413447460685429, 1.0833154705876863),
    (nnx.GELUTanh(), 0.0, 0.0, 0.5),
    (nnx.SELU(), 1.0, 1.0507009873554805, 1.0507009873554805),
    (nnx.SELU(), -math.log(2), -0.8790496704236883, 0.8790496704236883),
    (nnx.CELU(alpha=2), -2 * math.log(2), -1.0, 0.5),
    (nnx.Mish(), 0.0, 0.0, 0.6),
    (nnx.HardSwish(), 1.0, 2 / 3, 5 / 6),
    (nnx.Squareplus(), 1.5, 2.0, 0.8),
    (nnx.Squareplus(), -1.5, 0.5, 0.2),
    (nnx.Abs(alpha=3), 4.0, 2.0, 0.8),
    (nnx.LOCo(), math.log(2), math.log(1.25), 0.6),
    (nnx.LOCo(k=2), -math.log(2) / 2, math.log(1.25) / 2, -0.6),
    (nnx.Twist(), math.log(2), 0.6 * math.log(2), 0.6 + 0.64 * math.log(2)),
    (nnx.SoftAbs(), -1.0, 0.5, -0.75),
    (nnx.SoftAbs(k=2), 1.0, 2 / 3, 8 / 9),
    (nnx.LogSigmoid(), 0.0, -math.log(2), 0.5),
    (nnx.Gaussian(), -1.0, 1 / math.e, 2 / math.e),
    (nnx.Sinusoid(k=2), math.pi / 12, 0.5, math.sqrt(3)),
    (nnx.BentIdentity(), 0.75, 0.875, 1.3),
    (nnx.TanhShrink(), math.log(2), math.log(2) - 0.6, 0.36),
    (nnx.SoftShrink(), -2.0, -1.5, 1.0),
    (nnx.HardShrink(), -2.0, -2.0, 1.0),
    # conventions at the kinks
    (nnx.Heaviside(), 0.0, 1.0, 0.0),
    (nnx.ModifiedHeaviside(), 0.0, 0.5, 0.0),
    (nnx.Sign(), 0.0, 0.0, 0.0),
    (nnx.HardSigmoid(alpha=0.5, beta=0.5), 1.0, 1.0, 0.0),
    (nnx.HardSigmoid(alpha=0.5, beta=0.5), -1.0, 0.0, 0.0),
    (nnx.HardTanh(), 1.0, 1.0, 0.0),
    (nnx.HardTanh(), -1.0, -1.0, 0.0),
    (nnx.ReLU(), 0.0, 0.0, 0.0),
    (nnx.ReLU(), -0.0, 0.0, 0.0),
    (nnx.LeakyReLU(alpha=0.25), 0.0, 0.0, 0.25),
    (nnx.ELU(alpha=2), 0.0, 0.0, 2.0),
    (nnx.SELU(), 0.0, 0.0, 1.0507009873554805 * 1.6732632423543772),
    (nnx.HardSwish(), 3.0, 3.0, 1.0),
    (nnx.HardSwish(), -3.0, 0.0, 0.0),
    (nnx.ReLU6(), 0.0, 0.0, 0.0),
    (nnx.ReLU6(), 6.0, 6.0, 0.0),
    (nnx.ThresholdedReLU(), 1.0, 0.0, 0.0),
    (nnx.Abs(), 0.0, 0.0, 0.0),
    (nnx.Abs(alpha=1), 0.0, 0.0, 0.0),
    (nnx.SoftShrink(), 0.5, 0.0, 0.0),
    (nnx.HardShrink(), -0.5, 0.0, 0.0),
]


@pytest.mark.parametrize("known", BY_HAND, ids=lambda known: f"{known[0]!r} at {known[1]:.3g}")
def test_values_worked_by_hand(known, backend64):
    activation, x, value, derivative = known
    got = run(activation, backend64, [x])
    assert_close(got[0], [value], "float64", 3)
    assert_close(got[1], [derivative], "float64", 3)


@every_rowwise
def test_rows_worked_by_hand(case, backend64):
    # The row is log 1, log 2, log 5, so SoftMax is 1/8, 2/8, 5/8.
    x = np.log([[1.0, 2.0, 5.0], [10.0, 20.0, 50.0]])
    probabilities = np.array([[0.125, 0.25, 0.625]] * 2)
    delta = [[1.0, 0.0, 0.0], [0.0, 0.0, 8.0]]
    value, gradient = run(case.make(), backend64, x, delta)
    if case.cls is nnx.SoftMax:
        assert_close(value, probabilities, "float64")
        by_hand = [[7 / 64, -2 / 64, -5 / 64], [-5 / 8, -10 / 8, 15 / 8]]
    else:
        assert_close(value, np.log(probabilities), "float64")
        by_hand = [[7 / 8, -2 / 8, -5 / 8], [-1.0, -2.0, 3.0]]
    assert_close(gradient, by_hand, "float64")


def test_the_polynomials_of_gelu_are_those_of_their_script():
    pytest.importorskip("mpmath")
    from fixtures import make_activations as script

    for arguments, inside, errors in (
        (script.GELU_32, formulas.MILLS_32, (3e-8, 3e-6)),
        (script.GELU_64, formulas.MILLS_64, (2e-17, 4e-16)),
    ):
        coefficients, *measured = script.gelu_coefficients(*arguments)
        assert inside == coefficients
        assert all(own < error for own, error in zip(measured, errors, strict=True))


def test_the_report_measures_what_the_tests_allow(numpy64):
    pytest.importorskip("mpmath")
    import report_activations as report

    for case in (CASES[2], ROWWISE[0]):
        value, gradient, broken = report.measured(case, numpy64, *report.expected(case, "float64"))
        assert 0 < value < TOLERANCE
        assert 0 < gradient < TOLERANCE
        assert broken == 0


# ---------------------------------------------------------------- digits of small results

SMALL = [
    # activation, x, value, derivative (None: not small), by the first terms of the series
    (nnx.ELU(), -1e-8, -9.99999995e-9, None),
    (nnx.SELU(), -1e-8, -1.0507009873554805 * 1.6732632423543772 * 9.99999995e-9, None),
    (nnx.CELU(alpha=3.0), -1e-8, -1e-8 + 5e-17 / 3, None),
    (nnx.Abs(alpha=0.5), 1e-8, 1e-16, 2e-8),
    (nnx.Abs(alpha=0.5), 1e-15, 1e-30, 2e-15),
    (nnx.LOCo(), 1e-8, 5e-17, 1e-8),
    (nnx.LOCo(k=2.0), -1e-12, 1e-24, -2e-12),
    (nnx.Twist(), 1e-8, 1e-16, 2e-8),
    (nnx.SoftAbs(), 1e-12, 1e-24, 2e-12),
    (nnx.SoftSign(), -1e-12, -1e-12, 1.0),
    (nnx.TanH(k=2.0), 1e-12, 2e-12, 2.0),
    (nnx.ISRU(), 1e-12, 1e-12, 1.0),
    (nnx.ArcTan(), 1e-12, 1e-12, 1.0),
    (nnx.BentIdentity(), 1e-8, 1e-8 + 2.5e-17, None),
    (nnx.Swish(), 1e-12, 5e-13, 0.5),
    (nnx.GELU(), 1e-12, 5e-13, 0.5),
    (nnx.Mish(), 1e-12, 6e-13, 0.6),
    # tails
    (nnx.Logistic(), -60.0, 8.75651076269652e-27, 8.75651076269652e-27),
    (nnx.SoftPlus(), -60.0, 8.75651076269652e-27, 8.75651076269652e-27),
    (nnx.LogSigmoid(), 60.0, -8.75651076269652e-27, 8.75651076269652e-27),
    (nnx.Swish(), -60.0, -5.253906457617912e-25, -59 * 8.75651076269652e-27),
    (nnx.Squareplus(), -1e4, 9.99999990000002e-5, 9.9999997e-9),
    (nnx.GELU(), -5.0, -1.4332578618555128e-6, -7.146946001792295e-6),
]


@pytest.mark.parametrize("known", SMALL, ids=lambda known: f"{known[0]!r} at {known[1]:g}")
def test_small_results_have_correct_digits(known, backend, backend64):
    check_near_zero(known[0], backend, *known[1:], digits=5)
    check_near_zero(known[0], backend64, *known[1:], digits=7)


# ---------------------------------------------------------------- stability


@every_case
def test_finite_without_warning(case, backend, backend64):
    for one in (backend, backend64):
        with nnx.use_backend(one):
            check_finite(case.make(), one, case.largest)


@every_case
def test_finite_very_far_out(case, backend):
    if case.largest >= 1e4:
        y, gradient = run(case.make(), backend, [[-1e18, 1e18], [-3e9, 3e9]])
        assert np.all(np.isfinite(y))
        assert np.all(np.isfinite(gradient))


# ---------------------------------------------------------------- the contract


@every_case
def test_dtype_and_device_are_kept(case, backend, backend64):
    check_keeps_dtype(case.make(), backend)
    check_keeps_dtype(case.make(), backend64)


@every_case
def test_any_shape(case, backend):
    shapes = ((0, 3), (3,), (2, 3, 4)) if case.rowwise else ((), (0,), (3,), (2, 3, 4))
    for shape in shapes:
        x = np.linspace(-2, 2, math.prod(shape)).reshape(shape)
        for got in run(case.make(), backend, x, np.ones(shape)):
            assert got.shape == shape
            assert got.dtype == np.float32


@every_case
def test_arguments_are_left_alone(case, backend):
    host = np.array([[-1.5, 0.0, 0.7], [2.0, -0.1, 4.0]])
    x, delta = backend.asarray(host), backend.asarray(host[::-1])
    before = nnx.to_numpy(x).copy(), nnx.to_numpy(delta).copy()
    _, backward = case.make().forward(x)
    backward(delta)
    assert np.array_equal(nnx.to_numpy(x), before[0])
    assert np.array_equal(nnx.to_numpy(delta), before[1])


@every_case
def test_backward_may_run_twice_and_is_linear(case, backend64):
    x = np.array([[-1.5, 0.2, 0.7], [2.0, -0.1, 4.0]])
    delta = backend64.asarray([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]])
    _, backward = case.make().forward(backend64.asarray(x))
    once, twice = nnx.to_numpy(backward(delta)), nnx.to_numpy(backward(2 * delta))
    assert_close(twice, 2 * once, "float64")


@every_case
def test_one_object_in_two_places(case, backend):
    check_independent_backwards(case.make(), backend)


@every_case
def test_classroom_interface(case, backend):
    x, delta = [[0.3, -0.7, 1.1]], [[1.0, -2.0, 0.5]]
    activation = case.make()
    value, gradient = run(activation, backend, x, delta)
    assert np.array_equal(nnx.to_numpy(activation.evaluate(backend.asarray(x))), value)
    assert np.array_equal(nnx.to_numpy(activation.backprop(backend.asarray(delta))), gradient)
    assert np.array_equal(nnx.to_numpy(activation(backend.asarray(x))), value)


@every_case
def test_backprop_before_evaluate_is_an_error(case):
    with pytest.raises(RuntimeError, match=rf"{case.cls.__name__}\.backprop: call evaluate"):
        case.make().backprop(np.ones(3))


@every_case
def test_repr_shows_the_parameters(case):
    activation = eval(repr(case.make()), dict(vars(nnx)))
    assert type(activation) is case.cls
    assert vars(activation) == vars(case.make())
    for argument, value in case.arguments.items():
        assert getattr(activation, argument) == value


def test_parameters_become_python_floats():
    for activation in (nnx.Logistic(k=np.float64(2)), nnx.Logistic(k=2)):
        assert type(activation.k) is float
    assert type(nnx.Abs(alpha=np.float64(1)).alpha) is float
    assert type(nnx.LeakyReLU(alpha=np.float64(0.1)).alpha) is float


def test_the_base_class_has_no_formula():
    with pytest.raises(NotImplementedError, match="Activation must define forward"):
        Activation().forward(np.ones(3))


# ---------------------------------------------------------------- do the checks find defects?
# Each class has a defect seen in a published library of this kind; the check that the true
# class passes above must fail on it. NumPy alone: it is the check that is tested.


def defective(forward, name="Defective", **constants):
    return type(name, (Activation,), {"forward": lambda self, x: forward(x), **constants})()


def logistic(x):
    return 1 / (1 + np.exp(-x))


def unshifted_softmax(x, axis=-1):
    y = np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)
    return y, lambda delta: y * (delta - np.sum(delta * y, axis=axis, keepdims=True))


def soft_max(x, axis=-1):
    y, backward = unshifted_softmax(x - np.max(x, axis=axis, keepdims=True), axis)
    return y, backward


def softsign_over_y_squared(x):
    y = x / (1 + np.abs(x))
    return y, lambda delta: delta / y**2


WRONG_DERIVATIVES = {
    "SoftSign: k / y^2": ("SoftSign()", softsign_over_y_squared),
    "SoftPlus: s of the output": (
        "SoftPlus()",
        lambda x: (np.logaddexp(x, 0), lambda d: d * logistic(np.logaddexp(x, 0))),
    ),
    "Twist: a factor tanh too many": (
        "Twist()",
        lambda x: (x * np.tanh(x), lambda d: d * np.tanh(x) * (1 + x * (1 - np.tanh(x) ** 2))),
    ),
    "SoftMax: delta passes through": ("SoftMax()", lambda x: (soft_max(x)[0], lambda d: d)),
    "SoftMax: over the samples": ("SoftMax()", lambda x: soft_max(x, axis=0)),
}
OVERFLOWING = {
    "SoftMax": unshifted_softmax,
    "Swish": lambda x: (
        x * np.exp(x) / (1 + np.exp(x)),
        lambda d: d * (np.exp(x) / (1 + np.exp(x))),
    ),
    "SoftPlus": lambda x: (np.log(1 + np.exp(x)), lambda d: d * logistic(x)),
    "LOCo": lambda x: (np.log(np.cosh(x)), lambda d: d * np.tanh(x)),
    "ELU": lambda x: (
        np.where(x > 0, x, np.exp(x) - 1),
        lambda d: d * np.where(x > 0, 1, np.exp(x)),
    ),
}
CANCELLING = {
    "ELU": lambda x: (np.where(x > 0, x, np.exp(x) - 1), lambda d: d),
    "Abs": lambda x: (np.sqrt(x * x + 0.25) - 0.5, lambda d: d * x / np.sqrt(x * x + 0.25)),
    "LOCo": lambda x: (np.log(np.cosh(x)), lambda d: d * np.tanh(x)),
}
PROMOTING = {
    "a NumPy float64": lambda x: (np.float64(2) * x, lambda d: d),
    "bool times float": lambda x: (x * 1, lambda d: np.float64(2) * d * (x > 0)),
    "(x < 0) * alpha": lambda x: (x * 1, lambda d: d * ((x > 0) + (x < 0) * 0.01)),
}


def case_of(name):
    return next(case for case in CASES if case.name == name)


FAILURE = (AssertionError, RuntimeWarning)


@pytest.mark.parametrize("defect", WRONG_DERIVATIVES)
def test_wrong_derivatives_are_found(defect, numpy64):
    name, forward = WRONG_DERIVATIVES[defect]
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        check_recorded(defective(forward), case_of(name), numpy64)
    check_recorded(case_of(name).make(), case_of(name), numpy64)


@pytest.mark.parametrize("name", OVERFLOWING)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_overflow_is_found(name, dtype, request):
    backend = request.getfixturevalue("numpy32" if dtype == "float32" else "numpy64")
    with pytest.raises(FAILURE):
        check_finite(defective(OVERFLOWING[name]), backend)
    check_finite(getattr(nnx, name)(), backend)


@pytest.mark.parametrize("name", CANCELLING)
def test_cancellation_is_found(name, numpy32, numpy64):
    known = next(known for known in SMALL if type(known[0]).__name__ == name)
    for backend, digits in ((numpy32, 5), (numpy64, 12)):
        with pytest.raises(AssertionError):
            check_near_zero(defective(CANCELLING[name]), backend, *known[1:], digits=digits)
        check_near_zero(known[0], backend, *known[1:], digits=digits)


@pytest.mark.parametrize("name", PROMOTING)
def test_promotion_to_float64_is_found(name, numpy32):
    with pytest.raises(AssertionError):
        check_keeps_dtype(defective(PROMOTING[name]), numpy32)


def test_a_numpy_factor_promotes_weights():
    assert (np.float64(math.sqrt(2)) * np.ones(2, dtype=np.float32)).dtype == np.float64
    assert (nnx.ReLU.factor * np.ones(2, dtype=np.float32)).dtype == np.float32


def test_a_cache_on_the_object_is_found(numpy32):
    class Caching(Activation):
        def forward(self, x):
            self.x = x
            return np.tanh(x), lambda delta: (1 - np.tanh(self.x) ** 2) * delta

    with pytest.raises(AssertionError):
        check_independent_backwards(Caching(), numpy32)
