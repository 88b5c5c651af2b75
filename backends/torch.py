"""PyTorch's tensors as plain arrays: its automatic differentiation is not used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from nnx.backend import (
    Array,
    Backend,
    BackendError,
    HostReadError,
    Memory,
    Problem,
)
from nnx.backend.loops import by_array
from nnx_backends._host import (
    cores,
    host_memory,
    keep_freed_memory,
    missing,
    return_freed_memory,
    subnormals_flushed,
    too_many_threads,
)
from nnx_backends._lean import lean_torch

LSTM = 2  # the number of this kind of layer in oneDNN's operators


class TorchBackend(Backend):
    """PyTorch, on the device it calls "cpu", "cuda", "cuda:1", "mps", "meta", ...

    Without a device it uses PyTorch's own default, `torch.get_default_device()`.
    """

    name = "torch"
    library = "torch"
    watched = "torch:meta"

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        try:
            import torch
        except ImportError as error:
            raise missing("torch", "torch", error) from error
        import array_api_compat.torch as compat

        try:
            chosen = torch.device(device) if device else torch.get_default_device()
            torch.empty(0, device=chosen)
        except (RuntimeError, AssertionError) as error:
            raise BackendError(
                f"PyTorch {torch.__version__} has no usable device {device!r}: "
                f"{str(error).splitlines()[0]}",
                'use another, such as "torch:cpu", or install the PyTorch build for that device',
            ) from error
        if chosen.type == "cpu":
            self.block, self.slow_where, self.shares_host = 1 << 17, True, True
            keep_freed_memory()
        return lean_torch(compat), chosen

    def device_name(self) -> str:
        import torch

        if self.device.type == "cuda":
            return f"{self.device} {torch.cuda.get_device_name(self.device)}"
        return str(self.device)

    def facts(self) -> dict[str, str]:
        import torch

        return {
            "CUDA of the build": str(torch.version.cuda),
            "float32 products": torch.get_float32_matmul_precision(),  # TF32 unless "highest"
            "threads": str(torch.get_num_threads()),
        }

    def problems(self) -> list[Problem]:
        import torch

        return too_many_threads(
            "PyTorch", torch.get_num_threads(), f"set OMP_NUM_THREADS={cores()} in the environment"
        )

    def fast_arithmetic(self) -> AbstractContextManager[None]:
        return subnormals_flushed()

    def erfc(self, k: float, x: Array) -> Array:
        import torch

        return torch.special.erfc(k * x)

    def add_product(self, x: Array, a: Array, b: Array) -> Array:
        return x.addcmul_(a, b)

    def subtract_quotient(self, x: Array, factor: float, a: Array, b: Array) -> Array:
        return x.addcdiv_(a, b, value=-factor)

    def scan(self, step: Any, carry: Any, rows: Any, reverse: bool) -> tuple[Any, Any]:
        way = -1 if reverse else 1
        parts = [[array.unbind()[::way] for array in group] for group in rows]
        steps = len(next(array for group in parts for array in group))
        outputs = []
        for t in range(steps):
            carry, output = step(carry, [[array[t] for array in group] for group in parts])
            outputs.append(output)
        return carry, by_array(outputs[::way])

    def lstm(
        self,
        x: Array,
        parameters: Mapping[str, Array],
        reverse: bool,
        return_sequences: bool,
        training: bool,
    ) -> tuple[Array, Callable[..., tuple[Array, dict[str, Array]]]] | None:
        import torch

        names = ("W_ih", "W_hh", "b_ih", "b_hh")
        weights = [parameters[name] for name in names]
        (samples, _, ni), no = x.shape, weights[1].shape[-1]
        shapes = [tuple(weight.shape) for weight in weights]
        fit = shapes == [(4 * no, ni), (4 * no, no), (4 * no,), (4 * no,)]
        if not (fit and _one_dnn(x, *weights)):
            return None
        # The operators read memory, whatever the strides and shapes are.
        x = x.transpose(0, 1).contiguous()
        zero = x.new_zeros((1, samples, no))
        how = {
            "mode": LSTM,
            "hidden_size": no,
            "num_layers": 1,
            "has_biases": True,
            "reverse": reverse,
            "bidirectional": False,
            "batch_first": False,
            "batch_sizes": [],
            "train": True,
        }

        def forward(keep: bool) -> tuple[Array, ...]:
            with torch.set_grad_enabled(keep):  # by this the operator knows that a backward follows
                return torch.ops.aten.mkldnn_rnn_layer(x, *weights, zero, zero, **how)

        found = forward(training)
        y = found[0].transpose(0, 1) if return_sequences else found[1][0]

        def backward(delta: Array, need_dx: bool = True) -> tuple[Any, dict[str, Array]]:
            if (delta.shape, delta.dtype) != (y.shape, y.dtype):
                raise ValueError(
                    f"LSTM: expected delta like its value, {tuple(y.shape)} of {y.dtype}, got "
                    f"{tuple(delta.shape)} of {delta.dtype}; convert it first"
                )
            h, *ends, kept = found if training else forward(True)
            deltas = (delta.transpose(0, 1), None) if return_sequences else (None, delta[None])
            dx, *gradients = torch.ops.aten.mkldnn_rnn_layer_backward(
                x, *weights, zero, zero, h, *ends, *deltas, None, workspace=kept, **how
            )
            dx = dx.transpose(0, 1) if need_dx else None
            return dx, dict(zip(names, gradients[:4], strict=True))

        return y, backward

    def sum_rows(self, rows: Array, index: Array, count: int) -> Array | None:
        if rows.device.type not in ("cpu", "meta"):
            return None  # a GPU adds in any order
        # PyTorch adds four times as fast by indices of its default integer type.
        return rows.new_zeros((count, rows.shape[1])).index_add_(0, index.long(), rows)

    def slides(self, x: Array) -> bool:
        return x.device.type in ("cpu", "meta")

    def sliding(self, x: Array, positions: tuple[int, int], taps: tuple[int, int]) -> Array:
        (number, stride), (kernel, dilation), (cell, *rest) = positions, taps, x.stride()
        return x.as_strided((number, kernel, *x.shape[1:]), (stride * cell, dilation * cell, *rest))

    def memory(self) -> Memory | None:
        import torch

        if self.device.type == "cuda":
            return Memory(*torch.cuda.mem_get_info(self.device))
        return host_memory() if self.device.type == "cpu" else None

    def is_out_of_memory(self, error: Exception) -> bool:
        # Only a GPU's allocator has its own error type; the CPU's must be told by its text.
        words = ("out of memory", "can't allocate memory", "not enough memory")
        return any(word in str(error) for word in words)

    def free_memory(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "cpu":
            return_freed_memory()

    def asarray(self, data: Any, dtype: Any = None) -> Array:
        # A tensor that requires a gradient would make PyTorch record all that follows.
        return super().asarray(data.detach() if self.owns(data) else data, dtype)

    def from_numpy(self, host: np.ndarray) -> Array:
        # PyTorch shares memory only with contiguous, writable arrays.
        host = np.require(host, requirements=("C", "W"))
        return self.xp.asarray(host, device=self.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array.detach().cpu())

    def gradient(self, function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
        import torch

        leaves = [array.detach().clone().requires_grad_() for array in arrays]
        # nnx writes in place to arrays of its own, among them some that autograd keeps.
        with torch.enable_grad(), torch.autograd.graph.allow_mutation_on_saved_tensors():
            value = function(*leaves)
            if not value.requires_grad:
                return [torch.zeros_like(array) for array in arrays]
            return list(torch.autograd.grad(value, leaves, materialize_grads=True))

    def forbid_reads(self) -> AbstractContextManager[None] | None:
        return _forbid_reads() if self.device.type == "meta" else None

    def synchronize(self) -> None:
        import torch

        if self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).synchronize()


def _one_dnn(*arrays: Array) -> bool:
    """Return whether oneDNN's recurrent operators take these arrays, and are fast here.

    PyTorch's own LSTM asks the same but for two things. On a processor without AVX, such as one by
    ARM, the products of these operators are not optimized. And nnx differentiates by itself.
    """
    import torch

    one_dnn = torch.backends.mkldnn
    if not (one_dnn.is_available() and one_dnn.enabled):
        return False
    return torch.backends.cpu.get_cpu_capability().startswith("AVX") and all(
        a.device.type == "cpu" and a.dtype == torch.float32 and a.numel() and not a.requires_grad
        for a in arrays
    )


@contextmanager
def _forbid_reads() -> Iterator[None]:
    """Turn PyTorch's error into ours: on the meta device it refuses to read values itself."""
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one
        if "meta" in str(error).lower():
            raise HostReadError(f"backend 'torch': {str(error).partition(chr(10))[0]}") from error
        raise
