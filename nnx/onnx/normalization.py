"""Normalizations, as they are in evaluation."""

from __future__ import annotations

import numpy as np

from nnx.layers import (
    BatchNormLayer,
    GroupNormLayer,
    Layer,
    LayerNormLayer,
    RescalingLayer,
    StandardizeLayer,
)
from nnx.onnx.graph import Graph, Value

__all__ = ["batch_norm", "group_norm", "layer_norm", "rescaling", "standardize"]


def batch_norm(graph: Graph, layer: BatchNormLayer, x: Value) -> str:
    """BatchNormalization with the running statistics."""
    statistics = [graph.parameter(layer, name) for name in ("mean", "variance")]
    affine = _affine(graph, layer, (layer.n,))
    return graph.node("BatchNormalization", x, *affine, *statistics, epsilon=layer.epsilon)


def layer_norm(graph: Graph, layer: LayerNormLayer, x: Value) -> str:
    """LayerNormalization."""
    affine = _affine(graph, layer, layer.shape)
    axis = -len(layer.shape)
    return graph.node("LayerNormalization", x, *affine, axis=axis, epsilon=layer.epsilon)


def group_norm(graph: Graph, layer: GroupNormLayer, x: Value) -> str:
    """GroupNormalization, which needs an axis of positions.

    Its variance is mean(x^2) - mean(x)^2, which cancels; float64 has the digits for that.
    """
    flat = len(x.shape) == 1
    name = graph.node("Unsqueeze", x, graph.integers([2])) if flat else x.name
    affine = _affine(graph, layer, (layer.n,))
    y = graph.node(
        "GroupNormalization",
        name,
        *affine,
        num_groups=layer.groups,
        epsilon=layer.epsilon,
        stash_type=graph.kind("float64"),
    )
    return graph.node("Squeeze", y, graph.integers([2])) if flat else y


def rescaling(graph: Graph, layer: RescalingLayer, x: Value) -> str:
    """Mul, and Add if there is an offset."""
    y = graph.node("Mul", x, graph.number(layer.scale))
    return graph.node("Add", y, graph.number(layer.offset)) if layer.offset else y


def standardize(graph: Graph, layer: StandardizeLayer, x: Value) -> str:
    """Sub and Div, the statistics with an axis of length 1 for each axis of positions."""
    layer.check_inputs(None)
    y, positions = x.name, (1,) * (len(x.shape) - 1 if layer.axis == 1 else 0)
    for operator, name in (("Sub", "mean"), ("Div", "deviation")):
        array = graph.array(layer, name).reshape(-1, *positions)
        y = graph.node(operator, y, graph.initializer(layer, name, array))
    return y


def _affine(graph: Graph, layer: Layer, shape: tuple[int, ...]) -> list[str]:
    """Return gamma and beta; ones and zeros for a layer that has none."""
    if layer.parameters:
        return [graph.parameter(layer, name) for name in ("gamma", "beta")]
    return [graph.constant(make(shape, graph.dtype)) for make in (np.ones, np.zeros)]
