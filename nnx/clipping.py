"""Bounds for gradients, given to an optimizer as `clip=`. No gradient is read by the host."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from nnx.backend import Array, array_namespace
from nnx.checks import number
from nnx.config import Value

__all__ = ["Clip", "ClipNorm", "ClipValue"]


class Clip(Value):
    """Base class of bounds for gradients; subclasses define `__call__(gradients)`.

    Args:
        limit: > 0. A limit outside of the range of the gradients' type counts as its smallest
            normal or its largest number.
    """

    def __init__(self, limit: float) -> None:
        self.limit = number(self, "limit", limit, "> 0")

    def __call__(self, gradients: Sequence[Array]) -> list[Array]:
        """Return the bounded gradients; those given do not change."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(gradients)")

    def _limit_and_largest(self, g: Array) -> tuple[float, float]:
        """The limit in the range of g's type, and the largest number of that type."""
        info = array_namespace(g).finfo(g.dtype)
        largest = float(info.max)
        return min(max(self.limit, float(info.smallest_normal)), largest), largest


class ClipValue(Clip):
    """g <- min(max(g, -limit), limit), elementwise.

    NaN stays NaN; an infinite entry becomes the limit.

    Args:
        limit: > 0.
    """

    def __call__(self, gradients: Sequence[Array]) -> list[Array]:
        """min(max(g, -limit), limit)."""
        if not gradients:
            return []
        xp = array_namespace(*gradients)
        limit, _ = self._limit_and_largest(gradients[0])
        return [xp.minimum(xp.maximum(g, -limit), limit) for g in gradients]


class ClipNorm(Clip):
    """g <- g limit / max(|g|, limit), |g| the Euclidean norm of all gradients as one vector.

    The norm is taken of the gradients that the optimizer is given: a layer's optimizer clips the
    gradients of the layer, a network's those of the network. Gradients within the limit keep
    their bits, and no finite gradient overflows. If an entry is NaN or infinite, all become NaN.

    Args:
        limit: > 0.

    Source: Pascanu, Mikolov, Bengio, ICML 2013.
    """

    def __call__(self, gradients: Sequence[Array]) -> list[Array]:
        """g limit / max(|g|, limit)."""
        if not gradients:
            return []
        xp = array_namespace(*gradients)
        limit, most = self._limit_and_largest(gradients[0])
        least = min(limit, 0.25 * most)
        # The norm is that of g / bound, whose entries are at most 4. If the largest entry is at
        # most four times the limit, the bound is the limit, and what underflows does not matter.
        # The factor is a quarter because the reciprocal of the largest numbers is subnormal, and
        # 0 on a GPU.
        largest = functools.reduce(xp.maximum, [xp.max(xp.abs(g)) for g in gradients])
        bound = xp.maximum(0.25 * largest, least)
        squares: Array | float = 0.0
        for g in gradients:
            h = g / bound
            h *= h
            squares = squares + xp.sum(h)
        # limit / |g| may be subnormal, which some libraries replace by 0. So it is applied as two
        # factors; a power of 2 keeps the first one normal. Within the limit their product is 1.
        power = min(1.0, 2.0 ** math.floor(math.log2(least)))
        rest = power * (limit / least)
        first = (least / power) / bound
        second = rest / xp.maximum(xp.sqrt(squares), first * rest)
        clipped = []
        for g in gradients:
            h = g * first
            h *= second
            clipped.append(h)
        return clipped
