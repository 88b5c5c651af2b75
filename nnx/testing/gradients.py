"""Is the backward of an activation, loss, layer, regularizer or network its derivative?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nnx.backend import Array, Backend, BackendError, installed_backends, use_backend
from nnx.synonyms import named
from nnx.testing._gradient_reports import GradientError, GradientReport
from nnx.testing._points import EPSILON, Point, differentiable, nudged, random_delta
from nnx.testing._subjects import Arrays, Subject, subject_of

__all__ = ["check_gradients"]

RTOL = 64 * math.sqrt(EPSILON)  # 1e-6: of a directional derivative by differences
RTOL_AUTODIFF = 2.0**20 * EPSILON  # 2e-10: of an entry, relative to the largest of its array
ATTEMPTS = 4  # points that are tried before all are called kinks


@named
def check_gradients(
    thing: Any,
    x: Any,
    *,
    y: Any = None,
    training: bool = False,
    directions: int = 3,
    seed: int = 0,
    rtol: float = RTOL,
    autodiff: Iterable[str] | None = None,
) -> GradientReport:
    """Compare a backward that was written by hand with the derivative of its forward.

    With f = sum(delta * forward(x)) for a random delta, the gradients g that backward(delta)
    gives must satisfy sum(g * v) = df(. + t v)/dt at t = 0 for random directions v, separately
    for the inputs and for every parameter. The right side is computed by differences in float64 on
    NumPy; if the point is on a kink (ReLU at 0), it is moved. It is also computed by the automatic
    differentiation of the same forward on the backends that have one. The parameters are moved a
    little, because zeros and ones hide mistakes.

    It also checks, in float32 and float64, that forward does not write to its inputs and
    parameters, that backward does not write to delta, and that every parameter has a gradient of
    its own shape and dtype. Without `training` the values of a sample must not depend on the other
    samples.

    Args:
        thing: an activation, loss, layer, regularizer or SequentialNet, or an object with the same
            methods. It is not changed.
        x: inputs, NumPy data or arrays: for a loss the outputs a, for a regularizer the weights.
            Integers (indices) are not differentiated.
        y: targets. A loss needs them. With them, the training of a network is checked: loss and
            penalties, with the gradients that the optimizer gets.
        training: passed to the forward of a layer or network.
        directions: random directions per array.
        seed: of delta and the directions.
        rtol: relative error allowed for a derivative, besides the estimated error of the
            differences. The scale is the largest of both sides and sqrt(sum((g v)^2)).
        autodiff: backends whose automatic differentiation must agree, to 2e-10 of the largest
            entry; () for none. None means all that are installed; if one of these cannot
            differentiate the forward, the report's `not_run` says so.

    Returns:
        The report: the worst error by name.

    Raises:
        GradientError: it names the thing and the parameter, the expected and the given value.
        TypeError: the thing is something else.
    """
    subject = subject_of(thing, x, y, training)
    rng = np.random.default_rng(seed)
    for dtype in ("float32", "float64"):
        with use_backend("numpy", dtype) as backend:
            _check_contract(subject, backend, rng)
    report = GradientReport(subject.name)
    with use_backend("numpy", "float64") as backend:
        arrays, forward = subject.at(backend)
        for attempt in range(ATTEMPTS):
            point = Point(subject, forward, nudged(arrays, attempt, rng), rtol, rng)
            report.moves = attempt
            if point.check(directions, report):
                break
        else:
            raise GradientError(
                subject.name,
                "forward",
                f"no smooth point was found near the given x, in {ATTEMPTS} attempts: forward has "
                "kinks or jumps there, or rounds its values; pass another x",
            )
    _check_autodiff(point, autodiff, report)
    return report


def _check_contract(subject: Subject, backend: Backend, rng: np.random.Generator) -> None:
    """Check that arguments are not written to, and that gradients have their shape and dtype."""
    arrays, forward = subject.at(backend)
    arrays = nudged(arrays, 0, rng)
    dtype = backend.dtype_name
    fail = lambda name, text: GradientError(subject.name, name, f"{text} (on NumPy, {dtype})")
    before = {name: array.copy() for name, array in arrays.items()}
    value, backward = forward(arrays)
    for name in _changed(arrays, before):
        raise fail(name, f"forward writes to {name}: it must not write to its arguments")
    if value.dtype != backend.dtype:
        raise fail("forward", f"forward gives {value.dtype}, expected the dtype of x, {dtype}")
    if not np.all(np.isfinite(value)):
        raise fail("forward", "forward gives values that are infinite or NaN")
    if not np.array_equal(value, forward(arrays)[0]):
        raise fail("forward", "forward gives another value at the same point: is it random?")
    if subject.apart and value.shape[0] == subject.samples and dtype == "float64":
        inputs = next(iter(arrays))
        alone = forward({**arrays, inputs: arrays[inputs][:1]})[0]
        if np.max(np.abs(alone - value[:1])) > RTOL * np.max(np.abs(value)):
            raise fail("forward", "the values of a sample depend on the other samples: axis 0?")
    delta = random_delta(value, rng)
    kept = delta.copy()
    gradients = backward(delta)
    if not np.array_equal(delta, kept):
        raise fail("delta", "backward writes to delta: it must not; make a new array")
    for name in _changed(arrays, before):
        raise fail(name, f"backward writes to {name}: it must not; make a new array")
    for name in differentiable(arrays):
        if gradients.get(name) is None:
            known = ", ".join(gradients) or "none"
            raise fail(name, f"backward gives no gradient of {name}; those it gives: {known}")
        for fact in ("shape", "dtype"):
            given, own = getattr(gradients[name], fact), getattr(arrays[name], fact)
            if given != own:
                text = f"backward gives a gradient of {name} with {fact} {given}, expected {own}"
                raise fail(name, f"{text}, that of {name}")
        if not np.all(np.isfinite(gradients[name])):
            raise fail(name, f"backward gives a gradient of {name} that is infinite or NaN")
    for name in gradients.keys() - arrays.keys():
        raise fail(name, f"backward gives a gradient of {name}, which is not a parameter")


def _check_autodiff(point: Point, wanted: Iterable[str] | None, report: GradientReport) -> None:
    """Compare with the gradients of libraries that differentiate the forward themselves."""
    if wanted is None:
        none = Backend.gradient
        kinds = installed_backends().items()
        specs = [name for name, kind in kinds if getattr(kind, "gradient", none) is not none]
    else:
        specs = list(wanted)
    for spec in specs:
        try:
            with use_backend(spec, "float64") as backend:
                theirs = _automatic(point, backend)
        except Exception as error:
            if wanted is not None:
                raise
            first_line = str(error).partition("\n")[0]
            report.not_run[spec] = f"{type(error).__name__}: {first_line}"
            continue
        report.autodiff[spec] = max(
            (_compare(point, spec, name, array) for name, array in theirs.items()), default=0.0
        )


def _automatic(point: Point, backend: Backend) -> dict[str, np.ndarray]:
    """Return the gradients of sum(delta * forward) by the library's own differentiation."""
    moved, forward = point.subject.at(backend)
    names = differentiable(point.arrays)
    delta, xp = backend.asarray(point.delta.copy()), backend.xp

    def function(*arrays: Array) -> Array:
        return xp.sum(delta * forward({**moved, **dict(zip(names, arrays, strict=True))})[0])

    gradients = backend.gradient(function, [backend.asarray(point.arrays[n]) for n in names])
    if gradients is None:
        raise BackendError(
            f"backend {backend.name!r} has no automatic differentiation",
            "remove it from autodiff=",
        )
    theirs = {n: backend.to_numpy(g) for n, g in zip(names, gradients, strict=True)}
    for name, array in theirs.items():
        if not np.all(np.isfinite(array)):
            raise ValueError(f"its derivative of {name} is infinite or NaN")
    return theirs


def _compare(point: Point, spec: str, name: str, expected: np.ndarray) -> float:
    """Return the relative error of one array; raise GradientError if it is too large."""
    given = point.gradients[name]
    scale = max(np.max(np.abs(expected), initial=0.0), np.max(np.abs(given), initial=0.0)) or 1.0
    distance = np.abs(given - expected)
    error = float(np.max(distance, initial=0.0) / scale)
    if error > RTOL_AUTODIFF:
        index = np.unravel_index(np.argmax(distance), distance.shape)
        raise GradientError(
            point.subject.name,
            name,
            f"backward and the automatic differentiation of forward by {spec} disagree about "
            f"{name}\n  worst entry {[int(i) for i in index]}: expected {expected[index]:.12g}, "
            f"given {given[index]:.12g}, relative to the largest {error:.2g} (allowed "
            f"{RTOL_AUTODIFF:.1g})\n  differences of forward agree with backward: does forward "
            "compute the same on both, and is this point on a kink?",
            float(expected[index]),
            float(given[index]),
        )
    return error


def _changed(arrays: Arrays, before: Arrays) -> list[str]:
    return [name for name in arrays if not np.array_equal(arrays[name], before[name])]
