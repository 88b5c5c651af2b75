"""Compare what a probe yields on a backend with what it should yield.

The head of `nnx.testing.equivalence` says how close they must be.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from nnx.backend import Backend
from nnx.testing._backend_reports import BackendResult
from nnx.testing._places import error_place
from nnx.testing._probes import BITS, TRAINING, Claim, Inputs, Probe, Quantity

__all__ = ["Run", "Seen", "compare", "observe"]

TRAINING_TOLERANCE = {"float32": 1e-4, "float64": 1e-10}

HINTS = {
    "run": "a function or an argument that the Array API standard does not have; a NumPy array, a "
    "NumPy scalar or a list in a formula; arrays of two devices",
    "namespace": "a function of NumPy called in the formula, or a conversion to a Python number",
    "dtype": "a creation function without dtype=, a NumPy scalar or 0-d array as a factor, "
    "where(condition, 1.0, 0.0), the mean or sum of booleans",
    "device": "a creation function without device=",
    "shape": "keepdims=, squeeze, an axis that libraries count differently",
    "bits": "a draw on the device, or arithmetic there after the draw: draw with a generator of "
    "nnx.randomness, on the host, and move the result with backend.asarray",
    "training": "the optimizer and the layers: check each alone",
    "close": "an array changed in place that others hold, or one that is not rebound, in a library "
    "whose arrays cannot be written; products of lower precision (TF32); an input at a kink or a "
    "cancellation",
}


class Seen(NamedTuple):
    """A quantity on the host; `fault` says in which aspect the array is not the backend's."""

    quantity: Quantity
    host: np.ndarray
    fault: tuple[str, str, str] | None  # aspect, expected, given


class Run(NamedTuple):
    """What a probe yielded, by name, and the error that ended it early."""

    seen: dict[str, Seen | Claim]
    error: Exception | None = None


def observe(probe: Probe, thing: Any, inputs: Inputs) -> Run:
    """Run the probe; every array goes to the host at once, before the next step changes it."""
    seen: dict[str, Seen | Claim] = {}
    backend = inputs.backend
    home = array_api_compat.device(backend.asarray([0.0]))
    try:
        for found in probe(thing, inputs):
            if isinstance(found, Claim):
                seen[found.name] = found
            else:
                fault = _fault(backend, home, found.array)
                owned = fault is None or fault[0] != "namespace"
                host = backend.to_numpy(found.array).copy() if owned else np.empty(0)
                seen[found.name] = Seen(found, host, fault)
        claim = inputs.left_alone()
        seen[claim.name] = claim
    except Exception as error:
        return Run(seen, error)
    return Run(seen)


def _fault(backend: Backend, home: Any, array: Any) -> tuple[str, str, str] | None:
    """Return how the array differs from the backend's library, dtype and device, or None."""
    if not backend.owns(array):
        kind = type(array)
        return "namespace", f"an array of {backend.library}", f"{kind.__module__}.{kind.__name__}"
    if backend.xp.isdtype(array.dtype, "real floating") and array.dtype != backend.dtype:
        return "dtype", backend.dtype_name, str(array.dtype)
    device = array_api_compat.device(array)
    return None if device == home else ("device", str(home), str(device))


def compare(
    found: Run, reference: Run, bits: Run, where: tuple[str, str, str], library: str
) -> Iterator[BackendResult]:
    """Compare what a backend gives with what it should give.

    Args:
        found: the run on the backend.
        reference: that on NumPy in float64.
        bits: that on NumPy in the dtype of the backend.
        where: the thing, the backend and the dtype, for the results.
        library: the backend's library, whose frames are not the place of an error.
    """
    result = functools.partial(BackendResult, *where)
    for name, wanted in reference.seen.items():
        given = found.seen.get(name)
        if isinstance(given, Claim):
            error = 0.0 if given.holds else math.inf
            yield result(name, error, 0.0, given.expected, given.given, given.hint)
        elif isinstance(given, Seen):
            yield _judge(given, wanted, bits.seen[name], where)
        elif found.error is None:
            yield result(name, math.inf, 0.0, "this quantity", "none", HINTS["run"])
    if found.error is not None:
        name = f"what follows {list(found.seen)[-1]}" if found.seen else "the first quantity"
        raised = f"{type(found.error).__name__}: {found.error}"
        place = error_place(found.error, library)
        yield result(name, math.inf, 0.0, "no error", raised, HINTS["run"], place)


def _judge(given: Seen, wanted: Any, exact: Any, where: tuple[str, str, str]) -> BackendResult:
    """Compare one quantity: the aspects of its array, then its bits or its values."""
    name, how = given.quantity.name, given.quantity.how
    fault = given.fault
    if fault is None and given.host.shape != wanted.host.shape:
        fault = "shape", str(wanted.host.shape), str(given.host.shape)
    if fault is None and given.host.dtype.kind != wanted.host.dtype.kind:
        fault = "dtype", str(wanted.host.dtype), str(given.host.dtype)
    if fault is not None:
        aspect, should, does = fault
        return BackendResult(
            *where, f"{aspect} of {name}", math.inf, 0.0, should, does, HINTS[aspect]
        )
    if how == BITS:
        should, does = _sha256(exact.host), _sha256(given.host)
        if should == does:
            return BackendResult(*where, name, 0.0)
        return BackendResult(*where, name, math.inf, 0.0, should, does, HINTS[BITS])

    expected, values = wanted.host.astype(np.float64), given.host.astype(np.float64)
    errors, tolerance = _errors(values, expected, given.quantity, where[2])
    error = float(np.max(errors, initial=0.0))
    if error <= 1.0:
        return BackendResult(*where, name, error, tolerance)
    at = np.unravel_index(int(np.argmax(errors)), errors.shape)
    place = f" at {tuple(map(int, at))}" if at else ""
    should = f"{expected[at]:.9g}{place}, NumPy's in float64"
    does = f"{values[at]:.9g}, {error:.3g} times the tolerance ({tolerance:.2g}) off"
    return BackendResult(*where, name, error, tolerance, should, does, HINTS[how])


def _errors(
    values: np.ndarray, expected: np.ndarray, quantity: Quantity, dtype: str
) -> tuple[np.ndarray, float]:
    """Return the error of every entry in units of the tolerance, and the tolerance."""
    scale = np.abs(expected)
    if quantity.how == TRAINING:
        tolerance = TRAINING_TOLERANCE[dtype]
    else:
        tolerance = float(np.finfo(dtype).eps) * (8.0 + math.sqrt(quantity.terms))
        scale = np.maximum(scale, 1.0)
        if quantity.terms:
            scale = np.max(scale, initial=1.0, where=np.isfinite(scale))
    with np.errstate(all="ignore"):
        errors = np.abs(values - expected) / (tolerance * scale)
    same = (values == expected) | (np.isnan(values) & np.isnan(expected))
    return np.where(same, 0.0, np.where(np.isnan(errors), math.inf, errors)), tolerance


def _sha256(host: np.ndarray) -> str:
    """Return the hash of the bytes, the dtype and the shape."""
    head = f"{host.dtype.str} {host.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(host).tobytes()).hexdigest()
