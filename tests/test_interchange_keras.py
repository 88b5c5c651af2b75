"""Weights from and to Keras: the same bits, and the same outputs as Keras's."""

import os

import numpy as np
import pytest

import nnx
from nnx.interchange import from_keras_weights, to_keras_weights

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch", reason='pip install "nnx-array[torch]"')
keras = pytest.importorskip("keras", reason="pip install keras")
L = keras.layers
# Keras converts its own arrays in a way that NumPy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LINEAR = nnx.Linear()


class SelfAttention(L.Layer):
    """Keras's attention, as a layer with one input."""

    def __init__(self, heads, size):
        super().__init__()
        self.attention = L.MultiHeadAttention(heads, size)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return self.attention(x, x)


# Kind -> the shape of a sample in Keras, its layers there, and those here.
KINDS = {
    "Dense": ((5,), lambda: [L.Dense(4)], lambda: [nnx.DenseLayer(5, 4, LINEAR)]),
    "Dense of time": ((3, 5), lambda: [L.Dense(4)], lambda: [nnx.DenseLayer(5, 4, LINEAR)]),
    "Conv1D": (
        (9, 4),
        lambda: [L.Conv1D(6, 3, strides=2, groups=2)],
        lambda: [nnx.Conv1DLayer(4, 6, 3, LINEAR, stride=2, groups=2)],
    ),
    "Conv2D": (
        (6, 7, 3),
        lambda: [L.Conv2D(4, (3, 2), padding="same")],
        lambda: [nnx.Conv2DLayer(3, 4, (3, 2), LINEAR, padding="same")],
    ),
    "Conv2D without bias": (
        (6, 7, 2),
        lambda: [L.Conv2D(4, 3, use_bias=False, dilation_rate=2)],
        lambda: [nnx.Conv2DLayer(2, 4, 3, LINEAR, bias=False, dilation=2)],
    ),
    "Conv2DTranspose": (
        (4, 5, 3),
        lambda: [L.Conv2DTranspose(2, 3, strides=2, padding="valid")],
        lambda: [nnx.ConvTranspose2DLayer(3, 2, 3, LINEAR, stride=2)],
    ),
    "BatchNormalization": (
        (4, 4, 3),
        lambda: [L.BatchNormalization()],
        lambda: [nnx.BatchNormLayer(3, epsilon=1e-3)],
    ),
    "BatchNormalization without gamma": (
        (4,),
        lambda: [L.BatchNormalization(center=False, scale=False)],
        lambda: [nnx.BatchNormLayer(4, epsilon=1e-3, affine=False)],
    ),
    "LayerNormalization": (
        (3, 5),
        lambda: [L.LayerNormalization()],
        lambda: [nnx.LayerNormLayer(5, 1e-3)],
    ),
    "LayerNormalization of images": (
        (4, 5, 3),
        lambda: [L.LayerNormalization(axis=[1, 2, 3])],
        lambda: [nnx.LayerNormLayer((3, 4, 5), 1e-3)],
    ),
    "GroupNormalization": (
        (4, 4, 6),
        lambda: [L.GroupNormalization(2)],
        lambda: [nnx.GroupNormLayer(2, 6, 1e-3)],
    ),
    "Embedding": ((5,), lambda: [L.Embedding(7, 4)], lambda: [nnx.EmbeddingLayer(7, 4)]),
    "LSTM": (
        (6, 4),
        lambda: [L.LSTM(3, return_sequences=True)],
        lambda: [nnx.LSTMLayer(4, 3, return_sequences=True)],
    ),
    "GRU": ((6, 4), lambda: [L.GRU(3)], lambda: [nnx.GRULayer(4, 3)]),
    "SimpleRNN": ((6, 4), lambda: [L.SimpleRNN(3)], lambda: [nnx.RNNLayer(4, 3)]),
    "Bidirectional": (
        (6, 4),
        lambda: [L.Bidirectional(L.GRU(3))],
        lambda: [nnx.BidirectionalLayer(nnx.GRULayer(4, 3), nnx.GRULayer(4, 3, reverse=True))],
    ),
    "MultiHeadAttention": (
        (5, 6),
        lambda: [SelfAttention(2, 3)],
        lambda: [nnx.MultiHeadAttentionLayer(6, 2)],
    ),
    "Flatten": (
        (5, 4, 3),
        lambda: [
            L.Conv2D(6, 2), L.MaxPooling2D(), L.Flatten(), L.Dropout(0.1), L.BatchNormalization(),
            L.LayerNormalization(), L.Activation("relu"), L.Dense(4), L.Dense(3),
        ],
        lambda: [
            nnx.Conv2DLayer(3, 6, 2, LINEAR), nnx.MaxPool2DLayer(), nnx.FlattenLayer(),
            nnx.DropoutLayer(0.1), nnx.BatchNormLayer(12, epsilon=1e-3),
            nnx.LayerNormLayer(12, 1e-3), nnx.ActivationLayer(nnx.ReLU()),
            nnx.DenseLayer(12, 4, LINEAR), nnx.DenseLayer(4, 3, LINEAR),
        ],
    ),
    "Flatten of the input": (
        (4, 5, 3),
        lambda: [L.Flatten(), L.Dense(4)],
        lambda: [nnx.FlattenLayer(), nnx.DenseLayer(60, 4, LINEAR)],
    ),
    "Flatten of a sequence": (
        (4, 5),
        lambda: [L.LSTM(3, return_sequences=True), L.Flatten(), L.Dense(2)],
        lambda: [nnx.LSTMLayer(5, 3, return_sequences=True), nnx.FlattenLayer(),
                 nnx.DenseLayer(12, 2, LINEAR)],
    ),
    "Flatten after Conv1D": (
        (7, 2),
        lambda: [L.Conv1D(3, 2), L.Flatten(), L.Dense(2)],
        lambda: [nnx.Conv1DLayer(2, 3, 2, LINEAR), nnx.FlattenLayer(),
                 nnx.DenseLayer(18, 2, LINEAR)],
    ),
    "Conv1D and LSTM": (
        (7, 2),
        lambda: [L.Conv1D(3, 2), L.LSTM(4, return_sequences=True), L.Flatten(), L.Dense(2)],
        lambda: [nnx.Conv1DLayer(2, 3, 2, LINEAR), nnx.PermuteLayer((2, 1)),
                 nnx.LSTMLayer(3, 4, return_sequences=True), nnx.FlattenLayer(),
                 nnx.DenseLayer(24, 2, LINEAR)],
    ),
    "GlobalAveragePooling2D": (
        (6, 6, 2),
        lambda: [L.Conv2D(3, 2), L.GlobalAveragePooling2D(), L.Dense(2)],
        lambda: [nnx.Conv2DLayer(2, 3, 2, LINEAR), nnx.GlobalAvgPoolLayer(),
                 nnx.DenseLayer(3, 2, LINEAR)],
    ),
    "nested": (
        (5, 4, 2),
        lambda: [keras.Sequential([L.Conv2D(3, 2), L.Flatten()]), L.Dense(2)],
        lambda: [[nnx.Conv2DLayer(2, 3, 2, LINEAR), nnx.FlattenLayer()],
                 [nnx.DenseLayer(36, 2, LINEAR)]],
    ),
}  # fmt: skip


def test_every_kind_is_here():
    made = {
        type(leaf)
        for _, _, make in KINDS.values()
        for _, leaf in nnx.interchange.arrays.leaves(nnx.SequentialLayer(make()))
    }
    assert set(nnx.interchange.keras._WEIGHTS) - {nnx.layers.ConvolutionLayer} <= made
    assert {nnx.Conv1DLayer, nnx.Conv2DLayer, nnx.ConvTranspose2DLayer} <= made


def keras_model(shape, make):
    """A model whose weights are all different."""
    rng = np.random.default_rng(1)
    model = keras.Sequential([L.Input(shape), *make()])
    weights = [rng.uniform(0.1, 1.0, w.shape).astype("float32") for w in model.get_weights()]
    model.set_weights(weights)
    return model, weights


def network(shape, make, kind=""):
    """The network here; images and what goes through Conv1D have their channels first."""
    layers = make()
    moved = len(shape) == 3 or isinstance(layers[0], nnx.Conv1DLayer)
    return nnx.SequentialNet((shape[-1], *shape[:-1]) if moved else shape, layers), moved


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_a_model_give_its_outputs_and_come_back(kind, backend):
    shape, make_keras, make = KINDS[kind]
    model, weights = keras_model(shape, make_keras)
    net, moved = network(shape, make)
    from_keras_weights(net, model.get_weights())

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4, *shape)).astype("float32")
    if kind == "Embedding":
        x = rng.integers(0, 7, (4, *shape))
    found = nnx.to_numpy(net.predict(np.moveaxis(x, -1, 1) if moved else x))
    expected = np.asarray(model.predict(x, verbose=0))
    if moved and expected.ndim > 2 and "LSTM" not in kind:
        expected = np.moveaxis(expected, -1, 1)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)

    back = to_keras_weights(net)
    assert len(back) == len(weights)
    for one, other in zip(back, weights):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    model.set_weights([np.zeros_like(w) for w in weights])
    model.set_weights(back)


def test_channels_first_has_no_other_order():
    layers = [nnx.Conv2DLayer(2, 3, 2), nnx.FlattenLayer(), nnx.DenseLayer(36, 2)]
    net = nnx.SequentialNet((2, 5, 4), layers)
    W = nnx.to_numpy(net.layers[2].W)
    weights = to_keras_weights(net, "channels_first")
    np.testing.assert_array_equal(weights[2], W.T)
    assert not (to_keras_weights(net)[2] == W.T).all()
    from_keras_weights(net, [w + 1 for w in weights], "channels_first")
    np.testing.assert_array_equal(nnx.to_numpy(net.layers[2].W), W + 1)


def dense():
    return nnx.SequentialNet(3, [nnx.DenseLayer(3, 2), nnx.DenseLayer(2, 1)])


def image(*layers, shape=(2, 4, 4)):
    return nnx.SequentialNet(shape, [*layers, nnx.FlattenLayer(), nnx.DenseLayer(32, 2)])


GOOD = [np.ones((3, 2)), np.ones(2), np.ones((2, 1)), np.ones(1)]
WRONG = {
    "too few": (dense, GOOD[:3], {}, ["'1' takes (2, 1), (1,), got (2, 1)", "4 arrays are needed"]),
    "too many": (dense, [*GOOD, np.ones(1)], {}, ["4 arrays are needed, 5 given"]),
    "transposed": (
        dense, [GOOD[0].T, *GOOD[1:]], {}, ["DenseLayer at '0' takes (3, 2), (2,), got (2, 3)"],
    ),
    "no list": (dense, 3, {}, ["the list of arrays that get_weights() returns"]),
    "no array": (dense, ["a", *GOOD[1:]], {}, ["weights[0]: expected"]),
    "NaN": (dense, [GOOD[0] * np.nan, *GOOD[1:]], {}, ["0.W: expected finite numbers"]),
    "format": (dense, GOOD, {"data_format": "NHWC"}, ["'channels_last', 'channels_first'"]),
    "reset_before": (
        lambda: nnx.SequentialLayer([nnx.GRULayer(4, 3)]),
        [np.ones((4, 9)), np.ones((3, 9)), np.ones(9)],
        {},
        ["reset_after=False"],
    ),
    "no shape": (
        lambda: nnx.SequentialLayer([nnx.FlattenLayer(), nnx.DenseLayer(3, 2)]),
        GOOD[:2],
        {},
        ["FlattenLayer", "unknown shape", "give the SequentialNet"],
    ),
    "groups": (
        lambda: nnx.SequentialNet(
            (2, 4, 4), [nnx.FlattenLayer(), nnx.GroupNormLayer(2, 32), nnx.DenseLayer(32, 2)]
        ),
        [],
        {},
        ["GroupNormLayer", "other groups behind a FlattenLayer", "channels_first"],
    ),
    "reshape": (
        lambda: nnx.SequentialNet(32, [nnx.DenseLayer(32, 32), nnx.ReshapeLayer((2, 4, 4))]),
        [],
        {},
        ["ReshapeLayer", "another order than channels last"],
    ),
    "permute": (lambda: image(nnx.PermuteLayer((1, 3, 2))), [], {}, ["other axes than the channe"]),
    "residual": (
        lambda: image(nnx.ResidualLayer(nnx.Conv2DLayer(2, 2, 3, padding="same"))),
        [],
        {},
        ["ResidualLayer", "has no counterpart in Keras", "one by one"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_listed_and_changes_nothing(case):
    make, weights, options, words = WRONG[case]
    net = make()
    before = {path: nnx.to_numpy(p).copy() for path, p in net.parameters.items()}
    with pytest.raises((ValueError, TypeError), match="expected") as raised:
        from_keras_weights(net, weights, **options)
    assert all(word in str(raised.value) for word in words), raised.value
    for path, p in net.parameters.items():
        np.testing.assert_array_equal(nnx.to_numpy(p), before[path])
