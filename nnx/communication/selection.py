"""Which communicator: by name, by the backend, from the entry points "nnx.communicators"."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
from typing import Any

from nnx.backend import get_backend
from nnx.checks import number
from nnx.communication.contract import CommunicationError, Communicator, SingleProcess

__all__ = ["communicator", "installed_communicators", "launched", "local_rank"]

ENTRY_POINT_GROUP = "nnx.communicators"
# What launchers tell each process: Open MPI, MPICH and Intel MPI, PMIx, MVAPICH, Slurm.
RANKS = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID"]
LOCAL_RANKS = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK"]
LOCAL_RANKS += ["SLURM_LOCALID", "LOCAL_RANK"]


def communicator(name: str | None = None, *, timeout: float = 1800.0) -> Communicator:
    """Return what connects this process with the others that train the same network.

    Args:
        name: "mpi", "nccl", or what a distribution publishes. None means one process if no launcher
            has started this one; else "nccl" for a backend on GPUs that it knows, and "mpi" for the
            others.
        timeout: seconds after which a process that waits for the others ends all of them, > 0.

    Raises:
        CommunicationError: it is unknown, or its library is missing; with the pip line.
        TypeError, ValueError: an argument does not fit.
    """
    timeout = number("communicator", "timeout", timeout, "> 0")
    if name is None:
        if not launched():
            return SingleProcess()
        name = get_backend().communicator
    if not isinstance(name, str):
        raise TypeError(
            f'communicator: expected the name of a communicator, got {name!r}; write "mpi", '
            '"nccl" or None'
        )
    known: dict[str, Any] = _entry_points()
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1)
        raise CommunicationError(
            f"communicator: expected one of {', '.join(known) or 'those installed'}, got {name!r}; "
            + (f"did you mean {close[0]!r}?" if close else "install the distribution that has it")
        )
    try:
        kind = known[name].load()
    except Exception as error:  # code of a third party may raise anything
        raise CommunicationError(
            f"communicator: {name!r} ({known[name].value}) cannot be loaded: "
            f"{type(error).__name__}: {error}; reinstall {known[name].dist.name}"
        ) from error
    return kind(timeout=timeout)


def installed_communicators() -> list[str]:
    """Return the names of those that distributions publish."""
    return list(_entry_points())


def launched() -> bool:
    """Return whether a launcher of several processes has started this one."""
    return any(name in os.environ for name in RANKS)


def local_rank() -> int:
    """Return the index of this process among those on its machine, as the launcher says; else 0."""
    for name in LOCAL_RANKS:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}
