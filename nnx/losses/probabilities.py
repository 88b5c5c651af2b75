"""Losses of probabilities: the network ends in SoftMax or Logistic."""

from __future__ import annotations

from nnx.activations import Activation, Logistic, SoftMax
from nnx.backend import Array, array_namespace
from nnx.losses.base import ENTRIES, Loss
from nnx.losses.classification import (
    Classification,
    check_distributions,
    check_fractions,
    within_0_1,
)
from nnx.losses.logits import LogisticCrossEntropy, SoftMaxCrossEntropy

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "KullbackLeibler"]


def _check_sums_to_1(loss: Loss, afun: Activation, outputs: int) -> None:
    """Refuse activations whose rows do not sum to 1."""
    what = "an activation whose values sum to 1"
    if outputs == 1:
        remedy = "for a single output, give the network BinaryCrossEntropy() with Logistic()"
        raise loss._refused("several outputs", afun, outputs, remedy)
    if not afun.distribution:
        remedy = (
            "give the last layer SoftMax(), or, if the outputs are logits, the network "
            "SoftMaxCrossEntropy() with Linear(); for separate yes-or-no questions, give the "
            "network BinaryCrossEntropy() with Logistic()"
        )
        raise loss._refused(what, afun, outputs, remedy)


class CrossEntropy(Classification):
    """-sum_j y_j log a_j, averaged over the samples; a are the probabilities that SoftMax gives.

    Its gradient is -(y / a) / samples. Probabilities below a tiny number (1e-31 in float32,
    1e-292 in float64) count as that number. A network that ends in SoftMax uses the stable
    `SoftMaxCrossEntropy` of the logits instead.

    Args:
        label_smoothing: s in [0, 1): targets y become (1 - s) y + s / classes.
        class_weights: a sample of class c counts class_weights[c] times.
    """

    def losses(self, a: Array, t: Array) -> Array:
        """Return -sum y log(a)."""
        xp = array_namespace(a)
        return -xp.sum(t * xp.log(_above_zero(a)), axis=-1)

    def slopes(self, a: Array, t: Array) -> Array:
        """Return -(y / a)."""
        return -t / _above_zero(a)

    def check_targets(self, y: Array) -> None:
        """Refuse rows that are not distributions."""
        check_distributions(self, y)

    check_activation = _check_sums_to_1

    def fused(self, afun: Activation) -> Loss | None:
        """Return `SoftMaxCrossEntropy` for SoftMax."""
        same = type(afun).forward is SoftMax.forward
        if not (same and self._keeps_formulas_of(CrossEntropy)):
            return None
        return SoftMaxCrossEntropy(self.label_smoothing, self.class_weights)


class KullbackLeibler(Loss):
    """sum_j y_j log(y_j / a_j), averaged over the samples: the divergence of y from a.

    a are probabilities, y distributions; 0 log 0 = 0. Its gradient is that of `CrossEntropy`,
    -(y / a) / samples. Probabilities below a tiny number (1e-31 in float32, 1e-292 in float64)
    count as that number.

    Source: Kullback and Leibler, Annals of Mathematical Statistics 22 (1951).
    """

    def losses(self, a: Array, t: Array) -> Array:
        """Return sum y (log y - log a)."""
        xp = array_namespace(a)
        return xp.sum(t * (xp.log(_above_zero(t)) - xp.log(_above_zero(a))), axis=-1)

    def slopes(self, a: Array, t: Array) -> Array:
        """Return -(y / a)."""
        return -t / _above_zero(a)

    def check_targets(self, y: Array) -> None:
        """Refuse rows that are not distributions."""
        check_distributions(self, y)

    check_activation = _check_sums_to_1


class BinaryCrossEntropy(Classification):
    """-(y log a + (1 - y) log(1 - a)), averaged over all entries; a are probabilities.

    Every output is a yes-or-no question of its own, and y in [0, 1] its answer. The gradient is
    ((1 - y) / (1 - a) - y / a) / entries. Probabilities a and 1 - a below a tiny number (1e-31
    in float32, 1e-292 in float64) count as that number. A network that ends in Logistic uses
    the stable `LogisticCrossEntropy` of the logits instead.

    Args:
        label_smoothing: s in [0, 1): targets y become (1 - s) y + s / 2.
        class_weights: a pair; an entry of target 0 counts the first, of target 1 the second.
    """

    over = ENTRIES
    per_entry = True

    def losses(self, a: Array, t: Array) -> Array:
        """Return -(y log a + (1 - y) log(1 - a))."""
        xp = array_namespace(a)
        return (t - 1.0) * xp.log(_above_zero(1.0 - a)) - t * xp.log(_above_zero(a))

    def slopes(self, a: Array, t: Array) -> Array:
        """Return (1 - y) / (1 - a) - y / a."""
        return (1.0 - t) / _above_zero(1.0 - a) - t / _above_zero(a)

    def check_targets(self, y: Array) -> None:
        """Refuse entries outside of [0, 1]."""
        check_fractions(self, y)

    def check_activation(self, afun: Activation, outputs: int) -> None:
        """Refuse activations whose values leave [0, 1]."""
        if not within_0_1(afun):
            raise self._refused(
                "an activation with values in [0, 1]",
                afun,
                outputs,
                "give the last layer Logistic(), or the network LogisticCrossEntropy() with "
                "Linear()",
            )
        super().check_activation(afun, outputs)

    def fused(self, afun: Activation) -> Loss | None:
        """Return `LogisticCrossEntropy` for Logistic."""
        same = type(afun).forward is Logistic.forward
        if not (same and self._keeps_formulas_of(BinaryCrossEntropy)):
            return None
        return LogisticCrossEntropy(self.label_smoothing, self.class_weights, afun.k)  # type: ignore[attr-defined]


def _above_zero(a: Array) -> Array:
    """Return a, not below a number whose reciprocal can still be weighted and summed."""
    xp = array_namespace(a)
    facts = xp.finfo(a.dtype)
    return xp.maximum(a, float(facts.smallest_normal) / float(facts.eps))
