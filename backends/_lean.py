"""Namespaces of the Array API with a few functions of our own: shorter, or on the right device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

CREATION = """
    arange asarray empty empty_like eye full full_like linspace ones ones_like zeros zeros_like
    """.split()  # noqa: SIM905


# From so many elements on, a sum by a product is faster. More terms than LONG, one after another
# in memory, lose digits in a product that NumPy's sum keeps.
MANY, LONG = 4096, 1024


@functools.cache
def lean_numpy(compat: ModuleType) -> ModuleType:
    """Return the namespace with sums and maxima by NumPy's reductions, and shorter stacks.

    For a small array, half of the time of `np.sum(x, axis)`, 1 us, passes before it calls
    `np.add.reduce`. A step of training calls it five times. For a large one, the product with ones
    takes a fifth of the time.
    """
    add: Any = np.add.reduce
    maximum: Any = np.maximum.reduce

    def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        if type(axis) is int and x.size >= MANY and x.ndim > 1 and dtype is None:
            total = _by_product(x, axis - x.ndim if axis >= 0 else axis)
            if total is not None:
                return np.expand_dims(total, axis) if keepdims else total
        return add(x, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        if type(axis) is int and x.size >= MANY and x.ndim > 1:
            total = _by_product(x, axis - x.ndim if axis >= 0 else axis)
            if total is not None:
                total /= x.shape[axis]
                return np.expand_dims(total, axis) if keepdims else total
        return compat.mean(x, axis=axis, keepdims=keepdims)

    def max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return maximum(x, axis=axis, keepdims=keepdims)

    def stack(arrays: Any, /, *, axis: int = 0) -> Any:
        shape, ndim = list(arrays[0].shape), arrays[0].ndim + 1
        shape.insert(axis % ndim, len(arrays))
        # Left to itself, NumPy follows the order of the arrays, and a reshape then copies again.
        return np.stack(arrays, axis=axis, out=np.empty(shape, np.result_type(*arrays)))

    def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
        return tuple(x if axis == 0 else np.moveaxis(x, axis, 0))

    return _with(compat, sum=sum, mean=mean, max=max, stack=stack, unstack=unstack)


def _by_product(x: Any, axis: int) -> Any:
    """Return x summed along the last axis, -1, or the one before; None if no product can do it."""
    if x.dtype.char not in "fd" or not x.flags.c_contiguous:
        return None
    if axis == -2:
        return np.ones(x.shape[-2], x.dtype) @ x
    if axis == -1 and x.shape[-1] <= LONG:
        return x @ np.ones(x.shape[-1], x.dtype)
    return None


@functools.cache
def lean_torch(compat: ModuleType) -> ModuleType:
    """Return the namespace with PyTorch's `clamp` for the larger or smaller of array and number.

    Otherwise the number is made a tensor first, which takes 5 us.
    """
    import torch

    def maximum(x1: Any, x2: Any, /) -> Any:
        return torch.clamp(x1, min=x2) if _number(x2) else compat.maximum(x1, x2)

    def minimum(x1: Any, x2: Any, /) -> Any:
        return torch.clamp(x1, max=x2) if _number(x2) else compat.minimum(x1, x2)

    return _with(compat, maximum=maximum, minimum=minimum)


@functools.cache
def placed_cupy(compat: ModuleType) -> ModuleType:
    """Return the namespace with functions that create arrays where `device=` says.

    CuPy creates them on its current device. Without `device=`, a copy and an array like another
    are made where that is.
    """
    import cupy

    def placed(create: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(create)
        def on_device(*arguments: Any, device: Any = None, **options: Any) -> Any:
            place = (
                getattr(arguments[0], "device", None) if device is None and arguments else device
            )
            if isinstance(place, cupy.cuda.Device):
                with place:
                    return create(*arguments, **options)
            return create(*arguments, device=device, **options)

        return on_device

    return _with(compat, **{name: placed(getattr(compat, name)) for name in CREATION})


def _number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _with(compat: ModuleType, **functions: Any) -> ModuleType:
    lean = ModuleType(compat.__name__, compat.__doc__)
    vars(lean).update(vars(compat), **functions)
    return lean
