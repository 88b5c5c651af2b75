"""The graph under construction: nodes, initializers, and where in the network they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from nnx.activations import Activation
from nnx.layers import Layer
from nnx.layers._shapes import Shape, output_shape
from nnx.layers.tree import once

__all__ = [
    "NO_FLOAT64",
    "OPSET",
    "ROUND",
    "ActivationForm",
    "ExportError",
    "Graph",
    "LayerForm",
    "Value",
    "inputs_of",
    "rename",
    "require_onnx",
]

OPSET = 24  # the first with Swish; Attention came with 23, GroupNormalization with 21

# Operators of which onnxruntime has kernels for float32 but not for float64.
NO_FLOAT64 = frozenset(
    """
    Atan AveragePool Celu Conv ConvTranspose Elu GRU Gelu GlobalAveragePool HardSigmoid HardSwish
    LSTM LeakyRelu Mish RNN Resize Selu Sinh Softplus Softsign ThresholdedRelu
    """.split()  # noqa: SIM905
)
ROUND = 'write nnx.onnx.export(net, path, dtype="float32"), which rounds the parameters'


class ExportError(ValueError):
    """A network, or a part of it, that has no form in ONNX: which part, and what to do."""


class Value(NamedTuple):
    """A value of the graph: its name, the shape of a sample, and whether it holds tokens."""

    name: str
    shape: Shape
    tokens: bool = False


LayerForm = Callable[["Graph", Any, Value], str]
ActivationForm = Callable[["Graph", Any, str], str]


class Graph:
    """Collects the nodes and initializers of a model.

    A form, which is the function of one kind of layer, gets the graph, the layer and its input. It
    adds nodes and returns the name of the output. `to_onnx(self, graph, x)` of a layer of one's own
    is such a function, too:

        def to_onnx(self, graph, x):
            return graph.node("Mul", x, graph.parameter(self, "s"))

    Args:
        tree: the network.
        dtype: "float32" or "float64", of parameters and values.
        layers: class of a layer -> its form.
        activations: class of an activation -> its form.
        trace: the form of layers and activations that are in neither.

    Attributes:
        backend: that of the network.
        nodes: in an order in which they can be computed.
        initializers: name -> array.
    """

    def __init__(
        self,
        tree: Layer,
        dtype: str,
        layers: Mapping[type, LayerForm],
        activations: Mapping[type, ActivationForm],
        trace: Callable[[Graph, Any, Value], str],
    ) -> None:
        self.helper = require_onnx().helper
        self.dtype, self.backend = np.dtype(dtype), tree.backend
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray] = {}
        self._layers, self._activations, self._trace = layers, activations, trace
        self._paths = {id(layer): ".".join(map(str, keys)) for keys, layer in once(tree)}
        self._place: tuple[int, ...] = ()
        self._owner = tree.name
        self._used: dict[str, int] = {}

    @property
    def path(self) -> str:
        """The path of the layer that is exported at the moment; nodes are named after it."""
        return ".".join(map(str, self._place))

    @property
    def where(self) -> str:
        """The path and the name of that layer, for messages: "0.1 (DenseLayer)"."""
        return f"{self.path} ({self._owner})"

    def fresh(self, name: str) -> str:
        """Return a name that nothing has yet: "0/Gemm", the second time "0/Gemm_2"."""
        name = f"{self.path}/{name}" if self._place else name
        count = self._used[name] = self._used.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def node(self, operator: str, *inputs: str | Value, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name.

        Args:
            operator: of the standard set, such as "Gemm".
            inputs: values or their names; "" for an optional one that is left out.
            attributes: of the operator; None is left out.
        """
        return self.split(operator, 1, *inputs, **attributes)[0]

    def split(
        self, operator: str, outputs: int, *inputs: str | Value, **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs, and return their names."""
        self.check_operator(operator)
        name = self.fresh(operator)
        names = [name, *(f"{name}:{i}" for i in range(1, outputs))]
        given = [v.name if isinstance(v, Value) else v for v in inputs]
        kept = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self.helper.make_node(operator, given, names, name=name, **kept))
        return names

    def check_operator(self, operator: str) -> None:
        """Refuse an operator that onnxruntime does not compute in the dtype of the graph."""
        if operator in NO_FLOAT64 and self.dtype == np.float64:
            raise ExportError(
                f"{self.where}: expected operators that onnxruntime has for float64, got "
                f"{operator}; {ROUND}"
            )

    def cast(self, x: str | Value, dtype: str) -> str:
        """Add a Cast to a dtype of NumPy."""
        return self.node("Cast", x, to=self.kind(dtype))

    def kind(self, dtype: str) -> int:
        """Return the number that a dtype has in ONNX."""
        return self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    # Initializers.

    def array(self, layer: Layer, name: str) -> np.ndarray:
        """Return a parameter or buffer of a layer on the host, in the dtype of the graph."""
        own = layer.parameters if name in layer.parameters else layer.buffers
        return layer.backend.to_numpy(own[name]).astype(self.dtype)

    def parameter(self, layer: Layer, name: str) -> str:
        """Return the initializer of a parameter or buffer, its path; it is stored once."""
        return self.initializer(layer, name, self.array(layer, name))

    def initializer(self, layer: Layer, name: str, array: np.ndarray) -> str:
        """Return the initializer of what is computed from parameters of a layer.

        Args:
            layer: whose path the name begins with.
            name: such as "W/transposed"; a second call with it returns the same initializer.
            array: the value.

        Raises:
            ExportError: another array has this name.
        """
        path = self._paths.get(id(layer), self.path)
        name = f"{path}.{name}" if path else name
        array = np.ascontiguousarray(array)
        if not _same(self.initializers.setdefault(name, array), array):
            raise ExportError(
                f"{self.where}: expected one array called {name!r}, got two; give the second "
                "another name"
            )
        return name

    def number(self, value: float) -> str:
        """Return a constant number of the graph's dtype."""
        return self.constant(np.asarray(value, self.dtype))

    def integers(self, values: Sequence[int] | int) -> str:
        """Return a constant of integers, such as a shape."""
        return self.constant(np.asarray(values, np.int64))

    def constant(self, array: np.ndarray) -> str:
        """Return a constant; equal ones are stored once."""
        text = ", ".join(map(str, array.reshape(-1)[:4])) + (", ..." if array.size > 4 else "")
        stem = f"constant {array.dtype} {text}" if array.ndim == 0 else f"{array.dtype} [{text}]"
        name, count = stem, 1
        while name in self.initializers and not _same(self.initializers[name], array):
            count += 1
            name = f"{stem} {count}"
        self.initializers.setdefault(name, array)
        return name

    # Parts of the network.

    def layer(self, layer: Layer, x: Value, *keys: int) -> Value:
        """Export a layer, or a child of the one that is exported at the moment.

        Args:
            layer: what is exported.
            x: its input.
            keys: the index of the child, from 0.
        """
        shape = output_shape(layer, x.shape)
        with self._at(layer, *keys):
            own = hasattr(type(layer), "to_onnx")
            form = _own_form if own else self._layers.get(type(layer), self._trace)
            name = form(self, layer, x)
        return Value(name, shape, x.tokens and name == x.name)

    def activation(self, afun: Activation, x: str, shape: Shape) -> str:
        """Export an activation; `shape` is that of a sample."""
        form = self._activations.get(type(afun))
        return form(self, afun, x) if form else self._trace(self, afun, Value(x, shape))

    @contextmanager
    def _at(self, layer: Layer, *keys: int) -> Iterator[None]:
        outer = self._place, self._owner
        self._place, self._owner = (*self._place, *keys), layer.name
        try:
            yield
        finally:
            self._place, self._owner = outer


def _own_form(graph: Graph, layer: Any, x: Value) -> str:
    """Return what a layer's own `to_onnx` returns, checked."""
    name = layer.to_onnx(graph, x)
    name = name.name if isinstance(name, Value) else name
    known = {x.name, *(output for node in graph.nodes for output in node.output)}
    if name not in known:
        raise ExportError(
            f"{graph.where}: expected to_onnx to return the name of a value, got "
            f'{name!r}; return what graph.node("Mul", x, ...) returns'
        )
    return name


def require_onnx() -> Any:
    """Return the package onnx.

    Raises:
        ImportError: it is missing; the message says what to install.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            'nnx.onnx needs onnx, which is not installed: pip install "nnx-array[onnx]"'
        ) from error
    return onnx


def inputs_of(node: Any) -> set[str]:
    """Return the names of the values that a node uses, those in graphs inside it included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        inside = attribute.g
        made = {output for inner in inside.node for output in inner.output}
        made |= {value.name for value in (*inside.input, *inside.initializer)}
        for inner in inside.node:
            names |= inputs_of(inner) - made
    return names


def rename(node: Any, known: dict[str, str]) -> None:
    """Give values that a node uses or makes, also in graphs inside it, other names."""
    for names in (node.input, node.output):
        names[:] = [known.get(name, name) for name in names]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            rename(inner, known)
        for value in attribute.g.output:
            value.name = known.get(value.name, value.name)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    same = one.dtype == other.dtype and one.shape == other.shape
    return same and one.tobytes() == other.tobytes()
