"""Products with weights, rows that are looked up, and activations as layers."""

from __future__ import annotations

import numpy as np

from nnx.layers import ActivationLayer, DenseLayer, EmbeddingLayer
from nnx.onnx.graph import Graph, Value

__all__ = ["activation", "dense", "embedding"]


def dense(graph: Graph, layer: DenseLayer, x: Value) -> str:
    """Gemm for rows. For sequences MatMul and Add, since Gemm takes matrices only."""
    if len(x.shape) == 1:
        W, b = graph.parameter(layer, "W"), graph.parameter(layer, "b")
        z = graph.node("Gemm", x, W, b, transB=1)
    else:
        W = graph.initializer(layer, "W/transposed", graph.array(layer, "W").T)
        z = graph.node("Add", graph.node("MatMul", x, W), graph.parameter(layer, "b"))
    return graph.activation(layer.afun, z, (*x.shape[:-1], layer.no))


def activation(graph: Graph, layer: ActivationLayer, x: Value) -> str:
    """The activation."""
    return graph.activation(layer.afun, x.name, x.shape)


def embedding(graph: Graph, layer: EmbeddingLayer, x: Value) -> str:
    """Gather; the row of the padding index is 0 in its own copy of E."""
    if layer.padding_index is None:
        E = graph.parameter(layer, "E")
    else:
        rows = np.array(graph.array(layer, "E"))
        rows[layer.padding_index] = 0
        E = graph.initializer(layer, f"E/row {layer.padding_index} zero", rows)
    return graph.node("Gather", E, x if x.tokens else graph.cast(x, "int64"), axis=0)
