"""What a backend is, and the one setting that chooses it.

A backend is an array library on a device with a floating-point type. The setting decides where
arrays are *born* (parameters, data); the mathematics never asks for it, it follows its arguments
through `array_namespace`.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import array_api_compat
import numpy as np

__all__ = [
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
    "get_backend",
    "installed_backends",
    "masked",
    "replace_namespace",
    "resolve",
    "set_backend",
    "to_numpy",
    "use_backend",
    "working_on",
]

Array = Any  # an array of any library; its namespace says which

ENTRY_POINT_GROUP = "nnx.backends"


class BackendError(RuntimeError):
    """A backend that cannot be used, or arrays of two backends in one formula.

    `reason` says what is wrong, `remedy` what to do about it.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}\n  {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class OutOfMemoryError(MemoryError):
    """The memory of a device is used up: what was asked, what is used and free, what to do."""


class HostReadError(RuntimeError):
    """The host has read a value of the device where that is forbidden."""


class Problem(NamedTuple):
    """Something on this machine that should be mended: what it is, and how."""

    reason: str
    remedy: str


class Memory(NamedTuple):
    """Free and total memory of a device, in bytes."""

    free: int
    total: int


class Backend:
    """An array library, a device and a floating-point type; subclasses live outside `nnx`.

    A subclass says its `name` and `library` and writes `connect`; it is published as an entry
    point of the group "nnx.backends" and so found by name.

    Attributes:
        name: the name that selects it.
        library: the import name of its library.
        xp: the Array API namespace.
        device: the library's own device object, for `device=` in creation functions.
        dtype: the floating-point type of parameters and data.
        mutable: may arrays be written in place, and are slices and reshapes of them views?
        block: how many elements an optimizer rule should touch at a time; None means all.
        slow_where: is `where` much slower than a product? See `masked`.
        test_specs: what tests run on, where they run on every backend; its name if empty.
        watched: the name and device on which `forbid_reads` notices a read, or None.
    """

    name: ClassVar[str]
    library: ClassVar[str]
    mutable: bool = True
    block: int | None = None
    slow_where: bool = False
    test_specs: ClassVar[tuple[str, ...]] = ()
    watched: ClassVar[str | None] = None

    def __init__(self, device: str | None = None, dtype: str = "float32") -> None:
        self.device_spec = device
        self.xp, self.device = self.connect(device, dtype)
        info = self.xp.__array_namespace_info__()
        known = info.dtypes(device=self.device, kind="real floating")
        if dtype not in known:
            raise BackendError(
                f"backend {self.name!r} has no dtype {dtype!r} on device {self.device}; "
                f"it has {', '.join(sorted(known))}",
                "choose one of those: nnx.set_backend(..., dtype=...) or NNX_DTYPE",
            )
        self.dtype = known[dtype]
        self.dtype_name = dtype
        if self.slow_where:
            _slow_where.setdefault(self.xp, set()).add(self.device)

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        """Import the library and find the device: the Array API namespace and the device object.

        Args:
            device: what follows the colon in "cupy:1", or None for the library's own default.
            dtype: the floating-point type that will be asked for, by name.

        Raises:
            BackendError: the library or the device is missing; it carries the remedy.
        """
        raise NotImplementedError(f"{type(self).__name__} must define connect(device, dtype)")

    def select(self) -> None:
        """Make the device the library's current one, where it has such a thing.

        Called whenever this backend becomes the chosen one.
        """

    def __repr__(self) -> str:
        return f"<nnx backend {self.name}, device {self.device}, {self.dtype_name}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def __reduce__(self) -> Any:
        """It is pickled as what selects it."""
        return resolve, (self.spec, self.dtype_name)

    @property
    def version(self) -> str:
        """The version of the array library."""
        return str(importlib.import_module(self.library).__version__)

    @property
    def spec(self) -> str:
        """What selects this backend and device: "cupy:1"."""
        return f"{self.name}:{self.device_spec}" if self.device_spec else self.name

    def same_place(self, other: Backend) -> bool:
        """Is it the same library, device and dtype, however they were named?"""
        mine, theirs = ((b.name, b.device, b.dtype_name) for b in (self, other))
        return mine == theirs

    def device_name(self) -> str:
        """What a person calls the device."""
        return str(self.device)

    def facts(self) -> dict[str, str]:
        """What else a bug report should say: drivers, threads, precision of products."""
        return {}

    def problems(self) -> list[Problem]:
        """What is likely to be slow or wrong on this machine though the backend works."""
        return []

    def memory(self) -> Memory | None:
        """Free and total memory of the device in bytes; None where the library cannot tell."""
        return None

    def is_out_of_memory(self, error: Exception) -> bool:
        """Is this how the library says that the device's memory is used up?"""
        return isinstance(error, MemoryError)

    def free_memory(self) -> None:
        """Give back what the library keeps for later, where it keeps anything."""

    def owns(self, array: Any) -> bool:
        """Is this an array of this backend's library?"""
        return array_api_compat.is_array_api_obj(array) and array_namespace(array) is _replaced.get(
            self.xp, self.xp
        )

    def asarray(self, data: Any, dtype: Any = None) -> Array:
        """An array of this backend, on its device, from host data or from an array of its own.

        Host data is a NumPy array or what NumPy makes one of (lists, numbers). Floating-point
        data takes the backend's dtype, integers the library's default integer type, unless
        `dtype` says otherwise. The type is changed on the host, so that the bits do not depend on
        the library. Host memory may be shared where the device is the host.

        Raises:
            BackendError: the data is an array of another library.
        """
        if not self.owns(data):
            if array_api_compat.is_array_api_obj(data) and not isinstance(
                data, np.ndarray | np.generic
            ):
                raise BackendError(
                    f"expected NumPy data or arrays of backend {self.name!r}, "
                    f"got {_describe(data)}",
                    "pass NumPy data, or convert it first: nnx.to_numpy(array)",
                )
            host = np.asarray(data)
            return self.from_numpy(host.astype(self._host_dtype(host, dtype), copy=False))
        return self.xp.asarray(data, dtype=self._own_dtype(data, dtype), device=self.device)

    def from_numpy(self, host: np.ndarray) -> Array:
        """The array on this backend's device with the host array's type and values."""
        return self.xp.asarray(host, device=self.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        """A NumPy array of the same values: the host waits for the device."""
        return np.asarray(array)

    def copy_of(self, array: Array, source: Backend) -> Array:
        """A new array of this backend with the values of an array of another."""
        return self.asarray(np.array(source.to_numpy(array)))

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step compiled, where the library traces; else the step itself."""
        return step

    def compile_loop(self, step: Callable[..., Any]) -> Callable[..., Any] | None:
        """A compiled loop over steps, where the library traces; else None.

        A step is a function (carry, row, data) -> (carry, output) of arrays in dicts, lists and
        tuples. The loop takes the first carry, rows that are stacked along the first axis, and
        the data; it returns the last carry and the stacked outputs. Its arguments stay usable.
        """
        return None

    def fuse_rule(self, rule: Callable[..., Any], states: int) -> Callable[..., None] | None:
        """An optimizer's rule with so many state arrays as one kernel that writes in place.

        fused(p, g, state, factors) leaves in p and state what the rule returns, computed by the
        rule's own formulas. None where an operation costs no kernel launch.
        """
        return None

    def rehearse(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function on the shapes of its arguments alone, where the library traces."""
        raise NotImplementedError(f"backend {self.name!r} does not trace")

    def gradient(
        self, function: Callable[..., Array], arrays: Sequence[Array]
    ) -> list[Array] | None:
        """The gradients of a 0-d function(*arrays) by the library's automatic differentiation.

        One for each array, of its shape; None where the library does not differentiate.
        """
        return None

    def forbid_reads(self) -> AbstractContextManager[None] | None:
        """A block in which the host must not read a value: one that does raises HostReadError.

        None where a read cannot be noticed on this device; `watched` names one where it can.
        """
        return None

    def fast_arithmetic(self) -> AbstractContextManager[None]:
        """A block in which numbers too small for the full precision of the dtype may count as 0.

        On a GPU they always do, and the processor of a host is slow with them.
        """
        return nullcontext()

    def for_tests(self) -> AbstractContextManager[None]:
        """A block in which the library refuses as much as it can, for a test."""
        return nullcontext()

    def count_operations(self, count: Callable[[str], None]) -> AbstractContextManager[None] | None:
        """A block in which count(name) is called for every array operation; None if it cannot."""
        return None

    @property
    def integer_dtype(self) -> Any:
        """The library's default integer type, of labels and indices."""
        return self.xp.__array_namespace_info__().default_dtypes(device=self.device)["integral"]

    def _own_dtype(self, array: Array, dtype: Any) -> Any:
        if dtype is not None:
            return dtype
        return self.integer_dtype if self.xp.isdtype(array.dtype, "integral") else self.dtype

    def _host_dtype(self, host: np.ndarray, dtype: Any) -> np.dtype[Any]:
        if dtype is None:
            dtype = self.integer_dtype if host.dtype.kind in "iu" else self.dtype
        known = self.xp.__array_namespace_info__().dtypes(device=self.device)
        for name, own in known.items():
            if own == dtype:
                return np.dtype(name)
        raise BackendError(
            f"backend {self.name!r} has no dtype {dtype!r} on device {self.device}",
            f"it has {', '.join(known)}",
        )


@dataclass(frozen=True)
class BackendStatus:
    """One line of `available_backends`: what works here, and why not where it does not."""

    name: str
    usable: bool
    version: str = ""
    device: str = ""
    memory: Memory | None = None
    reason: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        if self.usable:
            return f"{self.name} {self.version} on {self.device}"
        return f"{self.name}: {self.reason}\n  {self.remedy}"


_context: ContextVar[Backend | None] = ContextVar("nnx_backend", default=None)
_process: Backend | None = None
_made: dict[tuple[str, str | None, str], Backend] = {}


def set_backend(backend: str | Backend | None = None, dtype: str | None = None) -> Backend:
    """Choose the backend of this process: `set_backend("cupy")`.

    Args:
        backend: a name, with a device after a colon where wanted: "numpy", "cupy", "cupy:1",
            "torch:cuda:0", "jax", "strict"; or a `Backend`. None is what NNX_BACKEND says, else
            "numpy".
        dtype: "float32" (the default, or what NNX_DTYPE says) or "float64".

    Returns:
        The backend. Networks that exist stay where they are; new ones are born on it.

    Raises:
        BackendError: it is unknown or cannot be used here; the message says what to do.
            Nothing falls back to another backend.
    """
    global _process
    _process = resolve(backend, dtype)
    get_backend().select()
    return _process


@contextmanager
def use_backend(backend: str | Backend | None, dtype: str | None = None) -> Iterator[Backend]:
    """The same choice for a block: `with nnx.use_backend("numpy"): ...`.

    It is a context variable: other threads and tasks do not see it.
    """
    chosen = resolve(backend, dtype)
    token = _context.set(chosen)
    try:
        chosen.select()
        yield chosen
    finally:
        _context.reset(token)
        if outer := _context.get() or _process:
            outer.select()


@contextmanager
def working_on(backend: Backend) -> Iterator[Backend]:
    """`use_backend` for a piece of work that may need more memory than the device has.

    Raises:
        OutOfMemoryError: it did. What the work had allocated is free again.
    """
    with use_backend(backend):
        try:
            yield backend
            return
        except Exception as error:
            if isinstance(error, OutOfMemoryError) or not backend.is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0] or type(error).__name__
            memory = backend.memory()
            traceback.clear_frames(error.__traceback__)  # they hold arrays
    backend.free_memory()
    free = f"; free: {memory.free:,} of {memory.total:,} bytes" if memory else ""
    raise OutOfMemoryError(
        f"out of memory on {backend.device_name()}: {reason}{free}\n"
        "  take a smaller batch_size, predict and score in smaller batches, use dtype float32, or "
        "train on a part of the data at a time; the network can still be used"
    )


def get_backend() -> Backend:
    """The backend on which arrays are born now.

    It is that of the innermost `use_backend`, else of `set_backend`, else of the environment
    variable NNX_BACKEND, else NumPy.
    """
    global _process
    chosen = _context.get() or _process
    if chosen is None:
        chosen = _process = resolve(None)
        chosen.select()
    return chosen


def available_backends() -> dict[str, BackendStatus]:
    """Every installed backend by name, with the reason and the remedy where it is not usable.

    This imports the libraries of all of them, which takes seconds.
    """
    return {name: _status(name) for name in _entry_points()}


def installed_backends() -> dict[str, type[Backend]]:
    """The class of every installed backend by name; their libraries are not imported."""
    return {name: entry.load() for name, entry in _entry_points().items()}


def to_numpy(array: Any) -> np.ndarray:
    """A new NumPy array of the same values, whichever backend the array belongs to."""
    if isinstance(array, np.ndarray | np.generic) or not array_api_compat.is_array_api_obj(array):
        return np.array(array)
    for backend in [get_backend(), *_made.values()]:
        if backend.owns(array):
            return np.array(backend.to_numpy(array))
    for name, kind in installed_backends().items():
        if type(array).__module__.partition(".")[0] == kind.library:
            return np.array(resolve(name).to_numpy(array))
    raise BackendError(
        f"no backend in use knows {_describe(array)}",
        "choose its backend first: nnx.set_backend(...)",
    )


_namespaces: dict[type, Any] = {}
_replaced: dict[Any, Any] = {}


def array_namespace(array: Array, *others: Array) -> Any:
    """The Array API namespace of arrays that all belong to one library.

    Raises:
        BackendError: two of them belong to different libraries; the message names both.
    """
    kind = type(array)
    for other in others:
        if type(other) is not kind and _namespace(type(other), other) is not _namespace(
            kind, array
        ):
            raise BackendError(
                f"{_describe(array)} and {_describe(other)} in one formula: "
                "nnx never converts inside the mathematics",
                "move one of them first: net.to(...), nnx.get_backend().asarray(...), "
                "or nnx.to_numpy(...)",
            )
    try:
        return _namespaces[kind]  # a step asks dozens of times, and the full question takes 1 us
    except KeyError:
        return _namespace(kind, array)


def _namespace(kind: type, array: Array) -> Any:
    """A look-up by type."""
    try:
        return _namespaces[kind]
    except KeyError:
        try:
            namespace = array_api_compat.array_namespace(array)
        except TypeError:
            raise BackendError(
                f"expected an array of an Array API library, got {_describe(array)}",
                "make one first: nnx.get_backend().asarray(...)",
            ) from None
        namespace = _replaced.get(namespace, namespace)
        _namespaces[kind] = namespace
        return namespace


def replace_namespace(namespace: Any, by: Any) -> None:
    """Let a backend's own form of a library's namespace take its place everywhere."""
    _replaced[namespace] = by
    for kind in [kind for kind, known in _namespaces.items() if known is namespace]:
        _namespaces[kind] = by


def add_array_type(kind: type, namespace: Any) -> None:
    """What stands for arrays of a library while it traces is treated as these."""
    _namespaces[kind] = namespace


_slow_where: dict[Any, set[Any]] = {}  # namespace -> devices


def masked(mask: Array, x: Array) -> Array:
    """x where the mask is true, else 0: the cheaper one of `where` and a product, both exact.

    `where` is one kernel on a GPU, where a product with a mask would be two. On a processor it
    may be a branch for every number, and take 5 (PyTorch) to 15 times (NumPy) as long as the
    product. (They differ where x is infinite or NaN: a product keeps NaN.)
    """
    xp = array_namespace(x)
    if xp in _slow_where and x.device in _slow_where[xp]:
        factor = xp.astype(mask, x.dtype)
        factor *= x
        return factor
    return xp.where(mask, x, 0.0)


def _describe(array: Any) -> str:
    kind = type(array)
    return f"a {kind.__module__.partition('.')[0]} {kind.__name__}"


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}


def resolve(backend: str | Backend | None, dtype: str | None = None) -> Backend:
    """The backend that a name means, without choosing it; see `set_backend`."""
    if isinstance(backend, Backend):
        if dtype is None or dtype == backend.dtype_name:
            return backend
        return type(backend)(backend.device_spec, dtype)
    backend = backend or os.environ.get("NNX_BACKEND") or "numpy"
    name, _, device = backend.partition(":")
    dtype = dtype or os.environ.get("NNX_DTYPE") or "float32"
    key = (name, device or None, dtype)
    if key not in _made:
        _made[key] = _load(name)(device or None, dtype)
    return _made[key]


def _load(name: str) -> Callable[[str | None, str], Backend]:
    entries = _entry_points()
    if name in entries:
        factory: Callable[[str | None, str], Backend] = entries[name].load()
        return factory
    if not entries:
        raise BackendError(
            "no backends are installed: this nnx runs from a folder that was never installed",
            "in that folder: pip install -e .",
        )
    close = difflib.get_close_matches(name, entries, n=1)
    raise BackendError(
        f"unknown backend {name!r}; known are {', '.join(entries)}",
        f"did you mean {close[0]!r}?" if close else "run `nnx backends` for what works here",
    )


def _status(name: str) -> BackendStatus:
    try:
        backend = resolve(name, "float32")
        return BackendStatus(name, True, backend.version, backend.device_name(), backend.memory())
    except BackendError as error:
        return BackendStatus(name, False, reason=error.reason, remedy=error.remedy)
    except Exception as error:  # a broken installation of a library must not hide the others
        return BackendStatus(
            name, False, reason=f"{type(error).__name__}: {error}", remedy="reinstall its library"
        )
