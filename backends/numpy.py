"""NumPy, on the host."""

from __future__ import annotations

from typing import Any

from nnx.backend import Backend, BackendError, Memory
from nnx_backends._host import host_memory


class NumPyBackend(Backend):
    """NumPy: the reference, and the fastest for small networks on a CPU."""

    name = "numpy"
    library = "numpy"
    block = 65536

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        import array_api_compat.numpy as xp

        if device not in (None, "cpu"):
            raise BackendError(f"backend 'numpy' has no device {device!r}", 'say "numpy"')
        return xp, "cpu"

    def memory(self) -> Memory | None:
        return host_memory()
