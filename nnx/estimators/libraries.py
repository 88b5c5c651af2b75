"""Arrays in, arrays out: on which library the data of an estimator is."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import get_config

from nnx.backend import Array, Backend, installed_backends, resolve, to_numpy
from nnx.backend.namespace import is_array

__all__ = ["as_library", "dispatches", "dtype_of", "host", "library_of"]


def dispatches() -> bool:
    """Return whether scikit-learn works with the arrays of other libraries now."""
    return bool(get_config()["array_api_dispatch"])


def library_of(X: Any) -> str | None:
    """Return the backend whose arrays the data is made of, with its device; None for NumPy data.

    Other libraries count only in a block of sklearn.config_context(array_api_dispatch=True).

    Raises:
        TypeError: no backend is for this library.
    """
    if not dispatches() or not is_array(X):
        return None
    library = type(X).__module__.partition(".")[0]
    if library == "numpy":
        return None
    for name, kind in installed_backends().items():
        if kind.library.partition(".")[0] == library or _is_alias(library, kind.library):
            return f"{name}:{_device(X.device)}"
    raise TypeError(
        f"expected X of a library that nnx has a backend for, got one of {library}; convert it "
        "first: numpy.asarray(X)"
    )


def dtype_of(X: Any) -> str:
    """Return "float32" for data that float32 holds exactly, else "float64"."""
    try:
        held = np.result_type(np.dtype(str(X.dtype).rpartition(".")[2]), np.float32)
    except TypeError:
        return "float32"  # a short type of other libraries, such as bfloat16
    return "float32" if held == np.float32 else "float64"


def host(data: Any) -> Any:
    """Return an array of any library as a NumPy array; other data as it is."""
    return to_numpy(data) if is_array(data) and not isinstance(data, np.ndarray) else data


def as_library(array: Array, backend: Backend, library: str | None) -> Any:
    """Return an array of a backend as one of the library that `library_of` has named."""
    if library is None:
        return backend.to_numpy(array)
    target = resolve(library, backend.dtype_name)
    return array if target.same_place(backend) else target.from_numpy(backend.to_numpy(array))


def _is_alias(library: str, known: str) -> bool:
    """JAX's arrays are those of jaxlib."""
    return library == f"{known}lib"


def _device(device: Any) -> str:
    """Return a device as the name of a backend has it after the colon."""
    if hasattr(device, "platform"):
        return f"{device.platform}:{device.id}"
    if hasattr(device, "id"):
        return str(device.id)
    return str(device).rpartition("(")[2].strip("')")
