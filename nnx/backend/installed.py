"""The backends that are installed: entry points of the group "nnx.backends"."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect

from nnx.backend.contract import Backend
from nnx.backend.errors import BackendError

__all__ = ["backend_names", "installed_backends", "load"]

ENTRY_POINT_GROUP = "nnx.backends"


def backend_names() -> list[str]:
    """Return the name of every installed backend, broken ones included."""
    return list(_entry_points())


def installed_backends() -> dict[str, type[Backend]]:
    """Return the class of every installed backend by name; their libraries are not imported.

    Backends whose class cannot be loaded are left out; `available_backends` says why.
    """
    classes = {}
    for name in _entry_points():
        try:
            classes[name] = load(name)
        except BackendError:  # one distribution must not hide the others
            continue
    return classes


def load(name: str) -> type[Backend]:
    """Return the class of a backend.

    Raises:
        BackendError: no distribution has a backend of this name, or what it has is broken; the
            message names the distribution.
    """
    entries = _entry_points()
    if name not in entries:
        raise _unknown(name, list(entries))
    entry = entries[name]
    try:
        kind = entry.load()
    except Exception as error:  # code of a third party may raise anything
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    if not (inspect.isclass(kind) and issubclass(kind, Backend)):
        raise _broken(entry, f"expected a subclass of nnx.Backend, got {kind!r}")
    for attribute in ("name", "library"):
        if not isinstance(getattr(kind, attribute, None), str):
            raise _broken(entry, f"expected {kind.__name__}.{attribute} to be text")
    return kind


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}


def _unknown(name: str, known: list[str]) -> BackendError:
    if not known:
        return BackendError(
            "no backends are installed: this nnx runs from a folder that was never installed",
            "in that folder: pip install -e .",
        )
    close = difflib.get_close_matches(name.lower(), known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else "run `nnx backends` for what works here"
    if name.lower() in ("cpu", "gpu", "cuda"):  # of a library, which comes first
        device = "cpu" if name.lower() == "cpu" else "cuda"
        remedy = f"write 'torch:{device}', or {'numpy' if device == 'cpu' else 'cupy'!r}"
    return BackendError(f"unknown backend {name!r}; known are {', '.join(known)}", remedy)


def _broken(entry: importlib.metadata.EntryPoint, fault: str) -> BackendError:
    if entry.dist is None:
        return BackendError(f"backend {entry.name!r} ({entry.value}) cannot be loaded: {fault}")
    distribution = entry.dist.name
    return BackendError(
        f"backend {entry.name!r} of the distribution {distribution} {entry.dist.version} "
        f"({entry.value}) cannot be loaded: {fault}",
        f"pip install --upgrade {distribution}, or pip uninstall {distribution}",
    )
