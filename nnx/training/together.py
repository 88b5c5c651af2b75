"""A run on several processes: what they agree on, what they share, and what they compare.

All processes draw the same orders and hold the same network. Of each batch every one computes its
own rows; the gradients are added up (`exchange`), and so are losses and hits, once per epoch.
"""

from __future__ import annotations

import importlib.metadata
import math
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from nnx import randomness
from nnx.backend import Array, Backend
from nnx.communication import CommunicationError, Communicator, own_samples, sharing
from nnx.config import plain
from nnx.data import Arrays, Stretch, as_floats, batches
from nnx.layers.tree import once
from nnx.saving import first_difference
from nnx.training.compiled import CompiledLoop
from nnx.training.exchange import Exchange
from nnx.training.history import History, NonFiniteLossError, Score
from nnx.training.mixing import mixed
from nnx.training.plan import Plan
from nnx.training.progress import ProgressBar
from nnx.training.run import GATHERED, Run, Scored, counted, taker
from nnx.training.tally import Tally

__all__ = ["SharedRun", "start_together"]

SAMPLED = 256  # samples whose bytes tell whether two processes have the same data


def start_together(
    communicator: Communicator, begin: Callable[..., Any], *arguments: Any, **options: Any
) -> Any:
    """Return the run that begin(...) makes on every process, with the weights of rank 0.

    Random streams, parameters, buffers and states become those of rank 0.

    Raises:
        CommunicationError: begin has failed on another process, or the processes have different
            versions, networks, data or arguments; the message names the first difference.
    """
    randomness.set_state(communicator.broadcast(randomness.state()))
    try:
        run = begin(*arguments, communicator=communicator, **options)
        mine: Any = _described(run)
    except Exception as error:
        communicator.gather(f"{type(error).__name__}: {error}")
        raise
    every = communicator.gather(mine)
    for rank, theirs in enumerate(every):
        if isinstance(theirs, str):
            raise CommunicationError(f"train: rank {rank} could not start: {theirs}")
    for rank, theirs in enumerate(every):
        if found := first_difference(theirs, every[0]):
            raise CommunicationError(
                f"train: expected the same on all processes, got a difference between rank {rank} "
                f"and rank 0: {found}; start all of them with the same program, version of nnx, "
                "files and arguments"
            )
    streams = communicator.broadcast((randomness.state(), _rng_state(run)))
    randomness.set_state(streams[0])
    if run.rng is not None:
        run.rng.bit_generator.state = streams[1]
    _take_over(run.net, communicator.broadcast(_arrays(run.net)), communicator.rank)
    if communicator.rank:  # what an earlier training has counted is in the tally of rank 0
        run.tally, run.pending = Tally(run.data.classes, run.data.metrics), []
    elif run.pending:
        run.count_pending()
    return run


class SharedRun(Run):
    """A run of one of several processes that train one network.

    Args:
        communicator: connects them.
        arguments, options: of `Run`.
    """

    def __init__(self, communicator: Communicator, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.communicator = communicator
        self._wishes: set[str] = set()  # of this process, to end the training
        self._plan: Plan | None = None  # the plan whose gradients are added up
        self._begun = False
        if isinstance(self.data.source, Arrays) and self.mixing is None:
            self.data.source.own = self._own_samples

    def stop(self) -> None:
        """End the training, together with the others: after the callbacks of the epoch."""
        self._wishes.add("stopped")

    def interrupt(self) -> None:
        """End the training as an interruption, together with the others."""
        self._wishes.add("interrupted")

    def train(self, progress: bool) -> History:
        """Train until the last epoch, or a callback of any process, ends it."""
        try:
            history = super().train(progress and self.communicator.rank == 0)
            if self.torn:  # by Ctrl-C; the others may be in another step
                raise KeyboardInterrupt
            return history
        except (NonFiniteLossError, CommunicationError):  # raised by all
            raise
        except BaseException as error:
            traceback.print_exc()
            self.communicator.abort(f"{type(error).__name__}: {error}")
            raise
        finally:
            if self._plan is not None:
                self._plan.exchange = None

    def tally_of_all(self) -> Tally:
        """Return what all processes have counted in this epoch."""
        return _merged(self.tally, self.net.backend, self.communicator)

    def count_pending(self) -> None:
        """Give the outputs of a resumed run, which one process has computed, to the tally."""
        plan, source = self.net.plan(), self.data.source
        a = plan.backend.xp.concat(self.pending, axis=0)
        # The last stretch that is not done, or the last one.
        size = self.data.batch_size
        with closing(source.stretches(self.order, self.done - 1, size)) as found:  # type: ignore[type-var]
            stretch = next(found)
        done = self.done - stretch.first
        take = taker(plan, stretch.order)
        self.tally.add(plan, a, *take(slice(done - a.shape[0], done), *stretch.data[1:]))
        self.pending = []

    def _train_epoch(self, bar: ProgressBar) -> None:
        if not self._begun:  # a callback may have ended the training when it began
            self._begun = True
            self._agree()
        if not self.ending:
            super()._train_epoch(bar)

    def _own_order(self, stretch: Stretch) -> np.ndarray | None:
        if self.mixing is not None:  # it mixes whole batches
            return stretch.order
        if stretch.whole is not None:  # it has been read for this process alone
            return None
        order = self._own_samples(stretch.samples, stretch.batch_size)
        return order if stretch.order is None else stretch.order[order]

    def _own_samples(self, samples: int, size: int) -> np.ndarray:
        """Return which of so many samples, in batches of a size, are those of this process."""
        order, whole, found = np.arange(samples), samples // size * size, []
        for part in (order[:whole].reshape(-1, size), order[whole:].reshape(1, -1)):
            start, stop = self._rows_of(part.shape[1])
            found.append(part[:, start:stop].reshape(-1))
        return np.concatenate(found) if any(map(len, found)) else order[:1]

    def _rows_of(self, samples: int) -> tuple[int, int]:
        return own_samples(samples, self.communicator.rank, self.communicator.size)

    def _own(self, done: int, batch_size: int) -> int:
        """Return how many of the first samples of a stretch, whole batches or all, are taken."""
        if self.mixing is not None:
            return done
        batches, rest = divmod(done, batch_size)
        (start, stop), (first, last) = map(self._rows_of, (batch_size, rest))
        return batches * (stop - start) + last - first

    def _joined(self, plan: Plan) -> CompiledLoop | None:
        if self._plan is not None:
            self._plan.exchange = None
        self._plan = plan
        plan.exchange = Exchange(self.communicator, plan.backend, plan.slots)
        return None

    def _outputs(
        self,
        plan: Plan,
        compiled: CompiledLoop | None,
        stretch: Stretch,
        take: Callable[..., list[Array]],
    ) -> Iterator[tuple[tuple[Array, ...], int]]:
        """Step after step, with the rows of this process."""
        exchange, size = plan.exchange, stretch.batch_size
        assert exchange is not None
        share, start, (x, _, *weights) = exchange.share, self.done - stretch.first, stretch.data
        data = (x, self._targets(plan, stretch), *weights)
        per_step = -(-size // self.communicator.size) * math.prod(x.shape[1:])
        several = size * max(1, GATHERED // per_step)
        for first in range(start, stretch.samples, several):
            stop = min(first + several, stretch.samples)
            before = self._own(first, size)
            gathered = take(slice(before, self._own(stop, size)), *data)
            gathered[0] = as_floats(plan.backend, gathered[0])
            for batch in batches(stop - first, size):
                share.of_batch(batch.stop - batch.start)
                edges = (self._own(first + i, size) - before for i in (batch.start, batch.stop))
                own = slice(*edges)
                arrays: Any = [array[own, ...] for array in gathered]
                if self.mixing is not None:
                    arrays = mixed(self.mixing, plan, *arrays)
                    arrays = [array[share.start : share.stop, ...] for array in arrays]
                if share.start == share.stop:
                    arrays = [as_floats(plan.backend, x[:1, ...]), *(a[:1, ...] for a in data[1:])]
                with sharing(share):
                    a = plan.step(*arrays)
                yield (a[: share.stop - share.start, ...], *arrays[1:]), first + batch.stop

    def _count(self, plan: Plan, take: Callable[..., list[Array]], stretch: Stretch) -> None:
        self.pending = [a for a in self.pending if a.shape[0]]
        super()._count(plan, take, stretch)

    def _validated(self, data: Scored) -> Score:
        _average_statistics(self.net, self.communicator)
        tally = counted(self.net, data, self._rows_of)
        return _merged(tally, self.net.backend, self.communicator).read(self.net)

    def _call_between_batches(self, plan: Plan, count: Callable[[], None]) -> None:
        count()  # what a checkpoint holds is what all have counted
        super()._call_between_batches(plan, count)
        self._agree()

    def _call_after_epoch(self) -> None:
        _average_statistics(self.net, self.communicator)
        self.history.seconds[-1] = self.communicator.broadcast(self.history.seconds[-1])
        super()._call_after_epoch()
        _compare_parameters(self.net, self.communicator)
        self._agree()

    def _call(self, callback: Any, method: str) -> None:
        if self.communicator.rank == 0 or callback.everywhere:
            super()._call(callback, method)

    def _agree(self) -> None:
        """End the training if this process or another one wishes it."""
        wishes = set().union(*self.communicator.gather(self._wishes))
        if "stopped" in wishes:
            super().stop()
        if "interrupted" in wishes:
            super().interrupt()
        self._wishes.clear()


def _merged(tally: Tally, backend: Backend, communicator: Communicator) -> Tally:
    """Return a tally of what all processes have counted."""
    state = tally.state()
    state["sums"] = [s if type(s) is float else float(backend.to_numpy(s)) for s in state["sums"]]
    state["kept"] = [[backend.to_numpy(a) for a in arrays] for arrays in state["kept"]]
    every = communicator.gather(state)
    total = Tally(tally.classes, tally.metrics)
    total.set_state(
        backend,
        {
            "terms": sum(state["terms"] for state in every),
            "judged": sum(state["judged"] for state in every),
            "weighted": any(state["weighted"] for state in every),
            "sums": [sum(sums) for sums in zip(*(state["sums"] for state in every), strict=True)],
            "kept": [arrays for state in every for arrays in state["kept"]],
        },
    )
    return total


def _average_statistics(net: Any, communicator: Communicator) -> None:
    """Give layers that keep statistics of each process's own samples the mean over all."""
    for layer in _leaves(net):
        if getattr(layer, "sync", True):
            continue
        for name, buffer in layer.buffers.items():
            backend = layer.backend
            every = communicator.gather(backend.to_numpy(buffer))
            layer.buffers[name] = backend.from_numpy(np.mean(every, axis=0, dtype=every[0].dtype))


def _compare_parameters(net: Any, communicator: Communicator) -> None:
    """Check that parameters and buffers have the same bits on all processes.

    Raises:
        CommunicationError: they have not, on all processes; the message names the layer.
    """
    found = {}
    for keys, layer in once(net):
        if layer.children:
            continue
        for kind, arrays in (("parameter", layer.parameters), ("buffer", layer.buffers)):
            for name, array in arrays.items():
                path = ".".join(map(str, (*keys, name)))
                bits = _checksum(layer.backend, array)
                found[f"{kind} {path} of {layer.name}"] = bits
    every = communicator.gather(found)
    for what, bits in every[0].items():
        others = [rank for rank, theirs in enumerate(every) if theirs.get(what) != bits]
        if others:
            raise CommunicationError(
                f"train: expected the same network on all processes, got another {what} "
                f"on rank {', '.join(map(str, others))} than on rank 0; look for what has changed "
                "it on one process alone, a callback, a layer that draws random numbers of its own "
                "or a faulty machine, and resume the last checkpoint"
            )


def _described(run: Any) -> dict[str, Any]:
    """Return what must be the same on all processes, as plain data."""
    net, held = run.net, run.validation
    try:
        network = plain(net)
    except TypeError:  # a layer of the user's with an argument that no file can hold
        network = None
    return {
        "version of nnx": importlib.metadata.version("nnx-array"),
        "backend": net.backend.name,
        "layers": [type(layer).__name__ for _, layer in once(net)],
        "parameters": {path: list(p.shape) for path, p in net.parameters.items()},
        "frozen": [bool(layer.frozen) for _, layer in once(net)],
        "network": network,
        "arguments": run.identity(),
        "callbacks": [type(callback).__name__ for callback in run.callbacks],
        "epochs": [run.epoch, run.done, run.epochs],
        "checksum of the data": _sampled(net.backend, run.data.parts),
        "checksum of the validation": _sampled(net.backend, held.parts if held else []),
    }


def _checksum(backend: Backend, array: Array, before: int = 0) -> int:
    host: Any = array if isinstance(array, np.ndarray) else backend.to_numpy(array)
    host = np.ascontiguousarray(host)
    return zlib.crc32(host, before)


def _sampled(backend: Backend, parts: Any) -> int:
    """Return a checksum of some samples, evenly spread over the data."""
    bits = 0
    for part in parts:
        samples = part[0].shape[0]
        some = np.unique(np.linspace(0, samples - 1, min(samples, SAMPLED)).astype(np.int64))
        for array in part:
            if isinstance(array, np.ndarray):
                taken = array[some]
            elif hasattr(array, "read"):  # rows on the host, or on disk
                taken = array.read(some)
            else:
                taken = backend.xp.take(array, backend.from_numpy(some), axis=0)
            bits = _checksum(backend, taken, bits)
    return bits


def _rng_state(run: Any) -> Any:
    return None if run.rng is None else run.rng.bit_generator.state


def _arrays(net: Any) -> list[tuple[Any, Any, Any]]:
    """Return parameters, buffers and states of each layer, on the host."""
    found = []
    for layer in _leaves(net):
        host = layer.backend.to_numpy
        found.append(
            (
                {name: host(p) for name, p in layer.parameters.items()},
                {name: host(b) for name, b in layer.buffers.items()},
                {name: state.converted(host) for name, state in layer.states.items()},
            )
        )
    return found


def _leaves(net: Any) -> list[Any]:
    return [layer for _, layer in once(net) if not layer.children]


def _take_over(net: Any, arrays: list[tuple[Any, Any, Any]], rank: int) -> None:
    """Give a network the arrays of rank 0."""
    if rank == 0:
        return
    for layer, (parameters, buffers, states) in zip(_leaves(net), arrays, strict=True):
        move = layer.backend.from_numpy
        layer.parameters.update({name: move(p) for name, p in parameters.items()})
        layer.buffers.update({name: move(b) for name, b in buffers.items()})
        layer.states = {name: state.converted(move) for name, state in states.items()}
