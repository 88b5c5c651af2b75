"""Formulas that several activations share."""

from __future__ import annotations

import math
from typing import Any

from nnx.backend import Array, array_namespace, erfc

__all__ = ["gelu", "keep_nan", "largest_exponent", "mills", "normal", "sign", "times"]


def times(k: float, x: Array) -> Array:
    """Return k x, or x itself if k is 1, which saves an operation. Never write to the result."""
    return x if k == 1.0 else k * x


def sign(x: Array, xp: Any) -> Array:
    """Return 1, 0 or -1, and 0 for NaN; `xp.sign` would read back from a GPU."""
    return xp.astype(x > 0, x.dtype) - xp.astype(x < 0, x.dtype)


def keep_nan(step: Array, x: Array, xp: Any) -> Array:
    """Return NaN if x is NaN, else the step, where step >= min(x, step): true for all steps here.

    For x > 0 the smaller of x and step is at most step; for x < 0 it is x or step, at most step.
    """
    return xp.maximum(step, xp.minimum(x, step))


def largest_exponent(x: Array, xp: Any) -> float:
    """Return a number t for which exp(t) and exp(-t) are normal numbers of the dtype of x."""
    return 87.0 if x.dtype == xp.float32 else 708.0


def mills(a: Array, xp: Any) -> Array:
    """Return exp(a^2/2) Phi(-a) for a >= 0, as a quotient of two polynomials.

    All coefficients are positive, so that no digits are lost.
    """
    above, below = MILLS_32 if a.dtype == xp.float32 else MILLS_64
    y = above[0] * a
    y += above[1]
    for coefficient in above[2:]:
        y *= a
        y += coefficient
    d = a + below[0]
    for coefficient in below[1:]:
        d *= a
        d += coefficient
    y /= d
    return y


def normal(x: Array) -> tuple[Array, Array]:
    """Return the normal distribution function Phi(x), and exp(-x^2/2).

    Phi(x) = erfc(-x / sqrt(2)) / 2. The standard has no erfc: with a = |x|, Phi(-a) is
    exp(-a^2/2) mills(a), and Phi(a) = 1 - Phi(-a).
    """
    xp = array_namespace(x)
    a = xp.minimum(xp.abs(x), 40.0)  # exp(-40^2 / 2) is 0
    bell = a * a
    bell *= -0.5
    bell = xp.exp(bell)
    Phi = erfc(-math.sqrt(0.5), x)
    if Phi is not None:
        Phi *= 0.5
        return Phi, bell
    tail = mills(a, xp)
    tail *= bell
    tail -= xp.astype(x > 0, x.dtype)  # `where` may take as long as the polynomial
    return xp.abs(tail), bell


def gelu(x: Array) -> tuple[Array, Array]:
    """Return phi(x) = x Phi(x) and phi'(x) = Phi(x) + x exp(-x^2/2) / sqrt(2 pi)."""
    Phi, slope = normal(x)
    slope *= x
    slope *= 1.0 / math.sqrt(2.0 * math.pi)
    slope += Phi
    return x * Phi, slope


# The coefficients above and below, highest power first, the first one below being 1, made by
# tests/fixtures/make_activations.py. The error of Phi(-a) is 3e-08 in float32 (3e-06 of itself, at
# a = 14, where that of exp is larger), and 4e-16 of itself up to a = 39 in float64.
# fmt: off
MILLS_32 = (
    (
        0.3988350811, 2.9920895891, 9.4396916277, 13.732633034,
    ),
    (
        7.4904896464, 24.800712677, 40.793440828, 27.46526667,
    ),
)
MILLS_64 = (
    (
        0.3989422803977229, 11.130387930086078, 150.937526752457, 1290.6545151833795,
        7621.729707725534, 32152.476919226385, 96967.09275851167, 202549.7353462721,
        268749.8090089707, 176697.25885687853,
    ),
    (
        27.89974509135467, 379.34427241879257, 3263.0908373488464, 19481.187752354672,
        83773.69184799574, 261418.75663952253, 582117.6106534069, 882242.7959125073,
        819467.6475741228, 353394.51771375706,
    ),
)
# fmt: on
