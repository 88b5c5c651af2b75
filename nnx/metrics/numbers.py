"""Metrics of real numbers."""

from __future__ import annotations

from typing import Any

from nnx.backend import Array
from nnx.metrics.door import device_of, numbers_of, weighted_mean
from nnx.synonyms import named

__all__ = ["mean_absolute_error", "mean_squared_error", "r2", "root_mean_squared_error"]


@named
def mean_absolute_error(outputs: Any, targets: Any, *, sample_weights: Any = None) -> Array:
    """Return the mean of |outputs - targets| over all entries.

    Args:
        outputs: (samples, outputs), or (samples,) for a single output.
        targets: of the same shape; (samples,) and (samples, 1) fit each other.
        sample_weights: one per sample or one per term.

    Raises:
        ValueError: shapes do not fit.
        TypeError: data that are not real numbers.
    """
    xp, a, y, w = numbers_of("mean_absolute_error", outputs, targets, sample_weights)
    return weighted_mean(xp, xp.mean(xp.abs(a - y), axis=-1), w)


@named
def mean_squared_error(outputs: Any, targets: Any, *, sample_weights: Any = None) -> Array:
    """Return the mean of (outputs - targets)^2 over all entries.

    Arguments and errors are those of `mean_absolute_error`.
    """
    xp, a, y, w = numbers_of("mean_squared_error", outputs, targets, sample_weights)
    return weighted_mean(xp, xp.mean((a - y) * (a - y), axis=-1), w)


@named
def root_mean_squared_error(outputs: Any, targets: Any, *, sample_weights: Any = None) -> Array:
    """Return the square root of the mean over the terms of (outputs - targets)^2.

    For several outputs it is the mean of their roots. Arguments and errors are those of
    `mean_absolute_error`.
    """
    xp, a, y, w = numbers_of("root_mean_squared_error", outputs, targets, sample_weights)
    squares = (a - y) * (a - y)
    if w is not None:
        squares = squares * w[:, None] * (w.shape[0] / xp.sum(w))
    return xp.mean(xp.sqrt(xp.mean(squares, axis=0)))


@named
def r2(outputs: Any, targets: Any, *, sample_weights: Any = None) -> Array:
    """Return 1 - sum (y - a)^2 / sum (y - mean y)^2, sums over the terms; the mean over outputs.

    For an output whose targets are all the same it is 1 if they are met exactly, else 0. For a
    single term it is NaN. Arguments and errors are those of `mean_absolute_error`.
    """
    xp, a, y, w = numbers_of("r2", outputs, targets, sample_weights)
    if y.shape[0] < 2:
        return xp.asarray(float("nan"), dtype=a.dtype, device=device_of(a))

    def summed(terms: Array) -> Array:
        return xp.sum(terms if w is None else w[:, None] * terms, axis=0)

    difference = y - a
    difference *= difference
    residual = summed(difference)
    # The variation of differences to the first target: exactly 0 if all are the same.
    difference = y - y[:1, :]
    difference -= summed(difference) / (y.shape[0] if w is None else xp.sum(w))
    difference *= difference
    total = summed(difference)
    of_constant = xp.where(residual > 0, 0.0, 1.0 - residual)  # NaN stays NaN
    varied = 1.0 - residual / xp.where(total == 0, 1.0, total)
    return xp.mean(xp.where(total == 0, of_constant, varied))
