"""Layers made of layers."""

from __future__ import annotations

from nnx.layers import MaskedLayer, ParallelLayer, ResidualLayer, SequentialLayer
from nnx.onnx._sequences import is_data
from nnx.onnx.graph import Graph, Value

__all__ = ["masked", "parallel", "residual", "sequence"]


def sequence(graph: Graph, layer: SequentialLayer, x: Value) -> str:
    """One layer after another."""
    for i, child in enumerate(layer.layers):
        x = graph.layer(child, x, i)
    return x.name


def residual(graph: Graph, layer: ResidualLayer, x: Value) -> str:
    """Add."""
    return graph.node("Add", x, graph.layer(layer.block, x, 0))


def masked(graph: Graph, layer: MaskedLayer, x: Value) -> str:
    """Where, between the block and the mask value."""
    y, data = graph.layer(layer.block, x, 0), is_data(graph, x, layer.mask_value)
    return graph.node("Where", data, y, graph.number(layer.mask_value))


def parallel(graph: Graph, layer: ParallelLayer, x: Value) -> str:
    """Concat or Sum of the branches."""
    found = [graph.layer(branch, x, i) for i, branch in enumerate(layer.children)]
    if layer.merge == "sum":
        return graph.node("Sum", *found)
    axis = layer._axis(len(x.shape))
    return graph.node("Concat", *found, axis=axis + 1 if axis >= 0 else axis)
