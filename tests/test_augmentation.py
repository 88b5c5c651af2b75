"""Images that vary at random in training: what happens to each cell, and to its gradient."""

import hashlib

import numpy as np
import pytest

import nnx
from nnx.randomness import noise_from

LAYERS = {
    "flip": lambda: nnx.RandomFlipLayer(True, True),
    "shift": lambda: nnx.RandomShiftLayer((2, 1)),
    "cutout": lambda: nnx.CutoutLayer((2, 3)),
}
each = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
SHAPE = (6, 2, 4, 5)
IMAGES = 1.0 + np.arange(240.0).reshape(SHAPE)


def varied(layer, backend, x, draw=None):
    """What a layer makes of x in training, and of a delta equal to x, on the host."""
    source = noise_from(lambda given, like: draw) if draw is not None else noise_from(None)
    with source:
        y, backward = layer.forward(backend.asarray(np.asarray(x)), training=True)
        dx, gradients = backward(backend.asarray(np.asarray(x)))
    assert gradients == {}
    assert y.dtype == dx.dtype == backend.dtype
    return backend.to_numpy(y), backend.to_numpy(dx)


# ---------------------------------------------------------------- by hand

GRID = [[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]]


@pytest.mark.parametrize(
    ("flips", "expected"),
    [
        ((False, False), [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        ((True, False), [[7, 8, 9], [4, 5, 6], [1, 2, 3]]),
        ((False, True), [[3, 2, 1], [6, 5, 4], [9, 8, 7]]),
        ((True, True), [[9, 8, 7], [6, 5, 4], [3, 2, 1]]),
    ],
)
def test_flips_by_hand(flips, expected, backend):
    draw = backend.from_numpy(np.asarray(flips).reshape(2, 1, 1, 1, 1))
    y, dx = varied(nnx.RandomFlipLayer(True, True), backend, GRID, draw)
    np.testing.assert_array_equal(y[0, 0], expected)
    np.testing.assert_array_equal(dx, y)  # a reflection is its own adjoint


@pytest.mark.parametrize(
    ("shift", "expected", "back"),
    [
        ((0, 0), [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        ((1, 0), [[0, 0, 0], [1, 2, 3], [4, 5, 6]], [[4, 5, 6], [7, 8, 9], [0, 0, 0]]),
        ((0, -1), [[2, 3, 0], [5, 6, 0], [8, 9, 0]], [[0, 1, 2], [0, 4, 5], [0, 7, 8]]),
        ((-2, 1), [[0, 7, 8], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [2, 3, 0]]),
        ((3, 0), np.zeros((3, 3)), np.zeros((3, 3))),
    ],
)
def test_shifts_by_hand(shift, expected, back, backend):
    draw = backend.asarray(np.asarray(shift, dtype="float32").reshape(2, 1))
    y, dx = varied(nnx.RandomShiftLayer(3), backend, GRID, draw)
    np.testing.assert_array_equal(y[0, 0], expected)
    np.testing.assert_array_equal(dx[0, 0], back)


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((0, 0), [[0, 2, 3], [4, 5, 6], [7, 8, 9]]),  # rows -1 and 0, column 0
        ((1, 2), [[1, 2, 0], [4, 5, 0], [7, 8, 9]]),
        ((2, 1), [[1, 2, 3], [4, 0, 6], [7, 0, 9]]),
    ],
)
def test_cutouts_by_hand(centre, expected, backend):
    draw = backend.asarray(np.asarray(centre, dtype="float32").reshape(2, 1))
    y, dx = varied(nnx.CutoutLayer((2, 1)), backend, GRID, draw)
    np.testing.assert_array_equal(y[0, 0], expected)
    np.testing.assert_array_equal(dx, y)


def test_what_is_cut_out_or_shifted_out_is_zero_whatever_it_was(backend):
    x = np.full((1, 1, 3, 3), np.nan)
    x[0, 0, 1:, 1:] = 5.0
    centre = backend.asarray(np.zeros((2, 1), dtype="float32"))
    y, _ = varied(nnx.CutoutLayer(9), backend, x, centre)
    np.testing.assert_array_equal(y, np.zeros((1, 1, 3, 3)))
    y, _ = varied(nnx.RandomShiftLayer(1), backend, x, centre - 1.0)
    np.testing.assert_array_equal(y[0, 0], [[5, 5, 0], [5, 5, 0], [0, 0, 0]])


# ---------------------------------------------------------------- one seed, statistics


@each
def test_one_seed_means_the_same_bits_on_every_backend(make, backend):
    nnx.seed(3)
    found = varied(make(), backend, IMAGES)
    nnx.seed(3)
    with nnx.use_backend("numpy") as numpy:
        expected = varied(make(), numpy, IMAGES)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, varied(make(), backend, IMAGES))  # the stream goes on


DIGESTS = {"flip": "528687501e849017", "shift": "f20a6589cbfd33b8", "cutout": "689beceede73251e"}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_images_of_seed_0_are_those_of_every_version(kind, backend):
    nnx.seed(0)
    y, _ = varied(LAYERS[kind](), backend, IMAGES)
    digest = hashlib.sha256(np.ascontiguousarray(y, dtype="<f4").tobytes()).hexdigest()
    assert digest[:16] == DIGESTS[kind]


N = 4000


@pytest.fixture(scope="module")
def numpy():
    with nnx.use_backend("numpy") as backend:
        yield backend


def shares(things):
    """How often each row comes, and five standard deviations of that if all are as likely."""
    found, counts = np.unique(things, axis=0, return_counts=True)
    p = 1 / len(found)
    return found, counts / len(things), p, 5 * np.sqrt(p * (1 - p) / len(things))


def test_flips_are_independent_and_as_likely_as_not(numpy):
    nnx.seed(1)
    image = np.arange(4.0).reshape(1, 1, 2, 2)
    y, _ = varied(nnx.RandomFlipLayer(True, True), numpy, np.repeat(image, N, axis=0))
    found, share, p, tolerance = shares(y.reshape(N, 4))
    np.testing.assert_array_equal(found, [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
    np.testing.assert_allclose(share, p, atol=tolerance)
    only = nnx.RandomFlipLayer(vertical=False)
    assert set(varied(only, numpy, np.repeat(image, 50, axis=0))[0][:, 0, 0, 0]) == {0.0, 1.0}


def test_all_shifts_are_equally_likely(numpy):
    nnx.seed(1)
    image = np.zeros((N, 1, 9, 9))
    image[:, :, 4, 4] = 1.0
    y, _ = varied(nnx.RandomShiftLayer((2, 1)), numpy, image)
    _, _, row, column = np.nonzero(y)
    found, share, p, tolerance = shares(np.stack([row - 4, column - 4], axis=1))
    assert found.tolist() == [[d, e] for d in (-2, -1, 0, 1, 2) for e in (-1, 0, 1)]
    np.testing.assert_allclose(share, p, atol=tolerance)


def test_every_cell_is_equally_likely_the_centre_of_what_is_cut_out(numpy):
    nnx.seed(1)
    y, _ = varied(nnx.CutoutLayer(1), numpy, np.ones((N, 2, 3, 4)))
    sample, _, row, column = np.nonzero(y == 0)
    np.testing.assert_array_equal(sample, np.repeat(np.arange(N), 2))  # both channels
    found, share, p, tolerance = shares(np.stack([row, column], axis=1))
    assert len(found) == 12
    np.testing.assert_allclose(share, p, atol=tolerance)


@each
def test_only_images_are_taken(make):
    with pytest.raises(nnx.ShapeError, match=r"layer 1 .* takes input of shape \(channels, height"):
        nnx.SequentialNet(20, [make(), nnx.DenseLayer(20, 2)])


# ---------------------------------------------------------------- in a network

Y = np.arange(24) % 3
X = np.random.default_rng(0).standard_normal((24, *SHAPE[1:])) + Y[:, None, None, None]


def network():
    nnx.seed(5)
    layers = [
        nnx.Conv2DLayer(2, 3, 3, nnx.ReLU(), nnx.SGD(0.1)),
        *[make() for make in LAYERS.values()],  # these have a backward in training
        nnx.FlattenLayer(),
        nnx.DenseLayer(18, 3, nnx.SoftMax(), nnx.SGD(0.1)),
    ]
    return nnx.SequentialNet(SHAPE[1:], layers, nnx.CrossEntropy())


def test_training_is_the_same_on_every_backend_compiled_or_not(backend):
    net = network()
    history = net.train(X, Y, 6, 2, progress=False)
    with nnx.use_backend("numpy", backend.dtype_name):
        other = network()
        expected = other.train(X, Y, 6, 2, progress=False)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=2e-4)
    for path, p in other.parameters.items():
        found = backend.to_numpy(net.parameters[path])
        np.testing.assert_allclose(found, p, rtol=2e-4, atol=1e-6)
    outputs = [backend.to_numpy(net.predict(X)) for _ in range(2)]
    np.testing.assert_array_equal(*outputs)


# ---------------------------------------------------------------- mixing samples


def test_mixing_by_hand(backend):
    x, y = backend.asarray([[[1.0]], [[2.0]], [[4.0]]]), backend.asarray([[1.0, 0], [0, 1], [1, 0]])
    with noise_from(lambda draw, like: backend.asarray([0.75])):
        mixed = [backend.to_numpy(array) for array in nnx.MixUp()(x, y)]
    np.testing.assert_array_equal(mixed[0], [[[1.75]], [[1.75]], [[3.5]]])  # with 4, 1, 2
    np.testing.assert_array_equal(mixed[1], [[1, 0], [0.25, 0.75], [0.75, 0.25]])
    nnx.seed(3)
    found = [backend.to_numpy(array) for array in nnx.MixUp(0.4)(x, y)]
    nnx.seed(3)
    with nnx.use_backend("numpy", backend.dtype_name) as numpy:
        given = [numpy.asarray(backend.to_numpy(array)) for array in (x, y)]
        expected = nnx.MixUp(0.4)(*given)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-7)  # a compiler may fuse the product and sum
        assert not np.array_equal(other, given[0] if other.ndim == 3 else given[1])


def test_a_network_learns_from_mixed_samples(numpy):
    net, mix = network(), nnx.MixUp(1.0)
    plan, (x, y) = net.plan(), (numpy.asarray(X), numpy.asarray(np.eye(3)[Y]))
    before = net.score(X, Y).loss
    for epoch in range(30):
        for start in range(0, 24, 6):
            order = slice((start + epoch) % 18, (start + epoch) % 18 + 6)
            plan.step(*mix(x[order], y[order]))
    assert net.score(X, Y).loss < 0.8 * before


def test_targets_that_are_not_rows_are_refused():
    assert repr(nnx.MixUp(0.3)) == "MixUp(alpha=0.3)"
    with pytest.raises(
        nnx.ShapeError, match=r"one row for each of 24 samples, got shape \(24,\); wr"
    ):
        nnx.MixUp()(X, Y)
    with pytest.raises(ValueError, match=r"MixUp: expected alpha to be a number > 0, got 0"):
        nnx.MixUp(0)
