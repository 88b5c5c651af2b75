"""CuPy, on a CUDA GPU."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np

from nnx.backend import (
    Array,
    Backend,
    BackendError,
    HostReadError,
    Memory,
    Uploader,
    add_array_type,
)
from nnx.communication import local_rank
from nnx_backends._cuda import (
    FORKED,
    INSTALL,
    check_gpu,
    count_gpus,
    cuda_version,
    driver,
    first_line,
    fresh_kernels,
    import_cupy,
    load_libraries,
    peak_of_pool,
    with_ctk,
)
from nnx_backends._lean import placed_cupy
from nnx_backends._uploads import StreamUploader

# Not every part of CUDA uses CuPy's allocator, whose error is a MemoryError.
OUT_OF_MEMORY = (
    "cudaErrorMemoryAllocation",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
)

# Larger host arrays go to the device without page-locked memory between them, of which CuPy keeps
# up to twice their size.
STAGED = 64 << 20


class CuPyBackend(Backend):
    """CuPy: the same arrays as NumPy's, on a CUDA GPU.

    The device is a number, "cupy:1" for the second GPU. Without one it is the first, and if a
    launcher has started several processes on this machine, each has its own. CuPy works on its
    *current* device, of each thread. `set_backend` makes its GPU the current one, `use_backend`
    does for its block, and a network makes its own GPU the current one while it works.
    """

    name = "cupy"
    library = "cupy"
    watched = "cupy"
    communicator = "nccl"

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        cupy = import_cupy()
        count = count_gpus(cupy.cuda.runtime)
        number = local_rank() % count if device is None else _number(device)
        if number >= count:
            raise BackendError(
                f"there is no CUDA device {number}: this machine has {count} "
                f"({', '.join(f'cupy:{i}' for i in range(count))})",
                "use one of these; the environment variable CUDA_VISIBLE_DEVICES hides devices",
            )
        load_libraries(cupy)
        check_gpu(cupy.cuda.runtime, cupy.cuda.Device(number))
        import array_api_compat.cupy as compat

        self.process = os.getpid()
        return placed_cupy(compat), cupy.cuda.Device(number)

    def select(self) -> None:
        self.selected().use()

    def selected(self) -> Any:
        if os.getpid() != self.process:
            raise BackendError(
                f"process {os.getpid()} was forked from {self.process}, which had connected "
                f"backend {self.spec!r}: a forked process cannot use the GPU",
                FORKED,
            )
        return self.device

    def device_name(self) -> str:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(self.selected().id)
        return f"cuda:{self.device.id} {properties['name'].decode()}"

    def facts(self) -> dict[str, str]:
        import cupy

        runtime = cupy.cuda.runtime
        tf32 = os.environ.get("CUPY_TF32", "0") not in ("", "0")
        return {
            "CUDA of the wheel": cuda_version(runtime.runtimeGetVersion()),
            "CUDA of the driver": cuda_version(runtime.driverGetVersion()),
            "driver": driver(),
            "NVRTC": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
            "GPUs": str(runtime.getDeviceCount()),
            "compute capability": self.device.compute_capability,
            "TF32": "on: products have 3 digits (CUPY_TF32=1)" if tf32 else "off",
        }

    def try_out(self) -> None:
        import cupy

        name = f"nnx_{time.time_ns()}"  # a new one, which has not been compiled before
        double = cupy.ElementwiseKernel("float32 x", "float32 y", "y = 2 * x", name)
        try:
            with self.selected(), fresh_kernels():
                x = double(cupy.ones((2, 2), dtype=cupy.float32))
            got = self.to_numpy(x @ x).tolist()
        except (cupy.cuda.compiler.CompileException, RuntimeError) as error:
            headers = "headers" in str(error) or "cannot open source file" in str(error)
            raise BackendError(
                f"CuPy cannot compile and run a kernel: {first_line(error)}",
                with_ctk(cupy) if headers else f"replace CuPy or the driver: {INSTALL}",
            ) from error
        if got != [[8.0, 8.0], [8.0, 8.0]]:
            raise BackendError(f"expected a product of 8.0 everywhere, got {got}", INSTALL)

    def memory(self) -> Memory | None:
        return Memory(*self.device.mem_info)

    def peak_memory(self) -> AbstractContextManager[Callable[[], int]]:
        return peak_of_pool()

    def free_memory(self) -> None:
        import cupy

        with self.selected():
            cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()

    def is_out_of_memory(self, error: Exception) -> bool:
        return super().is_out_of_memory(error) or any(name in str(error) for name in OUT_OF_MEMORY)

    def from_numpy(self, host: np.ndarray) -> Array:
        import cupy

        with self.selected():
            if host.nbytes <= STAGED:
                return self.xp.asarray(host)
            array = cupy.empty(host.shape, host.dtype)
            array.set(host)
            return array

    def to_numpy(self, array: Array) -> np.ndarray:
        import cupy

        with self.selected():
            return np.asarray(cupy.asnumpy(array))

    def erfc(self, k: float, x: Array) -> Array:
        from cupyx.scipy.special import erfc

        return erfc(k * x)

    def uploader(self) -> Uploader:
        return StreamUploader(self)

    def fuse_rule(self, rule: Callable[..., Any], states: int) -> Callable[..., None]:
        import cupy

        def kernel(p: Any, g: Any, *rest: Any) -> None:
            add_array_type(type(p), self)
            new, new_state = rule(p, g, rest[:states], rest[states:])
            for array, value in zip((p, *rest[:states]), (new, *new_state), strict=True):
                if value is not array:
                    array[...] = value

        fused = cupy.fuse(kernel)
        return lambda p, g, state, factors: fused(p, g, *state, *factors)

    def forbid_reads(self) -> AbstractContextManager[None] | None:
        import cupyx

        return _forbid_reads() if hasattr(cupyx, "allow_synchronize") else None

    def synchronize(self) -> None:
        self.device.synchronize()


@contextmanager
def _forbid_reads() -> Iterator[None]:
    """Use CuPy's own detector, which a later release will remove, as its warning says."""
    import cupyx

    try:
        with ExitStack() as stack:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                stack.enter_context(cupyx.allow_synchronize(False))
            yield
    except cupyx.DeviceSynchronized as error:
        raise HostReadError(f"backend 'cupy': {error}") from error


def _number(device: str | None) -> int:
    try:
        number = int(device or 0)
    except ValueError:
        number = -1
    if number < 0:
        raise BackendError(
            f"backend 'cupy' has no device {device!r}: expected a number", 'use "cupy:0"'
        )
    return number
