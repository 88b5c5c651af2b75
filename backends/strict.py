"""array-api-strict: only what the standard promises, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnx.backend import Array, Backend, BackendError, Memory
from nnx_backends._host import host_memory, missing


class StrictBackend(Backend):
    """array-api-strict: NumPy behind a wall that lets through only what the standard promises.

    Its devices "CPU_DEVICE", "device1", "device2" and "no_float64" are pretended: arrays of two
    of them do not mix, and the host cannot read from any but the first.
    """

    name = "strict"
    library = "array_api_strict"

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        try:
            import array_api_strict as xp
        except ImportError as error:
            raise missing("array_api_strict", "test", error) from error

        known = xp.__array_namespace_info__().devices()
        for chosen in known:
            if _device_name(chosen) == (device or "CPU_DEVICE"):
                return xp, chosen
        raise BackendError(
            f"backend 'strict' has no device {device!r}",
            f"it has {', '.join(_device_name(chosen) for chosen in known)}",
        )

    def device_name(self) -> str:
        return _device_name(self.device)

    def memory(self) -> Memory | None:
        return host_memory()

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(self.xp.asarray(array, device=self.xp.Device("CPU_DEVICE")))


def _device_name(device: Any) -> str:
    return str(device).partition("'")[2].partition("'")[0]
