"""Dropout and Gaussian noise: the masks, their statistics, and what evaluation leaves out."""

import hashlib

import numpy as np
import pytest
from conftest import compile_on, usable

import nnx
from nnx.randomness import noise_from
from nnx.testing import check_backends, check_gradients

DROPOUT, GAUSSIAN = lambda: nnx.DropoutLayer(0.3), lambda: nnx.GaussianNoiseLayer(0.5)
LAYERS = {"dropout": DROPOUT, "gaussian": GAUSSIAN}
SHAPES = [(8, 6), (1, 1), (2, 3, 4, 5), (5,)]
both = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def ones(backend, *shape):
    return backend.asarray(np.ones(shape))


def disturbed(make, backend, *shape):
    """What a layer makes of ones in training, on the host."""
    return backend.to_numpy(make().forward(ones(backend, *shape), training=True)[0])


# ---------------------------------------------------------------- by hand


def test_dropout_by_hand(backend):
    mask = backend.xp.asarray(np.array([[True, False], [False, True]]), device=backend.device)
    with noise_from(lambda draw, like: mask):
        y, backward = nnx.DropoutLayer(0.75).forward(
            backend.asarray([[1.0, 2.0], [3.0, 4.0]]), training=True
        )
        dx, gradients = backward(backend.asarray([[5.0, 6.0], [7.0, 8.0]]))
    np.testing.assert_array_equal(backend.to_numpy(y), [[4.0, 0.0], [0.0, 16.0]])
    np.testing.assert_array_equal(backend.to_numpy(dx), [[20.0, 0.0], [0.0, 32.0]])
    assert gradients == {}
    assert y.dtype == dx.dtype == backend.dtype


def test_gaussian_noise_by_hand(backend):
    e = backend.asarray([[0.5, -1.0]])
    with noise_from(lambda draw, like: e):
        y, backward = nnx.GaussianNoiseLayer(2.0).forward(
            backend.asarray([[1.0, 2.0]]), training=True
        )
    np.testing.assert_array_equal(backend.to_numpy(y), [[1.5, 1.0]])
    np.testing.assert_array_equal(backend.to_numpy(backward(e)[0]), [[0.5, -1.0]])


def test_a_dropped_entry_is_zero_whatever_it_was(backend):
    x = backend.asarray([[np.inf, np.nan, 1e38]])
    with noise_from(lambda draw, like: like < 0):  # keeps nothing
        y, _ = nnx.DropoutLayer(0.9).forward(x, training=True)
    np.testing.assert_array_equal(backend.to_numpy(y), [[0.0, 0.0, 0.0]])


# ---------------------------------------------------------------- derivatives, backends


@both
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [False, True])
def test_backward_is_the_derivative_of_forward(make, shape, training):
    check_gradients(make(), np.random.default_rng(0).standard_normal(shape), training=training)


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_backends_agree(make, shape):
    check_backends(make, np.random.default_rng(0).standard_normal(shape))


@both
def test_one_seed_means_the_same_bits_on_every_backend(make, backend):
    nnx.seed(3)
    found = disturbed(make, backend, 40, 50)
    nnx.seed(3)
    with nnx.use_backend("numpy") as numpy:
        expected = disturbed(make, numpy, 40, 50)
    np.testing.assert_array_equal(found != 0, expected != 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not np.array_equal(found, disturbed(make, backend, 40, 50))  # the stream goes on


def test_the_masks_of_seed_0_are_those_of_every_version(backend):
    nnx.seed(0)
    mask = disturbed(DROPOUT, backend, 10, 100) != 0
    digest = hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest()
    assert digest[:16] == "8cec3f574305b351"


@both
def test_both_dtypes_get_the_same_numbers(make):
    found = []
    for dtype in ("float32", "float64"):
        nnx.seed(3)
        with nnx.use_backend("numpy", dtype) as backend:
            y = disturbed(make, backend, 40, 50)
        assert y.dtype == dtype
        found.append(y)
    np.testing.assert_allclose(*found, rtol=1e-6)


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_is_the_probability_to_drop_and_the_expectation_stays(rate, backend):
    n = 200_000
    y = disturbed(lambda: nnx.DropoutLayer(rate), backend, 400, n // 400)
    kept = y != 0
    deviation = np.sqrt(rate * (1 - rate) / n)
    assert kept.mean() == pytest.approx(1 - rate, abs=5 * deviation)
    assert y.mean(dtype="float64") == pytest.approx(1.0, abs=5 * deviation / (1 - rate))
    np.testing.assert_allclose(y[kept], 1 / (1 - rate), rtol=1e-6)


def test_every_sample_and_every_entry_has_a_mask_of_its_own(backend):
    kept = disturbed(lambda: nnx.DropoutLayer(0.5), backend, 64, 3, 8, 8) != 0
    for axis in range(4):
        first, second = np.take(kept, 0, axis), np.take(kept, 1, axis)
        n = first.size
        assert (first == second).mean() == pytest.approx(0.5, abs=2.5 / np.sqrt(n))


def test_the_noise_is_normal_with_the_given_deviation(backend):
    noise = disturbed(lambda: nnx.GaussianNoiseLayer(0.5), backend, 400, 500) - 1.0
    assert noise.mean(dtype="float64") == pytest.approx(0.0, abs=5 * 0.5 / np.sqrt(noise.size))
    assert noise.std(dtype="float64") == pytest.approx(0.5, rel=5 / np.sqrt(2 * noise.size))
    # a normal distribution has 68.27 % within one deviation, 95.45 % within two
    for k, share in ((1, 0.6827), (2, 0.9545)):
        assert (np.abs(noise) < 0.5 * k).mean() == pytest.approx(share, abs=0.006)


# ---------------------------------------------------------------- forward and backward


def test_backward_uses_the_mask_of_its_own_forward(backend):
    layer, x = nnx.DropoutLayer(0.5), ones(backend, 20, 30)
    passes = [layer.forward(x, training=True) for _ in range(3)]
    for y, backward in passes:
        np.testing.assert_array_equal(backend.to_numpy(backward(x)[0]), backend.to_numpy(y))
    assert not np.array_equal(*(backend.to_numpy(y) for y, _ in passes[:2]))


@both
def test_the_classroom_interface(make, backend):
    layer, x = make(), ones(backend, 4, 5)
    layer.evaluate(x, training=True)
    assert layer.backprop(x).shape == (4, 5)
    layer.update()
    assert layer.parameters == layer.buffers == {}


# ---------------------------------------------------------------- in a network

X = np.random.default_rng(0).standard_normal((200, 6))
Y = (X[:, 0] > X[:, 1]).astype(int)


def network():
    nnx.seed(5)
    layers = [
        nnx.GaussianNoiseLayer(0.1),
        nnx.DenseLayer(6, 32, nnx.ReLU(), nnx.SGD(0.1)),
        nnx.DropoutLayer(0.3),
        nnx.DenseLayer(32, 2, nnx.SoftMax(), nnx.SGD(0.1)),
    ]
    return nnx.SequentialNet(6, layers, nnx.CrossEntropy())


def test_a_network_with_both_trains_and_is_still_in_evaluation(backend):
    net = network()
    history = net.train(X, Y, 10, 15, progress=False)
    score = net.score(X, Y)
    assert score.accuracy > 0.95
    assert history.loss[-1] < 0.5 * history.loss[0]
    outputs = [backend.to_numpy(net.evaluate(X)) for _ in range(2)]
    np.testing.assert_array_equal(*outputs)
    disturbed = [backend.to_numpy(net.evaluate(X, training=True)) for _ in range(2)]
    assert np.max(np.abs(disturbed[0] - disturbed[1])) > 0.01
    assert np.max(np.abs(disturbed[0] - outputs[0])) > 0.01
    # one seed, one training, and masks do not change the order of the batches
    assert network().train(X, Y, 10, 15, progress=False).loss == history.loss


def test_backends_train_the_same_network():
    check_backends(network, dtypes=("float32",), steps=30)


def test_the_gradients_of_a_whole_network_in_training():
    check_gradients(network(), X[:7], y=Y[:7], autodiff=())


def test_a_dropout_layer_leaves_weights_and_batches_of_the_others_as_they_were(backend):
    seen = []

    class Watch(nnx.Layer):
        traceable = False

        def forward(self, x, training=False):
            seen.append(backend.to_numpy(x))
            return x, lambda delta: (delta, {})

        def output_shape(self, input_shape):
            return input_shape

    weights = []
    for between in ([], [nnx.DropoutLayer(0.5)]):
        nnx.seed(5)
        layers = [Watch(), *between, nnx.DenseLayer(6, 2, nnx.SoftMax(), nnx.SGD(0.0))]
        net = nnx.SequentialNet(6, layers, nnx.CrossEntropy())
        net.train(X, Y, 50, 2, progress=False)
        weights.append(backend.to_numpy(net.layers[-1].W))
    np.testing.assert_array_equal(seen[: len(seen) // 2], seen[len(seen) // 2 :])
    np.testing.assert_array_equal(*weights)


# ---------------------------------------------------------------- host, device, compiler


@both
def test_a_compiler_can_trace_it_with_the_random_numbers_as_inputs(make):
    usable("jax")
    with nnx.use_backend("jax") as backend:
        layer, x = make(), backend.asarray(X)
        drawn = []

        def recording(draw, like):
            drawn.append(draw(np.random.default_rng(1)))
            return backend.from_numpy(drawn[-1])

        def step(numbers, x):
            with noise_from(lambda draw, like: numbers):
                y, backward = layer.forward(x, training=True)
            return y, backward(x)[0]

        with noise_from(recording):
            expected = layer.forward(x, training=True)[0]
        assert drawn[0].dtype == (bool if make is DROPOUT else "float32")
        for other in (drawn[0], np.zeros_like(drawn[0])):
            numbers = backend.from_numpy(other)
            y, dx = compile_on(backend, step)(numbers, x)
            for ours, theirs in zip((y, dx), step(numbers, x)):
                np.testing.assert_allclose(backend.to_numpy(ours), backend.to_numpy(theirs))
            if other is drawn[0]:
                np.testing.assert_allclose(backend.to_numpy(y), backend.to_numpy(expected))


# ---------------------------------------------------------------- what is refused


def test_shapes_pass_through_and_representations_make_the_layer_again():
    for layer in (DROPOUT(), GAUSSIAN()):
        assert layer.output_shape((3, 4, 5)) == (3, 4, 5)
        assert repr(eval(repr(layer), vars(nnx))) == repr(layer)
    assert nnx.DropoutLayer(name="first").name == "first"
