"""Where in the source something went wrong or is written."""

from __future__ import annotations

import inspect
import linecache
import traceback
from pathlib import Path
from typing import Any

__all__ = ["definition", "error_place", "own_place"]

# Code between a formula and its array library, besides that library itself.
BETWEEN = {"array_api_compat", "contextlib", "nnx.backend", "nnx.testing", "nnx_backends", "numpy"}


def own_place(error: BaseException, library: str) -> tuple[str, str]:
    """Return place and code of the innermost frame outside the array library: "file:3, in f"."""
    place, code = "unknown place", ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        names = {module, module.partition(".")[0], ".".join(module.split(".")[:2])}
        if not names & {*BETWEEN, library}:
            file = frame.f_code.co_filename
            place = f"{file}:{number}, in {frame.f_code.co_qualname}"
            code = linecache.getline(file, number).strip()
    return place, code


def error_place(error: BaseException, library: str) -> str:
    """Return the formula's file and line, and those that raised the error if they are others."""
    place, _ = own_place(error, library)
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return ""
    frame, number = frames[-1]
    raised = f"{frame.f_code.co_filename}:{number}, in {frame.f_code.co_qualname}"
    if place in (raised, "unknown place"):
        return raised
    return f"{place}; raised at {raised}"


def definition(thing: Any) -> str:
    """Return file and line of the formulas of a thing, "" if they are not in a file."""
    kind = thing if inspect.isclass(thing) else type(thing)
    for name in ("forward", "terms", "value", "draw", "rule"):
        if name in vars(kind):
            kind = vars(kind)[name]
            break
    try:
        return f"{Path(inspect.getsourcefile(kind) or '')}:{inspect.getsourcelines(kind)[1]}"
    except (TypeError, OSError):  # made in a running program
        return ""
