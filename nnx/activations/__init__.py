"""Activation functions: each is its formula and the formula of its derivative.

`forward(x)` returns the value and its backward, a closure that takes the gradient delta with
respect to the value and returns the gradient with respect to x. Nothing is kept on the object,
so one object may serve many layers. All act elementwise on arrays of any shape, except SoftMax
and LogSoftmax, which act along the last axis.

The families carry `factor`, the gain of the initial weights that keeps the size of a signal
through such a layer. s(t) = 1 / (1 + exp(-t)) throughout.

Values and derivatives are right to a few epsilon of the dtype relative to max(1, |value|). No
formula overflows for |x| up to 1e18, except Exp.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from nnx.backend import Array, array_namespace, masked
from nnx.config import Value

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "ISRU",
    "SELU",
    "Abs",
    "AbsLike",
    "Activation",
    "ArcTan",
    "BentIdentity",
    "Exp",
    "GELUTanh",
    "Gaussian",
    "HardShrink",
    "HardSigmoid",
    "HardSwish",
    "HardTanh",
    "Heaviside",
    "HeavisideLike",
    "LOCo",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "Logistic",
    "Mish",
    "ModifiedHeaviside",
    "ReLU",
    "ReLU6",
    "ReLULike",
    "Sign",
    "SignLike",
    "Sinusoid",
    "SoftAbs",
    "SoftMax",
    "SoftPlus",
    "SoftShrink",
    "SoftSign",
    "Squareplus",
    "Swish",
    "TanH",
    "TanhShrink",
    "ThresholdedReLU",
    "Twist",
]

Backward = Callable[[Array], Array]


class Activation(Value):
    """Base class: a function phi with `forward`; the classroom interface stands on top of it.

    Subclasses define `forward(x) -> (phi(x), backward)` with backward(delta) = phi'(x) delta.
    """

    factor: ClassVar[float] = 1.0
    _backward: Backward | None = None

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """The value phi(x) and its backward, delta -> phi'(x) delta."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")

    def evaluate(self, x: Array) -> Array:
        """phi(x); remembers what `backprop` needs."""
        y, self._backward = self.forward(x)
        return y

    def backprop(self, delta: Array) -> Array:
        """phi'(x) delta for the x of the last `evaluate`."""
        if self._backward is None:
            raise RuntimeError(f"{type(self).__name__}.backprop: call evaluate(x) first")
        return self._backward(delta)

    def __call__(self, x: Array) -> Array:
        """phi(x)."""
        return self.forward(x)[0]

class HeavisideLike(Activation):
    """Family of the step from 0 to 1; factor 1."""


class SignLike(Activation):
    """Family of the step from -1 to 1; factor 1."""


class ReLULike(Activation):
    """Family of the ramp max(x, 0); factor sqrt(2), as half of a symmetric signal passes."""

    factor = math.sqrt(2.0)


class AbsLike(Activation):
    """Family of the absolute value; factor 1, as the size of every entry is kept."""


# ---------------------------------------------------------------- the step from 0 to 1


class Heaviside(HeavisideLike):
    """The step phi(x) = 1 if x >= 0 else 0; phi'(x) = 0.

    Source: McCulloch and Pitts, Bull. Math. Biophysics 5, 1943.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """1 where x >= 0, else 0, and delta -> 0."""
        xp = array_namespace(x)
        return xp.astype(x >= 0, x.dtype), xp.zeros_like


class ModifiedHeaviside(HeavisideLike):
    """The symmetric step phi(x) = 1 if x > 0, 1/2 at 0, 0 if x < 0; phi'(x) = 0.

    Source: the half-maximum convention, (1 + sign(x)) / 2.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """1, 1/2 or 0 by the sign of x, and delta -> 0."""
        xp = array_namespace(x)
        return xp.where(x == 0, 0.5, xp.astype(x > 0, x.dtype)), xp.zeros_like


class Logistic(HeavisideLike):
    """The logistic function phi(x) = s(kx), s(t) = 1 / (1 + exp(-t)).

    phi'(x) = k y (1 - y) with y = phi(x). The exponent stops where exp would overflow, so y is
    accurate to its last digits and never 0; 1 - y is exact to one epsilon, so phi' is within a
    few epsilon of its maximum k / 4.

    Source: Verhulst, 1838; ONNX operator Sigmoid.

    Args:
        k: steepness, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("Logistic", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """s(kx) and delta -> k y (1 - y) delta."""
        xp = array_namespace(x)
        y = 1.0 / (1.0 + xp.exp(xp.minimum(-self.k * x, _largest_exponent(x, xp))))
        return y, lambda delta: _times(self.k, delta) * y * (1.0 - y)


class SoftMax(HeavisideLike):
    """phi(x)_i = exp(x_i) / sum_j exp(x_j) along the last axis.

    The backward is the product with the Jacobian, y (delta - sum_j delta_j y_j). The largest
    entry of a row is subtracted first, which changes nothing but prevents overflow. x needs a
    last axis of one entry or more.

    Source: Bridle, 1990; ONNX operator Softmax.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """The rows' distributions and delta -> y (delta - sum(delta y))."""
        xp = array_namespace(x)
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        y = e / xp.sum(e, axis=-1, keepdims=True)
        return y, lambda delta: y * (delta - xp.sum(delta * y, axis=-1, keepdims=True))


class Exp(HeavisideLike):
    """The exponential phi(x) = exp(x) = phi'(x).

    The one function here that overflows: to inf from x = 88.8 in float32, 709.8 in float64. It
    is meant to diverge in training, to show what an unbounded derivative does.

    Source: ONNX operator Exp.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """exp(x) and delta -> exp(x) delta."""
        y = array_namespace(x).exp(x)
        return y, lambda delta: delta * y


class HardSigmoid(HeavisideLike):
    """The step by a straight line, phi(x) = min(max(alpha x + beta, 0), 1).

    phi'(x) = alpha where 0 < phi(x) < 1, else 0 (0 at both kinks).

    Source: Courbariaux, Bengio and David, arXiv:1511.00363; ONNX operator HardSigmoid.

    Args:
        alpha: slope, > 0.
        beta: value at 0.
    """

    def __init__(self, alpha: float = 0.2, beta: float = 0.5) -> None:
        self.alpha = _positive("HardSigmoid", "alpha", alpha)
        self.beta = _finite("HardSigmoid", "beta", beta)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """alpha x + beta within [0, 1], and delta -> alpha delta inside, else 0."""
        xp = array_namespace(x)
        y = xp.minimum(xp.maximum(self.alpha * x + self.beta, 0.0), 1.0)
        return y, lambda delta: masked(xp.logical_and(y > 0, y < 1), self.alpha * delta)


# ---------------------------------------------------------------- the step from -1 to 1


class Sign(SignLike):
    """phi(x) = sign(x): -1, 0 or 1; phi'(x) = 0.

    Source: Rosenblatt, Psychological Review 65, 1958; ONNX operator Sign.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """The sign of x and delta -> 0."""
        xp = array_namespace(x)
        return _sign(x, xp), xp.zeros_like


class TanH(SignLike):
    """The hyperbolic tangent phi(x) = tanh(kx); phi'(x) = k (1 - y^2) with y = phi(x).

    1 - y^2 is exact to about one epsilon, so phi' is within a few epsilon of its maximum k.

    Source: LeCun, Bottou, Orr and Müller, Efficient BackProp, 1998; ONNX operator Tanh.

    Args:
        k: steepness, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("TanH", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """tanh(kx) and delta -> k (1 - y^2) delta."""
        y = array_namespace(x).tanh(_times(self.k, x))
        return y, lambda delta: _times(self.k, delta) * (1.0 - y * y)


class SoftSign(SignLike):
    """phi(x) = kx / (1 + |kx|); phi'(x) = k / (1 + |kx|)^2.

    Source: Bergstra, Desjardins, Lamblin and Bengio, 2009; ONNX operator Softsign.

    Args:
        k: steepness, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("SoftSign", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """kx / d and delta -> k delta / d^2 with d = 1 + |kx|; d^2 itself might overflow."""
        t = _times(self.k, x)
        d = 1.0 + array_namespace(x).abs(t)
        return t / d, lambda delta: _times(self.k, delta) / d / d


class HardTanh(SignLike):
    """phi(x) = min(max(x, -1), 1); phi'(x) = 1 if |x| < 1 else 0 (0 at both kinks).

    Source: Collobert, thesis, Paris 6, 2004; ONNX operator Clip with min -1 and max 1.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x within [-1, 1] and delta -> delta inside, else 0."""
        xp = array_namespace(x)
        y = xp.minimum(xp.maximum(x, -1.0), 1.0)
        return y, lambda delta: masked(xp.abs(y) < 1, delta)


class ArcTan(SignLike):
    """phi(x) = arctan(x), between -pi/2 and pi/2; phi'(x) = 1 / (1 + x^2).

    Source: ONNX operator Atan.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """arctan(x) and delta -> delta / h^2 with h = hypot(x, 1); x^2 might overflow."""
        xp = array_namespace(x)

        def backward(delta: Array) -> Array:
            h = xp.hypot(x, 1.0)
            return delta / h / h

        return xp.atan(x), backward


class ISRU(SignLike):
    """The inverse square root unit phi(x) = x / sqrt(1 + alpha x^2), phi'(x) = (phi(x) / x)^3.

    It runs from -1/sqrt(alpha) to 1/sqrt(alpha).

    Source: Carlile, Delamarter, Kinney, Marti and Whitney, arXiv:1710.09967.

    Args:
        alpha: > 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _positive("ISRU", "alpha", alpha)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x / h and delta -> delta / h^3 with h = hypot(sqrt(alpha) x, 1)."""
        h = array_namespace(x).hypot(_times(math.sqrt(self.alpha), x), 1.0)
        return x / h, lambda delta: delta / h / h / h


# ---------------------------------------------------------------- the ramp


class ReLU(ReLULike):
    """The rectifier phi(x) = max(x, 0); phi'(x) = 1 if x > 0 else 0 (0 at 0, as the field does).

    Source: Nair and Hinton, ICML 2010; ONNX operator Relu.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """max(x, 0) and delta -> delta where x > 0, else 0."""
        y = array_namespace(x).maximum(x, 0.0)
        return y, lambda delta: masked(y > 0, delta)


class LeakyReLU(ReLULike):
    """phi(x) = max(x, 0) + alpha min(x, 0); phi'(x) = 1 if x > 0 else alpha (alpha at 0).

    Source: Maas, Hannun and Ng, ICML 2013; ONNX operator LeakyRelu.

    Args:
        alpha: slope on the left, 0 <= alpha <= 1.
    """

    def __init__(self, alpha: float = 0.01) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"LeakyReLU: alpha must be between 0 and 1, got {alpha!r}")
        self.alpha = float(alpha)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """max(x, alpha x) and delta -> delta where x > 0, else alpha delta."""
        xp = array_namespace(x)
        y = xp.maximum(x, self.alpha * x)
        return y, lambda delta: xp.where(y > 0, delta, self.alpha * delta)


class ELU(ReLULike):
    """The exponential linear unit phi(x) = x if x > 0 else alpha expm1(x).

    phi'(x) = 1 if x > 0 else alpha exp(x), which is phi(x) + alpha (alpha at 0).

    Source: Clevert, Unterthiner and Hochreiter, arXiv:1511.07289; ONNX operator Elu.

    Args:
        alpha: minus the limit on the left, > 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _positive("ELU", "alpha", alpha)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x or alpha expm1(x), and delta -> delta or (y + alpha) delta."""
        xp = array_namespace(x)
        y = xp.maximum(x, 0.0) + _times(self.alpha, xp.expm1(xp.minimum(x, 0.0)))
        return y, lambda delta: xp.where(y > 0, delta, (y + self.alpha) * delta)


class SoftPlus(ReLULike):
    """The smooth ramp phi(x) = log(1 + exp(kx)) / k; phi'(x) = s(kx) = -expm1(-k y).

    Source: Dugas, Bengio, Bélisle, Nadeau and Garcia, NIPS 2000; ONNX operator Softplus.

    Args:
        k: steepness of the bend, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("SoftPlus", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """log(exp(kx) + exp(0)) / k and delta -> s(kx) delta."""
        xp = array_namespace(x)
        y = _times(1.0 / self.k, xp.logaddexp(_times(self.k, x), 0.0))
        return y, lambda delta: -delta * xp.expm1(-self.k * y)


class Swish(ReLULike):
    """phi(x) = x s(kx); phi'(x) = s(kx) (1 + kx s(-kx)).

    With k = 1 it is also called SiLU.

    Source: Ramachandran, Zoph and Le, arXiv:1710.05941; ONNX operator Swish.

    Args:
        k: steepness of the bend, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("Swish", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x / d and delta -> (1 + k y e) / d delta with e = exp(-kx), d = 1 + e."""
        xp = array_namespace(x)
        x = xp.maximum(x, -_largest_exponent(x, xp) / self.k)  # further left phi is 0
        e = xp.exp(-self.k * x)
        d = 1.0 + e
        y = x / d
        return y, lambda delta: (1.0 + _times(self.k, y) * e) / d * delta


class GELU(ReLULike):
    """The Gaussian error linear unit phi(x) = x Phi(x), Phi the normal distribution function.

    Phi(x) = (1 + erf(x / sqrt(2))) / 2 and phi'(x) = Phi(x) + x exp(-x^2/2) / sqrt(2 pi). The
    standard has no erf: with a = |x|, Phi(-a) is exp(-a^2/2) times a polynomial, and
    phi(x) = max(x, 0) - a Phi(-a). Measured error relative to max(1, |phi(x)|): 0.7 epsilon of
    float32, 1 of float64; that of phi' is 1.4 and 2.

    Source: Hendrycks and Gimpel, arXiv:1606.08415; ONNX operator Gelu.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x Phi(x) and delta -> phi'(x) delta, where phi'(x) = 1 - phi'(-x)."""
        xp = array_namespace(x)
        a = xp.minimum(xp.abs(x), 40.0)  # exp(-40^2 / 2) is 0
        bell = xp.exp(-0.5 * a * a)
        tail = bell * _mills(a, xp)
        y = xp.maximum(x, 0.0) - a * tail
        slope = tail - (1.0 / math.sqrt(2.0 * math.pi)) * a * bell  # phi'(-a)
        return y, lambda delta: xp.where(x > 0, 1.0 - slope, slope) * delta


class GELUTanh(ReLULike):
    """GELU's tanh form, phi(x) = x/2 (1 + tanh(c (x + b x^3))), c = sqrt(2/pi), b = 0.044715.

    That is x s(t) with t = 2c (x + b x^3), and phi'(x) = s(t) (1 + x s(-t) 2c (1 + 3b x^2)). It
    is within 5e-4 of GELU.

    Source: Hendrycks and Gimpel, arXiv:1606.08415; ONNX operator Gelu, approximate="tanh".
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x / d and delta -> (1 + y e t') / d delta with e = exp(-t), d = 1 + e."""
        xp = array_namespace(x)
        c, b = 2.0 * math.sqrt(2.0 / math.pi), 0.044715
        x = xp.maximum(x, -9.0)  # further left phi is 0
        square = xp.minimum(x * x, 100.0)  # further right phi(x) is x
        e = xp.exp(-x * (c + (c * b) * square))
        d = 1.0 + e
        y = x / d
        return y, lambda delta: (1.0 + y * e * (c + (3.0 * c * b) * square)) / d * delta


class SELU(ReLULike):
    """The self-normalizing ELU phi(x) = gamma x if x > 0 else gamma alpha expm1(x).

    phi'(x) = gamma if x > 0 else phi(x) + gamma alpha. The paper's alpha = 1.6733 and
    gamma = 1.0507 make mean 0, variance 1 a fixed point for weights of variance 1/n, therefore
    the factor is 1 here.

    Source: Klambauer, Unterthiner, Mayr and Hochreiter, arXiv:1706.02515; ONNX operator Selu.
    """

    factor = 1.0
    alpha: ClassVar[float] = 1.6732632423543772848
    gamma: ClassVar[float] = 1.0507009873554804934

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """gamma x or gamma alpha expm1(x), and delta times gamma or y + gamma alpha."""
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
        self.alpha = _positive("CELU", "alpha", alpha)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x or alpha expm1(x / alpha), and delta -> min(1 + y / alpha, 1) delta."""
        xp = array_namespace(x)
        left = xp.expm1(_times(1.0 / self.alpha, xp.minimum(x, 0.0)))
        y = xp.maximum(x, 0.0) + _times(self.alpha, left)
        return y, lambda delta: xp.minimum(1.0 + _times(1.0 / self.alpha, y), 1.0) * delta


class Mish(ReLULike):
    """phi(x) = x tanh(p), p = log(1 + exp(x)); phi'(x) = tanh(p) + x s(x) / cosh(p)^2.

    Source: Misra, arXiv:1908.08681; ONNX operator Mish.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x tanh(p) and delta -> (tanh(p) + x s(x) / cosh(p)^2) delta; s(x) is -expm1(-p)."""
        xp = array_namespace(x)
        p = xp.logaddexp(x, 0.0)
        w = xp.tanh(p)

        def backward(delta: Array) -> Array:
            c = xp.cosh(xp.minimum(p, 88.0))  # float32 holds cosh(88)
            return (w - x * xp.expm1(-p) / c / c) * delta

        return x * w, backward


class HardSwish(ReLULike):
    """phi(x) = x h, h = min(max(x/6 + 1/2, 0), 1); phi'(x) = h + x/6 where 0 < h < 1, else h.

    Source: Howard et al., Searching for MobileNetV3, arXiv:1905.02244; ONNX operator HardSwish.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x h and delta -> (h + x h') delta; x/6 is h - 1/2 between the kinks."""
        xp = array_namespace(x)
        h = xp.minimum(xp.maximum(x * (1.0 / 6.0) + 0.5, 0.0), 1.0)
        return x * h, lambda delta: xp.where(xp.logical_and(h > 0, h < 1), 2.0 * h - 0.5, h) * delta


class ReLU6(ReLULike):
    """The ramp that ends at 6, phi(x) = min(max(x, 0), 6); phi'(x) = 1 if 0 < x < 6 else 0.

    Source: Krizhevsky, Convolutional deep belief networks on CIFAR-10, 2010.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x within [0, 6] and delta -> delta inside, else 0."""
        xp = array_namespace(x)
        y = xp.minimum(xp.maximum(x, 0.0), 6.0)
        return y, lambda delta: masked(xp.logical_and(y > 0, y < 6), delta)


class ThresholdedReLU(ReLULike):
    """phi(x) = x if x > alpha else 0; phi'(x) = 1 if x > alpha else 0.

    Source: Konda, Memisevic and Krueger, arXiv:1402.3337; ONNX operator ThresholdedRelu.

    Args:
        alpha: the threshold, >= 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _nonnegative("ThresholdedReLU", "alpha", alpha)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """0 up to alpha, then x, and delta -> 0, then delta."""
        xp = array_namespace(x)
        below = x <= self.alpha
        return xp.where(below, 0.0, x), lambda delta: masked(x > self.alpha, delta)


class Squareplus(ReLULike):
    """The ramp by a hyperbola, phi(x) = (x + sqrt(x^2 + b)) / 2; phi'(x) = phi(x) / sqrt(x^2 + b).

    Source: Barron, arXiv:2112.11687.

    Args:
        b: size of the bend, > 0.
    """

    def __init__(self, b: float = 4.0) -> None:
        self.b = _positive("Squareplus", "b", b)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """max(x, 0) + b/2 / (h + |x|) and delta -> y / h delta, h = hypot(x, sqrt(b))."""
        xp = array_namespace(x)
        h = xp.hypot(x, math.sqrt(self.b))
        y = xp.maximum(x, 0.0) + (0.5 * self.b) / (h + xp.abs(x))  # x + h cancels for x < 0
        return y, lambda delta: y / h * delta


# ---------------------------------------------------------------- the absolute value


class Abs(AbsLike):
    """phi(x) = |x|, or its smooth form h - alpha with h = sqrt(x^2 + alpha^2).

    phi'(x) = sign(x) (0 at 0), or x / h.

    Source: ONNX operator Abs; the smooth form is the pseudo-Huber function.

    Args:
        alpha: size of the bend, >= 0.
    """

    def __init__(self, alpha: float = 0.0) -> None:
        self.alpha = _nonnegative("Abs", "alpha", alpha)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """|x| or x^2 / (h + alpha), and delta -> sign(x) delta or x / h delta."""
        xp = array_namespace(x)
        if self.alpha == 0:
            return xp.abs(x), lambda delta: _sign(x, xp) * delta
        h = xp.hypot(x, self.alpha)
        return x * (x / (h + self.alpha)), lambda delta: x / h * delta


class LOCo(AbsLike):
    """The logarithm of cosh, phi(x) = log(cosh(kx)) / k; phi'(x) = tanh(kx).

    It is |x| - log(2) / k at a distance and k x^2 / 2 near 0. With b = min(|kx|, 20), from where
    on log(cosh) is a straight line, cosh(b) = 1 + 2 sinh(b/2)^2 keeps every digit near 0.

    Args:
        k: steepness, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("LOCo", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """(|kx| - b + log1p(2 sinh(b/2)^2)) / k and delta -> tanh(kx) delta."""
        xp = array_namespace(x)
        t = _times(self.k, x)
        a = xp.abs(t)
        b = xp.minimum(a, 20.0)
        half = xp.sinh(0.5 * b)
        y = _times(1.0 / self.k, (a - b) + xp.log1p(2.0 * half * half))
        return y, lambda delta: xp.tanh(t) * delta


class Twist(AbsLike):
    """phi(x) = x tanh(kx); phi'(x) = tanh(kx) + kx / cosh(kx)^2.

    1 / cosh^2 is 1 - tanh^2 without its cancellation.

    Args:
        k: steepness, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("Twist", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x tanh(kx) and delta -> (tanh(kx) + kx / cosh(kx)^2) delta."""
        xp = array_namespace(x)
        t = _times(self.k, x)
        u = xp.tanh(t)

        def backward(delta: Array) -> Array:
            c = xp.cosh(xp.minimum(xp.abs(t), 88.0))  # float32 holds cosh(88)
            return (u + t / c / c) * delta

        return x * u, backward


class SoftAbs(AbsLike):
    """phi(x) = k x^2 / (1 + |kx|); phi'(x) = kx (2 + |kx|) / (1 + |kx|)^2.

    With d = 1 + |kx| and w = kx / d these are x w and w + w / d, which cannot overflow.

    Args:
        k: steepness, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("SoftAbs", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x w and delta -> (w + w / d) delta."""
        t = _times(self.k, x)
        d = 1.0 + array_namespace(x).abs(t)
        w = t / d
        return x * w, lambda delta: (w + w / d) * delta


# ---------------------------------------------------------------- of no family; factor 1


class Linear(Activation):
    """The identity: phi(x) = x, phi'(x) = 1; factor 1.

    Source: ONNX operator Identity.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x and delta -> delta."""
        return x, lambda delta: delta


class LogSigmoid(Activation):
    """phi(x) = log(s(x)) = -log(1 + exp(-x)); phi'(x) = s(-x) = -expm1(y) with y = phi(x).

    Source: the logarithm of ONNX's Sigmoid.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """-log(exp(-x) + exp(0)) and delta -> s(-x) delta."""
        xp = array_namespace(x)
        y = -xp.logaddexp(-x, 0.0)
        return y, lambda delta: -delta * xp.expm1(y)


class LogSoftmax(Activation):
    """phi(x)_i = x_i - log(sum_j exp(x_j)) along the last axis, the logarithm of SoftMax.

    The backward is the product with the Jacobian, delta - exp(y) sum_j delta_j. The largest
    entry of a row is subtracted first. x needs a last axis of one entry or more.

    Source: ONNX operator LogSoftmax.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """The rows' log-probabilities and delta -> delta - exp(y) sum(delta)."""
        xp = array_namespace(x)
        z = x - xp.max(x, axis=-1, keepdims=True)
        y = z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))
        return y, lambda delta: delta - xp.exp(y) * xp.sum(delta, axis=-1, keepdims=True)


class Gaussian(Activation):
    """The bell phi(x) = exp(-x^2); phi'(x) = -2 x phi(x).

    Source: Broomhead and Lowe, Complex Systems 2, 1988 (radial basis functions).
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """exp(-x^2) and delta -> -2 x y delta."""
        y = array_namespace(x).exp(-x * x)
        return y, lambda delta: (-2.0 * x) * y * delta


class Sinusoid(Activation):
    """phi(x) = sin(kx); phi'(x) = k cos(kx).

    Source: Sitzmann et al., arXiv:2006.09661 (there k = 30 in the first layer); ONNX operator Sin.

    Args:
        k: frequency, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("Sinusoid", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """sin(kx) and delta -> k cos(kx) delta."""
        xp = array_namespace(x)
        t = _times(self.k, x)
        return xp.sin(t), lambda delta: _times(self.k, delta) * xp.cos(t)


class BentIdentity(Activation):
    """phi(x) = x + (sqrt(x^2 + 1) - 1) / 2; phi'(x) = 1 + x / (2 sqrt(x^2 + 1)).

    Source: the common lists of activation functions; no paper is known to have introduced it.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x + x^2 / (h + 1) / 2 and delta -> (1 + x / h / 2) delta, h = hypot(x, 1)."""
        h = array_namespace(x).hypot(x, 1.0)
        return x + (0.5 * x) * (x / (h + 1.0)), lambda delta: (1.0 + 0.5 * x / h) * delta


class TanhShrink(Activation):
    """phi(x) = x - tanh(x); phi'(x) = tanh(x)^2.

    The difference cancels near 0: the error is one epsilon of x, while phi(x) is near x^3 / 3.

    Source: Tanhshrink of the Torch family of libraries; no paper is known.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x - tanh(x) and delta -> tanh(x)^2 delta."""
        u = array_namespace(x).tanh(x)
        return x - u, lambda delta: u * u * delta


class SoftShrink(Activation):
    """phi(x) = x - lambd if x > lambd, x + lambd if x < -lambd, else 0; phi'(x) = 1, 1, else 0.

    Source: Donoho, De-noising by soft-thresholding, 1995; ONNX operator Shrink, bias = lambd.

    Args:
        lambd: half the width of what is set to 0, >= 0.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = _nonnegative("SoftShrink", "lambd", lambd)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x without its part in [-lambd, lambd], and delta -> 0 inside, else delta."""
        xp = array_namespace(x)
        y = x - xp.minimum(xp.maximum(x, -self.lambd), self.lambd)
        return y, lambda delta: xp.where(y == 0, 0.0, delta)


class HardShrink(Activation):
    """phi(x) = x if |x| > lambd else 0; phi'(x) = 1 if |x| > lambd else 0.

    Source: Donoho and Johnstone, Biometrika 81, 1994; ONNX operator Shrink with bias 0.

    Args:
        lambd: half the width of what is set to 0, >= 0.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = _nonnegative("HardShrink", "lambd", lambd)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """0 inside, else x, and delta -> 0 inside, else delta."""
        xp = array_namespace(x)
        inside = xp.abs(x) <= self.lambd
        return xp.where(inside, 0.0, x), lambda delta: xp.where(inside, 0.0, delta)


# ---------------------------------------------------------------- what several of them need


def _times(k: float, x: Array) -> Array:
    """k x; x itself where k is 1, which saves an operation. Never write to the result."""
    return x if k == 1.0 else k * x


def _sign(x: Array, xp: Any) -> Array:
    return xp.astype(x > 0, x.dtype) - xp.astype(x < 0, x.dtype)


def _largest_exponent(x: Array, xp: Any) -> float:
    """exp of it, and one over that, are ordinary numbers of the dtype of x."""
    return 87.0 if x.dtype == xp.float32 else 708.0


def _mills(a: Array, xp: Any) -> Array:
    """exp(a^2/2) Phi(-a) for a >= 0: t times a polynomial in t - 1/2 with t = 1 / (1 + c a)."""
    c, (first, *others, last) = _MILLS_32 if a.dtype == xp.float32 else _MILLS_64
    t = 1.0 / (1.0 + c * a)
    v = t - 0.5
    y = first * v
    for coefficient in others:
        y = (y + coefficient) * v
    return t * (y + last)


# c and the coefficients, highest power first, made by tests/fixtures/make_activations.py. Their
# relative error is 4e-08 up to a = 14 in float32, 2e-16 up to a = 39 in float64.
# fmt: off
_MILLS_32 = (0.35, (
    -0.029679522004, 0.027827742275, 0.044192523699, -0.056223734021,
    -0.081733625968, 0.081875630226, 0.28439538939, 0.3429915375,
    0.25324427936,
))
_MILLS_64 = (0.22, (
    -0.0012561454051024155, 0.0008726803447714035, 0.0030480189833771982, -0.0026345326210253056,
    -0.00455081876745958, 0.004860569822531926, 0.006628869685039233, -0.007628459390534928,
    -0.011609345242145056, 0.010362320321561909, 0.024778414456059456, -0.006223177904895957,
    -0.05562273804308921, -0.04365693909784976, 0.07561577916676024, 0.2588148350109095,
    0.40907159382217184, 0.45567828258964266, 0.397140608748254, 0.28283513260083476,
    0.1680455948761573,
))
# fmt: on


def _positive(owner: str, name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{owner}: {name} must be > 0 and finite, got {value!r}")
    return float(value)


def _nonnegative(owner: str, name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{owner}: {name} must be >= 0 and finite, got {value!r}")
    return float(value)


def _finite(owner: str, name: str, value: float) -> float:
    if not -math.inf < value < math.inf:
        raise ValueError(f"{owner}: {name} must be finite, got {value!r}")
    return float(value)
