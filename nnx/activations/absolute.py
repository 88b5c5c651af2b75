"""The absolute value and its smooth forms."""

from __future__ import annotations

import math

from nnx.activations.base import AbsLike, Backward
from nnx.activations.formulas import sign, times
from nnx.backend import Array, array_namespace
from nnx.checks import number

__all__ = ["Abs", "LOCo", "SoftAbs", "Twist"]


class Abs(AbsLike):
    """phi(x) = |x|, or its smooth form h - alpha with h = sqrt(x^2 + alpha^2).

    phi'(x) = sign(x) (0 at 0), or x / h.

    Source: ONNX operator Abs; the smooth form is the pseudo-Huber function.

    Args:
        alpha: size of the bend, >= 0.
    """

    range = (0.0, math.inf)

    def __init__(self, alpha: float = 0.0) -> None:
        self.alpha = number(self, "alpha", alpha, ">= 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return |x| or x^2 / (h + alpha), and delta -> sign(x) delta or x / h delta."""
        xp = array_namespace(x)
        if self.alpha == 0:
            return xp.abs(x), lambda delta: sign(x, xp) * delta
        h = xp.hypot(x, self.alpha)
        return x * (x / (h + self.alpha)), lambda delta: x / h * delta


class LOCo(AbsLike):
    """The logarithm of cosh, phi(x) = log(cosh(kx)) / k; phi'(x) = tanh(kx).

    It is |x| - log(2) / k for large |x| and k x^2 / 2 near 0. From |kx| = 20 on it is a straight
    line to rounding. With b = min(|x|, 20/k), cosh(kb) = 1 + 2 sinh(kb/2)^2 keeps every digit near
    0.

    Args:
        k: steepness, > 0.
    """

    range = (0.0, math.inf)

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return |x| - b + log1p(2 sinh(kb/2)^2) / k and delta -> tanh(kx) delta."""
        xp = array_namespace(x)
        a = xp.abs(x)
        b = xp.minimum(a, 20.0 / self.k)
        half = xp.sinh((0.5 * self.k) * b)
        y = (a - b) + times(1.0 / self.k, xp.log1p(2.0 * half * half))
        return y, lambda delta: xp.tanh(times(self.k, x)) * delta


class Twist(AbsLike):
    """phi(x) = x tanh(kx); phi'(x) = tanh(kx) + kx / cosh(kx)^2.

    1 / cosh^2 is 1 - tanh^2 without its cancellation. From |kx| = 80 on this term is 0 to
    rounding.

    Args:
        k: steepness, > 0.
    """

    range = (0.0, math.inf)

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x tanh(kx) and delta -> (tanh(kx) + t / cosh(t)^2) delta, t = kx in [-80, 80]."""
        xp = array_namespace(x)
        kx = times(self.k, x)
        u = xp.tanh(kx)

        def backward(delta: Array) -> Array:
            t = xp.minimum(xp.maximum(kx, -80.0), 80.0)
            c = xp.cosh(t)
            return (u + t / c / c) * delta

        return x * u, backward


class SoftAbs(AbsLike):
    """phi(x) = k x^2 / (1 + |kx|); phi'(x) = kx (2 + |kx|) / (1 + |kx|)^2.

    With d = 1/k + |x| and w = x / d these are x w and w + w / (kd), which cannot overflow.

    Args:
        k: steepness, > 0.
    """

    range = (0.0, math.inf)

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x w and delta -> (w + w / (kd)) delta."""
        r = 1.0 / self.k
        d = r + array_namespace(x).abs(x)
        w = x / d
        return x * w, lambda delta: (w + times(r, w) / d) * delta
