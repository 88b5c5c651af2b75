"""Attention, and the encoding of positions."""

from __future__ import annotations

from nnx.layers import MultiHeadAttentionLayer, PositionalEncodingLayer
from nnx.onnx._sequences import is_data, length
from nnx.onnx.graph import Graph, Value

__all__ = ["attention", "positions"]


def attention(graph: Graph, layer: MultiHeadAttentionLayer, x: Value) -> str:
    """Attention between the products with W_in and W_out."""
    data, visible = "", ""
    if layer.mask_value is not None:
        data = is_data(graph, x, layer.mask_value)
        keys = graph.node("Transpose", data, perm=(0, 2, 1))
        keys, queries = (graph.node("Unsqueeze", v, graph.integers([1])) for v in (keys, data))
        # A query of padding sees all keys, as in the layer; its output is 0.
        visible = graph.node("Or", keys, graph.node("Not", queries))
    QKV = graph.split("Split", 3, _affine(graph, layer, x.name, "in"), axis=-1, num_outputs=3)
    heads = graph.node(
        "Attention",
        *QKV,
        *([visible] if visible else []),
        q_num_heads=layer.heads,
        kv_num_heads=layer.heads,
        is_causal=1 if layer.causal else None,
    )
    y = _affine(graph, layer, heads, "out")
    return graph.node("Where", data, y, graph.number(0)) if data else y


def positions(graph: Graph, layer: PositionalEncodingLayer, x: Value) -> str:
    """Add of the first rows of P."""
    P = graph.parameter(layer, "P")
    if x.shape[0] != layer.max_time:
        P = graph.node("Slice", P, graph.integers([0]), length(graph, x), graph.integers([0]))
    y = graph.node("Add", x, P)
    if layer.mask_value is None:
        return y
    return graph.node("Where", is_data(graph, x, layer.mask_value), y, x)


def _affine(graph: Graph, layer: MultiHeadAttentionLayer, x: str, which: str) -> str:
    """x W^T + b."""
    W = graph.initializer(layer, f"W_{which}/transposed", graph.array(layer, f"W_{which}").T)
    return graph.node("Add", graph.node("MatMul", x, W), graph.parameter(layer, f"b_{which}"))
