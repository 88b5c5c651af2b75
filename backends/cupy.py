"""CuPy, on a CUDA GPU."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnx.backend import Array, Backend, BackendError, HostReadError, Memory, add_array_type
from nnx_backends._host import missing


class CuPyBackend(Backend):
    """CuPy: the same arrays as NumPy's, on a CUDA GPU.

    The device is a number, "cupy:1" for the second GPU. CuPy creates arrays on its *current*
    device, so choosing this backend makes its GPU the current one of the calling thread; a network
    chooses its own while it trains, predicts or scores.
    """

    name = "cupy"
    library = "cupy"
    watched = "cupy"

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        try:
            import cupy
        except ImportError as error:
            raise missing("cupy", "cupy13", error) from error
        import array_api_compat.cupy as xp

        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendError(
                f"CuPy is installed, but no GPU answers: {error}",
                _older_driver(cupy.cuda.runtime)
                or "check `nvidia-smi`: it needs an NVIDIA GPU, its driver, and the CuPy wheel of "
                'that CUDA version (pip install "nnx-array[cupy12]" or "nnx-array[cupy13]"); '
                "without a GPU use the numpy backend",
            ) from error
        number = _number(device)
        if number >= count:
            raise BackendError(
                f"there is no CUDA device {number}: this machine has {count} "
                f"({', '.join(f'cupy:{i}' for i in range(count))})",
                "choose one of those; CUDA_VISIBLE_DEVICES hides devices from a program",
            )
        return xp, cupy.cuda.Device(number)

    def select(self) -> None:
        self.device.use()

    def device_name(self) -> str:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(self.device.id)
        return f"cuda:{self.device.id} {properties['name'].decode()}"

    def facts(self) -> dict[str, str]:
        import cupy

        runtime = cupy.cuda.runtime
        tf32 = os.environ.get("CUPY_TF32", "0") not in ("", "0")
        return {
            "CUDA of the wheel": _cuda_version(runtime.runtimeGetVersion()),
            "CUDA of the driver": _cuda_version(runtime.driverGetVersion()),
            "driver": _driver(),
            "compute capability": self.device.compute_capability,
            "TF32": "on: products have 3 digits (CUPY_TF32=1)" if tf32 else "off",
        }

    def memory(self) -> Memory | None:
        return Memory(*self.device.mem_info)

    def free_memory(self) -> None:
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()

    def from_numpy(self, host: np.ndarray) -> Array:
        with self.device:
            return self.xp.asarray(host)

    def to_numpy(self, array: Array) -> np.ndarray:
        import cupy

        return np.asarray(cupy.asnumpy(array))

    def fuse_rule(self, rule: Callable[..., Any], states: int) -> Callable[..., None]:
        import cupy

        def kernel(p: Any, g: Any, *rest: Any) -> None:
            add_array_type(type(p), self.xp)
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
    """CuPy's own detector; it announces that a later release will have none."""
    import cupyx

    try:
        with ExitStack() as stack:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                stack.enter_context(cupyx.allow_synchronize(False))
            yield
    except cupyx.DeviceSynchronized as error:
        raise HostReadError(str(error)) from error


def _older_driver(runtime: Any) -> str:
    """What to do where the driver is older than the CUDA of the wheel; "" where that is not so."""
    try:
        driver, wheel = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except runtime.CUDARuntimeError:
        return ""
    if not 0 < driver // 1000 < wheel // 1000:
        return ""
    return (
        f"the driver knows CUDA {_cuda_version(driver)} and this CuPy is for CUDA "
        f"{_cuda_version(wheel)}: update the driver, or replace the wheel: "
        f"pip uninstall cupy-cuda{wheel // 1000}x, pip install cupy-cuda{driver // 1000}x"
    )


def _cuda_version(number: int) -> str:
    """13020 -> 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver() -> str:
    """The version of the driver itself, which CUDA does not tell."""
    try:
        line = Path("/proc/driver/nvidia/version").read_text().partition("\n")[0]
    except OSError:
        return "not known"
    return line.removeprefix("NVRM version: ").strip()


def _number(device: str | None) -> int:
    try:
        number = int(device or 0)
    except ValueError:
        number = -1
    if number < 0:
        raise BackendError(
            f"backend 'cupy' has no device {device!r}: expected a number", 'say "cupy:0"'
        )
    return number
