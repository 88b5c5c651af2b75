"""Do the backends agree? `check_backends(thing)` runs it on each and compares with NumPy.

The reference is the same formulas on NumPy in float64, with inputs and initial weights rounded to
the dtype under test. With eps the epsilon of that dtype and n a bound on the length of the sums
in a quantity, a result passes if

    |given - expected| <= eps (8 + sqrt(n)) max(1, |expected|)

For sums, n > 0, the largest |expected| of the array is used for each entry. (8: a formula of a few
functions, each right to a few eps/2, as GPU libraries promise. sqrt(n): rounding errors of a sum
add up like a random walk; Higham and Mary, SIAM J. Sci. Comput. 41, 2019.) The losses of a
training may differ by 1e-4 of their value in float32, 1e-10 in float64, because errors accumulate
from step to step.

Initial weights and the order of batches must be those of NumPy bit for bit: their SHA-256 is
compared. Everything must be an array of the backend's library, dtype and device and of the
reference's shape, and no argument may have been written to. This does not find a formula that is
wrong on all backends; `check_gradients` and tests with known values do.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from nnx import randomness
from nnx.backend import (
    Backend,
    BackendError,
    get_backend,
    installed_backends,
    resolve,
    to_numpy,
    use_backend,
)
from nnx.layers import Layer
from nnx.networks import SequentialNet
from nnx.synonyms import named
from nnx.testing._backend_reports import BackendMismatchError, BackendReport
from nnx.testing._comparison import Run, compare, observe
from nnx.testing._places import definition
from nnx.testing._probes import PROBES, Inputs, Probe

__all__ = ["check_backends", "usable_backends"]


@named
def check_backends(
    thing: Any,
    x: Any = None,
    *,
    y: Any = None,
    backends: str | Backend | Sequence[str | Backend] | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
    seed: int = 0,
    steps: int = 200,
    name: str | None = None,
) -> BackendReport:
    """Run a thing on each backend, with the same inputs, seed and steps, and compare with NumPy.

    The head of this module says what is compared, and how closely.

    Args:
        thing: an Activation, Initializer, Layer, Loss, Optimizer, Regularizer or SequentialNet;
            or a function without arguments, or a class, that makes one on the current backend.
            Only with such a function are initial weights drawn on every backend. A layer or network
            is copied to each instead; the original does not change.
        x: inputs, (samples, ...), which a layer needs; outputs a for a loss; p for a penalty.
        y: targets, for a loss or a network.
        backends: their names; all that are usable if not given.
        dtypes: which to check; one that a backend lacks becomes a note in the report.
        seed: of everything that is drawn; this calls `nnx.seed(seed)`.
        steps: number of training steps of a network.
        name: what the report calls the thing.

    Returns:
        The report; print it.

    Raises:
        BackendMismatchError: it names the thing, the backend, the quantity, what was expected and
            given, file and line, and what to look for; it carries the report.
        BackendError: a requested backend is not usable; it carries the remedy.
        TypeError: there is no check for such a thing.
        ValueError: a layer without x, or an empty list of backends.
    """
    x, y = (None if data is None else to_numpy(data) for data in (x, y))
    make = _maker(thing)
    report = BackendReport(name or "")
    place, causes = "", []

    def run(birth: Backend, home: Backend) -> Run:
        """Return the quantities on `home` of what was made on `birth`."""
        nonlocal place
        randomness.seed(seed)
        with use_backend(birth):
            made = make()
            if home is not birth and isinstance(made, Layer | SequentialNet):
                made = made.to(home)
        report.item = report.item or _name(made)
        place = place or definition(made)
        randomness.seed(seed)
        with use_backend(home):
            inputs = Inputs(home, birth.dtype_name, seed, x, y, steps)
            return observe(_probe(made), made, inputs)

    chosen = _chosen(backends, dtypes, report)
    for dtype in dtypes:
        plain, exact = resolve("numpy", dtype), resolve("numpy", "float64")
        reference = run(plain, exact)
        bits = reference if plain is exact else run(plain, plain)
        for of_numpy in (reference, bits):
            if of_numpy.error is not None:
                raise of_numpy.error
        for label, backend in chosen[dtype].items():
            try:
                found = bits if backend is plain else run(backend, backend)
            except Exception as error:  # the thing cannot be made on this backend
                found = Run({}, error)
            where = (report.item, label, dtype)
            for result in compare(found, reference, bits, where, backend.library):
                if not result.passed and not result.place:
                    result = replace(result, place=place)
                report.results.append(result)
            causes += [found.error] if found.error else []
    if not report.passed:
        raise BackendMismatchError(report) from next(iter(causes), None)
    return report


def usable_backends() -> list[str]:
    """Return the usable backends, NumPy first, with the simulated devices, which notice more."""
    usable = []
    for name, kind in installed_backends().items():
        for spec in kind.test_specs or (name,):
            with contextlib.suppress(BackendError):
                usable.append(resolve(spec, "float32").spec)
    return sorted(usable, key=lambda spec: spec != "numpy")


def _maker(thing: Any) -> Callable[[], Any]:
    """Return a function that makes the thing on the current backend."""
    if isinstance(thing, Layer | SequentialNet):
        return lambda: thing.to(get_backend())
    if isinstance(thing, tuple(PROBES)):
        return lambda: copy.deepcopy(thing)  # an initializer may hold a generator with a state
    if callable(thing):
        return thing
    raise TypeError(_EXPECTED.format(thing))


def _probe(thing: Any) -> Probe:
    for kind, probe in PROBES.items():
        if isinstance(thing, kind):
            return probe
    raise TypeError(_EXPECTED.format(thing))


_EXPECTED = (
    f"expected one of {', '.join(kind.__name__ for kind in PROBES)}, or a function without "
    "arguments that makes one, got {!r}"
)


def _name(thing: Any) -> str:
    plain = isinstance(thing, SequentialNet) or type(thing).__repr__ is object.__repr__
    return type(thing).__name__ if plain else repr(thing)


def _chosen(
    backends: Any, dtypes: Sequence[str], report: BackendReport
) -> dict[str, dict[str, Backend]]:
    """Return for each dtype the backends to check, by label; those that lack it become notes."""
    if backends is None:
        backends = usable_backends()
    if isinstance(backends, str | Backend):
        backends = [backends]
    if not backends:
        raise ValueError("expected backends=None or at least one backend, got none")
    chosen: dict[str, dict[str, Backend]] = {dtype: {} for dtype in dtypes}
    for backend in backends:
        label = backend if isinstance(backend, str) else backend.spec
        for dtype in dtypes:
            try:
                chosen[dtype][label] = resolve(backend, dtype)
            except BackendError as error:
                resolve(backend, "float32")  # raises if the backend does not work at all
                report.notes.append(f"{label} in {dtype} not run: {error.reason}")
    return chosen
