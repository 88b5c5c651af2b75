"""Initial weights: `wfun(m, n)` draws an m x n matrix, `filters(shape)` those of a convolution.

The draw is made on the host, in float64, from a stream for the weights of this shape (see
`nnx.randomness`) or from a generator given as `rng`; the result is then moved to the current
backend. One seed therefore gives the same bits on every backend.

m x n are weights of n inputs and m outputs: the fan-in is n, the fan-out m. Filters of shape
(out_channels, in_channels, *kernel) have fan-in in_channels x area and fan-out out_channels x
area, where the area is the product of the kernel's sides.

Layers call `weights(shape, gain)` with the gain `afun.factor` of their activation, sqrt(2) for
ReLU. RandnAverage, RandAverage and RandnOrthonormal are multiplied by it. Initializers that are
named after a law (He, LeCun, TruncatedNormal, VarianceScaling) or a value (Constant, Zeros, Ones,
Identity) give exactly that law or value, whatever the activation is. The variance of HeNormal and
HeUniform, 2 / n, already contains the gain of ReLU.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from nnx.backend import Array, get_backend
from nnx.checks import ShapeError, choice, instance, number
from nnx.config import Value
from nnx.randomness import fresh_generator, replaced_weights
from nnx.synonyms import not_called

__all__ = [
    "Constant",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LeCunNormal",
    "LeCunUniform",
    "Ones",
    "RandAverage",
    "RandnAverage",
    "RandnOrthonormal",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
]

Shape = tuple[int, ...]


class Initializer(Value):
    """Base class; subclasses define `draw(shape, rng)`, which returns a NumPy array of float64.

    Args:
        rng: draws come from this generator instead of the seeded streams.

    Attributes:
        scaled: True if a layer multiplies what is drawn by the gain of its activation.
    """

    transient: ClassVar[tuple[str, ...]] = ("rng",)
    scaled: ClassVar[bool] = True
    rng: np.random.Generator | None = None

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        if rng is not None:
            example = f"numpy.random.default_rng({rng if type(rng) is int and rng >= 0 else 0})"
            instance(self, "rng", rng, np.random.Generator, example)
        self.rng = rng

    __call__ = not_called("initializer.wfun(outputs, inputs)")

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return the weights of shape (m, n) or (m, n, *kernel) on the host, float64."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(shape, rng)")

    def wfun(self, m: int, n: int) -> Array:
        """Return an m x n matrix of the current backend, for n inputs and m outputs."""
        return self.filters((m, n))

    def filters(self, shape: Shape) -> Array:
        """Return filters (out_channels, in_channels, *kernel) of the current backend.

        Raises:
            ValueError: the shape is not two or more positive integers, or `draw` returned numbers
                that the backend's dtype cannot hold.
            TypeError: `draw` did not return a NumPy array of floats.
            ShapeError: `draw` returned an array of another shape.
        """
        sides = tuple(shape) if isinstance(shape, tuple | list) else ()
        integers = all(isinstance(s, int | np.integer) and s > 0 and s is not True for s in sides)
        if len(sides) < 2 or not integers:
            raise ValueError(
                f"{type(self).__name__}: expected a shape (outputs, inputs, ...) of positive "
                f"integers, got {shape!r}"
            )
        if (replaced := replaced_weights(sides)) is not None:
            return replaced
        rng = self.rng or fresh_generator("weights", *sides)
        return get_backend().asarray(self._checked(self.draw(sides, rng), sides))

    def weights(self, shape: Shape, gain: float = 1.0) -> Array:
        """Return the initial weights of a layer: `filters(shape)`, times the gain if `scaled`.

        Args:
            shape: (outputs, inputs) or (out_channels, in_channels, *kernel).
            gain: the `factor` of the layer's activation.
        """
        gain = number(self, "gain", gain)
        W = self.filters(shape)
        return gain * W if self.scaled and gain != 1.0 else W

    def _checked(self, W: Any, shape: Shape) -> np.ndarray:
        """Return what `draw` returned, if it can be weights of this shape."""
        owner = f"{type(self).__name__}.draw"
        if not isinstance(W, np.ndarray) or W.dtype.kind != "f":
            what = f"an array of {W.dtype}" if isinstance(W, np.ndarray) else f"{W!r:.60}"
            raise TypeError(
                f"{owner}: expected it to return a NumPy array of float64, got {what}; "
                "return numpy.asarray(W, dtype=float)"
            )
        if W.shape != shape:
            raise ShapeError(
                f"{owner}: expected it to return an array of shape {shape}, got {W.shape}; "
                "the shape that draw(shape, rng) receives is (outputs, inputs, *kernel)"
            )
        dtype = get_backend().dtype_name
        if not (inside := np.abs(W) <= np.finfo(dtype).max).all():
            raise ValueError(
                f"{owner}: expected it to return numbers that {dtype} can hold, got "
                f"{W[~inside][0]}; check the arguments of {self!r}"
            )
        return W


class RandnAverage(Initializer):
    """Normal entries of mean 0 and variance 2 / (m + n); the field's name is Glorot normal.

    For filters m + n is fan-in + fan-out.

    Source: Glorot and Bengio, AISTATS 2010.
    """

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return entries N(0, 2 / (m + n))."""
        return _normal(shape, 2.0 / sum(_fans(shape)), rng)


class RandAverage(Initializer):
    """Uniform entries on [-r, r], r = sqrt(6 / (m + n)); the field's name is Glorot uniform.

    The variance is 2 / (m + n), as for `RandnAverage`.

    Source: Glorot and Bengio, AISTATS 2010.
    """

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return entries U(-r, r), r = sqrt(6 / (m + n))."""
        return _uniform(shape, 2.0 / sum(_fans(shape)), rng)


class RandnOrthonormal(Initializer):
    """Orthonormal rows or columns, the shorter side, uniformly distributed (Haar).

    Q of the QR decomposition of a normal matrix, its columns times the signs of diag(R): without
    these signs the distribution is not uniform. W W^T = 1 for m <= n, W^T W = 1 for m >= n.
    Entries have mean 0 and variance 1 / max(m, n), not 2 / (m + n). Filters are the matrix
    (out_channels, in_channels x area), reshaped.

    Source: Mezzadri, Notices of the AMS 54 (2007); Saxe, McClelland and Ganguli, ICLR 2014.
    """

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return Q sign(diag(R)) of the longer x shorter matrix, transposed if m < n."""
        m, n = shape[0], math.prod(shape[1:])
        Q, R = np.linalg.qr(rng.standard_normal((max(m, n), min(m, n))))
        Q *= np.where(np.diag(R) < 0, -1.0, 1.0)
        return np.ascontiguousarray(Q if m >= n else Q.T).reshape(shape)


class HeNormal(Initializer):
    """Normal entries of mean 0 and variance 2 / n; PyTorch's name is Kaiming normal.

    Source: He, Zhang, Ren and Sun, ICCV 2015.
    """

    scaled = False

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return entries N(0, 2 / n)."""
        return _normal(shape, 2.0 / _fans(shape)[0], rng)


class HeUniform(Initializer):
    """Uniform entries on [-r, r], r = sqrt(6 / n): variance 2 / n; Kaiming uniform in PyTorch.

    Source: He, Zhang, Ren and Sun, ICCV 2015.
    """

    scaled = False

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return entries U(-r, r), r = sqrt(6 / n)."""
        return _uniform(shape, 2.0 / _fans(shape)[0], rng)


class LeCunNormal(Initializer):
    """Normal entries of mean 0 and variance 1 / n, whatever the activation is.

    Source: LeCun, Bottou, Orr and Müller, Efficient BackProp, 1998.
    """

    scaled = False

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return entries N(0, 1 / n)."""
        return _normal(shape, 1.0 / _fans(shape)[0], rng)


class LeCunUniform(Initializer):
    """Uniform entries on [-r, r], r = sqrt(3 / n): variance 1 / n, whatever the activation is.

    Source: LeCun, Bottou, Orr and Müller, Efficient BackProp, 1998.
    """

    scaled = False

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return entries U(-r, r), r = sqrt(3 / n)."""
        return _uniform(shape, 1.0 / _fans(shape)[0], rng)


class TruncatedNormal(Initializer):
    """Normal entries N(mean, std^2), drawn again while more than two std from the mean.

    std is that of the normal distribution before it is cut, as in Keras and PyTorch: the entries'
    own standard deviation is 0.8796 std. (`VarianceScaling` corrects for it.)

    Args:
        std: standard deviation before the cut, > 0.
        mean: mean.
        rng: draws come from this generator instead of the seeded stream.
    """

    scaled = False

    def __init__(
        self, std: float = 0.05, mean: float = 0.0, rng: np.random.Generator | None = None
    ) -> None:
        super().__init__(rng)
        self.std = number(self, "std", std, "> 0")
        self.mean = number(self, "mean", mean)

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return entries mean + std z, z normal under the condition |z| <= 2."""
        return self.mean + self.std * _cut_normal(shape, rng)


class VarianceScaling(Initializer):
    """Entries of mean 0 and variance scale / fan.

    The fan is fan-in n, fan-out m, or their average (m + n) / 2. All distributions have exactly
    this variance; the truncated normal one is widened to have it after the cut at two standard
    deviations. The other random initializers are special cases: RandnAverage is (1, "fan_avg",
    "normal"), HeUniform (2, "fan_in", "uniform"), LeCunNormal (1, "fan_in", "normal").

    Args:
        scale: > 0.
        mode: "fan_in", "fan_out" or "fan_avg".
        distribution: "normal", "uniform" or "truncated_normal".
        rng: draws come from this generator instead of the seeded stream.
    """

    scaled = False

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(rng)
        self.scale = number(self, "scale", scale, "> 0")
        self.mode = choice(self, "mode", mode, MODES)
        self.distribution = choice(self, "distribution", distribution, DISTRIBUTIONS)

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return entries of variance scale / fan."""
        fan = MODES[self.mode](*_fans(shape))
        return DISTRIBUTIONS[self.distribution](shape, self.scale / fan, rng)


class Constant(Initializer):
    """All entries are the same number.

    Args:
        value: that number.
    """

    scaled = False

    def __init__(self, value: float = 0.0) -> None:
        self.value = number(self, "value", value)

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return an array filled with the value; nothing is drawn."""
        return np.full(shape, self.value)


class Zeros(Initializer):
    """All entries are 0."""

    scaled = False

    def __init__(self) -> None:
        pass

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return zeros; nothing is drawn."""
        return np.zeros(shape)


class Ones(Initializer):
    """All entries are 1."""

    scaled = False

    def __init__(self) -> None:
        pass

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return ones; nothing is drawn."""
        return np.ones(shape)


class Identity(Initializer):
    """`gain` on the diagonal, 0 elsewhere; m x n need not be square.

    Filters have the diagonal in the centre of the kernel (at side // 2), so that a convolution
    passes its first channels on unchanged.

    Args:
        gain: the number on the diagonal.

    Source: Le, Jaitly and Hinton, arXiv 1504.00941 (recurrent layers).
    """

    scaled = False

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = number(self, "gain", gain)

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return the diagonal matrix; nothing is drawn."""
        m, n, *kernel = shape
        W: Any = np.zeros(shape)
        W[..., *(side // 2 for side in kernel)] = self.gain * np.eye(m, n)
        return W


def _fans(shape: Shape) -> tuple[int, int]:
    """Return fan-in and fan-out of weights (outputs, inputs, *kernel)."""
    m, n, area = shape[0], shape[1], math.prod(shape[2:])
    return n * area, m * area


def _normal(shape: Shape, variance: float, rng: np.random.Generator) -> np.ndarray:
    return math.sqrt(variance) * rng.standard_normal(shape)


def _uniform(shape: Shape, variance: float, rng: np.random.Generator) -> np.ndarray:
    r = math.sqrt(3.0 * variance)
    return rng.uniform(-r, r, shape)


def _truncated(shape: Shape, variance: float, rng: np.random.Generator) -> np.ndarray:
    return math.sqrt(variance / CUT_VARIANCE) * _cut_normal(shape, rng)


def _cut_normal(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return standard normal entries under the condition |z| <= CUT."""
    z = rng.standard_normal(shape)
    while (outside := np.abs(z) > CUT).any():
        z[outside] = rng.standard_normal(np.count_nonzero(outside))
    return z


# The variance of a normal z under |z| <= c is 1 - 2 c phi(c) / P(|z| <= c), phi the density of z.
CUT = 2.0
CUT_VARIANCE = 1.0 - 2.0 * CUT * math.exp(-CUT * CUT / 2.0) / math.sqrt(2.0 * math.pi) / math.erf(
    CUT / math.sqrt(2.0)
)

DISTRIBUTIONS = {"normal": _normal, "uniform": _uniform, "truncated_normal": _truncated}
MODES = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2.0,
}
