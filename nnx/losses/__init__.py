"""Losses: `value(a, y)` is the mean over the samples, `gradient(a, y)` exactly its derivative.

Outputs a have the shape (samples, outputs), or (samples, time, outputs) and the like. Targets y
are rows of the same shape, or class indices (samples,), (samples, time), which stand for their
one-hot rows; for a single output the indices 0 and 1 are the rows.

The mean is over the samples, for these terms of a sample:

    QuadraticCost                             the sample as a whole, summed over all its entries
    MeanSquaredError, MeanAbsoluteError,      every entry: the mean is over the outputs too, as in
    Huber, BinaryCrossEntropy,                PyTorch and Keras
    LogisticCrossEntropy
    CrossEntropy, SoftMaxCrossEntropy,        every row: each time step of a sequence counts as a
    KullbackLeibler, Hinge                    sample

Weights multiply the terms before the mean, which stays one over their number: sum(w l) / number,
as in Keras. (PyTorch divides by the sum of the class weights. To have that, scale the weights to
a mean of 1.) So the loss of a batch is an unbiased estimate of that of the data, batches add up,
and a batch of weight zero has the loss zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from nnx.backend import Array, array_namespace
from nnx.config import Value

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Hinge",
    "Huber",
    "KullbackLeibler",
    "LogisticCrossEntropy",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "QuadraticCost",
    "SoftMaxCrossEntropy",
    "one_hot",
]

# Over which axes of the outputs a loss is a mean: `a.shape[ROWS]` is the shape of its terms.
SAMPLES, ROWS, ENTRIES = slice(0, 1), slice(None, -1), slice(None)


def one_hot(y: Array, a: Array) -> Array:
    """Targets as rows of the shape and type of the outputs a; such rows pass through unchanged.

    Class indices (samples,) become rows with a one at the class; where there is a single output,
    the index itself is the row.

    Raises:
        ValueError: the shape of the targets is neither that of the outputs nor of indices.
    """
    if type(y) is type(a) and y.shape == a.shape and y.dtype == a.dtype:
        return y
    xp = array_namespace(y, a)
    if y.shape == a.shape:
        return xp.astype(y, a.dtype)
    if y.ndim != a.ndim - 1:
        raise ValueError(
            f"expected targets as rows of shape {tuple(a.shape)} or class indices of shape "
            f"{tuple(a.shape[:-1])}, got shape {tuple(y.shape)}"
        )
    y = xp.expand_dims(y, axis=-1)
    if a.shape[-1] > 1:
        y = y == xp.arange(a.shape[-1], dtype=y.dtype, device=_device(a))
    return xp.astype(y, a.dtype)


class Loss(Value):
    """Base class; subclasses define `losses(a, t)` and `slopes(a, t)` for targets t in rows.

    value(a, y) = sum_i w_i losses(a, y)_i / number of i, and gradient(a, y) is its derivative.

    Attributes:
        over: the axes of a over which the value is a mean.
        threshold: of a single output, from where on it stands for the second of two classes.
    """

    over: ClassVar[slice] = ROWS
    threshold: ClassVar[float] = 0.5
    per_entry: ClassVar[bool] = False

    def fused(self, afun):
        from nnx.activations import SoftMax, Logistic
        if type(self) is CrossEntropy and type(afun) is SoftMax:
            return SoftMaxCrossEntropy(self.label_smoothing, self.class_weights)
        if type(self) is BinaryCrossEntropy and type(afun) is Logistic:
            return LogisticCrossEntropy(self.label_smoothing, self.class_weights, afun.k)
        return None

    def check_activation(self, afun, outputs):
        pass

    def losses(self, a: Array, t: Array) -> Array:
        """The terms of the mean, of the shape a.shape[over]."""
        raise NotImplementedError(f"{type(self).__name__} must define losses(a, t)")

    def slopes(self, a: Array, t: Array) -> Array:
        """The derivative of the sum of the terms with respect to a: a new array of its shape."""
        raise NotImplementedError(f"{type(self).__name__} must define slopes(a, t)")

    def value(self, a: Array, y: Array, weights: Array | None = None) -> Array:
        """The mean loss, a 0-d array.

        Args:
            a: outputs.
            y: targets, rows or class indices.
            weights: of the samples, (samples,); where the mean is over more axes of a, also of
                these: (samples, time) for sequences.
        """
        t, weights = self.prepare(a, one_hot(y, a), weights)
        losses = self.losses(a, t)
        if weights is not None:
            losses = losses * self._align(weights, a, losses.ndim)
        return array_namespace(a).mean(losses)

    def gradient(self, a: Array, y: Array, weights: Array | None = None) -> Array:
        """The derivative of `value` with respect to a, of the shape of a."""
        t, weights = self.prepare(a, one_hot(y, a), weights)
        slopes, shape = self.slopes(a, t), a.shape
        rows = len(shape) == 2 and self.over is not ENTRIES  # the usual case, in a tenth of 1 us
        slopes /= shape[0] if rows else math.prod(shape[self.over])
        return slopes if weights is None else slopes * self._align(weights, a, a.ndim)

    def prepare(self, a: Array, t: Array, weights: Array | None) -> tuple[Array, Array | None]:
        """The target rows and the weights that the formulas see."""
        return t, weights

    def check_targets(self, y: Array) -> None:
        """Refuse rows that this loss is not defined for; called once, with all of them.

        Raises:
            ValueError: what was expected of the rows, and what came.
        """

    def _align(self, weights: Array, a: Array, ndim: int) -> Array:
        """The weights with axes of length 1 appended, in the dtype of a."""
        terms = tuple(a.shape[self.over])
        if weights.ndim == 0 or tuple(weights.shape) != terms[: weights.ndim]:
            raise ValueError(
                f"{type(self).__name__} expects weights of shape {terms[:1]}"
                + (f", or of more axes of {terms}," if len(terms) > 1 else "")
                + f" for outputs of shape {tuple(a.shape)}, got {tuple(weights.shape)}"
            )
        xp = array_namespace(a, weights)
        shape = (*weights.shape, *[1] * (ndim - weights.ndim))
        return xp.reshape(xp.astype(weights, a.dtype, copy=False), shape)

class QuadraticCost(Loss):
    """1/2 |a - y|^2, averaged over the samples; its gradient is (a - y) / samples.

    |.|^2 is the sum of the squares of all entries of a sample.
    """

    over = SAMPLES

    def losses(self, a: Array, t: Array) -> Array:
        """1/2 |a - y|^2."""
        difference = a - t
        axes = tuple(range(1, a.ndim))
        return array_namespace(a).sum(difference * difference, axis=axes) * 0.5

    def slopes(self, a: Array, t: Array) -> Array:
        """a - y."""
        return a - t


class MeanSquaredError(Loss):
    """(a - y)^2, averaged over all entries; its gradient is 2 (a - y) / entries.

    For n outputs it is 2/n times `QuadraticCost`.
    """

    over = ENTRIES

    def losses(self, a: Array, t: Array) -> Array:
        """(a - y)^2."""
        difference = a - t
        return difference * difference

    def slopes(self, a: Array, t: Array) -> Array:
        """2 (a - y)."""
        return 2.0 * (a - t)


class MeanAbsoluteError(Loss):
    """|a - y|, averaged over all entries; its gradient is sign(a - y) / entries, 0 at 0."""

    over = ENTRIES

    def losses(self, a: Array, t: Array) -> Array:
        """|a - y|."""
        return array_namespace(a).abs(a - t)

    def slopes(self, a: Array, t: Array) -> Array:
        """sign(a - y)."""
        xp = array_namespace(a)
        return xp.astype(a > t, a.dtype) - xp.astype(a < t, a.dtype)


class Huber(Loss):
    """d^2/2 up to |d| = delta, delta (|d| - delta/2) beyond, for d = a - y; over all entries.

    Its gradient is d, limited to [-delta, delta], / entries.

    Args:
        delta: where the parabola becomes a line, > 0.

    Source: Huber, Annals of Mathematical Statistics 35 (1964).
    """

    over = ENTRIES

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = _positive("Huber", "delta", delta)

    def losses(self, a: Array, t: Array) -> Array:
        """m (|d| - m/2) with m = min(|d|, delta): no square of a large d is taken."""
        xp = array_namespace(a)
        size = xp.abs(a - t)
        m = xp.minimum(size, self.delta)
        return m * (size - 0.5 * m)

    def slopes(self, a: Array, t: Array) -> Array:
        """min(max(a - y, -delta), delta)."""
        xp = array_namespace(a)
        return xp.minimum(xp.maximum(a - t, -self.delta), self.delta)


class _Classification(Loss):
    """Base class of the losses of classes.

    Args:
        label_smoothing: s in [0, 1): targets t become (1 - s) t + s / classes.
        class_weights: one weight >= 0 for each class: a sample of class c counts w_c times; mixed
            targets count sum_c t_c w_c times. They multiply the sample weights, and are applied
            before smoothing, as in Keras.

    Raises:
        ValueError: one of them is out of its range.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"{type(self).__name__}: expected label_smoothing in [0, 1), "
                f"got {label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)
        self.class_weights = _class_weights(type(self).__name__, class_weights)

    def prepare(self, a: Array, t: Array, weights: Array | None) -> tuple[Array, Array | None]:
        """Class weights make sample weights; then the targets are smoothed."""
        if self.class_weights is not None:
            factors = self._class_factors(a, t, self.class_weights)
            weights = (
                factors if weights is None else factors * self._align(weights, a, factors.ndim)
            )
        if self.label_smoothing:
            classes = 2 if self.over is ENTRIES else a.shape[-1]
            t = t * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        return t, weights

    def _class_factors(self, a: Array, t: Array, weights: tuple[float, ...]) -> Array:
        """How often each term counts."""
        xp = array_namespace(a)
        two = self.over is ENTRIES or a.shape[-1] == 1
        classes = 2 if two else a.shape[-1]
        if len(weights) != classes:
            raise ValueError(
                f"{type(self).__name__} expects {classes} class_weights for outputs of shape "
                f"{tuple(a.shape)}, got {len(weights)}"
            )
        if two:
            low, high = weights
            return low + (high - low) * (t if self.over is ENTRIES else t[..., 0])
        # Born anew in every step: a constant kept here would be tied to one device, and to one
        # trace of a compiler. It is a small transfer that nobody waits for.
        return t @ xp.asarray(weights, dtype=a.dtype, device=_device(a))


class CrossEntropy(_Classification):
    """-sum_j y_j log a_j, averaged over the samples; a are probabilities, as SoftMax gives them.

    Its gradient is -(y / a) / samples. Probabilities below a tiny number (1e-31 in float32,
    1e-292 in float64) count as that number. A network that ends in SoftMax uses the stable
    `SoftMaxCrossEntropy` in its place.

    Args:
        label_smoothing: s in [0, 1): targets y become (1 - s) y + s / classes.
        class_weights: a sample of class c counts class_weights[c] times.
    """

    def losses(self, a: Array, t: Array) -> Array:
        """-sum y log(a)."""
        xp = array_namespace(a)
        return -xp.sum(t * xp.log(_above_zero(a)), axis=-1)

    def slopes(self, a: Array, t: Array) -> Array:
        """-(y / a)."""
        return -t / _above_zero(a)

    def check_targets(self, y: Array) -> None:
        """Rows must be distributions."""
        _check_distributions(type(self).__name__, y)


class SoftMaxCrossEntropy(_Classification):
    """The cross-entropy of SoftMax(z), as one function of the logits z.

    Value: the mean of log(sum_j exp(z_j)) - sum_j y_j z_j for rows y of sum 1, with the largest
    entry of a row subtracted from it first. Gradient: (SoftMax(z) - y) / samples. No logarithm
    of a probability that has underflowed is ever taken.

    Args:
        label_smoothing: s in [0, 1): targets y become (1 - s) y + s / classes.
        class_weights: a sample of class c counts class_weights[c] times.
    """

    def losses(self, a: Array, t: Array) -> Array:
        """log(sum exp(a)) - sum y a."""
        xp = array_namespace(a)
        shifted = a - xp.max(a, axis=-1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
        return xp.sum(t * (log_sum - shifted), axis=-1)

    def slopes(self, a: Array, t: Array) -> Array:
        """SoftMax(a) - y."""
        xp = array_namespace(a)
        e = xp.exp(a - xp.max(a, axis=-1, keepdims=True))
        e /= xp.sum(e, axis=-1, keepdims=True)
        e -= t
        return e

    def check_targets(self, y: Array) -> None:
        """Rows must be distributions."""
        _check_distributions(type(self).__name__, y)


class BinaryCrossEntropy(_Classification):
    """-(y log a + (1 - y) log(1 - a)), averaged over all entries; a are probabilities.

    Every output is a yes-or-no question of its own, y its answer in [0, 1]. The gradient is
    ((1 - y) / (1 - a) - y / a) / entries. Probabilities a and 1 - a below a tiny number (1e-31
    in float32, 1e-292 in float64) count as that number. A network that ends in Logistic uses
    the stable `LogisticCrossEntropy` in its place.

    Args:
        label_smoothing: s in [0, 1): targets y become (1 - s) y + s / 2.
        class_weights: a pair; an entry of target 0 counts the first, of target 1 the second.
    """

    over = ENTRIES

    def losses(self, a: Array, t: Array) -> Array:
        """-(y log a + (1 - y) log(1 - a))."""
        xp = array_namespace(a)
        return (t - 1.0) * xp.log(_above_zero(1.0 - a)) - t * xp.log(_above_zero(a))

    def slopes(self, a: Array, t: Array) -> Array:
        """(1 - y) / (1 - a) - y / a."""
        return (1.0 - t) / _above_zero(1.0 - a) - t / _above_zero(a)

    def check_targets(self, y: Array) -> None:
        """Entries must be in [0, 1]."""
        _check_fractions(type(self).__name__, y)


class LogisticCrossEntropy(_Classification):
    """The binary cross-entropy of Logistic(k), as one function of the logits z.

    Value: max(t, 0) - t y + log(1 + exp(-|t|)) with t = kz, averaged over all entries. Gradient:
    k (s(t) - y) / entries, with s(t) = 1 / (1 + exp(-t)).

    Args:
        label_smoothing: s in [0, 1): targets y become (1 - s) y + s / 2.
        class_weights: a pair; an entry of target 0 counts the first, of target 1 the second.
        k: steepness of the logistic function, > 0.
    """

    threshold = 0.0

    over = ENTRIES

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        k: float = 1.0,
    ) -> None:
        super().__init__(label_smoothing, class_weights)
        self.k = _positive("LogisticCrossEntropy", "k", k)

    def losses(self, a: Array, t: Array) -> Array:
        """k (max(a, 0) - a y) + log1p(exp(-k |a|))."""
        xp = array_namespace(a)
        ramp = xp.maximum(a, 0.0) - a * t
        return self.k * ramp + xp.log1p(xp.exp(-self.k * xp.abs(a)))

    def slopes(self, a: Array, t: Array) -> Array:
        """k (s(ka) - y)."""
        xp = array_namespace(a)
        e = xp.exp(-self.k * xp.abs(a))
        slopes = xp.where(a >= 0, 1.0, e) / (1.0 + e)
        slopes -= t
        return slopes if self.k == 1.0 else self.k * slopes

    def check_targets(self, y: Array) -> None:
        """Entries must be in [0, 1]."""
        _check_fractions(type(self).__name__, y)


class Hinge(_Classification):
    """The margin by which wrong classes come too close: sum_{j != c} max(0, m + a_j - a_c).

    It is averaged over the samples, c is the class of the sample, m the margin. A single output
    tells two classes by its sign: max(0, m - a) for y = 1, max(0, m + a) for y = 0. Gradient,
    over samples: 1 for each wrong class inside the margin (not at its edge), minus their number
    for the class itself. PyTorch's multi_margin_loss is this divided by the number of classes.

    Args:
        margin: m > 0.
        class_weights: a sample of class c counts class_weights[c] times.

    Source: Weston and Watkins, ESANN 1999.
    """

    threshold = 0.0

    def __init__(self, margin: float = 1.0, class_weights: Sequence[float] | None = None) -> None:
        self.margin = _positive("Hinge", "margin", margin)
        self.class_weights = _class_weights("Hinge", class_weights)

    def losses(self, a: Array, t: Array) -> Array:
        """sum over the wrong classes of max(0, m + a_j - a_c)."""
        xp = array_namespace(a)
        return xp.sum(xp.maximum(self._excess(a, t), 0.0), axis=-1)

    def slopes(self, a: Array, t: Array) -> Array:
        """1 for a wrong class inside the margin, minus their number for the class itself."""
        xp = array_namespace(a)
        inside = xp.astype(self._excess(a, t) > 0, a.dtype)
        if a.shape[-1] == 1:
            return inside * (1.0 - 2.0 * t)
        return inside - t * xp.sum(inside, axis=-1, keepdims=True)

    def _excess(self, a: Array, t: Array) -> Array:
        """m + a_j - a_c for the wrong classes, 0 for the class itself; binary: m - (2y - 1) a."""
        if a.shape[-1] == 1:
            return self.margin - (2.0 * t - 1.0) * a
        own = array_namespace(a).sum(t * a, axis=-1, keepdims=True)
        return (self.margin + (a - own)) * (1.0 - t)

    def check_targets(self, y: Array) -> None:
        """Rows must have a single one; for a single output, be 0 or 1."""
        xp = array_namespace(y)
        good = xp.logical_or(y == 0, y == 1)
        if y.shape[-1] > 1:
            good = xp.logical_and(good, xp.sum(y, axis=-1, keepdims=True) == 1)
        if not bool(xp.all(good)):
            raise ValueError(
                "Hinge expects target rows with a single 1 and else 0 (for a single output 0 or "
                f"1), got others, entries from {float(xp.min(y)):.3g} to {float(xp.max(y)):.3g}; "
                "use class indices, one-hot rows, or QuadraticCost for other targets"
            )


class KullbackLeibler(Loss):
    """sum_j y_j log(y_j / a_j), averaged over the samples: the divergence of y from a.

    a are probabilities, y distributions; 0 log 0 = 0. Its gradient is that of `CrossEntropy`,
    -(y / a) / samples. Probabilities below a tiny number (1e-31 in float32, 1e-292 in float64)
    count as that number.

    Source: Kullback and Leibler, Annals of Mathematical Statistics 22 (1951).
    """

    def losses(self, a: Array, t: Array) -> Array:
        """sum y (log y - log a)."""
        xp = array_namespace(a)
        return xp.sum(t * (xp.log(_above_zero(t)) - xp.log(_above_zero(a))), axis=-1)

    def slopes(self, a: Array, t: Array) -> Array:
        """-(y / a)."""
        return -t / _above_zero(a)

    def check_targets(self, y: Array) -> None:
        """Rows must be distributions."""
        _check_distributions(type(self).__name__, y)


def _device(a: Array) -> Any:
    """Where a is; None, the default, in a trace of JAX, whose arrays are nowhere yet."""
    return getattr(a, "device", None)


def _above_zero(a: Array) -> Array:
    """Not below a number whose reciprocal can still be weighted and summed without overflow."""
    xp = array_namespace(a)
    facts = xp.finfo(a.dtype)
    return xp.maximum(a, float(facts.smallest_normal) / float(facts.eps))


def _check_distributions(owner: str, y: Array) -> None:
    xp = array_namespace(y)
    least, off = xp.min(y), xp.max(xp.abs(xp.sum(y, axis=-1) - 1.0))
    if float(least) < 0 or float(off) > 1e-3:
        raise ValueError(
            f"{owner} expects target rows that are distributions (not negative, sum 1); got a "
            f"least entry of {float(least):.3g} and a sum that is off by {float(off):.3g}; "
            "use class indices, one-hot rows, or QuadraticCost for other targets"
        )


def _check_fractions(owner: str, y: Array) -> None:
    xp = array_namespace(y)
    least, most = float(xp.min(y)), float(xp.max(y))
    if least < 0 or most > 1:
        raise ValueError(
            f"{owner} expects targets from 0 to 1, got {least:.3g} to {most:.3g}; "
            "use QuadraticCost for other targets"
        )


def _positive(owner: str, name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{owner}: expected {name} > 0, got {value!r}")
    return float(value)


def _class_weights(owner: str, weights: Sequence[float] | None) -> tuple[float, ...] | None:
    if weights is None:
        return None
    plain = tuple(float(w) for w in weights)
    if len(plain) < 2 or not all(0 <= w < math.inf for w in plain):
        raise ValueError(
            f"{owner}: expected class_weights >= 0, one for each class, got {weights!r}"
        )
    return plain
