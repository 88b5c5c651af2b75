"""What a network remembers between predictions: that it takes a shape, until something changes."""

import gc
import pickle
import weakref

import numpy as np
import pytest

import nnx

FEATURES = 6
X = np.random.default_rng(0).integers(0, 4, (8, FEATURES), dtype="uint8")


def replaced(net):
    net.layers[0] = nnx.DenseLayer(FEATURES + 1, 8)


def inside(net):
    net.layers[0].layers[0] = nnx.DenseLayer(FEATURES + 1, 8)


def one_more(net):
    net.layers.append(nnx.DenseLayer(4, 3))


def other_layers(net):
    net.layers = [nnx.FlattenLayer(), nnx.DenseLayer(FEATURES, 2, nnx.SoftMax())]


def other_shape(net):
    net.input_shape = (None, FEATURES)


def of_tokens(net):
    net.layers[0] = nnx.EmbeddingLayer(4, 2)
    net.layers[1:] = [nnx.FlattenLayer()]


def stepped(net):
    net.train(X, np.arange(len(X)) % 3, 4, 1, progress=False)


def frozen(net):
    net.layers[1].frozen = True


def copied(net):
    return pickle.loads(pickle.dumps(net))


def network():
    block = nnx.SequentialLayer([nnx.DenseLayer(FEATURES, 8)])
    last = nnx.DenseLayer(8, 3, nnx.SoftMax())
    return nnx.SequentialNet(FEATURES, [block, last], nnx.CrossEntropy())


@pytest.mark.parametrize(
    "change",
    [replaced, inside, one_more, other_layers, other_shape, of_tokens, stepped, frozen, copied],
)
def test_what_a_network_has_predicted_hides_no_change(change):
    """The same answer or the same error as that of a network that has not predicted before."""
    told = []
    for before in (True, False):
        with nnx.use_backend("numpy"):
            nnx.seed(1)
            net = network()
            if before:
                net.predict(X[:2].astype("float32"))
            net = change(net) or net
            try:
                told.append(net.predict(X[:2].astype("float32")).tolist())
            except Exception as error:
                told.append((type(error), str(error)))
    assert told[0] == told[1]


UNFIT = {
    "features": np.zeros((2, FEATURES + 1), "float32"),
    "axes": np.zeros((2, 1, FEATURES), "float32"),
    "no samples": np.zeros((0, FEATURES), "float32"),
    "complex": np.zeros((2, FEATURES), "complex64"),
    "objects": np.full((2, FEATURES), None),
    "too large": np.full((2, FEATURES), 1e300),
    "NaN": np.full((2, FEATURES), np.nan, "float32"),
    "infinity": np.full((2, FEATURES), np.inf, "float32"),
    "masked": np.ma.masked_equal(np.zeros((2, FEATURES), "float32"), 0),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_known_shape_is_no_known_array(case):
    told = []
    for before in (True, False):
        with nnx.use_backend("numpy"):
            net = network()
            if before:
                net.predict(np.zeros((2, FEATURES), "float32"))
            with pytest.raises((TypeError, ValueError)) as caught:
                net.predict(UNFIT[case])
            told.append((caught.type, str(caught.value)))
    assert told[0] == told[1]


def test_a_network_that_has_predicted_goes_when_its_last_name_does():
    with nnx.use_backend("numpy"):
        net = network()
        net.predict(X[:1])
        gone = weakref.ref(net)
        gc.disable()
        try:
            del net
            assert gone() is None
        finally:
            gc.enable()
