"""Layers that add noise in training, so that a network does not rely on single numbers.

In evaluation they are the identity, and so they are in training while they are frozen. Their random
numbers are drawn on the host, from the seeded stream "dropout", so that a seed gives the same
numbers on every backend. They move to the device once per forward, and backward uses those of its
own forward.
"""

from __future__ import annotations

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.layers._padding import Padding
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward, Gradients, Layer
from nnx.randomness import noise

__all__ = ["DropoutLayer", "GaussianNoiseLayer", "unchanged"]


class DropoutLayer(Layer):
    """Drop entries of each sample at random in training: y = x / (1 - rate) where kept, else 0.

    Backward: dx = delta / (1 - rate) for the entries that this forward kept, else 0. The factor
    keeps the expectation of y at x, so that evaluation is y = x. Every entry of every sample is
    dropped with probability `rate`, independently of the others.

    Shapes: x and y alike, any.

    Args:
        rate: the probability of dropping an entry, 0 <= rate < 1.
        name: what messages call the layer.

    Raises:
        TypeError: the rate is not a number.
        ValueError: the rate is out of its range.

    Source: Srivastava et al., JMLR 15, 2014; ONNX operator Dropout.
    """

    def __init__(self, rate: float = 0.5, name: str | None = None) -> None:
        super().__init__(name=name)
        self.rate = checks.number(self, "rate", rate, "in [0, 1)")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x / (1 - rate) if kept, else 0; backward: the same of delta. Identity in evaluation."""
        if not training or self.frozen or self.rate == 0:
            return x, unchanged
        xp, shape, rate = array_namespace(x), tuple(x.shape), self.rate
        kept = noise(lambda rng: rng.random(shape, dtype="float32") >= rate, x)
        scale = 1.0 / (1.0 - rate)

        def masked(array: Array) -> Array:
            array = xp.where(kept, array, 0.0)
            array *= scale
            return array

        return masked(x), lambda delta: (masked(delta), {})

    def output_shape(self, input_shape: Shape) -> Shape:
        """Unchanged."""
        return input_shape

    def padding_after(self, before: Padding) -> Padding:
        """It is kept if it is 0."""
        return before if before.value == 0 or not self.rate else before.lost(self)


class GaussianNoiseLayer(Layer):
    """Add normal noise in training: y = x + deviation e, e independent with mean 0, variance 1.

    Backward: dx = delta. In evaluation y = x.

    Shapes: x and y alike, any.

    Args:
        deviation: standard deviation of the noise, >= 0.
        name: what messages call the layer.

    Raises:
        TypeError: the deviation is not a number.
        ValueError: the deviation is negative or not finite.

    Source: Bishop, Neural Computation 7, 1995 (training with noise is Tikhonov regularization).
    """

    def __init__(self, deviation: float, name: str | None = None) -> None:
        super().__init__(name=name)
        self.deviation = checks.number(self, "deviation", deviation, ">= 0")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x + deviation e; backward: dx = delta. The identity in evaluation."""
        if not training or self.frozen or self.deviation == 0:
            return x, unchanged
        shape, deviation = tuple(x.shape), self.deviation
        e = noise(lambda rng: deviation * rng.standard_normal(shape, dtype="float32"), x)
        return x + e, unchanged

    def output_shape(self, input_shape: Shape) -> Shape:
        """Unchanged."""
        return input_shape


def unchanged(delta: Array) -> tuple[Array, Gradients]:
    """The backward of the identity: dx = delta."""
    return delta, {}
