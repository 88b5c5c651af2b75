"""Every layer keeps the arguments of its constructor, and checks each of them."""

import inspect
import math
import re

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.config import build, plain

OPTIM, INIT, L2 = nnx.Adam(0.01), nnx.HeNormal(), nnx.L2Regularizer(0.5)
SEQUENCES = {
    "recurrent_regularizer": nnx.L1Regularizer(0.25),
    "return_sequences": True,
    "truncate": 2,
    "mask_value": 0,
    "reverse": True,
}
AFFINE = {
    "afun": nnx.TanH(),
    "optim": OPTIM,
    "initializer": INIT,
    "kernel_regularizer": L2,
    "name": "mine",
}
TRAINED = {name: AFFINE[name] for name in ("optim", "initializer", "kernel_regularizer", "name")}
WINDOWS = {"stride": 2, "padding": 1, "dilation": 2}

# class -> the arguments that must be given, and further sets of arguments
LAYERS = {
    nnx.ActivationLayer: ({"afun": nnx.ReLU()}, {"afun": nnx.LeakyReLU(0.3), "name": "mine"}),
    nnx.AvgPool2DLayer: (
        {},
        {"pool_size": (3, 2), "stride": 2, "padding": "same", "count_include_pad": False},
        {"pool_size": [2, 2], "stride": (1, 2), "padding": np.int64(1), "name": "mine"},
    ),
    nnx.BatchNormLayer: (
        {"n": 3},
        {"momentum": 0, "epsilon": 1e-3, "affine": False, "optim": OPTIM, "name": "mine"},
    ),
    nnx.Conv1DLayer: (
        {"ni": 4, "no": 6, "kernel_size": 3},
        AFFINE,
        {**WINDOWS, "kernel_size": [2], "groups": 2, "bias": False},
        {"padding": "same", "name": "mine"},
    ),
    nnx.Conv2DLayer: (
        {"ni": 4, "no": 6, "kernel_size": 3},
        AFFINE,
        {**WINDOWS, "kernel_size": (2, 3), "groups": 2, "bias": False},
        {"stride": (1, 2), "padding": [0, 2], "dilation": np.array([1, 2])},
    ),
    nnx.ConvTranspose2DLayer: (
        {"ni": 4, "no": 6, "kernel_size": 3},
        AFFINE,
        {**WINDOWS, "groups": 2, "bias": False, "output_padding": 1},
        {"stride": (2, 3), "output_padding": (0, 1)},
    ),
    nnx.CutoutLayer: ({}, {"size": (2, 3), "name": "mine"}, {"size": [3, 3]}),
    nnx.DenseLayer: ({"ni": 4, "no": 6}, AFFINE, {"ni": np.int64(3), "afun": nnx.SoftMax()}),
    nnx.DropoutLayer: ({}, {"rate": 0.25, "name": "mine"}, {"rate": np.float32(0.5)}, {"rate": 0}),
    nnx.EmbeddingLayer: ({"ni": 4, "no": 6}, TRAINED, {"padding_index": 0}),
    nnx.FlattenLayer: ({}, {"name": "mine"}),
    nnx.GRULayer: ({"ni": 4, "no": 6}, TRAINED, SEQUENCES),
    nnx.GaussianNoiseLayer: ({"deviation": 0.5}, {"deviation": 0, "name": "mine"}),
    nnx.GlobalAvgPoolLayer: ({}, {"name": "mine"}),
    nnx.GroupNormLayer: (
        {"groups": 2, "n": 4},
        {"epsilon": 1e-3, "affine": False, "optim": OPTIM, "name": "mine"},
    ),
    nnx.LSTMLayer: ({"ni": 4, "no": 6}, TRAINED, {**SEQUENCES, "forget_bias": -2}),
    nnx.LayerNormLayer: (
        {"shape": 4},
        {"shape": [2, 3], "epsilon": 1e-3, "affine": False},
        {"optim": OPTIM, "name": "mine"},
    ),
    nnx.MaxPool2DLayer: (
        {},
        {"pool_size": (4, 3), "stride": 2, "padding": (2, 1), "dilation": (1, 2), "name": "mine"},
        {"padding": "same"},
    ),
    nnx.MultiHeadAttentionLayer: (
        {"ni": 4, "heads": 2},
        TRAINED,
        {"causal": True, "mask_value": -1.5},
    ),
    nnx.PermuteLayer: ({"axes": (2, 1)}, {"axes": [2, 3, 1], "name": "mine"}),
    nnx.PositionalEncodingLayer: (
        {"ni": 4},
        {"max_time": 7, "mask_value": 0.0, "name": "mine"},
    ),
    nnx.RNNLayer: ({"ni": 4, "no": 6}, AFFINE, SEQUENCES),
    nnx.RandomFlipLayer: ({}, {"horizontal": False, "vertical": True, "name": "mine"}),
    nnx.RandomShiftLayer: ({}, {"shift": (2, 0), "name": "mine"}, {"shift": [3, 3]}),
    nnx.RescalingLayer: (
        {"scale": 1 / 255},
        {"scale": np.float32(2.0), "offset": -1, "name": "mine"},
    ),
    nnx.ReshapeLayer: ({"shape": (2, -1)}, {"shape": [6], "name": "mine"}),
    nnx.StandardizeLayer: ({"n": 3}, {"axis": -1, "name": "mine"}),
    nnx.UpSampling2DLayer: ({}, {"size": (2, 3), "name": "mine"}, {"size": [3, 3]}),
    nnx.ZeroPadding2DLayer: (
        {},
        {"padding": [1, 2]},
        {"padding": ((1, 2), (0, 3))},
        {"padding": 0},
    ),
}
CASES = [
    pytest.param(kind, {**needed, **more}, id=f"{kind.__name__}-{i}")
    for kind, (needed, *others) in LAYERS.items()
    for i, more in enumerate([{}, *others])
]
BASES = {"AffineLayer", "ConvolutionLayer", "Layer", "PoolingLayer", "RecurrentLayer"}
CONTAINERS = {
    "BidirectionalLayer",
    "Container",
    "MaskedLayer",
    "ParallelLayer",
    "ResidualLayer",
    "SequentialLayer",
}


def arguments_of(kind):
    return list(inspect.signature(kind).parameters)


def test_every_layer_is_in_the_table():
    found = {kind.__name__ for kind in LAYERS} | BASES | CONTAINERS | {"Parameter", "ShapeError"}
    found.add("L2Regularizer")  # the exercise sheet has it among the layers
    assert found == set(nnx.layers.__all__)


@pytest.mark.parametrize(("kind", "arguments"), CASES)
def test_a_layer_is_made_anew_from_what_it_shows_and_from_plain_data(kind, arguments):
    layer = kind(**arguments)
    data = plain(layer)
    made = {
        "repr": eval(repr(layer), vars(nnx)),
        "clone": layer.clone(),
        "build": build(data),
    }
    for how, twin in made.items():
        assert type(twin) is kind, how
        assert plain(twin) == data, how
        assert repr(twin) == repr(layer), how
        shapes = {name: tuple(array.shape) for name, array in layer.parameters.items()}
        assert {n: tuple(a.shape) for n, a in twin.parameters.items()} == shapes, how


@pytest.mark.parametrize(("kind", "arguments"), CASES)
def test_what_was_given_is_what_is_kept(kind, arguments):
    layer = kind(**arguments)
    for name in arguments_of(kind):
        kept = getattr(layer, name)
        if name in arguments:
            given = arguments[name]
            if name == "optim":
                assert kept is not given
                assert plain(kept) == plain(given)
            elif name == "padding" and kind is nnx.ZeroPadding2DLayer:
                both_sides = np.ravel(given) if np.ndim(given) == 2 else np.repeat(given, 2)
                assert np.array_equal(np.ravel(kept), np.resize(both_sides, 4))
            elif isinstance(given, int) or np.ndim(given) == 1:
                assert np.array_equal(np.ravel(kept) * np.ones_like(given), np.ravel(given))
            else:
                assert kept == given


COUNT = ["0.5", "3", None, True, math.nan, -1, 0, 2.5, 3.0, [3], int]
COUNTS = ["3", None, True, math.nan, -1, 0, 2.5, (), (2, 2, 2, 2), (2, "2"), {2, 3}]
NUMBER = ["0.5", None, True, math.nan, math.inf, [0.5], 1j, float]
FLAG = ["yes", None, 0, 1, math.nan, []]
NAME = [5, True, ["hidden"], nnx.ReLU()]
ACTIVATION = ["relu", None, nnx.ReLU, 0.5, True, nnx.SGD()]
OPTIMIZER = ["adam", nnx.Adam, 0.1, True, nnx.ReLU()]
INITIALIZER = ["he", None, nnx.HeNormal, 0.5, np.ones((6, 4))]
PENALTY = ["l2", nnx.L2Regularizer, 0.1, True]
PADDING = ["half", None, True, math.nan, -1, 2.5, (1, "1")]
COMMON = {
    "afun": ACTIVATION,
    "bias": FLAG,
    "dilation": COUNTS,
    "epsilon": [*NUMBER, 0.0, -1e-5, 1e-46],
    "affine": FLAG,
    "groups": [*COUNT, 3],
    "heads": [*COUNT, 3],
    "initializer": INITIALIZER,
    "kernel_regularizer": PENALTY,
    "kernel_size": COUNTS,
    "mask_value": [v for v in NUMBER if v is not None],
    "n": COUNT,
    "name": NAME,
    "ni": COUNT,
    "no": COUNT,
    "optim": OPTIMIZER,
    "padding": PADDING,
    "pool_size": COUNTS,
    "recurrent_regularizer": PENALTY,
    "return_sequences": FLAG,
    "reverse": FLAG,
    "stride": COUNTS,
    "truncate": [v for v in COUNT if v is not None],
}
OPTIONAL_STRIDE = [v for v in COUNTS if v is not None]
OWN = {
    (nnx.AvgPool2DLayer, "count_include_pad"): FLAG,
    (nnx.AvgPool2DLayer, "stride"): OPTIONAL_STRIDE,
    (nnx.BatchNormLayer, "momentum"): [*NUMBER, -0.1, 1.5],
    (nnx.ConvTranspose2DLayer, "output_padding"): ["1", None, True, -1, 1.0, 1, (1, "1")],
    (nnx.CutoutLayer, "size"): COUNTS,
    (nnx.DropoutLayer, "rate"): [*NUMBER, -0.1, 1, 1.5],
    (nnx.EmbeddingLayer, "padding_index"): ["0", True, -1, 4, 0.0, math.nan],
    (nnx.GaussianNoiseLayer, "deviation"): [*NUMBER, -0.1],
    (nnx.LSTMLayer, "forget_bias"): NUMBER,
    (nnx.LayerNormLayer, "shape"): ["3", None, True, math.nan, 0, -1, 2.5, (), (3, -1), {2, 3}],
    (nnx.MaxPool2DLayer, "stride"): OPTIONAL_STRIDE,
    (nnx.MultiHeadAttentionLayer, "causal"): FLAG,
    (nnx.PermuteLayer, "axes"): ["21", None, True, 2, (), (1, 1), (0, 1), (2.0, 1), (1, "2")],
    (nnx.PositionalEncodingLayer, "max_time"): COUNT,
    (nnx.RandomFlipLayer, "horizontal"): FLAG,
    (nnx.RandomFlipLayer, "vertical"): FLAG,
    (nnx.RandomShiftLayer, "shift"): ["1", None, True, -1, 1.5, (1, 2, 3), (1, "2")],
    (nnx.RescalingLayer, "offset"): NUMBER,
    (nnx.RescalingLayer, "scale"): NUMBER,
    (nnx.ReshapeLayer, "shape"): ["3", None, 5, (0, 2), (-1, -1), (-2,), (2.5,), (True, 2)],
    (nnx.StandardizeLayer, "axis"): ["1", None, True, 0, 2, -2, 1.0],
    (nnx.UpSampling2DLayer, "size"): COUNTS,
    (nnx.ZeroPadding2DLayer, "padding"): [
        *["1", None, True, -1, 1.5, ((1, 2),), ((1, 2, 3), (1, 2)), (1, 2, 3), ((1, 2), 3.0)]
    ],
}
WRONG = [
    pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{value!r:.30}")
    for kind in LAYERS
    for name in arguments_of(kind)
    for value in OWN.get((kind, name), COMMON.get(name, ["an argument without wrong values"]))
]


@pytest.mark.parametrize(("kind", "name", "value"), WRONG)
def test_a_wrong_argument_is_named(kind, name, value):
    with pytest.raises((TypeError, ValueError)) as caught:
        kind(**{**LAYERS[kind][0], name: value})
    told = str(caught.value)
    form = rf"{kind.__name__}: expected (.* and )?{name}(\[\d\])* to be .+, got .+"
    if name in ("groups", "heads") and type(value) is int and value == 3:
        form = rf"{kind.__name__}: expected .+ multiples? of {name}, got .*{name}=3.*; change .+"
    assert re.fullmatch(form, told, re.DOTALL), told
    if isinstance(value, str) and value.isdecimal() and "integer" in told and "of" not in told:
        assert "convert text first" in told
    if inspect.isclass(value) and value not in (int, float):
        assert f"; write {value.__name__}()" in told


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [
        (kind(**needed), name, value)
        for kind, (needed, *_) in LAYERS.items()
        for name in ("afun", "initializer", "kernel_regularizer", "recurrent_regularizer")
        if name in arguments_of(kind)
        for value in COMMON[name]
    ],
)
def test_what_is_assigned_is_checked_as_well(layer, name, value):
    before = getattr(layer, name)
    with pytest.raises(TypeError, match=rf"^{type(layer).__name__}: expected {name} to be an obj"):
        setattr(layer, name, value)
    assert getattr(layer, name) is before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nnx.Conv2DLayer(3, 4, 3, groups=2), "expected ni and no to be multiples"),
        (
            lambda: nnx.GroupNormLayer(2, 5),
            "expected n to be a multiple of groups, got groups=2, n",
        ),
        (lambda: nnx.AvgPool2DLayer(2, padding=2), r"at most half the pool_size \(2, 2\), got 2"),
        (
            lambda: nnx.ConvTranspose2DLayer(1, 1, 3, stride=2, padding="same", output_padding=1),
            'expected output_padding to be 0 with padding="same"',
        ),
        (lambda: nnx.Conv2DLayer(1, 2, 3, nnx.SoftMax()), r"got SoftMax.*PermuteLayer\(\(2, 3, 1"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("dtype", "least"), [("float32", 2.0**-126), ("float64", 2.0**-1022)])
def test_an_epsilon_that_counts_as_zero_is_refused(dtype, least, backend_spec):
    with nnx.use_backend(usable(backend_spec), dtype=dtype):
        assert nnx.BatchNormLayer(2, epsilon=least).epsilon == least
        with pytest.raises(ValueError, match=r"epsilon to be at least .*; take 1e-5"):
            nnx.LayerNormLayer(2, epsilon=least / 2)


def both(**options):
    return nnx.BidirectionalLayer(nnx.GRULayer(3, 4), nnx.GRULayer(3, 4, reverse=True), **options)


@pytest.mark.parametrize("options", [{}, {"merge": "sum", "name": "mine"}])
def test_a_bidirectional_layer_is_made_anew_too(options):
    layer = both(**options)
    data = plain(layer)
    for twin in (eval(repr(layer), vars(nnx)), layer.clone(), build(data)):
        assert plain(twin) == data
    assert (layer.forward_layer, layer.backward_layer) == tuple(layer.children)


@pytest.mark.parametrize("merge", ["mean", None, "Sum", 1, True])
def test_the_merge_of_a_bidirectional_layer_is_checked(merge):
    with pytest.raises(ValueError, match=r"^BidirectionalLayer: expected merge to be one of 'conc"):
        both(merge=merge)


@pytest.mark.parametrize("wrong", [nnx.DenseLayer(3, 4), nnx.LSTMLayer, None, "lstm"])
def test_the_layers_of_a_bidirectional_layer_are_checked(wrong):
    with pytest.raises(TypeError, match="expected forward_layer to be an object such as LSTMLay"):
        nnx.BidirectionalLayer(wrong, nnx.LSTMLayer(3, 4, reverse=True))
    with pytest.raises(TypeError, match="expected backward_layer to be an object such as LSTML"):
        nnx.BidirectionalLayer(nnx.LSTMLayer(3, 4), wrong)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: nnx.DenseLayer(784, 100), "DenseLayer(784, 100)"),
        (
            lambda: nnx.Conv2DLayer(2, 6, (5, 3), nnx.Linear(), stride=2, bias=False),
            "Conv2DLayer(2, 6, (5, 3), afun=Linear(), stride=2, bias=False)",
        ),
        (lambda: nnx.MaxPool2DLayer((3, 2), 2, "same"), None),
        (lambda: nnx.LSTMLayer(3, 4, mask_value=0), "LSTMLayer(3, 4, mask_value=0.0)"),
        (lambda: nnx.ZeroPadding2DLayer(2), "ZeroPadding2DLayer(padding=((2, 2), (2, 2)))"),
        (lambda: nnx.DropoutLayer(), "DropoutLayer()"),
    ],
)
def test_a_layer_shows_the_arguments_that_are_not_the_defaults(layer, text):
    layer = layer()
    expected = text or "MaxPool2DLayer(pool_size=(3, 2), stride=2, padding='same')"
    assert repr(layer) == expected
