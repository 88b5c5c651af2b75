"""Containers that data may come in: which are taken, and which are refused with what remedy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from typing import Any, NoReturn

import array_api_compat
import numpy as np

from nnx.backend import Backend, BackendError
from nnx.data.rows import on_disk

__all__ = ["host_expression", "items", "kind_of", "real_numbers"]

DAY = "numpy.timedelta64(1, 'D')"
NUMBERS = "pass numbers"


def real_numbers(backend: Backend, data: Any, name: str) -> Any:
    """Return real numbers as a NumPy array, or unchanged if they are an array of the backend.

    Raises:
        TypeError: another kind of container, or other contents.
        ValueError: missing or masked values, or rows of several lengths.
        BackendError: an array of another library.
    """
    if not isinstance(data, np.ndarray) and backend.owns(data):
        if "sparse" in str(getattr(data, "layout", "")):
            _refuse(name, "a sparse array", f"write {name}.to_dense()")
        if not backend.xp.isdtype(data.dtype, ("real floating", "integral", "bool")):
            _refuse(name, f"dtype {data.dtype}", f"write nnx.to_numpy({name}).real")
        return data
    if type(data) is np.ndarray:
        array = data
    elif isinstance(data, np.ma.MaskedArray):
        array = _unmasked(data, name)
    elif isinstance(data, np.ndarray | np.generic):
        array = np.asarray(data)
    else:
        array = np.asarray(_opened(backend, data, name))
    if array.dtype.kind not in "fiub":
        _refuse_dtype(array, name, name if isinstance(data, np.ndarray) else _asarray(name))
    return array


def host_expression(backend: Backend, data: Any, name: str) -> str:
    """Return the Python expression that gives a user a NumPy array of the same values."""
    if isinstance(data, np.ndarray):
        return name
    return f"nnx.to_numpy({name})" if backend.owns(data) else _asarray(name)


def _opened(backend: Backend, data: Any, name: str) -> Any:
    """Return data that NumPy reads as it is meant, or refuse it."""
    library = type(data).__module__.partition(".")[0]
    if hasattr(data, "toarray") or hasattr(data, "todense"):
        method = "toarray" if hasattr(data, "toarray") else "todense"
        flat = ".ravel()" if _role(name) != "x" and 1 in data.shape else ""
        _refuse(name, f"a sparse {type(data).__name__}", f"write {name}.{method}(){flat}")
    if library == "pandas" and hasattr(data, "isna"):
        return _pandas(data, name)
    if library == "polars":
        return _polars(data, name)
    if array_api_compat.is_array_api_obj(data):
        kind = type(data).__module__.partition(".")[0]
        raise BackendError(
            f"expected {name} as NumPy data or arrays of backend {backend.name!r}, "
            f"got a {kind} {type(data).__name__}",
            f"pass NumPy data, or convert it first: write nnx.to_numpy({name})",
        )
    if isinstance(data, str | bytes | os.PathLike):
        _refuse(name, repr(data), f"read the file first, for example: write numpy.load({name})")
    if isinstance(data, set | frozenset):
        _refuse(name, "a set, which has no order", "pass a list in the order of the samples")
    if isinstance(data, Mapping) and library == "datasets":
        _refuse(name, kind_of(data), f"choose one of it: write {name}[{next(iter(data), '')!r}]")
    if isinstance(data, Mapping):
        columns = f"list({name}.values())"
        if _role(name) == "x":
            columns = f"numpy.column_stack({columns})"
        hint = (
            "for weights of classes: pass class_weights={class: weight}; for weights of samples: "
        )
        _refuse(name, kind_of(data), hint * (_role(name) == "w") + f"write {columns}")
    if isinstance(data, Sequence | Number) or hasattr(data, "__array__"):
        return _listed(data, name)
    if on_disk(data):
        return data[0 : data.shape[0]]
    if isinstance(data, Iterable):
        _refuse(name, kind_of(data), f"write list({name})")
    got = repr(data) if data is None else kind_of(data)
    remedy = "pass an array or a list with one sample per row"
    if hasattr(data, "__getitem__") and _role(name) == "x":
        remedy += f"; for a Dataset of PyTorch: write torch.utils.data.DataLoader({name}, 32)"
    return _refuse(name, got, remedy)


def _listed(data: Any, name: str) -> np.ndarray:
    rows = data if isinstance(data, list | tuple) else ()
    if any(isinstance(row, np.ma.MaskedArray) for row in rows):
        _refuse(name, "a list of masked arrays", f"write numpy.ma.stack({name})")
    if (
        rows
        and array_api_compat.is_array_api_obj(rows[0])
        and not isinstance(rows[0], np.ndarray | np.generic)
    ):
        kind = f"a list of {type(rows[0]).__module__.partition('.')[0]} arrays"
        _refuse(name, kind, f"write [nnx.to_numpy(row) for row in {name}]")
    if rows and hasattr(rows[0], "toarray"):
        _refuse(name, "a list of sparse rows", f"write [row.toarray().ravel() for row in {name}]")
    try:
        return np.asarray(data)
    except (ValueError, TypeError) as error:
        remedy = "make all rows of one length"
        if _role(name) == "x":
            remedy = (
                "sequences of any length need a network of input_shape=(None, ...); otherwise, "
                + remedy
            )
            remedy += f": write numpy.array(list(itertools.zip_longest(*{name}, fillvalue=0))).T"
        raise ValueError(
            f"expected {name} with rows of one length, got {kind_of(data)}: {error}; {remedy}"
        ) from error


def _unmasked(data: Any, name: str) -> np.ndarray:
    mask = np.ma.getmaskarray(data)
    if mask.any():
        _missing(name, mask, "masked", f"{name}.filled(0)", f"numpy.ma.getmaskarray({name})")
    return np.asarray(data.data)


def _pandas(data: Any, name: str) -> np.ndarray:
    """Return the numbers of a Series or DataFrame in the order of its rows, whatever its index."""
    columns = [(None, data)] if data.ndim == 1 else list(data.items())
    dtypes = []
    for label, column in columns:
        one = name if label is None else f"{name}[{label!r}]"
        if np.asarray(column.isna()).any():
            _missing(
                name, np.asarray(data.isna()), "missing", f"{name}.fillna(0)", f"{name}.isna()"
            )
        dtype = column.dtype
        if hasattr(dtype, "categories") or dtype.kind not in "fiub":
            _refuse_column(column, name, one, label)
        dtypes.append(getattr(dtype, "numpy_dtype", None) or getattr(dtype, "subtype", dtype))
    return data.to_numpy(dtype=np.result_type(*dtypes)) if dtypes else np.asarray(data)


def _refuse_column(column: Any, name: str, one: str, label: Any) -> NoReturn:
    """Refuse a column that is not made of numbers; `one` is the expression that selects it."""
    dtype, role = column.dtype, _role(name)
    got = f"dtype {dtype}" if label is None else f"dtype {dtype} in column {label!r}"
    if dtype.kind in "mM":
        days = f"{one} / {DAY}" if dtype.kind == "m" else f"({one} - {one}.min()) / {DAY}"
        if label is not None:
            days = f"pandas.DataFrame({{**{name}, {label!r}: {days}}})"
        _refuse(name, got, f"write {days}")
    _refuse_nested(column.iloc[0] if len(column) else None, name)
    try:
        numbers = np.asarray(column.astype(float))
    except (TypeError, ValueError):
        codes = f"numpy.unique({one}, return_inverse=True)[1]"
        if hasattr(dtype, "categories"):
            codes = f"{one}.cat.codes"
        dummies = f"pandas.get_dummies({name})"
        _refuse(name, got, {"x": f"write {dummies}", "y": f"write {codes}"}.get(role, NUMBERS))
    _refuse(name, got, f"write {name}.{_as_type(numbers, role)}")


def _polars(data: Any, name: str) -> np.ndarray:
    if not hasattr(data, "to_numpy"):
        _refuse(name, f"a polars {type(data).__name__}", f"write {name}.collect()")
    columns = [data] if not hasattr(data, "get_columns") else data.get_columns()
    for column in columns:
        if column.null_count():
            mask = np.column_stack([c.is_null().to_numpy() for c in columns])
            where = f"{name}.is_null()"
            if column is not data:
                where = f"{name}.select(polars.all().is_null())"
            _missing(name, mask, "missing", f"{name}.fill_null(0)", where)
    text = [c.name for c in columns if not (c.dtype.is_numeric() or str(c.dtype) == "Boolean")]
    if text and columns[0] is not data and _role(name) == "x":
        _refuse(name, f"text or dates in columns {text}", f"write {name}.to_dummies({text})")
    return data.to_numpy()


def _refuse_dtype(array: np.ndarray, name: str, host: str) -> NoReturn:
    kind, role = array.dtype.kind, _role(name)
    got = f"dtype {array.dtype}"
    if kind == "c":
        _refuse(name, got, f"pass both parts as features, or drop one: write numpy.real({name})")
    if kind == "M":
        _refuse(name, got, f"write ({host} - {host}.min()) / {DAY}")
    if kind == "m":
        _refuse(name, got, f"write {host} / {DAY}")
    if kind == "V":
        _refuse(name, got, f"write numpy.array({host}.tolist())")
    if kind == "O":
        absent = np.array([_is_missing(value) for value in array.ravel()]).reshape(array.shape)
        if absent.any():
            _missing(name, absent, "missing", "", "")
        _refuse_nested(array.flat[0] if array.size else None, name)
    try:
        numbers = array.astype(float)
    except (TypeError, ValueError):
        remedy = NUMBERS
        if role == "y":
            remedy = f"for names of classes: write numpy.unique({name}, return_inverse=True)[1]"
        elif role == "x" and array.ndim:
            remedy = f"encode text first: write pandas.get_dummies(pandas.DataFrame({name}))"
        _refuse(name, got, remedy)
    _refuse(name, got, f"write {host}.{_as_type(numbers, role)}")


def items(data: Any) -> list[Any] | None:
    """Return the samples of a list of arrays or lists, which may differ in shape; else None.

    An array or a column of objects is taken as such a list too.
    """
    if isinstance(data, np.ndarray | list | tuple):
        objects = isinstance(data, np.ndarray) and data.dtype.kind == "O" and data.ndim == 1
        listed = list(data) if objects or isinstance(data, list | tuple) else []
    else:
        objects = getattr(data, "ndim", 0) == 1 and str(getattr(data, "dtype", "")) == "object"
        listed = list(data) if objects else []
    if listed and all(
        isinstance(item, list | tuple) or getattr(item, "ndim", 0) > 0 for item in listed
    ):
        return listed
    return None


def _refuse_nested(first: Any, name: str) -> None:
    """Refuse an object array or a column whose entries are arrays or lists."""
    if isinstance(first, np.ndarray | list | tuple):
        _refuse(name, f"an array of {type(first).__name__}s", f"write numpy.stack(list({name}))")


def _as_type(numbers: np.ndarray, role: str) -> str:
    """The conversion of text or objects that are these numbers; whole targets may be classes."""
    whole = role == "y" and bool(np.all(numbers == np.floor(numbers)))
    return "astype(float).astype(int)" if whole else "astype(float)"


def _missing(name: str, mask: np.ndarray, what: str, filled: str, where: str) -> NoReturn:
    """Refuse missing values: x and weights may be filled with 0, targets may not."""
    rows = np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)) if mask.ndim else [0]
    remedy = "replace these values or drop these samples"
    if filled and _role(name) != "y":
        remedy = f"drop these samples, or fill in a number: write {filled}"
    elif where:
        remedy = f"drop these samples; to list them: write numpy.argwhere({where})"
    raise ValueError(
        f"expected {name} without {what} values, got {int(mask.sum())} in {len(rows)} of "
        f"{len(mask) if mask.ndim else 1} samples, the first is sample {int(rows[0])}; {remedy}"
    )


def _refuse(name: str, got: str, remedy: str) -> NoReturn:
    raise TypeError(f"expected {name} as an array or list of real numbers, got {got}; {remedy}")


def kind_of(data: Any) -> str:
    """Return the type's name with its article: "a dict", "an iterator"."""
    name = type(data).__name__
    return f"an {name}" if name.lower().startswith((*"aeiou", "nd")) else f"a {name}"


def _asarray(name: str) -> str:
    return f"numpy.asarray({name})"


def _role(name: str) -> str:
    """Return what an argument of this name is: "x", "y", or "w" for weights."""
    for role, whole in (("x", ("x", "validation[0]")), ("y", ("y", "validation[1]"))):
        if name.startswith(whole):  # "y[3]" is the targets of one sample
            return role
    return "w"


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value
