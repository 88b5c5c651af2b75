"""Checks of arguments, with one wording: what was expected, what came, what to do."""

from __future__ import annotations

import difflib
import errno
import functools
import inspect
import math
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = [
    "ShapeError",
    "choice",
    "count",
    "counts",
    "file_name",
    "file_there",
    "flag",
    "instance",
    "number",
    "numbers",
    "parameters_of",
    "sequence",
    "shapes",
]

RANGES = {
    "": lambda x: math.isfinite(x),
    ">= 0": lambda x: 0 <= x < math.inf,
    "> 0": lambda x: 0 < x < math.inf,
    "in [0, 1]": lambda x: 0 <= x <= 1,
    "in [0, 1)": lambda x: 0 <= x < 1,
    "in (0, 1)": lambda x: 0 < x < 1,
    "in (0, 1]": lambda x: 0 < x <= 1,
    "in (0, 0.5]": lambda x: 0 < x <= 0.5,
}


class ShapeError(ValueError):
    """Arrays or layers whose shapes do not fit: what was expected, what came, what to do."""


def number(owner: Any, name: str, value: Any, bounds: str = "") -> float:
    """Return a finite float within bounds, one of the keys of RANGES.

    Args:
        owner: the object, or the name, that the message begins with.

    Raises:
        TypeError: not a number; booleans, text and None are rejected.
        ValueError: outside of the bounds, infinite or NaN.
    """
    what = f"a number {bounds}".rstrip() if bounds else "a finite number"
    if type(value) not in (float, int) and (
        isinstance(value, bool | np.bool_) or not isinstance(value, Real)
    ):
        raise TypeError(_message(owner, name, what, value, _as_number(value, "float")))
    if not RANGES[bounds](value):
        raise ValueError(_message(owner, name, what, value))
    return float(value)


def count(owner: Any, name: str, value: Any, least: int = 1) -> int:
    """Return an int of at least `least`; booleans are rejected.

    Raises:
        TypeError: not an integer.
        ValueError: less than `least`.
    """
    what = "a positive integer" if least == 1 else f"an integer >= {least}"
    if type(value) is not int and (
        isinstance(value, bool | np.bool_) or not isinstance(value, Integral)
    ):
        raise TypeError(_message(owner, name, what, value, _as_number(value, "int")))
    if value < least:
        raise ValueError(_message(owner, name, what, value))
    return int(value)


def flag(owner: Any, name: str, value: Any, remedy: str = "") -> bool:
    """Return True or False.

    Args:
        owner: see `number`.
        name: of the argument.
        value: the argument.
        remedy: what to write instead of anything else.

    Raises:
        TypeError: anything else, 0 and 1 and text included.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(_message(owner, name, "True or False", value, remedy))
    return bool(value)


def choice(owner: Any, name: str, value: Any, choices: Iterable[Any]) -> Any:
    """Return the value if it is one of the choices.

    Raises:
        ValueError: it is not; the message lists them, and says which one is like it.
    """
    known = list(choices)
    # `in` alone would accept True for 1, and compare arrays elementwise
    for one in known:
        if type(value) is type(one) and value == one:
            return value
    close = difflib.get_close_matches(str(value).lower(), [c for c in known if type(c) is str], n=1)
    remedy = f"did you mean {close[0]!r}?" if close else ""
    raise ValueError(_message(owner, name, f"one of {', '.join(map(repr, known))}", value, remedy))


def instance(owner: Any, name: str, value: Any, kind: type, example: str) -> Any:
    """Return the value if it is an object of the kind, such as `example`.

    Raises:
        TypeError: it is not; if it is a class, the message says to call it.
    """
    if isinstance(value, kind):
        return value
    remedy = f"write {value.__name__}()" if isinstance(value, type) else ""
    if isinstance(value, str) and (named := _below(kind).get(value.lower())):
        remedy = f"write {named}()"
    raise TypeError(_message(owner, name, f"an object such as {example}", value, remedy))


def sequence(owner: Any, name: str, value: Any, what: str) -> list[Any]:
    """Return the items of a list, tuple, 1-d array or other ordered iterable.

    Raises:
        TypeError: text, a set or a mapping, which have no order of items, or no iterable at all.
    """
    unordered = isinstance(value, str | bytes | dict | set | frozenset)
    if unordered or not isinstance(value, Iterable):
        raise TypeError(_message(owner, name, what, value))
    return list(value)


def numbers(owner: Any, name: str, value: Any, bounds: str = "") -> tuple[float, ...]:
    """Return a tuple of floats within bounds; see `number` and `sequence`."""
    items = sequence(owner, name, value, f"a list of numbers {bounds}".rstrip())
    return tuple(number(owner, f"{name}[{i}]", item, bounds) for i, item in enumerate(items))


def file_name(path: Any) -> str:
    """Return the name of a file as text.

    Raises:
        TypeError: it is neither text nor an object of pathlib.
        ValueError: it is empty.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(
            f"expected the path of a file, got {path!r:.60}; write text such as 'net.safetensors'"
        )
    if not (name := os.fsdecode(path)):
        raise ValueError("expected the path of a file, got ''; write for example 'net.safetensors'")
    return name


def file_there(path: Any) -> str:
    """Return the name of a file that is there.

    Raises:
        TypeError, ValueError: see `file_name`.
        FileNotFoundError, IsADirectoryError: there is none; the message says what is there instead.
        OSError: its folder cannot be searched.
    """
    name = file_name(path)
    try:
        folder = stat.S_ISDIR(os.stat(name).st_mode)
    except FileNotFoundError:
        raise _no_file(errno.ENOENT, *_instead_of(name), name) from None
    except OSError as error:
        raise OSError(error.errno, f"cannot read: {error.strerror}", name) from error
    if folder:
        raise _no_file(errno.EISDIR, "a folder", "the path of a file in it", name)
    return name


def _no_file(number: int, found: str, write: str, name: str) -> OSError:
    # An OSError prints the name after this text.
    return OSError(number, f"expected a file, found {found}; write {write} instead of this", name)


def _instead_of(name: str) -> tuple[str, str]:
    """Return what there is in place of a file that is not there, and what to write."""
    where = os.path.abspath(name)
    folder, last = os.path.split(where)
    if name.startswith("~"):
        return "none", f"os.path.expanduser({name!r})"
    if not os.path.isdir(folder):
        return f"no folder {folder!r}", "another path"
    there, (stem, ending) = _files_in(folder), os.path.splitext(last)
    stems = {os.path.splitext(one)[0]: one for one in there if one.endswith(ending)}
    alike = sorted(stems.values())
    close = [stem] if stem in stems else difflib.get_close_matches(stem, stems, n=1)
    if close:
        return "none", repr(os.path.join(os.path.dirname(name), stems[close[0]]))
    if alike:
        more = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
        return "none", f"one of those in {folder!r}, {', '.join(alike[:3])}{more},"
    return f"nothing at {where!r}", "another path"


def _files_in(folder: str) -> list[str]:
    """Return the names of the files in a folder, without hidden ones; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(one.name for one in entries if one.name[0] != "." and one.is_file())
    except OSError:
        return []


def shapes(items: Sequence[Any]) -> str:
    """Shapes for a message: "(2, 3), (4,)"."""
    return ", ".join(str(tuple(shape)) for shape in items)


def _message(owner: Any, name: str, expected: str, value: Any, remedy: str = "") -> str:
    owner = owner if isinstance(owner, str) else type(owner).__name__
    got = repr(value)
    if "\n" in got:  # an array or a table
        got = f"{' '.join(got.split()):.80} ..."
    text = f"{owner}: expected {name} to be {expected}, got {got}"
    return f"{text}; {remedy}" if remedy else text


def _below(kind: type) -> dict[str, str]:
    """Return the names of the subclasses of a class, by the name in lower case."""
    found: dict[str, str] = {}
    sub: Any
    for sub in kind.__subclasses__():
        found |= {sub.__name__.lower(): sub.__name__, **_below(sub)}
    return found


def _as_number(value: Any, kind: str) -> str:
    if not isinstance(value, str):
        return ""
    try:
        float(value)
    except ValueError:
        return "write a number"
    return f"convert text first: {kind}({value!r})"


def counts(owner: Any, name: str, value: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """Return an int of at least `least` for each of the axes, from so many or from one for all.

    Raises:
        TypeError: not integers.
        ValueError: less than `least`, or another number of them.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return (count(owner, name, value, least),) * axes
    what = "a positive integer" if least == 1 else f"an integer >= {least}"
    what += f" or a tuple of {axes}" if axes > 1 else ""
    items = sequence(owner, name, value, what)
    if len(items) != axes:
        raise ValueError(_message(owner, name, what, value))
    return tuple(count(owner, f"{name}[{i}]", item, least) for i, item in enumerate(items))


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """Return the constructor's parameters by name, without self."""
    if kind.__init__ is object.__init__:
        return {}
    parameters = dict(list(inspect.signature(kind.__init__).parameters.items())[1:])
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{kind.__name__}: expected a constructor with named arguments, got {parameter}; "
                f"write out the arguments of {name} by name"
            )
    return parameters


# The same, kept for each class.
parameters_of: Callable[[Any], dict[str, inspect.Parameter]] = functools.cache(_parameters)
