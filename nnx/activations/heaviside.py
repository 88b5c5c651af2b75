"""The step from 0 to 1, and its smooth and straight-line forms."""

from __future__ import annotations

import math

from nnx.activations.base import Backward, HeavisideLike
from nnx.activations.formulas import keep_nan, largest_exponent, times
from nnx.backend import Array, array_namespace, masked
from nnx.checks import number

__all__ = ["Exp", "HardSigmoid", "Heaviside", "Logistic", "ModifiedHeaviside", "SoftMax"]


class Heaviside(HeavisideLike):
    """The step phi(x) = 1 if x >= 0 else 0; phi'(x) = 0.

    Source: McCulloch and Pitts, Bull. Math. Biophysics 5, 1943.
    """

    range = (0.0, 1.0)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return 1 if x >= 0, else 0, and delta -> 0."""
        xp = array_namespace(x)
        return keep_nan(xp.astype(x >= 0, x.dtype), x, xp), xp.zeros_like


class ModifiedHeaviside(HeavisideLike):
    """The symmetric step phi(x) = 1 if x > 0, 1/2 at 0, 0 if x < 0; phi'(x) = 0.

    Source: the half-maximum convention, (1 + sign(x)) / 2.
    """

    name = "modified Heaviside"
    range = (0.0, 1.0)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return 1, 1/2 or 0 by the sign of x, and delta -> 0."""
        xp = array_namespace(x)
        step = xp.where(x == 0, 0.5, xp.astype(x > 0, x.dtype))
        return keep_nan(step, x, xp), xp.zeros_like


class Logistic(HeavisideLike):
    """The logistic function phi(x) = s(kx), s(t) = 1 / (1 + exp(-t)).

    phi'(x) = k y (1 - y) with y = phi(x). The exponent is bounded so that exp does not overflow:
    y is accurate to its last digits and never 0. 1 - y is exact to one epsilon, so phi' is within
    a few epsilon of its maximum k / 4.

    Source: Verhulst, 1838; ONNX operator Sigmoid.

    Args:
        k: steepness, > 0.
    """

    name = "logistic"
    range = (0.0, 1.0)

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return s(kx) and delta -> k y (1 - y) delta."""
        xp = array_namespace(x)
        y = 1.0 / (1.0 + xp.exp(xp.minimum(-self.k * x, largest_exponent(x, xp))))
        return y, lambda delta: times(self.k, y * (1.0 - y)) * delta


class SoftMax(HeavisideLike):
    """phi(x)_i = exp(x_i) / sum_j exp(x_j) along the last axis.

    The backward is the product with the Jacobian, y (delta - sum_j delta_j y_j). The largest
    entry of a row is subtracted first: this does not change the result and prevents overflow.
    The last axis of x must have at least one entry. An entry of -inf gets the value 0.

    Source: Bridle, 1990; ONNX operator Softmax.
    """

    name = "softmax"
    range = (0.0, 1.0)
    distribution = True

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return the distribution of each row and delta -> y (delta - sum(delta y))."""
        xp = array_namespace(x)
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        y = e / xp.sum(e, axis=-1, keepdims=True)
        return y, lambda delta: y * (delta - xp.sum(delta * y, axis=-1, keepdims=True))


class Exp(HeavisideLike):
    """The exponential phi(x) = exp(x) = phi'(x).

    It overflows to inf from x = 88.8 in float32 and from x = 709.8 in float64. It is meant to
    diverge in training, to show the effect of an unbounded derivative.

    Source: ONNX operator Exp.
    """

    name = "exponential"
    range = (0.0, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return exp(x) and delta -> exp(x) delta."""
        y = array_namespace(x).exp(x)
        return y, lambda delta: delta * y


class HardSigmoid(HeavisideLike):
    """The step with a straight slope, phi(x) = min(max(alpha x + beta, 0), 1).

    phi'(x) = alpha if 0 < phi(x) < 1, else 0 (0 at both kinks).

    Source: Courbariaux, Bengio and David, arXiv:1511.00363; ONNX operator HardSigmoid.

    Args:
        alpha: slope, > 0.
        beta: value at 0.
    """

    name = "hard sigmoid"
    range = (0.0, 1.0)

    def __init__(self, alpha: float = 0.2, beta: float = 0.5) -> None:
        self.alpha = number(self, "alpha", alpha, "> 0")
        self.beta = number(self, "beta", beta)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return alpha x + beta within [0, 1], and delta -> alpha delta inside, else 0."""
        xp = array_namespace(x)
        y = xp.minimum(xp.maximum(self.alpha * x + self.beta, 0.0), 1.0)
        return y, lambda delta: self.alpha * masked(xp.logical_and(y > 0, y < 1), delta)
