"""The boundary: data of a person becomes arrays of the backend, once, after it was checked.

Behind it nothing is converted and nothing is read back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import array_api_compat
import numpy as np

from nnx.backend import Array, Backend, array_namespace
from nnx.checks import ShapeError

__all__ = [
    "as_inputs",
    "as_targets",
    "as_weights",
    "batches",
    "check_batch_size",
    "check_finite",
    "is_classification",
]


Shape = tuple[int, ...]


def as_inputs(backend: Backend, shape: Shape, x: Any) -> Array:
    """Inputs (samples, *shape) of the backend and its dtype.

    Raises:
        ShapeError: other shapes, or no samples.
        TypeError: the data is not made of real numbers.
    """
    x = _array(backend, x, "x")
    expected = f"expected x of shape (samples, {', '.join(map(str, shape))})"
    if tuple(x.shape[1:]) != shape or x.ndim == 0:
        hint = "pass one sample per row"
        if tuple(x.shape) == shape:
            hint = "for a single sample: x[None]"
        elif len(shape) > 1 and shape[0] > 1 and tuple(x.shape[1:]) == (*shape[1:], shape[0]):
            axes = (0, x.ndim - 1, *range(1, x.ndim - 1))
            hint = f"channels come first: numpy.transpose(x, {axes})"
        elif x.ndim > 1 and math.prod(x.shape[1:]) == math.prod(shape):
            hint = f"reshape it: x.reshape(len(x), {', '.join(map(str, shape))})"
        raise ShapeError(f"{expected}, got {tuple(x.shape)}; {hint}")
    if x.shape[0] == 0:
        raise ShapeError(f"{expected}, got no samples; is the selection of the data empty?")
    return backend.asarray(x, dtype=backend.dtype)


def as_targets(backend: Backend, shape: Shape, y: Any) -> Array:
    """Targets of the backend for outputs of a shape: class indices (samples,), or rows.

    Class indices for a network of one output become rows (samples, 1).

    Raises:
        ShapeError: neither indices nor rows that fit the network's outputs.
        TypeError: class indices that are not integers.
        ValueError: class indices out of range, or rows that are not finite.
    """
    y = _array(backend, y, "y")
    rows = ", ".join(map(str, shape))
    expected = f"expected y as rows (samples, {rows})"
    outputs = shape[-1]
    if y.ndim == len(shape) and outputs == 1:
        y = y[..., None]
    if y.ndim == len(shape):
        if not _is_integer(backend, y):
            raise TypeError(
                f"{expected} or integer class indices, got shape {tuple(y.shape)} of {y.dtype}; "
                "for class indices: y.astype(int)"
            )
        if tuple(y.shape[1:]) != shape[:-1]:
            raise ShapeError(
                f"{expected} or integer class indices "
                f"(samples, {', '.join(map(str, shape[:-1]))}), got shape {tuple(y.shape)}"
            )
        labels = backend.to_numpy(y) if backend.owns(y) else y
        low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if low < 0 or high >= outputs:
            raise ValueError(
                f"expected class indices from 0 to {outputs - 1}, one for each output of the "
                f"network, got {low} to {high}; "
                + (f"give the last layer {high + 1} outputs, or " if low >= 0 else "")
                + "number the classes from 0"
            )
        return backend.asarray(y, dtype=backend.integer_dtype)
    if tuple(y.shape[1:]) != shape:
        column = tuple(y.shape[1:]) == (1,)
        raise ShapeError(
            f"{expected} or integer class indices (samples,), got shape {tuple(y.shape)}"
            + ("; for a column of class indices: y.ravel()" if column else "")
        )
    y = backend.asarray(y, dtype=backend.dtype)
    check_finite(y, "y")
    return y


def as_weights(backend: Backend, weights: Any, samples: int) -> Array:
    """Sample weights (samples,) of the backend and its dtype.

    Raises:
        ShapeError: another shape.
        ValueError: negative or not finite.
    """
    weights = _array(backend, weights, "sample_weights")
    if tuple(weights.shape) != (samples,):
        raise ShapeError(
            f"expected one weight for each of {samples} samples, got sample_weights of shape "
            f"{tuple(weights.shape)}"
        )
    weights = backend.asarray(weights, dtype=backend.dtype)
    check_finite(weights, "sample_weights")
    if bool(backend.xp.any(weights < 0)):
        raise ValueError("expected sample_weights >= 0, got negative ones; drop these samples")
    return weights


def is_classification(backend: Backend, shape: Shape, y: Array) -> bool:
    """Are these checked targets classes: indices, rows with a single one, or 0 and 1 alone?"""
    if y.ndim == len(shape):
        return True
    rows = backend.to_numpy(y)
    one_hot = ((rows == 0) | (rows == 1)).all()
    return bool(one_hot and (shape[-1] == 1 or (rows.sum(axis=-1) == 1).all()))


def check_finite(array: Array, name: str) -> None:
    """Refuse NaN and infinity; one read of the device.

    Raises:
        ValueError: some entry is not finite.
    """
    xp = array_namespace(array)
    # The sum is finite only if all numbers are, and is found in half the time. It may overflow,
    # and then every number is looked at.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(xp.isfinite(xp.sum(array))) or bool(xp.all(xp.isfinite(array)))
    if not finite:
        raise ValueError(
            f"expected finite numbers in {name}, got NaN or infinity (after conversion to "
            f"{array.dtype}); find them with numpy.isfinite and mend or drop these samples"
        )


def check_batch_size(batch_size: int, samples: int | None = None) -> None:
    """Refuse what is not a number of samples.

    Raises:
        ValueError: not a positive integer, or more than there are samples.
    """
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"expected a positive integer batch_size, got {batch_size!r}")
    if samples is not None and batch_size > samples:
        raise ValueError(
            f"batch_size {batch_size} is larger than the data: {samples} samples; "
            f"choose at most {samples}"
        )


def batches(samples: int, batch_size: int) -> Iterator[slice]:
    """Slices of batch_size samples each; the last one takes what is left."""
    for start in range(0, samples, batch_size):
        yield slice(start, min(start + batch_size, samples))


def _array(backend: Backend, data: Any, name: str) -> Any:
    """Real numbers, as an array of the backend or of NumPy."""
    if not isinstance(data, np.ndarray) and backend.owns(data):
        real = backend.xp.isdtype(data.dtype, ("real floating", "integral", "bool"))
        dtype = data.dtype
    else:
        try:
            if array_api_compat.is_array_api_obj(data) and not isinstance(data, np.ndarray):
                data = backend.asarray(data)  # says that it belongs to another library
            data = np.asarray(data)
        except (ValueError, TypeError) as error:
            raise TypeError(
                f"expected {name} as NumPy data or arrays of backend {backend.name!r}, "
                f"got a {type(data).__name__}: {error}"
            ) from error
        dtype = data.dtype
        real = dtype.kind in "fiub"
    if not real:
        raise TypeError(
            f"expected {name} of real numbers, got dtype {dtype}; convert it to numbers first: "
            "numpy.asarray(..., dtype=float), for names of classes "
            "numpy.unique(y, return_inverse=True)[1]"
        )
    return data


def _is_integer(backend: Backend, y: Any) -> bool:
    if isinstance(y, np.ndarray):
        return y.dtype.kind in "iub"
    return bool(backend.xp.isdtype(y.dtype, ("integral", "bool")))
