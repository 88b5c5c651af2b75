"""Initial weights: `wfun(m, n)` draws an m x n matrix.

The draw is a host draw, in float64, from the stream of the purpose "weights" (see
`nnx.randomness`) or from a generator given as `rng`; the matrix is then born on the chosen
backend. One seed so gives the same bits on every backend.
"""

from __future__ import annotations

import math

import numpy as np

from nnx.backend import Array, get_backend
from nnx.randomness import generator

__all__ = ["Initializer", "RandnAverage"]


class Initializer:
    """Base class; subclasses define `draw(m, n, rng)`, a NumPy float64 matrix.

    Args:
        rng: draws from this generator instead of the seeded stream.
    """

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        self.rng = rng

    def draw(self, m: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """The m x n matrix on the host, float64."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(m, n, rng)")

    def wfun(self, m: int, n: int) -> Array:
        """An m x n matrix of the current backend, for n inputs and m outputs."""
        return get_backend().asarray(self.draw(m, n, self.rng or generator("weights")))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class RandnAverage(Initializer):
    """Normal entries of mean 0 and variance 2 / (m + n); the field's name is Glorot normal.

    Source: Glorot and Bengio, AISTATS 2010.
    """

    def draw(self, m: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """Entries N(0, 2 / (m + n))."""
        return math.sqrt(2.0 / (m + n)) * rng.standard_normal((m, n))
