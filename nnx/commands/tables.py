"""Tables as text, .csv and .tsv: which columns are inputs, which targets, and what labels mean."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["About", "Table", "inputs_of", "read_table", "renumbered", "samples_of"]

# How pandas and R call the column of row numbers that they write in front.
INDEX = ("", "Unnamed: 0")


class About(NamedTuple):
    """What a saved network keeps of the data that it was trained with.

    Attributes:
        inputs: the columns that were its inputs, by name; empty if it was not a table.
        targets: those that were its targets.
        labels: the name of each class; empty if they have none.
        classes: whether the targets were classes.
    """

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    classes: bool = False

    @classmethod
    def of(cls, data: Any) -> About:
        """Return what a file says; what is missing or of another kind is left out."""
        data = data if isinstance(data, Mapping) else {}
        lists = {}
        for name in ("inputs", "targets", "labels"):
            items = data.get(name)
            good = isinstance(items, list) and all(isinstance(item, str) for item in items)
            lists[name] = tuple(items) if good else ()
        return cls(**lists, classes=data.get("classes") is True)

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, of which `of` makes it again."""
        lists = {name: list(value) for name, value in self._asdict().items() if name != "classes"}
        return {**lists, "classes": self.classes}


class Table(NamedTuple):
    """A table: the names of its columns, and the text of its cells.

    Attributes:
        name: of the file.
        columns: their names; "0", "1", ... if the file has none.
        rows: the number of the line, and its cells.
        named: whether the names are those of the file.
        counted: whether a column of row numbers was left out.
    """

    name: str
    columns: list[str]
    rows: list[tuple[int, list[str]]]
    named: bool
    counted: bool

    def without(self, names: Sequence[str], option: str) -> list[str]:
        """Return the columns that are not named.

        Raises:
            ValueError: there is no such column.
        """
        if lost := [name for name in names if name not in self.columns]:
            raise ValueError(
                f"expected {option} to be a column of {self.name!r}, got {lost[0]!r}; its columns "
                f"are {', '.join(self.columns)}"
            )
        return [name for name in self.columns if name not in names]

    def cells(self, column: str) -> list[str]:
        """Return the cells of a column."""
        at = self.columns.index(column)
        return [cells[at] for _, cells in self.rows]

    def numbers(self, columns: Sequence[str], what: str, remedy: str) -> np.ndarray:
        """Return the numbers of some columns, (lines, columns).

        Raises:
            ValueError: a cell is no finite number; the message ends with the remedy, in which {}
                is the column.
        """
        places = [self.columns.index(name) for name in columns]
        found = np.empty((len(self.rows), len(places)))
        for row, (line, cells) in enumerate(self.rows):
            for i, at in enumerate(places):
                value = _number(cells[at])
                if value is None:
                    column = self.columns[at]
                    missing = not cells[at].strip() or cells[at].strip().lower() in MISSING
                    if _number(point := cells[at].replace(",", ".")) is not None:
                        remedy = f"numbers have a point: {point}"
                    raise ValueError(
                        f"expected numbers in {what} of {self.name!r}, got {cells[at]!r} in line "
                        f"{line}, column {column!r}; " + (GAP if missing else remedy).format(column)
                    )
                found[row, i] = value
        return found


MISSING = ("na", "nan", "n/a", "null", "none", "?", "-")
GAP = "fill it in, or delete the line"
INPUT = (
    "write numbers instead, or leave it out: --ignore {ignored}; if it is the target: --target {0}"
)


def read_table(name: str) -> Table:
    """Return the table of a file.

    Raises:
        ValueError, OSError: it is not a table.
    """
    try:
        with open(name, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=_delimiter(name, first))
            lines = [(reader.line_num, [c.strip() for c in row]) for row in reader if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"expected text in {name!r}, got other bytes: {error}; save it as CSV in UTF-8"
        ) from error
    if not lines:
        raise ValueError(
            f"expected a line with names and lines of numbers in {name!r}, got none; add samples"
        )
    columns, named = lines[0][1], not _is_sample(*[cells for _, cells in lines[:2]])
    rows = lines[1:] if named else lines
    if not named:
        columns = [str(i) for i in range(len(columns))]
    for number, cells in rows:
        if len(cells) != len(columns):
            raise ValueError(
                f"expected {len(columns)} columns in every line of {name!r}, got {len(cells)} in "
                f"line {number}; fill it up"
            )
    if not rows:
        raise ValueError(f"expected lines of numbers in {name!r}, got names alone; add samples")
    counted = named and len(columns) > 1 and columns[0] in INDEX
    if counted:
        columns, rows = columns[1:], [(number, cells[1:]) for number, cells in rows]
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise ValueError(
            f"expected columns of different names in {name!r}, got {twice[0]!r} twice; rename one"
        )
    return Table(name, columns, rows, named, counted)


def samples_of(
    table: Table, target: Any, ignore: Any, about: About
) -> tuple[np.ndarray, np.ndarray, About]:
    """Return inputs, targets and what they are.

    Targets are class indices or numbers (lines,), or numbers (lines, targets) for several columns.

    Args:
        table: the table.
        target: the columns of the targets, "a" or "a,b"; None for those that the network was
            trained with, or else the last.
        ignore: columns that are neither inputs nor targets.
        about: what the network was trained with; empty for a new one.

    Raises:
        ValueError: a column is not there, or a cell is not what is expected.
    """
    if len(table.columns) < 2:
        raise ValueError(
            f"expected a column of targets beside the inputs in {table.name!r}, got "
            f"{table.columns[0]!r} alone; add one"
        )
    left = _names(table, ignore)
    rest = table.without(left, "--ignore")
    known = list(about.targets) if set(about.targets) <= set(table.columns) else []
    targets = _names(table, target) or known or rest[-1:]
    table.without(targets, "--target")
    if both := [name for name in targets if name in left]:
        raise ValueError(f"expected --ignore without a target, got {both[0]!r}; leave it out")
    inputs = [name for name in rest if name not in targets]
    if about.inputs and set(about.inputs) <= set(table.columns):
        inputs = list(about.inputs)
    if not inputs:
        raise ValueError(f"expected a column of inputs in {table.name!r}, got none; add one")
    out = ",".join([*(name.replace("{", "{{").replace("}", "}}") for name in left), "{0}"])
    x = table.numbers(inputs, "the inputs", INPUT.replace("{ignored}", out))
    y, labels = _targets(table, targets, about.labels)
    whole = bool(labels) or y.dtype.kind == "i"
    return x, y, About(tuple(inputs), tuple(targets), tuple(labels), whole and y.ndim == 1)


def inputs_of(table: Table, features: int, target: Any, about: About) -> np.ndarray:
    """Return the inputs alone; the cells of the other columns are not looked at.

    Args:
        table: the table.
        features: how many the network takes.
        target: columns that are not inputs, if the table has them.
        about: what the network was trained with.

    Raises:
        ValueError: the table has not the columns that the network was trained with.
    """
    columns, named = table.columns, table.named and not _are_numbers(about.inputs)
    if about.inputs and set(about.inputs) <= set(columns):
        columns = list(about.inputs)
    elif about.inputs and named:
        lost = [name for name in about.inputs if name not in columns]
        raise ValueError(
            f"expected the columns {', '.join(about.inputs)} in {table.name!r}, with which the "
            f"network was trained, got {', '.join(columns)}; {lost[0]!r} is missing: rename or add "
            "it"
        )
    elif target is not None:
        names = _names(table, target)
        if len(columns) != features:  # with as many as there are inputs, no target is there
            columns = table.without(names, "--target")
    elif len(columns) == features + max(len(about.targets), 1):
        columns = columns[:features]
    remedy = (
        "write numbers instead"
        if columns == about.inputs
        else "write numbers instead; " + ("if it is a target: --target {0}")
    )
    return table.numbers(columns, "the inputs", remedy)


def renumbered(y: np.ndarray, outputs: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return class indices from 0, and their names, for classes with other numbers.

    Numbers that are indices of the outputs already stay as they are, without names.
    """
    if y.dtype.kind != "i" or y.ndim != 1 or outputs == 1 or (y.min() >= 0 and y.max() < outputs):
        return y, ()
    numbers, indices = np.unique(y, return_inverse=True)
    return indices.astype("int64"), tuple(map(str, numbers.tolist()))


def _delimiter(name: str, first: str) -> str:
    if Path(name).suffix.lower() == ".tsv":
        return "\t"
    return max(",;\t", key=first.count)


def _is_sample(first: Sequence[str], second: Sequence[str] = ()) -> bool:
    """Return whether the first line is a sample: numbers in the same places as in the second."""
    numbers = [_number(cell) is not None for cell in first]
    others = [_number(cell) is not None for cell in second]
    return all(numbers) or (any(numbers) and numbers == others)


def _names(table: Table, names: Any) -> list[str]:
    """Return the columns of "a,b", of a list, or of one name that has a comma itself."""
    if names is None:
        return []
    if isinstance(names, list):
        return [str(name) for name in names]
    if names in table.columns:
        return [names]
    return [name.strip() for name in names.split(",") if name.strip()]


def _targets(
    table: Table, targets: Sequence[str], labels: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Return the targets, and the names of classes if they are text."""
    cells = table.cells(targets[0])
    texts = [cell for cell in cells if _number(cell) is None]
    if len(targets) == 1 and (labels or len(texts) == len(cells)):
        known = list(labels) or sorted(set(cells))
        place = {label: i for i, label in enumerate(known)}
        found = []
        for line, cell in zip((line for line, _ in table.rows), cells, strict=True):
            label = cell if cell in place else _plain(cell)
            if label not in place or not cell:
                what = f"one of {', '.join(known)}" if labels else "a label"
                raise ValueError(
                    f"expected {what} in column {targets[0]!r} of {table.name!r}, got {cell!r} in "
                    f"line {line}; {GAP}"
                )
            found.append(place[label])
        return np.asarray(found, "int64"), known
    remedy = (
        "write a number, or text in every line"
        if len(targets) == 1
        else ("write numbers: text is for classes, which are one column, --target {0}")
    )
    y = table.numbers(targets, "the targets", remedy)
    if len(targets) > 1:
        return y, []
    whole = bool(((y == np.floor(y)) & (abs(y) < 2**53)).all())
    return y[:, 0].astype("int64" if whole else y.dtype), []


def _plain(cell: str) -> str:
    """Return "1" for "1.0": a number as the name of a class."""
    value = _number(cell)
    return str(int(value)) if value is not None and value == math.floor(value) else cell


def _number(cell: str) -> float | None:
    """Return a finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names)
