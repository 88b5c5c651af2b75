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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from nnx.backend import Array, array_namespace

__all__ = ["Draw", "fresh_generator", "generator", "noise", "noise_from", "seed"]

Draw = Callable[[np.random.Generator], np.ndarray]

PURPOSES = ("weights", "batches", "dropout", "augmentation")

_entropy: int
_streams: dict[str, np.random.Generator] = {}
_numbers: Counter[tuple[str, tuple[int, ...]]] = Counter()
_source: ContextVar[Callable[[Draw, Array], Array] | None] = ContextVar("noise", default=None)


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
    if purpose == "dropout" and _source.get() is not None:
        raise RuntimeError(
            "a layer draws by itself where its step is compiled, once for all steps; draw through "
            "nnx.randomness.noise(draw, like), or let the layer say `traceable = False`"
        )
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


def noise(draw: Draw, like: Array) -> Array:
    """Random numbers for one step of training: drawn on the host, moved to where `like` is.

    Args:
        draw: makes the NumPy array from the stream "dropout". It must depend on shapes and
            hyper-parameters alone: a compiled step asks it again for every batch.
        like: gives library, device and dtype; booleans stay booleans.
    """
    source = _source.get()
    return source(draw, like) if source else _moved(draw(generator("dropout")), like)


@contextmanager
def noise_from(source: Callable[[Draw, Array], Array]) -> Iterator[None]:
    """A block in which `noise(draw, like)` is source(draw, like): an input of a compiled step."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def _moved(host: np.ndarray, like: Array) -> Array:
    """The host array with library, device and dtype of another; booleans stay booleans."""
    xp, device = array_namespace(like), getattr(like, "device", None)  # a traced array has none
    if host.dtype == bool:
        return xp.asarray(host, device=device)
    # The type is changed on the host, so that the bits do not depend on the library.
    float32 = like.dtype == xp.float32
    return xp.asarray(host.astype("float32" if float32 else "float64"), device=device)


def _generator(purpose: str, *key: int) -> np.random.Generator:
    if purpose not in PURPOSES:
        raise ValueError(f"expected a purpose of {', '.join(PURPOSES)}, got {purpose!r}")
    child = np.random.SeedSequence(_entropy, spawn_key=(PURPOSES.index(purpose), *key))
    return np.random.Generator(np.random.PCG64(child))


seed()
