"""Random draws: on the host, from one seed, with a stream of its own for each purpose.

Every backend gets the same bits, because none of them draws: a `numpy.random.Generator` does,
and the result is moved.
"""

from __future__ import annotations

import numpy as np

__all__ = ["generator", "seed"]

PURPOSES = ("weights", "batches", "dropout", "augmentation")

_streams: dict[str, np.random.Generator] = {}


def seed(number: int | None = None) -> None:
    """Start every stream afresh: `nnx.seed(0)` makes what follows repeatable.

    Args:
        number: a non-negative integer, or None for one from the operating system.

    Raises:
        ValueError: the number is negative.
    """
    if number is not None and number < 0:
        raise ValueError(f"seed: expected a non-negative integer or None, got {number}")
    children = np.random.SeedSequence(number).spawn(len(PURPOSES))
    for purpose, child in zip(PURPOSES, children, strict=True):
        _streams[purpose] = np.random.Generator(np.random.PCG64(child))


def generator(purpose: str) -> np.random.Generator:
    """The stream of one purpose: "weights", "batches", "dropout" or "augmentation".

    Streams are independent: a network with one more layer still sees the same batches.
    """
    return _streams[purpose]


seed()
