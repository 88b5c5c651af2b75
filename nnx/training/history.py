"""What a training has seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from nnx.backend import Array, array_namespace

__all__ = ["History", "NonFiniteLossError", "Score", "check_parameters"]


class _Pair(NamedTuple):
    loss: float
    accuracy: float


class Score(_Pair):
    """Loss, penalties included, and accuracy in [0, 1] (NaN if the targets are not classes).

    A pair; `metrics` is a dict of what else was asked for, by name: score.metrics["f1"], or
    score.f1.
    """

    metrics: dict[str, float]

    def __new__(cls, loss: float, accuracy: float, metrics: Mapping[str, float] = {}) -> Score:
        """Return the pair with its metrics."""
        score = super().__new__(cls, loss, accuracy)
        score.metrics = dict(metrics)
        return score

    def __getnewargs__(self) -> Any:
        return (self.loss, self.accuracy, self.metrics)

    def __getattr__(self, name: str) -> float:
        try:
            return vars(self)["metrics"][name]
        except KeyError:
            raise AttributeError(f"expected a metric of this score, got {name!r}") from None

    def __repr__(self) -> str:
        more = "".join(f", {name}={value}" for name, value in self.metrics.items())
        accuracy = "" if math.isnan(self.accuracy) else f", accuracy={self.accuracy}"
        return f"Score(loss={self.loss}{accuracy}{more})"


@dataclass
class History:
    """One entry per finished epoch; Python floats.

    `loss` is the mean loss of the epoch's samples, each measured just before the step that used it,
    plus the penalties at the end of the epoch; `accuracy` and `metrics` are of the same outputs.
    Accuracies are in [0, 1], and there are none for targets that are not classes; each time step
    of a sequence counts, and sample weights count as in scikit-learn. `seconds` is the time of the
    epoch without the validation.

    `history[name]` is the list of one quantity: history["validation_f1"].
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    interrupted: bool = False
    metrics: dict[str, list[float]] = field(default_factory=dict)
    validation_metrics: dict[str, list[float]] = field(default_factory=dict)

    def keys(self) -> list[str]:
        """Return the names of all quantities that have values."""
        names = [name for name in _LISTS if getattr(self, name)]
        return [
            *names,
            *(name for name, values in self.metrics.items() if values),
            *(f"validation_{name}" for name, values in self.validation_metrics.items() if values),
        ]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, name: str) -> list[float]:
        """Return the values of a quantity, one per epoch.

        Raises:
            KeyError: there is none of this name; the message lists the names.
        """
        if name in _LISTS:
            return getattr(self, name)
        if name in self.metrics:
            return self.metrics[name]
        of_validation = name.removeprefix("validation_")
        if of_validation != name and of_validation in self.validation_metrics:
            return self.validation_metrics[of_validation]
        raise KeyError(self._missing(name))

    if not TYPE_CHECKING:  # a checker of types knows the attributes

        def __getattr__(self, name):
            text = f"'History' object has no attribute {name!r}"
            known = name[:1] != "_" and len(vars(self)) > len(_LISTS)  # nothing while it is read
            raise AttributeError(f"{text}: {self._missing(name)}" if known else text)

    def _missing(self, name: str) -> str:
        """Return what there is instead of a quantity of this name, and what to write."""
        known = self.keys()
        text = f"expected one of {', '.join(known) or 'no names yet'}, got {name!r}"
        for meant in (name, name.replace("val_", "validation_"), name.replace("acc", "accuracy")):
            if meant in known:
                return f'{text}; write history["{meant}"]'
        return text if known else f"{text}; train at least one epoch"

    def add(self, seconds: float, score: Score, validation: Score | None) -> None:
        """Append one epoch."""
        self.seconds.append(seconds)
        for prefix, result in (("", score), ("validation_", validation)):
            if result is None:
                continue
            getattr(self, f"{prefix}loss").append(result.loss)
            if not math.isnan(result.accuracy):
                getattr(self, f"{prefix}accuracy").append(result.accuracy)
            metrics = getattr(self, f"{prefix}metrics")
            for name, value in result.metrics.items():
                metrics.setdefault(name, []).append(value)

    def last(self) -> str:
        """Return the last epoch as one line."""
        text = f"{self.seconds[-1]:6.2f} s"
        for prefix in ("", "validation_"):
            if losses := self[f"{prefix}loss"]:
                text += f"  {prefix.replace('_', ' ')}loss {losses[-1]:.4f}"
            if accuracies := self[f"{prefix}accuracy"]:
                text += f"  accuracy {100 * accuracies[-1]:.2f} %"
            for name, values in getattr(self, f"{prefix}metrics").items():
                text += f"  {name.replace('_', ' ')} {values[-1]:.4f}"
        return text


_LISTS = ("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds")


class NonFiniteLossError(ArithmeticError):
    """The loss or a parameter is infinite or NaN, and training stops.

    Args:
        epoch: the epoch in which it was found.
        loss: the loss of that epoch.
        history: the epochs before it.
        what: what is not finite, and its value; the loss if not given.
    """

    def __init__(self, epoch: int, loss: float, history: History, what: str = "") -> None:
        super().__init__(
            f"{what or f'the loss is {loss}'} after epoch {epoch}; training has stopped. Likely "
            "causes: a learning rate that is too large (try a tenth), an activation that grows "
            "without bound (Exp), inputs that are not scaled to about [-1, 1]. The epochs "
            "before it are in .history"
        )
        self.epoch, self.loss, self.history, self.what = epoch, loss, history, what

    def __reduce__(self) -> Any:
        return type(self), (self.epoch, self.loss, self.history, self.what)


def check_parameters(net: Any, history: History) -> None:
    """Refuse parameters that the last step has made infinite or NaN; one read of the device.

    Raises:
        NonFiniteLossError: the epochs are all in its history.
    """
    xp, parameters = net.backend.xp, list(net.parameters.values())
    if not parameters:
        return
    total = net.backend.compiled(_sum)(parameters)
    if math.isfinite(float(net.backend.to_numpy(total))):
        return
    for path, p in net.parameters.items():
        if not bool(xp.all(xp.isfinite(p))):
            what = f"the parameter {path} is not finite"
            loss = history.loss[-1] if history.loss else math.nan
            raise NonFiniteLossError(len(history.loss), loss, history, what)


def _sum(arrays: list[Array]) -> Array:
    """The sum of all numbers: it is finite only if they are, and may be too large if they are."""
    xp, total = array_namespace(*arrays), 0.0
    for array in arrays:
        total = total + xp.sum(array)
    return total
