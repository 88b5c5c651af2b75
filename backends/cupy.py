"""CuPy, on a CUDA GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnx.backend import Array, Backend, BackendError, Memory
from nnx_backends._host import missing


class CuPyBackend(Backend):
    """CuPy: the same arrays as NumPy's, on a CUDA GPU.

    The device is a number, "cupy:1" for the second GPU. CuPy creates arrays on its *current*
    device, so choosing this backend makes its GPU the current one of the calling thread; a network
    chooses its own while it trains, predicts or scores.
    """

    name = "cupy"
    library = "cupy"

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
                "check `nvidia-smi`: it needs an NVIDIA GPU, its driver, and the CuPy wheel of "
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

    def synchronize(self) -> None:
        self.device.synchronize()


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
