"""Copies to a GPU that run while it computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.backend import Array, Uploader

ALIGNED = 256  # bytes


class StreamUploader(Uploader):
    """Copies through two buffers of page-locked memory, in a stream of its own.

    The thread that fills a buffer waits until the copy before has left it. The stream in which the
    arrays are used waits for their copy, and the copy into memory that is used again waits for the
    work on it; these waits are the device's. The host waits for nothing in a step.
    """

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        import cupy

        with backend.selected():
            self.stream = cupy.cuda.Stream(non_blocking=True)
            self.stream.wait_event(cupy.cuda.get_current_stream().record())
        self.buffers: list[Any] = [None, None]
        self.copied: list[Any] = [None, None]
        self.turn = 0

    def upload(self, arrays: Sequence[np.ndarray]) -> Any:
        import cupy

        i, self.turn = self.turn, 1 - self.turn
        sizes = [-(-array.nbytes // ALIGNED) * ALIGNED for array in arrays]
        with self.backend.selected(), self.stream:
            if self.copied[i] is not None:
                self.copied[i].synchronize()
            if self.buffers[i] is None or self.buffers[i].mem.size < sum(sizes):
                self.buffers[i] = cupy.cuda.alloc_pinned_memory(sum(sizes))
            moved, start = [], 0
            for host, size in zip(arrays, sizes, strict=True):
                pinned = np.frombuffer(self.buffers[i], host.dtype, host.size, start)
                pinned = pinned.reshape(host.shape)
                pinned[...] = host
                array = cupy.empty(host.shape, host.dtype)
                array.set(pinned, stream=self.stream)
                moved.append(array)
                start += size
            self.copied[i] = self.stream.record()
        return tuple(moved), self.copied[i]

    def arrived(self, ticket: Any) -> tuple[Array, ...]:
        import cupy

        arrays, copied = ticket
        with self.backend.selected():
            cupy.cuda.get_current_stream().wait_event(copied)
        return arrays

    def used(self, ticket: Any) -> None:
        import cupy

        with self.backend.selected():
            self.stream.wait_event(cupy.cuda.get_current_stream().record())

    def close(self) -> None:
        import cupy

        with self.backend.selected():
            for event in self.copied:
                if event is not None:
                    event.synchronize()
            cupy.get_default_memory_pool().free_all_blocks(stream=self.stream)
        self.buffers = [None, None]
