"""Convolutions and pooling."""

from __future__ import annotations

import math
from typing import Any

from nnx.layers import (
    AvgPool2DLayer,
    ConvolutionLayer,
    ConvTranspose2DLayer,
    GlobalAvgPoolLayer,
    MaxPool2DLayer,
)
from nnx.layers._shapes import Shape
from nnx.layers._windows import Geometry
from nnx.onnx.graph import ExportError, Graph, Value

__all__ = ["average_pool", "convolution", "global_average_pool", "max_pool", "transposed"]


def convolution(graph: Graph, layer: ConvolutionLayer, x: Value) -> str:
    """Conv."""
    geometry = layer.geometry
    z = graph.node(
        "Conv",
        x,
        *_filters(graph, layer),
        kernel_shape=geometry.kernel,
        strides=geometry.stride,
        dilations=geometry.dilation,
        group=layer.groups,
        **_padding(graph, geometry, x.shape[1:]),
    )
    return graph.activation(layer.afun, z, layer.output_shape(x.shape))


def transposed(graph: Graph, layer: ConvTranspose2DLayer, x: Value) -> str:
    """ConvTranspose; its pads and output_padding do not depend on the size of the input."""
    geometry = layer.geometry
    before, after, more = [], [], []
    for windows, span in zip(geometry.from_counts((1, 1), layer._more), geometry.span, strict=True):
        cut = windows.before + windows.after
        before.append(windows.before)
        after.append(windows.after)
        more.append(windows.size - (span - cut))
    z = graph.node(
        "ConvTranspose",
        x,
        *_filters(graph, layer),
        kernel_shape=geometry.kernel,
        strides=geometry.stride,
        dilations=geometry.dilation,
        group=layer.groups,
        pads=[*before, *after],
        output_padding=more,
    )
    return graph.activation(layer.afun, z, layer.output_shape(x.shape))


def max_pool(graph: Graph, layer: MaxPool2DLayer, x: Value) -> str:
    """MaxPool; padding that reaches over a whole kernel, which only dilation needs, is a Pad."""
    geometry, name = layer.geometry, x.name
    padding = _padding(graph, geometry, x.shape[1:])
    pads = padding.get("pads", [0])
    if any(p >= k for p, k in zip(pads, geometry.kernel * 2, strict=False)):
        ends = graph.integers([0, 0, *pads[:2], 0, 0, *pads[2:]])
        name, padding = graph.node("Pad", x, ends, graph.number(-math.inf)), {}
    return graph.node(
        "MaxPool",
        name,
        kernel_shape=geometry.kernel,
        strides=geometry.stride,
        dilations=geometry.dilation,
        **padding,
    )


def average_pool(graph: Graph, layer: AvgPool2DLayer, x: Value) -> str:
    """AveragePool."""
    return graph.node(
        "AveragePool",
        x,
        kernel_shape=layer.geometry.kernel,
        strides=layer.geometry.stride,
        count_include_pad=int(layer.count_include_pad),
        **_padding(graph, layer.geometry, x.shape[1:]),
    )


def global_average_pool(graph: Graph, layer: GlobalAvgPoolLayer, x: Value) -> str:
    """GlobalAveragePool, without the axes of space that it keeps."""
    return graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)


def _filters(graph: Graph, layer: ConvolutionLayer) -> list[str]:
    return [graph.parameter(layer, name) for name in ("W", "b") if name in layer.parameters]


def _padding(graph: Graph, geometry: Geometry, space: Shape) -> dict[str, Any]:
    """Return the attribute of the padding: pads where they are known, else SAME_UPPER.

    With stride 1 "same" is the same number of cells for every size.
    """
    sizes = [1 if n is None else n for n in space]
    axes = list(zip(space, geometry.stride, strict=True))
    if geometry.padding == "same" and any(n is None and stride > 1 for n, stride in axes):
        if max(geometry.dilation) > 1:
            raise ExportError(
                f'{graph.where}: expected padding="same" with dilation 1 for images of any size '
                f"and a stride, which is all that onnxruntime has, got dilation "
                f"{geometry.dilation}; give the padding as numbers, or the network a fixed size"
            )
        return {"auto_pad": "SAME_UPPER"}
    windows = geometry.over(sizes)
    pads = [w.before for w in windows] + [w.after for w in windows]
    return {"pads": pads} if any(pads) else {}
