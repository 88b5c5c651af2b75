"""What the tests of the ONNX export share: networks with numbers in them, and onnxruntime."""

import contextlib
from pathlib import Path

import numpy as np

import nnx
import nnx.onnx
from nnx.layers.tree import once

__all__ = ["CASES", "difference", "operators", "padded", "run", "stirred", "written"]


def stirred(net, seed=0):
    """Return the network with random numbers in all of its parameters and buffers."""
    rng = np.random.default_rng(seed)
    for _, layer in once(net):
        if layer.children:
            continue
        for arrays in (layer.parameters, layer.buffers):
            for name, array in arrays.items():
                if name == "P":
                    continue
                values = nnx.to_numpy(array) + 0.3 * rng.standard_normal(array.shape)
                arrays[name] = layer.backend.asarray(abs(values) if name == "variance" else values)
    return net


def run(model, x):
    """Return the output of onnxruntime for a model or for what is in a file."""
    import onnxruntime

    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    kinds = {"tensor(int64)": "int64", "tensor(float)": "float32", "tensor(double)": "float64"}
    kind = kinds[session.get_inputs()[0].type]
    return session.run(None, {"x": np.asarray(x).astype(kind)})[0]


def difference(net, *xs, model=None, **options):
    """Return the largest difference of onnxruntime to the network, relative to max(1, |y|)."""
    model = nnx.onnx.to_model(net, **options) if model is None else model
    worst = 0.0
    for x in xs:
        got = run(model, x)
        with np.errstate(over="ignore"):  # at the ends of activations, where the network warns
            want = nnx.to_numpy(net.predict(x))
        assert got.shape == want.shape
        assert got.dtype == want.dtype or "dtype" in options
        worst = max(worst, float(np.max(abs(got - want) / np.maximum(1, abs(want)))))
    return worst


def operators(model):
    return [node.op_type for node in model.graph.node]


def padded(rng, samples, time, features):
    """Sequences with padding, zeros, anywhere; the first has nothing else."""
    x = rng.standard_normal((samples, time, features))
    holes = rng.random((samples, time)) < 0.4
    holes[0] = True
    x[holes] = 0.0
    return x


def written(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def _cases():
    from nnx.commands.check import ARGUMENTS

    for kind, made in ARGUMENTS.items():
        if issubclass(kind, nnx.Layer) and kind is not nnx.SequentialNet:
            for suffix, (make, shape, *below) in made.items():
                yield kind, kind.__name__ + suffix, make, shape, below[0] if below else None


CASES = list(_cases())
with contextlib.suppress(ImportError):
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
