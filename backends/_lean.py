"""Namespaces of the Array API with a few functions of our own: shorter, or on the right device."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from nnx.backend import FUNCTIONS

CREATION = """
    arange asarray empty empty_like eye full full_like linspace ones ones_like zeros zeros_like
    """.split()  # noqa: SIM905

# Names that nnx uses, and that NumPy has in the form of the standard.
OWN = (*FUNCTIONS, "any", "bool", "float32", "float64", "int8", "int16", "int32", "int64")
OWN += ("uint8", "uint16", "uint32", "uint64", "__array_namespace_info__")

# From so many elements on, a sum by a product is faster. More terms than LONG, one after another
# in memory, lose digits in a product that NumPy's sum keeps.
MANY, LONG = 4096, 1024


@functools.cache
def lean_numpy() -> ModuleType:
    """Return NumPy's own functions where nnx calls them, and array-api-compat's otherwise.

    The latter imports all of NumPy, its tests and f2py too. This takes 90 ms, half of the time to
    the first step of a program, and is done when a function is asked for that nnx does not call.

    Sums and maxima are NumPy's reductions, and stacks are shorter. For a small array, half of the
    time of `np.sum(x, axis)`, 1 us, passes before it calls `np.add.reduce`. A step of training
    calls it five times. For a large one, the product with ones takes a fifth of the time.
    """
    add: Any = np.add.reduce
    maximum: Any = np.maximum.reduce

    def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        if x.size >= MANY and type(axis) is int and x.ndim > 1 and dtype is None:
            total = _by_product(x, axis - x.ndim if axis >= 0 else axis)
            if total is not None:
                return np.expand_dims(total, axis) if keepdims else total
        return add(x, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        if x.size >= MANY and type(axis) is int and x.ndim > 1:
            total = _by_product(x, axis - x.ndim if axis >= 0 else axis)
            if total is not None:
                total /= x.shape[axis]
                return np.expand_dims(total, axis) if keepdims else total
        return np.mean(x, axis=axis, keepdims=keepdims)

    def max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return maximum(x, axis=axis, keepdims=keepdims)

    def stack(arrays: Any, /, *, axis: int = 0) -> Any:
        shape, ndim = list(arrays[0].shape), arrays[0].ndim + 1
        shape.insert(axis % ndim, len(arrays))
        # Left to itself, NumPy follows the order of the arrays, and a reshape then copies again.
        return np.stack(arrays, axis=axis, out=np.empty(shape, np.result_type(*arrays)))

    def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
        return tuple(x if axis == 0 else np.moveaxis(x, axis, 0))

    def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
        return x.astype(dtype, copy=copy)  # NumPy's own refuses the scalars that its sums return

    def others(name: str) -> Any:
        return getattr(importlib.import_module("array_api_compat.numpy"), name)

    def names() -> list[str]:
        return dir(importlib.import_module("array_api_compat.numpy"))

    lean = ModuleType("array_api_compat.numpy", np.__doc__)
    vars(lean).update({name: getattr(np, name) for name in OWN})
    own: dict[str, Any] = {"sum": sum, "mean": mean, "max": max, "stack": stack}
    own |= {"unstack": unstack, "astype": astype, "__getattr__": others, "__dir__": names}
    vars(lean).update(own)
    return lean


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
