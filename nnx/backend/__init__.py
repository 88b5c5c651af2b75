"""Backends: array libraries on devices, and the one setting that chooses among them.

`contract` says what a backend is, `installed` finds them, `selection` holds the setting, which
decides where arrays are born. The mathematics does not ask for it: it follows its arguments
through `namespace.array_namespace`.
"""

from nnx.backend.contract import FUNCTIONS, Backend, Memory
from nnx.backend.errors import BackendError, HostReadError, OutOfMemoryError
from nnx.backend.hooks import Problem
from nnx.backend.installed import installed_backends
from nnx.backend.loops import scan, whole
from nnx.backend.namespace import Array, add_array_type, array_namespace, masked, sum_rows
from nnx.backend.selection import (
    BackendStatus,
    available_backends,
    born_on_device,
    get_backend,
    on_device,
    resolve,
    set_backend,
    to_numpy,
    use_backend,
    working_on,
)

__all__ = [
    "FUNCTIONS",
    "Array",
    "Backend",
    "BackendError",
    "BackendStatus",
    "HostReadError",
    "Memory",
    "OutOfMemoryError",
    "Problem",
    "add_array_type",
    "array_namespace",
    "available_backends",
    "born_on_device",
    "get_backend",
    "installed_backends",
    "masked",
    "on_device",
    "resolve",
    "scan",
    "set_backend",
    "sum_rows",
    "to_numpy",
    "use_backend",
    "whole",
    "working_on",
]
