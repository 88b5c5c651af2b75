"""Metrics of outputs against targets, as arrays on the device: reading them is the caller's.

For classes, outputs are (samples, classes), probabilities or any increasing function of them, and
the guess is the largest; or (samples, 1), the probability of the second class of two, which counts
from 1/2 on. Targets are class indices (samples,), or rows, whose class is the largest entry. More
axes, (samples, time, classes), are more samples.

Counts are kept in the dtype of the outputs: in float32 they are exact up to 2^24 samples.
"""

from __future__ import annotations

from nnx.backend import Array, array_namespace

__all__ = [
    "accuracy",
    "confusion_matrix",
    "f1",
    "mean_absolute_error",
    "precision",
    "r2",
    "recall",
    "top_k_accuracy",
]


def accuracy(outputs: Array, targets: Array, threshold: float = 0.5) -> Array:
    """The fraction of samples whose largest output is that of their class.

    Args:
        outputs: (samples, classes), probabilities or any increasing function of them; or
            (samples, 1), which stands for the second of two classes from the threshold on.
        targets: class indices (samples,), or rows (samples, classes).
        threshold: 1/2 for probabilities, 0 for logits.

    Raises:
        ValueError: targets of another shape.
    """
    guess, truth = _guess_and_truth(outputs, targets, threshold)
    xp = array_namespace(outputs)
    return xp.mean(xp.astype(guess == truth, outputs.dtype))


def top_k_accuracy(outputs: Array, targets: Array, k: int = 5) -> Array:
    """The fraction of samples for which fewer than k outputs are larger than that of their class.

    Ties so count in favour of the sample; an output that is NaN counts against it.

    Args:
        outputs: (samples, classes), probabilities or any increasing function of them.
        targets: class indices (samples,), or rows (samples, classes).
        k: from 1 to the number of classes.

    Raises:
        ValueError: k is out of range.
    """
    classes = outputs.shape[-1]
    if not 1 <= k <= classes:
        raise ValueError(
            f"top_k_accuracy: expected k from 1 to the number of classes, {classes}, got {k!r}"
        )
    xp = array_namespace(outputs, targets)
    truth = xp.argmax(targets, axis=-1) if targets.ndim == outputs.ndim else targets
    numbers = xp.arange(classes, dtype=truth.dtype, device=outputs.device)
    own = xp.where(xp.expand_dims(truth, axis=-1) == numbers, outputs, 0.0)
    not_larger = outputs <= xp.sum(own, axis=-1, keepdims=True)
    rank = classes - xp.sum(xp.astype(not_larger, outputs.dtype), axis=-1)
    return xp.mean(xp.astype(rank < k, outputs.dtype))


def confusion_matrix(outputs: Array, targets: Array) -> Array:
    """Entry i, j is the number of samples of class i that were taken for class j.

    Args:
        outputs: (samples, classes), or (samples, 1) for two classes.
        targets: class indices (samples,), or rows.
    """
    guess, truth = _one_hots(outputs, targets)
    return truth.T @ guess


def precision(outputs: Array, targets: Array, average: str | None = "macro") -> Array:
    """TP / (TP + FP): of those taken for a class, the fraction that belongs to it.

    A class that is never guessed has the precision 0.

    Args:
        outputs: (samples, classes), or (samples, 1) for two classes.
        targets: class indices (samples,), or rows.
        average: "macro", the mean over all classes, also of those that do not occur; "micro", of
            the counts summed over the classes, which is the accuracy; None, one for each class.

    Raises:
        ValueError: another average.
    """
    hits, guessed, _ = _counts("precision", outputs, targets, average)
    return _ratio(hits, guessed, average)


def recall(outputs: Array, targets: Array, average: str | None = "macro") -> Array:
    """TP / (TP + FN): of those that belong to a class, the fraction that was taken for it.

    A class without samples has the recall 0. Arguments as for `precision`.
    """
    hits, _, true = _counts("recall", outputs, targets, average)
    return _ratio(hits, true, average)


def f1(outputs: Array, targets: Array, average: str | None = "macro") -> Array:
    """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    A class that neither occurs nor is guessed has the value 0. Arguments as for `precision`.
    """
    hits, guessed, true = _counts("f1", outputs, targets, average)
    return _ratio(2.0 * hits, guessed + true, average)


def mean_absolute_error(outputs: Array, targets: Array) -> Array:
    """The mean of |outputs - targets| over all entries.

    Args:
        outputs: (samples, outputs).
        targets: (samples, outputs), or (samples,) for a single output.
    """
    xp = array_namespace(outputs, targets)
    return xp.mean(xp.abs(outputs - _same_shape("mean_absolute_error", outputs, targets)))


def r2(outputs: Array, targets: Array) -> Array:
    """1 - sum (y - a)^2 / sum (y - mean y)^2, sums over the samples; the mean over the outputs.

    For an output whose targets are all the same it is 1 if they are met exactly, else 0.

    Args:
        outputs: a, (samples, outputs).
        targets: y, (samples, outputs), or (samples,) for a single output.
    """
    xp = array_namespace(outputs, targets)
    targets = _same_shape("r2", outputs, targets)
    error = targets - outputs
    residual = xp.sum(error * error, axis=0)
    # The variation of differences to the first sample: exactly 0 where all are the same.
    shifted = targets - targets[:1, ...]
    shifted = shifted - xp.mean(shifted, axis=0, keepdims=True)
    total = xp.sum(shifted * shifted, axis=0)
    constant = xp.astype(residual == 0, outputs.dtype)
    return xp.mean(xp.where(total > 0, 1.0 - residual / xp.where(total > 0, total, 1.0), constant))


def _guess_and_truth(outputs: Array, targets: Array, threshold: float = 0.5) -> tuple[Array, Array]:
    """Class indices, for two classes booleans."""
    xp = array_namespace(outputs, targets)
    if tuple(targets.shape) not in (tuple(outputs.shape), tuple(outputs.shape[:-1])):
        raise ValueError(
            f"expected targets as class indices {tuple(outputs.shape[:-1])} or rows "
            f"{tuple(outputs.shape)}, got shape {tuple(targets.shape)}; a column of indices "
            "becomes a row of them by reshape(-1)"
        )
    if outputs.shape[-1] == 1:
        targets = xp.astype(targets, outputs.dtype)
        return xp.reshape(outputs, (-1,)) >= threshold, xp.reshape(targets, (-1,)) >= 0.5
    guess = xp.argmax(outputs, axis=-1)
    return guess, xp.argmax(targets, axis=-1) if targets.ndim == outputs.ndim else targets


def _one_hots(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """One-hot rows (samples, classes) of the guesses and of the true classes."""
    xp = array_namespace(outputs)
    d = outputs.dtype
    numbers = xp.arange(max(outputs.shape[-1], 2), dtype=d, device=outputs.device)

    def rows(classes: Array) -> Array:
        return xp.astype(xp.astype(xp.reshape(classes, (-1, 1)), d) == numbers, d)

    guess, truth = _guess_and_truth(outputs, targets)
    return rows(guess), rows(truth)


def _counts(
    owner: str, outputs: Array, targets: Array, average: str | None
) -> tuple[Array, Array, Array]:
    """Of each class, or of all for "micro": hits, guesses and samples."""
    if average not in ("macro", "micro", None):
        raise ValueError(f"{owner}: expected average 'macro', 'micro' or None, got {average!r}")
    guess, truth = _one_hots(outputs, targets)
    xp = array_namespace(guess)
    axis = None if average == "micro" else 0
    return xp.sum(guess * truth, axis=axis), xp.sum(guess, axis=axis), xp.sum(truth, axis=axis)


def _ratio(part: Array, whole: Array, average: str | None) -> Array:
    """part / whole, where both are counts: 0 where the whole is 0."""
    xp = array_namespace(part)
    ratio = part / xp.maximum(whole, 1.0)
    return xp.mean(ratio) if average == "macro" else ratio


def _same_shape(owner: str, outputs: Array, targets: Array) -> Array:
    if targets.shape == outputs.shape:
        return targets
    if (*targets.shape, 1) != tuple(outputs.shape):
        raise ValueError(
            f"{owner}: expected targets of the shape of the outputs, {tuple(outputs.shape)}, got "
            f"{tuple(targets.shape)}"
        )
    return array_namespace(targets).expand_dims(targets, axis=-1)


def hits(outputs, targets, threshold=0.5, per_entry=False):
    guess, truth = _guess_and_truth(outputs, targets, threshold)
    xp = array_namespace(outputs)
    return xp.reshape(xp.astype(guess == truth, outputs.dtype), outputs.shape[:-1])
