"""Data of the command line: data sets by name, NumPy's files, and tables of numbers as text."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnx import datasets
from nnx.saving.files import replaced

__all__ = ["Samples", "read", "read_inputs", "write"]

WHAT = f"a data set ({', '.join(datasets.names())}), a .npz, .csv or .tsv file, or two .npy files"


class Samples(NamedTuple):
    """Inputs and targets, and those that are kept for a test; None if there are none."""

    x: Any
    y: Any
    x_test: Any = None
    y_test: Any = None


def read(names: Sequence[str], target: str | None, images: bool) -> Samples:
    """Return the data that the command line names.

    Args:
        names: what the command line says: one name, or two .npy files.
        target: the column of a table that holds the targets.
        images: samples of a data set as images, not as rows.

    Raises:
        ValueError, OSError, DatasetError: there is no such data, or it is not what is expected.
    """
    kind = _kind(names)
    if target is not None and kind != "table":
        raise ValueError(f"expected --target with a .csv or .tsv file, got {names[0]!r}; leave it")
    if kind == "data set":
        return Samples(*datasets.load(names[0], flat=not images))
    if kind == "arrays":
        if len(names) != 2:
            raise ValueError(
                f"expected two .npy files, the inputs and the targets, got {names[0]!r} alone; "
                "name both"
            )
        return Samples(*(_array(name) for name in names))
    if kind == "npz":
        return _npz(names[0])
    columns, rows = _table(names[0])
    return Samples(*_divided(names[0], columns, rows, target))


def read_inputs(names: Sequence[str], features: int, target: str | None, images: bool) -> Any:
    """Return inputs alone: of a data set those of its test.

    Args:
        names: see `read`.
        features: a table with one column more has the targets in its last one.
        target: the column of a table that is not an input.
        images: samples of a data set as images, not as rows.
    """
    kind = _kind(names)
    if kind == "data set":
        return datasets.load(names[0], flat=not images).x_test
    if kind == "arrays":
        return _array(names[0])
    if kind == "npz":
        found = _npz(names[0], targets=False)
        return found.x if found.x_test is None else found.x_test
    columns, rows = _table(names[0])
    if target is None and rows.shape[1] != features + 1:
        return rows
    return _divided(names[0], columns, rows, target)[0]


def write(path: str | None, outputs: np.ndarray, stream: Any) -> None:
    """Write outputs to a .npy or .csv file; as text to the stream if there is no path."""
    rows = outputs.reshape(len(outputs), -1)
    if path is None:
        csv.writer(stream, lineterminator="\n").writerows(rows.tolist())
        return
    ending = Path(path).suffix.lower()
    with replaced(path) as file:
        if ending == ".npy":
            np.save(file, outputs)
        else:
            lines = (",".join(map(repr, row)) + "\n" for row in rows.tolist())
            file.write("".join(lines).encode())


def _kind(names: Sequence[str]) -> str:
    first, ending = names[0], Path(names[0]).suffix.lower()
    kind = {".npz": "npz", ".npy": "arrays", ".csv": "table", ".tsv": "table"}.get(ending, "")
    if not kind and (first in datasets.names() or not ending):
        kind = "data set"  # which says what its names are
    if not kind:
        raise ValueError(f"expected {WHAT}, got {first!r}; convert it to one of them")
    if len(names) > 2 or (len(names) == 2 and kind != "arrays"):
        raise ValueError(f"expected {WHAT}, got {' '.join(names)!r}; name one")
    if len(names) == 2 and Path(names[1]).suffix.lower() != ".npy":
        raise ValueError(f"expected two .npy files, got {names[1]!r} beside {first!r}")
    if kind != "data set" and not Path(first).is_file():
        raise ValueError(f"expected a file, found none at {first!r}; check the path")
    return kind


def _array(name: str) -> np.ndarray:
    if not Path(name).is_file():
        raise ValueError(f"expected a file, found none at {name!r}; check the path")
    try:
        array = np.load(name, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"expected an array of numbers in {name!r}, got a file that NumPy does not read: "
            f"{error}; write it with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"expected one array in {name!r}, got several; name it .npz")
    return _numbers(name, array)


def _npz(name: str, targets: bool = True) -> Samples:
    try:
        with np.load(name, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # zipfile and NumPy raise many kinds
        raise ValueError(
            f"expected arrays of numbers in {name!r}, got a file that NumPy does not read: "
            f"{error}; write it with numpy.savez"
        ) from error
    ends = "_train" if "x_train" in arrays else ""
    needed = [f"x{ends}", *([f"y{ends}"] if targets else [])]
    if lost := [key for key in needed if key not in arrays]:
        raise ValueError(
            f"expected the arrays x and y, or x_train and y_train, in {name!r}, got "
            f"{', '.join(arrays) or 'none'}; write numpy.savez(path, x=x, y=y) ({lost[0]} is "
            "missing)"
        )
    test = "x_test" in arrays and ("y_test" in arrays or not targets)
    keys = (f"x{ends}", f"y{ends}", *(("x_test", "y_test") if test else ()))
    return Samples(*(_numbers(f"{name}, {k}", arrays[k]) if k in arrays else None for k in keys))


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise ValueError(
            f"expected an array of numbers in {name}, got {array.dtype} of shape {array.shape}; "
            "write numbers"
        )
    return array


def _table(name: str) -> tuple[list[str], np.ndarray]:
    """Return the names of the columns, and their numbers."""
    delimiter = "\t" if name.lower().endswith(".tsv") else ","
    try:
        with open(name, newline="", encoding="utf-8-sig") as file:
            lines = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"expected text in {name!r}, got other bytes: {error}") from error
    if not lines:
        raise ValueError(f"expected a line with names and lines of numbers in {name!r}, got none")
    columns = [cell.strip() for cell in lines[0]]
    if all(map(_is_number, columns)):
        columns = [str(i) for i in range(len(columns))]
        lines.insert(0, columns)
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(columns):
            raise ValueError(
                f"expected {len(columns)} columns in every line of {name!r}, got {len(cells)} in "
                f"line {number}; fill it up"
            )
        if wrong := [i for i, cell in enumerate(cells) if not _is_number(cell)]:
            raise ValueError(
                f"expected numbers in {name!r}, got {cells[wrong[0]]!r} in line {number}, column "
                f"{columns[wrong[0]]!r}; number the classes from 0, and leave out other text"
            )
        rows.append([float(cell) for cell in cells])
    if not rows:
        raise ValueError(f"expected lines of numbers in {name!r}, got names alone; add samples")
    return columns, np.asarray(rows)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _divided(
    name: str, columns: Sequence[str], rows: np.ndarray, target: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and the targets of a table; the last column if none is named."""
    if target is not None and target not in columns:
        raise ValueError(
            f"expected --target to be a column of {name!r}, got {target!r}; its columns are "
            f"{', '.join(columns)}"
        )
    if len(columns) < 2:
        raise ValueError(
            f"expected a column of targets beside the inputs in {name!r}, got {columns[0]!r} alone"
        )
    at = len(columns) - 1 if target is None else list(columns).index(target)
    y = rows[:, at]
    whole = bool((np.isfinite(y) & (y == np.floor(y)) & (abs(y) < 2**53)).all())
    return np.delete(rows, at, axis=1), y.astype("int64") if whole else y
