"""The one setting: on which backend arrays are born.

The mathematics never asks for it; it follows its arguments through `array_namespace`.
"""

from __future__ import annotations

import functools
import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from nnx.backend.contract import NO_CHANGE, Backend, Memory, connected, host_numbers
from nnx.backend.errors import BackendError, OutOfMemoryError
from nnx.backend.installed import backend_names, installed_backends, load
from nnx.backend.namespace import describe, is_array, owner_of

__all__ = [
    "BackendStatus",
    "available_backends",
    "born_on_device",
    "get_backend",
    "on_device",
    "resolve",
    "set_backend",
    "to_numpy",
    "use_backend",
    "working_on",
]


Method = TypeVar("Method", bound=Callable[..., Any])


class _Setting:
    """The backend of the process, and that of the current block."""

    def __init__(self) -> None:
        self.process: Backend | None = None
        self.block: ContextVar[Backend | None] = ContextVar("nnx_backend", default=None)


_setting = _Setting()


def set_backend(backend: str | Backend | None = None, dtype: str | None = None) -> Backend:
    """Choose the backend of this process: `set_backend("cupy")`.

    Args:
        backend: a name, optionally with a device after a colon: "numpy", "cupy", "cupy:1",
            "torch:cuda:0", "jax", "strict"; or a `Backend`. None takes the environment variable
            NNX_BACKEND, else "numpy".
        dtype: "float32" or "float64". None takes NNX_DTYPE, else "float32".

    Returns:
        The backend. Existing networks stay where they are; new ones are made on it.

    Raises:
        BackendError: it is unknown or cannot be used here; the message says what to do.
            Nothing falls back to another backend.
        TypeError: an argument is of another type.
    """
    _setting.process = resolve(backend, dtype)
    get_backend().select()
    return _setting.process


@contextmanager
def use_backend(backend: str | Backend, dtype: str | None = None) -> Iterator[Backend]:
    """Choose the backend of a block: `with nnx.use_backend("numpy"): ...`.

    It is a context variable: other threads and tasks do not see it. Arguments and errors are
    those of `set_backend`.
    """
    if backend is None:
        raise TypeError(f"use_backend: {_EXPECTED}, got None")
    chosen = resolve(backend, dtype)
    token = _setting.block.set(chosen)
    try:
        with chosen.selected():
            yield chosen
    finally:
        _setting.block.reset(token)


class working_on:  # noqa: N801 (used as a function; as a class it takes a third of the time)
    """Use a backend for a block of work that may need more memory than the device has.

    Raises:
        OutOfMemoryError: it did. What the work had allocated is free again.
    """

    __slots__ = ("_backend", "_selected", "_token")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __enter__(self) -> Backend:
        backend = self._backend
        self._selected = backend.selected()
        if self._selected is not NO_CHANGE:  # it is asked before every prediction
            self._selected.__enter__()
        self._token = _setting.block.set(self._backend)
        return self._backend

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        _setting.block.reset(self._token)
        if self._selected is not NO_CHANGE:
            self._selected.__exit__(kind, error, trace)
        ours = isinstance(error, Exception) and not isinstance(error, OutOfMemoryError)
        if ours and self._backend.is_out_of_memory(error):  # type: ignore[arg-type]
            raise _out_of_memory(self._backend, error) from None  # type: ignore[arg-type]


def _out_of_memory(backend: Backend, error: Exception) -> OutOfMemoryError:
    """Free what the work had allocated; return the error that says so."""
    reason = str(error).partition("\n")[0] or type(error).__name__
    memory = backend.memory()
    traceback.clear_frames(error.__traceback__)  # they hold arrays
    gc.collect()  # a network and its plan hold each other
    backend.free_memory()
    free = f"; free: {memory.free:,} of {memory.total:,} bytes" if memory else ""
    return OutOfMemoryError(
        f"out of memory on {backend.device_name()}: {reason}{free}\n"
        "  use a smaller batch_size, predict and score in smaller batches, use dtype float32, or "
        "keep the data on the host (on_device=False); the network can still be used"
    )


def on_device(method: Method) -> Method:
    """Return the method, run with the device of its object's `backend` as the current one."""

    @functools.wraps(method)
    def run(self: Any, *arguments: Any, **options: Any) -> Any:
        with self.backend.selected():
            return method(self, *arguments, **options)

    return run  # type: ignore[return-value]


def born_on_device(constructor: Method) -> Method:
    """Return the constructor, run with the device on which arrays are born as the current one.

    A thread of its own starts on another device, whatever `set_backend` has said before.
    """

    @functools.wraps(constructor)
    def run(self: Any, *arguments: Any, **options: Any) -> None:
        with get_backend().selected():
            constructor(self, *arguments, **options)

    return run  # type: ignore[return-value]


def get_backend() -> Backend:
    """Return the backend on which arrays are born now.

    It is that of the innermost `use_backend`, else of `set_backend`, else of the environment
    variable NNX_BACKEND, else NumPy.
    """
    chosen = _setting.block.get() or _setting.process
    if chosen is None:
        chosen = _setting.process = resolve(None)
        chosen.select()
    return chosen


def resolve(backend: str | Backend | None, dtype: str | None = None) -> Backend:
    """Return the backend that a name means, without choosing it; see `set_backend`."""
    if dtype is not None and not isinstance(dtype, str):
        name = getattr(dtype, "__name__", str(dtype)).rpartition(".")[2]
        raise TypeError(
            f"expected the dtype of a backend as text, got {dtype!r}; "
            f'use "{name if name in ("float32", "float64") else "float32"}"'
        )
    if isinstance(backend, Backend):
        if dtype is None or dtype == backend.dtype_name:
            return backend
        kind: Any = type(backend)
        return connected(kind, backend.device_spec, dtype)
    if backend is not None and not isinstance(backend, str):
        raise TypeError(f"{_EXPECTED}, got {backend!r}")
    if backend is None:
        backend = os.environ.get("NNX_BACKEND") or "numpy"
    name, _, device = backend.partition(":")
    return _by_name(name, device or None, dtype or os.environ.get("NNX_DTYPE") or "float32")


@functools.cache  # reading the entry points takes milliseconds
def _by_name(name: str, device: str | None, dtype: str) -> Backend:
    kind: Any = load(name)
    return connected(kind, device, dtype)


_EXPECTED = 'expected the name of a backend such as "numpy" or "cupy:1", or a Backend'


def to_numpy(array: Any) -> np.ndarray:
    """Return a new NumPy array of the same values, whichever backend the array belongs to.

    Raises:
        BackendError: the array belongs to a library that no backend is for.
        TypeError: neither an array nor numbers.
    """
    if isinstance(array, np.ndarray | np.generic) or not is_array(array):
        return np.array(host_numbers("to_numpy", array))
    backend = owner_of(array)
    if backend is None:
        library = type(array).__module__.partition(".")[0]
        for name, kind in installed_backends().items():
            if kind.library.partition(".")[0] == library:
                backend = resolve(name)
                break
        else:
            raise BackendError(
                f"no installed backend is for {describe(array)}; "
                f"installed are {', '.join(backend_names())}",
                "convert it with its own library, for example numpy.asarray(array)",
            )
    return np.array(backend.to_numpy(array))


@dataclass(frozen=True)
class BackendStatus:
    """One line of `available_backends`: what works here, or the reason and the remedy."""

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
        return f"{self.name}: {self.reason}\n  {self.remedy}".rstrip()


def available_backends() -> dict[str, BackendStatus]:
    """Return the status of every installed backend by name, with reason and remedy if unusable.

    This imports the libraries of all of them, which takes seconds.
    """
    return {name: _status(name) for name in backend_names()}


def _status(name: str) -> BackendStatus:
    try:
        backend = resolve(name, "float32")
        return BackendStatus(name, True, backend.version, backend.device_name(), backend.memory())
    except BackendError as error:
        return BackendStatus(name, False, reason=error.reason, remedy=error.remedy)
    except Exception as error:  # one broken backend must not hide the others
        reason = f"it was connected, but raises {type(error).__name__}: {error}"
        remedy = f"check version, device_name and memory of {type(backend).__qualname__}"
        return BackendStatus(name, False, reason=reason, remedy=remedy)
