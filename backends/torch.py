"""PyTorch's tensors as plain arrays: its automatic differentiation is not used."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnx.backend import Array, Backend, BackendError, Memory
from nnx_backends._host import host_memory, missing


class TorchBackend(Backend):
    """PyTorch, on the device it calls "cpu", "cuda", "cuda:1", "mps", "meta", ...

    Without a device it is PyTorch's own default, `torch.get_default_device()`.
    """

    name = "torch"
    library = "torch"

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        try:
            import torch
        except ImportError as error:
            raise missing("torch", "torch", error) from error
        import array_api_compat.torch as xp

        try:
            chosen = torch.device(device) if device else torch.get_default_device()
            torch.empty(0, device=chosen)
        except (RuntimeError, AssertionError) as error:
            raise BackendError(
                f"PyTorch {torch.__version__} has no usable device {device!r}: "
                f"{str(error).splitlines()[0]}",
                'choose another, "torch:cpu" say, or install the PyTorch build for that device',
            ) from error
        return xp, chosen

    def device_name(self) -> str:
        import torch

        if self.device.type == "cuda":
            return f"{self.device} {torch.cuda.get_device_name(self.device)}"
        return str(self.device)

    def memory(self) -> Memory | None:
        import torch

        if self.device.type == "cuda":
            return Memory(*torch.cuda.mem_get_info(self.device))
        return host_memory() if self.device.type == "cpu" else None

    def from_numpy(self, host: np.ndarray) -> Array:
        # PyTorch shares memory only with arrays that are contiguous and may be written.
        host = np.require(host, requirements=("C", "W"))
        return self.xp.asarray(host, device=self.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array.detach().cpu())

    def synchronize(self) -> None:
        import torch

        if self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).synchronize()
