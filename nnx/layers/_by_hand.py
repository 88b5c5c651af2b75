"""Checks of a layer that is called by hand: what it is given, and what its formulas return."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnx.backend import Array
from nnx.checks import ShapeError
from nnx.layers._contract import (
    explain_backward,
    explain_forward,
    explain_parameters,
    explain_shape,
)
from nnx.layers._shapes import fits

__all__ = [
    "as_array",
    "check_backward",
    "check_batch",
    "check_forward",
    "check_gradients",
    "checked_forward",
]


def as_array(layer: Any, x: Any) -> Array:
    """Return x as an array of the layer's backend and dtype.

    Raises:
        TypeError: x is not made of real numbers.
        BackendError: x is an array of another library.
    """
    backend = layer.backend
    if backend.owns(x) and x.dtype == backend.dtype:
        return x
    if not hasattr(x, "dtype"):
        try:
            x = np.asarray(x)
        except ValueError:
            raise TypeError(
                f"{layer.name}.evaluate: expected x with as many numbers in every sample; check "
                "the lengths of the rows"
            ) from None
    if isinstance(x, np.ndarray | np.generic):
        real = x.dtype.kind in "biuf"
    else:
        real = not backend.owns(x) or not backend.xp.isdtype(x.dtype, "complex floating")
    if not real:
        raise TypeError(
            f"{layer.name}.evaluate: expected x of real numbers, got {x.dtype}; convert it first: "
            "x.astype(float)"
        )
    return backend.asarray(x, dtype=backend.dtype)


def _output_shape(layer: Any, x: Array) -> tuple[int, ...] | None:
    """Return the shape of y for x, with the samples; None if the layer does not define it.

    Raises:
        ShapeError: the layer does not take x.
    """
    given = tuple(x.shape)
    if not given:
        raise ShapeError(
            f"{layer.name}: expected x of shape (samples, ...), got a single number; for one "
            "sample of one feature: [[x]]"
        )
    try:
        shape = layer.output_shape(given[1:])
    except NotImplementedError:
        return None
    except ShapeError as error:
        raise ShapeError(f"{layer.name} {error}, each without the samples; x has {given}") from None
    if wrong := explain_shape(layer, given[1:], shape):
        raise wrong
    return (given[0], *shape)


def check_batch(net: Any, x: Any) -> None:
    """Check that x is a batch of arrays that a network's step takes as they are.

    Raises:
        TypeError: it is not an array of the backend, or has another floating-point type.
        ShapeError: it has another shape, or a layer does not take the lengths of axes that are
            None in the network's input shape.
    """
    backend, shape = net.backend, getattr(net, "input_shape", None)
    if not backend.owns(x) or not (
        x.dtype == backend.dtype or backend.xp.isdtype(x.dtype, "integral")
    ):
        raise TypeError(
            f"{net.name}.step: expected x as an array of {backend}, got {_kind(x)}; convert it "
            "first: net.backend.asarray(x)"
        )
    if shape is None:
        return
    given = tuple(x.shape[1:])
    if 0 in given or not fits(shape, given):
        raise ShapeError(
            f"{net.name}.step: expected x of shape (samples, {', '.join(map(str, shape))}), got "
            f"{tuple(x.shape)}"
        )
    if None in shape:
        net.shapes(given, "each sample of x is")


def check_forward(layer: Any, result: Any, expected: tuple[int, ...] | None = None) -> None:
    """Check what `layer.forward` has returned.

    Raises:
        TypeError: it is not (y, backward).
        ShapeError: y has not the expected shape.
    """
    try:
        y, backward = result
        wrong = not callable(backward)
        wrong |= expected is not None and not fits(expected, tuple(y.shape))
    except (TypeError, ValueError, AttributeError):
        wrong = True
    if wrong:
        raise explain_forward(layer, result, expected)


def check_backward(layer: Any, result: Any, input_shape: tuple[int, ...] | None) -> None:
    """Check what a backward has returned; without an input shape, dx may be anything.

    Raises:
        TypeError, ValueError: it is not (dx, gradients), dx like x and a gradient like each
            parameter.
    """
    try:
        dx, gradients = result
        wrong = not isinstance(gradients, dict)
        wrong |= input_shape is not None and tuple(dx.shape) != input_shape
        if layer.children:
            wrong |= not set(gradients) <= set(range(len(layer.children)))
        else:
            wrong |= {n: tuple(g.shape) for n, g in gradients.items()} != {
                n: tuple(p.shape) for n, p in layer.parameters.items()
            }
    except (TypeError, ValueError, AttributeError):
        wrong = True
    if wrong:
        raise explain_backward(layer, result, input_shape)


def check_gradients(slots: Any, gradients: Any) -> None:
    """Check that each gradient has the shape of its parameter.

    Raises:
        ShapeError: one has not; its layer is named.
    """
    for slot, gradient in zip(slots, gradients, strict=True):
        if tuple(gradient.shape) != tuple(slot.array.shape):
            raise ShapeError(
                f"{slot.layer.name}.backward: expected the gradient of {slot.name} to have its "
                f"shape {tuple(slot.array.shape)}, got {tuple(gradient.shape)}; sum over the "
                "samples, and over no other axis of the parameter"
            )


def checked_forward(layer: Any, x: Array, training: bool) -> tuple[Array, Any]:
    """Return what `layer.forward` returns.

    Raises:
        ShapeError: the layer does not take x, or y has not the shape that output_shape says.
        TypeError: forward does not return (y, backward), or a parameter is not an array.
    """
    expected = _output_shape(layer, x)
    if foreign := explain_parameters(layer):
        raise foreign
    result = layer.forward(x, training)
    check_forward(layer, result, expected)
    return result


def _kind(x: Any) -> str:
    library = type(x).__module__.partition(".")[0]
    return f"a {library} {type(x).__name__} of {getattr(x, 'dtype', 'objects')}"
