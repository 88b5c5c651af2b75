"""The training loop: batches, steps, what is reported after each epoch, what ends a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from nnx.backend import Array, get_backend
from nnx.communication import Communicator, SingleProcess
from nnx.data import Parts, Piece, Source, Stretch, as_floats, batches
from nnx.metrics.chosen import Metric
from nnx.randomness import generator, set_state
from nnx.training.compiled import CompiledLoop
from nnx.training.history import History, NonFiniteLossError, Score, check_parameters
from nnx.training.mixing import Mixing, mixed, rows_of
from nnx.training.plan import Plan
from nnx.training.progress import ProgressBar
from nnx.training.tally import Tally

__all__ = ["Run", "Scored", "counted", "score", "taker"]

# Outputs of the steps are kept until there are this many numbers, and then go through loss and
# metrics at once: a small step would cost half as much again if each of them did.
OUTPUTS_KEPT = 1 << 17

# Batches are gathered from the data until there are this many numbers of input: for small ones
# that is many batches at a time, and so fewer operations.
GATHERED = 1 << 18


class Scored(NamedTuple):
    """A source of checked data, and what is reported about it."""

    source: Source
    batch_size: int
    classes: bool
    metrics: Mapping[str, Metric]

    @property
    def parts(self) -> Parts:
        """The data, or what is known of it before an epoch."""
        return self.source.parts


class Run:
    """A training in progress: what callbacks see, and what a checkpoint holds.

    Args:
        net: the network.
        data: what it is trained on.
        validation: what it is scored on after every epoch.
        epochs: how many epochs the training has.
        callbacks: objects with the methods of `Callback`.
        shuffle: draw a new order for every epoch; "blocks" draws one of blocks of samples.
        rng: draw it from this generator, instead of the seeded stream "batches".
        identity: returns, as plain data, with what the training was started; it must be the same if
            it is resumed.
        mixing: makes another batch of every batch, before its step.

    Attributes:
        net, epochs, callbacks, mixing: as given.
        history: the finished epochs.
        epoch: the number of finished epochs.
        samples: how many samples an epoch has; None if that is not known before its end.
        done: how many samples of the current epoch have been trained on.
        batches: how many batches that were.
        ending: why the training ends before its last epoch: "stopped" or "interrupted"; else "".
        stopped: has a callback ended it for good, not only interrupted it?
        failed: does it end with an error?
        torn: may a step have been interrupted half-way, by Ctrl-C?
        communicator: connects the processes that train the network, each with a run of its own.
    """

    communicator: Communicator = SingleProcess()

    def __init__(
        self,
        net: Any,
        data: Scored,
        validation: Scored | None,
        epochs: int,
        callbacks: Sequence[Any] = (),
        shuffle: bool | str = True,
        rng: np.random.Generator | None = None,
        identity: Callable[[], Any] = dict,
        mixing: Mixing | None = None,
    ) -> None:
        self.identity, self.mixing = identity, mixing
        self.made_of: Any = None  # the network as plain data, before anything changes it
        self.net, self.data, self.validation = net, data, validation
        self.epochs, self.callbacks, self.shuffle, self.rng = epochs, callbacks, shuffle, rng
        self.intervals: list[int] = []  # after how many batches callbacks are called
        for callback in callbacks:
            callback.state = {}
            if callback.interval:
                self.intervals.append(callback.interval)
        self.history = History()
        self.samples = data.source.samples
        self.epoch, self.ending = 0, ""
        self.stopped = self.failed = self.torn = False
        self.streams: Any = None  # where the random streams of a resumed run stand
        self._rows: dict[Any, tuple[Any, Array]] = {}  # class indices as rows, by part
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.done, self.batches, self.seconds = 0, 0, 0.0
        self.pending: list[Array] = []  # outputs that the tally does not have yet
        self.tally = Tally(self.data.classes, self.data.metrics)
        self.order: list[Piece] = []
        self.before: Any = None  # where the stream of the order stood before this epoch

    @property
    def quantities(self) -> list[str]:
        """The names of what the history will hold after an epoch."""
        found = ["seconds"]
        for prefix, of in (("", self.data), ("validation_", self.validation)):
            if of is not None:
                names = ["loss", *(["accuracy"] if of.classes else []), *of.metrics]
                found += [prefix + name for name in names]
        return found

    def stop(self) -> None:
        """End the training after the current batch; if an epoch has just ended, at once."""
        self.stopped, self.ending = True, self.ending or "stopped"

    def interrupt(self) -> None:
        """End the training after the current batch, as an interruption that can be resumed."""
        self.ending = "interrupted"

    def train(self, progress: bool) -> History:
        """Train until the last epoch, a callback or Ctrl-C ends it."""
        with ProgressBar(self.samples, self.epochs, progress) as bar, ExitStack() as stack:
            try:
                if self.streams is not None:
                    bar.print(f"resumed after {self.epoch} of {self.epochs} epochs")
                for callback in self.callbacks:
                    self._call(callback, "begin")
                    stack.callback(self._call, callback, "end")
                if self.streams is not None:  # a `begin` may have drawn from them
                    set_state(self.streams)
                while self.epoch < self.epochs and not self.ending:
                    self._train_epoch(bar)
                if self.history.loss and not self.done:
                    check_parameters(self.net, self.history)
            except KeyboardInterrupt:
                self.ending, self.torn = "interrupted", True
            except BaseException:
                self.failed = True
                raise
            if self.ending == "interrupted":
                self.history.interrupted = True
                bar.print(f"interrupted after {self.epoch} of {self.epochs} epochs")
        return self.history

    def _train_epoch(self, bar: ProgressBar) -> None:
        """Make one pass over the data, or the rest of one, and report it."""
        bar.start(self.epoch + 1)
        start, history = time.perf_counter() - self.seconds, self.history
        with get_backend().fast_arithmetic():
            if not self._make_steps(bar, start):
                return
        result = self.tally_of_all().read(self.net)
        seconds = time.perf_counter() - start
        if not math.isfinite(result.loss):
            raise NonFiniteLossError(self.epoch + 1, result.loss, history)
        valid = None
        if self.validation is not None:
            valid = self._validated(self.validation)
            if not math.isfinite(valid.loss):
                what = f"the validation loss is {valid.loss}"
                raise NonFiniteLossError(self.epoch + 1, result.loss, history, what)
        history.add(seconds, result, valid)
        self.epoch += 1
        self._start_epoch()
        bar.finish(history.last())
        self._call_after_epoch()

    def _make_steps(self, bar: ProgressBar, start: float) -> bool:
        """Make the steps of an epoch that are not done yet; the host reads nothing.

        Return whether the epoch is complete.
        """
        source = self.data.source
        if not self.order and source.ordered:
            rng = self.rng or generator("batches")
            self.before = rng.bit_generator.state
            self.draw_order(rng)
        known: Plan | None = None
        shared = self.communicator.size > 1
        with closing(source.stretches(self.order, self.done, self.data.batch_size)) as stretches:  # type: ignore[type-var]
            for stretch in stretches:
                order = self._own_order(stretch) if shared else stretch.order
                first, stop = stretch.first, stretch.first + stretch.samples
                while first <= self.done < stop:
                    plan = self.net.plan()
                    if plan is not known:
                        known = plan
                        compiled = self._joined(plan) if shared else plan.compiled(self.mixing)
                        plan.forget_gradients()
                    take = taker(plan, order)
                    count = partial(self._count, plan, take, stretch)
                    for (a, *targets), done in self._outputs(plan, compiled, stretch, take):
                        self.batches += -(-(first + done - self.done) // stretch.batch_size)
                        self.done = first + done
                        if self.mixing is None:
                            self.pending.append(a)
                        elif a.shape[0]:  # the targets are not those of the data
                            self.tally.add(plan, a, *targets)
                        kept = len(self.pending) * math.prod(a.shape)
                        if kept >= OUTPUTS_KEPT or self.done == stop:
                            count()
                        bar.advance(self.done)
                        if self.intervals and self._due():
                            self.seconds = time.perf_counter() - start
                            self._call_between_batches(plan, count)
                            if plan.stale and not self.ending:
                                break
                        if self.ending:
                            self.seconds = time.perf_counter() - start
                            return self.done == self.samples
        self.samples = self.done
        return True

    def _targets(self, plan: Plan, stretch: Stretch) -> Array:
        """Return the targets of a stretch, class indices as rows if these take no more memory."""
        x, y, *_ = stretch.data
        outputs = plan.output_shape
        if None in outputs:
            outputs = plan.chain.shapes(tuple(x.shape[1:]), "")[-1]
        if y.ndim > len(outputs) or math.prod(outputs) > math.prod(x.shape[1:]):
            return y
        known, rows = self._rows.get(stretch.part, (None, None))
        if known != outputs:
            rows = rows_of(plan, x, y)
            if stretch.part is not None:
                self._rows[stretch.part] = (outputs, rows)
        return rows

    # What several processes do in another way.

    def tally_of_all(self) -> Tally:
        """Return what has been counted in this epoch."""
        return self.tally

    def _own_order(self, stretch: Stretch) -> np.ndarray | None:
        """Return which samples of a stretch this process computes; None means all as they lie."""
        return stretch.order

    def _own(self, done: int, batch_size: int) -> int:
        """Return how many of the first samples of a stretch this process computes."""
        return done

    def _joined(self, plan: Plan) -> CompiledLoop | None:
        """Add up the gradients of all processes in the steps of this plan; none is compiled."""
        raise NotImplementedError

    def _validated(self, data: Scored) -> Score:
        return score(self.net, data)

    def _call_after_epoch(self) -> None:
        for callback in self.callbacks:
            self._call(callback, "after_epoch")

    def _count(self, plan: Plan, take: Callable[..., list[Array]], stretch: Stretch) -> None:
        """Give the pending outputs to the tally, with their targets, as they came, and weights."""
        if not self.pending:
            return
        xp, outputs = plan.backend.xp, self.pending
        a = outputs[0] if len(outputs) == 1 else xp.concat(outputs, axis=0)
        done = self._own(self.done - stretch.first, stretch.batch_size)
        self.tally.add(plan, a, *take(slice(done - a.shape[0], done), *stretch.data[1:]))
        self.pending = []

    def _outputs(
        self,
        plan: Plan,
        compiled: CompiledLoop | None,
        stretch: Stretch,
        take: Callable[..., list[Array]],
    ) -> Iterator[tuple[tuple[Array, ...], int]]:
        """Step after step: yield the outputs of each, and the number of samples so far.

        If samples are mixed, the targets of the step, and weights if there are any, stand beside
        the outputs. A compiled loop makes as many steps at a time as it can.
        """
        x, _, *weights = stretch.data
        data = (x, self._targets(plan, stretch), *weights)
        samples, batch_size, start = stretch.samples, stretch.batch_size, self.done - stretch.first
        if compiled is not None:
            order = np.arange(samples) if stretch.order is None else stretch.order
            until = self._until_call if self.intervals else None
            yield from compiled.epoch(plan, data, order, batch_size, start, until)
            return
        backend, mixing, per_sample = plan.backend, self.mixing, math.prod(x.shape[1:])
        several = batch_size * max(1, GATHERED // (batch_size * per_sample))
        for first in range(start, samples, several):
            stop = min(first + several, samples)
            x, *others = take(slice(first, stop), *data)
            gathered = (as_floats(backend, x), *others)
            for batch in batches(stop - first, batch_size):
                arrays: Any = [array[batch, ...] for array in gathered]
                if mixing is not None:
                    arrays = mixed(mixing, plan, *arrays)
                yield (plan.step(*arrays), *arrays[1:]), first + batch.stop

    def draw_order(self, rng: np.random.Generator) -> None:
        """Draw the order of an epoch: parts of the data, each with its samples in order."""
        self.order = self.data.source.draw(rng, self.shuffle, self.data.batch_size)

    # Callbacks.

    def _until_call(self) -> int:
        """Return the number of batches until the next call within the epoch."""
        return min(interval - self.batches % interval for interval in self.intervals)

    def _due(self) -> bool:
        return any(self.batches % interval == 0 for interval in self.intervals)

    def _call_between_batches(self, plan: Plan, count: Callable[[], None]) -> None:
        for callback in self.callbacks:
            if callback.interval and self.batches % callback.interval == 0:
                self._call(callback, "after_batches")
                if plan.stale:  # what is pending belongs to the plan before
                    count()

    def _call(self, callback: Any, method: str) -> None:
        """Call a method of a callback; True ends the training.

        An error passes, with a note that names the callback.
        """
        try:
            answer = getattr(callback, method)(self)
        except Exception as error:
            error.add_note(
                f"raised by the callback {callback!r} in {method}, after {self.epoch} epochs; the "
                "training has ended, and the network can be used"
            )
            raise
        if isinstance(answer, bool | np.bool_) and answer:
            self.stop()


def score(net: Any, data: Scored) -> Score:
    """Return loss, accuracy and metrics of a network for checked data."""
    return counted(net, data).read(net)


def counted(
    net: Any, data: Scored, rows: Callable[[int], tuple[int, int]] = lambda n: (0, n)
) -> Tally:
    """Return the tally of a network for checked data.

    Args:
        net: the network.
        data: the data.
        rows: of a batch of so many samples, the first to be counted and the first that is not.
    """
    plan, tally = net.plan(), Tally(data.classes, data.metrics)
    with closing(data.source.stretches([], 0, data.batch_size)) as stretches:  # type: ignore[type-var]
        for stretch in stretches:
            for batch in batches(stretch.samples, data.batch_size):
                start, stop = rows(batch.stop - batch.start)
                if start < stop:
                    own = slice(batch.start + start, batch.start + stop)
                    x, *rest = (part[own, ...] for part in stretch.data)
                    tally.add(plan, plan.outputs(as_floats(plan.backend, x)), *rest)
    return tally


def taker(plan: Plan, order: np.ndarray | None) -> Callable[..., list[Array]]:
    """Return what takes samples from arrays of the backend, in that order."""
    if order is None:
        return lambda part, *arrays: [array[part, ...] for array in arrays]
    xp, index = plan.backend.xp, plan.backend.from_numpy(order)

    def take(part: slice, *arrays: Array) -> list[Array]:
        return [xp.take(array, index[part], axis=0) for array in arrays]

    return take
