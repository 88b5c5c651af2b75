"""NCCL, by CuPy: sums of arrays on GPUs, one process for each; MPI carries everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnx.backend import Array, Backend
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
        try:
            from cupy.cuda import nccl
        except ImportError as error:
            raise CommunicationError(
                f"this CuPy finds no NCCL: {error}; "
                'pip install "nnx-array[nccl12]" for CUDA 12, "nnx-array[nccl13]" for CUDA 13'
            ) from error
        self.nccl = nccl
        identity = self.broadcast(nccl.get_unique_id() if self.rank == 0 else None)
        self.nccl_world = nccl.NcclCommunicator(self.size, identity, self.rank)
        self.stream = self.cupy.cuda.Stream(non_blocking=True)

    def takes(self, backend: Backend) -> bool:
        return backend.name == "cupy"

    def start_sum(self, array: Array, total: Array) -> Callable[[], Any]:
        if not isinstance(array, self.cupy.ndarray):
            return super().start_sum(array, total)
        cuda, nccl = self.cupy.cuda, self.nccl
        computing = cuda.get_current_stream()
        self.stream.wait_event(computing.record())
        self.nccl_world.allReduce(
            array.data.ptr,
            total.data.ptr,
            array.size,
            getattr(nccl, TYPES[array.dtype.name]),
            nccl.NCCL_SUM,
            self.stream.ptr,
        )
        done = self.stream.record()

        def wait() -> None:  # the GPU waits, not the host
            cuda.get_current_stream().wait_event(done)
            _ = array, total

        return wait
