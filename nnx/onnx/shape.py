"""Layers that rearrange, pad or repeat their inputs, and those that do nothing in evaluation."""

from __future__ import annotations

import numpy as np

from nnx.layers import (
    FlattenLayer,
    Layer,
    PermuteLayer,
    ReshapeLayer,
    UpSampling2DLayer,
    ZeroPadding2DLayer,
)
from nnx.onnx.graph import Graph, Value

__all__ = ["flatten", "identity", "permute", "reshape", "up_sampling", "zero_padding"]


def flatten(graph: Graph, layer: FlattenLayer, x: Value) -> str:
    """Flatten; rows are as they are."""
    return x.name if len(x.shape) == 1 else graph.node("Flatten", x, axis=1)


def reshape(graph: Graph, layer: ReshapeLayer, x: Value) -> str:
    """Reshape, where 0 stands for the samples."""
    return graph.node("Reshape", x, graph.integers([0, *layer.shape]))


def permute(graph: Graph, layer: PermuteLayer, x: Value) -> str:
    """Transpose."""
    return graph.node("Transpose", x, perm=(0, *layer.axes))


def zero_padding(graph: Graph, layer: ZeroPadding2DLayer, x: Value) -> str:
    """Pad."""
    (top, bottom), (left, right) = layer.padding
    return graph.node("Pad", x, graph.integers([0, 0, top, left, 0, 0, bottom, right]))


def up_sampling(graph: Graph, layer: UpSampling2DLayer, x: Value) -> str:
    """Resize."""
    scales = graph.constant(np.asarray([1, 1, *layer._block], np.float32))
    return graph.node(
        "Resize",
        x,
        "",
        scales,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def identity(graph: Graph, layer: Layer, x: Value) -> str:
    """The input: dropout, noise and augmentation are for training."""
    return x.name
