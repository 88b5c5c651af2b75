"""Bounds for gradients, given to an optimizer as `clip=`; no number of them is read back."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from nnx.backend import Array, array_namespace
from nnx.checks import number
from nnx.config import Value

__all__ = ["Clip", "ClipNorm", "ClipValue"]


class Clip(Value):
    """Base class of what bounds gradients; subclasses define `__call__(gradients)`.

    Args:
        limit: > 0.
    """

    def __init__(self, limit: float) -> None:
        self.limit = number(self, "limit", limit, "> 0")

    def __call__(self, gradients: Sequence[Array]) -> list[Array]:
        """The bounded gradients; those that were given are left as they are."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(gradients)")


class ClipValue(Clip):
    """g <- min(max(g, -limit), limit), elementwise.

    Args:
        limit: > 0.
    """

    def __call__(self, gradients: Sequence[Array]) -> list[Array]:
        """min(max(g, -limit), limit)."""
        clipped = []
        for g in gradients:
            xp = array_namespace(g)
            clipped.append(xp.minimum(xp.maximum(g, -self.limit), self.limit))
        return clipped


class ClipNorm(Clip):
    """g <- g limit / max(|g|, limit), |g| the Euclidean norm of all gradients as one vector.

    An optimizer sees the gradients that it is given: one that belongs to a layer clips those of
    the layer, one that belongs to a network those of the network. Gradients within the limit keep
    their bits, and no finite gradient overflows.

    Args:
        limit: > 0.

    Source: Pascanu, Mikolov, Bengio, ICML 2013.
    """

    def __call__(self, gradients: Sequence[Array]) -> list[Array]:
        """g limit / max(|g|, limit)."""
        if not gradients:
            return []
        xp = array_namespace(*gradients)
        # The norm is taken of g / bound, whose entries are at most 4. Up to a largest entry of four
        # times the limit the bound is the limit, and what underflows then does not matter. A
        # quarter, because the reciprocal of the largest numbers is subnormal, or 0 on a GPU.
        largest = functools.reduce(xp.maximum, [xp.max(xp.abs(g)) for g in gradients])
        bound = xp.maximum(0.25 * largest, self.limit)
        squares: Array | float = 0.0
        for g in gradients:
            h = g / bound
            h *= h
            squares = squares + xp.sum(h)
        ratio = self.limit / bound
        scale = ratio / xp.maximum(xp.sqrt(squares), ratio)
        return [g * scale for g in gradients]
