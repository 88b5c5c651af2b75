"""The outputs of a network for all samples of a source."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from nnx.backend import Backend
from nnx.checks import ShapeError
from nnx.data import as_floats, batches, in_order, input_source, one_batch

__all__ = ["predict"]


def predict(
    net: Any, backend: Backend, x: Any, batch_size: int, on_device: bool | None, out: Any
) -> Any:
    """Return the outputs of a network on its backend; see `SequentialNet.predict`.

    Raises:
        ShapeError, TypeError, ValueError: inputs or `out` do not fit.
    """
    a = one_batch(net, backend, x, batch_size, on_device) if out is None else None
    if a is not None:
        for layer in net.layers:
            a = layer.forward(a)[0]  # its backward goes, and with it what that holds
        return a
    source, indices = input_source(net, x, on_device)
    parts: dict[Any, list[Any]] = {}
    done = 0
    if out is not None:
        _check_out(net, source.samples, indices, out)
    with closing(source.stretches([], 0, batch_size)) as stretches:  # type: ignore[type-var]
        for stretch in stretches:
            for batch in batches(stretch.samples, batch_size):
                a = as_floats(backend, stretch.data[0][batch, ...])
                for layer in net.layers:
                    a = layer.forward(a)[0]
                if out is None:
                    parts.setdefault(stretch.part, []).append(a)
                    continue
                stop = done + a.shape[0]
                if stop > out.shape[0]:
                    raise _wrong_length(f"at least {stop}", out)
                out[done:stop] = backend.to_numpy(a)
                done = stop
    if out is not None:
        if done != out.shape[0]:
            raise _wrong_length(str(done), out)
        return out
    found = [
        outputs[0] if len(outputs) == 1 else backend.xp.concat(outputs, axis=0)
        for outputs in parts.values()
    ]
    return found[0] if indices is None else in_order(net, found, indices)


def _check_out(net: Any, samples: int | None, indices: Any, out: Any) -> None:
    """Refuse an array that the outputs do not fit in.

    Raises:
        TypeError: it is not an array of the host that can be written.
        ValueError: the outputs are of several shapes.
        ShapeError: it has another shape.
    """
    shape = getattr(out, "shape", None)
    device = not isinstance(out, np.ndarray) and net.backend.owns(out)
    if shape is None or device or not hasattr(out, "__setitem__"):
        got = f"an array of backend {net.backend.name!r}" if device else repr(out)[:60]
        raise TypeError(
            f"predict: expected out as an array on the host, of NumPy or on disk, got {got}; "
            f"write out=numpy.empty(({samples or 'samples'}, {_sizes(net)}), numpy.float32)"
        )
    if indices is not None or None in net.output_shape:
        raise ValueError(
            "predict: expected outputs of one shape, because out is given, got a network with free "
            "axes; leave out out="
        )
    if tuple(shape[1:]) != net.output_shape or (samples is not None and shape[0] != samples):
        raise ShapeError(
            f"predict: expected out of shape ({samples or 'samples'}, {_sizes(net)}), got "
            f"{tuple(shape)}; make it of that shape"
        )


def _sizes(net: Any) -> str:
    return ", ".join(map(str, net.output_shape))


def _wrong_length(samples: str, out: Any) -> ShapeError:
    return ShapeError(
        f"predict: expected out with an entry for each of {samples} samples, got {out.shape[0]}; "
        "make it of that length"
    )
