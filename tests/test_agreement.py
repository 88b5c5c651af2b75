"""The same seed gives the same network and the same training, whatever the backend."""

import hashlib

import numpy as np

import nnx

RNG = np.random.default_rng(0)
X = RNG.random((2000, 50)).astype(np.float32)
Y = np.argmax(X[:, :10] + 0.1 * RNG.standard_normal((2000, 10)), axis=1)
STEPS = 200


class Recorder(nnx.Layer):
    """Passes its input through and keeps a copy of what training shows it."""

    traceable = False

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, training=False):
        if training:
            self.seen.append(self.backend.to_numpy(x).copy())
        return x, lambda delta: (delta, {})

    def output_shape(self, input_shape):
        return input_shape


def build(recorder=None):
    nnx.seed(2026)
    layers = [
        nnx.DenseLayer(50, 30, nnx.ReLU(), nnx.SGD(0.05)),
        nnx.DenseLayer(30, 10, nnx.SoftMax(), nnx.SGD(0.05, momentum=0.5)),
    ]
    return nnx.SequentialNet(50, [recorder, *layers] if recorder else layers, nnx.CrossEntropy())


def weights_and_batches():
    recorder = Recorder()
    net = build(recorder)
    weights = b"".join(
        net.backend.to_numpy(p).tobytes() for layer in net.layers for p in layer.parameters.values()
    )
    net.train(X[:300], Y[:300], 10, 2, progress=False)
    return hashlib.sha256(weights).hexdigest(), np.concatenate(recorder.seen).tobytes()


class Losses(nnx.Callback):
    """Keeps the loss of some samples before the first step and after each."""

    interval = 1

    def begin(self, run):
        self.x, self.y = run.net.backend.asarray(X[:50]), run.net.backend.asarray(Y[:50])
        self.found = []
        self.after_batches(run)

    def after_batches(self, run):
        self.found.append(run.net.cost.value(run.net.forward(self.x)[0], self.y))


def losses():
    """The losses of the first steps of a training."""
    net, kept = build(), Losses()
    net.train(X, Y, 10, 1, callbacks=[kept], progress=False)
    return np.array([float(net.backend.to_numpy(loss)) for loss in kept.found])


def test_initial_weights_and_batches_are_bit_for_bit_those_of_numpy(backend):
    with nnx.use_backend("numpy"):
        expected = weights_and_batches()
    assert weights_and_batches() == expected


def test_the_first_200_losses_are_those_of_numpy_in_float32(backend):
    with nnx.use_backend("numpy"):
        expected = losses()
    assert len(expected) == 1 + STEPS
    assert expected[-1] < 0.9 * expected[0]
    np.testing.assert_allclose(losses(), expected, rtol=1e-4)


def test_the_first_200_losses_are_those_of_numpy_in_float64(backend64):
    with nnx.use_backend("numpy", dtype="float64"):
        expected = losses()
    np.testing.assert_allclose(losses(), expected, rtol=1e-10)


def test_another_seed_is_another_network():
    with nnx.use_backend("numpy"):
        first = build().layers[0].W
        nnx.seed(2027)
        assert not np.array_equal(first, nnx.DenseLayer(50, 30).W)
