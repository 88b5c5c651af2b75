"""What several backends share when their device is the host."""

from __future__ import annotations

import os

from nnx.backend import BackendError, Memory


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
