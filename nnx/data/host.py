"""The host in the place of a device: the checks of data, for arrays that are not moved yet."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnx.backend import Backend, host_numbers

__all__ = ["HostSide"]


class HostSide:
    """What the checks ask of a backend, answered with NumPy arrays in the dtypes of this backend.

    Args:
        backend: the one that the arrays are for.
    """

    xp: Any = np
    device = "cpu"

    def __init__(self, backend: Backend) -> None:
        self.name, self.dtype_name = backend.name, backend.dtype_name
        self.dtype = np.dtype(backend.dtype_name)
        self.integer_dtype = backend.host_dtype(backend.integer_dtype)
        self.small_dtypes = {name: np.dtype(name) for name in backend.small_dtypes}

    def owns(self, array: Any) -> bool:
        """Return whether this is a NumPy array."""
        return isinstance(array, np.ndarray)

    def asarray(self, data: Any, dtype: Any) -> np.ndarray:
        """Return host data in a dtype."""
        return host_numbers("asarray", data).astype(dtype, copy=False)

    def from_numpy(self, host: np.ndarray) -> np.ndarray:
        """Return the array itself."""
        return host

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        """Return the array itself."""
        return array
