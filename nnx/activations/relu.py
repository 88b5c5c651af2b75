"""The ramp max(x, 0) and its smooth, leaky and bounded forms."""

from __future__ import annotations

import math
from typing import ClassVar

from nnx.activations.base import Backward, ReLULike
from nnx.activations.formulas import gelu, largest_exponent, times
from nnx.backend import Array, array_namespace, elementwise, masked
from nnx.checks import number

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "GELUTanh",
    "HardSwish",
    "LeakyReLU",
    "Mish",
    "ReLU",
    "ReLU6",
    "SoftPlus",
    "Squareplus",
    "Swish",
    "ThresholdedReLU",
]


class ReLU(ReLULike):
    """The rectifier phi(x) = max(x, 0); phi'(x) = 1 if x > 0 else 0 (0 at 0, as the field does).

    Source: Nair and Hinton, ICML 2010; ONNX operator Relu.
    """

    range = (0.0, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return max(x, 0) and delta -> delta if x > 0, else 0."""
        y = array_namespace(x).maximum(x, 0.0)
        return y, lambda delta: masked(y > 0, delta)


class LeakyReLU(ReLULike):
    """phi(x) = max(x, 0) + alpha min(x, 0); phi'(x) = 1 if x > 0 else alpha (alpha at 0).

    Source: Maas, Hannun and Ng, ICML 2013; ONNX operator LeakyRelu.

    Args:
        alpha: slope on the left, 0 <= alpha <= 1.
    """

    name = "leaky ReLU"

    def __init__(self, alpha: float = 0.01) -> None:
        self.alpha = number(self, "alpha", alpha, "in [0, 1]")
        if self.alpha == 0:
            self.range = (0.0, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return max(x, alpha x) and delta -> delta if x > 0, else alpha delta."""
        xp = array_namespace(x)
        y = xp.maximum(x, self.alpha * x if self.alpha else 0.0)  # 0 times infinity is NaN
        return y, lambda delta: xp.where(y > 0, delta, self.alpha * delta)


class ELU(ReLULike):
    """The exponential linear unit phi(x) = x if x > 0 else alpha expm1(x).

    phi'(x) = 1 if x > 0 else alpha exp(x), which is phi(x) + alpha (alpha at 0).

    Source: Clevert, Unterthiner and Hochreiter, arXiv:1511.07289; ONNX operator Elu.

    Args:
        alpha: minus the limit on the left, > 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(self, "alpha", alpha, "> 0")
        self.range = (-self.alpha, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x or alpha expm1(x), and delta -> delta or (y + alpha) delta."""
        xp = array_namespace(x)
        y = xp.maximum(x, 0.0) + times(self.alpha, xp.expm1(xp.minimum(x, 0.0)))
        return y, lambda delta: xp.where(y > 0, delta, (y + self.alpha) * delta)


class SoftPlus(ReLULike):
    """The smooth ramp phi(x) = log(1 + exp(kx)) / k; phi'(x) = s(kx) = -expm1(-k y).

    Source: Dugas, Bengio, Bélisle, Nadeau and Garcia, NIPS 2000; ONNX operator Softplus.

    Args:
        k: steepness of the bend, > 0.
    """

    name = "softplus"
    range = (0.0, math.inf)

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return log(exp(kx) + exp(0)) / k and delta -> s(kx) delta."""
        xp = array_namespace(x)
        if self.k == 1:
            y = xp.logaddexp(x, 0.0)
        else:  # from kx = 100 on phi(x) is x; kx might overflow
            bend = xp.logaddexp(xp.minimum(self.k * x, 100.0), 0.0)
            y = xp.maximum(x, (1.0 / self.k) * bend)
        return y, lambda delta: -delta * xp.expm1(-self.k * y)


class Swish(ReLULike):
    """phi(x) = x s(kx); phi'(x) = s(kx) (1 + kx s(-kx)).

    With k = 1 it is also called SiLU.

    Source: Ramachandran, Zoph and Le, arXiv:1710.05941; ONNX operator Swish.

    Args:
        k: steepness of the bend, > 0.
    """

    name = "swish"

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")
        self.range = (-0.27846454276107380 / self.k, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x / d and delta -> (1 + k y e) / d delta with e = exp(-kx), d = 1 + e."""
        xp = array_namespace(x)
        x = xp.maximum(x, -largest_exponent(x, xp) / self.k)  # further left phi is 0 to rounding
        e = xp.exp(-self.k * x)
        d = 1.0 + e
        y = x / d
        return y, lambda delta: (1.0 + times(self.k, y * e)) / d * delta


class GELU(ReLULike):
    """The Gaussian error linear unit phi(x) = x Phi(x), Phi the normal distribution function.

    Phi(x) = (1 + erf(x / sqrt(2))) / 2 and phi'(x) = Phi(x) + x exp(-x^2/2) / sqrt(2 pi). Measured
    error relative to max(1, |phi(x)|): 1.1 epsilon of float32, 1 of float64; that of phi' is 1.4
    and 2.

    Source: Hendrycks and Gimpel, arXiv:1606.08415; ONNX operator Gelu.
    """

    range = (-0.16997120747990369, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x Phi(x) and delta -> phi'(x) delta."""
        y, slope = elementwise(gelu, x)
        return y, lambda delta: slope * delta


class GELUTanh(ReLULike):
    """GELU's tanh form, phi(x) = x/2 (1 + tanh(c (x + b x^3))), c = sqrt(2/pi), b = 0.044715.

    That is x s(t) with t = 2c (x + b x^3), and phi'(x) = s(t) (1 + x s(-t) 2c (1 + 3b x^2)). It
    is within 5e-4 of GELU.

    Source: Hendrycks and Gimpel, arXiv:1606.08415; ONNX operator Gelu, approximate="tanh".
    """

    name = "GELU (tanh)"
    range = (-0.17004075057125406, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x / d and delta -> (1 + y e t') / d delta with e = exp(-t), d = 1 + e."""
        xp = array_namespace(x)
        c, b = 2.0 * math.sqrt(2.0 / math.pi), 0.044715
        x = xp.maximum(x, -9.0)  # further left phi is 0 to rounding
        bounded = xp.minimum(x, 22.0)  # further right exp(-t) is 0
        square = bounded * bounded
        e = xp.exp(-bounded * (c + (c * b) * square))
        d = 1.0 + e
        y = x / d
        return y, lambda delta: (1.0 + y * e * (c + (3.0 * c * b) * square)) / d * delta


class SELU(ReLULike):
    """The self-normalizing ELU phi(x) = gamma x if x > 0 else gamma alpha expm1(x).

    phi'(x) = gamma if x > 0 else phi(x) + gamma alpha. The paper's alpha = 1.6733 and
    gamma = 1.0507 make mean 0 and variance 1 a fixed point for weights of variance 1/n, so the
    factor is 1 here.

    Source: Klambauer, Unterthiner, Mayr and Hochreiter, arXiv:1706.02515; ONNX operator Selu.
    """

    factor = 1.0
    alpha: ClassVar[float] = 1.6732632423543772848
    gamma: ClassVar[float] = 1.0507009873554804934
    range = (-gamma * alpha, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return gamma x or gamma alpha expm1(x), and delta times gamma or y + gamma alpha."""
        xp = array_namespace(x)
        gamma, limit = self.gamma, self.gamma * self.alpha
        y = gamma * xp.maximum(x, 0.0) + limit * xp.expm1(xp.minimum(x, 0.0))
        return y, lambda delta: xp.where(y > 0, gamma, y + limit) * delta


class CELU(ReLULike):
    """The continuously differentiable ELU phi(x) = x if x > 0 else alpha expm1(x / alpha).

    phi'(x) = 1 if x > 0 else exp(x / alpha), which is 1 + phi(x) / alpha.

    Source: Barron, arXiv:1704.07483; ONNX operator Celu.

    Args:
        alpha: minus the limit on the left, > 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(self, "alpha", alpha, "> 0")
        self.range = (-self.alpha, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x or alpha expm1(x / alpha), and delta -> min(1 + y / alpha, 1) delta."""
        xp = array_namespace(x)
        left = xp.expm1(times(1.0 / self.alpha, xp.minimum(x, 0.0)))
        y = xp.maximum(x, 0.0) + times(self.alpha, left)
        return y, lambda delta: xp.minimum(1.0 + times(1.0 / self.alpha, y), 1.0) * delta


class Mish(ReLULike):
    """phi(x) = x tanh(p), p = log(1 + exp(x)); phi'(x) = tanh(p) + x s(x) / cosh(p)^2.

    Source: Misra, arXiv:1908.08681; ONNX operator Mish.
    """

    name = "mish"
    range = (-0.30884341301725041, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x tanh(p) and delta -> (tanh(p) + x s(x) / cosh(p)^2) delta.

        s(x) is -expm1(-p). From x = 80 on tanh(p) is 1 and the second term 0 to rounding.
        """
        xp = array_namespace(x)
        bounded = xp.minimum(x, 80.0)
        p = xp.logaddexp(bounded, 0.0)
        w = xp.tanh(p)

        def backward(delta: Array) -> Array:
            c = xp.cosh(p)
            return (w - bounded * xp.expm1(-p) / c / c) * delta

        return x * w, backward


class HardSwish(ReLULike):
    """phi(x) = x h, h = min(max(x/6 + 1/2, 0), 1); phi'(x) = h + x/6 if 0 < h < 1, else h.

    Source: Howard et al., Searching for MobileNetV3, arXiv:1905.02244; ONNX operator HardSwish.
    """

    name = "hard swish"
    range = (-0.375, math.inf)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x h and delta -> (h + x h') delta; x/6 is h - 1/2 between the kinks."""
        xp = array_namespace(x)
        h = xp.minimum(xp.maximum(x * (1.0 / 6.0) + 0.5, 0.0), 1.0)
        return x * h, lambda delta: xp.where(xp.logical_and(h > 0, h < 1), 2.0 * h - 0.5, h) * delta


class ReLU6(ReLULike):
    """The ramp that ends at 6, phi(x) = min(max(x, 0), 6); phi'(x) = 1 if 0 < x < 6 else 0.

    Source: Krizhevsky, Convolutional deep belief networks on CIFAR-10, 2010.
    """

    range = (0.0, 6.0)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x within [0, 6] and delta -> delta inside, else 0."""
        xp = array_namespace(x)
        y = xp.minimum(xp.maximum(x, 0.0), 6.0)
        return y, lambda delta: masked(xp.logical_and(y > 0, y < 6), delta)


class ThresholdedReLU(ReLULike):
    """phi(x) = x if x > alpha else 0; phi'(x) = 1 if x > alpha else 0.

    Source: Konda, Memisevic and Krueger, arXiv:1402.3337; ONNX operator ThresholdedRelu.

    Args:
        alpha: the threshold, >= 0.
    """

    name = "thresholded ReLU"
    range = (0.0, math.inf)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(self, "alpha", alpha, ">= 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return 0 up to alpha, then x, and delta -> 0, then delta."""
        xp = array_namespace(x)
        below = x <= self.alpha
        return xp.where(below, 0.0, x), lambda delta: masked(x > self.alpha, delta)


class Squareplus(ReLULike):
    """The ramp by a hyperbola, phi(x) = (x + sqrt(x^2 + b)) / 2; phi'(x) = phi(x) / sqrt(x^2 + b).

    Source: Barron, arXiv:2112.11687.

    Args:
        b: size of the bend, > 0.
    """

    name = "squareplus"
    range = (0.0, math.inf)

    def __init__(self, b: float = 4.0) -> None:
        self.b = number(self, "b", b, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return max(x, 0) + b/4 / (h + |x|/2) and delta -> y / (2h) delta.

        h is hypot(x, sqrt(b)) / 2. The half keeps h + |x|/2 from overflowing, and the quotient
        avoids the cancellation of x + 2h for x < 0.
        """
        xp = array_namespace(x)
        z = 0.5 * x
        h = xp.hypot(z, 0.5 * math.sqrt(self.b))
        y = xp.maximum(x, 0.0) + (0.25 * self.b) / (h + xp.abs(z))
        return y, lambda delta: (0.5 * y) / h * delta
