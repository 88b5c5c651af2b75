"""Random numbers of an estimator: they come from its `random_state`, not from nnx's streams."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnx import randomness
from nnx.backend import Array, Backend
from nnx.randomness import Draw, noise_from

__all__ = ["noise_of", "streams_of"]

_turn = threading.RLock()


@contextmanager
def streams_of(seed: int) -> Iterator[None]:
    """A block in which nnx's streams begin with this seed; after it, they stand where they were.

    The streams belong to the process, so threads that fit estimators take turns.
    """
    with _turn:
        before = randomness.state()
        randomness.seed(seed)
        try:
            yield
        finally:
            randomness.set_state(before)


@contextmanager
def noise_of(net: Any, seed: int) -> Iterator[None]:
    """A block in which the layers of a network draw their noise from a generator of their own.

    Threads do not disturb each other. Only a network whose noise is drawn otherwise, because its
    library compiles or because a layer says that it cannot be traced, needs the streams themselves.
    """
    backend = net.backend
    if type(backend).compile_loop is not Backend.compile_loop or not net.traceable:
        with streams_of(seed):
            yield
        return
    rng = np.random.default_rng(seed)

    def source(draw: Draw, like: Array) -> Array:
        host = draw(rng)
        return backend.from_numpy(host) if host.dtype == bool else backend.asarray(host)

    with noise_from(source):
        yield
