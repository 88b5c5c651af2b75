"""Labels that do not count and weights of classes, both turned into weights of the terms.

A training with data of n terms, v of which count, gets the weight n / v for these and 0 for the
others. The mean over all data, with these weights, is then the mean over the terms that count: in
the loss, its gradient and the metrics. In a batch it is not quite the mean over the terms of this
batch that count: every term counts the same, whatever else is in its batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from nnx.backend import Backend
from nnx.checks import number
from nnx.data.arrays import is_integer, on_host
from nnx.data.containers import kind_of, real_numbers

__all__ = ["checked_ignore_label", "class_factors", "classes_of_terms", "scale", "without_ignored"]

FORMS = "'balanced', {class: weight} or one weight for each class"


def checked_ignore_label(label: Any) -> int | None:
    """Return an int or None.

    Raises:
        TypeError: anything else.
    """
    if label is None:
        return None
    if isinstance(label, bool | np.bool_) or not isinstance(label, Integral):
        raise TypeError(
            f"train: expected ignore_label to be an integer or None, got {label!r}; "
            "write ignore_label=-1"
        )
    return int(label)


def without_ignored(
    backend: Backend, axes: int, y: Any, label: int, name: str
) -> tuple[Any, np.ndarray]:
    """Return class indices with 0 for the label that does not count, and where it was.

    Args:
        backend: the network's.
        axes: of a batch of class indices.
        y: targets.
        label: that does not count.
        name: what errors call the targets.

    Raises:
        TypeError: the targets are not class indices.
    """
    y = real_numbers(backend, y, name)
    if y.ndim != axes or not is_integer(backend, y):
        got = f"rows of shape {tuple(y.shape)}" if y.ndim != axes else f"dtype {y.dtype}"
        raise TypeError(
            f"expected {name} as integer class indices, because ignore_label={label} is given, got "
            f"{got}; for one-hot rows: pass class indices, or sample_weights that are 0"
        )
    host = on_host(backend, y)
    ignored = host == label
    return np.where(ignored, 0, host), ignored


def classes_of_terms(y: np.ndarray, axes: int, outputs: int, per_entry: bool) -> np.ndarray | None:
    """Return the class of each term, or None if the targets are not one class for each.

    Args:
        y: checked targets on the host, class indices or rows.
        axes: of a batch of class indices.
        outputs: the length of a row.
        per_entry: are several outputs separate yes-or-no questions?
    """
    if y.ndim == axes:
        return y
    if not np.all((y == 0) | (y == 1)):
        return None
    if outputs == 1:
        return y[..., 0].astype(np.int64)
    if per_entry or not np.all(y.sum(axis=-1) == 1):
        return None
    return np.argmax(y, axis=-1)


def class_factors(given: Any, counts: np.ndarray, name: str = "class_weights") -> np.ndarray:
    """Return a factor for each class.

    Args:
        given: "balanced", which is n / (k counts[c]) for the k classes that occur in n terms; a
            mapping from classes to weights, 1 for the others; or one weight for each class.
        counts: how many terms there are of each class.
        name: what errors call them.

    Raises:
        TypeError: another form.
        ValueError: a weight that is negative or not finite, or a class that the network lacks.

    Source of "balanced": King and Zeng, Political Analysis 9 (2001); scikit-learn has it too.
    """
    classes = len(counts)
    expected = f"train: expected {name} to be {FORMS}"
    if isinstance(given, str):
        if given != "balanced":
            raise ValueError(f"{expected}, got {given!r}; write {name}='balanced'")
        occurs = counts > 0
        return counts.sum() / (occurs.sum() * np.where(occurs, counts, 1)) * occurs
    factors = np.ones(classes)
    if isinstance(given, Mapping):
        for key, weight in given.items():
            whole = isinstance(key, Integral) and not isinstance(key, bool | np.bool_)
            if not whole or not 0 <= int(key) < classes:
                raise ValueError(
                    f"{expected}, got the class {key!r}; the classes of the network are 0 to "
                    f"{classes - 1}"
                )
            factors[int(key)] = number("train", f"{name}[{key}]", weight, ">= 0")
        return factors
    weights = np.asarray(given) if hasattr(given, "__array__") else given
    if isinstance(weights, np.ndarray) and weights.ndim == 1:
        weights = weights.tolist()
    if not isinstance(weights, Sequence):
        raise TypeError(f"{expected}, got {kind_of(given)}; write {name}='balanced'")
    if len(weights) != classes:
        raise ValueError(f"{expected}, got {len(weights)} weights for {classes} classes")
    for c, weight in enumerate(weights):
        factors[c] = number("train", f"{name}[{c}]", weight, ">= 0")
    return factors


def scale(masks: Sequence[np.ndarray], label: int, name: str) -> float:
    """Return terms / terms that count.

    Raises:
        ValueError: none of them counts.
    """
    terms = sum(mask.size for mask in masks)
    ignored = sum(int(mask.sum()) for mask in masks)
    if ignored == terms:
        raise ValueError(
            f"expected labels other than ignore_label={label} in {name}, got it for all {terms} "
            "terms; pass some labels of classes"
        )
    return terms / (terms - ignored)
