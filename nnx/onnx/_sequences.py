"""Padding of sequences, in the operators of a graph."""

from __future__ import annotations

import numpy as np

from nnx.onnx.graph import Graph, Value


def is_data(graph: Graph, x: Value, mask_value: float) -> str:
    """(samples, time, 1), False for steps whose features all equal the mask value."""
    equal = graph.node("Equal", x, graph.number(mask_value))
    least = graph.node("ReduceMin", graph.cast(equal, "int32"), graph.integers([-1]))
    return graph.node("Equal", least, graph.constant(np.asarray(0, np.int32)))


def length(graph: Graph, x: Value) -> str:
    """The number of time steps, (1,)."""
    if x.shape[0] is not None:
        return graph.integers([x.shape[0]])
    return graph.node("Shape", x, start=1, end=2)
