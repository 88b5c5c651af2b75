"""Errors of calls whose arguments do not fit: what to write instead."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, ParamSpec, TypeVar

from nnx.synonyms.tables import ALIASES, ELSEWHERE, OF_NETWORKS

__all__ = ["check_call", "check_names", "named", "not_called", "of_argument", "remedy"]

P = ParamSpec("P")
R = TypeVar("R")


def of_argument(name: str, known: Iterable[str]) -> str:
    """Return the argument among the known ones that stands for a name; empty if there is none."""
    there = list(known)
    for text in _texts(name):
        if (target := text.partition("=")[0]) in there:
            return target
    close = difflib.get_close_matches(name.lower(), there, n=1, cutoff=0.75)
    return close[0] if close else ""


def remedy(name: str, known: Iterable[str], value: Any = ...) -> str:
    """Return what to write for an argument that is not among the known ones.

    Args:
        name: the argument that came.
        known: those that are there.
        value: what it was given; shown if it is short.
    """
    there = list(known)
    shown = repr(value) if isinstance(value, bool | int | float | str) else "..."
    for text in _texts(name):
        target = text.partition("=")[0]
        if target in there or not target.isidentifier():
            return text.format(shown) if text.startswith("leave") else f"write {text.format(shown)}"
    if close := of_argument(name, there):
        return f"did you mean {close}={shown}?"
    return "leave it out"


def check_names(owner: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse named arguments that are not among the known ones.

    Raises:
        TypeError: the first of them, and what to write.
    """
    there = [name for name in known if name != "self"]
    for name, value in given.items():
        if name not in there:
            these = f"one of the arguments {', '.join(there)}" if there else "no arguments"
            raise TypeError(f"{owner}: expected {these}, got {name}; {remedy(name, there, value)}")


def check_call(
    owner: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    known: Mapping[str, inspect.Parameter],
) -> None:
    """Refuse arguments that do not fit the known ones: other names, too few, too many, one twice.

    Raises:
        TypeError: what is wrong, and what to write.
    """
    check_names(owner, kwargs, known)
    places = [name for name, p in known.items() if p.kind is not p.KEYWORD_ONLY]
    required = [name for name, p in known.items() if p.default is p.empty]
    if args and not known:
        raise TypeError(f"{owner}: expected no arguments, got {args!r:.60}; write {owner}()")
    if missing := [n for n in required if n not in (*places[: len(args)], *kwargs)]:
        raise TypeError(
            f"{owner}: expected the arguments {', '.join(required)}, got none for "
            f"{', '.join(missing)}; write {owner}({', '.join(required)})"
        )
    if len(args) > len(places):
        more = [f"{name}=..." for name in known if name not in places]
        raise TypeError(
            f"{owner}: expected at most {len(places)} arguments without a name, "
            f"{', '.join(places)}, got {len(args)}; "
            + (f"write {', '.join(more)}" if more else "leave the others out")
        )
    if twice := [name for name in places[: len(args)] if name in kwargs]:
        raise TypeError(
            f"{owner}: expected {twice[0]} once, got it without and with its name; leave out "
            f"{twice[0]}="
        )


def named(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function say, of arguments that do not fit, what to write instead."""
    parameters = inspect.signature(function).parameters
    known = {name: p for name, p in parameters.items() if name != "self"}
    method = len(known) < len(parameters)

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # it comes from inside of the function
            refused = error
        name = function.__name__
        owner = type(args[0]).__name__ if name == "__init__" else name
        check_call(owner, args[1:] if method else args, kwargs, known)
        raise refused

    return called


def not_called(remedy: str) -> Any:
    """Return a `__call__` for objects that are not functions: an error that says what to write."""

    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: N807
        """Refuse the call."""
        raise TypeError(
            f"{type(self).__name__}: expected the name of a method, got a call of the object; "
            f"write {remedy}"
        )

    # What asks for a function of some arguments sees that this is none.
    __call__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    )
    return __call__


def _texts(name: str) -> tuple[str, ...]:
    key = name.lower()
    return ELSEWHERE.get(ALIASES.get(key, key), ()) or OF_NETWORKS.get(key, ())
