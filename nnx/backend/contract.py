"""What a backend is: an array library on a device with a floating-point type.

A whole backend, for a library `shelf`:

    from nnx.backend import Backend

    class ShelfBackend(Backend):
        name = "shelf"
        library = "array_api_strict"  # the name that is imported

        def connect(self, device, dtype):
            import array_api_strict as xp

            return xp, xp.Device(device or "CPU_DEVICE")

In the pyproject.toml of its distribution it is published under its name:

    [project.entry-points."nnx.backends"]
    shelf = "shelf_nnx:ShelfBackend"

The namespace `xp` follows the Array API standard, version 2023.12 or later, and has the functions
in `FUNCTIONS`; wrap a library that lacks one. `nnx check --backends shelf` tells whether it works.
Override `from_numpy` and `to_numpy` if `xp.asarray` does not take NumPy arrays, or
`numpy.asarray` does not take the library's. `mutable = False` is for arrays that cannot be written.
A lazy library overrides `evaluate`.
"""

from __future__ import annotations

import functools
import importlib
import reprlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nnx.backend.errors import BackendError
from nnx.backend.hooks import OptionalHooks
from nnx.backend.namespace import Array, add_array_type, describe, is_array

__all__ = ["FUNCTIONS", "NO_CHANGE", "Backend", "Memory", "connected", "host_numbers"]

# What the mathematics of nnx calls.
FUNCTIONS = tuple(
    """
    abs all arange argmax argmin asarray astype atan broadcast_to concat cos cosh empty empty_like
    exp expand_dims expm1 eye finfo flip floor full hypot isdtype isfinite log log1p logaddexp
    logical_and logical_not logical_or matrix_transpose max maximum mean min minimum ones ones_like
    permute_dims reshape sin sinh sqrt squeeze stack sum take tanh unstack where zeros zeros_like
    """.split()  # noqa: SIM905
)

NO_CHANGE = nullcontext()  # the block of a library without a current device


class Memory(NamedTuple):
    """Free and total memory of a device, in bytes."""

    free: int
    total: int


class Backend(OptionalHooks):
    """An array library, a device and a floating-point type; subclasses live outside `nnx`.

    A subclass sets `name` and `library` and defines `connect`. The methods down to `facts` have
    defaults that suit a library on the host; override those that do not suit yours. The rest is
    optional: see `OptionalHooks`. An entry point of the group "nnx.backends" publishes it.

    Attributes:
        name: the name that selects it.
        library: the import name of its library.
        xp: the Array API namespace.
        device: the library's own device object, for `device=` in creation functions.
        dtype: the floating-point type of parameters and data.
        array_types: the types of its arrays; found by making one, if not given.
        mutable: can arrays be written in place, and are slices and reshapes of them views?
        block: how many elements an optimizer rule should process at a time; None means all.
        shares_host: are arrays of the host used in place if they have a dtype of the library?
        slow_where: is `where` much slower than a product? See `masked`.
        communicator: the name of what connects its processes, if several train one network.
        test_specs: what tests run on when they run on every backend; its name if empty.
        watched: the name and device on which `forbid_reads` notices a read, or None.
    """

    name: ClassVar[str]
    library: ClassVar[str]
    array_types: tuple[type, ...] = ()
    mutable: bool = True
    block: int | None = None
    slow_where: bool = False
    shares_host: bool = False
    communicator: ClassVar[str] = "mpi"
    test_specs: ClassVar[tuple[str, ...]] = ()
    watched: ClassVar[str | None] = None

    def __init__(self, device: str | None = None, dtype: str = "float32") -> None:
        self.device_spec = device
        self.xp, self.device = self.connect(device, dtype)
        if not hasattr(self.xp, "__array_namespace_info__"):
            raise BackendError(
                f"backend {self.name!r}: expected a namespace of the Array API standard 2023.12 or "
                f"later, got {self.xp!r}, which has no __array_namespace_info__",
                "return a namespace from connect that has it; nnx.backend.contract has an example",
            )
        info = self.xp.__array_namespace_info__()
        known = info.dtypes(device=self.device, kind="real floating")
        if dtype not in known:
            usable = [name for name in ("float32", "float64") if name in known]
            raise BackendError(
                f"backend {self.name!r} has no dtype {dtype!r} on device {self.device}; "
                f"it has {', '.join(sorted(known))}",
                " or ".join(f'nnx.set_backend("{self.spec}", dtype="{name}")' for name in usable),
            )
        self.dtype = known[dtype]
        self.dtype_name = dtype
        if not self.array_types:
            one = self.xp.zeros((1,), dtype=self.dtype, device=self.device)
            self.array_types = (type(one),)
        for kind in self.array_types:
            add_array_type(kind, self)

    # What every backend has.

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        """Import the library and find the device; return namespace and device object.

        Args:
            device: what follows the colon in "cupy:1", or None for the library's own default.
            dtype: the floating-point type that will be used, by name.

        Raises:
            BackendError: the library or the device is missing; it carries the remedy.
        """
        raise NotImplementedError(f"{type(self).__name__} must define connect(device, dtype)")

    def select(self) -> None:
        """Make the device the library's current one of this thread, if it has a current one."""

    def selected(self) -> AbstractContextManager[Any]:
        """Return a block in which the device is current; after it, the one before is again.

        For a library that works on the current device, whatever `device=` says. What is not
        overridden costs a training step nothing.
        """
        return NO_CHANGE

    def from_numpy(self, host: np.ndarray) -> Array:
        """Return an array on the device with the host array's type and values."""
        return self.xp.asarray(host, device=self.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Return a NumPy array of the same values; the host waits for the device."""
        return np.asarray(array)

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked to do."""

    def device_name(self) -> str:
        """Return the name that people use for the device."""
        return str(self.device)

    def memory(self) -> Memory | None:
        """Return free and total memory of the device in bytes, or None if it is not known."""
        return None

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether this error of the library means that the device's memory is used up."""
        return isinstance(error, MemoryError)

    def free_memory(self) -> None:
        """Return unused memory that the library keeps for later to the device."""

    # What follows from these.

    def __repr__(self) -> str:
        return f"<nnx backend {self.name}, device {self.device}, {self.dtype_name}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def __reduce__(self) -> Any:
        """Pickle what it was connected with."""
        return connected, (type(self), self.device_spec, self.dtype_name)

    @property
    def version(self) -> str:
        """The version of the array library, "unknown" if it does not tell."""
        for name in (self.library, self.library.partition(".")[0]):
            if version := getattr(importlib.import_module(name), "__version__", None):
                return str(version)
        return "unknown"

    @property
    def spec(self) -> str:
        """The name that selects this backend and device: "cupy:1"."""
        return f"{self.name}:{self.device_spec}" if self.device_spec else self.name

    @property
    def integer_dtype(self) -> Any:
        """The library's default integer type, used for labels and indices."""
        return self.xp.__array_namespace_info__().default_dtypes(device=self.device)["integral"]

    @functools.cached_property
    def small_dtypes(self) -> dict[str, Any]:
        """The types of integers and booleans that take less memory than `dtype`, by name."""
        size, known = np.dtype(self.dtype_name).itemsize, self.dtypes
        names = [name for name in known if name.startswith(("bool", "int", "uint8"))]
        return {name: known[name] for name in names if np.dtype(name).itemsize < size}

    @property
    def dtypes(self) -> dict[str, Any]:
        """The types that the library has on this device, by name."""
        return self.xp.__array_namespace_info__().dtypes(device=self.device)

    def same_place(self, other: Backend) -> bool:
        """Return whether library, device and dtype are the same, however they were named."""
        mine, theirs = ((b.name, b.device, b.dtype_name) for b in (self, other))
        return mine == theirs

    def owns(self, array: Any) -> bool:
        """Return whether this is an array of this backend's library."""
        return isinstance(array, self.array_types)

    def asarray(self, data: Any, dtype: Any = None) -> Array:
        """Return an array of this backend, on its device, from host data or from one of its own.

        Host data is a NumPy array or what NumPy can convert (lists, numbers). Floating-point data
        takes the backend's dtype, integers the library's default integer type, unless `dtype` is
        given. The type is changed on the host, so that the bits do not depend on the library. Host
        memory may be shared if the device is the host.

        Raises:
            BackendError: the data is an array of another library.
            TypeError: the data is not numeric.
            ValueError: the data is a list of rows of different lengths.
        """
        own = self.owns(data)
        if not own and is_array(data) and not isinstance(data, np.ndarray | np.generic):
            raise BackendError(
                f"expected NumPy data or arrays of backend {self.name!r}, got {describe(data)}",
                "pass NumPy data, or convert it first: nnx.to_numpy(array)",
            )
        if not own or isinstance(data, np.ndarray | np.generic):
            data = host_numbers("asarray", data)
        if own:
            return self.xp.asarray(data, dtype=self._own_dtype(data, dtype), device=self.device)
        return self.from_numpy(data.astype(self._host_dtype(data, dtype), copy=False))

    def copy_of(self, array: Array, source: Backend) -> Array:
        """Return a new array of this backend with the values of an array of another."""
        return self.asarray(np.array(source.to_numpy(array)))

    def _own_dtype(self, array: Array, dtype: Any) -> Any:
        if dtype is not None:
            return dtype
        return self.integer_dtype if self.xp.isdtype(array.dtype, "integral") else self.dtype

    def _host_dtype(self, host: np.ndarray, dtype: Any) -> np.dtype[Any]:
        if dtype is None:
            dtype = self.integer_dtype if host.dtype.kind in "iu" else self.dtype
        return self.host_dtype(dtype)

    def host_dtype(self, dtype: Any) -> np.dtype[Any]:
        """Return NumPy's type of the same name as one of the library's.

        Raises:
            BackendError: the library has no such type on this device.
        """
        known = self.dtypes
        for name, own in known.items():
            if own == dtype:
                return np.dtype(name)
        raise BackendError(
            f"backend {self.name!r} has no dtype {dtype!r} on device {self.device}",
            f"use one of its own: {', '.join(known)}",
        )


@functools.cache
def connected(kind: type[Backend], device: str | None, dtype: str) -> Backend:
    """Return the one backend of this class on this device with this dtype.

    Raises:
        BackendError: it cannot be used here, whatever error its class or its library raised.
    """
    try:
        return kind(device, dtype)
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(
            f"backend {kind.name!r} cannot be connected: {type(error).__name__}: {error}",
            f"check the installation of {kind.library}; the backend is {kind.__qualname__} in "
            f"{kind.__module__}",
        ) from error


def host_numbers(owner: str, data: Any) -> np.ndarray:
    """Return host data as a NumPy array of real numbers.

    Raises:
        TypeError: text, None, complex numbers or other objects.
        ValueError: a list of rows of different lengths.
    """
    try:
        host = np.asarray(data)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(
            f"{owner}: expected rows of equal length, got {reprlib.repr(data)}; pad shorter ones"
        ) from None
    # Types of other packages, such as bfloat16, are of kind "V" as structured types are.
    if host.dtype.kind in "biuf" or (host.dtype.kind == "V" and host.dtype.type is not np.void):
        return host
    what = {"O": "objects", "U": "text", "S": "bytes", "c": "complex numbers"}
    cast = "numpy.real(data)" if host.dtype.kind == "c" else "numpy.asarray(data, dtype=float)"
    raise TypeError(
        f"{owner}: expected an array or real numbers, got {what.get(host.dtype.kind, host.dtype)}: "
        f"{reprlib.repr(data)}; convert it first, for example {cast}"
    )
