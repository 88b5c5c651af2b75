"""The training loop: batches, steps, what is reported after each epoch, what ends a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nnx.backend import Array
from nnx.data import batches
from nnx.losses import one_hot
from nnx.metrics import hits
from nnx.randomness import generator
from nnx.training.history import History, NonFiniteLossError, Score
from nnx.training.plan import Plan
from nnx.training.progress import ProgressBar

__all__ = ["score", "train"]

# Outputs of the steps are kept until there are this many numbers, and then go through loss and
# metrics at once: a small step would cost half as much again if each of them did.
OUTPUTS_KEPT = 1 << 17

# Batches are gathered from the data until there are this many numbers of input: for small ones
# that is many batches at a time, and so fewer operations.
GATHERED = 1 << 18

# Validation keeps no closures for a backward: it takes so many batches at once, up to so many
# samples.
VALIDATION_BATCHES, VALIDATION_SAMPLES = 4, 1024

Data = tuple[Array, ...]  # x, y and, if there are any, weights: checked arrays of the backend


def train(
    net: Any,
    data: Data,
    batch_size: int,
    epochs: int,
    *,
    classes: bool,
    validation: Data | None,
    validation_classes: bool,
    callbacks: Sequence[Callable[..., Any]],
    progress: bool,
    shuffle: bool,
    rng: np.random.Generator | None,
) -> History:
    """Train a network with checked data; see `SequentialNet.train`."""
    x, y, *weights = data
    plan = net.plan()
    backend, rows = plan.backend, _rows(plan, x, y)
    for _, layer in plan.tree:
        if not layer.children:
            layer.gradients.clear()  # those of an earlier backprop would be stale

    history = History()
    several = min(VALIDATION_BATCHES * batch_size, VALIDATION_SAMPLES)
    with ProgressBar(x.shape[0], epochs, progress) as bar:
        try:
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                order = (rng or generator("batches")).permutation(x.shape[0]) if shuffle else None
                bar.start(epoch)
                outputs, plan = plan.output_shape, net.plan()
                if plan.output_shape != outputs:  # a callback has changed the last layer
                    rows = _rows(plan, x, y)
                with backend.fast_arithmetic():
                    result = _epoch(net, plan, (x, rows, *weights), batch_size, order, classes, bar)
                seconds = time.perf_counter() - start
                if not math.isfinite(result.loss):
                    raise NonFiniteLossError(epoch, result.loss, history)
                if validation is not None:
                    valid = score(net, validation, several, validation_classes)
                    if not math.isfinite(valid.loss):
                        what = f"the validation loss is {valid.loss}"
                        raise NonFiniteLossError(epoch, result.loss, history, what)
                    history.validation_loss.append(valid.loss)
                    history.validation_accuracy.append(valid.accuracy)
                history.loss.append(result.loss)
                history.accuracy.append(result.accuracy)
                history.seconds.append(seconds)
                bar.finish(history.last())
                answers = [callback(net, history) for callback in callbacks]
                if any(isinstance(answer, bool | np.bool_) and answer for answer in answers):
                    break
            if history.loss:
                _check_parameters(net, history)
        except KeyboardInterrupt:
            history.interrupted = True
            bar.print(f"interrupted after {len(history.loss)} of {epochs} epochs")
    return history


def _rows(plan: Plan, x: Array, y: Array) -> Array:
    """Return class indices as rows if these take no more memory than the inputs."""
    outputs = plan.output_shape
    if y.ndim > len(outputs) or math.prod(outputs) > math.prod(x.shape[1:]):
        return y
    return one_hot(y, plan.backend.xp.empty((1, *outputs), dtype=x.dtype, device=x.device))


def score(net: Any, data: Data, batch_size: int, classes: bool) -> Score:
    """Return loss and accuracy of a network for checked data; see `SequentialNet.score`."""
    x, *rest = data
    plan = net.plan()
    tally = _Tally(net, plan, classes)
    for batch in batches(x.shape[0], batch_size):
        tally.add(plan.outputs(x[batch, ...]), *(array[batch, ...] for array in rest))
    return tally.read()


def _epoch(
    net: Any,
    plan: Plan,
    data: Data,
    batch_size: int,
    order: np.ndarray | None,
    classes: bool,
    bar: ProgressBar,
) -> Score:
    """Make one pass over the data; the host reads the device once, at its end."""
    samples = data[0].shape[0]
    tally, take = _Tally(net, plan, classes), _taker(plan, order)
    compiled = plan.compiled()
    if compiled is not None:
        order = np.arange(samples) if order is None else order
        steps = compiled.epoch(plan, data, order, batch_size)
    else:
        steps = _steps(plan, data, take, batch_size)

    outputs: list[Array] = []
    first = 0
    for a, stop in steps:
        outputs.append(a)
        if len(outputs) * math.prod(a.shape) >= OUTPUTS_KEPT or stop == samples:
            a = a if len(outputs) == 1 else plan.backend.xp.concat(outputs, axis=0)
            tally.add(a, *take(slice(first, stop), *data[1:]))
            outputs, first = [], stop
        bar.advance(stop)
    return tally.read()


def _steps(
    plan: Plan, data: Data, take: Callable[..., list[Array]], batch_size: int
) -> Iterator[tuple[Array, int]]:
    """Step after step: yield the outputs of each, and the number of samples so far."""
    samples, per_sample = data[0].shape[0], math.prod(data[0].shape[1:])
    several = batch_size * max(1, GATHERED // (batch_size * per_sample))
    for part in batches(samples, several):
        gathered = take(part, *data)
        for batch in batches(part.stop - part.start, batch_size):
            a = plan.step(*[array[batch, ...] for array in gathered])
            yield a, part.start + batch.stop


def _taker(plan: Plan, order: np.ndarray | None) -> Callable[..., list[Array]]:
    """Return what takes samples from arrays of the backend, in that order."""
    if order is None:
        return lambda part, *arrays: [array[part, ...] for array in arrays]
    xp, index = plan.backend.xp, plan.backend.from_numpy(order)

    def take(part: slice, *arrays: Array) -> list[Array]:
        return [xp.take(array, index[part], axis=0) for array in arrays]

    return take


class _Tally:
    """Loss and hits, summed on the device and read once."""

    def __init__(self, net: Any, plan: Plan, classes: bool) -> None:
        self.net, self.plan, self.classes = net, plan, classes
        self.samples, self.terms = 0, 0
        self.loss: Array | float = 0.0
        self.hits: Array | float = 0.0
        self.weight: Array | float = 0.0
        self.weighted = False

    def add(self, a: Array, y: Array, weights: Array | None = None) -> None:
        """Count the outputs of some samples."""
        xp, samples, loss = self.plan.backend.xp, a.shape[0], self.plan.loss
        self.samples += samples
        self.loss = self.loss + loss.value(a, y, weights) * samples
        if not self.classes:
            return
        # A fused loss contains the last activation, an increasing function: a threshold on its
        # values is one on the outputs before it, `loss.threshold`.
        right = hits(a, y, loss.threshold, loss.per_entry and a.shape[-1] > 1)
        self.terms += math.prod(right.shape)
        if weights is not None:
            self.weighted = True
            weights = xp.reshape(weights, (*weights.shape, *[1] * (right.ndim - weights.ndim)))
            weights = xp.broadcast_to(weights, right.shape)
            right = right * weights
            self.weight = self.weight + xp.sum(weights)
        self.hits = self.hits + xp.sum(right)

    def read(self) -> Score:
        """Return the means."""

        def host(value: Array | float) -> float:
            return value if type(value) is float else float(self.plan.backend.to_numpy(value))

        loss = host(self.loss) / self.samples + host(self.net.penalty())
        if not self.classes:
            return Score(loss, math.nan)
        if not self.weighted:  # hits are whole numbers
            return Score(loss, round(host(self.hits)) / self.terms)
        weight = host(self.weight)
        return Score(loss, host(self.hits) / weight if weight else math.nan)


def _check_parameters(net: Any, history: History) -> None:
    """Refuse parameters that the last step has made infinite or NaN; one read of the device.

    Raises:
        NonFiniteLossError: the epochs are all in its history.
    """
    xp, total = net.backend.xp, 0.0
    for p in net.parameters.values():
        total = total + xp.sum(p * 0.0)
    if math.isfinite(float(net.backend.to_numpy(total)) if net.parameters else 0.0):
        return
    for path, p in net.parameters.items():
        if not bool(xp.all(xp.isfinite(p))):
            what = f"the parameter {path} is not finite"
            raise NonFiniteLossError(len(history.loss), history.loss[-1], history, what)
