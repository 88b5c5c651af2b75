"""The formula that all normalization layers share, and its backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nnx.backend import Array, array_namespace, row_means

__all__ = ["Normalized", "normalize"]


class Normalized(NamedTuple):
    """xhat, its statistics with all axes, and a backward that returns dx and the means in it."""

    xhat: Array
    mean: Array
    variance: Array
    backward: Callable[[Array], tuple[Array, Array, Array]]


def normalize(
    x: Array, axes: tuple[int, ...], epsilon: float, means: Callable[..., list[Array]] | None = None
) -> Normalized:
    """xhat = (x - mean) / deviation over the axes.

    Its backward: g -> dx = (g - mean(g) - xhat mean(g xhat)) / deviation, mean(g), mean(g xhat).

    `means` computes the means, if they are not those of this process alone.
    """
    xp = array_namespace(x)
    over = axes[0] if len(axes) == 1 else axes

    def mean_product(a: Array, b: Array) -> Array:
        if means is not None:
            return means(a * b)[0]
        if axes == (x.ndim - 1,):
            return row_means(a, b)
        return xp.mean(a * b, axis=over, keepdims=True)

    mean = xp.mean(x, axis=over, keepdims=True) if means is None else means(x)[0]
    xhat = x - mean
    variance = mean_product(xhat, xhat)
    deviation = xp.sqrt(variance + epsilon)
    xhat /= deviation

    def backward(g: Array) -> tuple[Array, Array, Array]:
        if means is not None:
            mean_g, mean_g_xhat = means(g, g * xhat)
        else:
            mean_g, mean_g_xhat = xp.mean(g, axis=over, keepdims=True), mean_product(g, xhat)
        dx = g - mean_g
        dx -= xhat * mean_g_xhat
        dx /= deviation
        return dx, mean_g, mean_g_xhat

    return Normalized(xhat, mean, variance, backward)
