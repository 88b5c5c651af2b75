"""Errors of attributes and names of modules that are not there: what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nnx.synonyms.arguments import of_argument
from nnx.synonyms.tables import ALIASES, CLASSES, ELSEWHERE, METHODS

__all__ = ["UNKNOWN", "advice", "asked", "meant"]

# What is not to be assigned to an object of nnx that has no such attribute: nothing would read it.
UNKNOWN = frozenset({*METHODS, *ELSEWHERE, *ALIASES})


def advice(name: str, known: Iterable[str]) -> str:
    """Return what to write for an attribute that is not there, "; write ..."; empty if unknown.

    Args:
        name: of the attribute.
        known: those that are there.
    """
    if name in METHODS:
        return f"; write {METHODS[name]}"
    public = [one for one in known if one[:1] != "_"] if name[:1] != "_" else []
    own = of_argument(name, public)
    return f"; did you mean {own}?" if own else ""


def asked(module: str, known: Sequence[str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module: an error that says what a thing is called here."""

    def missing(name: str) -> Any:
        found = meant(name, known, module.removeprefix("nnx.") + ".")
        raise AttributeError(
            f"module {module!r} has no attribute {name!r}"
            + (f"; did you mean nnx.{found}?" if found else "")
        )

    return missing


def meant(name: str, known: Iterable[str], room: str = "") -> str:
    """Return the name under nnx for a name that is not there; empty if there is none like it.

    Args:
        name: that came.
        known: the names of a module.
        room: what comes before them.
    """
    if name[:1] == "_":
        return ""
    here = {_key(one): one for one in reversed(list(known))}
    for key in (name.lower().replace("_", ""), _key(name)):
        found = CLASSES.get(key, "")
        if own := here.get(_key(found.rpartition(".")[2]) if found else key):
            return room + own
        if found:
            return found
    close = difflib.get_close_matches(_key(name), here, n=1, cutoff=0.8)
    return room + here[close[0]] if close and len(name) > 3 else ""


def _key(name: str) -> str:
    """Return a name without what only some libraries write: case, _, "Layer", "Loss"."""
    key = name.lower().replace("_", "")
    for ending in ("layer", "loss"):
        key = key.removesuffix(ending) or key
    return key
