"""Recurrent layers: LSTM, GRU and RNN, one direction or both.

The operators take the time first, so that there is a Transpose on either side. Their padding is at
the end of a sequence, while a mask may have it anywhere: time steps that are data are brought to
the front, in order, and the outputs back to where they were. The state passes through padding
unchanged, so that this gives the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnx.activations import (
    ELU,
    Activation,
    HardSigmoid,
    LeakyReLU,
    Linear,
    Logistic,
    ReLU,
    SoftPlus,
    SoftSign,
    TanH,
    ThresholdedReLU,
)
from nnx.layers import BidirectionalLayer, GRULayer, Layer, LSTMLayer, RecurrentLayer, RNNLayer
from nnx.onnx._sequences import is_data, length
from nnx.onnx.activations import ACTIVATIONS
from nnx.onnx.graph import Graph, Value

__all__ = ["bidirectional", "recurrent"]

# The operator, and which gate of the layer is each gate of the operator.
OPERATORS: dict[type, tuple[str, list[int]]] = {
    LSTMLayer: ("LSTM", [0, 3, 1, 2]),  # i o f g of i f g o
    GRULayer: ("GRU", [1, 0, 2]),  # z r n of r z n
    RNNLayer: ("RNN", [0]),
}


def recurrent(graph: Graph, layer: RecurrentLayer, x: Value) -> str:
    """One direction of time; Scan for an RNN with an activation that the operator has not."""
    if isinstance(layer, RNNLayer) and _function(layer.afun) is None:
        return _scan(graph, layer, x)
    return _over_time(graph, layer, [layer], x)


def bidirectional(graph: Graph, layer: BidirectionalLayer, x: Value) -> str:
    """Both directions, in one operator if the two layers are of one kind, size and activation.

    (RNN may have two activations, but some versions of onnxruntime crash if they have different
    numbers of arguments.)
    """
    pair = [layer.forward_layer, layer.backward_layer]
    known = all(_function(part.afun) for part in pair if isinstance(part, RNNLayer))
    if known and type(pair[0]) in OPERATORS and _kind(pair[0]) == _kind(pair[1]):
        return _over_time(graph, layer, pair, x, layer.merge)
    found = [graph.layer(part, x, i) for i, part in enumerate(pair)]
    if layer.merge == "sum":
        return graph.node("Add", *found)
    return graph.node("Concat", *found, axis=-1)


def _kind(layer: RecurrentLayer) -> tuple[type, int, Activation | None]:
    return type(layer), layer.no, getattr(layer, "afun", None)


def _over_time(
    graph: Graph, owner: Layer, layers: list[Any], x: Value, merge: str = "concat"
) -> str:
    """Transpose, the operator, and its outputs as those of the layer."""
    first, order, name = layers[0], None, x.name
    data = lengths = ""
    if first.mask_value is not None:
        data, order, lengths = _front(graph, x, first.mask_value)
        name = graph.node("GatherElements", x, _along(graph, order, x.name), axis=1)
    operator, gates = OPERATORS[type(first)]
    weights = [_stacked(graph, owner, layers, what, operator, gates) for what in ("W_ih", "W_hh")]
    kinds = {"LSTM": {}, "GRU": {"linear_before_reset": 1}, "RNN": _functions(layers)}
    direction = "bidirectional" if len(layers) == 2 else "reverse" if first.reverse else None
    outputs = graph.split(
        operator,
        2,
        graph.node("Transpose", name, perm=(1, 0, 2)),
        *weights,
        _biases(graph, owner, layers, operator, gates),
        lengths,
        hidden_size=first.no,
        direction=direction,
        **kinds[operator],
    )
    if not first.return_sequences:  # (directions, samples, no)
        return _merged(graph, outputs[1], 0, len(layers), merge)
    y = _merged(graph, outputs[0], 1, len(layers), merge)  # (time, directions, samples, no)
    if order is None:
        return y
    y = graph.node("ScatterElements", y, _along(graph, order, y), y, axis=1)
    return graph.node("Where", data, y, graph.number(0))


def _merged(graph: Graph, h: str, axis: int, directions: int, merge: str) -> str:
    """Take away the axis of directions, and put the samples first."""
    if directions == 2 and merge == "concat":
        perm = (1, 0, 2) if axis == 0 else (2, 0, 1, 3)
        shape = graph.integers([0, -1] if axis == 0 else [0, 0, -1])
        return graph.node("Reshape", graph.node("Transpose", h, perm=perm), shape)
    where = graph.integers([axis])
    if directions == 2:
        h = graph.node("ReduceSum", h, where, keepdims=0)
    else:
        h = graph.node("Squeeze", h, where)
    return h if axis == 0 else graph.node("Transpose", h, perm=(1, 0, 2))


def _front(graph: Graph, x: Value, mask_value: float) -> tuple[str, str, str]:
    """Return what is data, the time steps with data first (both as columns), and their number.

    A step t of data has the key T - t, one of padding -t: the order is from the largest key on.
    """
    data = is_data(graph, x, mask_value)
    time, zero = length(graph, x), graph.integers(0)
    t = graph.node("Range", zero, graph.node("Squeeze", time), graph.integers(1))
    t = graph.node("Unsqueeze", t, graph.integers([1]))
    key = graph.node("Where", data, graph.node("Sub", time, t), graph.node("Neg", t))
    order = graph.split("TopK", 2, key, time, axis=1)[1]
    ones = graph.cast(data, "int32")
    return data, order, graph.node("ReduceSum", ones, graph.integers([1, 2]), keepdims=0)


def _along(graph: Graph, order: str, like: str) -> str:
    """The column of an order, repeated for all features."""
    return graph.node("Expand", order, graph.node("Shape", like))


def _stacked(
    graph: Graph, owner: Layer, layers: list[Any], name: str, operator: str, gates: list[int]
) -> str:
    """(directions, gates * no, ...), in the operator's order of gates."""
    found = [_ordered(graph.array(layer, name), gates) for layer in layers]
    return graph.initializer(owner, f"{name}/{operator}", np.stack(found))


def _biases(graph: Graph, owner: Layer, layers: list[Any], operator: str, gates: list[int]) -> str:
    """(directions, 2 gates * no): those of u, then those of v; RNN has one alone."""
    found = []
    for layer in layers:
        names = [name for name in ("b", "b_ih", "b_hh") if name in layer.parameters]
        both = [_ordered(graph.array(layer, name), gates) for name in names]
        found.append(np.concatenate(both if len(both) == 2 else [*both, np.zeros_like(both[0])]))
    return graph.initializer(owner, f"b/{operator}", np.stack(found))


def _ordered(array: np.ndarray, gates: list[int]) -> np.ndarray:
    """Put the rows of the gates in another order."""
    return array.reshape(len(gates), -1, *array.shape[1:])[gates].reshape(array.shape)


def _scan(graph: Graph, layer: RNNLayer, x: Value) -> str:
    """The loop of the layer: h_t = phi(u_t + h_(t-1) W_hh^T), or h_(t-1) where x is padding."""
    W_ih, W_hh = (
        graph.initializer(layer, f"{name}/transposed", graph.array(layer, name).T)
        for name in ("W_ih", "W_hh")
    )
    u = graph.node("Add", graph.node("MatMul", x, W_ih), graph.parameter(layer, "b"))
    given = [graph.node("Transpose", u, perm=(1, 0, 2))]
    data = None
    if layer.mask_value is not None:
        data = is_data(graph, x, layer.mask_value)
        given.append(graph.node("Transpose", data, perm=(1, 0, 2)))
    samples = graph.node("Shape", x, start=0, end=1)
    shape = graph.node("Concat", samples, graph.integers([layer.no]), axis=0)
    start = graph.node("Expand", graph.number(0), shape)

    outer, graph.nodes = graph.nodes, []
    names = [graph.fresh(name) for name in ("h", "u", "data")][: 1 + len(given)]
    z = graph.node("Add", names[1], graph.node("MatMul", names[0], W_hh))
    h = graph.node("Identity", graph.activation(layer.afun, z, (layer.no,)))
    if data is not None:
        h = graph.node("Where", names[2], h, names[0])
    y = graph.node("Identity", h)
    describe, number = graph.helper.make_tensor_value_info, graph.kind(graph.dtype.name)
    kinds = [number, number, graph.kind("bool")]
    lengths = [layer.no, layer.no, 1]
    step = graph.helper.make_graph(
        graph.nodes,
        "step",
        [describe(n, kind, [None, m]) for n, kind, m in zip(names, kinds, lengths, strict=False)],
        [describe(name, number, [None, layer.no]) for name in (h, y)],
    )
    graph.nodes = outer

    way = int(layer.reverse)
    last, steps = graph.split(
        "Scan",
        2,
        start,
        *given,
        body=step,
        num_scan_inputs=len(given),
        scan_input_directions=[way] * len(given),
        scan_output_directions=[way],
    )
    if not layer.return_sequences:
        return last
    y = graph.node("Transpose", steps, perm=(1, 0, 2))
    return y if data is None else graph.node("Where", data, y, graph.number(0))


def _functions(layers: list[Any]) -> dict[str, Any]:
    """Return the attributes that name the activations of RNN layers."""
    found = [_function(layer.afun) or () for layer in layers if isinstance(layer, RNNLayer)]
    attributes = {
        "activations": [name for name, *_ in found],
        "activation_alpha": [n for _, *numbers in found for n in numbers[:1]],
        "activation_beta": [n for _, *numbers in found for n in numbers[1:]],
    }
    return {key: values for key, values in attributes.items() if values}


def _function(afun: Activation) -> tuple[Any, ...] | None:
    """Return RNN's name of an activation, its alpha and its beta; None if RNN does not have it."""
    if type(afun) not in ACTIVATIONS:  # a class derived from one of those below is another function
        return None
    match afun:
        case TanH():
            return ("Tanh",) if afun.k == 1 else ("ScaledTanh", 1.0, afun.k)
        case Logistic(k=1.0):
            return ("Sigmoid",)
        case SoftPlus(k=1.0):
            return ("Softplus",)
        case SoftSign(k=1.0):
            return ("Softsign",)
        case ReLU():
            return ("Relu",)
        case Linear():
            return ("Affine", 1.0, 0.0)
        case LeakyReLU():
            return ("LeakyRelu", afun.alpha)
        case ELU():
            return ("Elu", afun.alpha)
        case ThresholdedReLU():
            return ("ThresholdedRelu", afun.alpha)
        case HardSigmoid():
            return ("HardSigmoid", afun.alpha, afun.beta)
    return None
