"""nnx.onnx: onnxruntime computes what the network computes, with the operators of the standard."""

import importlib
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

import nnx
import nnx.layers
import nnx.onnx

pytest.importorskip("onnx", reason='pip install "nnx-array[onnx]"')
pytest.importorskip("onnxruntime", reason="pip install onnxruntime")

from onnx_models import CASES, difference, operators, run, stirred, written

from nnx.onnx.activations import ACTIVATIONS
from nnx.onnx.graph import NO_FLOAT64, OPSET
from nnx.onnx.table import LAYERS

TOLERANCE = 2e-6
BASES = {"AffineLayer", "ConvolutionLayer", "Container", "Layer", "PoolingLayer", "RecurrentLayer"}
FAMILIES = {"AbsLike", "Activation", "HeavisideLike", "ReLULike", "SignLike"}

# What each kind becomes, besides its activation.
OPERATORS = {
    "ActivationLayer": ["Tanh"],
    "AvgPool2DLayer": ["AveragePool"],
    "BatchNormLayer": ["BatchNormalization"],
    "BatchNormLayer, images": ["BatchNormalization"],
    "Conv1DLayer": ["Conv", "Tanh"],
    "Conv2DLayer": ["Conv", "Tanh"],
    "Conv2DLayer, strided": ["Conv", "Relu"],
    "ConvTranspose2DLayer": ["ConvTranspose", "Tanh"],
    "DenseLayer": ["Gemm", "Tanh"],
    "DenseLayer, sequence": ["MatMul", "Add", "Relu"],
    "EmbeddingLayer": ["Gather"],
    "EmbeddingLayer, padding": ["Gather"],
    "FlattenLayer": ["Flatten"],
    "GRULayer": ["Transpose", "GRU", "Squeeze"],
    "GlobalAvgPoolLayer": ["GlobalAveragePool", "Flatten"],
    "GroupNormLayer, images": ["GroupNormalization"],
    "LSTMLayer": ["Transpose", "LSTM", "Squeeze"],
    "LSTMLayer, sequences in reverse": ["Transpose", "LSTM", "Squeeze", "Transpose"],
    "LayerNormLayer": ["LayerNormalization"],
    "LayerNormLayer, two axes": ["LayerNormalization"],
    "MaskedLayer": ["MatMul", "Add", "Relu", "Equal", "Cast", "ReduceMin", "Equal", "Where"],
    "MaxPool2DLayer": ["MaxPool"],
    "MultiHeadAttentionLayer": ["MatMul", "Add", "Split", "Attention", "MatMul", "Add"],
    "ParallelLayer": ["Gemm", "Relu", "Gemm", "Relu", "Concat"],
    "ParallelLayer, sum": ["Gemm", "Tanh", "Gemm", "Sigmoid", "Sum"],
    "PermuteLayer": ["Transpose"],
    "PositionalEncodingLayer": ["Slice", "Add"],
    "RNNLayer": ["Transpose", "RNN", "Squeeze"],
    "ReshapeLayer": ["Reshape"],
    "ResidualLayer": ["Gemm", "Tanh", "Gemm", "Sigmoid", "Add"],
    "SequentialLayer": ["Gemm", "Tanh", "Gemm", "Sigmoid"],
    "RandomFlipLayer": ["Identity"],
    "RescalingLayer": ["Mul", "Add"],
    "StandardizeLayer": ["Sub", "Div"],
    "StandardizeLayer, images": ["Sub", "Div"],
    "UpSampling2DLayer": ["Resize"],
    "ZeroPadding2DLayer": ["Pad"],
}
# Activations whose operator has the name of ONNX.
NAMED = {
    nnx.CELU(0.7): "Celu",
    nnx.ELU(0.7): "Elu",
    nnx.GELU(): "Gelu",
    nnx.GELUTanh(): "Gelu",
    nnx.SELU(): "Selu",
    nnx.Abs(): "Abs",
    nnx.ArcTan(): "Atan",
    nnx.Exp(): "Exp",
    nnx.HardShrink(0.3): "Shrink",
    nnx.HardSigmoid(0.3, 0.4): "HardSigmoid",
    nnx.HardSwish(): "HardSwish",
    nnx.HardTanh(): "Clip",
    nnx.LeakyReLU(0.2): "LeakyRelu",
    nnx.LogSoftmax(): "LogSoftmax",
    nnx.Logistic(): "Sigmoid",
    nnx.Mish(): "Mish",
    nnx.ReLU(): "Relu",
    nnx.ReLU6(): "Clip",
    nnx.Sign(): "Sign",
    nnx.Sinusoid(): "Sin",
    nnx.SoftMax(): "Softmax",
    nnx.SoftPlus(): "Softplus",
    nnx.SoftShrink(0.3): "Shrink",
    nnx.SoftSign(): "Softsign",
    nnx.Swish(2.0): "Swish",
    nnx.TanH(): "Tanh",
    nnx.ThresholdedReLU(0.4): "ThresholdedRelu",
}
OTHERS = [
    nnx.Abs(0.7), nnx.BentIdentity(), nnx.Gaussian(), nnx.Heaviside(), nnx.ISRU(0.5), nnx.LOCo(),
    nnx.LOCo(2.5), nnx.Linear(), nnx.LogSigmoid(), nnx.Logistic(2.5), nnx.ModifiedHeaviside(),
    nnx.Sinusoid(2.5), nnx.SoftAbs(2.0), nnx.SoftPlus(2.5), nnx.SoftSign(2.5), nnx.Squareplus(3.0),
    nnx.TanH(2.5), nnx.TanhShrink(), nnx.Twist(2.5),
]  # fmt: skip
POINTS = np.concatenate([np.linspace(-6, 6, 25), [-100, 80, -1e-3, 1e-3, 0, -1e30]])[None, :]


def inputs(shape, below):
    rng = np.random.default_rng(1)
    return rng.standard_normal(shape) if below is None else rng.integers(0, below, shape)


def dense(ni, no, *afun):
    return nnx.DenseLayer(ni, no, *afun)


@pytest.mark.parametrize("case", CASES, ids=[case[1] for case in CASES])
def test_every_layer_is_computed_by_the_operators_of_its_kind(case):
    _, name, make, shape, below = case
    net = stirred(nnx.SequentialNet(shape[1:], [make()]))
    model = nnx.onnx.to_model(net)
    x = inputs(shape, below)
    assert difference(net, x, x[:1], model=model) <= TOLERANCE
    if name in OPERATORS:
        assert operators(model) == OPERATORS[name]
    assert model.opset_import[0].version == OPSET
    assert len(model.opset_import) == 1


@pytest.mark.parametrize("afun", [*NAMED, *OTHERS], ids=repr)
def test_every_activation_is_computed_by_its_operator_or_its_formula(afun):
    net = nnx.SequentialNet(POINTS.shape[1], [nnx.ActivationLayer(afun)], nnx.MeanSquaredError())
    model = nnx.onnx.to_model(net)
    assert difference(net, POINTS, model=model) <= TOLERANCE
    if afun in NAMED:
        assert operators(model) == [NAMED[afun]]


def test_every_class_has_a_form():
    """There is none without one; a layer that cannot have one would be a decision to write down."""
    layers = {
        getattr(nnx.layers, name)
        for name in set(nnx.layers.__all__) - BASES
        if inspect.isclass(getattr(nnx.layers, name))
        and issubclass(getattr(nnx.layers, name), nnx.Layer)
    }
    assert layers == set(LAYERS)
    assert layers == {kind for kind, *_ in CASES}
    activations = {getattr(nnx.activations, name) for name in nnx.activations.__all__}
    activations -= {getattr(nnx.activations, name) for name in FAMILIES}
    assert activations == set(ACTIVATIONS)
    assert activations == {type(afun) for afun in [*NAMED, *OTHERS]}


def test_the_names_say_where_in_the_network_something_is():
    twice = dense(4, 4, nnx.TanH())
    block = nnx.ResidualLayer([twice, dense(4, 4)])
    net = nnx.SequentialNet(
        (None, 4), [twice, block, nnx.LSTMLayer(4, 3), dense(3, 2), dense(2, 2)]
    )
    model = nnx.onnx.to_model(net)
    weights = [
        array.name for array in model.graph.initializer if array.dims and array.data_type == 1
    ]
    assert weights == [
        "0.W/transposed", "0.b", "1.0.1.W/transposed", "1.0.1.b",
        "2.W_ih/LSTM", "2.W_hh/LSTM", "2.b/LSTM", "3.W", "3.b", "4.W", "4.b",
    ]  # fmt: skip
    assert [node.name for node in model.graph.node] == [
        "0/MatMul", "0/Add", "0/Tanh", "1.0.0/MatMul", "1.0.0/Add", "1.0.0/Tanh", "1.0.1/MatMul",
        "1.0.1/Add", "1.0.1/Relu", "1/Add", "2/Transpose", "2/LSTM", "2/Squeeze", "3/Gemm",
        "3/Relu", "4/Gemm", "4/Relu",
    ]  # fmt: skip
    assert (
        difference(stirred(net), np.random.default_rng(0).standard_normal((3, 5, 4))) <= TOLERANCE
    )


def test_weights_are_stored_as_they_are_and_once():
    twice = dense(3, 3)
    net = stirred(nnx.SequentialNet(3, [twice, twice, nnx.BatchNormLayer(3)]))
    model = nnx.onnx.to_model(net)
    import onnx

    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert set(stored) == {*net.parameters, "2.mean", "2.variance"}
    for name, array in {**net.parameters, **net.buffers}.items():
        np.testing.assert_array_equal(stored[name], nnx.to_numpy(array))


def described(value):
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(
    ("shape", "layers", "x", "y"),
    [
        (3, [dense(3, 2)], ["samples", 3], ["samples", 2]),
        (
            (None, 3),
            [nnx.GRULayer(3, 2, return_sequences=True)],
            ["samples", "time", 3],
            ["samples", "time of y", 2],
        ),
        (
            (1, None, None),
            [nnx.Conv2DLayer(1, 2, 3)],
            ["samples", 1, "height", "width"],
            ["samples", 2, "height of y", "width of y"],
        ),
        ((2, None), [nnx.GlobalAvgPoolLayer()], ["samples", 2, "length"], ["samples", 2]),
    ],
    ids=["rows", "sequences", "images", "signals"],
)
def test_free_axes_stay_free(shape, layers, x, y):
    graph = nnx.onnx.to_model(nnx.SequentialNet(shape, layers)).graph
    assert described(graph.input[0]) == x
    assert described(graph.output[0]) == y


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize(
    "make",
    [
        lambda **how: nnx.Conv2DLayer(2, 3, (3, 2), **how),
        lambda **how: nnx.ConvTranspose2DLayer(2, 3, (2, 3), **how),
        lambda **how: nnx.MaxPool2DLayer(3, **how),
        lambda **how: nnx.AvgPool2DLayer(3, **how),
        lambda **how: nnx.AvgPool2DLayer(3, count_include_pad=False, **how),
    ],
    ids=["convolution", "transposed", "maximum", "mean", "mean of cells"],
)
def test_images_of_every_size(make, stride, padding):
    rng = np.random.default_rng(0)
    net = stirred(nnx.SequentialNet((2, None, None), [make(stride=stride, padding=padding)]))
    xs = [rng.standard_normal((n, 2, *space)) for n, space in ((3, (8, 9)), (1, (7, 5)))]
    assert difference(net, *xs) <= TOLERANCE
    fixed = nnx.SequentialNet((2, 8, 9), net.layers)
    assert difference(fixed, xs[0]) <= TOLERANCE


def test_padding_that_reaches_over_the_kernel():
    net = nnx.SequentialNet((2, 8, 9), [nnx.MaxPool2DLayer(3, 1, "same", dilation=4)])
    assert difference(net, np.random.default_rng(0).standard_normal((3, 2, 8, 9)) - 5) == 0


def test_one_channel_side_by_side_with_the_input():
    parts = [nnx.DropoutLayer(), nnx.ParallelLayer([nnx.FlattenLayer(), nnx.ReshapeLayer((-1,))])]
    net = nnx.SequentialNet(4, [nnx.ParallelLayer(parts), nnx.GaussianNoiseLayer(1.0)])
    assert difference(net, np.random.default_rng(0).standard_normal((3, 4))) == 0


def test_groups_far_from_zero():
    """Where mean(x^2) - mean(x)^2 has no digits left in float32."""
    x = np.float32(np.random.default_rng(0).standard_normal((3, 4, 5)) + 1000)
    groups = np.float64(x).reshape(3, 2, 10)
    centred = groups - groups.mean(axis=-1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    got = run(nnx.onnx.to_model(nnx.SequentialNet((4, 5), [nnx.GroupNormLayer(2, 4)])), x)
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=1e-4)


def test_a_network_that_is_the_identity():
    net = nnx.SequentialNet(4, [nnx.DropoutLayer()])
    model = nnx.onnx.to_model(net)
    assert operators(model) == ["Identity"]
    assert difference(net, np.ones((2, 4)), model=model) == 0


# Whole networks.


def example(name):
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def transformer():
    attend = [nnx.LayerNormLayer(8), nnx.MultiHeadAttentionLayer(8, 2, causal=True)]
    think = [nnx.LayerNormLayer(8), dense(8, 32, nnx.GELU()), dense(32, 8, nnx.Linear())]
    layers = [nnx.EmbeddingLayer(50, 8), nnx.PositionalEncodingLayer(8, 20)]
    layers += [nnx.ResidualLayer(attend), nnx.ResidualLayer(think), dense(8, 50, nnx.SoftMax())]
    return nnx.SequentialNet((None,), layers, nnx.CrossEntropy())


def residual_network():
    def block(n):
        body = [nnx.Conv2DLayer(n, n, 3, nnx.Linear(), padding="same"), nnx.BatchNormLayer(n)]
        body += [nnx.ActivationLayer(nnx.ReLU())]
        return [nnx.ResidualLayer(body), nnx.ActivationLayer(nnx.ReLU())]

    layers = [nnx.Conv2DLayer(3, 8, 3, stride=2, padding="same"), *block(8), *block(8)]
    layers += [nnx.GlobalAvgPoolLayer(), dense(8, 10, nnx.SoftMax())]
    return nnx.SequentialNet((3, None, None), layers, nnx.CrossEntropy())


NETWORKS = {
    "LeNet": (
        lambda: example("mnist_cnn").build((1, 28, 28), (6, 16), 0.001),
        [(5, 1, 28, 28), (1, 1, 28, 28)],
        "Conv Relu MaxPool Conv Relu MaxPool Flatten Gemm Relu Gemm Relu Gemm Softmax",
    ),
    "addition": (
        lambda: example("sequence").build("gru", 8, 32, 0.01),
        [(5, 9, 20), (1, 9, 20)],
        "Transpose GRU Squeeze Transpose MatMul Add Softmax",
    ),
    "transformer": (
        transformer,
        [(3, 7), (1, 20)],
        "Gather Shape Slice Add "
        "LayerNormalization MatMul Add Split Attention MatMul Add Add "
        "LayerNormalization MatMul Add Gelu MatMul Add Add MatMul Add Softmax",
    ),
    "residual": (
        residual_network,
        [(3, 3, 16, 16), (2, 3, 11, 13)],
        "Conv Relu Conv BatchNormalization Relu Add Relu Conv BatchNormalization Relu Add Relu "
        "GlobalAveragePool Flatten Gemm Softmax",
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks(name, tmp_path):
    make, shapes, expected = NETWORKS[name]
    nnx.seed(0)
    net = stirred(make())
    path = tmp_path / "net.onnx"
    nnx.onnx.export(net, path)
    assert written(tmp_path) == ["net.onnx"]
    rng = np.random.default_rng(0)
    tokens = name == "transformer"
    xs = [rng.integers(0, 50, s) if tokens else rng.standard_normal(s) for s in shapes]
    assert difference(net, *xs, model=path.read_bytes()) <= TOLERANCE
    assert operators(nnx.onnx.to_model(net)) == expected.split()


def test_a_network_of_any_backend_gives_the_same_model(backend):
    def build():
        nnx.seed(3)
        layers = [nnx.Conv2DLayer(1, 2, 3), nnx.FlattenLayer(), dense(8, 3, nnx.SoftMax())]
        return nnx.SequentialNet((1, 4, 4), layers, nnx.CrossEntropy())

    found = nnx.onnx.to_model(build())
    with nnx.use_backend("numpy"):
        assert found == nnx.onnx.to_model(build())


# float64.


@pytest.mark.parametrize("case", CASES, ids=[case[1] for case in CASES])
def test_float64_where_onnxruntime_has_it(case):
    """In float64, too, it gives the same, or the operator that it lacks is in the list."""
    _, _, make, shape, below = case
    with nnx.use_backend("numpy", dtype="float64"):
        net = stirred(nnx.SequentialNet(shape[1:], [make()]))
        x = inputs(shape, below)
        used = set(operators(nnx.onnx.to_model(net, dtype="float32")))
        if used & NO_FLOAT64:
            with pytest.raises(nnx.onnx.ExportError, match=r'write .*dtype="float32"'):
                nnx.onnx.to_model(net)
            assert difference(net, x, dtype="float32") <= TOLERANCE
        else:
            assert difference(net, x) <= 1e-7  # attributes such as epsilon are float32 in ONNX


@pytest.mark.parametrize("name", sorted(NO_FLOAT64))
def test_the_list_of_what_onnxruntime_lacks_is_right(name, monkeypatch):
    graph = importlib.import_module("nnx.onnx.graph")
    monkeypatch.setattr(graph, "NO_FLOAT64", frozenset())
    makes = {"Sinh": (lambda: nnx.ActivationLayer(nnx.LOCo()), (2, 3))}
    for afun, operator in NAMED.items():
        makes.setdefault(operator, (lambda afun=afun: nnx.ActivationLayer(afun), (2, 3)))
    for _, case, make, shape, _ in CASES:
        for operator in OPERATORS.get(case, [])[:2]:
            makes.setdefault(operator, (make, shape))
    make, shape = makes[name]
    with nnx.use_backend("numpy", dtype="float64"):
        net = nnx.SequentialNet(shape[1:], [make()])
        with pytest.raises(Exception, match=r"(?i)implement|not support|invalid|No Op|Type"):
            run(nnx.onnx.to_model(net), np.ones(shape))


def test_the_lines_of_the_page(tmp_path, monkeypatch):
    import onnxruntime

    page = (Path(__file__).parent.parent / "examples" / "README.md").read_text()
    section = page[page.index("**A network for other programs**") :]
    lines = [line[4:] for line in section.splitlines()[:9] if line.startswith("    ")]
    assert len(lines) == 3
    monkeypatch.chdir(tmp_path)
    net, x = nnx.SequentialNet(3, [dense(3, 2)]), np.random.default_rng(0).standard_normal((5, 3))
    names = {"nnx": nnx, "onnxruntime": onnxruntime, "net": net, "x_test": x}
    exec("\n".join(lines), names)
    np.testing.assert_allclose(names["y"], nnx.to_numpy(net.predict(x)), rtol=TOLERANCE, atol=1e-6)


# Errors.


def test_nothing_is_written_if_a_part_has_no_form(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    pool = nnx.MaxPool2DLayer(3, 2, "same", dilation=2)
    net = nnx.SequentialNet((2, None, None), [nnx.ParallelLayer([nnx.SequentialLayer([pool])])])
    with pytest.raises(nnx.onnx.ExportError, match=r"^0\.0\.0 \(MaxPool2DLayer\): expected padd"):
        nnx.onnx.export(net, path)
    assert path.read_bytes() == b"before"
    assert written(tmp_path) == ["net.onnx"]


@pytest.mark.parametrize(
    "layer",
    [nnx.Conv1DLayer(2, 3, 3, stride=2, dilation=2, padding="same")],
)
def test_padding_that_only_the_array_tells(layer):
    with pytest.raises(nnx.onnx.ExportError, match=r"0 \(Conv1DLayer\): .*give the padding as"):
        nnx.onnx.to_model(nnx.SequentialNet((2, None), [layer]))
    net = nnx.SequentialNet((2, 9), [layer])
    assert difference(net, np.random.default_rng(0).standard_normal((3, 2, 9))) <= TOLERANCE


def test_arguments(tmp_path):
    with pytest.raises(TypeError, match=r"export: expected net to be .*SequentialNet\(784"):
        nnx.onnx.export(dense(3, 2), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="expected dtype to be one of 'float32', 'float64'"):
        nnx.onnx.export(nnx.SequentialNet(3, [dense(3, 2)]), tmp_path / "net.onnx", dtype="float16")
    with pytest.raises(OSError, match="make its directory first"):
        nnx.onnx.export(nnx.SequentialNet(3, [dense(3, 2)]), tmp_path / "none" / "net.onnx")


def test_a_network_with_a_forward_of_its_own():
    class Doubled(nnx.SequentialNet):
        def forward(self, x, training=False):
            return super().forward(2.0 * x, training)

    with pytest.raises(
        nnx.onnx.ExportError, match="Doubled: expected a network that is its layers"
    ):
        nnx.onnx.to_model(Doubled(3, [dense(3, 2)]))


def test_a_missing_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "nnx-array\[onnx\]"'):
        nnx.onnx.export(nnx.SequentialNet(3, [dense(3, 2)]), tmp_path / "net.onnx")
