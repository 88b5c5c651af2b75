"""What several backends share when their device is the host."""

from __future__ import annotations

import math
import os
from pathlib import Path

from nnx.backend import BackendError, Memory, Problem


def host_memory() -> Memory | None:
    """Free and total memory of the host, where the operating system tells."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return Memory(os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page)
    except (AttributeError, ValueError, OSError):
        return None


def missing(library: str, extra: str, error: ImportError) -> BackendError:
    """The one error of a library that cannot be imported, with the pip line that mends it."""
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return BackendError(f"{library} is not installed", f'pip install "nnx-array[{extra}]"')
    return BackendError(
        f"{library} is installed but cannot be imported: {error}",
        f"mend or reinstall {library} for this Python",
    )


def cores() -> int:
    """How many cores this process may use: its affinity, and the quota of a container."""
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
    """Threads that wait for each other's core can make a small product 20 times slower."""
    if threads <= cores():
        return []
    reason = f"{owner} uses {threads} threads, and this process may use {cores()} cores"
    return [Problem(reason, remedy)]
