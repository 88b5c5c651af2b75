"""A network as an ONNX model."""

from __future__ import annotations

import os
from typing import Any

from nnx import checks
from nnx.layers import EmbeddingLayer, Layer, ParallelLayer, SequentialLayer
from nnx.layers._shapes import Shape
from nnx.networks import SequentialNet
from nnx.onnx.activations import ACTIVATIONS
from nnx.onnx.graph import OPSET, ExportError, Graph, Value, inputs_of, rename, require_onnx
from nnx.onnx.table import LAYERS
from nnx.onnx.traced import trace
from nnx.saving.files import replaced
from nnx.synonyms import named

__all__ = ["export", "to_model"]

AXES = {
    1: ("features",),
    2: ("time", "features"),
    3: ("channels", "height", "width"),
}
LIMIT = 2**31 - 1  # bytes of a file in the format of protocol buffers


@named
def export(net: SequentialNet, path: str | os.PathLike[str], *, dtype: str | None = None) -> None:
    """Write a network, as it is in evaluation, to an ONNX file.

    The input "x" has any number of samples, and any length along free axes. The output is "y".
    Initializers have the paths of their parameters ("0.W"), or begin with them ("0.W/transposed");
    nodes begin with the path of their layer ("0/Gemm"). An input that goes to an EmbeddingLayer is
    int64.

    The forward of a layer or an activation of one's own is run once on ndonnx arrays, whose values
    are graphs. A layer may define `to_onnx(self, graph, x)` instead; see `Graph`.

    Args:
        net: the network.
        path: of the file; a file that is there is replaced once the new one is whole.
        dtype: "float32" or "float64"; that of the network if not given. onnxruntime computes only
            some operators in float64.

    Raises:
        ExportError: a part of the network has no form in ONNX; it is named. Nothing is written.
        ImportError: onnx, or ndonnx if it is needed, is not installed.
        OSError: the file cannot be written; one that was there before is as it was.

    Source: https://onnx.ai/onnx/operators, opset 24.
    """
    content = to_model(net, dtype=dtype).SerializeToString()
    with replaced(path) as file:
        file.write(content)


@named
def to_model(net: SequentialNet, *, dtype: str | None = None) -> Any:
    """Return the onnx.ModelProto that `export` writes, checked by onnx.checker."""
    onnx = require_onnx()
    checks.instance("export", "net", net, SequentialNet, "SequentialNet(784, layers)")
    if dtype is not None:
        checks.choice("export", "dtype", dtype, ("float32", "float64"))
    dtype = dtype or net.backend.dtype_name
    if type(net).forward is not SequentialNet.forward:
        raise ExportError(
            f"{type(net).__name__}: expected a network that is its layers one after another, got a "
            "forward of its own; put what it does into a layer"
        )
    with net.backend.selected():
        chain = net.chain
        graph = Graph(chain, dtype, LAYERS, ACTIVATIONS, trace)
        tokens = _takes_tokens(chain)
        y = graph.layer(chain, Value("x", net.input_shape, tokens)).name
    if sum(array.nbytes for array in graph.initializers.values()) > LIMIT:
        raise ExportError(
            "expected at most 2 GB of parameters, which is all that one ONNX file holds, got more; "
            "write the network with net.save, or export parts of it"
        )
    _name_output(graph, y)
    used = set().union(*map(inputs_of, graph.nodes))
    helper, kind = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    opsets = [helper.make_opsetid("", OPSET)]
    described = helper.make_graph(
        graph.nodes,
        "nnx",
        [_described(helper, "x", onnx.TensorProto.INT64 if tokens else kind, net.input_shape)],
        [_described(helper, "y", kind, net.output_shape)],
        [
            onnx.numpy_helper.from_array(a, name)
            for name, a in graph.initializers.items()
            if name in used
        ],
    )
    made = helper.make_model(
        described,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="nnx",
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def _takes_tokens(layer: Layer) -> bool:
    """Does the input of a layer go to embeddings alone?"""
    if type(layer) is SequentialLayer:
        return _takes_tokens(layer.layers[0])
    if type(layer) is ParallelLayer:
        return all(map(_takes_tokens, layer.children))
    return type(layer) is EmbeddingLayer


def _name_output(graph: Graph, y: str) -> None:
    """Call the last value "y"; it needs a node if it is the input."""
    if y == "x" or y in graph.initializers:
        y = graph.node("Identity", y)
    for node in graph.nodes:
        rename(node, {y: "y"})


def _described(helper: Any, name: str, kind: int, shape: Shape) -> Any:
    """Describe the input or the output: its free axes have names."""
    axes = AXES.get(len(shape), ())
    if len(shape) == 2 and shape[0] is not None:
        axes = ("channels", "length")
    free = [axes[i] if axes else f"axis {i + 1}" for i in range(len(shape))]
    lengths = [name if n is None else n for n, name in zip(shape, free, strict=True)]
    if name == "y":  # what its free axes are follows from the nodes
        lengths = [f"{n} of y" if isinstance(n, str) else n for n in lengths]
    return helper.make_tensor_value_info(name, kind, ["samples", *lengths])
