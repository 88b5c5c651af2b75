"""The base class of activations, the four families, and checks of what a `forward` returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from nnx.backend import Array, BackendError, array_namespace
from nnx.checks import ShapeError
from nnx.config import Value

__all__ = [
    "AbsLike",
    "Activation",
    "HeavisideLike",
    "ReLULike",
    "SignLike",
    "checked_backward",
    "checked_forward",
    "real_array",
]

Backward = Callable[[Array], Array]


class Activation(Value):
    """Base class: a function phi with `forward`; the classroom interface is built on it.

    Subclasses define `forward(x) -> (phi(x), backward)` with backward(delta) = phi'(x) delta.

    Attributes:
        factor: the gain by which a layer multiplies its initial weights.
        name: the name of the field, such as "leaky ReLU"; the class name if a subclass gives none.
        range: the closed bounds of the values.
        distribution: True if the values along the last axis are probabilities that sum to 1.
    """

    factor: ClassVar[float] = 1.0
    name: ClassVar[str] = "activation"
    range: tuple[float, float] = (-math.inf, math.inf)
    distribution: ClassVar[bool] = False
    _last: tuple[Backward, tuple[int, ...]] | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """Return phi(x) and its backward, delta -> phi'(x) delta."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")

    def evaluate(self, x: Array) -> Array:
        """Return phi(x), and remember what `backprop` needs.

        Raises:
            TypeError: x is not an array of float32 or float64, or `forward` does not return
                (y, backward).
            ShapeError: `forward` returns a value whose shape is not that of x.
        """
        y, backward = checked_forward(self, real_array(self, "x", x))
        self._last = backward, y.shape
        return y

    def backprop(self, delta: Array) -> Array:
        """Return phi'(x) delta for the x of the last `evaluate`.

        Raises:
            RuntimeError: there was no `evaluate`.
            TypeError: delta, or what the backward returns, is not an array of float32 or float64.
            ShapeError: delta, or what the backward returns, does not have the shape of x.
        """
        kind = type(self).__name__
        if self._last is None:
            raise RuntimeError(f"{kind}.backprop: call evaluate(x) first")
        backward, shape = self._last
        delta = real_array(self, "delta", delta)
        if delta.shape != shape:
            raise ShapeError(
                f"{kind}.backprop: expected delta of shape {tuple(shape)}, the shape of the last "
                f"evaluated x, got {tuple(delta.shape)}; call evaluate with the matching x first"
            )
        return checked_backward(self, backward, delta)

    def __call__(self, x: Array) -> Array:
        """Return phi(x); see `evaluate`, but nothing is remembered."""
        return checked_forward(self, real_array(self, "x", x))[0]

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes for pickle and copy, without the memory of `evaluate`."""
        return {name: value for name, value in vars(self).items() if name != "_last"}


class HeavisideLike(Activation):
    """Family of the step from 0 to 1; factor 1."""


class SignLike(Activation):
    """Family of the step from -1 to 1; factor 1."""


class ReLULike(Activation):
    """Family of the ramp max(x, 0); factor sqrt(2), because half of a symmetric signal passes."""

    factor = math.sqrt(2.0)


class AbsLike(Activation):
    """Family of the absolute value; factor 1, because the size of every entry is kept."""


def checked_forward(activation: Activation, x: Array) -> tuple[Array, Backward]:
    """Return `activation.forward(x)` if it keeps the contract.

    A layer calls this once, for example with its first batch; a step of training does not need it.

    Raises:
        TypeError: the result is not (y, backward), or y has another dtype than x.
        ShapeError: y has another shape than x.
    """
    result = activation.forward(x)
    owner = f"{type(activation).__name__}.forward"
    if not isinstance(result, tuple) or len(result) != 2 or not callable(result[1]):
        raise TypeError(
            f"{owner}: expected it to return (y, backward), got {_described(result)}; return the "
            "value phi(x) and a function delta -> phi'(x) delta"
        )
    _check_like(f"{owner}: expected y", result[0], x, "return phi of every entry of x")
    return result


def checked_backward(activation: Activation, backward: Backward, delta: Array) -> Array:
    """Return backward(delta) if it has the shape and dtype of delta.

    Raises:
        TypeError: it is not an array, or has another dtype than delta.
        ShapeError: it has another shape than delta.
    """
    dx = backward(delta)
    owner = f"{type(activation).__name__}.forward: expected its backward to return an array"
    _check_like(owner, dx, delta, "return phi'(x) delta")
    return dx


def real_array(owner: Any, name: str, x: Any) -> Array:
    """Return an array of float32 or float64 as it is; NumPy's other byte order is made native.

    Raises:
        TypeError: anything else: lists, numbers, integers, booleans, float16.
    """
    dtype = getattr(x, "dtype", None)
    try:
        xp = array_namespace(x)
    except BackendError:
        dtype = None
    if dtype is not None:
        if dtype in (xp.float32, xp.float64):
            return x
        if not getattr(dtype, "isnative", True) and dtype.kind == "f":
            return real_array(owner, name, x.astype(dtype.newbyteorder("=")))
    raise TypeError(
        f"{type(owner).__name__}: expected {name} to be an array of float32 or float64, got "
        f"{_described(x)}; convert it: backend = nnx.get_backend(); "
        f"{name} = backend.asarray({name}, dtype=backend.dtype)"
    )


def _check_like(expected: str, result: Any, like: Array, remedy: str) -> None:
    shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
    if shape is None or dtype is None:
        raise TypeError(
            f"{expected} of shape {tuple(like.shape)}, got {_described(result)}; {remedy}"
        )
    if shape != like.shape:
        raise ShapeError(f"{expected} of shape {tuple(like.shape)}, got {tuple(shape)}; {remedy}")
    if dtype != like.dtype:
        raise TypeError(
            f"{expected} of dtype {like.dtype}, got {dtype}; use Python numbers in the formula, "
            "not NumPy scalars, and xp.astype(mask, x.dtype) for a mask"
        )


def _described(value: Any) -> str:
    """Return a short description of what came, for a message."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of {value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(type(item).__name__ for item in value)})"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
