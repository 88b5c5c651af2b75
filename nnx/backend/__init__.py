"""Backends: array libraries on devices, and the one setting that chooses among them.

`contract` says what a backend is, `installed` finds them, `selection` holds the setting, which
decides where arrays are born. The mathematics does not ask for it: it follows its arguments
through `namespace.array_namespace`.
"""

from nnx.backend.contract import FUNCTIONS, Backend, Memory, host_numbers
from nnx.backend.errors import BackendError, HostReadError, OutOfMemoryError
from nnx.backend.hooks import Problem, Uploader
from nnx.backend.installed import installed_backends
from nnx.backend.loops import scan, whole
from nnx.backend.namespace import (
    Array,
    add_array_type,
    add_product,
    array_namespace,
    elementwise,
    erfc,
    masked,
    owner_of,
    row_means,
    subtract_quotient,
    sum_rows,
    transposed_product,
)
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
    "Uploader",
    "add_array_type",
    "add_product",
    "array_namespace",
    "available_backends",
    "born_on_device",
    "elementwise",
    "erfc",
    "get_backend",
    "host_numbers",
    "installed_backends",
    "masked",
    "on_device",
    "owner_of",
    "resolve",
    "row_means",
    "scan",
    "set_backend",
    "subtract_quotient",
    "sum_rows",
    "to_numpy",
    "transposed_product",
    "use_backend",
    "whole",
    "working_on",
]
