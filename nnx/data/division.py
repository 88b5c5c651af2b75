"""A fraction of the samples is kept for validation."""

from __future__ import annotations

import numpy as np

from nnx.randomness import same_generator

__all__ = ["held_out"]


def held_out(samples: int, fraction: float, classes: np.ndarray | None = None) -> np.ndarray:
    """Return the sorted indices of round(fraction * samples) samples, drawn at random.

    The draw depends on the seed alone: a second training with as many samples keeps the same ones.
    With classes, samples are ordered by class, at random within one, and taken at even spaces: each
    class has its share, to within one sample. At least one sample is taken and one is left.

    Args:
        samples: how many there are.
        fraction: in (0, 1).
        classes: of the samples, or None.

    Raises:
        ValueError: there are less than two samples.
    """
    if samples < 2:
        raise ValueError(
            f"train: expected at least 2 samples for validation={fraction:g}, got {samples}; pass "
            "more samples, or write validation=None"
        )
    order = same_generator("batches", samples).permutation(samples)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    held = min(max(round(fraction * samples), 1), samples - 1)
    positions = (2 * np.arange(held) + 1) * samples // (2 * held)
    return np.sort(order[positions])
