"""The step from -1 to 1, and its smooth and straight-line forms."""

from __future__ import annotations

import math

from nnx.activations.base import Backward, SignLike
from nnx.activations.formulas import keep_nan, sign, times
from nnx.backend import Array, array_namespace, masked
from nnx.checks import number

__all__ = ["ISRU", "ArcTan", "HardTanh", "Sign", "SoftSign", "TanH"]


class Sign(SignLike):
    """phi(x) = sign(x): -1, 0 or 1; phi'(x) = 0.

    Source: Rosenblatt, Psychological Review 65, 1958; ONNX operator Sign.
    """

    name = "sign"
    range = (-1.0, 1.0)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return the sign of x and delta -> 0."""
        xp = array_namespace(x)
        return keep_nan(sign(x, xp), x, xp), xp.zeros_like


class TanH(SignLike):
    """The hyperbolic tangent phi(x) = tanh(kx); phi'(x) = k (1 - y^2) with y = phi(x).

    1 - y^2 is exact to about one epsilon, so phi' is within a few epsilon of its maximum k.

    Source: LeCun, Bottou, Orr and Müller, Efficient BackProp, 1998; ONNX operator Tanh.

    Args:
        k: steepness, > 0.
    """

    name = "tanh"
    range = (-1.0, 1.0)

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return tanh(kx) and delta -> k (1 - y^2) delta."""
        y = array_namespace(x).tanh(times(self.k, x))
        return y, lambda delta: times(self.k, 1.0 - y * y) * delta


class SoftSign(SignLike):
    """phi(x) = kx / (1 + |kx|); phi'(x) = k / (1 + |kx|)^2.

    Source: Bergstra, Desjardins, Lamblin and Bengio, 2009; ONNX operator Softsign.

    Args:
        k: steepness, > 0.
    """

    name = "softsign"
    range = (-1.0, 1.0)

    def __init__(self, k: float = 1.0) -> None:
        self.k = number(self, "k", k, "> 0")

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x / d and delta -> k (r / d)^2 delta with r = 1/k, d = r + |x|."""
        r = 1.0 / self.k
        d = r + array_namespace(x).abs(x)

        def backward(delta: Array) -> Array:
            slope = r / d
            return times(self.k, delta * slope * slope)

        return x / d, backward


class HardTanh(SignLike):
    """phi(x) = min(max(x, -1), 1); phi'(x) = 1 if |x| < 1 else 0 (0 at both kinks).

    Source: Collobert, thesis, Paris 6, 2004; ONNX operator Clip with min -1 and max 1.
    """

    name = "hard tanh"
    range = (-1.0, 1.0)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return x within [-1, 1] and delta -> delta inside, else 0."""
        xp = array_namespace(x)
        y = xp.minimum(xp.maximum(x, -1.0), 1.0)
        return y, lambda delta: masked(xp.abs(y) < 1, delta)


class ArcTan(SignLike):
    """phi(x) = arctan(x), between -pi/2 and pi/2; phi'(x) = 1 / (1 + x^2).

    Source: ONNX operator Atan.
    """

    name = "arctan"
    range = (-math.pi / 2, math.pi / 2)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return arctan(x) and delta -> delta / h^2 with h = hypot(x, 1); x^2 might overflow."""
        xp = array_namespace(x)

        def backward(delta: Array) -> Array:
            h = xp.hypot(x, 1.0)
            return delta / h / h

        return xp.atan(x), backward


class ISRU(SignLike):
    """The inverse square root unit phi(x) = x / sqrt(1 + alpha x^2), phi'(x) = (phi(x) / x)^3.

    Its values lie between -1/sqrt(alpha) and 1/sqrt(alpha).

    Source: Carlile, Delamarter, Kinney, Marti and Whitney, arXiv:1710.09967.

    Args:
        alpha: > 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(self, "alpha", alpha, "> 0")
        self.range = (-1.0 / math.sqrt(self.alpha), 1.0 / math.sqrt(self.alpha))

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return r x / h and delta -> delta (r / h)^3 with r = 1/sqrt(alpha), h = hypot(x, r)."""
        r = 1.0 / math.sqrt(self.alpha)
        h = array_namespace(x).hypot(x, r)

        def backward(delta: Array) -> Array:
            slope = r / h
            return delta * slope * slope * slope

        return times(r, x / h), backward
