"""Where two things differ, in words: the arrays of two networks, and two descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nnx.saving.errors import listed

__all__ = ["Differences", "compared", "first_difference"]

Shapes = Mapping[str, tuple[int, ...]]


class Differences(NamedTuple):
    """What does not fit between the arrays of a layer and those of a file.

    Attributes:
        missing: names that the layer has and the file has not.
        unexpected: names that the file has and the layer has not.
        shapes: name -> (the layer's shape, the file's shape), where they differ.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return any(map(len, self))

    def in_words(self) -> str:
        """Return them in a line."""
        parts = [f"missing: {listed(self.missing)}"] if self.missing else []
        if self.unexpected:
            parts.append(f"left over: {listed(self.unexpected)}")
        if self.shapes:
            found = (
                f"{name} {mine}, in the file {its}" for name, (mine, its) in self.shapes.items()
            )
            parts.append(f"of another shape: {listed(found)}")
        return "; ".join(parts)


def compared(expected: Shapes, found: Shapes) -> Differences:
    """Return the differences between the shapes that a layer expects and those of a file."""
    return Differences(
        tuple(name for name in expected if name not in found),
        tuple(name for name in found if name not in expected),
        {
            name: (shape, found[name])
            for name, shape in expected.items()
            if name in found and found[name] != shape
        },
    )


def first_difference(one: Any, other: Any) -> str:
    """Return the first place where two plain data differ: "layers[1].no: 10 and 20"; "" if none."""
    return _first(one, other, "")


def _first(one: Any, other: Any, place: str) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            here = f"{place}.{key}" if place else str(key)
            if key not in one or key not in other:
                values = [repr(d[key]) if key in d else "nothing" for d in (one, other)]
                return f"{here}: {values[0]:.100} and {values[1]:.100}"
            if found := _first(one[key], other[key], here):
                return found
        return ""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for i, (mine, its) in enumerate(zip(one, other, strict=False)):
            if found := _first(mine, its, f"{place}[{i}]"):
                return found
        if len(one) == len(other):
            return ""
        return f"{place or 'the whole'}: {len(one)} and {len(other)} items"
    same = isinstance(one, bool) == isinstance(other, bool) and (one == other or one is other)
    return "" if same else f"{place or 'the whole'}: {one!r:.100} and {other!r:.100}"
