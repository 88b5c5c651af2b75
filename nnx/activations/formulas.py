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
    """Return exp(a^2/2) Phi(-a) for a >= 0: t times a polynomial in t - 1/2, t = 1 / (1 + c a)."""
    c, (first, *others, last) = MILLS_32 if a.dtype == xp.float32 else MILLS_64
    t = c * a
    t += 1.0
    t = 1.0 / t
    v = t - 0.5
    y = first * v
    for coefficient in others:
        y += coefficient
        y *= v
    y += last
    y *= t
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
    Phi = erfc(-math.sqrt(0.5) * x)
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


# c and the coefficients, highest power first, made by tests/fixtures/make_activations.py. Their
# relative error is 4e-08 up to a = 14 in float32, 2e-16 up to a = 39 in float64.
# fmt: off
MILLS_32 = (0.35, (
    -0.029679522004, 0.027827742275, 0.044192523699, -0.056223734021,
    -0.081733625968, 0.081875630226, 0.28439538939, 0.3429915375,
    0.25324427936,
))
MILLS_64 = (0.22, (
    -0.0012561454051024155, 0.0008726803447714035, 0.0030480189833771982, -0.0026345326210253056,
    -0.00455081876745958, 0.004860569822531926, 0.006628869685039233, -0.007628459390534928,
    -0.011609345242145056, 0.010362320321561909, 0.024778414456059456, -0.006223177904895957,
    -0.05562273804308921, -0.04365693909784976, 0.07561577916676024, 0.2588148350109095,
    0.40907159382217184, 0.45567828258964266, 0.397140608748254, 0.28283513260083476,
    0.1680455948761573,
))
# fmt: on
