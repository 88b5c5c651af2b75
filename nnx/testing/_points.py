"""Compare a backward with differences of its forward, at one point."""

from __future__ import annotations

import math

import numpy as np

from nnx.backend import Array
from nnx.testing._differences import Derivative, derivative
from nnx.testing._gradient_reports import Comparison, GradientError, GradientReport
from nnx.testing._subjects import Arrays, Forward, Subject

EPSILON = 2.0**-52
SEARCHED = 256  # entries that an error message searches for the worst


class Point:
    """The arrays at one point, a delta, and the gradients that backward gives there."""

    def __init__(
        self,
        subject: Subject,
        forward: Forward,
        arrays: Arrays,
        rtol: float,
        rng: np.random.Generator,
    ) -> None:
        self.subject, self.forward, self.arrays = subject, forward, arrays
        self.rtol, self.rng = rtol, rng
        value, backward = forward(arrays)
        self.delta = random_delta(value, rng)
        self.gradients = backward(self.delta)
        self.size = float(np.sum(np.abs(self.delta * value)))

    def check(self, directions: int, report: GradientReport) -> bool:
        """Check every array along random directions; return False if one has only kinks."""
        found, wrong = {}, {}
        for name in differentiable(self.arrays):
            pairs = [self.compare(name) for _ in range(directions)]
            found[name] = [comparison for comparison in pairs if comparison]
            report.kinks += directions - len(found[name])
            if bad := [c for c in found[name] if not c.error <= c.allowed]:
                wrong[name] = bad
        if wrong:
            worst = max(wrong, key=lambda name: max(c.error for c in wrong[name]))
            raise self.error(wrong[worst], [name for name in wrong if name != worst])
        if not all(found.values()):
            return False
        report.comparisons = {n: max(cs, key=lambda c: c.error) for n, cs in found.items()}
        return True

    def compare(self, name: str) -> Comparison | None:
        """Compare both sides along a random direction; None if forward has a kink there."""
        array, gradient = self.arrays[name], self.gradients[name]
        v = self.rng.standard_normal(array.shape) * (math.sqrt(np.mean(array * array)) or 1.0)
        found = self.along(name, v)
        if found is None:
            return None
        given = float(np.sum(gradient * v))
        scale = max(abs(found.value), abs(given), math.sqrt(np.sum((gradient * v) ** 2))) or 1.0
        error = abs(given - found.value) / scale
        return Comparison(name, found.value, given, error, self.rtol + found.error / scale)

    def along(self, name: str, v: np.ndarray) -> Derivative | None:
        """Return the derivative of sum(delta * forward) along a direction, by differences."""

        def function(t: float) -> float:
            shifted = {**self.arrays, name: self.arrays[name] + t * v}
            return float(np.sum(self.delta * self.forward(shifted)[0]))

        return derivative(function, self.size, EPSILON, self.rtol)

    def error(self, wrong: list[Comparison], others: list[str]) -> GradientError:
        """Return the error for one array's gradient, with a guess at its cause."""
        c = max(wrong, key=lambda comparison: comparison.error)
        message = (
            f"backward gives a wrong gradient of {c.name}\n"
            f"  along a random direction: expected {c.expected:.9g} (differences of forward), "
            f"given {c.given:.9g}, relative error {c.error:.2g} (allowed {c.allowed:.1g})\n"
            f"  worst entry{self.worst_entry(c.name)}\n"
            f"  {_guess(c.name, wrong, self.subject.samples)}"
        )
        if others:
            message += f"\n  wrong too: {', '.join(others)}"
        return GradientError(self.subject.name, c.name, message, c.expected, c.given)

    def worst_entry(self, name: str) -> str:
        """Return a text about the entry of a gradient with the largest error."""
        gradient, worst, text = self.gradients[name], -1.0, ": unknown"
        for i in self.rng.permutation(gradient.size)[:SEARCHED]:
            index = tuple(int(k) for k in np.unravel_index(i, gradient.shape))
            v = np.zeros_like(gradient)
            v[index] = 1.0
            found = self.along(name, v)
            if found is not None and abs(found.value - gradient[index]) > worst:
                worst = abs(found.value - gradient[index])
                place = f" {list(index)}" if index else ""
                text = f"{place}: expected {found.value:.6g}, given {gradient[index]:.6g}"
        return text


def _guess(name: str, wrong: list[Comparison], samples: int) -> str:
    """Return what to look at, from the ratio of given to expected."""
    if all(c.given == 0 for c in wrong):
        return f"backward gives zeros for {name}: it forgets a term"
    if all(abs(c.expected) <= 1e-9 * abs(c.given) for c in wrong):
        return f"forward does not depend on {name}, but backward says it does"
    ratios = [c.given / c.expected if c.expected else math.inf for c in wrong]
    if len(ratios) == 1 or not all(math.isclose(r, ratios[0], rel_tol=1e-3) for r in ratios):
        return (
            f"look at the formula for {name} in backward: the derivative of another function, a "
            "missing term, or a sum over the wrong axis"
        )
    text = f"given is {ratios[0]:.4g} times expected in every direction: "
    if math.isclose(ratios[0], -1.0, rel_tol=1e-3):
        return text + "the sign is wrong"
    if samples > 1 and any(
        math.isclose(ratios[0], r, rel_tol=1e-3) for r in (samples, 1 / samples)
    ):
        return text + f"there are {samples} samples; a mean stands for a sum, or the reverse"
    return text + "a factor is wrong"


def differentiable(arrays: Arrays) -> list[str]:
    """Return the names of the arrays with derivatives: floating-point ones."""
    return [name for name, array in arrays.items() if array.dtype.kind == "f"]


def random_delta(value: Array, rng: np.random.Generator) -> np.ndarray:
    """Return a random gradient of the value; 1 for a number."""
    draw = rng.standard_normal(value.shape) if value.ndim else np.asarray(1.0)
    return draw.astype(value.dtype)


def nudged(arrays: Arrays, attempt: int, rng: np.random.Generator) -> Arrays:
    """Return the arrays, moved farther with every attempt; inputs only from the second one on.

    Parameters start at special values. If a scale is 1, a backward that forgets it looks right.
    """

    def moved(array: np.ndarray, amount: float) -> np.ndarray:
        noise = rng.standard_normal(array.shape) * np.maximum(np.abs(array), 0.1)
        return (array + amount * noise).astype(array.dtype)

    inputs = next(iter(arrays))
    amounts = {n: 0.01 * attempt if n == inputs else 0.1 + 0.01 * attempt for n in arrays}
    return {**arrays, **{n: moved(arrays[n], amounts[n]) for n in differentiable(arrays)}}
