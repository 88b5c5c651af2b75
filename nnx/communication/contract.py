"""What a communicator is: how the processes that train one network add up, tell and wait.

A whole one, for a library `shelf`:

    from nnx.communication import Communicator

    class ShelfCommunicator(Communicator):
        name = "shelf"

        def __init__(self, timeout=1800.0):
            self.rank, self.size = shelf.rank(), shelf.size()

        def start_sum(self, array, total):
            pending = shelf.start_sum(array, total)
            return pending.wait

        def gather(self, thing):
            return shelf.all_gather(thing)

        def abort(self, message):
            shelf.kill_all(message)

In the pyproject.toml of its distribution it is published under its name:

    [project.entry-points."nnx.communicators"]
    shelf = "shelf_nnx:ShelfCommunicator"
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

from nnx.backend import Array, Backend

__all__ = ["CommunicationError", "Communicator", "SingleProcess"]


class CommunicationError(RuntimeError):
    """Processes that do not fit together, or that do not hear from each other.

    If one process raises it, all of them do.
    """


class Communicator:
    """Processes that train one network; subclasses live outside `nnx`.

    A subclass sets `name`, `rank` and `size`, and defines `start_sum`, `gather` and `abort`. Every
    process must call the same methods in the same order. A method that waits for longer than the
    communicator's timeout must abort: no process waits forever.

    Attributes:
        name: the name that selects it.
        rank: the index of this process, from 0.
        size: how many processes there are.
    """

    name: ClassVar[str]
    rank: int = 0
    size: int = 1

    def takes(self, backend: Backend) -> bool:
        """Return whether `start_sum` takes this backend's own arrays; NumPy arrays it always takes.

        A communicator for a device alone (NCCL) takes no NumPy arrays. It returns True for its
        backend, and is not used with others.
        """
        return backend.name == "numpy"

    def start_sum(self, array: Array, total: Array) -> Callable[[], Any]:
        """Start to add up the arrays of all processes; return a function that waits for the sum.

        Args:
            array: contiguous, one axis; it must not be changed before the wait is over.
            total: a writable array of the same shape and dtype; all processes get the same bits.
        """
        raise NotImplementedError(f"{type(self).__name__} must define start_sum(array, total)")

    def gather(self, thing: Any) -> list[Any]:
        """Return the plain objects of all processes, in the order of their ranks, to each."""
        raise NotImplementedError(f"{type(self).__name__} must define gather(thing)")

    def broadcast(self, thing: Any) -> Any:
        """Return the plain object of rank 0; what the others pass does not matter."""
        return self.gather(thing if self.rank == 0 else None)[0]

    def barrier(self) -> None:
        """Wait until all processes have come here."""
        self.gather(None)

    def abort(self, message: str) -> None:
        """Print the message and end all processes, with an exit status that is not 0."""
        raise NotImplementedError(f"{type(self).__name__} must define abort(message)")

    def __repr__(self) -> str:
        return f"<nnx communicator {self.name}, rank {self.rank} of {self.size}>"


class SingleProcess(Communicator):
    """One process: nothing to do, and nothing done."""

    name = "single"

    def takes(self, backend: Backend) -> bool:
        """Any."""
        return True

    def start_sum(self, array: Array, total: Array) -> Callable[[], Any]:
        """Copy the array."""
        total[...] = array
        return lambda: None

    def gather(self, thing: Any) -> list[Any]:
        """Return [thing]."""
        return [thing]

    def abort(self, message: str) -> None:
        """End this process."""
        sys.exit(message)
