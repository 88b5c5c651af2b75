"""What several backends share when their device is the host."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nnx.backend import BackendError, Memory, Problem

# fenv_t of the C library, and in it the control register of the floating-point unit (Intel's
# Software Developer's Manual, volume 1, 10.2.3).
X86_64_LINUX = ("linux", "x86_64")
FENV_SIZE, MXCSR = 32, slice(28, 32)
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6

# Options of glibc's mallopt. The second is 32 MiB at most.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, FROM_HEAP = 256 << 20, 32 << 20


def host_memory() -> Memory | None:
    """Return free and total memory of the host, or None if the operating system does not tell.

    What the system keeps of files and would give back is free; a container has what it may use.
    """
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * page
        free = os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):
        return None
    with suppress(OSError, ValueError, IndexError):
        known = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2]
        free = int(known.split()[0]) * 1024
    for limit, used in control_groups():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return Memory(free, total)


def control_groups(root: Path = Path("/")) -> Iterator[tuple[int, int]]:
    """Yield how many bytes the control groups of this process may have, and have without files.

    A container is such a group, and a job of a cluster is one in others: each of them has a limit.
    Linux has two versions of them (cgroups(7)).

    Args:
        root: where proc and sys are.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        folder, maximum, usage, kept = root / "sys/fs/cgroup", "max", "current", ""
        if "memory" in kinds.split(","):
            folder, kept = folder / "memory", "total_"
            maximum, usage = "limit_in_bytes", "usage_in_bytes"
        elif kinds:
            continue
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            place = folder / str(group).lstrip("/")
            with suppress(OSError, ValueError):  # it is not there, or its maximum is "max"
                limit = int((place / f"memory.{maximum}").read_text())
                used = int((place / f"memory.{usage}").read_text())
                rows = (place / "memory.stat").read_text().splitlines()
                stat = dict(row.split() for row in rows)
                files = (stat.get(f"{kept}{of}_file", 0) for of in ("active", "inactive"))
                yield limit, used - sum(map(int, files))


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    """Make this thread treat numbers below the smallest normal number as 0, for a block.

    A processor takes up to a hundred times longer with them, and averages that decay reach them
    (Adam's, once a gradient is 0). GPUs always flush them. This works without compiled code only
    on Linux with an x86-64 processor; elsewhere nothing changes.
    """
    libm, before = _libm(), ctypes.create_string_buffer(FENV_SIZE)
    if libm is None or libm.fegetenv(before) != 0:
        yield
        return
    flushing = bytearray(before.raw)
    control = int.from_bytes(flushing[MXCSR], "little") | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO
    flushing[MXCSR] = control.to_bytes(4, "little")
    libm.fesetenv(ctypes.create_string_buffer(bytes(flushing), FENV_SIZE))
    try:
        yield
    finally:
        libm.fesetenv(before)


@functools.cache
def _libm() -> Any:
    """Return the C library if its layout of the control register is known, else None."""
    if (sys.platform, platform.machine()) != X86_64_LINUX:
        return None
    for dtype in (np.float32, np.float64):
        np.finfo(dtype)  # computed once, with a warning if numbers are flushed by then
    try:
        libm = ctypes.CDLL(None)
        return libm if hasattr(libm, "fegetenv") and hasattr(libm, "fesetenv") else None
    except OSError:
        return None


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep up to 256 MiB of freed memory for its next arrays.

    The C library returns it to the system early, and gets other pages, one fault for each 4 KiB:
    a third of a training step of a LeNet on NumPy. `return_freed_memory` returns it. Only glibc,
    that of most Linux systems, can be told so; elsewhere nothing changes.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, FROM_HEAP)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)


def return_freed_memory() -> None:
    """Return freed memory to the system, if the C library is glibc."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """Return the C library if it is glibc, else None."""
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except OSError:
        return None


def missing(library: str, extra: str, error: ImportError) -> BackendError:
    """Return the error of a library that cannot be imported, with the pip line that fixes it."""
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return BackendError(f"{library} is not installed", f'pip install "nnx-array[{extra}]"')
    return BackendError(
        f"{library} is installed but cannot be imported: {error}",
        f"reinstall {library} for this Python",
    )


def cores() -> int:
    """Return how many cores this process may use, by its affinity and its container's quota."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        allowed = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(allowed, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup, or "max"
        return allowed


def too_many_threads(owner: str, threads: int, remedy: str) -> list[Problem]:
    """Report threads without a core of their own: they can slow a small product 20 times."""
    if threads <= cores():
        return []
    reason = f"{owner} uses {threads} threads, and this process may use {cores()} cores"
    return [Problem(reason, remedy)]
