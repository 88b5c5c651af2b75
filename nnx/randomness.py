"""Random draws on the host, from one seed, in independent streams.

Every backend gets the same bits: a `numpy.random.Generator` draws them, and the result is moved
to the device. Each purpose has its own stream, and weights have one for each shape: the first
100 x 784 matrix after `seed(0)` is the same whatever other layers there are.

Initial weights, the order of batches and masks are functions of the seed alone, the same bits on
every backend and with every version. They are drawn by PCG64 through SeedSequence, whose streams
NumPy keeps from version to version; a test holds their hashes.

A forked process gets new streams, derived from the seed and from the number of forks since then:
workers draw different numbers, and the same ones in the next run. Each worker may call `seed`
itself. A process that is started otherwise (spawn, loky) begins with a seed from the operating
system, as every program does.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from nnx.backend import Array, array_namespace
from nnx.checks import choice, count, flag
from nnx.communication import Rows, current_share

__all__ = [
    "Draw",
    "fresh_generator",
    "generator",
    "noise",
    "noise_from",
    "replaced_weights",
    "same_generator",
    "seed",
    "set_state",
    "state",
    "without_draws",
]

Draw = Callable[[np.random.Generator], np.ndarray]

PURPOSES = ("weights", "batches", "dropout", "augmentation")
FORKS = len(PURPOSES)  # the key of forked processes, beside the purposes


class _Streams:
    """The streams of one seed: its entropy, the running streams, and what has been counted."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.start(np.random.SeedSequence().entropy)

    def start(self, entropy: Any, seeded: bool = False) -> None:
        self.entropy, self.seeded = int(entropy), seeded
        self.forks = 0
        self.running: dict[str, np.random.Generator] = {}
        self.drawn: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def child(self, *key: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.entropy, spawn_key=key)

    def new(self, purpose: str, *key: int) -> np.random.Generator:
        sequence = self.child(PURPOSES.index(purpose), *key)
        return np.random.Generator(np.random.PCG64(sequence))

    def before_fork(self) -> None:
        self.lock.acquire()  # released on both sides: no fork finds it held by another thread
        self.forks += 1

    def in_child(self) -> None:
        self.lock.release()
        words = self.child(FORKS, self.forks).generate_state(4)
        self.start(int.from_bytes(words.astype("<u4").tobytes(), "little"), self.seeded)


_streams = _Streams()
_source: ContextVar[Callable[[Draw, Array], Array] | None] = ContextVar("noise", default=None)
_weights: ContextVar[Callable[[Any], Array] | None] = ContextVar("weights", default=None)

if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_streams.before_fork,
        after_in_parent=_streams.lock.release,
        after_in_child=_streams.in_child,
    )


def seed(number: int | None = None) -> None:
    """Start every stream afresh: `nnx.seed(0)` makes what follows repeatable.

    Args:
        number: an integer >= 0, or None for one from the operating system.

    Raises:
        TypeError: not an integer.
        ValueError: the number is negative.
    """
    if number is not None:
        number = count("seed", "number", number, least=0)
    with _streams.lock:
        _streams.start(np.random.SeedSequence(number).entropy, number is not None)


def state() -> dict[str, Any]:
    """Return where all streams stand, as plain data that JSON can hold."""
    with _streams.lock:
        return {
            "entropy": _streams.entropy,
            "seeded": _streams.seeded,
            "forks": _streams.forks,
            "running": {
                purpose: dict(stream.bit_generator.state)
                for purpose, stream in _streams.running.items()
            },
            "drawn": [[purpose, list(key), n] for (purpose, key), n in _streams.drawn.items()],
        }


def set_state(saved: dict[str, Any]) -> None:
    """Continue all streams where they stood when `state` returned this.

    Raises:
        ValueError: it is not what `state` returns.
    """
    try:
        new = _Streams()
        entropy = count("set_state", "entropy", saved["entropy"], least=0)
        new.start(entropy, flag("set_state", "seeded", saved["seeded"]))
        new.forks = count("set_state", "forks", saved["forks"], least=0)
        for purpose, position in saved["running"].items():
            new.running[purpose] = new.new(purpose)
            new.running[purpose].bit_generator.state = position
        for purpose, key, n in saved["drawn"]:
            new.drawn[purpose, tuple(key)] = count("set_state", "drawn", n)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "set_state: expected what nnx.randomness.state() returns, got "
            f"{type(saved).__name__} ({type(error).__name__}: {error})"
        ) from error
    with _streams.lock:
        _streams.entropy, _streams.seeded, _streams.forks = new.entropy, new.seeded, new.forks
        _streams.running, _streams.drawn = new.running, new.drawn


def generator(purpose: str) -> np.random.Generator:
    """Return the stream of one purpose: "weights", "batches", "dropout" or "augmentation".

    It continues from draw to draw. Streams are independent: a network with one more layer still
    sees the same batches.

    Raises:
        ValueError: the purpose is unknown.
        RuntimeError: a layer draws from "dropout" while its step is compiled.
    """
    if purpose == "dropout" and _source.get() is not None:
        raise RuntimeError(
            "a layer draws from a generator while its step is compiled: every step would use the "
            "same draw; draw through nnx.randomness.noise(draw, like), or set the layer's "
            "`traceable = False`"
        )
    choice("generator", "purpose", purpose, PURPOSES)
    if _weights.get() is not None:
        return np.random.default_rng(0)
    with _streams.lock:
        if purpose not in _streams.running:
            _streams.running[purpose] = _streams.new(purpose)
        return _streams.running[purpose]


def fresh_generator(purpose: str, *key: int) -> np.random.Generator:
    """Return a stream of its own for the next thing with this key, such as the shape of weights.

    The n-th call with one key after `seed` gives the same stream, whatever other keys there were.

    Raises:
        ValueError: the purpose is unknown.
    """
    choice("fresh_generator", "purpose", purpose, PURPOSES)
    if _weights.get() is not None:
        return np.random.default_rng(0)
    with _streams.lock:
        n = _streams.drawn[purpose, key]
        _streams.drawn[purpose, key] += 1
        return _streams.new(purpose, len(key), *key, n)


def same_generator(purpose: str, *key: int) -> np.random.Generator:
    """Return a stream of its own that is the same at every call with this key, until `seed`.

    Raises:
        ValueError: the purpose is unknown.
    """
    choice("same_generator", "purpose", purpose, PURPOSES)
    with _streams.lock:
        return _streams.new(purpose, len(key), *key)


def noise(draw: Draw, like: Array) -> Array:
    """Return random numbers for one step of training: drawn on the host, moved to where `like` is.

    Args:
        draw: makes the NumPy array from the stream "dropout". It must depend on shapes and
            hyper-parameters alone: a compiled step calls it again for every batch. The first axis
            of what it draws is that of the samples: each of several processes gets the rows of its
            samples. What is drawn without a size is the same for all of them.
        like: gives library, device and dtype; booleans stay booleans.
    """
    if source := _source.get():
        return source(draw, like)
    stream: Any = generator("dropout")
    if share := current_share():
        stream = Rows(stream, share)
    return _moved(draw(stream), like)


@contextmanager
def noise_from(source: Callable[[Draw, Array], Array]) -> Iterator[None]:
    """A block in which `noise(draw, like)` is source(draw, like): an input of a compiled step."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


@contextmanager
def without_draws(weights: Callable[[Any], Array]) -> Iterator[None]:
    """A block that leaves all streams where they are: initial weights are weights(shape).

    What draws from a stream in another way gets numbers that mean nothing. Networks are built like
    this if their weights are replaced afterwards.
    """
    token = _weights.set(weights)
    try:
        yield
    finally:
        _weights.reset(token)


def replaced_weights(shape: tuple[int, ...]) -> Array | None:
    """Return what `without_draws` puts in the place of initial weights; None outside of it."""
    weights = _weights.get()
    return None if weights is None else weights(shape)


def _moved(host: np.ndarray, like: Array) -> Array:
    """The host array with library, device and dtype of another; booleans stay booleans."""
    xp, device = array_namespace(like), getattr(like, "device", None)  # a traced array has none
    if host.dtype == bool:
        return xp.asarray(host, device=device)
    # The type is changed on the host, so that the bits do not depend on the library.
    float32 = like.dtype == xp.float32
    return xp.asarray(host.astype("float32" if float32 else "float64"), device=device)
