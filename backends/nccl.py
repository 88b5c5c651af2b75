"""NCCL, by CuPy: sums of arrays on GPUs, one process for each; MPI carries everything else."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from nnx.backend import Array, Backend, get_backend
from nnx.communication import CommunicationError
from nnx_backends._cuda import import_cupy
from nnx_backends.mpi import MPICommunicator

TYPES = {"float32": "NCCL_FLOAT32", "float64": "NCCL_FLOAT64", "int64": "NCCL_INT64"}


class NCCLCommunicator(MPICommunicator):
    """One process for each GPU: sums go from GPU to GPU, plain objects through MPI.

    The GPU is that of the backend: "cupy" under a launcher is the one with the index of the process
    on its machine. Sums run on a stream of their own, beside the backward that still computes.
    """

    name = "nccl"

    def __init__(self, timeout: float = 1800.0) -> None:
        super().__init__(timeout)
        self.cupy = import_cupy()
        self.nccl = import_nccl()
        backend = get_backend()
        if backend.name != "cupy":
            raise CommunicationError(
                f"nccl: expected the backend of a GPU, got {backend.name!r}; write "
                'nnx.set_backend("cupy") before nnx.communicator(), or take "mpi"'
            )
        identity = self.broadcast(self.nccl.get_unique_id() if self.rank == 0 else None)
        with backend.selected():
            self.sums = self.nccl.NcclCommunicator(self.size, identity, self.rank)
            self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self.running: deque[tuple[Any, float]] = deque()  # sums, by their ends and beginnings
        threading.Thread(target=self._watch, daemon=True).start()

    def takes(self, backend: Backend) -> bool:
        return backend.name == "cupy"

    def start_sum(self, array: Array, total: Array) -> Callable[[], Any]:
        if not isinstance(array, self.cupy.ndarray):
            return super().start_sum(array, total)
        cuda, nccl = self.cupy.cuda, self.nccl
        computing = cuda.get_current_stream()
        self.stream.wait_event(computing.record())
        self.sums.allReduce(
            array.data.ptr,
            total.data.ptr,
            array.size,
            getattr(nccl, TYPES[array.dtype.name]),
            nccl.NCCL_SUM,
            self.stream.ptr,
        )
        done = self.stream.record()
        self.running.append((done, time.monotonic()))

        def wait() -> None:  # the GPU waits, not the host
            cuda.get_current_stream().wait_event(done)
            _ = array, total

        return wait

    def _watch(self) -> None:
        """End all processes if a sum takes longer than the timeout: another one has stopped."""
        while True:
            time.sleep(min(1.0, self.timeout / 4))
            while self.running and self.running[0][0].done:
                self.running.popleft()
            if self.running and time.monotonic() - self.running[0][1] > self.timeout:
                self.abort(
                    f"a sum by NCCL has not ended for {self.timeout:g} seconds: another process "
                    "has stopped, or the network between them is cut"
                )


def import_nccl() -> Any:
    """Return CuPy's module for NCCL.

    Raises:
        CommunicationError: NCCL is missing.
    """
    from cupy.cuda import nccl

    if not getattr(nccl, "available", True):
        raise CommunicationError(
            'CuPy finds no NCCL; pip install "nnx-array[nccl13]", or "nnx-array[nccl12]" for CUDA '
            "12; NVIDIA has no NCCL for Windows"
        )
    return nccl
