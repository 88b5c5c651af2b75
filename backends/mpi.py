"""MPI, by mpi4py: sums of host arrays, and of arrays on a GPU if the MPI library takes them."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from nnx.backend import Array, Backend
from nnx.communication import CommunicationError, Communicator

INSTALL = 'pip install "nnx-array[mpi]"'
PATIENCE = 0.002  # seconds of looking again and again, before a waiting process lets others work


class MPICommunicator(Communicator):
    """All processes that an MPI launcher has started.

    An exception that ends one of them ends all. So does a process that waits for longer than the
    timeout, for example because a network is cut.

    Args:
        timeout: seconds.
        gpu: can the MPI library read arrays of a GPU ("CUDA-aware")? They go by the host if not.
    """

    name = "mpi"

    def __init__(self, timeout: float = 1800.0, gpu: bool = False) -> None:
        self.mpi, self.gpu, self.timeout = import_mpi(), gpu, timeout
        self.world = self.mpi.COMM_WORLD.Dup()
        self.rank, self.size = self.world.Get_rank(), self.world.Get_size()
        if self.size > 1:
            self._before = sys.excepthook
            sys.excepthook = self._end_all

    def takes(self, backend: Backend) -> bool:
        return backend.name == "numpy" or (self.gpu and backend.name == "cupy")

    def start_sum(self, array: Array, total: Array) -> Callable[[], Any]:
        if not isinstance(array, np.ndarray):  # MPI reads memory that the GPU may still write
            import cupy

            cupy.cuda.get_current_stream().synchronize()
        request = self.world.Iallreduce(array, total, self.mpi.SUM)

        def wait() -> None:
            self._wait(request, "a sum")
            _ = array, total  # they live until the sum is there

        return wait

    def gather(self, thing: Any) -> list[Any]:
        data = self.mpi.pickle.dumps(thing)
        sizes = np.empty(self.size, np.int64)
        self._wait(self.world.Iallgather(np.array([len(data)]), sizes), "plain objects")
        if not sizes.any():
            return []
        counts, starts = sizes.tolist(), [0, *np.cumsum(sizes)[:-1].tolist()]
        found = bytearray(int(sizes.sum()))
        parts = [found, counts, starts, self.mpi.BYTE]
        self._wait(self.world.Iallgatherv([data, self.mpi.BYTE], parts), "plain objects")
        view = memoryview(found)
        return [
            self.mpi.pickle.loads(view[start : start + count])
            for start, count in zip(starts, counts, strict=True)
        ]

    def broadcast(self, thing: Any) -> Any:
        data = self.mpi.pickle.dumps(thing) if self.rank == 0 else b""
        size = np.array([len(data)])
        self._wait(self.world.Ibcast(size, 0), "what rank 0 sends")
        buffer = bytearray(data) if self.rank == 0 else bytearray(int(size[0]))
        self._wait(self.world.Ibcast([buffer, self.mpi.BYTE], 0), "what rank 0 sends")
        return thing if self.rank == 0 else self.mpi.pickle.loads(buffer)

    def barrier(self) -> None:
        self._wait(self.world.Ibarrier(), "a barrier")

    def abort(self, message: str) -> None:
        print(
            f"nnx: rank {self.rank} of {self.size} on {socket.gethostname()} ends all processes: "
            f"{message}",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        self.world.Abort(1)

    def _wait(self, request: Any, what: str) -> None:
        """Wait until a request is done; end all processes if that takes too long."""
        if request.Test():
            return
        start = time.perf_counter()
        while not request.Test():
            waited = time.perf_counter() - start
            if waited > self.timeout:
                self.abort(
                    f"no answer for {self.timeout:g} seconds, waiting for {what}: another process "
                    "has stopped, or the network between them is cut; if one of them works for so "
                    "long by itself, write nnx.communicator(timeout=...)"
                )
            if waited > PATIENCE:
                os.sched_yield() if hasattr(os, "sched_yield") else time.sleep(0)

    def _end_all(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Show an exception that nobody has caught, and end all processes."""
        self._before(kind, error, trace)
        last = traceback.format_exception_only(kind, error)[-1].strip()
        self.abort(last)


def import_mpi() -> Any:
    """Return mpi4py's module, with MPI started.

    Raises:
        CommunicationError: mpi4py or an MPI library is missing.
    """
    try:
        from mpi4py import MPI
    except ModuleNotFoundError as error:
        if error.name != "mpi4py":
            raise
        raise CommunicationError(f"mpi4py is not installed; {INSTALL}") from error
    except (ImportError, RuntimeError) as error:
        raise CommunicationError(
            f"mpi4py is installed, but finds no MPI library: {str(error).partition(chr(10))[0]}; "
            f"load the module of your cluster, or {INSTALL}, which brings Open MPI"
        ) from error
    return MPI
