"""Layers and activations that are in no table: their forward is run once, on graphs.

The children of a container are cut out: their inputs are outputs of the trace and their outputs
inputs of it, so that they are exported by their own forms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnx.activations import Activation
from nnx.backend import Array
from nnx.layers import Layer
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward
from nnx.onnx._namespace import TraceBackend
from nnx.onnx.graph import OPSET, ExportError, Graph, Value, inputs_of, require_onnx

__all__ = ["trace"]


class _Trace:
    """One run of a forward: the arrays that go into the graph and come out of it, by name."""

    def __init__(self, dtype: str) -> None:
        self.backend = TraceBackend(dtype=dtype)
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        self.children: list[tuple[int, Layer, Shape]] = []

    def argument(self, name: str, shape: Shape) -> Array:
        """Return a new input of the graph."""
        dtype = self.backend.dtype
        self.inputs[name] = self.backend.xp.argument(shape=shape, dtype=dtype)
        return self.inputs[name]

    def model(self) -> Any:
        """Return what was traced as a model of the exporter's opset."""
        onnx = require_onnx()
        built = self.backend.xp.build(self.inputs, self.outputs)
        del built.metadata_props[:]
        return onnx.version_converter.convert_version(built, OPSET)


class _Cut(Layer):
    """Stands for a child while its container is traced."""

    def __init__(self, traced: _Trace, index: int, child: Layer) -> None:
        self.name = child.name
        self.child, self._traced, self._index = child, traced, index

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """End the graph here, and begin again after the child."""
        traced, call = self._traced, len(self._traced.children)
        shape = tuple(x.shape[1:])
        traced.children.append((self._index, self.child, shape))
        traced.outputs[f"to {call}"] = x
        y = traced.argument(f"from {call}", ("samples", *self.child.output_shape(shape)))
        return y, _no_backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """That of the child."""
        return self.child.output_shape(input_shape)


def trace(graph: Graph, part: Any, x: Value) -> str:
    """Export a layer or activation by running its forward.

    Raises:
        ExportError: it cannot be run on graphs, or only with a fixed number of samples.
    """
    owner = graph.where if isinstance(part, Layer) else f"{graph.where}, {type(part).__name__}"
    if isinstance(part, Layer) and not part.traceable:
        raise ExportError(
            f"{owner}: expected a layer that only computes, got one with traceable = False; "
            f"{REMEDY}"
        )
    traced, names = _run(owner, graph, part, ("samples", *x.shape))
    y = traced.outputs["y"]
    if y.dtype != traced.backend.dtype:
        raise ExportError(
            f"{owner}: expected its forward to keep {graph.dtype}, got {y.dtype}; use Python "
            "numbers in the formula, not NumPy scalars"
        )
    if y.shape[:1] != (None,):
        raise ExportError(
            f"{owner}: expected its forward to keep an axis of samples of any length, got shape "
            f"{y.shape}; {REMEDY}"
        )
    return _merged(graph, traced, names, x)


REMEDY = (
    "give the layer to_onnx(self, graph, x), which adds nodes and returns the output: "
    'return graph.node("Mul", x, graph.parameter(self, "s"))'
)


def _run(owner: str, graph: Graph, part: Any, shape: Shape) -> tuple[_Trace, dict[str, str]]:
    """Run the forward; return the trace, and which initializers its inputs are.

    Raises:
        ExportError: the forward raises an error on graphs.
    """
    try:
        return _traced(graph, part, shape)
    except ExportError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        if _works(graph, part, (2, *shape[1:])):
            raise ExportError(
                f"{owner}: expected a forward for any number of samples, got one that needs the "
                f"number itself ({reason}); write xp.reshape(x, (-1, ...)) in place of x.shape[0], "
                f"or {REMEDY}"
            ) from error
        raise ExportError(
            f"{owner}: expected a forward that runs on arrays without values, got {reason}; "
            f"{REMEDY}"
        ) from error


def _works(graph: Graph, part: Any, shape: Shape) -> bool:
    """Can the forward be traced with a fixed number of samples?"""
    try:
        _traced(graph, part, shape)
    except Exception:
        return False
    return True


def _traced(graph: Graph, part: Any, shape: Shape) -> tuple[_Trace, dict[str, str]]:
    traced = _Trace(str(graph.dtype))
    names: dict[str, str] = {}
    free = tuple(f"length {i}" if n is None else n for i, n in enumerate(shape))
    x = traced.argument("x", free)
    if isinstance(part, Activation):
        traced.outputs["y"] = part.forward(x)[0]
        return traced, names
    made = {id(child): _Cut(traced, i, child) for i, child in enumerate(part.children)}
    twin = part.twin(traced.backend, lambda array: array, made)
    if not part.children:
        for kept in (twin.parameters, twin.buffers):
            for name, array in kept.items():
                names[name] = graph.parameter(part, name)
                kept[name] = traced.argument(name, tuple(array.shape))
    traced.outputs["y"] = twin.forward(x)[0]
    return traced, names


def _merged(graph: Graph, traced: _Trace, names: dict[str, str], x: Value) -> str:
    """Add the nodes of a trace to the graph, and the children where their inputs are known."""
    model = traced.model()
    known = {"x": x.name, **names}
    for tensor in model.graph.initializer:
        known[tensor.name] = _constant(graph, tensor)
    waiting = list(enumerate(traced.children))
    nodes = list(model.graph.node)
    while nodes or waiting:
        before = len(nodes) + len(waiting)
        for node in list(nodes):
            if inputs_of(node) <= known.keys():
                _add(graph, node, known)
                nodes.remove(node)
        for call, (index, child, shape) in list(waiting):
            if f"to {call}" in known:
                value = Value(known[f"to {call}"], shape)
                known[f"from {call}"] = graph.layer(child, value, index).name
                waiting.remove((call, (index, child, shape)))
        if len(nodes) + len(waiting) == before:  # pragma: no cover - the trace is in order
            raise AssertionError([node.name for node in nodes])
    return known["y"]


def _add(graph: Graph, node: Any, known: dict[str, str]) -> None:
    """Add a node under names of the graph; constants and identities need none."""
    if node.op_type == "Identity":
        known[node.output[0]] = known[node.input[0]]
        return
    if node.op_type == "Constant" and node.attribute[0].name == "value":
        known[node.output[0]] = _constant(graph, node.attribute[0].t)
        return
    name = graph.fresh(node.op_type)
    for i, output in enumerate(node.output):
        known[output] = f"{name}:{i}" if i else name
    own = type(node)()
    own.CopyFrom(node)
    own.name = name
    _rename(own, known)
    graph.nodes.append(own)


def _rename(node: Any, known: dict[str, str]) -> None:
    for names in (node.input, node.output):
        names[:] = [known.get(name, name) for name in names]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, known)
        for value in attribute.g.output:
            value.name = known.get(value.name, value.name)


def _constant(graph: Graph, tensor: Any) -> str:
    return graph.constant(np.array(require_onnx().numpy_helper.to_array(tensor)))


def _no_backward(*arguments: Any) -> Any:
    raise ExportError("a trace has no backward; call forward alone")
