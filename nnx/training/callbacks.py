"""What a training calls: the base class of callbacks, and those that act on the training."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from typing import Any, ClassVar

from nnx.backend import array_namespace
from nnx.checks import choice, count, flag, number, sequence
from nnx.config import Configured
from nnx.layers.tree import once
from nnx.schedules import Schedule
from nnx.synonyms import CALLBACKS
from nnx.training.history import History

__all__ = [
    "Callback",
    "EarlyStopping",
    "Function",
    "Monitor",
    "ReduceOnPlateau",
    "as_callbacks",
    "file_path",
]


class Callback(Configured):
    """Base class of callbacks: override what should happen, and when.

    Every method gets the `Run`, the training in progress: `run.net`, `run.history` (the finished
    epochs), `run.epoch` (their number). One that returns True ends the training, as `run.stop()`
    does. What must survive a resume is kept in `self.state`, a dict of plain data and arrays; it is
    empty when a training begins, and what a checkpoint holds when one is resumed: arrays are NumPy
    arrays then.

        class Patience(nnx.Callback):
            def after_epoch(self, run):
                return run.history.loss[-1] < 0.01

    Attributes:
        interval: call `after_batches` after so many batches of an epoch; None does not.
        state: what is kept between the calls.
        last: call it after the callbacks that are not.
        everywhere: call it on every process that trains the network, not on rank 0 alone. One that
            writes or prints is False; one that changes network or training must be True.
    """

    last: ClassVar[bool] = False
    everywhere: ClassVar[bool] = True
    interval: int | None = None
    state: dict[str, Any]

    def begin(self, run: Any) -> Any:
        """Called before the first epoch, also of a resumed training."""

    def after_batches(self, run: Any) -> Any:
        """Called within an epoch, after every `interval` batches."""

    def after_epoch(self, run: Any) -> Any:
        """Called after every epoch and its validation."""

    def end(self, run: Any) -> Any:
        """Called when the training ends, the last callback first; `run.failed`: by an error."""


class Function(Callback):
    """A plain function of (net, history), called after every epoch.

    Args:
        function: True as its answer ends the training.
    """

    def __init__(self, function: Callable[[Any, History], Any]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return _name(self.function)

    def after_epoch(self, run: Any) -> Any:
        """Call the function."""
        return self.function(run.net, run.history)


class Monitor(Callback):
    """Base class of callbacks that watch whether a quantity of the history improves.

    Args:
        monitor: its name: "loss", "accuracy", the name of a metric, or one of these after
            "validation_".
        min_delta: a change counts if it is larger, >= 0.
        mode: "min" or "max", which is better; None knows it of losses, errors and nnx's metrics.
    """

    LESS: ClassVar[tuple[str, ...]] = ("loss", "error", "seconds")
    MORE: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "precision", "recall", "r2")

    def __init__(
        self, monitor: str = "validation_loss", min_delta: float = 0.0, mode: str | None = None
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(
                f"{type(self).__name__}: expected monitor to be the name of a quantity, got "
                f'{monitor!r}; write monitor="validation_loss"'
            )
        self.monitor = monitor
        self.min_delta = number(self, "min_delta", min_delta, ">= 0")
        self.mode = None if mode is None else choice(self, "mode", mode, ("min", "max"))
        if self.mode is None and not monitor.endswith(self.LESS + self.MORE):
            raise ValueError(
                f"{type(self).__name__}: expected mode for {monitor!r}, which is not a quantity of "
                'nnx; write mode="min" if less is better, mode="max" if more is'
            )

    def begin(self, run: Any) -> None:
        """Check that the training has such a quantity."""
        self.state.setdefault("best", None)
        self.state.setdefault("waited", 0)
        if self.monitor not in run.quantities:
            remedy = "choose one of these"
            if self.monitor.startswith("val_"):
                remedy = f'write "validation_{self.monitor.removeprefix("val_")}"'
            if self.monitor.startswith("validation_") and run.validation is None:
                remedy = "pass validation=0.2 or validation=(x, y)"
            raise ValueError(
                f"{type(self).__name__}: expected monitor to be one of "
                f"{', '.join(run.quantities)}, got {self.monitor!r}; {remedy}"
            )

    def improved(self, run: Any) -> bool:
        """Return whether the last epoch is the best so far; count the epochs since then."""
        value, best = run.history[self.monitor][-1], self.state["best"]
        less = self.mode == "min" or (self.mode is None and self.monitor.endswith(self.LESS))
        gain = math.inf if best is None else (best - value if less else value - best)
        if better := gain > self.min_delta and not math.isnan(value):
            self.state["best"] = value
        self.state["waited"] = 0 if better else self.state["waited"] + 1
        return better


class EarlyStopping(Monitor):
    """End the training if a quantity has not improved for some epochs; restore the best weights.

    Args:
        monitor: the quantity; see `Monitor`.
        patience: how many epochs without an improvement end the training.
        min_delta: a change counts if it is larger, >= 0.
        mode: "min" or "max", which is better; None knows it of losses, errors and nnx's metrics.
        restore: give the network, at the end, the parameters and buffers of its best epoch. The
            states of the optimizers stay.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore: bool = True,
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.patience = count(self, "patience", patience)
        self.restore = flag(self, "restore", restore)

    def after_epoch(self, run: Any) -> None:
        """Keep the weights if they are the best; stop if patience is at its end."""
        if self.improved(run):
            self.state["epoch"] = run.epoch
            if self.restore:
                self.state["weights"] = _weights(run.net)
        elif self.state["waited"] >= self.patience:
            run.stop()

    def end(self, run: Any) -> None:
        """Restore the best weights, if the training has not failed."""
        best = self.state.get("weights")
        if best is None or run.failed:
            return
        for layer, kept in zip(_leaves(run.net), best, strict=True):
            for name, array in kept["parameters"].items():
                layer.parameters[name] = _copy(layer.backend.asarray(array))
            for name, array in kept["buffers"].items():
                layer.buffers[name] = _copy(layer.backend.asarray(array))


class ReduceOnPlateau(Monitor):
    """Multiply the learning rates if a quantity has not improved for some epochs.

    eta <- max(factor eta, least), for every optimizer of the network.

    Args:
        monitor: the quantity; see `Monitor`.
        factor: in (0, 1).
        patience: how many epochs without an improvement reduce the rates.
        min_delta: a change counts if it is larger, >= 0.
        mode: "min" or "max", which is better; None knows it of losses, errors and nnx's metrics.
        least: no rate gets smaller, >= 0.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str | None = None,
        least: float = 0.0,
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.factor = number(self, "factor", factor, "in (0, 1)")
        self.patience = count(self, "patience", patience)
        self.least = number(self, "least", least, ">= 0")

    def begin(self, run: Any) -> None:
        """Check that the learning rates are numbers."""
        super().begin(run)
        for optimizer in _optimizers(run.net):
            if isinstance(optimizer.eta, Schedule):
                raise ValueError(
                    "ReduceOnPlateau: expected learning rates that are numbers, got "
                    f"{optimizer.eta!r}; give the optimizer a number, or leave the callback out"
                )

    def after_epoch(self, run: Any) -> None:
        """Reduce the rates if patience is at its end."""
        if self.improved(run) or self.state["waited"] < self.patience:
            return
        self.state["waited"] = 0
        for optimizer in _optimizers(run.net):
            optimizer.eta = max(self.factor * optimizer.eta, min(self.least, optimizer.eta))


def as_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Return the callbacks as objects; an iterator is read once.

    Raises:
        TypeError: not a list, or one of them is neither a Callback nor a function of (net,
            history).
    """
    what = "a list of functions or Callback objects"
    if callable(callbacks) or callbacks is None or isinstance(callbacks, Callback):
        given = "" if callbacks is None else _name(callbacks)
        raise TypeError(
            f"train: expected callbacks to be {what}, got {callbacks!r}; write callbacks=[{given}]"
        )
    checked: list[Callback] = []
    for i, callback in enumerate(sequence("train", "callbacks", callbacks, what)):
        expected = (
            f"train: expected callbacks[{i}] to be a Callback or a function of (net, history)"
        )
        if not isinstance(callback, type) and (own := _elsewhere(callback)):
            kind = type(callback).__name__
            raise TypeError(
                f"{expected}, got {kind} with a method {own}, which nothing calls; derive it from "
                f"nnx.Callback and define {CALLBACKS[own]}: def {CALLBACKS[own].split(',')[0]}"
                "(self, run)"
            )
        if isinstance(callback, Callback):
            if callback in checked:
                raise ValueError(
                    f"train: expected callbacks[{i}] to be another one, got {callback!r} twice"
                )
            if callback.interval is not None:
                count(callback, "interval", callback.interval)
            checked.append(callback)
            continue
        if isinstance(callback, type):
            raise TypeError(f"{expected}, got {callback!r}; write {callback.__name__}()")
        if not callable(callback):
            raise TypeError(f"{expected}, got {callback!r}; write def f(net, history): ...")
        try:
            signature = inspect.signature(callback)
            signature.bind(None, None)
        except ValueError:  # some functions written in C have none
            pass
        except TypeError as error:
            raise TypeError(
                f"{expected}, got {_name(callback)}{signature}; write def f(net, history): ..."
            ) from error
        checked.append(Function(callback))
    return tuple(sorted(checked, key=lambda callback: callback.last))


def file_path(owner: Callback, path: Any) -> str:
    """Return the path of a file as text.

    Raises:
        TypeError: it is not a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"{type(owner).__name__}: expected path to be the name of a file, got {path!r}; write "
            f'{type(owner).__name__}("run.safetensors")'
        )
    return os.fsdecode(path)


def _elsewhere(callback: Any) -> str:
    """Return the first method that another library calls; empty if there is none."""
    return next((name for name in CALLBACKS if callable(getattr(callback, name, None))), "")


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))


def _leaves(net: Any) -> list[Any]:
    return [layer for _, layer in once(net) if not layer.children]


def _optimizers(net: Any) -> list[Any]:
    """Return the optimizers of a network, each once."""
    if net.optim is not None:
        return [net.optim]
    return list({id(layer.optim): layer.optim for layer in _leaves(net)}.values())


def _weights(net: Any) -> list[dict[str, Any]]:
    return [
        {
            "parameters": {name: _copy(p) for name, p in layer.parameters.items()},
            "buffers": {name: _copy(p) for name, p in layer.buffers.items()},
        }
        for layer in _leaves(net)
    ]


def _copy(array: Any) -> Any:
    return array_namespace(array).asarray(array, copy=True)
