"""Networks as ONNX models, for onnxruntime and whatever else reads them.

    import nnx.onnx

    nnx.onnx.export(net, "net.onnx")

It needs onnx, and ndonnx for layers of one's own: pip install "nnx-array[onnx]".
"""

from nnx.onnx.export import export, to_model
from nnx.onnx.graph import ExportError, Graph, Value, require_onnx
from nnx.synonyms import asked

__all__ = ["ExportError", "Graph", "Value", "export", "require_onnx", "to_model"]

__getattr__ = asked(__name__, __all__)
