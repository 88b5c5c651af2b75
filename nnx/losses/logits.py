"""Losses of logits and margins: the network ends in Linear."""

from __future__ import annotations

from nnx.activations import Activation
from nnx.backend import Array, array_namespace
from nnx.checks import number
from nnx.losses.base import ENTRIES, Loss, always_the_same
from nnx.losses.classification import (
    Classification,
    ClassWeights,
    check_distributions,
    check_fractions,
    read_class_weights,
    within_0_1,
)

__all__ = ["Hinge", "LogisticCrossEntropy", "SoftMaxCrossEntropy"]


class SoftMaxCrossEntropy(Classification):
    """The cross-entropy of SoftMax(z), as one function of the logits z.

    Value: the mean of log(sum_j exp(z_j)) - sum_j y_j z_j for rows y of sum 1, with the largest
    entry of a row subtracted from it first. Gradient: (SoftMax(z) - y) / samples. No logarithm
    of a probability that has underflowed is taken. A logit may be -inf: the class is impossible,
    and the value is infinite only if y gives it more than 0. Two logits of a row whose difference
    overflows count as infinitely far apart.

    Args:
        label_smoothing: s in [0, 1): targets y become (1 - s) y + s / classes.
        class_weights: a sample of class c counts class_weights[c] times.
    """

    def losses(self, a: Array, t: Array) -> Array:
        """Return log(sum exp(a)) - sum y a."""
        xp = array_namespace(a)
        shifted = a - xp.max(a, axis=-1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(shifted), axis=-1))
        return log_sum - xp.sum(t * xp.where(t == 0, t, shifted), axis=-1)  # 0 * inf would be NaN

    def slopes(self, a: Array, t: Array) -> Array:
        """Return SoftMax(a) - y."""
        xp = array_namespace(a)
        e = xp.exp(a - xp.max(a, axis=-1, keepdims=True))
        e /= xp.sum(e, axis=-1, keepdims=True)
        e -= t
        return e

    def check_targets(self, y: Array) -> None:
        """Refuse rows that are not distributions."""
        check_distributions(self, y)

    def check_activation(self, afun: Activation, outputs: int) -> None:
        """Refuse activations that give probabilities, and a single output."""
        if outputs == 1:
            raise self._refused(
                "several outputs",
                afun,
                outputs,
                "for a single output, give the network LogisticCrossEntropy() with Linear(), or "
                "BinaryCrossEntropy() with Logistic()",
            )
        _check_logits(self, afun, outputs, "CrossEntropy() with SoftMax()")


class LogisticCrossEntropy(Classification):
    """The binary cross-entropy of Logistic(k), as one function of the logits z.

    Value: |t| |y - [t > 0]| + log(1 + exp(-|t|)) with t = kz, averaged over all entries, which is
    -log s(t) for y = 1 and -log s(-t) for y = 0. Gradient: k (s(t) - y) / entries, with
    s(t) = 1 / (1 + exp(-t)). Infinite logits are sure answers.

    Args:
        label_smoothing: s in [0, 1): targets y become (1 - s) y + s / 2.
        class_weights: a pair; an entry of target 0 counts the first, of target 1 the second.
        k: steepness of the logistic function, > 0.
    """

    over = ENTRIES
    threshold = 0.0
    per_entry = True

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        k: float = 1.0,
    ) -> None:
        super().__init__(label_smoothing, class_weights)
        self.k = number(self, "k", k, "> 0")

    def losses(self, a: Array, t: Array) -> Array:
        """Return k |a| |y - [a > 0]| + log1p(exp(-k |a|)); an infinite a that is right gives 0."""
        xp = array_namespace(a)
        size, miss = xp.abs(a), xp.abs(t - xp.astype(a > 0, a.dtype))
        ramp = xp.where(miss == 0, 0.0, size * miss)
        return self.k * ramp + xp.log1p(xp.exp(-self.k * size))

    def slopes(self, a: Array, t: Array) -> Array:
        """Return k (s(ka) - y)."""
        xp = array_namespace(a)
        e = xp.exp(-self.k * xp.abs(a))
        slopes = xp.where(a >= 0, 1.0, e) / (1.0 + e)
        slopes -= t
        return slopes if self.k == 1.0 else self.k * slopes

    def check_targets(self, y: Array) -> None:
        """Refuse entries outside of [0, 1]."""
        check_fractions(self, y)

    def check_activation(self, afun: Activation, outputs: int) -> None:
        """Refuse activations that give probabilities, and logits of one sign."""
        instead = "BinaryCrossEntropy() with Logistic()"
        _check_logits(self, afun, outputs, instead)
        _check_signs(self, afun, outputs, instead)


class Hinge(Classification):
    """The margin by which wrong classes come too close: sum_{j != c} max(0, m + a_j - a_c).

    It is averaged over the samples; c is the class of the sample and m the margin. The sign of a
    single output tells two classes: max(0, m - a) for y = 1, max(0, m + a) for y = 0. Gradient,
    over samples: 1 for each wrong class inside the margin (not at its edge), minus their number
    for the class itself. PyTorch's multi_margin_loss is this divided by the number of classes.

    Args:
        margin: m > 0.
        class_weights: a sample of class c counts class_weights[c] times.

    Source: Weston and Watkins, ESANN 1999.
    """

    threshold = 0.0

    def __init__(self, margin: float = 1.0, class_weights: ClassWeights = None) -> None:
        self.margin = number(self, "margin", margin, "> 0")
        self.class_weights = read_class_weights(self, class_weights)

    def losses(self, a: Array, t: Array) -> Array:
        """Return the sum over the wrong classes of max(0, m + a_j - a_c)."""
        xp = array_namespace(a)
        return xp.sum(xp.maximum(self._excess(a, t), 0.0), axis=-1)

    def slopes(self, a: Array, t: Array) -> Array:
        """Return 1 for a wrong class inside the margin, minus their number for the class itself."""
        xp = array_namespace(a)
        excess = self._excess(a, t)
        inside = xp.maximum(xp.where(excess > 0, 1.0, excess), 0.0)  # NaN stays NaN
        if a.shape[-1] == 1:
            return inside * (1.0 - 2.0 * t)
        return inside - t * xp.sum(inside, axis=-1, keepdims=True)

    def _excess(self, a: Array, t: Array) -> Array:
        """Return m + a_j - a_c for the wrong classes, 0 for the class itself.

        For a single output it is m - (2y - 1) a. Selected, not multiplied: a may be infinite.
        """
        if a.shape[-1] == 1:
            return self.margin - (2.0 * t - 1.0) * a
        xp = array_namespace(a)
        own = xp.sum(xp.where(t == 0, 0.0, a), axis=-1, keepdims=True)
        return xp.where(t == 0, self.margin + (a - own), 0.0)

    def check_targets(self, y: Array) -> None:
        """Refuse rows without a single one; for a single output, entries other than 0 and 1."""
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

    def check_activation(self, afun: Activation, outputs: int) -> None:
        """Refuse a single output that is always the same, or of one sign."""
        instead = "BinaryCrossEntropy() with Logistic()"
        if outputs == 1 and always_the_same(afun):
            remedy = f"give it Linear(), or the network {instead}"
            raise self._refused("an activation that varies", afun, outputs, remedy)
        if outputs == 1:
            _check_signs(self, afun, outputs, instead)


def _check_logits(loss: Loss, afun: Activation, outputs: int, instead: str) -> None:
    if within_0_1(afun) or (outputs == 1 and always_the_same(afun)):
        remedy = f"give the last layer Linear(), or the network {instead}"
        raise loss._refused("logits, any real numbers,", afun, outputs, remedy)


def _check_signs(loss: Loss, afun: Activation, outputs: int, instead: str) -> None:
    low, high = afun.range
    if not low < 0 < high:
        answer = "yes" if high > 0 else "no"
        what = f"positive and negative numbers, as all others answer {answer} to everything,"
        remedy = f"give the last layer Linear(), or the network {instead}"
        raise loss._refused(what, afun, outputs, remedy)
