"""Metrics of classes."""

from __future__ import annotations

from typing import Any, NamedTuple

from nnx.backend import Array, array_namespace
from nnx.checks import choice, count
from nnx.metrics.door import Classes, arange, classes_of, weighted_mean
from nnx.synonyms import named

__all__ = [
    "accuracy",
    "confusion_matrix",
    "f1",
    "hits",
    "precision",
    "recall",
    "top_k_accuracy",
]

AVERAGES = ("binary", "macro", "micro", "weighted", None)


def hits(outputs: Array, targets: Array, threshold: float = 0.5, per_entry: bool = False) -> Array:
    """Return 1 for every right guess and 0 for every wrong one, in the dtype of the outputs.

    For arrays that are known to fit: nothing is checked, converted or read.

    Args:
        outputs: scores (..., classes), or (..., 1) for two classes.
        targets: class indices (...), or rows of the shape of the outputs.
        threshold: the score from which a single output, or an entry, stands for yes.
        per_entry: judge each entry instead of each row.

    Returns:
        One number per term, of shape outputs.shape[:-1]; with per_entry one per entry, of the
        shape of the outputs.
    """
    xp = array_namespace(outputs, targets)
    classes = outputs.shape[-1]
    if per_entry or classes == 1:
        if targets.ndim < outputs.ndim:
            targets = xp.expand_dims(targets, axis=-1)
            if classes > 1:
                targets = targets == arange(xp, classes, targets.dtype, outputs)
        yes = xp.astype(targets, outputs.dtype) >= 0.5
        # Two comparisons, because neither is true for NaN.
        right = xp.where(yes, outputs >= threshold, outputs < threshold)
        return xp.astype(right if per_entry else right[..., 0], outputs.dtype)
    if targets.ndim == outputs.ndim:
        targets = xp.argmax(targets, axis=-1)
    largest = xp.max(outputs, axis=-1)  # NaN if one of them is
    right = xp.logical_and(xp.argmax(outputs, axis=-1) == targets, largest == largest)
    return xp.astype(right, outputs.dtype)


@named
def accuracy(
    outputs: Any,
    targets: Any,
    threshold: float = 0.5,
    *,
    per_entry: bool = False,
    sample_weights: Any = None,
) -> Array:
    """Return the fraction of right guesses; with `per_entry`, of right entries.

    Args:
        outputs: scores (samples, classes), (samples, 1) or (samples,), or guessed classes.
        targets: class indices (samples,), or rows.
        threshold: 1/2 for probabilities, 0 for logits; for a single output and for entries.
        per_entry: the outputs are separate yes-or-no questions.
        sample_weights: one per sample or one per term.

    Raises:
        ValueError: shapes do not fit, or targets are not classes.
        TypeError: data that are not real numbers.
    """
    data = classes_of("accuracy", outputs, targets, threshold, sample_weights, per_entry)
    xp, a = data.xp, data.outputs
    if data.labels:
        right = xp.astype(a == data.targets, data.dtype)
    else:
        right = hits(a, data.targets, threshold, data.per_entry)
        right = xp.mean(right, axis=-1) if data.per_entry else right
    return weighted_mean(xp, right, data.weights)


@named
def top_k_accuracy(
    outputs: Any,
    targets: Any,
    k: int = 2,
    threshold: float = 0.5,
    *,
    sample_weights: Any = None,
) -> Array:
    """Return the fraction of terms for which fewer than k scores exceed that of their class.

    Ties count in favour of the term.

    Args:
        outputs: scores (samples, classes), or (samples, 1) for two classes.
        targets: class indices (samples,), or rows.
        k: from 1 to the number of classes.
        threshold: as for `accuracy`.
        sample_weights: one per sample or one per term.

    Raises:
        ValueError: k is out of range, shapes do not fit, or targets are not classes.
        TypeError: data that are not real numbers, or guessed classes, which have no scores.
    """
    owner = "top_k_accuracy"
    k = count(owner, "k", k)
    data = classes_of(owner, outputs, targets, threshold, sample_weights)
    xp, a = data.xp, data.outputs
    if data.labels:
        raise TypeError(f"{owner}: expected scores (samples, classes), got guessed classes")
    if k > data.classes:
        raise ValueError(
            f"{owner}: expected k from 1 to the number of classes, {data.classes}, got {k}"
        )
    if a.shape[-1] == 1:
        right = hits(a, data.targets, threshold)
        if k == 2:
            right = xp.astype(a[:, 0] == a[:, 0], data.dtype)
        return weighted_mean(xp, right, data.weights)
    is_own = _one_hot(data, data.targets)
    own = xp.sum(xp.where(is_own == 1, a, 0.0), axis=-1, keepdims=True)
    rank = data.classes - xp.sum(xp.astype(a <= own, data.dtype), axis=-1)
    largest = xp.max(a, axis=-1)  # NaN if one of them is
    right = xp.logical_and(rank < k, largest == largest)
    return weighted_mean(xp, xp.astype(right, data.dtype), data.weights)


@named
def confusion_matrix(
    outputs: Any, targets: Any, threshold: float = 0.5, *, sample_weights: Any = None
) -> Array:
    """Return the matrix whose entry i, j is the number of terms of class i guessed as class j.

    Arguments and errors are those of `accuracy`. For guessed classes, the matrix has a row for
    each class up to the largest index that occurs, and at least two.
    """
    data = classes_of("confusion_matrix", outputs, targets, threshold, sample_weights)
    guess, truth = _guess_and_truth(data, threshold)
    if data.weights is not None:
        truth = truth * data.weights[:, None]
    return truth.T @ guess


@named
def precision(
    outputs: Any,
    targets: Any,
    average: str | None = "binary",
    threshold: float = 0.5,
    *,
    per_entry: bool = False,
    sample_weights: Any = None,
) -> Array:
    """Return TP / (TP + FP): of the guesses of a class, the fraction that is right.

    A class that is never guessed has the precision 0.

    Args:
        outputs: scores (samples, classes), (samples, 1) or (samples,), or guessed classes.
        targets: class indices (samples,), or rows.
        average: "binary", of the second of two classes; "macro", the mean over the classes that
            occur among targets or guesses; "weighted", that mean weighted by how often they occur
            among the targets; "micro", of the counts summed over the classes; None, an array with
            one for each class.
        threshold: 1/2 for probabilities, 0 for logits; for a single output and for entries.
        per_entry: the outputs are separate yes-or-no questions, and each is a "class".
        sample_weights: one per sample or one per term.

    Raises:
        ValueError: another average, "binary" for more than two classes, shapes that do not fit, or
            targets that are not classes.
        TypeError: data that are not real numbers.
    """
    counts = _counts("precision", outputs, targets, average, threshold, per_entry, sample_weights)
    return _averaged(counts, counts.right, counts.guessed, average)


@named
def recall(
    outputs: Any,
    targets: Any,
    average: str | None = "binary",
    threshold: float = 0.5,
    *,
    per_entry: bool = False,
    sample_weights: Any = None,
) -> Array:
    """Return TP / (TP + FN): of the terms of a class, the fraction that is guessed as it.

    A class without terms has the recall 0. Arguments and errors are those of `precision`.
    """
    counts = _counts("recall", outputs, targets, average, threshold, per_entry, sample_weights)
    return _averaged(counts, counts.right, counts.true, average)


@named
def f1(
    outputs: Any,
    targets: Any,
    average: str | None = "binary",
    threshold: float = 0.5,
    *,
    per_entry: bool = False,
    sample_weights: Any = None,
) -> Array:
    """Return 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    A class that neither occurs nor is guessed has the value 0. Arguments and errors are those of
    `precision`.
    """
    counts = _counts("f1", outputs, targets, average, threshold, per_entry, sample_weights)
    return _averaged(counts, 2.0 * counts.right, counts.guessed + counts.true, average)


class _Counts(NamedTuple):
    """Weighted counts of each class, and which classes take part in a mean."""

    xp: Any
    right: Array
    guessed: Array
    true: Array
    present: Array


def _guess_and_truth(data: Classes, threshold: float) -> tuple[Array, Array]:
    """Rows (terms, classes) of 0 and 1; a guess by NaN is a row of zeros."""
    xp, a = data.xp, data.outputs
    if data.per_entry:
        return xp.astype(a >= threshold, data.dtype), xp.astype(data.targets >= 0.5, data.dtype)
    truth = _one_hot(data, data.targets)
    if data.labels:
        return _one_hot(data, a), truth
    if a.shape[-1] == 1:
        guess = xp.concat([a < threshold, a >= threshold], axis=1)
        return xp.astype(guess, data.dtype), truth
    largest = xp.max(a, axis=-1, keepdims=True)  # NaN if one of them is
    known = xp.astype(largest == largest, data.dtype)
    return _one_hot(data, xp.argmax(a, axis=-1)) * known, truth


def _one_hot(data: Classes, index: Array) -> Array:
    numbers = arange(data.xp, data.classes, index.dtype, index)
    return data.xp.astype(index[:, None] == numbers, data.dtype)


def _counts(
    owner: str,
    outputs: Any,
    targets: Any,
    average: str | None,
    threshold: float,
    per_entry: bool,
    sample_weights: Any,
) -> _Counts:
    choice(owner, "average", average, AVERAGES)
    data = classes_of(owner, outputs, targets, threshold, sample_weights, per_entry)
    if average == "binary" and (data.per_entry or data.classes > 2):
        what = f"{data.classes} {'yes-or-no outputs' if data.per_entry else 'classes'}"
        raise ValueError(
            f"{owner}: average='binary' is for two classes, got {what}; choose average='macro', "
            "'micro', 'weighted' or None"
        )
    xp = data.xp
    guess, truth = _guess_and_truth(data, threshold)
    present = xp.sum(guess, axis=0) + xp.sum(truth, axis=0) > 0
    if data.per_entry:
        present = xp.ones_like(present)
    right = guess * truth
    if data.weights is not None:
        w = data.weights[:, None]
        right, guess, truth = right * w, guess * w, truth * w
    return _Counts(
        xp,
        xp.sum(right, axis=0),
        xp.sum(guess, axis=0),
        xp.sum(truth, axis=0),
        xp.astype(present, data.dtype),
    )


def _averaged(counts: _Counts, part: Array, whole: Array, average: str | None) -> Array:
    """part / whole of each class or of all, 0 if the whole is 0, averaged."""
    xp = counts.xp
    if average == "micro":
        part, whole = xp.sum(part), xp.sum(whole)
    ratio = part / xp.where(whole == 0, 1.0, whole)
    if average == "binary":
        return ratio[1]
    if average in ("micro", None):
        return ratio
    weights = counts.present if average == "macro" else counts.true
    total = xp.sum(weights)
    return xp.sum(ratio * weights) / xp.where(total == 0, 1.0, total)
