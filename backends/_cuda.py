"""What keeps CuPy from working on a machine, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnx.backend import BackendError

OLDEST_CUPY = 14  # older ones compute fused rules with float factors in float64
OLDEST_GPU = {13: 75}  # CUDA's major version -> the first compute capability, times 10
FORKED = 'start processes by the method "spawn": multiprocessing.get_context("spawn")'
# ctk: the CUDA libraries and headers, which are not in CuPy's wheels
INSTALL = (
    '`nvidia-smi` shows the "CUDA Version" of the driver: '
    'for 13.x pip install "cupy-cuda13x[ctk]", for 12.x pip install "cupy-cuda12x[ctk]"'
)


def import_cupy() -> Any:
    """Return the module, of a version that is known to work.

    Raises:
        BackendError: it is missing, broken or too old.
    """
    try:
        import cupy
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise BackendError("cupy is not installed", INSTALL) from error
        raise BackendError(
            f"cupy is installed but cannot be imported: {error}", _instead(INSTALL)
        ) from error
    if int(cupy.__version__.partition(".")[0]) < OLDEST_CUPY:
        raise BackendError(
            f"expected CuPy {OLDEST_CUPY} or later, got {cupy.__version__}", _instead(INSTALL)
        )
    return cupy


def count_gpus(runtime: Any) -> int:
    """Return how many GPUs answer.

    Raises:
        BackendError: none does.
    """
    try:
        return runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "cudaErrorInitializationError" in str(error):
            raise BackendError(
                f"a process that was forked from one with a GPU cannot use it: {error}",
                FORKED,
            ) from error
        raise BackendError(
            f"CuPy is installed, but no GPU answers: {error}",
            older_driver(runtime)
            or "CuPy needs an NVIDIA GPU, its driver, and the wheel for the CUDA version of that "
            f'driver: {INSTALL}; without a GPU use nnx.set_backend("numpy")',
        ) from error


def check_gpu(runtime: Any, device: Any) -> None:
    """Check that the CUDA version of the wheel knows a GPU as old as this one.

    Raises:
        BackendError: it does not.
    """
    cuda, capability = runtime.runtimeGetVersion(), int(device.compute_capability)
    oldest = OLDEST_GPU.get(cuda // 1000, 0)
    if capability < oldest:
        raise BackendError(
            f"expected a GPU of compute capability {oldest / 10} or later, which CUDA "
            f"{cuda_version(cuda)} needs, got {capability / 10}",
            _instead('pip install "cupy-cuda12x[ctk]", for CUDA 12, which knows older GPUs'),
        )


def load_libraries(cupy: Any) -> None:
    """Load cuBLAS and NVRTC, which CuPy would do in the first product and the first kernel.

    This takes no memory of the GPU, and compiles nothing.

    Raises:
        BackendError: one of them is missing.
    """
    try:
        _ = cupy.cuda.cublas
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        raise BackendError(
            f"CuPy does not find a library of CUDA: {first_line(error)}", with_ctk(cupy)
        ) from error


@contextmanager
def peak_of_pool() -> Iterator[Callable[[], int]]:
    """Count what CuPy's memory pool hands out in a block, and how many bytes at most."""
    import cupy

    class Hook(cupy.cuda.MemoryHook):
        name = "nnx"
        used = most = 0

        def malloc_postprocess(self, *, mem_size: int, **more: Any) -> None:
            self.used += mem_size
            self.most = max(self.most, self.used)

        def free_postprocess(self, *, mem_size: int, **more: Any) -> None:
            self.used -= mem_size

    with Hook() as hook:
        yield lambda: hook.most


@contextmanager
def fresh_kernels() -> Iterator[None]:
    """Make CuPy compile kernels anew in a block, without its cache on disk."""
    before = os.environ.get("CUPY_CACHE_IN_MEMORY")
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
    try:
        yield
    finally:
        del os.environ["CUPY_CACHE_IN_MEMORY"]
        if before is not None:
            os.environ["CUPY_CACHE_IN_MEMORY"] = before


def with_ctk(cupy: Any) -> str:
    """Return how to get the CUDA libraries and headers for the wheel that is installed."""
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    return (
        f'pip install "cupy-cuda{major}x[ctk]": this wheel is for CUDA {major}, and ctk are its '
        "libraries and headers; with a CUDA toolkit of your own, set CUDA_PATH to its folder"
    )


def older_driver(runtime: Any) -> str:
    """Return what to do if the driver is older than the CUDA of the wheel, else ""."""
    try:
        driver, wheel = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except runtime.CUDARuntimeError:
        return ""
    if not 0 < driver // 1000 < wheel // 1000:
        return ""
    return (
        f"the driver supports CUDA {cuda_version(driver)} and this CuPy is for CUDA "
        f"{cuda_version(wheel)}: update the driver, or replace the wheel: "
        f"pip uninstall -y cupy-cuda{wheel // 1000}x, then "
        f'pip install "cupy-cuda{driver // 1000}x[ctk]"'
    )


def first_line(error: Exception) -> str:
    """Return the first line of its message; those of a compiler are long."""
    return str(error).strip().partition("\n")[0]


def cuda_version(number: int) -> str:
    """13020 -> 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


def driver() -> str:
    """Return the version of the driver itself, which CUDA does not tell."""
    try:
        line = Path("/proc/driver/nvidia/version").read_text().partition("\n")[0]
    except OSError:
        return "not known"
    return line.removeprefix("NVRM version: ").strip()


def _instead(install: str) -> str:
    """Return how to replace the CuPy that is installed."""
    names = importlib.metadata.packages_distributions().get("cupy", ["cupy"])
    return f"pip uninstall -y {' '.join(sorted(set(names)))}, then {install}"
