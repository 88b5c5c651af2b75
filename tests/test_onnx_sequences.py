"""ONNX: recurrent layers in all directions, and padding that may be anywhere."""

import numpy as np
import pytest

import nnx
import nnx.onnx

pytest.importorskip("onnx", reason='pip install "nnx-array[onnx]"')
pytest.importorskip("onnxruntime", reason="pip install onnxruntime")

from onnx_models import difference, operators, padded, stirred

TOLERANCE = 2e-6
KINDS = [nnx.LSTMLayer, nnx.GRULayer, nnx.RNNLayer]


def both_lengths(features, padding):
    rng = np.random.default_rng(0)
    for samples, time in ((5, 6), (2, 3), (1, 1)):
        x = rng.standard_normal((samples, time, features))
        yield padded(rng, samples, time, features) if padding else x


@pytest.mark.parametrize("mask_value", [None, 0.0], ids=["no padding", "padding"])
@pytest.mark.parametrize("return_sequences", [True, False], ids=["all steps", "last step"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_direction(kind, reverse, return_sequences, mask_value):
    how = {"return_sequences": return_sequences, "mask_value": mask_value}
    net = stirred(nnx.SequentialNet((None, 3), [kind(3, 4, reverse=reverse, **how)]))
    assert difference(net, *both_lengths(3, mask_value is not None)) <= TOLERANCE


@pytest.mark.parametrize("mask_value", [None, 0.0], ids=["no padding", "padding"])
@pytest.mark.parametrize("return_sequences", [True, False], ids=["all steps", "last step"])
@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_directions_are_one_operator(kind, merge, return_sequences, mask_value):
    how = {"return_sequences": return_sequences, "mask_value": mask_value}
    pair = kind(3, 4, **how), kind(3, 4, reverse=True, **how)
    net = stirred(nnx.SequentialNet((None, 3), [nnx.BidirectionalLayer(*pair, merge)]))
    model = nnx.onnx.to_model(net)
    assert operators(model).count(kind.__name__.removesuffix("Layer")) == 1
    assert difference(net, *both_lengths(3, mask_value is not None), model=model) <= TOLERANCE


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_directions_of_two_kinds_are_two_operators(merge):
    pair = nnx.LSTMLayer(3, 4), nnx.RNNLayer(3, 4, nnx.ReLU(), reverse=True)
    net = stirred(nnx.SequentialNet((None, 3), [nnx.BidirectionalLayer(*pair, merge)]))
    assert difference(net, *both_lengths(3, False)) <= TOLERANCE


RNN = [
    nnx.TanH(), nnx.TanH(2.0), nnx.Logistic(), nnx.ReLU(), nnx.Linear(), nnx.LeakyReLU(0.2),
    nnx.ELU(0.5), nnx.ThresholdedReLU(0.3), nnx.HardSigmoid(0.3, 0.4), nnx.SoftSign(),
    nnx.SoftPlus(),
]  # fmt: skip


@pytest.mark.parametrize("afun", RNN, ids=repr)
def test_the_activations_of_rnn(afun):
    net = stirred(nnx.SequentialNet((None, 3), [nnx.RNNLayer(3, 4, afun)]))
    assert difference(net, *both_lengths(3, False)) <= TOLERANCE


@pytest.mark.parametrize("second", [nnx.HardSigmoid(0.3, 0.4), nnx.LeakyReLU(0.2)], ids=repr)
def test_each_direction_of_rnn_has_its_activation(second):
    first = nnx.RNNLayer(3, 4, nnx.HardSigmoid(0.3, 0.4))
    pair = first, nnx.RNNLayer(3, 4, second, reverse=True)
    net = stirred(nnx.SequentialNet((None, 3), [nnx.BidirectionalLayer(*pair)]))
    model = nnx.onnx.to_model(net)
    assert operators(model).count("RNN") == (1 if second == first.afun else 2)
    assert difference(net, *both_lengths(3, False), model=model) <= TOLERANCE


class Squared(nnx.Activation):
    def forward(self, x):
        u = nnx.array_namespace(x).minimum(x, 1.0)
        return u * u, lambda delta: 2.0 * u * delta


SCANNED = [nnx.Logistic(2), nnx.SoftSign(2), nnx.SoftMax(), nnx.GELU(), nnx.Squareplus(), Squared()]


@pytest.mark.parametrize("mask_value", [None, 0.0], ids=["no padding", "padding"])
@pytest.mark.parametrize("return_sequences", [True, False], ids=["all steps", "last step"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("afun", SCANNED, ids=repr)
def test_an_activation_that_rnn_has_not_is_scanned(afun, reverse, return_sequences, mask_value):
    how = {"return_sequences": return_sequences, "mask_value": mask_value, "reverse": reverse}
    net = stirred(nnx.SequentialNet((None, 3), [nnx.RNNLayer(3, 4, afun, **how)]))
    model = nnx.onnx.to_model(net)
    assert operators(model).count("Scan") == 1
    assert difference(net, *both_lengths(3, mask_value is not None), model=model) <= TOLERANCE


def test_both_directions_that_are_scanned():
    pair = nnx.RNNLayer(3, 4, nnx.GELU()), nnx.RNNLayer(3, 4, nnx.GELU(), reverse=True)
    net = stirred(nnx.SequentialNet((None, 3), [nnx.BidirectionalLayer(*pair)]))
    assert difference(net, *both_lengths(3, False)) <= TOLERANCE


@pytest.mark.parametrize("mask_value", [None, 0.0], ids=["no padding", "padding"])
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_attention(causal, mask_value, dtype):
    with nnx.use_backend("numpy", dtype=dtype):
        layer = nnx.MultiHeadAttentionLayer(4, 2, causal=causal, mask_value=mask_value)
        net = stirred(nnx.SequentialNet((None, 4), [layer]))
        assert difference(net, *both_lengths(4, mask_value is not None)) <= TOLERANCE


def test_positions_of_padding():
    layer = nnx.PositionalEncodingLayer(4, 9, mask_value=0.0)
    assert difference(nnx.SequentialNet((None, 4), [layer]), *both_lengths(4, True)) == 0


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_a_block_that_keeps_padding(value):
    block = [nnx.LayerNormLayer(4), nnx.DenseLayer(4, 3, nnx.TanH())]
    layers = [nnx.MaskedLayer(block, value), nnx.LSTMLayer(3, 2, mask_value=value)]
    net = stirred(nnx.SequentialNet((None, 4), layers))
    xs = [np.where(x == 0, value, x) for x in both_lengths(4, True)]
    assert difference(net, *xs) <= TOLERANCE


def test_another_number_for_padding():
    net = stirred(nnx.SequentialNet((None, 3), [nnx.GRULayer(3, 4, mask_value=-1.5)]))
    xs = [np.where(x == 0, -1.5, x) for x in both_lengths(3, True)]
    assert difference(net, *xs) <= TOLERANCE


def test_tokens_with_padding_before_between_and_after():
    reader = [nnx.EmbeddingLayer(9, 4, padding_index=0)]
    reader += [
        nnx.PositionalEncodingLayer(4, 12, mask_value=0.0),
        nnx.LSTMLayer(4, 5, mask_value=0.0),
    ]
    net = stirred(nnx.SequentialNet((None,), [*reader, nnx.DenseLayer(5, 2, nnx.SoftMax())]))
    model = nnx.onnx.to_model(net)
    assert model.graph.input[0].type.tensor_type.elem_type == 7  # int64
    tokens = np.array([[0, 3, 0, 5, 0], [1, 2, 3, 0, 0], [0, 0, 0, 0, 0], [8, 8, 1, 2, 4]])
    assert difference(net, tokens, tokens[:1, :2], model=model) <= TOLERANCE


def test_tokens_that_are_looked_up_twice_and_tokens_that_are_reshaped():
    tokens = np.random.default_rng(0).integers(0, 9, (4, 6))
    two = nnx.ParallelLayer([nnx.EmbeddingLayer(9, 2), nnx.EmbeddingLayer(9, 3)])
    model = nnx.onnx.to_model(nnx.SequentialNet((6,), [two]))
    assert operators(model) == ["Gather", "Gather", "Concat"]
    net = nnx.SequentialNet((6,), [nnx.ReshapeLayer((2, 3)), nnx.EmbeddingLayer(9, 2)])
    assert difference(net, tokens) == 0
