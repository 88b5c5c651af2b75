"""Random draws: on the host, from one seed, with streams that do not disturb each other.

Every backend gets the same bits, because none of them draws: a `numpy.random.Generator` does,
and the result is moved. Each purpose has its own stream, and weights have one for each shape:
the first 100 x 784 matrix after `seed(0)` is the same whatever other layers there are.

The promise: initial weights, the order of batches and masks are functions of the seed alone, the
same bits on every backend. They are drawn by PCG64 through SeedSequence, whose streams NumPy
keeps from version to version; a test holds their hashes.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

__all__ = ["fresh_generator", "generator", "seed"]

PURPOSES = ("weights", "batches", "dropout", "augmentation")

_entropy: int
_streams: dict[str, np.random.Generator] = {}
_numbers: Counter[tuple[str, tuple[int, ...]]] = Counter()


def seed(number: int | None = None) -> None:
    """Start every stream afresh: `nnx.seed(0)` makes what follows repeatable.

    Args:
        number: a non-negative integer, or None for one from the operating system.

    Raises:
        ValueError: the number is negative.
    """
    global _entropy
    if number is not None and number < 0:
        raise ValueError(f"seed: expected a non-negative integer or None, got {number}")
    _entropy = int(np.random.SeedSequence(number).entropy)  # type: ignore[arg-type]
    _streams.clear()
    _numbers.clear()


def generator(purpose: str) -> np.random.Generator:
    """The stream of one purpose: "weights", "batches", "dropout" or "augmentation".

    It goes on from draw to draw. Streams are independent: a network with one more layer still
    sees the same batches.
    """
    if purpose not in _streams:
        _streams[purpose] = _generator(purpose)
    return _streams[purpose]


def fresh_generator(purpose: str, *key: int) -> np.random.Generator:
    """A stream of its own for the next thing with this key, the shape of weights say.

    The n-th call with one key after `seed` gives the same stream, whatever other keys there were.
    """
    number = _numbers[purpose, key]
    _numbers[purpose, key] += 1
    return _generator(purpose, len(key), *key, number)


def _generator(purpose: str, *key: int) -> np.random.Generator:
    if purpose not in PURPOSES:
        raise ValueError(f"expected a purpose of {', '.join(PURPOSES)}, got {purpose!r}")
    child = np.random.SeedSequence(_entropy, spawn_key=(PURPOSES.index(purpose), *key))
    return np.random.Generator(np.random.PCG64(child))


seed()
