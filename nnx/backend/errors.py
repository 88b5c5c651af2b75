"""What can go wrong with a backend.

An exception with several arguments hands all of them to `super().__init__` and makes its message in
`__str__`. Pickling calls the class with these arguments, so the error survives the way from a
worker process.
"""

from __future__ import annotations

__all__ = ["BackendError", "HostReadError", "OutOfMemoryError"]


class BackendError(RuntimeError):
    """A backend that cannot be used, or arrays of two backends in one formula.

    Attributes:
        reason: what is wrong.
        remedy: what to do about it; "" if nothing is known.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}\n  {self.remedy}" if self.remedy else self.reason


class OutOfMemoryError(MemoryError):
    """The device has no memory left: what was asked for, what is free, what to do."""


class HostReadError(RuntimeError):
    """The host read a value of the device where that is forbidden."""
