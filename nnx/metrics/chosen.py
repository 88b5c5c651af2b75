"""Metrics that a person chooses for a training, by name or as functions.

A metric gets the outputs of the network, after its last activation, and the targets as rows or
class indices: arrays of the backend. Terms of weight 0 are left out before. Samples whose outputs
differ in shape, such as sequences of several lengths, are joined term by term: outputs are
(terms, outputs) then.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import array_api_compat

from nnx.backend import Array, array_namespace, owner_of, to_numpy
from nnx.metrics import classes, numbers
from nnx.metrics.door import device_of

__all__ = ["Metric", "check", "chosen", "joined"]

OF_CLASSES: dict[str, Callable[..., Array]] = {
    "accuracy": classes.accuracy,
    "f1": classes.f1,
    "precision": classes.precision,
    "recall": classes.recall,
    "top_k_accuracy": classes.top_k_accuracy,
}
OF_NUMBERS: dict[str, Callable[..., Array]] = {
    "mean_absolute_error": numbers.mean_absolute_error,
    "mean_squared_error": numbers.mean_squared_error,
    "r2": numbers.r2,
    "root_mean_squared_error": numbers.root_mean_squared_error,
}
RESERVED = ("loss", "accuracy", "seconds", "array", "float")
EXAMPLE = "write metrics=['f1']"


class Metric:
    """One number for outputs and targets: metric(outputs, targets, weights) is a float.

    Attributes:
        name: what the result is called.
        function: the function of outputs and targets.
        weighted: does the function take `sample_weights`?
    """

    def __init__(self, name: str, function: Callable[..., Any], weighted: bool) -> None:
        self.name, self.function, self.weighted = name, function, weighted

    def __call__(self, outputs: Array, targets: Array, weights: Array | None = None) -> float:
        """Return the number.

        Raises:
            TypeError: the function returns something else.
        """
        more = {} if weights is None or not self.weighted else {"sample_weights": weights}
        try:
            found = self.function(outputs, targets, **more)
        except Exception as error:
            error.add_note(
                f"raised by the metric {self.name!r} for outputs {tuple(outputs.shape)} and "
                f"targets {tuple(targets.shape)}"
            )
            raise
        if array_api_compat.is_array_api_obj(found):
            shape, found = tuple(found.shape), to_numpy(found)
            if shape == () and found.dtype.kind in "fiu":
                return float(found)
            got = f"an array of shape {shape} and dtype {found.dtype}"
        elif isinstance(found, Real) and not isinstance(found, bool):
            return float(found)
        else:
            got = repr(found)
        raise TypeError(
            f"train: expected the metric {self.name!r} to return a real number, got {got}; "
            "return the mean, for example"
        )


def chosen(metrics: Any, loss: Any) -> dict[str, Metric]:
    """Return the metrics by name.

    Args:
        metrics: a list of names and functions, or {name: function}. Names are those of
            `nnx.metrics` that give one number. A function is called as f(outputs, targets), and
            gets sample_weights if it has an argument of this name.
        loss: of the network; its `threshold` and `per_entry` tell what an output means. The
            precision, recall and f1 are those of the second of two classes, and the mean over the
            classes if there are more, or over several yes-or-no outputs.

    Raises:
        TypeError: not a list or dict, or one of them is neither a name nor a function of two.
        ValueError: an unknown name, or one name for two of them.
    """
    what = "train: expected metrics to be a list of names and functions, or {name: function}"
    if isinstance(metrics, str) or callable(metrics):
        given = repr(metrics) if isinstance(metrics, str) else _name(metrics)
        raise TypeError(f"{what}, got {given}; write metrics=[{given}]")
    if not isinstance(metrics, Iterable) or isinstance(metrics, set | frozenset | bytes):
        raise TypeError(f"{what}, got {metrics!r}; {EXAMPLE}")
    found: dict[str, Metric] = {}
    pairs = metrics.items() if isinstance(metrics, Mapping) else ((None, one) for one in metrics)
    for name, one in pairs:
        if name is not None and not (isinstance(name, str) and name and callable(one)):
            raise TypeError(f"{what}, got {{{name!r}: {one!r}}}; write {{'name': function}}")
        metric = _named(one, loss) if isinstance(one, str) else _function(name, one)
        if metric.name in found:
            raise ValueError(
                f"train: expected metrics of different names, got {metric.name!r} twice; "
                "for functions of one name: write metrics={'first': f, 'second': g}"
            )
        found[metric.name] = metric
    return found


def check(metrics: Mapping[str, Metric], net: Any, y: Array, are_classes: bool) -> None:
    """Refuse metrics that the targets have no meaning for, before a training starts.

    Functions are not looked at, only the metrics of nnx.

    Args:
        metrics: what `chosen` returns.
        net: the network.
        y: checked targets.
        are_classes: do they stand for classes, as class indices or as rows of 0 and 1?

    Raises:
        ValueError: a metric of classes for real numbers, of real numbers for class indices, or of
            the largest of several outputs where there are none.
    """
    shape = net.output_shape
    indices = y.ndim == len(shape)
    for name, metric in metrics.items():
        if getattr(metric.function, "of", None) != name:
            continue
        if name in OF_CLASSES and not are_classes:
            raise ValueError(
                f"train: expected targets that are classes, because metrics has {name!r}, got real "
                f"numbers; choose from {', '.join(map(repr, OF_NUMBERS))}"
            )
        if name in OF_NUMBERS and indices:
            raise ValueError(
                f"train: expected targets that are rows of numbers, because metrics has {name!r}, "
                f"got class indices; choose from {', '.join(map(repr, OF_CLASSES))}"
            )
        if name == "top_k_accuracy" and (shape[-1] <= 2 or (net.cost.per_entry and not indices)):
            several = "separate yes-or-no outputs" if shape[-1] > 2 else f"{shape[-1]} outputs"
            raise ValueError(
                f"train: expected more than 2 classes, because metrics has {name!r}, the classes "
                f"that are among the 2 likeliest, got {several}; choose 'accuracy'"
            )


def joined(
    results: Sequence[tuple[Array, Array, Array | None]],
) -> tuple[Array, Array, Array | None]:
    """Return outputs, targets and weights of several parts as one, without terms of weight 0.

    Leading axes become one axis of terms if the parts differ in shape, or if a weight of a single
    time step is 0. Results of one shape come together. The weights of each shape are read.

    Args:
        results: outputs, targets and weights or None of each part; either all have weights or
            none.
    """
    xp = array_namespace(results[0][0])

    def whole(column: Sequence[Any]) -> Any:
        return column[0] if len(column) == 1 or column[0] is None else xp.concat(column, axis=0)

    of_shape: dict[tuple[int, ...], list[Any]] = {}
    for one in results:
        of_shape.setdefault(tuple(one[0].shape[1:]), []).append(one)
    results = [
        (whole(a), whole(y), whole(w))
        for a, y, w in (tuple(zip(*group, strict=True)) for group in of_shape.values())
    ]
    kept = [None if w is None else (to_numpy(w) > 0) for _, _, w in results]
    some = any(keep is not None and not keep.all() for keep in kept)
    steps = some and any(keep is not None and keep.ndim > 1 for keep in kept)
    flat = steps or len(results) > 1
    columns: tuple[list[Any], ...] = ([], [], [])
    for a, y, w in results:
        arrays = [a, y, w]
        if flat:
            terms = tuple(a.shape[:-1])
            arrays[0] = xp.reshape(a, (-1, a.shape[-1]))
            arrays[1] = xp.reshape(y, (-1, *y.shape[len(terms) :]))
            if w is not None:
                w = xp.reshape(w, (*w.shape, *[1] * (len(terms) - w.ndim)))
                arrays[2] = xp.reshape(xp.broadcast_to(w, terms), (-1,))
        if some:
            index = (to_numpy(arrays[2]) > 0).nonzero()[0]
            index = xp.asarray(index, device=device_of(a))
            arrays = [xp.take(array, index, axis=0) for array in arrays]
        for column, array in zip(columns, arrays, strict=True):
            column.append(array)
    return whole(columns[0]), whole(columns[1]), whole(columns[2])


def _named(name: str, loss: Any) -> Metric:
    """Return a metric of nnx, with what the loss says about the outputs."""
    known = OF_CLASSES | OF_NUMBERS
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        close = close or [one for one in known if name and one.startswith(name)]
        close = close or [one for one in known if name == "".join(w[0] for w in one.split("_"))]
        remedy = f"write {close[0]!r}" if close else "pass a function f(outputs, targets)"
        raise ValueError(
            f"train: expected a metric to be one of {', '.join(map(repr, known))}, got {name!r}; "
            f"{remedy}"
        )
    function = known[name]

    def metric(outputs: Array, targets: Array, sample_weights: Array | None = None) -> Array:
        more: dict[str, Any] = {"sample_weights": sample_weights}
        if name in OF_CLASSES:
            more["threshold"] = loss.threshold
        if name in OF_CLASSES and name != "top_k_accuracy":
            more["per_entry"] = loss.per_entry
        if name in ("f1", "precision", "recall"):
            length = outputs.shape[-1]
            two = length == 1 or (length == 2 and not loss.per_entry)
            more["average"] = "binary" if two else "macro"
        if name in OF_NUMBERS and sample_weights is None:  # nothing is read, so it can be traced
            return owner_of(outputs).compiled(function)(outputs, targets)
        return function(outputs, targets, **more)

    metric.of = name  # type: ignore[attr-defined]
    return Metric(name, metric, weighted=True)


def _function(name: str | None, function: Any) -> Metric:
    """Return a function of a person as a metric."""
    expected = "train: expected a metric to be a name or a function of (outputs, targets)"
    remedy = "write def f(outputs, targets): ..."
    if not callable(function):
        raise TypeError(f"{expected}, got {function!r}; {remedy}")
    if isinstance(function, type):
        raise TypeError(f"{expected}, got {function!r}; write {function.__name__}()")
    name = name or _name(function)
    if name in RESERVED or name.startswith("validation_"):
        raise ValueError(
            f"train: expected another name for a metric than {name!r}, which the history or a file "
            f"uses; write {{'my_{name}': ...}}"
        )
    if name == "<lambda>":
        raise ValueError(f"{expected}, got a lambda without a name; write {{'name': lambda ...}}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have none
        return Metric(name, function, weighted=False)
    weighted = "sample_weights" in signature.parameters
    try:
        signature.bind(None, None, **({"sample_weights": None} if weighted else {}))
    except TypeError as error:
        raise TypeError(f"{expected}, got {name}{signature}; {remedy}") from error
    return Metric(name, function, weighted)


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
