"""ndonnx, whose arrays are ONNX graphs, as a backend of nnx: the formulas build the graph."""

from __future__ import annotations

from typing import Any

from nnx.backend import Array, Backend


class TraceBackend(Backend):
    """Arrays without values. It is not published: nothing can be computed on it."""

    name = "onnx"
    library = "ndonnx"
    mutable = False

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        """Import ndonnx.

        Raises:
            ImportError: it is missing; the message says what to install.
        """
        try:
            import ndonnx
        except ImportError as error:
            raise ImportError(
                "nnx.onnx needs ndonnx for layers and activations of your own, which is not "
                'installed: pip install "nnx-array[onnx]"'
            ) from error
        return _Namespace(ndonnx), ndonnx.__array_namespace_info__().default_device()


class _Namespace:
    """ndonnx with the function that it lacks, and shapes whose first length is not known."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)

    def hypot(self, x: Array, y: Array | float) -> Array:
        """sqrt(x^2 + y^2) without overflow; 0 where both are 0."""
        xp = self.library
        x, y = xp.abs(x), xp.abs(xp.asarray(y, dtype=x.dtype))
        larger, smaller = xp.maximum(x, y), xp.minimum(x, y)
        ratio = smaller / xp.where(larger == 0, 1.0, larger)
        return larger * xp.sqrt(ratio * ratio + 1.0)

    def take(self, x: Array, indices: Array, *, axis: int | None = None) -> Array:
        """Take entries at indices of any integer type."""
        xp = self.library
        return xp.take(x, xp.astype(indices, xp.int64), axis=axis)

    def reshape(self, x: Array, shape: Any, *, copy: bool | None = None) -> Array:
        """Reshape to lengths of which some may be None, such as x.shape[0].

        One None alone follows from the others. Several, or one beside -1, are taken to be the
        lengths of x at the same places; whether they are is seen in the example of a trace.
        """
        xp, lengths = self.library, tuple(shape)
        if lengths.count(None) == 1 and -1 not in lengths:
            lengths = tuple(-1 if n is None else n for n in lengths)
        if None not in lengths:
            return xp.reshape(x, lengths)
        parts = [
            x.dynamic_shape[i : i + 1] if n is None else xp.asarray([n], dtype=xp.int64)
            for i, n in enumerate(lengths)
        ]
        return xp.reshape(x, xp.concat(parts))
