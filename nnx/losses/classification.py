"""What the losses of classes share: class weights, label smoothing, checks of target rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import array_api_compat

from nnx.activations import Activation
from nnx.backend import Array, array_namespace, to_numpy
from nnx.checks import number, numbers
from nnx.losses.base import ENTRIES, Loss, device_of

__all__ = [
    "Classification",
    "check_distributions",
    "check_fractions",
    "read_class_weights",
    "within_0_1",
]

ClassWeights = Sequence[float] | Mapping[int, float] | None


class Classification(Loss):
    """Base class of the losses of classes.

    Args:
        label_smoothing: s in [0, 1): targets t become (1 - s) t + s / classes.
        class_weights: one weight >= 0 for each class, as a list or as {class: weight}: a sample of
            class c counts w_c times; mixed targets count sum_c t_c w_c times. They multiply the
            sample weights, and are applied before smoothing, as in Keras.

    Raises:
        TypeError, ValueError: one of them is of the wrong type or out of its range.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __init__(self, label_smoothing: float = 0.0, class_weights: ClassWeights = None) -> None:
        self.label_smoothing = number(self, "label_smoothing", label_smoothing, "in [0, 1)")
        self.class_weights = read_class_weights(self, class_weights)

    def prepare(self, a: Array, t: Array, weights: Array | None) -> tuple[Array, Array | None]:
        """Turn class weights into sample weights, then smooth the targets."""
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
        """Return how often each term counts."""
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
        # Made in every step: a constant kept here would belong to one device and one trace of a
        # compiler. It is a small transfer that nothing waits for.
        return t @ xp.asarray(weights, dtype=a.dtype, device=device_of(a))


def read_class_weights(owner: Any, weights: Any) -> tuple[float, ...] | None:
    """Return one weight per class as floats; a mapping is read by its keys, the class indices.

    Raises:
        TypeError: not a list of numbers, an array or a mapping.
        ValueError: a class is missing, a weight is negative or not finite, or there is only one.
    """
    if weights is None:
        return None
    what = f"{type(owner).__name__}: expected class_weights to be"
    if isinstance(weights, str):
        raise TypeError(
            f"{what} a list of numbers >= 0 or {{class: weight}}, got {weights!r}; compute them, "
            "for balanced ones: len(y) / (classes * numpy.bincount(y))"
        )
    if isinstance(weights, Set):
        raise TypeError(
            f"{what} a list of numbers >= 0 or {{class: weight}}, got {weights!r}, which has no "
            "order; use a list"
        )
    if isinstance(weights, Mapping) or hasattr(weights, "keys"):  # a Series of pandas has them
        given = dict(weights.items())
        if set(given) != set(range(len(given))):
            raise ValueError(
                f"{what} a weight for each class index from 0 on, got those of {list(given)}; "
                "give every class one, 1.0 for those that count as they are"
            )
        weights = [given[index] for index in range(len(given))]
    elif array_api_compat.is_array_api_obj(weights):
        # a masked array stays one, and its masked entries are refused below
        host = weights if array_api_compat.is_numpy_array(weights) else to_numpy(weights)
        if host.ndim != 1:
            raise ValueError(f"{what} of shape (classes,), got shape {host.shape}; reshape them")
        weights = list(host)
    kept = numbers(owner, "class_weights", weights, ">= 0")
    if len(kept) < 2:
        raise ValueError(
            f"{what} a list of one number for each of at least 2 classes, got {weights!r}"
        )
    return kept


def check_distributions(owner: Loss, y: Array) -> None:
    """Refuse rows that are not distributions."""
    xp = array_namespace(y)
    least, off = float(xp.min(y)), float(xp.max(xp.abs(xp.sum(y, axis=-1) - 1.0)))
    if not (least >= 0 and off <= 1e-3):
        raise ValueError(
            f"{type(owner).__name__} expects target rows that are distributions (no entry below 0, "
            f"sum 1), got a least entry of {least:.3g} and a sum that is off by {off:.3g}; "
            "use class indices or one-hot rows, or QuadraticCost for other targets"
        )


def check_fractions(owner: Loss, y: Array) -> None:
    """Refuse entries outside of [0, 1]."""
    xp = array_namespace(y)
    least, most = float(xp.min(y)), float(xp.max(y))
    if not (least >= 0 and most <= 1):
        remedy = "use QuadraticCost for other targets"
        whole = math.isfinite(most) and bool(xp.all(y == xp.floor(y)))
        if least >= 0 and y.shape[-1] == 1 and whole:
            several = int(most) + 1
            remedy += (
                f"; for {several} classes, give the last layer {several} outputs and SoftMax(), "
                "and the network CrossEntropy()"
            )
        raise ValueError(
            f"{type(owner).__name__} expects targets from 0 to 1, got {least:.3g} to {most:.3g}; "
            f"{remedy}"
        )


def within_0_1(afun: Activation) -> bool:
    """Return whether all values of the activation are in [0, 1]."""
    low, high = afun.range
    return low >= 0 and high <= 1
