"""Normalizations, as they are in evaluation."""

from __future__ import annotations

import numpy as np

from nnx.layers import BatchNormLayer, GroupNormLayer, Layer, LayerNormLayer
from nnx.onnx.graph import Graph, Value

__all__ = ["batch_norm", "group_norm", "layer_norm"]


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


def _affine(graph: Graph, layer: Layer, shape: tuple[int, ...]) -> list[str]:
    """Return gamma and beta; ones and zeros for a layer that has none."""
    if layer.parameters:
        return [graph.parameter(layer, name) for name in ("gamma", "beta")]
    return [graph.constant(make(shape, graph.dtype)) for make in (np.ones, np.zeros)]
