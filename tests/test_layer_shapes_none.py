"""Input shapes with None, an axis of any length: every layer, at several lengths of one network."""

import itertools
import re

import numpy as np
import pytest

import nnx
from nnx import layers as exported
from nnx.commands.check import ARGUMENTS
from nnx.layers._shapes import fits, merged, product, total
from nnx.layers.tree import gather, slots, walk
from nnx.testing import check_backends, check_gradients

BASES = {
    nnx.Layer,
    exported.AffineLayer,
    nnx.Container,
    exported.ConvolutionLayer,
    exported.PoolingLayer,
    exported.RecurrentLayer,
}

# Class -> what is appended to its name in ARGUMENTS -> the input shape with None wherever the layer
# takes it, and the output shape, worked out by hand.
SHAPES = {
    nnx.ActivationLayer: {"": ((None, None), (None, None))},
    nnx.AvgPool2DLayer: {
        "": ((None, None, None), (None, None, None)),
        ", overlapping": ((None, None, None), (None, None, None)),
    },
    nnx.BatchNormLayer: {
        "": ((3, None), (3, None)),
        ", images": ((3, None, None), (3, None, None)),
        ", not affine": ((3, None), (3, None)),
    },
    nnx.BidirectionalLayer: {"": ((None, 3), (6,))},
    nnx.Conv1DLayer: {"": ((3, None), (4, None)), ", strided": ((2, None), (4, None))},
    nnx.Conv2DLayer: {
        "": ((3, None, None), (4, None, None)),
        ", same": ((2, None, None), (3, None, None)),
        ", strided": ((4, None, None), (6, None, None)),
    },
    nnx.ConvTranspose2DLayer: {
        "": ((3, None, None), (4, None, None)),
        ", strided": ((4, None, None), (6, None, None)),
    },
    nnx.CutoutLayer: {"": ((None, None, None), (None, None, None))},
    nnx.DenseLayer: {
        "": ((None, 6), (None, 4)),
        ", penalty": ((None, 6), (None, 4)),
        ", sequence": ((None, 6), (None, 4)),
    },
    nnx.DropoutLayer: {"": ((None,), (None,))},
    nnx.EmbeddingLayer: {"": ((None,), (None, 3)), ", padding": ((None,), (None, 3))},
    nnx.FlattenLayer: {"": ((None,), (None,))},
    nnx.GRULayer: {"": ((None, 3), (4,)), ", mask": ((None, 3), (None, 4))},
    nnx.GaussianNoiseLayer: {"": ((None,), (None,))},
    nnx.GlobalAvgPoolLayer: {"": ((None, None, None), (None,))},
    nnx.GroupNormLayer: {
        "": ((6, None), (6, None)),
        ", images": ((6, None, None), (6, None, None)),
    },
    nnx.LSTMLayer: {"": ((None, 3), (4,)), ", sequences in reverse": ((None, 3), (None, 4))},
    nnx.LayerNormLayer: {"": ((None, 6), (None, 6)), ", two axes": ((None, 2, 5), (None, 2, 5))},
    nnx.MaskedLayer: {"": ((None, 6), (None, 4))},
    nnx.MaxPool2DLayer: {
        "": ((None, None, None), (None, None, None)),
        ", overlapping": ((None, None, None), (None, None, None)),
    },
    nnx.MultiHeadAttentionLayer: {"": ((None, 4), (None, 4)), ", causal": ((None, 4), (None, 4))},
    nnx.ParallelLayer: {
        "": ((None, 6), (None, 5)),
        ", sum": ((None, 6), (None, 6)),
        ", one shared layer": ((None, 6), (None, 6)),
    },
    nnx.PermuteLayer: {"": ((None, None, None), (None, None, None))},
    nnx.PositionalEncodingLayer: {"": ((None, 4), (None, 4))},
    nnx.RNNLayer: {"": ((None, 3), (4,)), ", sequences": ((None, 3), (None, 4))},
    nnx.RandomFlipLayer: {"": ((None, None, None), (None, None, None))},
    nnx.RandomShiftLayer: {"": ((None, None, None), (None, None, None))},
    nnx.RescalingLayer: {"": ((None,), (None,))},
    nnx.ReshapeLayer: {"": ((None, 6), (2, None))},
    nnx.ResidualLayer: {"": ((None, 6), (None, 6))},
    nnx.SequentialLayer: {"": ((None, 6), (None, 6))},
    nnx.StandardizeLayer: {
        "": ((6, None), (6, None)),
        ", images": ((3, None, None), (3, None, None)),
        ", last axis": ((None, 6), (None, 6)),
    },
    nnx.UpSampling2DLayer: {"": ((None, None, None), (None, None, None))},
    nnx.ZeroPadding2DLayer: {"": ((None, None, None), (None, None, None))},
}
ITEMS = [(kind, suffix) for kind, of_kind in SHAPES.items() for suffix in of_kind]
each_item = pytest.mark.parametrize(
    ("kind", "suffix"), ITEMS, ids=[kind.__name__ + suffix for kind, suffix in ITEMS]
)


def filled(shape, lengths):
    """The shape with numbers in place of None, in turn."""
    lengths = iter(lengths)
    return tuple(next(lengths) if n is None else n for n in shape)


def inputs(kind, suffix, shape, samples=4):
    """Numbers, or tokens, for a layer of ARGUMENTS."""
    rng, (_, _, *below) = np.random.default_rng(0), ARGUMENTS[kind][suffix]
    if below:
        return rng.integers(0, *below, (samples, *shape))
    return rng.standard_normal((samples, *shape))


def test_the_table_has_every_layer():
    kinds = {
        kind
        for kind in map(vars(exported).get, exported.__all__)
        if isinstance(kind, type) and issubclass(kind, nnx.Layer)
    }
    assert set(SHAPES) == kinds - BASES
    for kind, of_kind in SHAPES.items():
        assert list(of_kind) == list(ARGUMENTS[kind])


@each_item
def test_what_follows_from_none_is_none(kind, suffix):
    shape, expected = SHAPES[kind][suffix]
    assert ARGUMENTS[kind][suffix][0]().output_shape(shape) == expected


@each_item
def test_none_stands_for_what_depends_on_it_and_for_nothing_else(kind, suffix):
    """For None in each choice of axes: a length is None if it differs for two lengths of these."""
    layer, (shape, _) = ARGUMENTS[kind][suffix][0](), SHAPES[kind][suffix]
    axes = [i for i, n in enumerate(shape) if n is None]
    one, other = filled(shape, (6, 7, 9)), filled(shape, (10, 11, 5))
    for free in itertools.product((False, True), repeat=len(axes)):
        given = [axis for axis, is_free in zip(axes, free, strict=True) if is_free]
        partly = tuple(None if i in given else n for i, n in enumerate(one))
        varied = tuple(other[i] if i in given else n for i, n in enumerate(one))
        pairs = zip(layer.output_shape(one), layer.output_shape(varied), strict=True)
        assert layer.output_shape(partly) == tuple(m if m == n else None for m, n in pairs), partly


@each_item
def test_one_network_takes_several_lengths(backend, kind, suffix):
    make, (shape, _) = ARGUMENTS[kind][suffix][0], SHAPES[kind][suffix]
    net = nnx.SequentialNet(shape, [make()])
    several = ((6, 7, 9), (8, 9, 6), (6, 7, 9))
    # JAX compiles for each length; tests/test_history.py trains on several there.
    for lengths in several[: 1 if backend.name == "jax" else 3]:
        x = backend.asarray(inputs(kind, suffix, filled(shape, lengths)))
        y, backward = net.forward(x)
        assert tuple(y.shape[1:]) == net.layers[0].output_shape(tuple(x.shape[1:]))
        assert fits(net.output_shape, tuple(y.shape[1:]))
        dx, gradients = backward(backend.xp.ones_like(y))
        assert tuple(dx.shape) == tuple(x.shape)
        trained = slots(walk(net))
        for slot, gradient in zip(trained, gather(trained, gradients), strict=True):
            assert gradient.shape == slot.array.shape


@each_item
def test_the_gradients_are_right_at_every_length(kind, suffix):
    layer, (shape, _) = ARGUMENTS[kind][suffix][0](), SHAPES[kind][suffix]
    for lengths in ((6, 7, 9), (5, 4, 4) if kind is not nnx.Conv1DLayer else (8,)):
        x = inputs(kind, suffix, filled(shape, lengths), samples=3)
        check_gradients(layer, x, directions=1, autodiff=())


# What needs a length that it does not get: layer, input shape, what the message says.
SIZES = "give the network's input shape without None"
NEEDS = {
    "Flatten, images": (nnx.FlattenLayer, (8, None, None), f"put a GlobalAvgPoolLayer .* {SIZES}"),
    "Flatten, sequence": (nnx.FlattenLayer, (None, 8), f"known lengths, got .*; {SIZES};"),
    "Dense, features": (lambda: nnx.DenseLayer(8, 2), (None,), f"{SIZES} for the last axis"),
    "Dense, steps": (lambda: nnx.DenseLayer(8, 2), (5, None), f"{SIZES} for the last axis"),
    "Dense, other": (lambda: nnx.DenseLayer(8, 2), (None, 7), r"got \(None, 7\); give it 7 inputs"),
    "Dense, images": (lambda: nnx.DenseLayer(8, 2), (8, None, None), f"GlobalAvgPool.* {SIZES}"),
    "LSTM": (lambda: nnx.LSTMLayer(8, 2), (None, None), f"{SIZES} for the features"),
    "GRU": (lambda: nnx.GRULayer(8, 2), (5, None), f"{SIZES} for the features"),
    "RNN, images": (lambda: nnx.RNNLayer(8, 2), (1, None, None), r"\(time, 8\), got \(1, None, No"),
    "attention": (lambda: nnx.MultiHeadAttentionLayer(8, 2), (None, None), f"{SIZES} for the feat"),
    "positions": (
        lambda: nnx.PositionalEncodingLayer(8),
        (None, None),
        f"{SIZES} for the features",
    ),
    "BatchNorm": (lambda: nnx.BatchNormLayer(8), (None, 5, 5), f"{SIZES} for the channels"),
    "GroupNorm": (lambda: nnx.GroupNormLayer(2, 8), (None,), f"{SIZES} for the channels"),
    "LayerNorm": (lambda: nnx.LayerNormLayer((2, 5)), (3, None, 5), f"{SIZES} for these axes"),
    "Conv1D": (lambda: nnx.Conv1DLayer(3, 2, 3), (None, 3), f"{SIZES} for the channels"),
    "Conv2D": (lambda: nnx.Conv2DLayer(3, 2, 3), (None, 9, 9), f"{SIZES} for the channels"),
    "transposed": (
        lambda: nnx.ConvTranspose2DLayer(3, 2, 3),
        (None, 9, 9),
        f"{SIZES} for the channels",
    ),
    "Conv2D, a known axis is too small": (
        lambda: nnx.Conv2DLayer(3, 2, 3),
        (3, None, 2),
        r"windows of width 3, got input of shape \(3, None, 2\)",
    ),
    "pooling, a known axis is too small": (nnx.MaxPool2DLayer, (3, 1, None), "windows of height 2"),
    "pooling, windows of padding": (
        lambda: nnx.MaxPool2DLayer(2, padding=1, dilation=3),
        (3, None, 2),
        "nothing but padding",
    ),
    "transposed, nothing is left": (
        lambda: nnx.ConvTranspose2DLayer(3, 2, 1, padding=1),
        (3, None, 2),
        r"leaving \(None, 0\)",
    ),
    "reshape": (
        lambda: nnx.ReshapeLayer((3, 4)),
        (None, 5),
        r"of 12 numbers, got input of shape \(None, 5\) with a multiple of 5",
    ),
    "residual": (
        lambda: nnx.ResidualLayer(nnx.DenseLayer(8, 7)),
        (None, 8),
        r"expected \(None, 8\), got \(None, 7\)",
    ),
    "sum": (
        lambda: nnx.ParallelLayer([nnx.DenseLayer(8, 7), nnx.DenseLayer(8, 6)], "sum"),
        (None, 8),
        r"outputs of one shape, got \(None, 7\), \(None, 6\)",
    ),
    "concatenation": (
        lambda: nnx.ParallelLayer([nnx.GRULayer(8, 7), nnx.DenseLayer(8, 7)]),
        (None, 8),
        r"expected outputs that differ there only, got \(7,\), \(None, 7\)",
    ),
}


@pytest.mark.parametrize("what", NEEDS)
def test_what_a_layer_needs_is_said(what):
    make, shape, message = NEEDS[what]
    with pytest.raises(nnx.ShapeError, match=message) as caught:
        nnx.SequentialNet(shape, [make()])
    assert str(caught.value).startswith("layer 1 (")
    assert str(caught.value).endswith(f"; the network's input is {shape}")


# What passes when the network is made, as a length is not known: layers, input shape, the shape of
# samples that do not fit, what the message of the first step says.
LATER = {
    "convolution": (lambda: [nnx.Conv2DLayer(1, 2, 5)], (1, None, None), (1, 9, 4), "of width 5"),
    "second convolution": (
        lambda: [nnx.Conv1DLayer(1, 2, 5), nnx.Conv1DLayer(2, 2, 5)],
        (1, None),
        (1, 8),
        r"layer 2 \(Conv1DLayer\) has windows of length 5",
    ),
    "pooling": (lambda: [nnx.MaxPool2DLayer(3)], (1, None, None), (1, 2, 9), "windows of height 3"),
    "transposed": (
        lambda: [nnx.ConvTranspose2DLayer(1, 1, 3, padding=2)],
        (1, None, None),
        (1, 1, 8),
        "cuts off the whole output",
    ),
    "positions": (lambda: [nnx.PositionalEncodingLayer(4, 6)], (None, 4), (7, 4), "max_time=6"),
    "reshape": (lambda: [nnx.ReshapeLayer((3, 4))], (None, 4), (5, 4), "of 12 numbers, got .* 20"),
    "reshape with -1": (lambda: [nnx.ReshapeLayer((3, -1))], (None, 4), (4, 4), "16 numbers are"),
    "residual": (
        lambda: [nnx.ResidualLayer([nnx.PermuteLayer((2, 1))])],
        (None, 4),
        (5, 4),
        r"expected \(5, 4\), got \(4, 5\)",
    ),
    "sum": (
        lambda: [nnx.ParallelLayer([nnx.ReshapeLayer((3, 4)), nnx.DropoutLayer()], "sum")],
        (None, None),
        (2, 6),
        r"got \(3, 4\), \(2, 6\)",
    ),
    "concatenation": (
        lambda: [nnx.ParallelLayer([nnx.PermuteLayer((2, 1)), nnx.DropoutLayer()])],
        (None, 4),
        (5, 4),
        r"got \(4, 5\), \(5, 4\)",
    ),
    "no time step": (lambda: [nnx.LSTMLayer(4, 2)], (None, 4), (0, 4), r"\(samples, None, 4\)"),
    "another rank": (lambda: [nnx.LSTMLayer(4, 2)], (None, 4), (4,), r"\(samples, None, 4\)"),
    "other features": (lambda: [nnx.LSTMLayer(4, 2)], (None, 4), (5, 3), r"\(samples, None, 4\)"),
}


@pytest.mark.parametrize("what", LATER)
def test_a_batch_that_does_not_fit_is_refused_before_the_first_step(backend, what):
    make, shape, given, message = LATER[what]
    net = nnx.SequentialNet(shape, make())
    x = backend.xp.ones((2, *given), dtype=backend.dtype, device=backend.device)
    with pytest.raises(nnx.ShapeError, match=message):
        net.step(x, x)


@pytest.mark.parametrize("merge", ["sum", "concat"])
def test_branches_know_what_one_of_them_knows(merge):
    branches = [nnx.ReshapeLayer((3, 4)), nnx.DropoutLayer()]
    layer = nnx.ParallelLayer(branches, merge)
    assert layer.output_shape((None, None)) == ((3, 4) if merge == "sum" else (3, None))
    assert layer.output_shape((3, None)) == ((3, 4) if merge == "sum" else (3, None))
    assert nnx.ResidualLayer(branches[0]).output_shape((None, None)) == (3, 4)
    turned = [nnx.PermuteLayer((2, 1)), nnx.DropoutLayer()]  # (8, None) and (None, 8)
    assert nnx.ParallelLayer(turned, merge).output_shape((None, 8)) == (
        (8, 8) if merge == "sum" else (8, None)
    )


def test_shapes_fit_where_one_is_none():
    assert fits((None, 3), (5, 3))
    assert fits((None, 3), (5, None))
    assert not fits((None, 3), (5, 4))
    assert not fits((None, 3), (3,))
    assert merged((None, 3, None), (5, None, None)) == (5, 3, None)
    assert merged((None, 3), (5, None), (6, 3)) is None
    assert (total(2, 3), total(2, None)) == (5, None)
    assert (product(2, 3), product(2, None), product()) == (6, None, 1)


def image_net():
    layers = [
        nnx.Conv2DLayer(1, 4, 3, padding="same", stride=2),
        nnx.BatchNormLayer(4),
        nnx.ParallelLayer(
            [nnx.Conv2DLayer(4, 3, 1), nnx.ResidualLayer(nnx.ActivationLayer(nnx.ELU()))]
        ),
        nnx.MaxPool2DLayer(2),
        nnx.GlobalAvgPoolLayer(),
        nnx.DenseLayer(7, 3, nnx.SoftMax()),
    ]
    return layers, (1, None, None), ((1, 9, 8), (1, 12, 11))


def sequence_net():
    layers = [
        nnx.PositionalEncodingLayer(4, 20, mask_value=0.0),
        nnx.MultiHeadAttentionLayer(4, 2, mask_value=0.0),
        nnx.LayerNormLayer(4),
        nnx.BidirectionalLayer(
            nnx.GRULayer(4, 3, return_sequences=True),
            nnx.LSTMLayer(4, 3, return_sequences=True, reverse=True),
        ),
        nnx.PermuteLayer((2, 1)),
        nnx.Conv1DLayer(6, 5, 3, padding="same"),
        nnx.PermuteLayer((2, 1)),
        nnx.RNNLayer(5, 4),
        nnx.DenseLayer(4, 3, nnx.SoftMax()),
    ]
    return layers, (None, 4), ((6, 4), (9, 4))


def steps_net():
    layers = [
        nnx.GRULayer(4, 5, return_sequences=True, mask_value=0.0),
        nnx.DenseLayer(5, 3, nnx.SoftMax()),
    ]
    return layers, (None, 4), ((6, 4), (9, 4))


NETS = [image_net, sequence_net, steps_net]


@pytest.mark.parametrize("make", NETS)
def test_gradients_of_one_network_at_two_lengths(make):
    layers, shape, several = make()
    net, rng = nnx.SequentialNet(shape, layers, nnx.CrossEntropy()), np.random.default_rng(0)
    for given in several:
        x = rng.standard_normal((4, *given))
        check_gradients(net, x, training=True, directions=2, autodiff=())


@pytest.mark.parametrize("make", NETS)
def test_steps_are_those_of_networks_without_none(backend, make):
    """One network with batches of two lengths, and for each batch one that knows its length."""
    if backend.name == "jax":
        pytest.skip("it compiles for each length; tests/test_history.py trains on several there")
    layers, shape, several = make()
    net, rng = nnx.SequentialNet(shape, layers, nnx.CrossEntropy()), np.random.default_rng(0)
    twin = net.to(backend)
    for given in (*several, *several):
        x = backend.asarray(rng.standard_normal((4, *given)))
        outputs = net.layers[-1].no
        like = twin.forward(x)[0].shape[:-1]
        y = backend.asarray(rng.integers(0, outputs, like), dtype=backend.integer_dtype)
        net.step(x, y)
        twin.input_shape = given
        twin.step(x, y)
        for one, other in zip(net.parameters.values(), twin.parameters.values(), strict=True):
            np.testing.assert_array_equal(backend.to_numpy(one), backend.to_numpy(other))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nnx.RNNLayer(4, 3, mask_value=0.0),
        lambda: nnx.LSTMLayer(4, 3, mask_value=0.0),
        lambda: nnx.GRULayer(4, 3, mask_value=0.0, return_sequences=True),
        lambda: nnx.MultiHeadAttentionLayer(4, 2, mask_value=0.0),
    ],
    ids=["RNN", "LSTM", "GRU, sequences", "attention"],
)
def test_padding_to_a_longer_batch_changes_nothing(backend64, layer):
    net = nnx.SequentialNet((None,), [nnx.EmbeddingLayer(7, 4, padding_index=0), layer()])
    tokens = np.random.default_rng(0).integers(1, 7, (3, 5))
    longer = np.concatenate([tokens, np.zeros((3, 4), int)], axis=1)
    short, long = (net.forward(backend64.asarray(x))[0] for x in (tokens, longer))
    if len(net.output_shape) == 2:
        assert not np.any(backend64.to_numpy(long)[:, 5:])
        long = long[:, :5, :]
    np.testing.assert_allclose(
        backend64.to_numpy(long), backend64.to_numpy(short), rtol=1e-13, atol=1e-15
    )


class Own(nnx.Layer):
    """Forgets that a length may be None."""

    def forward(self, x, training=False):
        return x[:, :, 1:], lambda delta: (delta, {})

    def output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] - 1)


@pytest.mark.parametrize(
    ("wrap", "who"),
    [
        (lambda layer: [layer], r"layer 1 \(Own\)"),
        (lambda layer: [nnx.DropoutLayer(), layer], r"layer 2 \(Own\)"),
        (lambda layer: [nnx.ResidualLayer([layer])], r"layer 1 \(ResidualLayer\) layer 1 \(Own\)"),
        (lambda layer: [nnx.ResidualLayer(layer)], r"layer 1 \(ResidualLayer\)"),
        (lambda layer: [nnx.ParallelLayer([layer])], r"layer 1 \(ParallelLayer\)"),
    ],
)
def test_a_layer_of_ones_own_that_computes_with_none_is_named(wrap, who):
    expected = (
        who
        + r" does not take axes of any length: Own.output_shape\(\(1, None\)\) raises TypeError,"
        r" unsupported .*; handle None in it, or give the network's input shape without None"
    )
    with pytest.raises(nnx.ShapeError, match=expected):
        nnx.SequentialNet((1, None), wrap(Own()))


def test_other_errors_of_an_output_shape_are_its_own():
    """Without None in the input the error is not one of None."""

    class Broken(Own):
        def output_shape(self, input_shape):
            return input_shape + 1

    with pytest.raises(TypeError, match="can only concatenate tuple"):
        nnx.SequentialNet((1, 5), [Broken()])


def test_a_batch_of_one_is_refused_as_soon_as_its_values_are_counted(backend):
    """One sample has several values per channel if its image has several cells."""
    net = nnx.SequentialNet((2, None, None), [nnx.BatchNormLayer(2)])
    net.check_batch((2, None, None), 1)
    several, single = (
        backend.asarray(np.random.default_rng(0).standard_normal((1, 2, n, 1))) for n in (3, 1)
    )
    net.step(several, several)
    with pytest.raises(nnx.ShapeError, match="more than one value per channel"):
        net.step(single, single)


@pytest.mark.parametrize("shape", [None, (0, 4), (None, 0), (None, True), (None, 2.5), ("a", None)])
def test_what_is_no_shape(shape):
    with pytest.raises(
        ValueError,
        match=re.escape(f"None for an axis of any length as in (None, 8), got {shape!r}"),
    ):
        nnx.SequentialNet(shape, [nnx.DropoutLayer()])


def test_a_network_shows_and_keeps_its_none(capsys):
    net = nnx.SequentialNet([None, np.int64(4)], [nnx.LSTMLayer(4, 3, return_sequences=True)])
    assert net.input_shape == (None, 4)
    assert net.output_shape == (None, 3)
    net.summary()
    shown = capsys.readouterr().out
    assert "(None, 4)" in shown
    assert "(None, 3)" in shown
    assert net.clone().input_shape == (None, 4)
    net.input_shape = (7, 4)
    assert net.output_shape == (7, 3)
    with pytest.raises(nnx.ShapeError, match=SIZES):
        net.input_shape = (None, None)
    assert net.input_shape == (7, 4)


def test_backends_are_compared_with_inputs_whose_lengths_are_known():
    def make():
        return nnx.SequentialNet((None, 4), [nnx.LSTMLayer(4, 3)])

    with pytest.raises(ValueError, match=r"expected x for a network with input shape \(None, 4\)"):
        check_backends(make, backends=["numpy"])
