"""Activations of no family; their factor is 1."""

from __future__ import annotations

import math
from typing import Any, Self

from nnx.activations.base import Activation, Backward
from nnx.activations.formulas import times
from nnx.backend import Array, array_namespace
from nnx.checks import number

__all__ = [
    "BentIdentity",
    "Gaussian",
    "HardShrink",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "Sinusoid",
    "SoftShrink",
    "TanhShrink",
]


class Linear(Activation):
    """The identity: phi(x) = x, phi'(x) = 1; factor 1.

    Source: ONNX operator Identity.
    """

    name = "linear"

    def __new__(cls, *sizes: Any, **named: Any) -> Self:
        """Refuse the sizes of a layer, which the class of this name has in other libraries.

        Raises:
            TypeError: there are arguments.
        """
        if sizes or named:
            given = ", ".join([*map(repr, sizes), *(f"{k}={v!r}" for k, v in named.items())])
            raise TypeError(
                f"Linear: expected no arguments, got {given}; Linear is an activation here, and "
                "the layer of that name elsewhere is DenseLayer(784, 100, Linear())"
            )
        return super().__new__(cls)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x and delta -> delta."""
        return x, lambda delta: delta


class LogSigmoid(Activation):
    """phi(x) = log(s(x)) = -log(1 + exp(-x)); phi'(x) = s(-x) = -expm1(y) with y = phi(x).

    Source: the logarithm of ONNX's Sigmoid.
    """

    name = "log-sigmoid"
    range = (-math.inf, 0.0)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return -log(exp(-x) + exp(0)) and delta -> s(-x) delta."""
        xp = array_namespace(x)
        y = -xp.logaddexp(-x, 0.0)
        return y, lambda delta: -delta * xp.expm1(y)


class LogSoftmax(Activation):
    """phi(x)_i = x_i - log(sum_j exp(x_j)) along the last axis, the logarithm of SoftMax.

    The backward is the product with the Jacobian, delta - exp(y) sum_j delta_j. The largest
    entry of a row is subtracted first. The last axis of x must have at least one entry.

    Source: ONNX operator LogSoftmax.
    """

    name = "log-softmax"
    range = (-math.inf, 0.0)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return the log-probabilities of each row and delta -> delta - exp(y) sum(delta)."""
        xp = array_namespace(x)
        z = x - xp.max(x, axis=-1, keepdims=True)
        y = z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))
        return y, lambda delta: delta - xp.exp(y) * xp.sum(delta, axis=-1, keepdims=True)


class Gaussian(Activation):
    """The bell phi(x) = exp(-x^2); phi'(x) = -2 x phi(x).

    Source: Broomhead and Lowe, Complex Systems 2, 1988 (radial basis functions).
    """

    range = (0.0, 1.0)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return exp(-x^2) and delta -> -2 x y delta."""
        xp = array_namespace(x)
        a = xp.minimum(xp.abs(x), 40.0)  # exp(-40^2) is 0, and x^2 might overflow
        y = xp.exp(-a * a)
        return y, lambda delta: -2.0 * (x * y) * delta


class Sinusoid(Activation):
    """phi(x) = sin(kx); phi'(x) = k cos(kx).

    kx is rounded before the sine is taken, so the result is off by up to epsilon |kx|; it is NaN if
    kx overflows.

    Source: Sitzmann et al., arXiv:2006.09661 (there k = 30 in the first layer); ONNX operator Sin.

    Args:
        k: frequency, > 0.
    """

    name = "sinusoid"
    range = (-1.0, 1.0)

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return sin(kx) and delta -> k cos(kx) delta."""
        xp = array_namespace(x)
        t = times(self.k, x)
        return xp.sin(t), lambda delta: times(self.k, xp.cos(t)) * delta


class BentIdentity(Activation):
    """phi(x) = x + (sqrt(x^2 + 1) - 1) / 2; phi'(x) = 1 + x / (2 sqrt(x^2 + 1)).

    Source: the common lists of activation functions; no paper is known to have introduced it.
    """

    name = "bent identity"

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x + x^2 / (h + 1) / 2 and delta -> (1 + x / h / 2) delta, h = hypot(x, 1)."""
        h = array_namespace(x).hypot(x, 1.0)
        return x + (0.5 * x) * (x / (h + 1.0)), lambda delta: (1.0 + 0.5 * x / h) * delta


class TanhShrink(Activation):
    """phi(x) = x - tanh(x); phi'(x) = tanh(x)^2.

    The difference cancels near 0: the error is one epsilon of x, while phi(x) is near x^3 / 3.

    Source: Tanhshrink of the Torch family of libraries; no paper is known.
    """

    name = "tanh shrinkage"

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x - tanh(x) and delta -> tanh(x)^2 delta."""
        u = array_namespace(x).tanh(x)
        return x - u, lambda delta: u * u * delta


class SoftShrink(Activation):
    """phi(x) = x - lambd if x > lambd, x + lambd if x < -lambd, else 0; phi'(x) = 1, 1, else 0.

    Source: Donoho, De-noising by soft-thresholding, 1995; ONNX operator Shrink, bias = lambd.

    Args:
        lambd: half the width of what is set to 0, >= 0.
    """

    name = "soft shrinkage"

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = number(self, "lambd", lambd, ">= 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x without its part in [-lambd, lambd], and delta -> 0 inside, else delta."""
        xp = array_namespace(x)
        y = x - xp.minimum(xp.maximum(x, -self.lambd), self.lambd)
        return y, lambda delta: xp.where(y == 0, 0.0, delta)


class HardShrink(Activation):
    """phi(x) = x if |x| > lambd else 0; phi'(x) = 1 if |x| > lambd else 0.

    Source: Donoho and Johnstone, Biometrika 81, 1994; ONNX operator Shrink with bias 0.

    Args:
        lambd: half the width of what is set to 0, >= 0.
    """

    name = "hard shrinkage"

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = number(self, "lambd", lambd, ">= 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return 0 inside, else x, and delta -> 0 inside, else delta."""
        xp = array_namespace(x)
        inside = xp.abs(x) <= self.lambd
        return xp.where(inside, 0.0, x), lambda delta: xp.where(inside, 0.0, delta)
