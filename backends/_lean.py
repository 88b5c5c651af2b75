"""Namespaces of the Array API with shorter ways to a few functions that every step calls."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np


@functools.cache
def lean_numpy(compat: ModuleType) -> ModuleType:
    """Return the namespace with sums and maxima by NumPy's reductions.

    For a small array, half of the time of `np.sum(x, axis)`, 1 us, passes before it calls
    `np.add.reduce`. A step of training calls it five times.
    """
    add: Any = np.add.reduce
    maximum: Any = np.maximum.reduce

    def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        return add(x, axis=axis, dtype=dtype, keepdims=keepdims)

    def max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return maximum(x, axis=axis, keepdims=keepdims)

    return _with(compat, sum=sum, max=max)


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


def _number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _with(compat: ModuleType, **functions: Any) -> ModuleType:
    lean = ModuleType(compat.__name__, compat.__doc__)
    vars(lean).update(vars(compat), **functions)
    return lean
