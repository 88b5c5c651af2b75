"""The one door of the metrics: data of a person becomes checked arrays of one library."""

from __future__ import annotations

from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError, flag, number

__all__ = ["Classes", "arange", "classes_of", "device_of", "numbers_of", "weighted_mean"]


class Classes(NamedTuple):
    """Checked data of classes, leading axes flattened."""

    xp: Any
    outputs: Array  # scores (terms, outputs), or guessed classes (terms,)
    targets: Array  # class indices (terms,), or answers (terms, outputs)
    weights: Array | None  # (terms,)
    labels: bool  # are the outputs guessed classes?
    per_entry: bool
    classes: int
    dtype: Any


def classes_of(
    owner: str,
    outputs: Any,
    targets: Any,
    threshold: float,
    sample_weights: Any,
    per_entry: bool = False,
) -> Classes:
    """The one door of the metrics of classes."""
    number(owner, "threshold", threshold)
    per_entry = flag(owner, "per_entry", per_entry)
    xp, a, y, w = _arrays(owner, outputs, targets, sample_weights)
    dtype = _float_dtype(xp, a)
    labels = a.ndim == 1 and not xp.isdtype(a.dtype, "real floating")
    if a.ndim == 1:
        if tuple(y.shape) == (*a.shape, 1):
            y = xp.reshape(y, (-1,))
        a = a if labels else a[:, None]
    terms = tuple(a.shape) if labels else tuple(a.shape[:-1])
    rows = not labels and y.shape == a.shape
    if tuple(y.shape) != terms and not rows:
        raise ShapeError(
            f"{owner}: expected targets as class indices {terms}"
            + ("" if labels else f" or rows {tuple(a.shape)}")
            + f", got shape {tuple(y.shape)}; a column of indices becomes a row of them by "
            "reshape(-1)"
        )
    w = _term_weights(owner, xp, w, terms, dtype)
    if labels:
        a, y = _indices(owner, xp, a, "outputs"), _indices(owner, xp, y, "targets")
        classes = 1 + max(1, int(xp.max(a)), int(xp.max(y)))
        return Classes(xp, a, y, w, True, False, classes, dtype)
    a = xp.reshape(xp.astype(a, dtype), (-1, a.shape[-1]))
    outputs = a.shape[-1]
    per_entry = per_entry and outputs > 1
    classes = outputs if per_entry else max(outputs, 2)
    if not rows:
        y = _indices(owner, xp, xp.reshape(y, (-1,)), "targets", classes)
        if per_entry:
            y = xp.astype(y[:, None] == arange(xp, outputs, y.dtype, a), dtype)
    else:
        y = xp.reshape(xp.astype(y, dtype), a.shape)
        _check_rows(owner, xp, y, per_entry)
        if outputs == 1:
            y = xp.astype(y[:, 0] >= 0.5, _integer_dtype(xp, y))
        elif not per_entry:
            y = xp.argmax(y, axis=-1)
    return Classes(xp, a, y, w, False, per_entry, classes, dtype)


def numbers_of(
    owner: str, outputs: Any, targets: Any, sample_weights: Any
) -> tuple[Any, Array, Array, Array | None]:
    """The one door of the metrics of numbers: two arrays (terms, outputs), weights (terms,)."""
    xp, a, y, w = _arrays(owner, outputs, targets, sample_weights)
    dtype = _float_dtype(xp, a if xp.isdtype(a.dtype, "real floating") else y)
    a, y = xp.astype(a, dtype, copy=False), xp.astype(y, dtype, copy=False)
    a = a[:, None] if a.ndim == 1 else a
    y = y[:, None] if y.ndim == 1 else y
    if a.shape != y.shape:
        raise ShapeError(
            f"{owner}: expected targets of the shape of the outputs, {tuple(a.shape)}, got "
            f"{tuple(y.shape)}"
        )
    w = _term_weights(owner, xp, w, tuple(a.shape[:-1]), dtype)
    shape = (-1, a.shape[-1])
    return xp, xp.reshape(a, shape), xp.reshape(y, shape), w


def _arrays(owner: str, outputs: Any, targets: Any, sample_weights: Any) -> tuple[Any, ...]:
    """The namespace, and the three as arrays of it that are on one device."""
    given = {"outputs": outputs, "targets": targets, "sample_weights": sample_weights}
    on_device = [x for x in given.values() if _is_on_device(x)]
    hosts = {
        name: _on_host(owner, name, x)
        for name, x in given.items()
        if x is not None and not _is_on_device(x)
    }
    lead = [*on_device, *hosts.values()][0]
    xp = array_namespace(*(on_device or [lead]))
    if on_device:
        given |= {n: xp.asarray(np.array(x), device=device_of(lead)) for n, x in hosts.items()}
    else:
        given |= hosts
    for name, x in given.items():
        if x is None and name == "sample_weights":
            continue
        if x is None or not xp.isdtype(x.dtype, ("real floating", "integral", "bool")):
            got = "None" if x is None else f"dtype {x.dtype}"
            raise TypeError(f"{owner}: expected {name} to be real numbers, got {got}")
        if x.ndim == 0 or 0 in x.shape:
            raise ShapeError(
                f"{owner}: expected {name} of at least one sample, got shape {tuple(x.shape)}"
            )
    return xp, *given.values()


def _is_on_device(x: Any) -> bool:
    return array_api_compat.is_array_api_obj(x) and not array_api_compat.is_numpy_array(x)


def _on_host(owner: str, name: str, data: Any) -> np.ndarray:
    """NumPy data of a dtype that every library knows."""
    if np.ma.is_masked(data):
        raise ValueError(
            f"{owner}: expected {name} without masked entries; pass their .data, and "
            "sample_weights that are 0 for what is masked"
        )
    try:
        host = np.asarray(data)
    except ValueError as error:  # rows of different lengths
        raise ShapeError(f"{owner}: expected {name} to be an array, got {error}") from error
    if host.dtype.kind not in "fiub":
        raise TypeError(
            f"{owner}: expected {name} to be real numbers, got dtype {host.dtype}; for names of "
            "classes: numpy.unique(names, return_inverse=True)[1]"
        )
    if host.dtype.kind == "f":
        return host.astype(np.float32 if host.dtype.itemsize <= 4 else np.float64, copy=False)
    return host if host.dtype.kind == "b" else host.astype(np.int64, copy=False)


def _float_dtype(xp: Any, a: Array) -> Any:
    """The dtype of the result: that of a, float32 for narrower ones, else the default."""
    if not xp.isdtype(a.dtype, "real floating"):
        return xp.__array_namespace_info__().default_dtypes(device=device_of(a))["real floating"]
    return a.dtype if a.dtype in (xp.float32, xp.float64) else xp.float32


def _integer_dtype(xp: Any, a: Array) -> Any:
    return xp.__array_namespace_info__().default_dtypes(device=device_of(a))["integral"]


def _indices(owner: str, xp: Any, x: Array, name: str, classes: int | None = None) -> Array:
    """Class indices as integers."""
    if xp.isdtype(x.dtype, "real floating") and not bool(xp.all(xp.floor(x) == x)):
        raise ValueError(
            f"{owner}: expected class indices in {name}, got numbers that are not whole"
        )
    if not xp.isdtype(x.dtype, "bool"):
        low, high = float(xp.min(x)), float(xp.max(x))
        if low < 0 or high >= (2**31 if classes is None else classes):
            upper = "on" if classes is None else f"to {classes - 1}"
            raise ValueError(
                f"{owner}: expected class indices from 0 {upper} in {name}, got {low:g} to "
                f"{high:g}; number the classes from 0, and leave out terms without a class"
            )
    return xp.astype(x, _integer_dtype(xp, x))


def _check_rows(owner: str, xp: Any, y: Array, per_entry: bool) -> None:
    """Refuse rows that are not answers, or do not stand for a class."""
    low, high = float(xp.min(y)), float(xp.max(y))
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{owner}: expected target rows with entries from 0 to 1, got {low:g} to {high:g}; "
            "for labels per time step, or other rows, pass class indices"
        )
    if per_entry or y.shape[-1] == 1:
        return
    off = float(xp.max(xp.abs(xp.sum(y, axis=-1) - 1.0)))
    if off > 1e-3:
        remedy = (
            "class indices are targets.argmax(axis=-1)"
            if owner in ("top_k_accuracy", "confusion_matrix")
            else "if the outputs are separate yes-or-no questions, pass per_entry=True"
        )
        raise ValueError(
            f"{owner}: expected target rows that are one-hot or distributions, got a sum that is "
            f"off from 1 by {off:g}; {remedy}"
        )


def _term_weights(
    owner: str, xp: Any, w: Array | None, terms: tuple[int, ...], dtype: Any
) -> Array | None:
    """One weight for each term, flat."""
    if w is None:
        return None
    if tuple(w.shape) != terms[: w.ndim]:
        expected = f"{terms[:1]}" + (f" or {terms}" if len(terms) > 1 else "")
        raise ShapeError(
            f"{owner}: expected sample_weights of shape {expected}, got {tuple(w.shape)}"
        )
    w = xp.astype(w, dtype)
    total = float(xp.sum(w))
    if not (float(xp.min(w)) >= 0 and 0 < total < float("inf")):
        raise ValueError(
            f"{owner}: expected sample_weights >= 0 with a finite sum above 0, got the sum "
            f"{total:g} and a least weight of {float(xp.min(w)):g}; leave out what does not count"
        )
    w = xp.reshape(w, (*w.shape, *[1] * (len(terms) - w.ndim)))
    return xp.reshape(xp.broadcast_to(w, terms), (-1,))


def weighted_mean(xp: Any, x: Array, weights: Array | None) -> Array:
    """Return the mean of the terms, which count as often as their weights say."""
    return xp.mean(x) if weights is None else xp.sum(x * weights) / xp.sum(weights)


def arange(xp: Any, n: int, dtype: Any, like: Array) -> Array:
    """Return 0 to n - 1 beside another array."""
    return xp.arange(n, dtype=dtype, device=device_of(like))


def device_of(a: Array) -> Any:
    """Return the device of a; None, the default, in a trace of JAX."""
    return getattr(a, "device", None)
