"""Mixing the samples of a batch, for a training loop of one's own."""

from __future__ import annotations

from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError, number
from nnx.config import Configured
from nnx.randomness import noise

__all__ = ["MixUp"]


class MixUp(Configured):
    """Mix each sample with its neighbour: x <- l x + (1 - l) x', y <- l y + (1 - l) y'.

    l is drawn from Beta(alpha, alpha), one number for each batch, from the stream of the layers
    that add noise: one seed gives the same bits on every backend. The neighbour is the sample
    before, of the first one the last; draw the batches in a random order. Targets are rows.

        plan, mix = net.plan(), nnx.MixUp(0.2)
        for x, y in batches:
            plan.step(*mix(x, y))

    Args:
        alpha: > 0; the smaller it is, the nearer is l to 0 or 1.

    Raises:
        TypeError: alpha is not a number.
        ValueError: alpha is not greater than 0.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, arXiv:1710.09412.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = number(self, "alpha", alpha, "> 0")

    def __call__(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return the mixed inputs and targets; nothing is read back.

        Args:
            x: inputs (samples, ...), an array of a backend.
            y: targets (samples, outputs), rows of the same library and dtype.

        Raises:
            ShapeError: the targets are not rows, or not as many as the inputs.
        """
        xp, alpha = array_namespace(x, y), self.alpha
        if y.ndim < 2 or y.shape[0] != x.shape[0]:
            raise ShapeError(
                f"MixUp: expected targets as one row for each of {x.shape[0]} samples, got shape "
                f"{tuple(y.shape)}; write y = numpy.eye(classes)[labels] for class indices"
            )
        share = noise(lambda rng: rng.beta(alpha, alpha, (1,)), x)

        def mixed(array: Array) -> Array:
            part = xp.reshape(share, (1,) * array.ndim)
            neighbours = xp.concat([array[-1:, ...], array[:-1, ...]], axis=0)
            return part * array + (1.0 - part) * neighbours

        return mixed(x), mixed(y)
