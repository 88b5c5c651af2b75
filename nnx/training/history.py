"""What a training has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["History", "NonFiniteLossError", "Score"]


class Score(NamedTuple):
    """Loss, penalties included, and accuracy in [0, 1] (NaN if the targets are not classes)."""

    loss: float
    accuracy: float


@dataclass
class History:
    """One entry per finished epoch; Python floats.

    `loss` is the mean loss of the epoch's samples, each measured just before the step that used it,
    plus the penalties at the end of the epoch. Accuracies are in [0, 1], NaN for targets that are
    not classes; each time step of a sequence counts, and sample weights count as in scikit-learn.
    `seconds` is the time of the epoch without the validation.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    interrupted: bool = False

    def last(self) -> str:
        """Return the last epoch as one line."""
        text = f"{self.seconds[-1]:6.2f} s  loss {self.loss[-1]:.4f}"
        if not math.isnan(self.accuracy[-1]):
            text += f"  accuracy {100 * self.accuracy[-1]:.2f} %"
        if self.validation_loss:
            text += f"  validation loss {self.validation_loss[-1]:.4f}"
            if not math.isnan(self.validation_accuracy[-1]):
                text += f"  accuracy {100 * self.validation_accuracy[-1]:.2f} %"
        return text


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
