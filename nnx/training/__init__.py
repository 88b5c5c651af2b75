"""The training loop: batches, the History, what ends a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnx.backend import Array
from nnx.data import (
    as_inputs,
    as_targets,
    as_weights,
    batches,
    check_batch_size,
    check_finite,
    is_classification,
)
from nnx.layers.base import ShapeError
from nnx.losses import one_hot
from nnx.metrics import accuracy
from nnx.randomness import generator
from nnx.steps import CompiledSteps, Step
from nnx.training.progress import ProgressBar

if TYPE_CHECKING:
    from nnx.networks import SequentialNet

__all__ = ["History", "NonFiniteLossError", "Score"]

Callback = Callable[["SequentialNet", "History"], Any]

# Outputs of the steps are kept until there are this many numbers, and then go through loss and
# metrics at once: a small step would cost half as much again if each of them did.
OUTPUTS_KEPT = 1 << 17

# Batches are gathered from the data until there are this many numbers of input: for small ones
# that is many batches at a time, and so many operations less.
GATHERED = 1 << 18


class Score(NamedTuple):
    """Loss, penalties included, and accuracy in [0, 1] (NaN where the targets are no classes)."""

    loss: float
    accuracy: float


@dataclass
class History:
    """What a training has seen, one entry per finished epoch; plain Python floats.

    `loss` is the mean over the samples of the epoch, each as it was when its step was made, plus
    the penalties at the end of the epoch. Accuracies are in [0, 1], NaN for targets that are no
    classes. `seconds` is the time of the epoch without the validation.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    interrupted: bool = False


class NonFiniteLossError(ArithmeticError):
    """The loss is infinite or NaN: `epoch` is where, `history` what came before."""

    def __init__(self, epoch: int, loss: float, history: History) -> None:
        super().__init__(
            f"the loss is {loss} after epoch {epoch}, training stops; likely causes: a learning "
            "rate that is too large (try a tenth), an activation that grows without bound (Exp), "
            "inputs that are not scaled to about [-1, 1]. The epochs before it are in .history"
        )
        self.epoch, self.loss, self.history = epoch, loss, history

    def __reduce__(self) -> Any:
        return type(self), (self.epoch, self.loss, self.history)


def train(
    net: SequentialNet,
    x: Any,
    y: Any,
    batch_size: int,
    epochs: int,
    *,
    validation: tuple[Any, Any] | None,
    callbacks: Sequence[Callback],
    progress: bool,
    shuffle: bool,
    sample_weights: Any,
    rng: np.random.Generator | None,
) -> History:
    """See `SequentialNet.train`."""
    if not isinstance(epochs, int | np.integer) or epochs < 0:
        raise ValueError(f"expected a number of epochs >= 0, got {epochs!r}")
    x, y = checked(net, x, y)
    check_batch_size(batch_size, x.shape[0])
    weights = (
        ()
        if sample_weights is None
        else (as_weights(net.backend, sample_weights, [(x.shape[0],)]),)
    )
    if validation is not None:
        if len(validation) != 2:
            raise ValueError("expected validation=(x, y), got something that is no pair")
        validation = checked(net, *validation, "validation ")
        validation_classes = is_classification(net.backend, net.output_shape, validation[1])
    classes = is_classification(net.backend, net.output_shape, y)
    if y.ndim < len(net.output_shape) + 1 and math.prod(net.output_shape) <= math.prod(x.shape[1:]):
        y = one_hot(y, net.backend.xp.empty((1, *net.output_shape), dtype=x.dtype, device=x.device))

    for layer in net.layers:
        layer.gradients = {}  # those of an earlier backprop would be stale

    history = History()
    with ProgressBar(x.shape[0], epochs, progress) as bar:
        try:
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                order = (rng or generator("batches")).permutation(x.shape[0]) if shuffle else None
                bar.start(epoch)
                with net.backend.fast_arithmetic():
                    result = _epoch(net, (x, y, *weights), batch_size, order, classes, bar)
                seconds = time.perf_counter() - start
                if not math.isfinite(result.loss):
                    raise NonFiniteLossError(epoch, result.loss, history)
                if validation is not None:
                    checked_on = score(net, *validation, 1024, validation_classes)
                    history.validation_loss.append(checked_on.loss)
                    history.validation_accuracy.append(checked_on.accuracy)
                history.loss.append(result.loss)
                history.accuracy.append(result.accuracy)
                history.seconds.append(seconds)
                bar.finish(_describe(history))
                answers = [callback(net, history) for callback in callbacks]
                if any(isinstance(answer, bool | np.bool_) and answer for answer in answers):
                    break
        except KeyboardInterrupt:
            history.interrupted = True
            bar.print(f"interrupted after {len(history.loss)} of {epochs} epochs")
    return history


def checked(net: SequentialNet, x: Any, y: Any, which: str = "") -> tuple[Array, Array]:
    """The data of a person as arrays of the network's backend.

    Raises:
        ShapeError, ValueError, TypeError: it does not fit, with what to do.
    """
    with np.errstate(over="ignore"):  # what overflows is found and told below
        x = as_inputs(net.backend, net.input_shape, x)
        y = as_targets(net.backend, net.output_shape, y)
    if x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"expected as many {which}targets as inputs, got {y.shape[0]} and {x.shape[0]}"
        )
    check_finite(x, f"{which}x")
    if y.ndim > len(net.output_shape):
        net.cost.check_targets(y)
    return x, y


def score(net: SequentialNet, x: Array, y: Array, batch_size: int, classes: bool) -> Score:
    """See `SequentialNet.score`; x and y are checked arrays of the backend."""
    objective = net.objective()
    tally = _Tally(net, objective, classes)
    for batch in batches(x.shape[0], batch_size):
        a = x[batch, ...]
        for forward in objective.forwards:
            a = forward(a)[0]
        tally.add(a, y[batch, ...])
    return tally.read()


def _epoch(
    net: SequentialNet,
    data: tuple[Array, ...],
    batch_size: int,
    order: np.ndarray | None,
    classes: bool,
    bar: ProgressBar,
) -> Score:
    """One pass over the data; the host reads the device once, at its end."""
    samples, step = data[0].shape[0], Step(net)
    tally = _Tally(net, net.objective(), classes)
    take = _taker(net, order)
    compiled = CompiledSteps.of(net, step)
    if compiled is not None:
        taken = compiled.epoch(data, np.arange(samples) if order is None else order, batch_size)
    else:
        taken = _steps(step, data, take, batch_size)

    per_sample = math.prod(net.output_shape)
    outputs: list[Array] = []
    first = 0
    for a, stop in taken:
        outputs.append(a)
        if (stop - first) * per_sample >= OUTPUTS_KEPT or stop == samples:
            a = a if len(outputs) == 1 else net.backend.xp.concat(outputs, axis=0)
            tally.add(a, *take(slice(first, stop), *data[1:]))
            outputs, first = [], stop
        bar.advance(stop)
    return tally.read()


def _steps(
    step: Step, data: tuple[Array, ...], take: Callable[..., list[Array]], batch_size: int
) -> Iterator[tuple[Array, int]]:
    """Step after step: the outputs of each, and the number of samples so far.

    Several small batches are gathered at a time.
    """
    samples, per_sample = data[0].shape[0], math.prod(data[0].shape[1:])
    several = batch_size * max(1, GATHERED // (batch_size * per_sample))
    for part in batches(samples, several):
        x, y, *weights = take(part, *data)
        for batch in batches(part.stop - part.start, batch_size):
            few = [array[batch, ...] for array in weights]
            yield step(x[batch, ...], y[batch, ...], *few), part.start + batch.stop


def _taker(net: SequentialNet, order: np.ndarray | None) -> Callable[..., list[Array]]:
    """What takes samples from arrays of the backend, in that order."""
    if order is None:
        return lambda part, *arrays: [array[part, ...] for array in arrays]
    xp, index = net.backend.xp, net.backend.asarray(order)

    def take(part: slice, *arrays: Array) -> list[Array]:
        return [xp.take(array, index[part], axis=0) for array in arrays]

    return take


class _Tally:
    """Loss and hits, summed on the device and read once."""

    def __init__(self, net: SequentialNet, objective: Any, classes: bool) -> None:
        self.net, self.objective, self.classes = net, objective, classes
        self.samples = 0
        self.loss: Array | float = 0.0
        self.hits: Array | float = 0.0

    def add(self, a: Array, y: Array, *weights: Array) -> None:
        samples = a.shape[0]
        self.samples += samples
        self.loss = self.loss + self.objective.loss.value(a, y, *weights) * samples
        if self.classes:
            # Where the loss stands for the last activation too, that activation increases, and
            # the loss knows what its threshold is before it.
            self.hits = self.hits + accuracy(a, y, self.objective.loss.threshold) * samples

    def read(self) -> Score:
        def host(value: Array | float) -> float:
            return value if isinstance(value, float) else float(self.net.backend.to_numpy(value))

        loss = host(self.loss) / self.samples + host(self.net.penalty())
        # Hits are whole numbers; their float32 mean is not quite.
        return Score(loss, round(host(self.hits)) / self.samples if self.classes else math.nan)


def _describe(history: History) -> str:
    text = f"{history.seconds[-1]:6.2f} s  loss {history.loss[-1]:.4f}"
    if not math.isnan(history.accuracy[-1]):
        text += f"  accuracy {100 * history.accuracy[-1]:.2f} %"
    if history.validation_loss:
        text += f"  validation loss {history.validation_loss[-1]:.4f}"
        if not math.isnan(history.validation_accuracy[-1]):
            text += f"  accuracy {100 * history.validation_accuracy[-1]:.2f} %"
    return text
