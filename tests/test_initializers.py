"""Initial weights: their distributions, their bits, their fans."""

import inspect
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nnx
from nnx import initializers
from nnx.config import build, plain

INITIALIZERS = {
    "Constant": nnx.Constant(0.5),
    "HeNormal": nnx.HeNormal(),
    "HeUniform": nnx.HeUniform(),
    "Identity": nnx.Identity(2.0),
    "LeCunNormal": nnx.LeCunNormal(),
    "LeCunUniform": nnx.LeCunUniform(),
    "Ones": nnx.Ones(),
    "RandAverage": nnx.RandAverage(),
    "RandnAverage": nnx.RandnAverage(),
    "RandnOrthonormal": nnx.RandnOrthonormal(),
    "TruncatedNormal": nnx.TruncatedNormal(),
    "VarianceScaling": nnx.VarianceScaling(),
    "Zeros": nnx.Zeros(),
}
# name -> distribution and variance for fan-in n and fan-out m
RANDOM = {
    "RandnAverage": (nnx.RandnAverage, "normal", lambda n, m: 2 / (m + n)),
    "RandAverage": (nnx.RandAverage, "uniform", lambda n, m: 2 / (m + n)),
    "HeNormal": (nnx.HeNormal, "normal", lambda n, m: 2 / n),
    "HeUniform": (nnx.HeUniform, "uniform", lambda n, m: 2 / n),
    "LeCunNormal": (nnx.LeCunNormal, "normal", lambda n, m: 1 / n),
    "LeCunUniform": (nnx.LeCunUniform, "uniform", lambda n, m: 1 / n),
}
for distribution in ("normal", "uniform", "truncated_normal"):
    for mode, fan in {
        "fan_in": lambda n, m: n,
        "fan_out": lambda n, m: m,
        "fan_avg": lambda n, m: (n + m) / 2,
    }.items():
        RANDOM[f"VarianceScaling {mode} {distribution}"] = (
            lambda mode=mode, distribution=distribution: nnx.VarianceScaling(
                3.0, mode, distribution
            ),
            distribution,
            lambda n, m, fan=fan: 3 / fan(n, m),
        )


@pytest.fixture
def numpy64():
    with nnx.use_backend("numpy", dtype="float64") as backend:
        yield backend


def test_the_table_has_every_initializer():
    public = set(initializers.__all__)
    assert public == {"Initializer", *INITIALIZERS}
    assert all(type(made).__name__ == name for name, made in INITIALIZERS.items())


# Every initializer.


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 1)])
def test_the_matrix_is_m_by_n_and_the_bits_are_those_of_numpy(name, shape, backend):
    nnx.seed(3)
    W = INITIALIZERS[name].wfun(*shape)
    assert tuple(W.shape) == shape
    assert W.dtype == backend.dtype
    assert backend.owns(W)
    with nnx.use_backend("numpy", dtype="float32"):
        nnx.seed(3)
        expected = INITIALIZERS[name].wfun(*shape)
    assert backend.to_numpy(W).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_filters_have_the_same_bits_too(name, backend):
    nnx.seed(3)
    W = INITIALIZERS[name].filters((4, 3, 3, 2))
    assert tuple(W.shape) == (4, 3, 3, 2)
    with nnx.use_backend("numpy", dtype="float32"):
        nnx.seed(3)
        expected = INITIALIZERS[name].filters((4, 3, 3, 2))
    assert backend.to_numpy(W).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_float32_is_the_rounded_float64_draw(name, numpy64):
    nnx.seed(3)
    exact = INITIALIZERS[name].wfun(6, 4)
    assert exact.dtype == np.float64
    with nnx.use_backend("numpy", dtype="float32"):
        nnx.seed(3)
        assert_array_equal(INITIALIZERS[name].wfun(6, 4), exact.astype(np.float32))


@pytest.mark.parametrize("name", ["RandnOrthonormal", *[n for n in RANDOM if " " not in n]])
def test_a_given_generator_is_used_and_the_stream_is_left_alone(name, numpy64):
    make = getattr(nnx, name)
    first = make(rng=np.random.default_rng(1)).wfun(3, 4)
    second = make(rng=np.random.default_rng(1)).wfun(3, 4)
    assert_array_equal(first, second)
    nnx.seed(3)
    make(rng=np.random.default_rng(1)).wfun(3, 4)
    drawn = make().wfun(3, 4)
    nnx.seed(3)
    assert_array_equal(make().wfun(3, 4), drawn)
    assert (drawn != first).any()


def test_the_draws_of_a_seed_do_not_change_from_version_to_version(numpy64):
    found = nnx.RandnAverage(np.random.default_rng(0)).wfun(2, 3)
    expected = math.sqrt(2 / 5) * np.random.default_rng(0).standard_normal((2, 3))
    assert_array_equal(found, expected)


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("shape", [(0, 3), (3, -1), (3,), (3, 2.0), (2, 2, 0), (True, 2), ("2", 2)])
def test_bad_shapes_are_refused(name, shape):
    with pytest.raises(ValueError, match=rf"{name}: expected a shape .* got \("):
        INITIALIZERS[name].filters(shape)


NUMBERS = (math.nan, math.inf, "0.1", None, True, [1.0], nnx.ReLU, 1j)
BAD = [
    *((nnx.TruncatedNormal, "std", bad) for bad in (0, -1.0, *NUMBERS)),
    *((nnx.TruncatedNormal, "mean", bad) for bad in NUMBERS),
    *((nnx.VarianceScaling, "scale", bad) for bad in (0, -1.0, *NUMBERS)),
    *((nnx.VarianceScaling, "mode", bad) for bad in ("fan", None, True, 1, ["fan_in"], nnx.ReLU)),
    *((nnx.VarianceScaling, "distribution", bad) for bad in ("cauchy", None, 1, ["normal"])),
    *((nnx.Constant, "value", bad) for bad in NUMBERS),
    *((nnx.Identity, "gain", bad) for bad in NUMBERS),
]
DRAWING = [nnx.RandnAverage, nnx.RandAverage, nnx.RandnOrthonormal, nnx.HeNormal, nnx.HeUniform]
DRAWING += [nnx.LeCunNormal, nnx.LeCunUniform, nnx.TruncatedNormal, nnx.VarianceScaling]


def test_the_table_of_wrong_arguments_has_every_argument():
    known = {(cls, name) for cls, name, _ in BAD} | {(cls, "rng") for cls in DRAWING}
    for made in INITIALIZERS.values():
        if type(made) not in (nnx.Zeros, nnx.Ones):
            parameters = inspect.signature(type(made)).parameters
            assert {(type(made), name) for name in parameters} <= known


@pytest.mark.parametrize(("cls", "argument", "bad"), BAD)
def test_wrong_arguments_are_told_by_class_argument_and_value(cls, argument, bad):
    with pytest.raises((TypeError, ValueError)) as caught:
        cls(**{argument: bad})
    assert str(caught.value).startswith(f"{cls.__name__}: expected {argument} to be ")
    assert f"got {bad!r}" in str(caught.value)


@pytest.mark.parametrize("cls", DRAWING)
@pytest.mark.parametrize("bad", [42, "7", True, 0.5, np.random, np.random.default_rng, [1]])
def test_an_rng_that_is_not_a_generator_is_refused_with_the_remedy(cls, bad):
    with pytest.raises(TypeError) as caught:
        cls(rng=bad)
    example = "numpy.random.default_rng(42)" if bad == 42 else "numpy.random.default_rng(0)"
    start = f"{cls.__name__}: expected rng to be an object such as {example}, got "
    assert str(caught.value).startswith(start)


# Initializers of a user's own that break their contract.


def own(draw):
    return type("Own", (nnx.Initializer,), {"draw": lambda self, shape, rng: draw(shape)})()


BROKEN_DRAWS = {
    "transposed": (
        lambda shape: np.ones(shape[::-1]),
        r"of shape \(4, 3\), got \(3, 4\); the",
    ),
    "flat": (lambda shape: np.ones(12), r"of shape \(4, 3\), got \(12,\); "),
    "nothing": (lambda shape: None, r"a NumPy array of float64, got None; return numpy"),
    "a list": (lambda shape: [[1.0] * 3] * 4, r"a NumPy array of float64, got \[\[1.0"),
    "integers": (lambda shape: np.ones(shape, int), r"of float64, got an array of int64; return"),
    "booleans": (lambda shape: np.ones(shape, bool), r"of float64, got an array of bool; return"),
    "complex": (lambda shape: np.ones(shape, complex), r"of float64, got an array of complex128"),
    "NaN": (lambda shape: np.full(shape, np.nan), r"numbers that float32 can hold, got nan; check"),
    "infinity": (lambda shape: np.full(shape, -np.inf), r"that float32 can hold, got -inf; check"),
    "too large": (lambda shape: np.full(shape, 1e39), r"that float32 can hold, got 1e\+39; check"),
}


@pytest.mark.parametrize("defect", BROKEN_DRAWS)
def test_a_broken_draw_is_told(defect, backend):
    draw, message = BROKEN_DRAWS[defect]
    for call in (
        lambda: own(draw).wfun(4, 3),
        lambda: own(draw).filters((4, 3)),
        lambda: own(draw).weights((4, 3), 2.0),
        lambda: nnx.DenseLayer(3, 4, initializer=own(draw)),
    ):
        with pytest.raises((TypeError, ValueError), match=rf"^Own\.draw: expected .*{message}"):
            call()


def test_a_value_too_large_for_the_backend_is_told(numpy64):
    assert nnx.Constant(1e39).wfun(1, 1) == 1e39
    with (
        nnx.use_backend("numpy", dtype="float32"),
        pytest.raises(
            ValueError,
            match=r"^Constant\.draw: .*float32 .* Constant\(value=1e\+39\)",
        ),
    ):
        nnx.Constant(1e39).wfun(2, 2)


# The gain of the activation.

SCALED = ("RandAverage", "RandnAverage", "RandnOrthonormal")


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2)])
def test_a_gain_multiplies_what_the_sheet_multiplies_and_no_law_or_value(name, shape, backend):
    nnx.seed(3)
    plain = INITIALIZERS[name].filters(shape)
    nnx.seed(3)
    found = INITIALIZERS[name].weights(shape, nnx.ReLU.factor)
    expected = math.sqrt(2) * plain if name in SCALED else plain
    assert_array_equal(backend.to_numpy(found), backend.to_numpy(expected))
    assert found.dtype == backend.dtype
    nnx.seed(3)
    without = INITIALIZERS[name].weights(shape)
    assert_array_equal(backend.to_numpy(without), backend.to_numpy(plain))


def test_a_users_own_initializer_is_scaled_unless_it_says_otherwise(numpy64):
    class Law(nnx.Initializer):
        scaled = False

        def draw(self, shape, rng):
            return np.full(shape, 3.0)

    assert_array_equal(own(lambda shape: np.full(shape, 3.0)).weights((1, 2), 2.0), [[6.0, 6.0]])
    assert_array_equal(Law().weights((1, 2), 2.0), [[3.0, 3.0]])


@pytest.mark.parametrize("gain", [math.nan, "2", None, True])
def test_a_wrong_gain_is_refused(gain):
    with pytest.raises(
        (TypeError, ValueError), match=r"^Ones: expected gain to be a finite number"
    ):
        nnx.Ones().weights((2, 2), gain)


LAWS = {
    # initializer -> variance of the weights of a layer of 1000 inputs and 500 outputs, any afun
    nnx.HeNormal: 2 / 1000,
    nnx.HeUniform: 2 / 1000,
    nnx.LeCunNormal: 1 / 1000,
    nnx.LeCunUniform: 1 / 1000,
    nnx.VarianceScaling: 1 / 1000,
    nnx.TruncatedNormal: (0.05 * 0.87962566103423978) ** 2,
}


@pytest.mark.parametrize("afun", [nnx.ReLU(), nnx.TanH()], ids=repr)
def test_a_dense_layer_has_the_variance_of_the_law(afun, numpy64):
    factor = afun.factor**2
    course = {nnx.RandnAverage: 2 / 1500, nnx.RandAverage: 2 / 1500, nnx.RandnOrthonormal: 1 / 1000}
    for cls, variance in (LAWS | {cls: factor * v for cls, v in course.items()}).items():
        W = nnx.DenseLayer(1000, 500, afun, initializer=cls()).W
        assert abs(W.var() / variance - 1) < 6 * math.sqrt(2 / W.size), cls
    for made in (nnx.Constant(0.5), nnx.Ones(), nnx.Zeros(), nnx.Identity(2.0)):
        W = nnx.DenseLayer(4, 3, afun, initializer=made).W
        assert_array_equal(W, made.draw((3, 4), None))


def test_an_initializer_shows_its_arguments_but_not_its_generator():
    assert repr(nnx.RandnAverage(np.random.default_rng(0))) == "RandnAverage()"
    assert repr(nnx.TruncatedNormal(1)) == "TruncatedNormal(std=1.0)"
    for made in INITIALIZERS.values():
        twin = eval(repr(made), dict(vars(nnx)))
        assert twin == made == made.clone() == build(plain(made))
        assert hash(twin) == hash(made)


def test_an_unfinished_initializer_says_so():
    with pytest.raises(NotImplementedError, match="must define draw"):
        nnx.Initializer().wfun(2, 2)


# Distributions.


def distribution_function(stats, kind, variance):
    std = math.sqrt(variance)
    if kind == "normal":
        return stats.norm(scale=std).cdf
    if kind == "uniform":
        return stats.uniform(-math.sqrt(3) * std, 2 * math.sqrt(3) * std).cdf
    return stats.truncnorm(-2, 2, scale=std / stats.truncnorm(-2, 2).std()).cdf


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("shape", [(60, 240), (240, 60), (12, 20, 5, 6)])
def test_entries_have_the_distribution_they_should(name, shape, numpy64):
    make, kind, variance = RANDOM[name]
    area = math.prod(shape[2:])
    expected = variance(shape[1] * area, shape[0] * area)
    W = make().filters(shape)
    # moments: six standard errors; the fourth moments are 3, 1.8 and less
    assert abs(W.mean()) < 6 * math.sqrt(expected / W.size)
    assert abs(W.var() / expected - 1) < 6 * math.sqrt(2 / W.size)
    stats = pytest.importorskip("scipy.stats")
    fit = stats.kstest(W.ravel(), distribution_function(stats, kind, expected))
    assert fit.pvalue > 1e-3
    # a tenth more of width would be seen
    off = stats.kstest(1.1 * W.ravel(), distribution_function(stats, kind, expected))
    assert off.pvalue < 1e-3


@pytest.mark.parametrize(
    ("initializer", "like"),
    [
        (nnx.RandnAverage, (1, "fan_avg", "normal")),
        (nnx.RandAverage, (1, "fan_avg", "uniform")),
        (nnx.HeNormal, (2, "fan_in", "normal")),
        (nnx.HeUniform, (2, "fan_in", "uniform")),
        (nnx.LeCunNormal, (1, "fan_in", "normal")),
        (nnx.LeCunUniform, (1, "fan_in", "uniform")),
    ],
)
def test_the_named_ones_are_special_cases_of_variance_scaling(initializer, like, numpy64):
    one = initializer(np.random.default_rng(2)).filters((4, 5, 3))
    other = nnx.VarianceScaling(*like, rng=np.random.default_rng(2)).filters((4, 5, 3))
    assert_allclose(one, other, rtol=1e-14)


def test_uniform_entries_stay_inside_their_bound(numpy64):
    for make, fan in [(nnx.RandAverage, 100), (nnx.HeUniform, 60), (nnx.LeCunUniform, 120)]:
        r = math.sqrt(6 / fan)
        size = np.abs(make().wfun(40, 60)).max()
        assert 0.99 * r < size <= r


def test_the_truncated_normal_is_cut_at_two_deviations(numpy64):
    stats = pytest.importorskip("scipy.stats")
    W = nnx.TruncatedNormal(0.5, 3.0).wfun(100, 200)
    assert np.abs(W - 3).max() <= 1.0
    assert stats.kstest(W.ravel(), stats.truncnorm(-2, 2, 3, 0.5).cdf).pvalue > 1e-3
    assert abs(W.std() / 0.5 - 0.8796) < 0.02
    assert_allclose(initializers.CUT_VARIANCE, stats.truncnorm(-2, 2).var(), rtol=1e-12)
    assert math.sqrt(initializers.CUT_VARIANCE) == pytest.approx(0.87962566103423978, rel=1e-14)


def test_the_constant_ones(numpy64):
    assert_array_equal(nnx.Constant(1.5).wfun(2, 3), np.full((2, 3), 1.5))
    assert_array_equal(nnx.Zeros().wfun(2, 3), np.zeros((2, 3)))
    assert_array_equal(nnx.Ones().wfun(2, 3), np.ones((2, 3)))
    assert_array_equal(nnx.Identity().wfun(2, 3), [[1, 0, 0], [0, 1, 0]])
    assert_array_equal(nnx.Identity(0.5).wfun(3, 2), [[0.5, 0], [0, 0.5], [0, 0]])


def test_identity_filters_pass_the_first_channels_on(numpy64):
    W = nnx.Identity().filters((3, 2, 3, 5))
    expected = np.zeros((3, 2, 3, 5))
    expected[0, 0, 1, 2] = expected[1, 1, 1, 2] = 1
    assert_array_equal(W, expected)


# Orthonormal.


@pytest.mark.parametrize(
    "shape", [(5, 5), (9, 4), (4, 9), (1, 7), (7, 1), (6, 2, 3, 3), (30, 2, 3)]
)
def test_the_shorter_side_is_orthonormal_to_rounding(shape, backend64):
    W = backend64.to_numpy(nnx.RandnOrthonormal().filters(shape)).reshape(shape[0], -1)
    short = min(W.shape)
    gram = W @ W.T if W.shape[0] == short else W.T @ W
    assert_allclose(gram, np.eye(short), atol=20 * np.finfo(float).eps)


def test_orthonormal_entries_have_variance_one_over_the_longer_side(numpy64):
    for m, n in [(20, 50), (50, 20), (30, 30)]:
        W = np.stack([nnx.RandnOrthonormal().wfun(m, n) for _ in range(20)])
        assert_allclose((W**2).mean(), 1 / max(m, n), rtol=1e-12)
        assert abs(W.mean()) < 6 / math.sqrt(W.size * max(m, n))


def svd_without_signs(m, n, rng):
    """The published version: U of a singular value decomposition."""
    U, _, Vt = np.linalg.svd(rng.standard_normal((m, n)), full_matrices=False)
    return U if m >= n else Vt


def qr_without_signs(m, n, rng):
    Q = np.linalg.qr(rng.standard_normal((max(m, n), min(m, n))))[0]
    return Q if m >= n else Q.T


def right(m, n, rng):
    return nnx.RandnOrthonormal(rng).draw((m, n), rng)


def deviation_from_haar(draw, m, n, samples=4000):
    """How unlike the uniform distribution, in standard errors.

    Under it every entry is a coordinate of a uniform unit vector of d = max(m, n) dimensions: its
    mean is 0, that of its square 1/d, that of its fourth power 3/(d (d + 2)).
    """
    rng = np.random.default_rng(11)
    W = np.stack([draw(m, n, rng) for _ in range(samples)])
    d = max(m, n)
    means = W.mean(axis=0) * math.sqrt(samples * d)
    fourth = 3 / (d * (d + 2)) - 1 / d**2  # variance of the square of an entry
    squares = ((W**2).mean(axis=0) - 1 / d) * math.sqrt(samples / fourth)
    return max(np.abs(means).max(), np.abs(squares).max())


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4)])
def test_orthonormal_matrices_are_uniformly_distributed(shape):
    assert deviation_from_haar(right, *shape) < 5


@pytest.mark.parametrize(
    ("wrong", "shape"),
    [
        (svd_without_signs, (6, 3)),
        (svd_without_signs, (4, 4)),
        (qr_without_signs, (6, 3)),
        (qr_without_signs, (3, 6)),
        (qr_without_signs, (4, 4)),
    ],
)
def test_the_two_defective_variants_are_found_out(wrong, shape):
    assert deviation_from_haar(wrong, *shape) > 20


def test_the_entries_of_a_row_are_those_of_a_random_direction():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    for m, n in [(5, 3), (3, 5)]:
        for i, j in [(0, 0), (2, 2), (0, 2), (2, 0)]:
            entry = np.array([right(m, n, rng)[i, j] for _ in range(2000)])
            # (1 + w) / 2 of a coordinate w of the unit sphere in d dimensions is Beta((d - 1)/2)
            assert stats.kstest((1 + entry) / 2, stats.beta(2, 2).cdf).pvalue > 1e-3
    entry = np.array([qr_without_signs(5, 3, rng)[0, 0] for _ in range(2000)])
    assert stats.kstest((1 + entry) / 2, stats.beta(2, 2).cdf).pvalue < 1e-6


def test_turning_the_space_leaves_the_distribution_as_it_is():
    """Haar: the trace of Q W has the law of the trace of W, for a fixed orthogonal Q."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(9)
    Q = right(4, 4, rng)

    def traces(draw):
        W = np.stack([draw(4, 4, rng) for _ in range(3000)])
        return np.trace(W[:1500], axis1=1, axis2=2), np.trace(Q @ W[1500:], axis1=1, axis2=2)

    assert stats.ks_2samp(*traces(right)).pvalue > 1e-3
    assert stats.ks_2samp(*traces(qr_without_signs)).pvalue < 1e-6


# In a layer.


def test_every_initializer_takes_only_what_it_uses():
    for name in ("Constant", "Identity", "Ones", "Zeros"):
        assert "rng" not in inspect.signature(getattr(nnx, name)).parameters


@pytest.mark.parametrize("shape", [5, None, "23", {2, 3}])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"^Zeros: expected a shape \(outputs, inputs,"):
        nnx.Zeros().weights(shape)


def test_a_truncated_normal_entry_is_the_mean_plus_a_draw():
    z = np.random.default_rng(3).standard_normal((6, 5))
    W = nnx.TruncatedNormal(0.5, 2.0).draw((6, 5), np.random.default_rng(3))
    kept = np.abs(z) <= 2.0  # the others are drawn again
    assert kept.sum() > 20
    np.testing.assert_array_equal(W[kept], (2.0 + 0.5 * z)[kept])
