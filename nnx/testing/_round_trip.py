"""Does a backend bring arrays to its device and back? Without that, nothing else can be checked."""

from __future__ import annotations

import math
from collections.abc import Iterator

import array_api_compat
import numpy as np

from nnx.backend import FUNCTIONS, Backend, array_namespace
from nnx.testing._backend_reports import BackendResult
from nnx.testing._places import error_place

__all__ = ["missing_functions", "round_trip"]

SHAPES = {"a number": (), "a matrix": (2, 3), "no rows": (0, 3)}
ARRAYS = "`connect` must return a namespace, and `from_numpy` arrays, of the backend's own library"
HINTS = {
    "library": ARRAYS,
    "dtype": "`from_numpy`: the array must keep the dtype of the host array",
    "device": "`from_numpy`: the array must be on `self.device`",
    "shape": "`from_numpy` and `to_numpy`: they must keep shapes, also () and (0, n)",
    "values": "`to_numpy`: a NumPy array of the same dtype and values",
}


def round_trip(backend: Backend, label: str) -> Iterator[BackendResult]:
    """Check library, dtype, device, shape and values of arrays on their way there and back.

    A backend whose arrays are NumPy's fails, unless it is NumPy's own: NumPy would be compared
    with itself.
    """
    where = ("round trip", label, backend.dtype_name)
    step = "asarray"
    try:
        kind = type(backend.asarray(np.ones(2)))
        if kind is np.ndarray and backend.name != "numpy":
            given = "numpy.ndarray: NumPy would be compared with itself, so nothing was checked"
            expected = "arrays of a type of its own"
            yield BackendResult(*where, "its arrays", math.inf, 0.0, expected, given, ARRAYS)
            return
        for step, host in _hosts(backend):
            array = backend.from_numpy(host)
            yield _judged(where, step, host, _aspects(backend, host, array))
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
        hint = "`from_numpy`, `to_numpy`, and the namespace that `connect` returns"
        place = error_place(error, backend.library)
        yield BackendResult(*where, step, math.inf, 0.0, "no error", raised, hint, place)


def missing_functions(backend: Backend) -> list[str]:
    """Return the functions that the mathematics calls and the backend's namespace lacks."""
    return [name for name in FUNCTIONS if not hasattr(backend.xp, name)]


def _hosts(backend: Backend) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of every kind, each with its name."""
    known = backend.xp.__array_namespace_info__().dtypes(device=backend.device)
    integer = next(name for name, own in known.items() if own == backend.integer_dtype)
    for dtype in (backend.dtype_name, integer, "bool"):
        for name, shape in SHAPES.items():
            yield (
                f"{name} of {dtype}",
                (np.arange(math.prod(shape)) - 2).reshape(shape).astype(dtype),
            )
    grid = np.arange(6, dtype=backend.dtype_name).reshape(2, 3)
    yield f"a transposed matrix of {backend.dtype_name}", grid.T


def _aspects(
    backend: Backend, host: np.ndarray, array: object
) -> Iterator[tuple[str, object, object]]:
    """Name, expected and given form of each aspect."""
    kind = f"{type(array).__module__}.{type(array).__name__}"
    yield "library", True, backend.owns(array) or kind
    array_namespace(array)  # raises if nothing is known of its type
    made = backend.xp.zeros(host.shape, dtype=backend.dtype, device=backend.device)
    device = array_api_compat.device
    yield "device", str(device(made)), str(device(array))
    yield "shape", host.shape, tuple(array.shape)  # type: ignore[attr-defined]
    back = backend.to_numpy(array)
    yield "values", "a NumPy array", "a NumPy array" if isinstance(back, np.ndarray) else repr(back)
    yield "dtype", str(host.dtype), str(back.dtype)
    yield "shape", host.shape, back.shape
    yield "values", host.tolist(), back.tolist()


def _judged(
    where: tuple[str, str, str],
    step: str,
    host: np.ndarray,
    aspects: Iterator[tuple[str, object, object]],
) -> BackendResult:
    for aspect, expected, given in aspects:
        if expected != given:
            should = f"an array of {where[1]}" if expected is True else str(expected)
            name = f"{aspect} of {step}"
            return BackendResult(*where, name, math.inf, 0.0, should, str(given), HINTS[aspect])
    return BackendResult(*where, step, 0.0)
