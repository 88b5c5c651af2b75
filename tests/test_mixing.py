"""Mixing of samples in a training: the rule, what a step sees, one order of draws everywhere."""

import numpy as np
import pytest

import nnx
from nnx.data import sources
from nnx.randomness import PURPOSES, noise, noise_from
from nnx.training import Callback, Checkpoint

SAMPLES, FEATURES, BATCH = 22, 4, 8
X = np.random.default_rng(0).standard_normal((SAMPLES, FEATURES)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, SAMPLES)
WEIGHTS = np.random.default_rng(2).random(SAMPLES).astype("float32")


def network(*layers, cost=None):
    nnx.seed(3)
    layers = [nnx.DenseLayer(FEATURES, 5, nnx.TanH()), *layers, nnx.DenseLayer(5, 3, nnx.SoftMax())]
    return nnx.SequentialNet(
        FEATURES, layers, cost or nnx.CrossEntropy(), nnx.SGD(0.1, momentum=0.9)
    )


def numbers(net):
    return np.concatenate([nnx.to_numpy(p).reshape(-1) for p in net.parameters.values()])


def trained(x=X, y=Y, net=None, mixing=None, **options):
    """The parameters after two epochs, and the History."""
    net = net or network(nnx.DropoutLayer(0.3))
    size = {} if y is None else {"batch_size": BATCH}
    mixing = mixing or nnx.MixUp(0.4)
    history = net.train(x, y, epochs=2, mixing=mixing, progress=False, **size, **options)
    return numbers(net), history


def swap(x, y, *weights):
    """A rule of one's own: features 2 and 3 come from the sample before, and half of the target."""
    xp = nnx.array_namespace(x)
    before = lambda array: xp.concat([array[-1:, ...], array[:-1, ...]], axis=0)
    return xp.concat([x[:, :2], before(x)[:, 2:]], axis=1), 0.5 * y + 0.5 * before(y), *weights


def noisy(x, y):
    """It draws for every sample."""
    return x + noise(lambda rng: rng.random((x.shape[0], FEATURES)), x), y


def batches_of(x=X, y=Y, size=BATCH):
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


def test_a_step_of_numpy(backend):
    """p <- p - eta g of softmax regression, with samples that are mixed by the paper's formula."""
    nnx.seed(25)
    layer = nnx.DenseLayer(FEATURES, 3, nnx.SoftMax())
    net = nnx.SequentialNet(FEATURES, [layer], nnx.CrossEntropy(), nnx.SGD(0.5))
    W, b = (nnx.to_numpy(p).astype("float64") for p in net.parameters.values())
    stream = np.random.SeedSequence(25, spawn_key=(PURPOSES.index("dropout"),))
    share = np.random.Generator(np.random.PCG64(stream)).beta(0.4, 0.4)
    history = net.train(X, Y, SAMPLES, mixing=nnx.MixUp(0.4), shuffle=False, progress=False)

    rows = np.eye(3)[Y]
    x, y = (share * a + (1 - share) * np.roll(a, 1, axis=0) for a in (X.astype("float64"), rows))
    assert 0.05 < share < 0.95
    z = x @ W.T + b
    a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss, right = -(y * np.log(a)).sum(axis=1).mean(), (a.argmax(axis=1) == y.argmax(axis=1)).mean()
    dz = (a - y) / SAMPLES
    for found, expected in zip(net.parameters.values(), (W - 0.5 * dz.T @ x, b - 0.5 * dz.sum(0))):
        np.testing.assert_allclose(nnx.to_numpy(found), expected, rtol=2e-5, atol=1e-6)
    assert history.loss == pytest.approx([loss], rel=1e-5)
    assert history.accuracy == [pytest.approx(right)]


def test_weights_by_hand(backend):
    """A target counts by the weight of its sample: 0.75 * 2 and 0.25 * 2 of the first and third."""
    arrays = [[[1.0], [2.0], [4.0]], [[1.0, 0], [0, 1], [1, 0]], [2.0, 0.0, 2.0]]
    with noise_from(lambda draw, like: backend.asarray([0.75])):
        x, y, w = (nnx.to_numpy(a) for a in nnx.MixUp()(*map(backend.asarray, arrays)))
    np.testing.assert_array_equal(x, [[1.75], [1.75], [3.5]])
    np.testing.assert_array_equal(y, [[1, 0], [1, 0], [1, 0]])
    np.testing.assert_array_equal(w, [2, 0.5, 1.5])
    time = [[[[1.0]], [[3.0]]], [[[0.0, 1]], [[1, 0]]], [[0.0], [0.0]]]  # (samples, time, ...)
    with noise_from(lambda draw, like: backend.asarray([0.75])):
        _, y, w = (nnx.to_numpy(a) for a in nnx.MixUp()(*map(backend.asarray, time)))
    np.testing.assert_array_equal(y, [[[0.25, 0.75]], [[0.75, 0.25]]])
    np.testing.assert_array_equal(w, [[0], [0]])


def test_weights_give_the_gradient_of_the_mean_of_both_losses(backend64):
    """l w loss(a, y) + (1 - l) w' loss(a, y'), for a loss that is linear in y and for a square."""
    a, y, w = np.random.default_rng(4).random((3, 6, 3))
    w = w[:, 0]
    own, other = 0.3 * w, 0.7 * np.roll(w, 1)
    for cost in (nnx.CrossEntropy(), nnx.QuadraticCost()):
        with noise_from(lambda draw, like: backend64.asarray([0.3])):
            _, rows, new = nnx.MixUp()(*map(backend64.asarray, (a, y, w)))
        found = nnx.to_numpy(cost.gradient(backend64.asarray(a), rows, new))
        with nnx.use_backend("numpy", "float64"):
            parts = cost.gradient(a, y, own), cost.gradient(a, np.roll(y, 1, axis=0), other)
        np.testing.assert_allclose(found, sum(parts), rtol=1e-12)


@pytest.mark.parametrize("rule", [nnx.MixUp(0.4), swap, noisy], ids=["MixUp", "own", "draws"])
def test_steps_are_those_of_numpy_compiled_or_not(rule, backend):
    """And the stream of the noise stands in the same place afterwards."""
    p, history = trained(mixing=rule)
    streams = nnx.randomness.state()["running"]
    with nnx.use_backend("numpy", backend.dtype_name):
        expected, of_numpy = trained(mixing=rule)
    np.testing.assert_allclose(p, expected, rtol=1e-4, atol=1e-5)
    assert history.loss == pytest.approx(of_numpy.loss, rel=1e-5)
    assert history.accuracy == pytest.approx(of_numpy.accuracy)
    assert nnx.randomness.state()["running"] == streams


def test_a_loop_is_compiled_once_for_each_rule():
    pytest.importorskip("jax")
    with nnx.use_backend("jax"):
        net = network()
        trained(net=net)
        loops = net._plan._compiled
        trained(net=net)
        assert net._plan._compiled == loops
        assert len(loops) == 1
        assert net.plan().compiled(nnx.MixUp(0.5)) is not loops[0]
        assert net.plan().compiled() is not loops[0]


def test_a_rule_that_reads_values_where_steps_are_compiled_is_told_what_to_do():
    pytest.importorskip("jax")

    def reading(x, y):
        return (x, y) if float(x[0, 0]) > 0 else (-x, y)

    with nnx.use_backend("jax"):
        with pytest.raises(
            nnx.backend.HostReadError, match=r"mixing to be .* that reads no values"
        ):
            trained(mixing=reading)
        reading.traceable = False
        p, _ = trained(mixing=reading)
    with nnx.use_backend("numpy", "float32"):
        expected, _ = trained(mixing=reading)
    np.testing.assert_allclose(p, expected, rtol=1e-4, atol=1e-5)


class Stop(Callback):
    interval = 2  # that of the checkpoints: where compiled loops end decides last bits of the loss

    def __init__(self, batch):
        self.batch = batch

    def after_batches(self, run):
        if run.batches == self.batch and run.epoch == 1:
            run.interrupt()


def memmap(folder):
    X.tofile(folder / "x.bin")
    return np.memmap(folder / "x.bin", X.dtype, "r", shape=X.shape), Y


FORMS = {
    "memory": lambda folder: (X, Y),
    "weights": lambda folder: (X, Y),
    "disk": memmap,
    "batches": lambda folder: (batches_of, None),
}
OPTIONS = {"weights": {"sample_weights": WEIGHTS}, "disk": {"on_device": False}}


@pytest.mark.parametrize("form", FORMS)
def test_a_resume_in_the_middle_of_an_epoch(form, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 2 * BATCH * FEATURES * 4)
    with nnx.use_backend("numpy"):
        data, options = FORMS[form](tmp_path), OPTIONS.get(form, {})
        expected, history = trained(*data, **options)
        path = tmp_path / "run.safetensors"
        trained(*data, callbacks=[Stop(2), Checkpoint(path, every=9)], **options)
        found, resumed = trained(*data, resume=path, **options)
    assert (found == expected).all()
    assert resumed.loss == history.loss
    assert resumed.accuracy == history.accuracy


def test_a_resume_on_every_backend(backend, tmp_path):
    """Compiled loops end where a checkpoint is due, in both."""
    path, every = tmp_path / "run.safetensors", {"every_batches": 2}
    expected, history = trained(callbacks=[Checkpoint(tmp_path / "whole", **every)])
    trained(callbacks=[Stop(2), Checkpoint(path, **every)])
    found, resumed = trained(resume=path, callbacks=[Checkpoint(path, **every)])
    np.testing.assert_array_equal(found, expected)
    assert resumed.loss == history.loss


def test_another_rule_is_another_run(tmp_path):
    path = tmp_path / "run.safetensors"
    with nnx.use_backend("numpy"):
        trained(callbacks=[Stop(2), Checkpoint(path)])
        for rule, words in ((nnx.MixUp(0.3), r"MixUp\(alpha=0.3\)"), (swap, "swap")):
            with pytest.raises(ValueError, match=rf"mixing.*{words}"):
                trained(resume=path, mixing=rule)


def test_data_that_is_read_in_blocks(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 2 * BATCH * FEATURES * 4)
    net = network(nnx.DropoutLayer(0.3))
    first = numbers(net)

    def again(*data, **options):
        for path, p in nnx_parameters(net, first):
            net.layers[path[0]].parameters[path[1]] = backend.asarray(p)
        net.optim = nnx.SGD(0.1)
        nnx.seed(5)
        return trained(*data, net=net, **options)

    expected, history = again(X, Y)
    found, other = again(*memmap(tmp_path), on_device=False)
    np.testing.assert_array_equal(found, expected)
    assert other.accuracy == history.accuracy
    expected, _ = again(X, Y, shuffle=False)
    found, _ = again(batches_of, None)
    np.testing.assert_array_equal(found, expected)


def nnx_parameters(net, flat):
    """Places of parameters, and their parts of a flat array."""
    start = 0
    for i, layer in enumerate(net.layers):
        for name, p in layer.parameters.items():
            size = int(np.prod(p.shape))
            yield (i, name), flat[start : start + size].reshape(tuple(p.shape))
            start += size


def test_validation_is_never_mixed():
    with nnx.use_backend("numpy"):
        net = network()
        _, history = trained(net=net, mixing=swap, validation=(X, Y), metrics=["f1"])
        scored = net.score(X, Y)
        assert history.validation_loss[-1] == pytest.approx(scored.loss)
        assert history.validation_accuracy[-1] == scored.accuracy
        assert 0 < history["f1"][-1] <= 1


def test_targets_that_are_numbers_are_mixed_as_they_are():
    with nnx.use_backend("numpy", "float64"):
        nnx.seed(0)
        net = nnx.SequentialNet(FEATURES, [nnx.DenseLayer(FEATURES, 2, nnx.Linear(), nnx.SGD(0.1))])
        W, b = (np.array(p) for p in net.parameters.values())
        x, y = X.astype("float64"), X[:, :2].astype("float64")
        net.train(x, y, SAMPLES, mixing=swap, shuffle=False, progress=False)
        x = np.concatenate([x[:, :2], np.roll(x, 1, axis=0)[:, 2:]], axis=1)
        d = (x @ W.T + b - 0.5 * (y + np.roll(y, 1, axis=0))) / SAMPLES
        slope = nnx.QuadraticCost().gradient(np.ones((1, 1)), np.zeros((1, 1)))[0, 0]
        np.testing.assert_allclose(net.parameters["0.W"], W - 0.1 * slope * d.T @ x, rtol=1e-10)


def test_labels_of_time_steps_and_labels_that_do_not_count():
    """Rows of 7 classes are larger than an input: they are made of the indices of a batch."""
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((4 + i % 2, 2)) for i in range(12)]
    y = [rng.integers(-1, 7, len(one)) for one in x]
    rows = [np.where(one[:, None] < 0, 0.0, np.eye(7)[one]) for one in y]
    weights = [(one >= 0) * (sum(map(len, y)) / sum((o >= 0).sum() for o in y)) for one in y]
    found = []
    with nnx.use_backend("numpy", "float64"):
        for targets, options in ((y, {"ignore_label": -1}), (rows, {"sample_weights": weights})):
            nnx.seed(2)
            layers = [
                nnx.GRULayer(2, 3, return_sequences=True),
                nnx.DenseLayer(3, 7, nnx.SoftMax()),
            ]
            net = nnx.SequentialNet((None, 2), layers, cost=nnx.CrossEntropy())
            if options.get("sample_weights"):
                layers[1].afun = nnx.Linear()
                net.cost = nnx.SoftMaxCrossEntropy()
                targets = [np.where(one.sum(1, keepdims=True) > 0, one, 1 / 7) for one in rows]
            history = net.train(x, targets, 4, 2, mixing=nnx.MixUp(), progress=False, **options)
            found.append((numbers(net), history.loss))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-10)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-10)


def embedding():
    layers = [nnx.EmbeddingLayer(9, 2), nnx.FlattenLayer(), nnx.DenseLayer(8, 3, nnx.SoftMax())]
    return nnx.SequentialNet(FEATURES, layers, nnx.CrossEntropy())


MIX = "expected mixing to be a function of a batch"
MISTAKES = {
    "a number": (0.2, network, X, TypeError, rf"{MIX}, got 0.2; write mixing=nnx.MixUp\(0.2\)"),
    "a class": (nnx.MixUp, network, X, TypeError, r"write mixing=MixUp\(\)"),
    "nothing": (lambda x, y: None, network, X, TypeError, "got NoneType; write return x, y"),
    "one": (lambda x, y: [x], network, X, TypeError, "got 1 items; write return x, y"),
    "fewer": (
        lambda x, y: (x[1:], y),
        network,
        X,
        nnx.ShapeError,
        r"x \(8, 4\) and float32, got shape \(7, 4\)",
    ),
    "dtype": (
        lambda x, y: (x, y.astype("float64")),
        network,
        X,
        nnx.ShapeError,
        r"y \(8, 3\) and float32, got shape \(8, 3\) and float64; return as many samples",
    ),
    "tokens": (nnx.MixUp(), embedding, X.astype(int) % 9, ValueError, "expected tokens, integers"),
    "a loss of classes": (
        nnx.MixUp(),
        lambda: network(cost=nnx.Hinge()),
        X,
        ValueError,
        "Hinge expects target rows with a single 1",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_rule_that_does_not_fit_is_refused_before_the_first_step(case):
    rule, make, x, kind, words = MISTAKES[case]
    with nnx.use_backend("numpy"):
        net = make()
        before, streams = numbers(net), nnx.randomness.state()
        with pytest.raises(kind, match=words) as caught:
            net.train(x, Y, BATCH, mixing=rule, progress=False)
        notes = getattr(caught.value, "__notes__", [])
        assert case in ("a number", "a class") or "raised by mixing=" in notes[0]
        assert (numbers(net) == before).all()
        assert nnx.randomness.state() == streams


def test_nothing_is_read_and_little_is_launched_on_cupy(record_property):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    with nnx.use_backend("cupy"):
        found = {}
        for rule in (None, nnx.MixUp(0.4)):
            net = network()
            options = {"progress": False, "mixing": rule, "shuffle": False}
            net.train(X[:16], Y[:16], BATCH, **options)
            for epochs in (1, 2):
                counters.reset()
                net.train(X[:16], Y[:16], BATCH, epochs, **options)
                found[rule is None, epochs] = dict(counters.stats())
    of_epochs = [
        {
            name: found[plain, 2].get(name, 0) - found[plain, 1].get(name, 0)
            for name in found[plain, 2]
        }
        for plain in (True, False)
    ]
    record_property("counted", of_epochs)
    print(of_epochs)
    plain, mixed = of_epochs
    assert mixed["d2h"] == plain["d2h"]
    assert mixed["h2d"] == plain.get("h2d", 0) + 2  # a number for each of two steps
    assert mixed["launches"] - plain["launches"] <= 2 * 24
