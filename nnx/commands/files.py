"""Data of the command line: data sets by name, NumPy's files, and tables as text."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnx import datasets
from nnx.checks import file_there
from nnx.commands.tables import About, inputs_of, read_table, samples_of
from nnx.saving.files import replaced

__all__ = ["WHAT", "Samples", "labelled", "new_array", "read", "read_inputs", "write"]

WHAT = f"a data set ({', '.join(datasets.names())}), a .npz, .csv or .tsv file, or two .npy files"


UNKNOWN = About()


class Samples(NamedTuple):
    """Inputs and targets, and those that are kept for a test; None if there are none.

    Attributes:
        x, y, x_test, y_test: arrays.
        about: what they are.
        notes: lines for whoever trains with them.
        scaled: whether the inputs are numbers from 0 to 1, as those of the data sets.
    """

    x: Any
    y: Any
    x_test: Any = None
    y_test: Any = None
    about: About = UNKNOWN
    notes: tuple[str, ...] = ()
    scaled: bool = False


def read(
    names: Sequence[str],
    images: bool,
    target: Any = None,
    ignore: Any = None,
    about: About = UNKNOWN,
) -> Samples:
    """Return the data that the command line names.

    Args:
        names: what the command line says: one name, or two .npy files.
        images: samples of a data set as images, not as rows.
        target: the columns of a table that hold the targets, "a" or "a,b".
        ignore: the columns of a table that are left out.
        about: what a network was trained with, for data that it is scored on.

    Raises:
        ValueError, OSError, DatasetError: there is no such data, or it is not what is expected.
    """
    kind = _kind(names)
    _only_of_tables(kind, names, {"--target": target, "--ignore": ignore})
    if kind == "data set":
        found = Samples(*datasets.load(names[0], flat=not images), scaled=True)
    elif kind == "arrays":
        if len(names) != 2:
            raise ValueError(
                f"expected two .npy files, the inputs and the targets, got {names[0]!r} alone; "
                "name both"
            )
        x, y = map(_array, names)
        found = Samples(x, np.asarray(y) if y.ndim == 1 else y)  # one number for each is no burden
    elif kind == "npz":
        found = _npz(names[0])
    else:
        table = read_table(names[0])
        x, y, of = samples_of(table, target, ignore, about)
        note = f"{names[0]}: the first column has no name and is left out, as it counts the lines"
        return Samples(x, y, about=of, notes=(note,) if table.counted else ())
    classes = getattr(found.y, "ndim", 0) == 1 and found.y.dtype.kind in "iub"
    return found._replace(about=About(classes=classes))


def read_inputs(
    names: Sequence[str], images: bool, features: int, target: Any, about: About
) -> Any:
    """Return inputs alone: of a data set those of its test.

    Args:
        names: see `read`.
        images: samples of a data set as images, not as rows.
        features: how many numbers a sample has; a table may have targets beside them.
        target: the columns of a table that are not inputs.
        about: what the network was trained with.
    """
    kind = _kind(names)
    _only_of_tables(kind, names, {"--target": target})
    if kind == "data set":
        return datasets.load(names[0], flat=not images).x_test
    if kind == "arrays":
        return _array(names[0])
    if kind == "npz":
        found = _npz(names[0], targets=False)
        return found.x if found.x_test is None else found.x_test
    return inputs_of(read_table(names[0]), features, target, about)


def labelled(indices: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Return the names of class indices."""
    return np.asarray(labels)[indices]


def write(path: str | None, outputs: np.ndarray, stream: Any) -> None:
    """Write outputs to a .npy or .csv file; as text to the stream if there is no path."""
    rows = outputs.reshape(len(outputs), -1).tolist()
    if path is None:
        csv.writer(stream, lineterminator="\n").writerows(rows)
        return
    with replaced(path) as file:
        if Path(path).suffix.lower() == ".npy":
            np.save(file, outputs)
        else:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            file.write(text.getvalue().encode())


@contextlib.contextmanager
def new_array(path: str, shape: tuple[int, ...], dtype: str) -> Iterator[np.ndarray]:
    """A block with an array on disk, which is a .npy file of this name once it is filled."""
    with replaced(path) as file:
        array = np.lib.format.open_memmap(file.name, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and the end later
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        yield array
        array.flush()


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
    if kind != "data set":
        file_there(first)
    return kind


def _only_of_tables(kind: str, names: Sequence[str], options: dict[str, Any]) -> None:
    for option, value in options.items():
        if value is not None and kind != "table":
            raise ValueError(
                f"expected {option} with a .csv or .tsv file, got {names[0]!r}; leave it out"
            )


def _array(name: str) -> np.ndarray:
    file_there(name)
    try:
        array = np.load(name, mmap_mode="r", allow_pickle=False)  # it may not fit into memory
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
    keys = [f"x{ends}", f"y{ends}", *(["x_test", "y_test"] if test else [])]
    found = [_numbers(f"{name}, {k}", arrays[k]) if k in arrays else None for k in keys]
    x, y, x_test, y_test = [*found, None, None][:4]
    return Samples(x, y, x_test, y_test)


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        text = "write class indices: numpy.unique(y, return_inverse=True)[1]"
        raise ValueError(
            f"expected an array of numbers in {name}, got {array.dtype} of shape {array.shape}; "
            f"{text if array.dtype.kind in 'US' else 'write numbers'}"
        )
    return array
