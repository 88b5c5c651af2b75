"""Checks of x, y and sample weights, and their conversion to arrays of the backend.

Errors call an argument by its `name`: "x", "y", "sample_weights", or "validation[0]" to
"validation[2]". Whatever follows "write" in a message can be typed in as it stands. `indices` are
those of the samples in the user's list, if the array is a part of it: errors name y[5][2] then.

The shape of a sample may have free axes, None, which take any size from 1 on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nnx.backend import Array, Backend, array_namespace, to_numpy
from nnx.checks import ShapeError
from nnx.data.containers import host_expression, real_numbers

__all__ = [
    "as_floats",
    "as_inputs",
    "as_targets",
    "as_weights",
    "batches",
    "check_finite",
    "converted",
    "fits",
    "is_classification",
    "is_integer",
    "kept_dtype",
    "on_host",
    "unreachable_targets",
    "unsuited_classes",
]

Shape = tuple[int | None, ...]


def fits(shape: Sequence[int], pattern: Shape) -> bool:
    """Return whether a shape is one of those that a pattern with free axes stands for."""
    return tuple(shape) == pattern or (
        len(shape) == len(pattern)
        and all(
            size == given if given is not None else size >= 1
            for size, given in zip(shape, pattern, strict=True)
        )
    )


def as_inputs(backend: Backend, shape: Shape, x: Any, name: str = "x") -> Array:
    """Return inputs (samples, *shape) as an array of the backend: see `kept_dtype`.

    Raises:
        ShapeError: another shape, or no samples.
        TypeError: not an array, list or table of real numbers.
        ValueError: missing values, or numbers too large for the dtype.
    """
    data, x = x, real_numbers(backend, x, name)
    if x.ndim > 0 and x.shape[0] > 0 and fits(x.shape[1:], shape):
        return converted(backend, x, kept_dtype(backend, x), name)
    hint = _input_hint(host_expression(backend, data, name), shape, x)
    raise ShapeError(
        f"expected {name} of shape (samples, {', '.join(map(str, shape))}), got {tuple(x.shape)}; "
        f"{hint}"
    )


def kept_dtype(backend: Any, x: Any) -> Any:
    """Return the dtype in which inputs wait for training: their own if that is a small one.

    Integers and booleans that take less memory than the backend's dtype, as the bytes of images,
    stay as they are until they are a batch: see `as_floats`.
    """
    small = backend.small_dtypes
    if isinstance(x, np.ndarray):  # dtype.name takes 3 us
        return backend.dtype if x.dtype.kind == "f" else small.get(x.dtype.name, backend.dtype)
    return x.dtype if x.dtype in small.values() else backend.dtype


def as_floats(backend: Backend, x: Array) -> Array:
    """Return a batch of inputs in the backend's dtype, in which layers compute."""
    return x if x.dtype == backend.dtype else backend.xp.astype(x, backend.dtype)


def as_targets(
    backend: Backend, shape: Shape, y: Any, name: str = "y", indices: np.ndarray | None = None
) -> Array:
    """Return targets for outputs of a shape: rows (samples, *shape), or class indices.

    Class indices have the shape (samples, *shape[:-1]): one for each sample, or for each time step
    of a sequence. For a network of one output they become rows with one number.

    Raises:
        ShapeError: neither class indices nor rows that fit the network's outputs.
        TypeError: not an array, list or table of real numbers, or class indices that are not
            integers.
        ValueError: class indices out of range, or numbers that are missing, infinite or NaN.
    """
    data, y = y, real_numbers(backend, y, name)
    host = host_expression(backend, data, name)
    expected = (
        f"expected {name} as rows (samples, {', '.join(map(str, shape))}) or integer class indices "
        f"({', '.join(map(str, ('samples', *shape[:-1])))}{',' if len(shape) == 1 else ''})"
    )
    if y.ndim == len(shape) and shape[-1] == 1:
        y = y[..., None]
    if y.ndim == len(shape):
        if not is_integer(backend, y):
            raise TypeError(
                f"{expected}, got shape {tuple(y.shape)} of {y.dtype}; {_label_hint(y, host)}"
            )
        if not fits(y.shape[1:], shape[:-1]):
            raise ShapeError(f"{expected}, got shape {tuple(y.shape)}")
        if shape[-1] is not None:
            _check_labels(on_host(backend, y), shape[-1], name, host, indices)
        return backend.asarray(y, dtype=backend.integer_dtype)
    if not fits(y.shape[1:], shape):
        hint = ""
        if y.ndim == 2 and y.shape[1] == 1:
            hint = f"; for a column of class indices: write {host}.ravel()"
        elif y.ndim == len(shape) + 1 and math.prod(y.shape[1:]) == _size(shape):
            hint = f"; write {host}.reshape(len({name}), {', '.join(map(str, shape))})"
        elif y.ndim == 1 and len(shape) > 1:
            hint = (
                "; for one answer for each sample, let a layer before the last one make one row of "
            )
            hint += "it: FlattenLayer(), or a recurrent layer without return_sequences"
        elif y.ndim == len(shape) + 1 and fits(y.shape[1:-1], shape[:-1]):
            hint = f"; give the last layer {y.shape[-1]} outputs, one for each number of a row"
        raise ShapeError(f"{expected}, got shape {tuple(y.shape)}{hint}")
    y = converted(backend, y, backend.dtype, name)
    check_finite(y, name, indices)
    return y


def as_weights(
    backend: Backend,
    weights: Any,
    shapes: Sequence[Shape],
    name: str = "sample_weights",
    indices: np.ndarray | None = None,
) -> Array:
    """Return weights of one of the shapes as an array of the backend in its dtype.

    Args:
        backend: the network's.
        weights: one number >= 0 for each sample, or for each time step of each sample.
        shapes: the shapes that are allowed: (samples,), and (samples, time) for sequences.
        name: what errors call them.
        indices: of the samples, if they are a part of a list.

    Raises:
        ShapeError: another shape.
        TypeError: not an array, list or table of real numbers.
        ValueError: a weight that is missing, negative, infinite or NaN.
    """
    data, weights = weights, real_numbers(backend, weights, name)
    if tuple(weights.shape) not in shapes:
        allowed = " or ".join(map(str, shapes))
        hint = ""
        if math.prod(weights.shape) == shapes[0][0] and weights.ndim > 1:
            hint = f"; write {host_expression(backend, data, name)}.ravel()"
        raise ShapeError(
            f"expected {name} of shape {allowed}, got shape {tuple(weights.shape)}{hint}"
        )
    weights = converted(backend, weights, backend.dtype, name)
    check_finite(weights, name, indices)
    if bool(backend.xp.any(weights < 0)):
        host = backend.to_numpy(weights)
        place = _place(host < 0, indices)
        raise ValueError(
            f"expected {name} >= 0, got {name}[{place}] = {host[host < 0][0]:g}; to leave these "
            f"samples out: write numpy.maximum({host_expression(backend, data, name)}, 0)"
        )
    return weights


def is_classification(backend: Backend, shape: Shape, y: Array, per_entry: bool = False) -> bool:
    """Return whether checked targets are classes: indices, one-hot rows, or only 0 and 1.

    Args:
        backend: the network's.
        shape: of one output.
        y: checked targets.
        per_entry: does each output answer a question of its own? Any row of 0 and 1 will do then.
    """
    if y.ndim == len(shape):
        return True
    rows = on_host(backend, y)
    if not ((rows == 0) | (rows == 1)).all():
        return False
    return bool(per_entry or shape[-1] == 1 or (rows.sum(axis=-1) == 1).all())


def unreachable_targets(parts: Sequence[np.ndarray], layer: str, activation: Any) -> str | None:
    """Return a message if some targets are none of the values of the last activation.

    Args:
        parts: checked targets, real numbers, in arrays of rows.
        layer: what the message calls the last layer.
        activation: the last activation.
    """
    low, high = activation.range
    rows = np.concatenate([part.reshape(-1) for part in parts])
    outside = np.count_nonzero((rows < low) | (rows > high))
    what, remedy = "expected targets", "the network cannot reach these: give the last layer"
    if outside:
        # 1.25 and not np.float32(1.25)
        least, largest = float(rows.min()), float(rows.max())
        return (
            f"{what} in [{low:g}, {high:g}], the range of {activation!r} in the last layer "
            f"({layer}), got targets from {least:g} to {largest:g}, {outside / rows.size:.0%} of "
            f"them outside; {remedy} Linear()"
        )
    if not activation.distribution:
        return None
    sums = np.concatenate([part.sum(axis=-1).reshape(-1) for part in parts])
    if off := np.count_nonzero(np.abs(sums - 1.0) > 1e-3):
        least, largest = float(sums.min()), float(sums.max())
        return (
            f"{what} whose rows sum to 1, as those of {activation!r} in the last layer ({layer}) "
            f"do, got sums from {least:g} to {largest:g}, {off / len(sums):.0%} "
            f"of them others; {remedy} Logistic(), and the network BinaryCrossEntropy()"
        )
    return None


def unsuited_classes(cost: Any, last: Sequence[Any], outputs: int) -> str | None:
    """Return a message if class indices are trained with a loss that is not one of classes.

    Bounded activations with a loss of real numbers, the course's way to learn classes, are left
    alone.

    Args:
        cost: the loss, one without weights of classes or one of separate questions.
        last: the last activations.
        outputs: the number of outputs, at least 2: for a single one, indices are its targets.
    """
    remedy = "for one class of several, give the last layer SoftMax(), and the network "
    remedy += "CrossEntropy()"
    if cost.per_entry:
        return (
            f"expected rows with an answer for each of {outputs} outputs, because {cost!r} asks "
            f"separate yes-or-no questions, got class indices, whose rows have one 1; {remedy}"
        )
    unbounded = [afun for afun in last if np.inf in afun.range]
    if unbounded:
        return (
            f"expected a loss of classes, because the targets are class indices, got {cost!r} with "
            f"{unbounded[0]!r} in the last layer, which fits numbers 0 and 1; {remedy}"
        )
    return None


def check_finite(array: Array, name: str, indices: np.ndarray | None = None) -> None:
    """Refuse NaN and infinity; the device is read once.

    Raises:
        ValueError: an entry is NaN or infinite; the message names the first.
    """
    xp = array_namespace(array)
    if not xp.isdtype(array.dtype, "real floating"):
        return
    # A sum is finite only if all numbers are, and that of the squares takes two thirds of the time
    # on the host. It may overflow, and then every number is looked at.
    squares = type(array) is np.ndarray and array.dtype.char in "fd" and array.flags.c_contiguous
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.vdot(array, array) if squares else xp.sum(array)
        finite = bool(xp.isfinite(total)) or bool(xp.all(xp.isfinite(array)))
    if finite:
        return
    host = to_numpy(array)
    bad = ~np.isfinite(host)
    where = f"; to list them: write numpy.argwhere(~numpy.isfinite(nnx.to_numpy({name})))"
    where = where if indices is None else ""
    raise ValueError(
        f"expected finite numbers in {name}, got {int(bad.sum())} of {array.dtype} that are NaN or "
        f"infinity, the first is {name}[{_place(bad, indices)}] = {host[bad][0]}; replace them or "
        f"drop these samples{where}"
    )


def batches(samples: int, batch_size: int) -> Iterator[slice]:
    """Yield slices of batch_size samples each; the last one takes what is left."""
    for start in range(0, samples, batch_size):
        yield slice(start, min(start + batch_size, samples))


def converted(backend: Backend, data: Any, dtype: Any, name: str) -> Array:
    """Return the numbers in a dtype of the backend.

    Raises:
        ValueError: a finite number is too large for it.
    """
    if backend.owns(data) and data.dtype == dtype:
        return backend.asarray(data, dtype=dtype)
    if isinstance(data, np.ndarray) and data.dtype == backend.dtype_name:
        return backend.asarray(data, dtype=dtype)
    try:
        with np.errstate(over="raise"):
            return backend.asarray(data, dtype=dtype)
    except FloatingPointError as error:
        largest = np.abs(np.asarray(data)).max()
        raise ValueError(
            f"expected {name} within the range of {backend.dtype_name}, got numbers up to "
            f"{largest:g}; choose float64 in nnx.set_backend, or scale them: "
            f"write numpy.asarray({name}) / numpy.abs({name}).max()"
        ) from error


def _input_hint(host: str, shape: Shape, x: Any) -> str:
    given = tuple(x.shape)
    if x.ndim > 0 and x.shape[0] == 0:
        return "there are no samples: check the selection of the data"
    if 0 in given:
        return "an axis of the samples is empty: check the selection of the data"
    if fits(given, shape):
        return f"for a single sample: write {host}[None]"
    if len(shape) > 1 and shape[0] not in (1, None) and fits(given[1:], (*shape[1:], shape[0])):
        axes = (0, x.ndim - 1, *range(1, x.ndim - 1))
        return f"channels come first: write numpy.transpose({host}, {axes})"
    if x.ndim > 0 and math.prod(given[1:]) == _size(shape):
        return f"write {host}.reshape(len({host}), {', '.join(map(str, shape))})"
    for axis, size in enumerate(shape, start=1):
        if size == 1 and fits((*given[1:axis], 1, *given[axis:]), shape):
            return f"write numpy.expand_dims({host}, {axis})"
    if x.ndim == 2 and fits(given[:1], shape):
        return f"pass one sample per row: write {host}.T"
    if x.ndim == len(shape) + 1:
        made = given[1] if len(shape) == 1 else given[1:]
        return f"pass what the network was made for, or make it anew: SequentialNet({made}, ...)"
    return "pass one sample per row"


def _size(shape: Shape) -> int | None:
    """Return how many numbers a sample has; None if axes are free."""
    return None if None in shape else math.prod(shape)  # type: ignore[arg-type]


def _label_hint(y: Any, host: str) -> str:
    values = to_numpy(y)
    if np.all(np.isfinite(values)) and np.all(values == np.floor(values)):
        return f"for class indices: write {host}.astype(int)"
    return (
        "these are not whole numbers: for targets that are real numbers, give the last layer one "
        "output for each number of a row"
    )


def _check_labels(
    labels: np.ndarray, outputs: int, name: str, host: str, indices: np.ndarray | None
) -> None:
    """Refuse class indices outside 0 ... outputs - 1; the message names the first."""
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low >= 0 and high < outputs:
        return
    bad = (labels < 0) | (labels >= outputs)
    outside = labels[bad]
    remedies = []
    if low < 0 and bool(np.all(outside == low)):
        remedies.append(f"for terms that do not count: pass ignore_label={low}")
    if low >= 0:
        remedies.append(f"give the last layer {high + 1} outputs")
    if len(np.unique(labels)) <= outputs and indices is None:
        remedies.append(
            f"number the classes from 0: write numpy.unique({host}, return_inverse=True)[1]"
        )
    elif low < 0:
        remedies.append("number the classes from 0, or drop the samples without a class")
    raise ValueError(
        f"expected class indices from 0 to {outputs - 1} in {name}, one for each output of the "
        f"network, got {low} to {high}, the first one outside is {name}[{_place(bad, indices)}] = "
        f"{int(outside[0])}; {', or '.join(remedies)}"
    )


def _place(bad: np.ndarray, indices: np.ndarray | None) -> str:
    """Return the index of the first true entry, for a message: "3", "3, 1", or "3][1" in a part."""
    sample, *rest = (int(i) for i in np.argwhere(bad)[0])
    if indices is None:
        return ", ".join(map(str, [sample, *rest]))
    return f"{int(indices[sample])}" + (f"][{', '.join(map(str, rest))}" if rest else "")


def on_host(backend: Backend, data: Any) -> np.ndarray:
    """Return what `real_numbers` has returned as a NumPy array."""
    return data if isinstance(data, np.ndarray) else backend.to_numpy(data)


def is_integer(backend: Backend, y: Any) -> bool:
    """Return whether the entries are integers or booleans."""
    if isinstance(y, np.ndarray):
        return y.dtype.kind in "iub"
    return bool(backend.xp.isdtype(y.dtype, ("integral", "bool")))
