"""ONNX: layers, containers and activations of a user's own are traced, or say why not."""

import sys

import numpy as np
import pytest

import nnx
import nnx.onnx

pytest.importorskip("onnx", reason='pip install "nnx-array[onnx]"')
pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
pytest.importorskip("ndonnx", reason='pip install "nnx-array[onnx]"')

from onnx_models import difference, operators, stirred, written

TOLERANCE = 2e-6


class Own(nnx.Layer):
    """Base class of the layers below: the shape stays."""

    def output_shape(self, input_shape):
        return input_shape


class Scale(Own):
    """With a parameter and a buffer; y = s x + c."""

    s = nnx.Parameter()

    def __init__(self, n, optim=None):
        super().__init__(optim)
        self.n = n
        self.s = [1.0 + i for i in range(n)]
        self.buffers["c"] = self.backend.asarray([0.5] * n)

    def forward(self, x, training=False):
        s = self.parameters["s"]
        y = s * x
        y += self.buffers["c"]

        def backward(delta):
            xp = nnx.array_namespace(x)
            return s * delta, {"s": xp.sum(x * delta, axis=0)}

        return y, backward


class Gated(nnx.Container):
    """y = x + g f(x) + f(g), with f twice and children that have forms."""

    def __init__(self, block, gate):
        super().__init__()
        self.block, self.gate = block, gate

    def forward(self, x, training=False):
        y, _ = self.block.forward(x, training)
        g, _ = self.gate.forward(y, training)
        z, _ = self.block.forward(g, training)
        return x + g * y + z, None

    def output_shape(self, input_shape):
        return self.block.output_shape(input_shape)


class SquaredReLU(nnx.Activation):
    def __init__(self, k=1.0):
        self.k = k

    def forward(self, x):
        u = nnx.array_namespace(x).maximum(x, 0.0)
        return self.k * u * u, lambda delta: 2.0 * self.k * u * delta


class Many(Own):
    """What formulas are made of."""

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        y = xp.logaddexp(x, 0.0) + xp.expm1(xp.minimum(x, 0.0)) + xp.hypot(x, 0.5)
        y += xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True)) - xp.mean(x, axis=-1, keepdims=True)
        y = xp.where(x > 0, y, -2.0 * y) + xp.astype(x > 0.5, x.dtype)
        y = xp.concat([y[:, 1:], y[:, :1]], axis=-1)
        return xp.reshape(xp.reshape(y, (x.shape[0], -1)), (x.shape[0], *y.shape[1:])), None


class Pairs(Own):
    """Works on pairs of features; it reads two lengths that are open."""

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        samples, time, features = x.shape
        y = xp.reshape(x, (samples, time, features // 2, 2))
        return xp.reshape(xp.concat([y[..., 1:], -y[..., :1]], axis=-1), x.shape), None


class Table(nnx.Layer):
    """Looks tokens up in a parameter."""

    E = nnx.Parameter()

    def __init__(self):
        super().__init__()
        self.E = np.arange(10.0).reshape(5, 2)

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        rows = xp.take(self.parameters["E"], xp.reshape(xp.astype(x, xp.int32), (-1,)), axis=0)
        return xp.reshape(rows, (x.shape[0], 8)), None

    def output_shape(self, input_shape):
        return (8,)


class Doubled(Own):
    """Says itself what it is in ONNX; its forward cannot be traced."""

    def forward(self, x, training=False):
        return (x if float(x[0, 0]) == np.inf else 2.0 * x), None

    def to_onnx(self, graph, x):
        return graph.node("Mul", x, graph.number(2))


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_with_parameters(dtype):
    with nnx.use_backend("numpy", dtype=dtype):
        net = stirred(nnx.SequentialNet(3, [Scale(3), nnx.DenseLayer(3, 2, nnx.TanH())]))
        model = nnx.onnx.to_model(net)
        assert operators(model) == ["Mul", "Add", "Gemm", "Tanh"]
        assert [node.name for node in model.graph.node][:2] == ["0/Mul", "0/Add"]
        assert {"0.s", "0.c"} <= {array.name for array in model.graph.initializer}
        assert difference(net, numbers(5, 3), numbers(1, 3), model=model) <= TOLERANCE


def test_a_layer_in_two_places_keeps_one_set_of_parameters():
    twice = Scale(3)
    net = nnx.SequentialNet((None, 3), [twice, nnx.ResidualLayer(twice)])
    model = nnx.onnx.to_model(net)
    assert [a.name for a in model.graph.initializer] == ["0.s", "0.c"]
    assert difference(net, numbers(5, 4, 3), numbers(1, 2, 3), model=model) <= TOLERANCE


def test_a_container_keeps_the_forms_of_its_children():
    block = nnx.SequentialLayer([nnx.DenseLayer(3, 3, nnx.GELU()), Scale(3)])
    inner = Gated(nnx.LayerNormLayer(3), nnx.DropoutLayer())
    net = stirred(nnx.SequentialNet(3, [Gated(block, nnx.DenseLayer(3, 3, nnx.Logistic())), inner]))
    model = nnx.onnx.to_model(net)
    assert operators(model) == [
        "Gemm", "Gelu", "Mul", "Add",
        "Gemm", "Sigmoid",
        "Mul", "Add",
        "Gemm", "Gelu", "Mul", "Add",
        "Add",
        "LayerNormalization", "Mul", "Add", "LayerNormalization", "Add",
    ]  # fmt: skip
    stored = {array.name for array in model.graph.initializer}
    assert stored == {*net.parameters, *net.buffers}
    assert difference(net, numbers(5, 3), numbers(1, 3), model=model) <= TOLERANCE


def test_an_activation():
    net = nnx.SequentialNet(3, [nnx.DenseLayer(3, 4, SquaredReLU(2.0))])
    model = nnx.onnx.to_model(net)
    assert operators(model) == ["Gemm", "Max", "Mul", "Mul"]
    assert difference(net, numbers(5, 3), model=model) <= TOLERANCE


def test_a_class_that_is_derived_from_an_activation_is_its_own_function():
    class Doubled(nnx.ReLU):
        def forward(self, x):
            return 2.0 * nnx.array_namespace(x).maximum(x, 0.0), None

    layers = [nnx.DenseLayer(3, 4, Doubled()), nnx.RNNLayer(4, 2, Doubled())]
    net = nnx.SequentialNet((None, 3), layers)
    assert difference(stirred(net), numbers(5, 4, 3), numbers(1, 2, 3)) <= TOLERANCE


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Many(), numbers(5, 4)),
        (Table(), np.arange(12).reshape(3, 4) % 5),
        (Doubled(), numbers(5, 4)),
    ],
    ids=["formulas", "tokens", "own form"],
)
def test_other_layers(layer, x):
    assert difference(nnx.SequentialNet(x.shape[1], [layer]), x, x[:1]) <= TOLERANCE


def test_a_layer_that_reads_lengths_of_free_axes():
    net = nnx.SequentialNet((None, 4), [Pairs()])
    assert difference(net, numbers(5, 3, 4), numbers(1, 7, 4)) == 0


def test_a_network_of_any_backend(backend):
    net = nnx.SequentialNet(
        3, [Gated(Scale(3), nnx.DenseLayer(3, 3)), nnx.ActivationLayer(SquaredReLU())]
    )
    assert (
        difference(stirred(net), nnx.get_backend().to_numpy(backend.asarray(numbers(5, 3))))
        <= TOLERANCE
    )


class Asks(Own):
    def forward(self, x, training=False):
        return (x if bool(nnx.array_namespace(x).all(x > 0)) else 2.0 * x), None


class Divides(Own):
    def forward(self, x, training=False):
        return x / x.shape[0], None


class Joins(Own):
    def forward(self, x, training=False):
        return nnx.array_namespace(x).reshape(x, (1, -1)), None


class Turns(nnx.Layer):
    """Reads the time steps, whose number is open, where the tracer takes the samples."""

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        y = xp.permute_dims(x, (1, 0, 2))
        return xp.mean(xp.reshape(y, (x.shape[0], -1, 2)), axis=1), None

    def output_shape(self, input_shape):
        return (2,)


class Draws(Own):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def forward(self, x, training=False):
        return x * float(self.rng.random()), None


class Prints(Own):
    traceable = False

    def forward(self, x, training=False):
        return x, None


class Widens(Own):
    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        return xp.astype(x, xp.float64), None


class Twice(Own):
    def forward(self, x, training=False):
        return x, None

    def to_onnx(self, graph, x):
        one, other = (graph.initializer(self, "c", np.float32([n, n])) for n in (1, 2))
        return graph.node("Sum", x, one, other)


class Wrong(Own):
    def forward(self, x, training=False):
        return x, None

    def to_onnx(self, graph, x):
        return None


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Asks(), r"runs on arrays without values, got .*; give the layer to_onnx"),
        (Divides(), r"for any number of samples, got .*; write xp\.reshape\(x, \(-1, \.\.\.\)\)"),
        (Joins(), r"keep an axis of samples of any length, got shape \(1, None\); give"),
        (Turns(), r"one formula for all inputs, got a graph that gives other numbers .*; give"),
        (Draws(), r"one formula for all inputs, got a graph that gives other numbers .*; give"),
        (Prints(), r"a layer that only computes, got one with traceable = False; give"),
        (Widens(), r"to keep float32, got float64; use Python numbers"),
        (Twice(), r"expected one array called '0\.0\.c', got two; give the second another name"),
        (Wrong(), r"expected to_onnx to return the name of a value, got None; return what"),
    ],
    ids=lambda item: type(item).__name__ if isinstance(item, nnx.Layer) else "",
)
def test_a_layer_that_cannot_be_traced_says_so_before_anything_is_written(layer, message, tmp_path):
    net = nnx.SequentialNet((None, 2), [nnx.SequentialLayer([layer])])
    with pytest.raises(
        nnx.onnx.ExportError, match=rf"^0\.0 \({type(layer).__name__}\): .*{message}"
    ):
        nnx.onnx.export(net, tmp_path / "net.onnx")
    assert written(tmp_path) == []


def test_a_trace_with_an_operator_that_onnxruntime_lacks_in_float64():
    class Bent(Own):
        def forward(self, x, training=False):
            return nnx.array_namespace(x).atan(x), None

    with nnx.use_backend("numpy", dtype="float64"):
        net = nnx.SequentialNet(3, [Bent()])
        with pytest.raises(
            nnx.onnx.ExportError, match=r"0 \(Bent\): .*has for float64, got .*atan.*; write nnx"
        ):
            nnx.onnx.to_model(net)
        assert difference(net, numbers(5, 3), dtype="float32") <= TOLERANCE


def test_an_activation_that_cannot_be_traced_is_named():
    class Odd(nnx.Activation):
        def forward(self, x):
            return (x if float(x[0, 0]) > 0 else -x), None

    with pytest.raises(nnx.onnx.ExportError, match=r"^0 \(DenseLayer\), Odd: expected a forward"):
        nnx.onnx.to_model(nnx.SequentialNet(3, [nnx.DenseLayer(3, 2, Odd())]))


def test_without_ndonnx_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ndonnx", None)
    assert nnx.onnx.to_model(nnx.SequentialNet(3, [nnx.DenseLayer(3, 2)]))
    with pytest.raises(ImportError, match=r'pip install "nnx-array\[onnx\]"'):
        nnx.onnx.to_model(nnx.SequentialNet(3, [Scale(3)]))
