"""Activation functions: each is its formula and the formula of its derivative.

`forward(x)` returns the value and its backward, a closure that takes the gradient delta with
respect to the value and returns the gradient with respect to x. Nothing is kept on the object,
so one object may serve many layers. All act elementwise on arrays of any shape, except SoftMax,
which acts along the last axis.

The families carry `factor`, the gain of the initial weights that keeps the size of a signal
through such a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from nnx.backend import Array, array_namespace

__all__ = [
    "Activation",
    "HeavisideLike",
    "Linear",
    "Logistic",
    "ReLU",
    "ReLULike",
    "SignLike",
    "SoftMax",
    "TanH",
]

Backward = Callable[[Array], Array]


class Activation:
    """Base class: a function phi with `forward`; the classroom interface stands on top of it.

    Subclasses define `forward(x) -> (phi(x), backward)` with backward(delta) = phi'(x) delta.
    """

    factor: ClassVar[float] = 1.0
    _backward: Backward | None = None

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """The value phi(x) and its backward, delta -> phi'(x) delta."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")

    def evaluate(self, x: Array) -> Array:
        """phi(x); remembers what `backprop` needs."""
        y, self._backward = self.forward(x)
        return y

    def backprop(self, delta: Array) -> Array:
        """phi'(x) delta for the x of the last `evaluate`."""
        if self._backward is None:
            raise RuntimeError(f"{type(self).__name__}.backprop: call evaluate(x) first")
        return self._backward(delta)

    def __call__(self, x: Array) -> Array:
        """phi(x)."""
        return self.forward(x)[0]

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in vars(self).items() if name[0] != "_")
        return f"{type(self).__name__}({', '.join(arguments)})"


class HeavisideLike(Activation):
    """Family of the step from 0 to 1; factor 1."""


class SignLike(Activation):
    """Family of the step from -1 to 1; factor 1."""


class ReLULike(Activation):
    """Family of the ramp max(x, 0); factor sqrt(2), as half of a symmetric signal passes."""

    factor = math.sqrt(2.0)


class Linear(Activation):
    """The identity: phi(x) = x, phi'(x) = 1; factor 1."""

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """x and delta -> delta."""
        return x, lambda delta: delta


class Logistic(HeavisideLike):
    """The logistic function phi(x) = s(kx), s(t) = 1 / (1 + exp(-t)).

    phi'(x) = k y (1 - y) with y = phi(x). Only exp(-|kx|) is computed, which cannot overflow.

    Args:
        k: steepness, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("Logistic", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """s(kx) and delta -> k y (1 - y) delta."""
        xp = array_namespace(x)
        e = xp.exp(-self.k * xp.abs(x))
        y = xp.where(x >= 0, 1.0, e) / (1.0 + e)
        return y, lambda delta: (self.k * delta) * y * (1.0 - y)


class SoftMax(HeavisideLike):
    """phi(x)_i = exp(x_i) / sum_j exp(x_j) along the last axis.

    The backward is the product with the Jacobian, y (delta - sum_j delta_j y_j). The largest
    entry of a row is subtracted first, which changes nothing but prevents overflow.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """The rows' distributions and delta -> y (delta - sum(delta y))."""
        xp = array_namespace(x)
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        y = e / xp.sum(e, axis=-1, keepdims=True)
        return y, lambda delta: y * (delta - xp.sum(delta * y, axis=-1, keepdims=True))


class TanH(SignLike):
    """The hyperbolic tangent phi(x) = tanh(kx); phi'(x) = k (1 - y^2) with y = phi(x).

    Args:
        k: steepness, > 0.
    """

    def __init__(self, k: float = 1.0) -> None:
        self.k = _positive("TanH", "k", k)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """tanh(kx) and delta -> k (1 - y^2) delta."""
        xp = array_namespace(x)
        y = xp.tanh(self.k * x)
        return y, lambda delta: (self.k * delta) * (1.0 - y * y)


class ReLU(ReLULike):
    """The rectifier phi(x) = max(x, 0); phi'(x) = 1 if x > 0 else 0 (0 at 0, as the field does).

    Source: Nair and Hinton, ICML 2010; ONNX operator Relu.
    """

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """max(x, 0) and delta -> delta where x > 0, else 0."""
        xp = array_namespace(x)
        return xp.maximum(x, 0.0), lambda delta: xp.where(x > 0, delta, 0.0)


def _positive(owner: str, name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{owner}: {name} must be > 0, got {value!r}")
    return float(value)
