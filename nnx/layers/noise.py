"""Layers that disturb a network in training, so that it does not rely on single numbers.

In evaluation they are the identity. Their random numbers are drawn on the host, from the seeded
stream "dropout", so that a seed means the same numbers on every backend, and moved to the device
once per forward; backward uses those of its own forward.
"""

from __future__ import annotations

import math

from nnx.backend import Array, array_namespace
from nnx.layers.base import Backward, Gradients, Layer
from nnx.randomness import noise

__all__ = ["DropoutLayer", "GaussianNoiseLayer"]


class DropoutLayer(Layer):
    """Drops entries of each sample at random in training: y = x / (1 - rate) where kept, else 0.

    Backward: dx = delta / (1 - rate) where the same mask has kept the entry, else 0. The factor
    keeps the expectation of y at x, so that evaluation is y = x. Every entry of every sample is
    dropped with probability `rate`, independently of the others.

    Shapes: x and y alike, any.

    Args:
        rate: the probability to drop an entry, 0 <= rate < 1.
        name: what messages call the layer.

    Raises:
        ValueError: the rate is out of its range.

    Source: Srivastava et al., JMLR 15, 2014; ONNX operator Dropout.
    """

    def __init__(self, rate: float = 0.5, name: str | None = None) -> None:
        super().__init__(name=name)
        if not 0 <= rate < 1:
            raise ValueError(
                f"{self.name}: rate, the probability to drop, must be in [0, 1), got {rate!r}"
            )
        self.rate = float(rate)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x / (1 - rate) where kept, else 0, and the same of delta; the identity in evaluation."""
        if not training or self.rate == 0:
            return x, _unchanged
        xp, shape, rate = array_namespace(x), tuple(x.shape), self.rate
        kept = noise(lambda rng: rng.random(shape, dtype="float32") >= rate, x)
        scale = 1.0 / (1.0 - rate)

        def masked(array: Array) -> Array:
            array = xp.where(kept, array, 0.0)
            array *= scale
            return array

        return masked(x), lambda delta: (masked(delta), {})

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Unchanged."""
        return input_shape

    def __repr__(self) -> str:
        return f"DropoutLayer({self.rate!r})"


class GaussianNoiseLayer(Layer):
    """Adds normal noise in training: y = x + deviation e, e independent with mean 0, variance 1.

    Backward: dx = delta. In evaluation y = x.

    Shapes: x and y alike, any.

    Args:
        deviation: standard deviation of the noise, >= 0.
        name: what messages call the layer.

    Raises:
        ValueError: the deviation is out of its range.

    Source: Bishop, Neural Computation 7, 1995 (training with noise is Tikhonov regularization).
    """

    def __init__(self, deviation: float, name: str | None = None) -> None:
        super().__init__(name=name)
        if not 0 <= deviation < math.inf:
            raise ValueError(f"{self.name}: deviation must be >= 0 and finite, got {deviation!r}")
        self.deviation = float(deviation)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x + deviation e and delta -> delta; the identity in evaluation."""
        if not training or self.deviation == 0:
            return x, _unchanged
        shape, deviation = tuple(x.shape), self.deviation
        e = noise(lambda rng: deviation * rng.standard_normal(shape, dtype="float32"), x)
        return x + e, _unchanged

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Unchanged."""
        return input_shape

    def __repr__(self) -> str:
        return f"GaussianNoiseLayer({self.deviation!r})"


def _unchanged(delta: Array) -> tuple[Array, Gradients]:
    return delta, {}
