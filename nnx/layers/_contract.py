"""Messages for a layer whose formulas do not keep the contract of `Layer`.

`explain_forward` and `explain_backward` build an error from what a formula has returned, after
something has gone wrong with it. `explain_shape` and `explain_parameters` look first; they belong
where a layer is called by hand, or once before training, not in a step.
"""

from __future__ import annotations

from typing import Any

from nnx.checks import ShapeError

__all__ = ["explain_backward", "explain_forward", "explain_parameters", "explain_shape"]


def explain_forward(
    layer: Any, result: Any, expected: tuple[int, ...] | None = None
) -> TypeError | ShapeError:
    """The error for a `forward` that does not return (y, backward).

    Args:
        layer: the layer.
        result: what its forward has returned.
        expected: the shape of y, if it is y's shape that is wrong.
    """
    owner = f"{_name(layer)}.forward"
    if not _is_pair(result):
        return TypeError(
            f"{owner}: expected a pair (y, backward), got {_kind(result)}; "
            "end it with `return y, backward`"
        )
    y, backward = result
    if not callable(backward):
        return TypeError(
            f"{owner}: expected a function backward(delta) as the second of (y, backward), got "
            f"{_kind(backward)}; return the function itself, without calling it"
        )
    if not hasattr(y, "shape"):
        return TypeError(
            f"{owner}: expected an array y as the first of (y, backward), got {_kind(y)}; "
            "return an array of the backend"
        )
    return ShapeError(
        f"{owner}: expected y of shape {expected}, as output_shape says, got {tuple(y.shape)}; "
        "correct forward or output_shape"
    )


def explain_backward(
    layer: Any, result: Any, expected: tuple[int, ...] | None = None
) -> TypeError | ValueError:
    """The error for a backward that does not return (dx, gradients).

    Args:
        layer: the layer.
        result: what the function backward(delta) has returned.
        expected: the shape of x, if that of dx may be wrong.
    """
    owner = f"{_name(layer)}.backward"
    names = ", ".join(f'"{name}": d{name}' for name in layer.parameters)
    if not _is_pair(result):
        return TypeError(
            f"{owner}: expected a pair (dx, gradients), got {_kind(result)}; "
            f"end it with `return dx, {{{names}}}`"
        )
    dx, gradients = result
    if not isinstance(gradients, dict):
        return TypeError(
            f"{owner}: expected a dict of gradients as the second of (dx, gradients), got "
            f"{_kind(gradients)}; return {{{names}}}"
        )
    if layer.children and not set(gradients) <= set(range(len(layer.children))):
        return ValueError(
            f"{owner}: expected the gradients of the children by index, 0 to "
            f"{len(layer.children) - 1}, got the keys {list(gradients)}; return (dx, {{index of a "
            "child: the gradients of the child})"
        )
    if not layer.children and set(gradients) != set(layer.parameters):
        return ValueError(
            f"{owner}: expected a gradient for each of the parameters "
            f"{sorted(layer.parameters)}, got {sorted(map(str, gradients))}; return {{{names}}}"
        )
    for name, parameter in () if layer.children else layer.parameters.items():
        gradient = gradients[name]
        if _shape(gradient) != tuple(parameter.shape):
            return ShapeError(
                f"{owner}: expected the gradient of {name} to have its shape "
                f"{tuple(parameter.shape)}, got {_described(gradient)}; sum over the samples, and "
                "over no other axis of the parameter"
            )
    return ShapeError(
        f"{owner}: expected dx of the shape {expected} of x, got {_described(dx)}; "
        "dx has an entry for each entry of x"
    )


def explain_shape(layer: Any, input_shape: tuple[int, ...], result: Any) -> TypeError | None:
    """The error for an `output_shape` that does not return a tuple of integers; None if it does."""
    if isinstance(result, tuple) and all(
        n is None or (isinstance(n, int) and not isinstance(n, bool)) for n in result
    ):
        return None
    remedy = f"return ({result},)" if isinstance(result, int) else "return a tuple"
    return TypeError(
        f"{_name(layer)}.output_shape: expected a tuple of integers for input of shape "
        f"{tuple(input_shape)}, got {result!r}; {remedy}"
    )


def explain_parameters(layer: Any) -> TypeError | None:
    """The error for a parameter that is not an array of the layer's backend; None if all are."""
    for name, array in layer.parameters.items():
        if not layer.backend.owns(array):
            return TypeError(
                f"{_name(layer)}: expected parameter {name} to be an array of {layer.backend}, got "
                f"{_kind(array)}; make it with self.backend.asarray(...), or declare "
                f"{name} = Parameter() in the class"
            )
    return None


def _name(layer: Any) -> str:
    """The class, and the name of the layer if it has one of its own."""
    kind = type(layer).__name__
    return kind if layer.name == kind else f"{kind} {layer.name!r}"


def _is_pair(result: Any) -> bool:
    return isinstance(result, tuple | list) and len(result) == 2


def _shape(array: Any) -> tuple[int, ...] | None:
    return tuple(array.shape) if hasattr(array, "shape") else None


def _described(array: Any) -> str:
    shape = _shape(array)
    return _kind(array) if shape is None else str(shape)


def _kind(thing: Any) -> str:
    """What a thing is, in a few words."""
    if thing is None:
        return "None"
    if isinstance(thing, tuple | list):
        return f"{len(thing)} values"
    if hasattr(thing, "shape"):
        return f"an array of shape {tuple(thing.shape)}"
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return f"{type(thing).__name__} {thing!r}" if not callable(thing) else f"the function {thing!r}"
