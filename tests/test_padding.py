"""Padding on its way through a network: what each layer says becomes of it, and MaskedLayer."""

import math
import re

import numpy as np
import pytest
from conftest import compile_on, why_unusable

import nnx
from nnx.checks import ShapeError
from nnx.commands.check import ARGUMENTS, BASES
from nnx.layers._padding import Padding
from nnx.layers.tree import once
from nnx.testing import assert_no_host_sync, check_gradients

SAMPLES, TIME, FEATURES = 3, 5, 4
LENGTHS = (5, 2, 3)
LOST = math.nan


def ragged(value, features=FEATURES, seed=0):
    """Sequences of several lengths, and which of their time steps are data."""
    x = np.random.default_rng(seed).standard_normal((SAMPLES, TIME, features))
    data = np.arange(TIME) < np.asarray(LENGTHS)[:, None]
    return np.where(data[..., None], x, value), data


def stirred(layer):
    """The layer with random numbers in its parameters and buffers, biases too."""
    rng = np.random.default_rng(1)
    for _, one in once(layer):
        if not one.children:
            for arrays in (one.parameters, one.buffers):
                for name, array in arrays.items():
                    new = 0.5 + np.abs(rng.standard_normal(array.shape))
                    arrays[name] = one.backend.asarray(new, dtype=one.backend.dtype)
    return layer


def dense(ni=4, no=4, afun=None):
    return nnx.DenseLayer(ni, no, afun or nnx.Linear())


def standardized():
    layer = nnx.StandardizeLayer(4, -1)
    return layer.fit(np.random.default_rng(2).standard_normal((20, 4)) + 1.0)


def steps(kind, **more):
    return kind(4, 3, return_sequences=True, **more)


def directions(**more):
    return nnx.BidirectionalLayer(
        steps(nnx.GRULayer, **more), steps(nnx.LSTMLayer, reverse=True, **more)
    )


class Own(nnx.Layer):
    """Says nothing of padding, and keeps it."""

    def forward(self, x, training=False):
        return x, lambda delta: (delta, {})

    def output_shape(self, input_shape):
        return input_shape


M = {"mask_value": 0.0}
# Layers for sequences (time, 4): how each is made, the padding of its input, and what comes out,
# worked out from its formula.
CASES = {
    nnx.ActivationLayer: [
        (lambda: nnx.ActivationLayer(nnx.TanH()), 0.0, 0.0),
        (lambda: nnx.ActivationLayer(nnx.TanH()), 1.0, LOST),
        (lambda: nnx.ActivationLayer(nnx.ReLU()), 2.5, 2.5),
        (lambda: nnx.ActivationLayer(nnx.ReLU()), -1.0, LOST),
        (lambda: nnx.ActivationLayer(nnx.Logistic()), 0.0, LOST),
        (lambda: nnx.ActivationLayer(nnx.SoftMax()), 0.0, LOST),
        (lambda: nnx.ActivationLayer(nnx.LogSoftmax()), 0.0, LOST),
        (lambda: nnx.ActivationLayer(nnx.Linear()), 0.3, 0.3),
    ],
    nnx.BatchNormLayer: [(lambda: nnx.BatchNormLayer(5), 0.0, LOST)],
    nnx.BidirectionalLayer: [
        (lambda: directions(**M), 0.0, 0.0),
        (lambda: directions(mask_value=-1.0), -1.0, 0.0),
        (directions, 0.0, LOST),
    ],
    nnx.Conv1DLayer: [(lambda: nnx.Conv1DLayer(5, 5, 3, padding="same"), 0.0, LOST)],
    nnx.DenseLayer: [(dense, 0.0, LOST), (dense, -1.0, LOST)],
    nnx.DropoutLayer: [(nnx.DropoutLayer, 0.0, 0.0), (nnx.DropoutLayer, 1.0, LOST)],
    nnx.GRULayer: [
        (lambda: steps(nnx.GRULayer, mask_value=-1.0), -1.0, 0.0),
        (lambda: steps(nnx.GRULayer), 0.0, LOST),
    ],
    nnx.GaussianNoiseLayer: [(lambda: nnx.GaussianNoiseLayer(0.5), 0.0, LOST)],
    nnx.GroupNormLayer: [(lambda: nnx.GroupNormLayer(1, 5), 0.0, LOST)],
    nnx.LSTMLayer: [
        (lambda: steps(nnx.LSTMLayer, **M), 0.0, 0.0),
        (lambda: steps(nnx.LSTMLayer), 0.0, LOST),
    ],
    nnx.LayerNormLayer: [(lambda: nnx.LayerNormLayer(4), 0.0, LOST)],
    nnx.MaskedLayer: [
        (lambda: nnx.MaskedLayer(dense(4, 3)), 0.0, 0.0),
        (lambda: nnx.MaskedLayer([nnx.LayerNormLayer(4), dense(4, 3)], -1.5), -1.5, -1.5),
    ],
    nnx.MultiHeadAttentionLayer: [
        (lambda: nnx.MultiHeadAttentionLayer(4, 2, mask_value=-1.0), -1.0, 0.0),
        (lambda: nnx.MultiHeadAttentionLayer(4, 2), 0.0, LOST),
    ],
    nnx.ParallelLayer: [
        (
            lambda: nnx.ParallelLayer([steps(nnx.GRULayer, **M), steps(nnx.LSTMLayer, **M)]),
            0.0,
            0.0,
        ),
        (lambda: nnx.ParallelLayer([nnx.DropoutLayer(), dense()]), 0.0, LOST),
        (lambda: nnx.ParallelLayer([Own(), nnx.RescalingLayer(2.0)], "sum"), 1.0, 3.0),
        (lambda: nnx.ParallelLayer([Own(), nnx.RescalingLayer(2.0)]), 1.0, LOST),
    ],
    nnx.PermuteLayer: [(lambda: nnx.PermuteLayer((2, 1)), -1.0, -1.0)],
    nnx.PositionalEncodingLayer: [
        (lambda: nnx.PositionalEncodingLayer(4, 9, mask_value=-1.0), -1.0, -1.0),
        (lambda: nnx.PositionalEncodingLayer(4, 9), 0.0, LOST),
    ],
    nnx.RNNLayer: [
        (lambda: steps(nnx.RNNLayer, **M), 0.0, 0.0),
        (lambda: steps(nnx.RNNLayer), 0.0, LOST),
    ],
    nnx.RescalingLayer: [
        (lambda: nnx.RescalingLayer(2.0), 0.0, 0.0),
        (lambda: nnx.RescalingLayer(2.0, -0.5), 0.0, -0.5),
        (lambda: nnx.RescalingLayer(2.0, -0.5), 1.0, 1.5),
    ],
    nnx.ReshapeLayer: [(lambda: nnx.ReshapeLayer((20,)), 0.0, 0.0)],
    nnx.FlattenLayer: [(nnx.FlattenLayer, 0.0, 0.0)],
    nnx.ResidualLayer: [
        (lambda: nnx.ResidualLayer(nnx.MultiHeadAttentionLayer(4, 2, **M)), 0.0, 0.0),
        (lambda: nnx.ResidualLayer(nnx.MultiHeadAttentionLayer(4, 2, mask_value=-1)), -1.0, -1.0),
        (lambda: nnx.ResidualLayer(Own()), 1.0, 2.0),
        (lambda: nnx.ResidualLayer(dense()), 0.0, LOST),
    ],
    nnx.SequentialLayer: [
        (lambda: nnx.SequentialLayer([Own(), steps(nnx.GRULayer, **M)]), 0.0, 0.0),
        (lambda: nnx.SequentialLayer([dense(), nnx.DropoutLayer()]), 0.0, LOST),
    ],
    nnx.SequentialNet: [
        (lambda: nnx.SequentialNet((TIME, 4), [steps(nnx.GRULayer, **M)]), 0.0, 0.0),
        (lambda: nnx.SequentialNet((TIME, 4), [dense()]), 0.0, LOST),
    ],
    nnx.StandardizeLayer: [(standardized, 0.0, LOST)],
    Own: [(Own, 0.0, 0.0)],
}
# Layers of images, and of tokens; the latter has a test of its own.
OTHERS = {
    nnx.AvgPool2DLayer,
    nnx.Conv2DLayer,
    nnx.ConvTranspose2DLayer,
    nnx.CutoutLayer,
    nnx.EmbeddingLayer,
    nnx.GlobalAvgPoolLayer,
    nnx.MaxPool2DLayer,
    nnx.RandomFlipLayer,
    nnx.RandomShiftLayer,
    nnx.UpSampling2DLayer,
    nnx.ZeroPadding2DLayer,
}
ITEMS = [(kind, i) for kind, cases in CASES.items() for i in range(len(cases))]


def test_the_table_has_every_layer():
    kinds = {kind for kind in ARGUMENTS if isinstance(kind, type) and issubclass(kind, nnx.Layer)}
    assert set(CASES) | OTHERS == kinds - set(BASES) | {Own}
    assert not set(CASES) & OTHERS


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("kind", "number"), ITEMS, ids=lambda v: getattr(v, "__name__", v))
def test_a_layer_says_what_becomes_of_padding_and_does_it(kind, number, training):
    make, value, expected = CASES[kind][number]
    with nnx.use_backend("numpy", dtype="float64"):
        layer = make()
        layer = layer if kind is nnx.StandardizeLayer else stirred(layer)
        said = layer.padding_after(Padding(value)).value
        assert said == expected or (math.isnan(said) and math.isnan(expected))
        lost = Padding(value).lost(dense())
        if any(getattr(one, "mask_value", None) is not None for _, one in once(layer)):
            with pytest.raises(ValueError, match="expected padding to be"):
                layer.padding_after(lost)
        else:
            assert layer.padding_after(lost) is lost
        x, data = ragged(value)
        y, _ = layer.forward(x, training)
        if layer.keeps_values:  # it moves what marks the padding in the same way
            data, _ = layer.forward(np.repeat(data[..., None], FEATURES, axis=-1), training)
            assert (y[~data] == expected).all()
        elif not math.isnan(expected):
            assert (y[~data] == expected).all()
            assert not (y[data] == expected).all(axis=-1).any()
        elif training or kind not in (nnx.DropoutLayer, nnx.GaussianNoiseLayer):
            assert not (y[~data] == value).all(axis=-1).all()


def test_tokens_become_padding():
    with nnx.use_backend("numpy"):
        tokens = np.asarray([[3, 1, 0, 0], [2, 2, 2, 0]])
        layer = stirred(nnx.EmbeddingLayer(5, 3, padding_index=0))
        assert layer.padding_after(Padding(0.0)).value == 0.0
        assert (layer.forward(tokens)[0][tokens == 0] == 0.0).all()
        layer = stirred(nnx.EmbeddingLayer(5, 3))
        assert math.isnan(layer.padding_after(Padding(0.0)).value)
        assert (layer.forward(tokens)[0][tokens == 0] != 0.0).all()


E, V = 8, 9


def attention():
    return nnx.MultiHeadAttentionLayer(E, 2, mask_value=0.0)


def post_norm():
    return [nnx.ResidualLayer(attention()), nnx.MaskedLayer(nnx.LayerNormLayer(E))]


def pre_norm():
    think = [nnx.LayerNormLayer(E), dense(E, 12, nnx.ReLU()), dense(12, E)]
    return [
        nnx.ResidualLayer([nnx.MaskedLayer(nnx.LayerNormLayer(E)), attention()]),
        nnx.ResidualLayer(nnx.MaskedLayer(think)),
    ]


class First(nnx.Layer):
    """The first time step, which is data in every sample."""

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)

        def backward(delta):
            rest = xp.zeros_like(x[:, 1:, :])
            return xp.concat([xp.expand_dims(delta, axis=1), rest], axis=1), {}

        return x[:, 0, :], backward

    def output_shape(self, input_shape):
        return input_shape[1:]


def reader(block):
    nnx.seed(0)
    layers = [nnx.EmbeddingLayer(V, E, padding_index=0), *block(), *block()]
    layers += [First(), nnx.DenseLayer(E, 2, nnx.SoftMax())]
    return nnx.SequentialNet((None,), layers, nnx.CrossEntropy(), nnx.Adam(0.05))


def texts():
    rng = np.random.default_rng(0)
    x = rng.integers(1, V, (32, 6))
    x[::2, 3:] = 0
    return x, rng.integers(0, 2, 32)


def test_padding_changes_nothing_after_training(backend):
    padding_changes_nothing(reader(pre_norm))


def test_padding_changes_nothing_with_norms_behind_attention():
    with nnx.use_backend("numpy"):
        padding_changes_nothing(reader(post_norm))


def padding_changes_nothing(net):
    x, y = texts()
    net.train(x, y, 32, 20, progress=False)
    biases = [p for name, p in net.parameters.items() if ".b" in name]
    assert all(abs(nnx.to_numpy(b)).max() > 1e-3 for b in biases)  # the padding would show
    short, padded = (nnx.to_numpy(net.predict(tokens)) for tokens in (x[::2, :3], x[::2]))
    np.testing.assert_allclose(padded, short, rtol=0, atol=1e-6)


def test_gradients_are_those_of_sequences_without_padding():
    """Of f and of x, at the values worked out with each sample by itself."""
    with nnx.use_backend("numpy", dtype="float64"):
        block = stirred(nnx.SequentialLayer([nnx.LayerNormLayer(4), dense(4, 3, nnx.TanH())]))
        layer, (x, data) = nnx.MaskedLayer(block, -1.0), ragged(-1.0)
        delta = np.random.default_rng(3).standard_normal((SAMPLES, TIME, 3))
        y, backward = layer.forward(x)
        dx, gradients = backward(delta)
        assert backward(delta, need_dx=False)[0] is None
        assert (y[~data] == -1.0).all()
        assert (dx[~data] == 0.0).all()
        alone, sums = [], []
        for i, length in enumerate(LENGTHS):
            one, back = block.forward(x[i : i + 1, :length])
            np.testing.assert_allclose(y[i, :length], one[0], rtol=1e-13)
            one, found = back(delta[i : i + 1, :length])
            alone.append(one[0])
            sums.append(found)
        np.testing.assert_allclose(dx[data], np.concatenate(alone), rtol=1e-12, atol=1e-14)
        for index in (0, 1):
            for name, gradient in gradients[0][index].items():
                expected = sum(found[index][name] for found in sums)
                np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)


def test_no_gradient_reaches_padding_from_other_time_steps():
    with nnx.use_backend("numpy"):
        layer = nnx.MaskedLayer(nnx.MultiHeadAttentionLayer(4, 2))
        x, data = ragged(0.0)
        y, backward = layer.forward(x.astype(np.float32))
        dx, _ = backward(np.ones_like(y))
        assert (dx[~data] == 0.0).all()
        assert (dx[data] != 0.0).all()


def test_the_summary_shows_the_shapes_inside(capsys):
    with nnx.use_backend("numpy"):
        nnx.SequentialNet((5, 4), [nnx.MaskedLayer(nnx.DenseLayer(4, 3), -1.0)]).summary()
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    assert ["1", "MaskedLayer(mask_value=-1.0)", "(5, 3)", "(15)"] in rows
    assert ["1.1", "DenseLayer(4, 3)", "(5, 3)", "15"] in rows


def test_a_compiled_forward_gives_the_same(backend):
    layer = nnx.MaskedLayer(nnx.DenseLayer(4, 3, nnx.TanH()), -1.0)
    x = backend.asarray(ragged(-1.0)[0])

    def step(x):
        y, backward = layer.forward(x)
        return y, backward(y)[0]

    for one, other in zip(step(x), compile_on(backend, step)(x), strict=True):
        np.testing.assert_allclose(backend.to_numpy(one), backend.to_numpy(other), atol=1e-6)


def test_a_step_reads_nothing_back():
    layers = [nnx.MaskedLayer(nnx.DenseLayer(4, 3)), nnx.LSTMLayer(3, 2, mask_value=0.0)]
    net = nnx.SequentialNet((TIME, 4), layers)
    x, y = ragged(0.0)[0].astype(np.float32), np.zeros((SAMPLES, 2), dtype=np.float32)
    assert_no_host_sync(lambda net, x, y: net.step(x, y), net, x, y)


def test_a_network_with_padding_has_the_right_gradients():
    with nnx.use_backend("numpy"):
        layers = [*post_norm(), *pre_norm()]
        net = nnx.SequentialNet((TIME, E), layers, nnx.MeanSquaredError())
        check_gradients(net, np.random.default_rng(0).standard_normal((2, TIME, E)), autodiff=())


@pytest.mark.skipif(why_unusable("torch") is not None, reason="PyTorch is not here")
def test_two_blocks_are_those_of_torch_with_a_padding_mask():
    import torch

    with nnx.use_backend("numpy", dtype="float64"):
        layers, theirs = [], []
        x, data = ragged(0.0, E)
        mask = torch.from_numpy(~data)
        for _ in range(2):
            inner, outer = dense(E, 12, nnx.ReLU()), dense(12, E)
            attend, norms = attention(), [nnx.LayerNormLayer(E) for _ in range(2)]
            layers += [
                nnx.ResidualLayer(attend),
                nnx.MaskedLayer(norms[0]),
                nnx.ResidualLayer(nnx.MaskedLayer([inner, outer])),
                nnx.MaskedLayer(norms[1]),
            ]
            one = torch.nn.TransformerEncoderLayer(E, 2, 12, 0.0, batch_first=True).double()
            mine = {
                one.self_attn.in_proj_weight: attend.W_in,
                one.self_attn.in_proj_bias: attend.b_in,
                one.self_attn.out_proj.weight: attend.W_out,
                one.self_attn.out_proj.bias: attend.b_out,
                one.linear1.weight: inner.W,
                one.linear1.bias: inner.b,
                one.linear2.weight: outer.W,
                one.linear2.bias: outer.b,
            }
            with torch.no_grad():
                for parameter, array in mine.items():
                    parameter.copy_(torch.from_numpy(array))
            theirs.append(one)
        net = nnx.SequentialNet((None, E), layers, nnx.QuadraticCost(), nnx.SGD(0.2))
        target = np.random.default_rng(4).standard_normal(x.shape) * data[..., None]
        parameters = [p for one in theirs for p in one.parameters()]
        optimizer = torch.optim.SGD(parameters, 0.2)
        for _ in range(6):
            h = torch.from_numpy(x)
            for one in theirs:
                h = one(h, src_key_padding_mask=mask)
            y = net.forward(x)[0]
            np.testing.assert_allclose(y[data], h.detach().numpy()[data], rtol=1e-9, atol=1e-11)
            ((h - torch.from_numpy(target))[~mask] ** 2).sum().div(2 * SAMPLES).backward()
            optimizer.step()
            optimizer.zero_grad()
            net.step(x, target)


TOKENS = lambda: nnx.EmbeddingLayer(V, E, padding_index=0)
LSTM = lambda value=0.0: nnx.LSTMLayer(E, 3, mask_value=value, name="last")
REFUSED = {
    "dense": (
        lambda: [TOKENS(), nnx.DenseLayer(E, E), LSTM()],
        "last: expected padding to be 0.0, its mask_value, got other values from DenseLayer(8, 8), "
        "which does not keep it; write MaskedLayer(DenseLayer(8, 8))",
    ),
    "the first that loses it": (
        lambda: [TOKENS(), nnx.DenseLayer(E, E), nnx.LayerNormLayer(E), LSTM()],
        "; write MaskedLayer(DenseLayer(8, 8))",
    ),
    "tokens": (
        lambda: [nnx.EmbeddingLayer(V, E), LSTM()],
        "from EmbeddingLayer(9, 8), which does not keep it; give it padding_index=0, if 0 is",
    ),
    "no mask_value between": (
        lambda: [TOKENS(), nnx.GRULayer(E, E, return_sequences=True), LSTM()],
        "from GRULayer(8, 8, return_sequences=True), which does not keep it; give it the same mask",
    ),
    "another mask_value": (
        lambda: [TOKENS(), attention(), LSTM(-1)],
        "last: expected padding to be -1.0, its mask_value, got 0.0 from MultiHeadAttentionLayer("
        "8, 2, mask_value=0.0); write mask_value=0.0",
    ),
    "another one of a block": (
        lambda: [nnx.MaskedLayer(nnx.LayerNormLayer(E), -1), LSTM()],
        "last: expected padding to be 0.0, its mask_value, got -1.0 from MaskedLayer(",
    ),
    "pre-norm": (
        lambda: [TOKENS(), nnx.ResidualLayer([nnx.LayerNormLayer(E), attention()])],
        "MultiHeadAttentionLayer: expected padding to be 0.0, its mask_value, got other values "
        "from LayerNormLayer((8,)), which does not keep it; write MaskedLayer(LayerNormLayer(",
    ),
    "before a block": (
        lambda: [TOKENS(), nnx.LayerNormLayer(E), nnx.ResidualLayer(attention())],
        "write MaskedLayer(LayerNormLayer((8,)))",
    ),
    "inside of a masked block": (
        lambda: [TOKENS(), nnx.MaskedLayer([dense(E, E), attention()])],
        "write MaskedLayer(DenseLayer(8, 8, afun=Linear()))",
    ),
    "in one branch": (
        lambda: [TOKENS(), nnx.ParallelLayer([attention(), dense(E, E)], "sum"), LSTM()],
        "write MaskedLayer(DenseLayer(8, 8, afun=Linear()))",
    ),
    "an activation": (
        lambda: [TOKENS(), nnx.ActivationLayer(nnx.Logistic()), LSTM()],
        "write MaskedLayer(ActivationLayer(Logistic()))",
    ),
    "a nested network": (
        lambda: [TOKENS(), nnx.SequentialNet((None, E), [dense(E, E)]), LSTM()],
        "write MaskedLayer(DenseLayer(8, 8, afun=Linear()))",
    ),
    "inside of a container of one's own": (
        lambda: [TOKENS(), OwnContainer([nnx.LayerNormLayer(E), attention()])],
        "write MaskedLayer(LayerNormLayer((8,)))",
    ),
    "another number": (
        lambda: [Own(), nnx.DropoutLayer(), nnx.LSTMLayer(E, 3, mask_value=-1)],
        "write MaskedLayer(DropoutLayer(), mask_value=-1.0)",
    ),
}


class OwnContainer(nnx.Container):
    """What its block gets is not known."""

    def __init__(self, block):
        super().__init__()
        self.block = nnx.SequentialLayer(block)

    def forward(self, x, training=False):
        y, backward_of_block = self.block.forward(x, training)

        def backward(delta):
            dx, gradients = backward_of_block(delta)
            return dx, {0: gradients}

        return y, backward

    def output_shape(self, input_shape):
        return self.block.output_shape(input_shape)


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_padding_does_not_reach_is_refused(name):
    make, message = REFUSED[name]
    with nnx.use_backend("numpy"):
        layers = make()
        shape = (None,) if isinstance(layers[0], nnx.EmbeddingLayer) else (None, E)
        with pytest.raises(ValueError, match=re.escape(message)):
            nnx.SequentialNet(shape, layers)


def test_a_network_is_checked_when_it_changes():
    with nnx.use_backend("numpy"):
        net = nnx.SequentialNet((None,), [TOKENS(), nnx.MaskedLayer(dense(E, E)), LSTM()])
        before = net.layers
        with pytest.raises(ValueError, match="expected padding to be 0"):
            net.layers = [TOKENS(), dense(E, E), LSTM()]
        assert net.layers is before
        net.layers[1] = dense(E, E)
        with pytest.raises(ValueError, match="expected padding to be 0"):
            net.train(texts()[0], np.zeros((32, 3)), progress=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [LSTM(-1)],
        lambda: [nnx.RescalingLayer(1 / 255, -0.5), LSTM(-0.5)],
        lambda: [nnx.DropoutLayer(), nnx.ActivationLayer(nnx.ReLU()), LSTM()],
        lambda: [OwnContainer([dense(E, E)]), LSTM()],
        lambda: [dense(E, E), nnx.LayerNormLayer(E), nnx.LSTMLayer(E, 3)],
        lambda: [
            nnx.PositionalEncodingLayer(E, 9, mask_value=-1),
            nnx.MaskedLayer(dense(E, E), -1),
        ],
    ],
)
def test_what_keeps_padding_is_accepted(make):
    with nnx.use_backend("numpy"):
        nnx.SequentialNet((None, E), make())


def test_a_layer_of_ones_own_may_say_that_it_loses_padding():
    class Shifted(Own):
        def padding_after(self, before):
            return before.lost(self)

    with nnx.use_backend("numpy"), pytest.raises(ValueError, match=r"write MaskedLayer\(Shifted\("):
        nnx.SequentialNet((None, E), [Shifted(), LSTM()])


def test_shapes_of_masked_layers():
    with nnx.use_backend("numpy"):
        layer = nnx.MaskedLayer(nnx.DenseLayer(4, 3))
        assert layer.output_shape((None, 4)) == (None, 3)
        assert layer.output_shape((5, 4)) == (5, 3)
        with pytest.raises(
            ShapeError, match=r"takes input of shape \(time, features\), got \(4,\)"
        ):
            layer.output_shape((4,))
        with pytest.raises(
            ShapeError, match=r"expected shape \(5, features\), got \(3,\); give it"
        ):
            nnx.MaskedLayer(nnx.GRULayer(4, 3)).output_shape((5, 4))
        with pytest.raises(ShapeError, match=r"MaskedLayer takes input of shape \(time, features"):
            layer.forward(np.zeros((2, 4), dtype=np.float32))
        for wrong in (None, "0", True):
            with pytest.raises(TypeError, match="MaskedLayer: expected mask_value to be a finite"):
                nnx.MaskedLayer(nnx.DenseLayer(4, 3), wrong)
        with pytest.raises(ValueError, match="MaskedLayer: expected mask_value to be a finite"):
            nnx.MaskedLayer(nnx.DenseLayer(4, 3), math.nan)


def test_it_is_saved_with_its_value(tmp_path):
    with nnx.use_backend("numpy"):
        layers = [nnx.MaskedLayer(nnx.DenseLayer(4, 3), -1.0), nnx.LSTMLayer(3, 2, mask_value=-1.0)]
        net = nnx.SequentialNet((None, 4), layers)
        net.save(tmp_path / "net.safetensors")
        again, x = nnx.load(tmp_path / "net.safetensors"), ragged(-1.0)[0].astype(np.float32)
        assert repr(again) == repr(net)
        np.testing.assert_array_equal(again.predict(x), net.predict(x))
