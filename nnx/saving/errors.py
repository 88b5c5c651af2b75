"""The error of a file that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["FileError", "listed"]


class FileError(ValueError):
    """A file is not what it should be: what was expected, what came, what to do."""


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return names for a message: "0.W, 0.b and 3 more"."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
