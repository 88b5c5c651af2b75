"""Initial weights: their distributions, their bits, their fans."""

import inspect
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nnx
from nnx import initializers

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
@pytest.mark.parametrize("shape", [(0, 3), (3, -1), (3,), (3, 2.0), (2, 2, 0)])
def test_bad_shapes_are_refused(name, shape):
    with pytest.raises(ValueError, match=rf"{name}: expected a shape .* got \("):
        INITIALIZERS[name].filters(shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nnx.TruncatedNormal(0), "TruncatedNormal: expected std > 0, got 0"),
        (
            lambda: nnx.TruncatedNormal(1, math.nan),
            "TruncatedNormal: expected a finite mean, got n",
        ),
        (lambda: nnx.VarianceScaling(-1), "VarianceScaling: expected scale > 0, got -1"),
        (
            lambda: nnx.VarianceScaling(mode="fan"),
            "VarianceScaling: expected mode .*fan_in.*got 'fa",
        ),
        (
            lambda: nnx.VarianceScaling(distribution="cauchy"),
            "VarianceScaling: expected distribution .*uniform.*got 'cauchy'",
        ),
        (lambda: nnx.Constant(math.inf), "Constant: expected a finite value, got inf"),
        (lambda: nnx.Identity(math.nan), "Identity: expected a finite gain, got nan"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_initializer_shows_its_arguments_but_not_its_generator():
    assert repr(nnx.RandnAverage(np.random.default_rng(0))) == "RandnAverage()"
    assert repr(nnx.TruncatedNormal(1)) == "TruncatedNormal(std=1.0, mean=0.0)"
    for made in INITIALIZERS.values():
        assert repr(eval(repr(made), vars(nnx))) == repr(made)


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


def test_a_relu_layer_of_lecun_weights_has_the_variance_of_he(numpy64):
    layer = nnx.DenseLayer(300, 200, nnx.ReLU(), initializer=nnx.LeCunNormal())
    assert abs(layer.W.var() / (2 / 300) - 1) < 0.05
    assert layer.W.shape == (200, 300)


def test_every_initializer_takes_only_what_it_uses():
    for name in ("Constant", "Identity", "Ones", "Zeros"):
        assert "rng" not in inspect.signature(getattr(nnx, name)).parameters
