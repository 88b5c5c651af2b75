"""Losses: `value(a, y)` is the mean over the samples, `gradient(a, y)` exactly its derivative.

Outputs a have the shape (samples, outputs). Targets y are rows of the same shape, or class
indices (samples,), which stand for their one-hot rows.
"""

from __future__ import annotations

from nnx.backend import Array, array_namespace

__all__ = ["CrossEntropy", "Loss", "QuadraticCost", "SoftMaxCrossEntropy", "one_hot"]


def one_hot(y: Array, a: Array) -> Array:
    """Targets as rows of the shape and type of the outputs a; rows pass through unchanged.

    Class indices (samples,) become rows with a one at the class.
    """
    xp = array_namespace(y, a)
    if y.ndim == a.ndim:
        return y
    classes = xp.arange(a.shape[-1], dtype=y.dtype, device=a.device)
    return xp.astype(xp.expand_dims(y, axis=-1) == classes, a.dtype)


class Loss:
    """Base class; subclasses define `value(a, y)` and `gradient(a, y)`."""

    def value(self, a: Array, y: Array) -> Array:
        """The mean loss over the samples, a 0-d array."""
        raise NotImplementedError(f"{type(self).__name__} must define value(a, y)")

    def gradient(self, a: Array, y: Array) -> Array:
        """The derivative of `value` with respect to a, of the shape of a."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(a, y)")

    def check_targets(self, y: Array) -> None:
        """Refuse rows that this loss is not defined for; called once, with all of them.

        Raises:
            ValueError: what was expected of the rows, and what came.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class QuadraticCost(Loss):
    """1/2 |a - y|^2, averaged over the samples; its gradient is (a - y) / samples."""

    def value(self, a: Array, y: Array) -> Array:
        """sum (a - y)^2 / (2 samples)."""
        difference = a - one_hot(y, a)
        return array_namespace(a).sum(difference * difference) / (2.0 * a.shape[0])

    def gradient(self, a: Array, y: Array) -> Array:
        """(a - y) / samples."""
        return (a - one_hot(y, a)) / a.shape[0]


class CrossEntropy(Loss):
    """-sum_j y_j log a_j, averaged over the samples; a are probabilities, as SoftMax gives them.

    Its gradient is -(y / a) / samples. Probabilities below the smallest normal number of the
    dtype count as that number. A network that ends in SoftMax uses the stable
    `SoftMaxCrossEntropy` in its place.
    """

    def value(self, a: Array, y: Array) -> Array:
        """-sum y log(a) / samples."""
        xp = array_namespace(a)
        return -xp.sum(one_hot(y, a) * xp.log(_above_zero(a))) / a.shape[0]

    def gradient(self, a: Array, y: Array) -> Array:
        """-(y / a) / samples."""
        return -one_hot(y, a) / _above_zero(a) / a.shape[0]

    def check_targets(self, y: Array) -> None:
        """Rows must be distributions."""
        _check_distributions(type(self).__name__, y)


class SoftMaxCrossEntropy(Loss):
    """The cross-entropy of SoftMax(z), as one function of the logits z.

    Value: the mean of log(sum_j exp(z_j)) - sum_j y_j z_j for rows y of sum 1, with the largest
    entry of a row subtracted from it first. Gradient: (SoftMax(z) - y) / samples. No logarithm
    of a probability that has underflowed is ever taken.
    """

    def value(self, a: Array, y: Array) -> Array:
        """sum (log(sum exp(a)) - sum y a) / samples."""
        xp = array_namespace(a)
        shifted = a - xp.max(a, axis=-1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
        return -xp.sum(one_hot(y, a) * (shifted - log_sum)) / a.shape[0]

    def gradient(self, a: Array, y: Array) -> Array:
        """(SoftMax(a) - y) / samples."""
        xp = array_namespace(a)
        e = xp.exp(a - xp.max(a, axis=-1, keepdims=True))
        return (e / xp.sum(e, axis=-1, keepdims=True) - one_hot(y, a)) / a.shape[0]

    def check_targets(self, y: Array) -> None:
        """Rows must be distributions."""
        _check_distributions(type(self).__name__, y)


def _above_zero(a: Array) -> Array:
    xp = array_namespace(a)
    return xp.maximum(a, float(xp.finfo(a.dtype).smallest_normal))


def _check_distributions(owner: str, y: Array) -> None:
    xp = array_namespace(y)
    least, off = xp.min(y), xp.max(xp.abs(xp.sum(y, axis=-1) - 1.0))
    if float(least) < 0 or float(off) > 1e-3:
        raise ValueError(
            f"{owner} expects target rows that are distributions (not negative, sum 1); got a "
            f"least entry of {float(least):.3g} and a sum that is off by {float(off):.3g}; "
            "use class indices, one-hot rows, or QuadraticCost for other targets"
        )
