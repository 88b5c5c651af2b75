"""Derivatives of a function of one number by differences, with an estimate of their error."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

# Steps, from the best one for a smooth function down to one at which rounding takes half of the
# digits. A smaller step fits between kinks that a larger one crosses.
STEPS = (1e-4, 6e-6, 4e-7, 3e-8)


class Derivative(NamedTuple):
    """A derivative, a bound on its error, and the step of the differences."""

    value: float
    error: float
    step: float


def derivative(
    function: Callable[[float], float], size: float, epsilon: float, rtol: float
) -> Derivative | None:
    """Return f'(0) in float64, or None if f has a kink or a jump at 0.

    For a step h it is (4 D(h/2) - D(h)) / 3 with D(h) = (f(h) - f(-h)) / 2h, right to O(h^4).
    The derivatives from the left and from the right, with the same five values, are right to
    O(h^2); the largest distance between all these, plus the rounding error 64 epsilon size / h,
    estimates the error. A kink between -h and h drives them apart, so a smaller step is taken,
    until the error is below rtol |f'(0)|. If no step reaches that, the best one counts if it has
    three digits.

    Args:
        function: f.
        size: the sum of the magnitudes of f's terms, for the rounding error.
        epsilon: relative rounding error of f.
        rtol: the relative error that is sufficient.
    """
    best, middle = None, function(0.0)
    for h in STEPS:
        right, left = (function(h), function(h / 2)), (function(-h), function(-h / 2))
        central = [(right[0] - left[0]) / (2 * h), (right[1] - left[1]) / h]
        value = (4 * central[1] - central[0]) / 3
        from_right = (4 * right[1] - right[0] - 3 * middle) / h
        from_left = -(4 * left[1] - left[0] - 3 * middle) / h
        others = (*central, from_right, from_left)
        rounding = 64 * epsilon * size / h
        # not max(): it would lose a NaN
        spread = sum(abs(other - value) for other in others)
        found = Derivative(value, spread + rounding, h)
        largest = max(map(abs, (value, *others)))
        if spread <= rtol * largest + rounding:
            return found
        if spread <= 1e-3 * largest + rounding and (best is None or found.error < best.error):
            best = found
    return best
