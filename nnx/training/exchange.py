"""Gradients of all processes, added up in few large messages.

A large gradient is a message of its own, sent from where it lies. Small ones are copied into one
array. Each message starts as soon as backward has computed what is in it, and goes while backward
computes the rest, if the communicator's library works beside the program. The sums are in arrays
that are made once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnx.backend import Array, Backend
from nnx.communication import Communicator, Share
from nnx.layers.tree import Slot, gather

__all__ = ["Exchange"]

ALONE = 1 << 16  # a gradient with so many numbers is a message of its own
TOGETHER = 1 << 18  # smaller ones are messages of about so many


class Exchange:
    """The sum of the gradients of all processes, in every step of a plan.

    Args:
        communicator: of the training.
        backend: of the gradients.
        slots: the parameters that are trained, in the order of their gradients.

    Attributes:
        share: the rows of the current batch that belong to this process.
        seconds: how long this process has spent on sums.
    """

    def __init__(self, communicator: Communicator, backend: Backend, slots: Sequence[Slot]) -> None:
        self.backend, self.slots = backend, slots
        self.share = Share(communicator, backend)
        self.seconds = 0.0
        direct = communicator.takes(backend)
        self.messages: list[_Message] = []
        self.waits: list[Callable[[], list[Array]]] = []  # for the messages that have started
        for numbers in _messages(slots):
            self.messages.append(_Message(communicator, backend, direct, slots, numbers))

    def start(self, lowest: int, found: Sequence[Any]) -> None:
        """Start the messages that are complete.

        Args:
            lowest: backward has come down to this layer.
            found: what the backwards of the layers have returned, from this one on.
        """
        start = time.perf_counter()
        while len(self.waits) < len(self.messages):
            message = self.messages[len(self.waits)]
            if message.lowest < lowest:
                break
            self.waits.append(message.start(gather(message.slots, found)))
        self.seconds += time.perf_counter() - start

    def summed(self) -> list[Array]:
        """Return the sums of the gradients of all processes, for each of the slots."""
        start, totals = time.perf_counter(), [None] * len(self.slots)
        for message, wait in zip(self.messages, self.waits, strict=True):
            for number, total in zip(message.numbers, wait(), strict=True):
                totals[number] = total
        self.waits = []
        self.seconds += time.perf_counter() - start
        return totals


class _Message:
    """Gradients that are added up together.

    Args:
        direct: does the communicator take the arrays of the backend, or NumPy arrays?
    """

    def __init__(
        self,
        communicator: Communicator,
        backend: Backend,
        direct: bool,
        slots: Sequence[Slot],
        numbers: list[int],
    ) -> None:
        self.communicator, self.backend, self.direct = communicator, backend, direct
        self.numbers, self.slots = numbers, [slots[number] for number in numbers]
        self.lowest = min(place[0] for slot in self.slots for place in slot.places)
        self.shapes = [tuple(slots[number].array.shape) for number in numbers]
        arrays = [slot.array for slot in self.slots]
        size = sum(math.prod(shape) for shape in self.shapes)
        host = np.dtype(str(arrays[0].dtype).rpartition(".")[2])
        self.packs = backend.mutable  # on the device: one transfer is faster than several
        if direct:
            self.total = backend.xp.empty((size,), dtype=arrays[0].dtype, device=arrays[0].device)
        else:
            self.total = np.empty((size,), host)
        self.packed: Any = None
        if len(numbers) > 1:
            self.packed = np.empty((size,), host)
            if direct or self.packs:
                like = arrays[0]
                self.packed = backend.xp.empty((size,), dtype=like.dtype, device=like.device)

    def start(self, gradients: list[Array]) -> Callable[[], list[Array]]:
        """Start the sum of its gradients; return a function that waits and returns the sums."""
        backend, packed = self.backend, self.packed
        on_device = self.direct or self.packs
        if packed is None:
            flat = backend.xp.reshape(gradients[0], (-1,))
        else:
            flat = packed
            for gradient, part in zip(gradients, self.parts(packed), strict=True):
                part[...] = gradient if on_device else backend.to_numpy(gradient)
        if not self.direct and not isinstance(flat, np.ndarray):
            flat = backend.to_numpy(flat)
        wait = self.communicator.start_sum(flat, self.total)

        def finish() -> list[Array]:
            wait()
            total = self.total
            if not self.direct:
                total = backend.from_numpy(total)
            return self.parts(total)

        return finish

    def parts(self, flat: Array) -> list[Array]:
        """Return each gradient as a part of a flat array."""
        reshape: Any = np.reshape if isinstance(flat, np.ndarray) else self.backend.xp.reshape
        found, start = [], 0
        for shape in self.shapes:
            stop = start + math.prod(shape)
            found.append(reshape(flat[start:stop], shape))
            start = stop
        return found


def _messages(slots: Sequence[Slot]) -> list[list[int]]:
    """Return the indices of the slots that go together, those of the last layers first."""
    found: list[list[int]] = []
    small: dict[Any, list[int]] = {}
    for number in range(len(slots) - 1, -1, -1):
        array = slots[number].array
        if math.prod(array.shape) >= ALONE:
            found.append([number])
            continue
        together = small.setdefault(array.dtype, [])
        together.append(number)
        if sum(math.prod(slots[n].array.shape) for n in together) >= TOGETHER:
            found.append(small.pop(array.dtype))
    return found + list(small.values())
