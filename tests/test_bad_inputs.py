"""Bad inputs: each error says what was expected, what came, and what to do."""

from functools import partial

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.backend import BackendError, resolve
from nnx.checks import count
from nnx.data import checked_rng, checked_validation
from nnx.layers import ShapeError
from nnx.training.callbacks import as_callbacks

X = np.random.default_rng(0).random((30, 4)).astype(np.float32)
Y = np.arange(30) % 3


def net(cost=None, **options):
    layers = [nnx.DenseLayer(4, 5), nnx.DenseLayer(5, 3, nnx.SoftMax())]
    return nnx.SequentialNet(4, layers, cost or nnx.CrossEntropy(), **options)


def train(x=X, y=Y, batch_size=10, epochs=1, **options):
    return net().train(x, y, batch_size, epochs, progress=False, **options)


def with_nan():
    x = X.copy()
    x[3, 1] = np.nan
    return x


def mixed_layers():
    with nnx.use_backend("numpy", dtype="float64"):
        second = nnx.DenseLayer(5, 3)
    return nnx.SequentialNet(4, [nnx.DenseLayer(4, 5), second])


# what is done; the kind of error; what was expected, what came, what to do (in any order)
CASES = {
    "images not flattened": (
        lambda: train(x=X.reshape(30, 2, 2)),
        ShapeError,
        [r"\(samples, 4\)", r"\(30, 2, 2\)", r"x\.reshape\(len\(x\), 4\)"],
    ),
    "too few features": (
        lambda: train(x=X[:, :3]),
        ShapeError,
        [r"\(samples, 4\)", r"\(30, 3\)", "or make it anew: SequentialNet\\(3, ...\\)"],
    ),
    "a single sample": (
        lambda: net().evaluate(X[0]),
        ShapeError,
        [r"\(samples, 4\)", r"\(4,\)", r"x\[None\]"],
    ),
    "a number": (lambda: net().predict(1.0), ShapeError, [r"\(samples, 4\)", r"\(\)", "row"]),
    "empty data": (lambda: train(x=X[:0], y=Y[:0]), ShapeError, ["no samples", "selection"]),
    "words for data": (
        lambda: train(x=np.array([["a", "b", "c", "d"]])),
        TypeError,
        ["real numbers", "<U1", "get_dummies"],
    ),
    "complex data": (
        lambda: net().evaluate(X * 1j),
        TypeError,
        ["real numbers", "complex64", r"numpy\.real\(x\)"],
    ),
    "ragged data": (
        lambda: net().evaluate([[1, 2], [3]]),
        ValueError,
        ["rows of one length", "a list", "zip_longest"],
    ),
    "None for data": (lambda: net().evaluate(None), TypeError, ["real numbers", "got None"]),
    "NaN in the data": (lambda: train(x=with_nan()), ValueError, ["finite", "NaN", "isfinite"]),
    "infinity in the targets": (
        lambda: net(nnx.QuadraticCost()).train(X, np.full((30, 3), np.inf), progress=False),
        ValueError,
        ["finite numbers in y", "infinity", "isfinite"],
    ),
    "float64 data too large for float32": (
        lambda: train(x=np.full((30, 4), 1e300)),
        ValueError,
        ["float32", r"1e\+300", "scale them"],
    ),
    "fewer targets than inputs": (
        lambda: train(y=Y[:-1]),
        ShapeError,
        ["as many samples in y as in x", "29 and 30; pass one target for each"],
    ),
    "labels out of range": (
        lambda: train(y=Y + 1),
        ValueError,
        ["from 0 to 2", "1 to 3", "4 outputs"],
    ),
    "negative labels": (lambda: train(y=-Y), ValueError, ["from 0 to 2", "-2 to 0", "from 0"]),
    "labels as floats": (
        lambda: train(y=Y.astype(float)),
        TypeError,
        ["integer class indices", "float64", r"y\.astype\(int\)"],
    ),
    "rows of the wrong width": (
        lambda: train(y=np.eye(4)[Y]),
        ShapeError,
        [r"\(samples, 3\)", r"\(30, 4\)"],
    ),
    "rows that are no distributions": (
        lambda: train(y=np.eye(3)[Y] * 2 - 0.5),
        ValueError,
        ["distributions", "-0.5", "QuadraticCost"],
    ),
    "batch of nothing": (lambda: train(batch_size=0), ValueError, ["positive", "got 0"]),
    "half a batch": (lambda: train(batch_size=2.5), TypeError, ["positive integer", "2.5"]),
    "predicting in batches of nothing": (
        lambda: net().predict(X, 0),
        ValueError,
        ["batch_size", "positive integer", "got 0"],
    ),
    "negative epochs": (lambda: train(epochs=-1), ValueError, ["epochs", ">= 0", "-1"]),
    "too few sample weights": (
        lambda: train(sample_weights=np.ones(29)),
        ShapeError,
        ["sample_weights", r"\(30,\)", r"\(29,\)"],
    ),
    "negative sample weights": (
        lambda: train(sample_weights=np.arange(-1, 29)),
        ValueError,
        ["sample_weights >= 0", r"\[0\] = -1", r"numpy\.maximum"],
    ),
    "validation of another shape": (
        lambda: train(validation=(X[:, :2], Y)),
        ShapeError,
        [r"\(samples, 4\)", r"\(30, 2\)"],
    ),
    "unknown backend": (
        lambda: nnx.set_backend("numpie"),
        BackendError,
        ["unknown backend 'numpie'", "known are", "'numpy'"],
    ),
    "unknown dtype": (
        lambda: nnx.set_backend("numpy", dtype="float8"),
        BackendError,
        ["'float8'", "float32", "nnx.set_backend"],
    ),
    "layers of two backends": (
        mixed_layers,
        BackendError,
        ["DenseLayer was born", "float32", "float64", "one nnx.set_backend"],
    ),
    "layers that do not fit": (
        lambda: nnx.SequentialNet(4, [nnx.DenseLayer(4, 5), nnx.DenseLayer(6, 3)]),
        ShapeError,
        [r"layer 2 \(DenseLayer\)", r"\(6,\)", r"layer 1 \(DenseLayer\) gives \(5,\)"],
    ),
    "first layer that does not fit": (
        lambda: nnx.SequentialNet(8, [nnx.DenseLayer(4, 5)]),
        ShapeError,
        [r"takes input of shape \(4,\)", r"the network's input is \(8,\)"],
    ),
    "no layers": (lambda: nnx.SequentialNet(4, []), ValueError, ["at least one layer"]),
    "an activation among the layers": (
        lambda: nnx.SequentialNet(4, [nnx.DenseLayer(4, 4), nnx.ReLU()]),
        TypeError,
        ["layer 2", "ReLU"],
    ),
    "a network with an optimizer as a layer": (
        lambda: nnx.SequentialNet(
            4, [nnx.SequentialNet(4, [nnx.DenseLayer(4, 4)], optim=nnx.SGD())]
        ),
        ValueError,
        ["inside of another one", "optimizer", "outermost network"],
    ),
    "a block that changes the shape": (
        lambda: nnx.SequentialNet(4, [nnx.ResidualLayer([nnx.DenseLayer(4, 3)])]),
        nnx.ShapeError,
        ["layer 1", "adds its input", r"expected \(4,\), got \(3,\)", "as many outputs"],
    ),
    "branches that do not add up": (
        lambda: nnx.SequentialNet(
            4, [nnx.ParallelLayer([nnx.DenseLayer(4, 3), nnx.DenseLayer(4, 2)], "sum")]
        ),
        nnx.ShapeError,
        ["layer 1", "one shape", r"\(3,\), \(2,\)"],
    ),
    "probabilities that are none": (
        lambda: nnx.SequentialNet(4, [nnx.DenseLayer(4, 3)], nnx.CrossEntropy()),
        ValueError,
        ["CrossEntropy", "sum to 1", r"ReLU\(\)", r"give the last layer SoftMax\(\)"],
    ),
    "a softmax twice": (
        lambda: nnx.SequentialNet(
            4, [nnx.DenseLayer(4, 3, nnx.SoftMax())], nnx.SoftMaxCrossEntropy()
        ),
        ValueError,
        ["expected logits", r"Linear\(\)", r"CrossEntropy\(\)"],
    ),
    "channels last": (
        lambda: nnx.SequentialNet((3, 5, 4), [nnx.FlattenLayer()]).predict(np.zeros((2, 5, 4, 3))),
        nnx.ShapeError,
        ["channels come first", r"numpy.transpose\(x, \(0, 3, 1, 2\)\)"],
    ),
    "a forgotten FlattenLayer": (
        lambda: nnx.SequentialNet((1, 6, 6), [nnx.Conv2DLayer(1, 2, 3), nnx.DenseLayer(16, 3)]),
        nnx.ShapeError,
        [r"put FlattenLayer\(\) before it", "32 inputs"],
    ),
    "negative classes": (
        lambda: nnx.SequentialNet(4, [nnx.DenseLayer(4, 3)]).train(np.zeros((2, 4)), [-1, 0]),
        ValueError,
        [r"got -1 to 0.* y\[0\] = -1", "number the classes from 0"],
    ),
    "softmax over the width": (
        lambda: nnx.Conv2DLayer(1, 3, 3, nnx.SoftMax()),
        ValueError,
        ["last axis", r"PermuteLayer\(\(2, 3, 1\)\)"],
    ),
    "layers that are no list": (
        lambda: nnx.ResidualLayer(nnx.DenseLayer(4, 4), nnx.DenseLayer(4, 4)),
        TypeError,
        ["name to be text or None", "as one list"],
    ),
    "an optimizer class": (
        lambda: nnx.SequentialNet(4, [nnx.DenseLayer(4, 3)], optim=nnx.Adam),
        TypeError,
        [r"expected optim to be .* such as Adam\(\)", r"write Adam\(\)"],
    ),
    "a size that is not known": (
        lambda: nnx.SequentialNet(None, [nnx.DenseLayer(4, 3)]),
        ValueError,
        [r"784 or \(1, 28, 28\)", "None"],
    ),
    "an unknown merge": (
        lambda: nnx.ParallelLayer([nnx.DenseLayer(4, 3)], "product"),
        ValueError,
        ["expected merge to be one of 'sum', 'concat'", "product"],
    ),
    "negative learning rate": (
        lambda: nnx.SGD(-0.1),
        ValueError,
        ["SGD: expected eta", ">= 0", "-0.1"],
    ),
    "learning rate NaN": (lambda: nnx.SGD(float("nan")), ValueError, ["eta", ">= 0", "nan"]),
    "negative momentum": (
        lambda: nnx.SGD(0.1, -0.9),
        ValueError,
        ["momentum", r"\[0, 1\)", "-0.9"],
    ),
    "backprop before evaluate": (
        lambda: net().backprop(np.ones((1, 3))),
        RuntimeError,
        [r"call evaluate\(x\) first"],
    ),
    "unknown dataset": (
        lambda: nnx.datasets.load("minst"),
        ValueError,
        ["'minst'", "fashion-mnist", "'mnist'"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_is_an_error_that_tells_what_to_do(name):
    action, kind, words = CASES[name]
    with nnx.use_backend("numpy", dtype="float32"), pytest.raises(kind) as caught:
        action()
    for word in words:
        assert caught.match(word)


def test_arrays_of_two_backends_are_refused_by_the_network_and_by_the_layer():
    usable("torch")
    foreign = resolve("torch").asarray(X)
    with nnx.use_backend("numpy"):
        network = net()
    with pytest.raises(BackendError, match=r"backend 'numpy'.*torch Tensor\n.*to_numpy"):
        network.evaluate(foreign)
    with pytest.raises(BackendError, match=r"backend 'numpy'.*torch Tensor\n.*to_numpy"):
        network.train(X, resolve("torch").asarray(Y))
    with pytest.raises(BackendError, match=r"a torch Tensor and a numpy ndarray"):
        network.layers[0].forward(foreign)
    with nnx.use_backend("torch"):
        network = net()
    with pytest.raises(BackendError, match=r"a numpy ndarray and a torch Tensor"):
        network.layers[0].forward(X)


def test_labels_on_the_device_are_checked_too(backend):
    with pytest.raises(ValueError, match="from 0 to 2"):
        net().train(backend.asarray(X), backend.asarray(Y + 5), 10, 1, progress=False)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(nnx.datasets.DatasetError, match=r"mnist\.npz"):
        nnx.datasets.load("mnist", tmp_path)


def no_arguments():
    """A callback that takes none."""


class Stop:
    def __call__(self, net, history):
        return True


# argument: (wrong value, words of the error besides the argument's name)
WRONG = {
    "batch_size": [
        (0, ["positive", "got 0"]),
        (-5, ["got -5"]),
        (2.5, ["integer", "got 2.5"]),
        ("10", [r"int\('10'\)"]),
        (True, ["integer", "got True"]),
        (None, ["integer", "got None"]),
        ([10], [r"got \[10\]"]),
    ],
    "callbacks": [
        (print, ["list of functions", r"write callbacks=\[print\]"]),
        (None, ["list of functions", r"write callbacks=\[\]"]),
        ("stop", ["list of functions", "got 'stop'"]),
        ({"stop": print}, ["list of functions", "got {'stop'"]),
        ({print}, ["list of functions"]),
        (3, ["list of functions", "got 3"]),
        ([3], [r"callbacks\[0\]", r"\(net, history\)", "got 3"]),
        ([None], [r"callbacks\[0\]", "got None"]),
        ([Stop(), Stop], [r"callbacks\[1\]", r"write Stop\(\)"]),
        ([no_arguments], [r"no_arguments\(\)", r"def f\(net, history\)"]),
        ([lambda net: None], [r"<lambda>\(net\)", r"def f\(net, history\)"]),
    ],
    "rng": [
        (42, [r"write rng=numpy.random.default_rng\(42\)"]),
        (-1, [r"write rng=numpy.random.default_rng\(0\)"]),
        ("42", [r"got '42'", "default_rng"]),
        (np.random.RandomState(3), ["RandomState", "default_rng"]),
        (np.random, ["default_rng"]),
    ],
    "validation": [
        (True, ["got True", "write validation=0.2$"]),
        (0, ["got 0", "write validation=None$"]),
        (1, ["fraction in \\(0, 1\\)", "got 1", "write validation=0.2$"]),
        (20, ["got 20", "write validation=0.2$"]),
        (12.5, ["got 12.5", "write validation=0.125$"]),
        (-0.2, ["got -0.2", "write validation=0.2$"]),
        (np.nan, ["got nan", "write validation=0.2$"]),
        ("x", ["got 'x'"]),
        (X, ["got an ndarray"]),
        ({"x": X, "y": Y}, ["got a dict", r"write validation=\(x, y\)"]),
        (iter([X, Y]), ["got a list_iterator"]),
        ((), ["got 0 items: none"]),
        ((X,), ["got 1 items: an ndarray"]),
        ((X, Y, Y, Y), ["got 4 items"]),
    ],
}
# Checked by nnx.checks alone.
WRONG_TO_TRAIN = {
    "epochs": [
        (-1, [">= 0", "got -1"]),
        (1.5, ["integer", "got 1.5"]),
        ("3", [r"int\('3'\)"]),
        (True, ["integer", "got True"]),
        (None, ["got None"]),
    ],
    "progress": [(1, ["True or False", "got 1"]), ("no", ["'no'"]), (None, ["got None"])],
    "shuffle": [(0, ["True or False", "got 0"]), ("yes", ["'yes'"]), (None, ["got None"])],
    "sample_weights": [
        (3, [r"\(30,\)", r"got shape \(\)"]),
        ("balanced", ["got 'balanced'"]),
        ({0: 1.0, 1: 5.0}, ["got a dict", r"pass class_weights=\{class: weight\}"]),
        (-np.ones(30), [r"sample_weights\[0\] = -1"]),
        (np.full(30, np.nan), [r"sample_weights\[0\] = nan"]),
    ],
    "x": [(None, ["got None"]), ("data", ["got 'data'"]), (set(), ["order"])],
    "y": [(None, ["got None"]), ("data", ["got 'data'"]), ({0: 1}, ["got a dict"])],
}
CHECKS = {
    "batch_size": partial(count, "train", "batch_size"),
    "callbacks": as_callbacks,
    "rng": checked_rng,
    "validation": checked_validation,
}


def rows(table):
    return [
        # An address in the name would be another one in each process that runs the tests.
        pytest.param(argument, value, words, id=f"{argument}-{type(value).__name__}-{i}")
        for argument, wrong in table.items()
        for i, (value, words) in enumerate(wrong)
    ]


@pytest.mark.parametrize(("argument", "value", "words"), rows(WRONG))
def test_a_wrong_argument_is_named_with_its_value_and_the_remedy(argument, value, words):
    with pytest.raises((TypeError, ValueError), match=f"^train: expected {argument}") as caught:
        CHECKS[argument](value)
    for word in words:
        assert caught.match(word)


@pytest.mark.parametrize(("argument", "value", "words"), rows(WRONG | WRONG_TO_TRAIN))
def test_a_wrong_argument_of_train_trains_nothing(argument, value, words):
    with nnx.use_backend("numpy", dtype="float32"):
        network = net()
        before = [array.copy() for layer in network.layers for array in layer.parameters.values()]
        arguments = {"x": X, "y": Y, "batch_size": 10, "epochs": 1, "progress": False}
        with pytest.raises((TypeError, ValueError), match=rf"expected .*\b{argument}\b") as caught:
            network.train(**(arguments | {argument: value}))
        after = [array for layer in network.layers for array in layer.parameters.values()]
    for word in words:
        assert caught.match(word)
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", ["score", "predict"])
@pytest.mark.parametrize(
    ("argument", "value", "words"),
    rows({"batch_size": WRONG["batch_size"]} | {key: WRONG_TO_TRAIN[key] for key in "xy"}),
)
def test_a_wrong_argument_of_score_and_predict(method, argument, value, words):
    arguments = {"x": X, "y": Y, "batch_size": 10} | {argument: value}
    if method == "predict":
        if argument == "y":
            pytest.skip("predict takes no y")
        del arguments["y"]
    with (
        nnx.use_backend("numpy", dtype="float32"),
        pytest.raises((TypeError, ValueError), match=f"expected {argument}") as caught,
    ):
        getattr(net(), method)(**arguments)
    for word in words:
        assert caught.match(word)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_the_validation_is_checked_as_the_data_are_and_named(part):
    good = [X, Y, np.ones(30)]
    good[part] = {"a": 1}
    with (
        nnx.use_backend("numpy", dtype="float32"),
        pytest.raises(TypeError, match=rf"expected validation\[{part}\] .* got a dict"),
    ):
        train(validation=tuple(good))


def test_callbacks_may_come_from_an_iterator_and_need_not_be_functions():
    stop = Stop()
    for callbacks in ([stop], (stop,), iter([stop]), (one for one in [stop])):
        assert [callback.function for callback in as_callbacks(callbacks)] == [stop]
    assert as_callbacks([print, lambda *both: None, lambda net, history, more=1: None])
    assert as_callbacks(()) == ()


def test_right_arguments_are_returned():
    rng = np.random.default_rng(0)
    assert checked_rng(rng) is rng
    assert checked_rng(None) is None
    assert count("train", "batch_size", np.int64(10)) == 10
    assert checked_validation(None) is None
    assert checked_validation([X, Y]) == (X, Y)
    assert len(checked_validation((X, Y, Y))) == 3
    assert checked_validation(np.float32(0.25)) == 0.25
    for call, name in (
        (lambda: net().predict(X, 0), "predict: expected batch_size"),
        (lambda: net().score(X, Y, 0), "score: expected batch_size"),
        (lambda: train(batch_size=0), "train: expected batch_size"),
        (
            lambda: train(validation=0.5, validation_batch_size=0),
            "train: expected validation_batch_size",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{name}"):
            call()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("sign", [1, -1])
def test_large_numbers_are_finite(dtype, sign):
    """Their squares are not."""
    x = np.full((1, 4), sign * float(np.finfo(dtype).max) / 8, dtype)
    with nnx.use_backend("numpy", dtype="float64"):
        outputs = nnx.SequentialNet(4, [nnx.DenseLayer(4, 2, nnx.Linear())]).predict(x)
    assert np.all(np.isfinite(outputs))
