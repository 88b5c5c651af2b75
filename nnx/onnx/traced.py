"""Layers and activations that are in no table: their forward is run once, on graphs.

The children of a container are cut out: their inputs are outputs of the trace and their outputs
inputs of it, so that they are exported by their own forms. A trace is checked with an example: a
forward that looks at shapes, or at what only Python knows, may give a graph of something else.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from nnx.activations import Activation
from nnx.backend import Array, Backend
from nnx.layers import Layer
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward
from nnx.onnx._namespace import TraceBackend
from nnx.onnx.graph import OPSET, ROUND, ExportError, Graph, Value, inputs_of, rename, require_onnx

__all__ = ["trace"]

REMEDY = (
    "give the layer to_onnx(self, graph, x), which adds nodes and returns the output: "
    'return graph.node("Mul", x, graph.parameter(self, "s"))'
)


class _Trace:
    """One run of a forward on graphs: what goes in and what comes out, by name."""

    backend: Backend

    def __init__(self, dtype: str) -> None:
        self.backend = TraceBackend(dtype=dtype)
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        self.children: list[tuple[int, Layer, Shape]] = []

    def argument(self, name: str, shape: Shape) -> Array:
        """Return a new input; lengths that are None stay open."""
        lengths = tuple(f"{name} {i}" if n is None else n for i, n in enumerate(shape))
        return self.backend.xp.argument(shape=lengths, dtype=self.backend.dtype)

    def given(self, name: str, shape: Shape) -> Array:
        """Return a new input, and remember it."""
        self.inputs[name] = self.argument(name, shape)
        return self.inputs[name]

    def model(self) -> Any:
        """Return what was traced as a model of the exporter's opset."""
        built = self.backend.xp.build(self.inputs, self.outputs)
        del built.metadata_props[:]
        return require_onnx().version_converter.convert_version(built, OPSET)


class _Example(_Trace):
    """The same run on numbers."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.inputs, self.outputs, self.children = {}, {}, []
        self.rng = np.random.default_rng(0)

    def argument(self, name: str, shape: Shape) -> Array:
        """Return numbers in [-1, 1), which are 0 as tokens; open lengths are 2, 3, ..."""
        lengths = [2 + i if n is None else n for i, n in enumerate(shape)]
        return self.backend.asarray(self.rng.uniform(-1, 1, lengths))


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
        return traced.given(f"from {call}", (None, *self.child.output_shape(shape))), _no_backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """That of the child."""
        return self.child.output_shape(input_shape)


def trace(graph: Graph, part: Any, x: Value) -> str:
    """Export a layer or activation by running its forward.

    Raises:
        ExportError: it cannot be run on graphs, or only with a fixed number of samples, or the
            graph computes something else.
    """
    owner = graph.where if isinstance(part, Layer) else f"{graph.where}, {type(part).__name__}"
    if isinstance(part, Layer) and not part.traceable:
        raise ExportError(
            f"{owner}: expected a layer that only computes, got one with traceable = False; "
            f"{REMEDY}"
        )
    traced = _run(owner, graph, part, x.shape)
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
    model = traced.model()
    _check(owner, graph, part, x.shape, model)
    return _merged(graph, traced, model, part, x)


def _run(owner: str, graph: Graph, part: Any, shape: Shape) -> _Trace:
    """Run the forward on graphs.

    Raises:
        ExportError: the forward raises an error on them.
    """
    traced = _Trace(str(graph.dtype))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # what ndonnx computes in float32 instead
            return _forward(traced, part, (None, *shape))
    except ExportError:
        raise
    except UserWarning as warning:
        raise ExportError(
            f"{owner}: expected operators that onnxruntime has for {graph.dtype}, got {warning}; "
            f"{ROUND if graph.dtype == np.float64 else REMEDY}"
        ) from warning
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        if _works(graph, part, (2, *shape)):
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
        _forward(_Trace(str(graph.dtype)), part, shape)
    except Exception:
        return False
    return True


def _forward(traced: _Trace, part: Any, shape: Shape) -> _Trace:
    """Run the forward of a layer or activation, whose children are cut out."""
    x = traced.given("x", shape)
    if isinstance(part, Activation):
        traced.outputs["y"] = part.forward(x)[0]
        return traced
    made = {id(child): _Cut(traced, i, child) for i, child in enumerate(part.children)}
    twin = part.twin(traced.backend, lambda array: array, made)
    if not part.children and not isinstance(traced, _Example):
        for kept in (twin.parameters, twin.buffers):
            kept.update({name: traced.given(name, tuple(a.shape)) for name, a in kept.items()})
    traced.outputs["y"] = twin.forward(x)[0]
    return traced


def _check(owner: str, graph: Graph, part: Any, shape: Shape, model: Any) -> None:
    """Compare the graph with the forward, for an example of numbers.

    Raises:
        ExportError: they differ, or one of them cannot be computed.
    """
    try:
        same = _is_same(graph, part, shape, model)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ExportError(
            f"{owner}: expected a forward that can be compared with its graph for numbers in "
            f"[-1, 1), got {reason}; {REMEDY}"
        ) from error
    if not same:
        raise ExportError(
            f"{owner}: expected a forward that is one formula for all inputs, got a graph that "
            f"gives other numbers than the forward; {REMEDY}"
        )


def _is_same(graph: Graph, part: Any, shape: Shape, model: Any) -> bool:
    backend = graph.backend
    with backend.selected(), np.errstate(all="ignore"):
        example = _forward(_Example(backend), part, (None, *shape))
        given = {name: backend.to_numpy(x) for name, x in example.inputs.items()}
        want = {name: backend.to_numpy(y) for name, y in example.outputs.items()}
        feeds = {name: array.astype(graph.dtype) for name, array in given.items()}
        if isinstance(part, Layer) and not part.children:
            feeds |= {name: graph.array(part, name) for name in (*part.parameters, *part.buffers)}
        evaluator = require_onnx().reference.ReferenceEvaluator(model)
        found = dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))
    return all(
        found[name].shape == y.shape and np.allclose(found[name], y, 1e-4, 1e-4, equal_nan=True)
        for name, y in want.items()
    )


def _merged(graph: Graph, traced: _Trace, model: Any, part: Any, x: Value) -> str:
    """Add the nodes of a trace to the graph, and the children where their inputs are known."""
    known = {"x": x.name}
    if isinstance(part, Layer) and not part.children:
        names = (*part.parameters, *part.buffers)
        known |= {name: graph.parameter(part, name) for name in names}
    for tensor in model.graph.initializer:
        known[tensor.name] = _constant(graph, tensor)
    nodes, waiting = list(model.graph.node), list(enumerate(traced.children))
    while nodes or waiting:
        for node in list(nodes):
            if inputs_of(node) <= known.keys():
                _add(graph, node, known)
                nodes.remove(node)
        for call, (index, child, shape) in list(waiting):
            if f"to {call}" in known:
                value = Value(known[f"to {call}"], shape)
                known[f"from {call}"] = graph.layer(child, value, index).name
                waiting.remove((call, (index, child, shape)))
    return known["y"]


def _add(graph: Graph, node: Any, known: dict[str, str]) -> None:
    """Add a node under names of the graph; constants and identities need none."""
    if node.op_type == "Identity":
        known[node.output[0]] = known[node.input[0]]
        return
    if node.op_type == "Constant" and node.attribute[0].name == "value":
        known[node.output[0]] = _constant(graph, node.attribute[0].t)
        return
    graph.check_operator(node.op_type)
    name = graph.fresh(node.op_type)
    for i, output in enumerate(node.output):
        known[output] = f"{name}:{i}" if i else name
    own = type(node)()
    own.CopyFrom(node)
    own.name = name
    rename(own, known)
    graph.nodes.append(own)


def _constant(graph: Graph, tensor: Any) -> str:
    return graph.constant(np.array(require_onnx().numpy_helper.to_array(tensor)))


def _no_backward(*arguments: Any) -> Any:
    raise ExportError("a trace has no backward; call forward alone")
