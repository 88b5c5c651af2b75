"""The text of --layers and the like as items, words with arguments: "dense 100 relu, dropout 0.5".

What follows a word are its arguments, in order or as name=value, up to the next comma; brackets
hold items, or the arguments of a call. Nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

__all__ = ["Item", "as_items", "parse"]

BRACKETS = 100
_TOKEN = re.compile(r"\s*(?:([(),])|([^\s(),=]+)(=?)(\(?))")


@dataclass
class Item:
    """A word with its arguments: (name or None, value); a value is plain, an Item or Items."""

    word: str
    arguments: list[tuple[str | None, Any]]


def parse(text: str) -> list[Item]:
    """Return the items of a text, which are separated by commas.

    Raises:
        ValueError: the text is not made like that; the message shows the place.
    """
    tokens = list(_tokens(text))
    if text.count("(") > BRACKETS:
        raise ValueError(
            f"expected at most {BRACKETS} brackets, got {text.count('(')}; write a program"
        )
    items, end = _items(text, tokens, 0)
    if end < len(tokens):
        raise _unreadable(text, "a ( for every )")
    if not items:
        raise _unreadable(text, "a word such as dense")
    return items


def as_items(data: Any, name: str) -> list[Item]:
    """Return the items of a text, a list of texts, or tables with the key "class".

    Raises:
        ValueError, TypeError: it is something else.
    """
    if isinstance(data, str):
        return parse(data)
    if isinstance(data, dict):
        if not isinstance(data.get("class"), str):
            raise ValueError(
                f'expected {name} to be a table with a class, got {data!r}; write class = "dense"'
            )
        own = [(key, _table_value(v, name)) for key, v in data.items() if key != "class"]
        return [Item(data["class"], own)]
    if isinstance(data, list):
        return [item for part in data for item in as_items(part, name)]
    raise TypeError(
        f'expected {name} to be text or a list, got {data!r}; write {name} = "dense 10 relu"'
    )


def _table_value(value: Any, name: str) -> Any:
    if isinstance(value, dict) or (
        isinstance(value, list) and value and isinstance(value[0], dict | str)
    ):
        return as_items(value, name)
    return value


def _tokens(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (sign, "", "") or ("", word, "=" or "(" or "" after it)."""
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable(text[at:], "a name before =")
        sign, word, equals, call = match.groups()
        yield sign or "", word or "", equals or ""
        if call:
            yield "call", "", ""
        at = match.end()


def _items(text: str, tokens: list[Any], at: int) -> tuple[list[Item], int]:
    """Return the items from a token on, and the token after them."""
    found: list[Item] = []
    while at < len(tokens):
        sign, word, equals = tokens[at]
        if sign == ")":
            break
        if not word or equals:
            raise _unreadable(text, "a word such as dense at the beginning and after every comma")
        if tokens[at + 1 : at + 2] == [("call", "", "")]:
            arguments, at = _arguments(text, tokens, at + 2, called=True)
            at += 1
        else:
            arguments, at = _arguments(text, tokens, at + 1, called=False)
        found.append(Item(word, arguments))
        if at < len(tokens) and tokens[at][0] == ",":
            at += 1
            if at == len(tokens):
                raise _unreadable(text, "a word after the last comma")
        elif at < len(tokens) and tokens[at][0] != ")":
            raise _unreadable(text, "a comma between layers")
    return found, at


def _arguments(text: str, tokens: list[Any], at: int, called: bool) -> tuple[list[Any], int]:
    """Return the arguments from a token on: up to a comma or ")", or only up to ")" of a call."""
    found: list[tuple[str | None, Any]] = []
    while at < len(tokens):
        sign, word, equals = tokens[at]
        if sign == ")" or (sign == "," and not called):
            return found, at
        name = None
        if equals:
            name, at = word, at + 1
            sign, word, equals = tokens[at] if at < len(tokens) else ("", "", "=")
            if equals or sign in (",", ")"):
                raise _unreadable(text, f"a value after {name}=")
        if sign in ("(", "call"):
            inner, at = _items(text, tokens, at + 1)
            at = _closed(text, tokens, at)
            found.append((name, inner))
        elif sign == ",":
            at += 1
        elif tokens[at + 1 : at + 2] == [("call", "", "")]:
            arguments, at = _arguments(text, tokens, at + 2, called=True)
            at = _closed(text, tokens, at)
            found.append((name, Item(word, arguments)))
        else:
            found.append((name, _literal(word)))
            at += 1
    if called:
        raise _unreadable(text, "a ) for every (")
    return found, at


def _closed(text: str, tokens: list[Any], at: int) -> int:
    if at >= len(tokens):
        raise _unreadable(text, "a ) for every (")
    return at + 1


def _literal(word: str) -> Any:
    """Return a number such as 1/255, pairs such as 3x3, True, False or None; else the word."""
    known = {"true": True, "false": False, "none": None}
    if word.lower() in known:
        return known[word.lower()]
    if re.fullmatch(r"-?\d+(x-?\d+)+", word):
        return [int(part) for part in word.split("x")]
    for number in (int, float, lambda text: float(Fraction(text))):
        try:
            return number(word)
        except (ValueError, ZeroDivisionError):
            continue
    return word


def _unreadable(text: str, expected: str) -> ValueError:
    return ValueError(
        f'expected {expected}, got {text!r}; write for example "dense 100 relu, dense 10 softmax"'
    )
