"""Plain data as JSON text that gives back the same data, and arrays that stand in plain data.

What JSON has no way to write is encoded: an infinite number or NaN is {"float": "inf"}, an array is
{"array": its name}. Text is read strictly: no name twice, no NaN as a number.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nnx.backend import to_numpy
from nnx.backend.namespace import is_array
from nnx.saving.errors import FileError

__all__ = ["dumps", "join", "loads", "parsed", "split"]

CODES = ({"array"}, {"float"})
FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
LONGEST = 1 << 24  # of a text, in bytes; a network of thousands of layers has a tenth of it


def dumps(data: Any) -> str:
    """Return plain data as JSON text.

    Raises:
        TypeError: there is something else in it.
        ValueError: the text is longer than what is read.
    """
    text = json.dumps(_encoded(data, "data", _refused), allow_nan=False, separators=(",", ":"))
    if len(text) > LONGEST:
        raise ValueError(
            f"expected a description of at most {LONGEST:,} bytes, got {len(text):,}; keep long "
            "lists of numbers as arrays"
        )
    return text


def loads(text: str) -> Any:
    """Return the plain data that `dumps` has written.

    Raises:
        FileError: it is not such a text.
    """
    if len(text) > LONGEST:
        raise FileError(f"expected a description of at most {LONGEST:,} bytes, got {len(text):,}")
    data = parsed(text)
    try:
        return _decoded(data)
    except RecursionError:
        raise _too_deep() from None


def parsed(text: str) -> Any:
    """Return what is in JSON text.

    Raises:
        FileError: it is not JSON, has a name twice, or NaN as a number.
    """
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_unique)
    except FileError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise FileError(f"expected a description as JSON, got text that is not: {error}") from None


def split(data: Any, name: str = "data") -> tuple[Any, dict[str, np.ndarray]]:
    """Return nested dicts, lists and tuples with arrays as plain data, and the arrays by name.

    Each array, of NumPy or of a backend, is copied to the host and replaced by {"array": its name},
    which is its place: "data/history/0". Tuples become lists.

    Args:
        data: what to take apart.
        name: how the names of the arrays begin.

    Raises:
        TypeError: there is something in it that is neither plain data nor an array.
    """
    arrays: dict[str, np.ndarray] = {}

    def taken(value: Any, place: str) -> Any:
        if not is_array(value):
            return _refused(value, place)
        if place in arrays:
            raise TypeError(
                f"{place}: expected arrays in places of their own, got two; rename a key with '/'"
            )
        arrays[place] = to_numpy(value)
        return {"array": place}

    return _encoded(data, name, taken, floats=False), arrays


def join(plain: Any, source: Any) -> Any:
    """Return what `split` has taken apart.

    Args:
        plain: the plain data.
        source: a `File`, or a mapping from names to arrays.

    Raises:
        FileError: an array is missing, or in several places.
    """
    read: Callable[[str], Any] = getattr(source, "read", None) or source.__getitem__
    return _joined(plain, read, set())


def _joined(plain: Any, read: Callable[[str], Any], seen: set[str]) -> Any:
    if isinstance(plain, list | tuple):
        return [_joined(item, read, seen) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if set(plain) != {"array"}:
        return {name: _joined(item, read, seen) for name, item in plain.items()}
    name = plain["array"]
    if not isinstance(name, str) or name in seen:  # a copy for each place could fill the memory
        raise FileError(
            f"expected the name of an array that is in no other place, got {name!r:.60}"
        )
    seen.add(name)
    try:
        return read(name)
    except KeyError:
        raise FileError(
            f"expected an array named {name!r:.60}, got none; the file is incomplete"
        ) from None


def _encoded(value: Any, place: str, other: Callable[[Any, str], Any], floats: bool = True) -> Any:
    """Return a copy that JSON can hold; `other` is asked about what is not plain data."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(
                    f"{place}: expected text as the keys of a dict, got {name!r}; write str(...)"
                )
        if set(value) in CODES and not (floats and set(value) == {"array"}):
            raise TypeError(
                f"{place}: expected a dict with other keys, got {value!r}, which stands for "
                "something else in a file; add a key or rename it"
            )
        return {k: _encoded(v, f"{place}/{k}", other, floats) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(v, f"{place}/{i}", other, floats) for i, v in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and floats and not math.isfinite(value):
        return {"float": str(float(value))}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return other(value, place)


def _decoded(data: Any) -> Any:
    if isinstance(data, list):
        return [_decoded(item) for item in data]
    if not isinstance(data, dict):
        return data
    if set(data) == {"float"}:
        if not isinstance(data["float"], str) or data["float"] not in FLOATS:
            raise FileError(f"expected one of {', '.join(FLOATS)}, got {data['float']!r:.60}")
        return FLOATS[data["float"]]
    return {name: _decoded(item) for name, item in data.items()}


def _refused(value: Any, place: str) -> Any:
    raise TypeError(
        f"{place}: expected numbers, text, None, or dicts and lists of these, got {value!r:.100}"
    )


def _too_deep() -> FileError:
    return FileError("expected a description as JSON, got one that is nested too deep")


def _no_number(text: str) -> Any:
    raise FileError(f"expected finite numbers, got {text}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise FileError(f"expected each name once, got {twice!r:.60} several times")
    return found
