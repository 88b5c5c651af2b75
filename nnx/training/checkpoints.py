"""A run as a file: what is in it, how it is resumed, and the callback that writes it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nnx import randomness
from nnx.checks import count, flag, number
from nnx.config import plain
from nnx.layers.tree import once
from nnx.saving import (
    File,
    FileError,
    first_difference,
    join,
    pack,
    restore,
    split,
    write_file,
)
from nnx.training.callbacks import Callback, Monitor, file_path
from nnx.training.history import History, check_parameters
from nnx.training.run import Run

__all__ = ["Checkpoint", "made_of", "packed", "resume_run", "seed_as"]

REMEDY = "train with the same, or leave out resume= to start from the beginning"
# What every saved run has.
PARTS = frozenset({"identity", "made_of", "streams", "rng", "before", "epoch", "done", "batches"})
PARTS |= {"seconds", "stopped", "history", "tally", "pending", "callbacks"}
SIGNALS = ("SIGTERM", "SIGUSR1")  # what clusters send before they end a job


def made_of(net: Any) -> dict[str, Any]:
    """Return what a network is made of, as plain data: layers, what is frozen, penalties."""
    return {
        "network": plain(net),
        "layers": {
            ".".join(map(str, keys)): {
                "frozen": bool(layer.frozen),
                "regularizers": {name: plain(r) for name, r in layer.regularizers.items()},
            }
            for keys, layer in once(net)
            if not layer.children
        },
    }


def packed(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a run as plain data and arrays by name.

    Raises:
        NonFiniteLossError: a parameter is NaN or infinite.
        ValueError: a buffer is.
    """
    check_parameters(run.net, run.history)
    network, arrays = pack(run.net)
    data, more = split(
        {
            "identity": run.identity(),
            "made_of": run.made_of,
            "streams": randomness.state(),
            "rng": None if run.rng is None else run.rng.bit_generator.state,
            "before": run.before if run.order else None,
            "epoch": run.epoch,
            "done": run.done,
            "batches": run.batches,
            "seconds": run.seconds,
            "stopped": run.stopped,
            "history": _each_list(run.history, np.asarray),
            "tally": run.tally_of_all().state(),
            "pending": run.pending,
            "callbacks": [[type(c).__name__, c.state] for c in run.callbacks],
        },
        "run",
    )
    return {**network, "run": data}, {**arrays, **more}


def resume_run(run: Run, file: File, path: str | os.PathLike[str]) -> None:
    """Continue the run of a file with the network, data and callbacks of another one.

    Nothing is changed if they do not belong together.

    Raises:
        ValueError: the network, the data, or how it is trained differ; the message names the first
            difference.
        FileError: the file holds no run, or is damaged.
    """
    data = _run_of(file, path)
    now = made_of(run.net)
    with _damaged(path, KeyError, TypeError, AttributeError):
        latest = {
            "network": file.data["architecture"],
            "layers": {
                place: {name: of[name] for name in ("frozen", "regularizers")}
                for place, of in file.data["layers"].items()
            },
        }
        unfinished = bool(data["done"]) and run.epochs <= data["epoch"]
    found = first_difference(data["made_of"], now)
    if found and first_difference(latest, now):
        raise ValueError(
            f"train: expected the network of the run in {os.fspath(path)}, got another one: "
            f"{found}; {REMEDY}"
        )
    if found := first_difference(data["identity"], run.identity()):
        raise ValueError(
            f"train: expected what the run in {os.fspath(path)} was started with, got something "
            f"else: {found}; {REMEDY}"
        )
    if unfinished:
        raise ValueError(
            f"train: expected more than {data['epoch']} epochs, because the run in "
            f"{os.fspath(path)} is within the next one, got {run.epochs}; {REMEDY}"
        )
    saved = join(data, file)
    with _damaged(path, KeyError, TypeError, ValueError, AttributeError, IndexError):
        _take_over(run, saved)
    restore(run.net, file.data, file)


def _take_over(run: Run, saved: dict[str, Any]) -> None:
    """Give a run everything of a saved one but the network."""
    backend = run.net.backend
    run.history = History(**_each_list(saved["history"], np.ndarray.tolist))
    run.history.interrupted = False
    for name in ("epoch", "done", "batches"):
        setattr(run, name, count("run", name, saved[name], least=0))
    run.seconds = number("run", "seconds", saved["seconds"], ">= 0")
    run.stopped, run.made_of = flag("run", "stopped", saved["stopped"]), saved["made_of"]
    run.ending = "stopped" if run.stopped else ""
    run.tally.set_state(backend, saved["tally"])
    run.pending = [backend.from_numpy(outputs) for outputs in saved["pending"]]
    pending = sum(outputs.shape[0] for outputs in run.pending)
    drawn = saved["before"] is not None or not run.data.source.ordered
    if not pending <= run.done <= (run.samples or run.done) or (run.done and not drawn):
        raise ValueError(f"{run.done} samples done, {pending} of them pending")
    for callback, state in _states(run, saved["callbacks"]):
        callback.state = state
    if run.rng is not None:
        run.rng.bit_generator.state = saved["rng"]
    run.streams = saved["streams"]
    randomness.set_state(run.streams)
    if saved["before"] is not None:  # the order of the epoch is drawn again
        kind = np.random.PCG64 if run.rng is None else type(run.rng.bit_generator)
        rng = np.random.Generator(kind())
        run.before = rng.bit_generator.state = saved["before"]
        run.draw_order(rng)


class Checkpoint(Callback):
    """Write the run to a file after every few epochs; `train(resume=path)` continues from there.

    A run that was stopped at any moment and is resumed by the same call ends with the same weights,
    states of optimizers and history as one that was never stopped. When a cluster asks the process
    to end (the signals SIGTERM and SIGUSR1), the run is written after the current batch, and the
    training ends as by Ctrl-C. On a library that compiles, it ends after the current loop.

    It is called after all other callbacks, and also writes the run when the training ends, unless
    by Ctrl-C, which may come in the middle of a step, or by an error.

    Args:
        path: of the file; it is replaced at once, so it is always a complete one.
        every: epochs between two checkpoints.
        every_batches: write within the epochs, too, after so many batches.
        keep: how many checkpoints to keep. Those before the last are called "run.1.safetensors",
            "run.2.safetensors" for a path "run.safetensors", the latest first.
        best: name of a quantity, such as "validation_loss": the run of its best epoch is kept as
            "run.best.safetensors".
        mode: "min" or "max", which of its values is the best; see `Monitor`.
    """

    last = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int = 1,
        every_batches: int | None = None,
        keep: int = 1,
        best: str | None = None,
        mode: str | None = None,
    ) -> None:
        self.path = file_path(self, path)
        self.every = count(self, "every", every)
        self.every_batches = self.interval = (
            None if every_batches is None else count(self, "every_batches", every_batches)
        )
        self.keep = count(self, "keep", keep)
        self.best, self.mode = best, mode
        self._monitor = None if best is None else Monitor(best, mode=mode)

    def begin(self, run: Run) -> None:
        """Check the quantity, and listen to signals."""
        self.state.setdefault("written", None)
        if self._monitor is not None:
            self._monitor.state = self.state.setdefault("monitor", {})
            self._monitor.begin(run)
        self._previous: dict[Any, Any] = {}
        process = os.getpid()

        def interrupt(signum: int, _: Any) -> None:
            if os.getpid() == process:
                run.interrupt()
            else:  # a forked process ends as it would have ended
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)

        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                if (signum := getattr(signal, name, None)) is not None:  # Windows has fewer
                    self._previous[signum] = signal.signal(signum, interrupt)

    def after_batches(self, run: Run) -> None:
        """Write the run."""
        self._write(run)

    def after_epoch(self, run: Run) -> None:
        """Write the run if it is due, and once more if it is the best."""
        better = self._monitor is not None and self._monitor.improved(run)
        if better:
            data, arrays = packed(run)
            if run.communicator.rank == 0:
                write_file(self._named("best"), arrays, data)
        if run.epoch % self.every == 0:
            self._write(run)

    def end(self, run: Run) -> None:
        """Write the run if the file is older; stop listening to signals."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        if not run.failed and not run.torn and self.state["written"] != [run.epoch, run.done]:
            self._write(run)

    def _write(self, run: Run) -> None:
        self.state["written"] = [run.epoch, run.done]
        data, arrays = packed(run)
        if run.communicator.rank:  # all have counted together, and one writes
            return
        for i in range(self.keep - 1, 0, -1):
            older = self._named(str(i))
            if i > 1:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self._named(str(i - 1)), older)
            elif os.path.exists(self.path):
                _copy_file(self.path, older)
        write_file(self.path, arrays, data)

    def _named(self, what: str) -> str:
        """Return run.WHAT.safetensors."""
        path = Path(self.path)
        return str(path.with_name(f"{path.stem}.{what}{path.suffix}"))


def _each_list(history: Any, convert: Callable[[Any], Any]) -> Any:
    """Return the attributes of a history, or saved ones, with each list of numbers converted."""
    if isinstance(history, History):
        history = vars(history)
    if isinstance(history, dict):
        return {name: _each_list(value, convert) for name, value in history.items()}
    return convert(history) if isinstance(history, list | np.ndarray) else history


def _copy_file(path: str, other: str) -> None:
    """Make the file known under another name, too."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(other)
    try:
        os.link(path, other)
    except OSError:  # a file system without links
        shutil.copy2(path, other)


def seed_as(file: File, path: str | os.PathLike[str]) -> None:
    """Take over the random streams of the run in a file, if they are of the seed that is set."""
    streams, here = _run_of(file, path)["streams"], randomness.state()
    with _damaged(path, KeyError, TypeError, ValueError, AttributeError):
        randomness.set_state(streams)
    if here["seeded"] and here["entropy"] != streams["entropy"]:
        theirs = f"nnx.seed({streams['entropy']})" if streams["seeded"] else "no seed"
        raise ValueError(
            f"train: expected the seed of the run in {os.fspath(path)}, {theirs}, got "
            f"nnx.seed({here['entropy']}); {REMEDY}"
        )


@contextlib.contextmanager
def _damaged(path: str | os.PathLike[str], *kinds: type[Exception]) -> Iterator[None]:
    """A block in which these errors mean that the run in a file is damaged."""
    try:
        yield
    except FileError:
        raise
    except kinds as error:
        raise FileError(
            f"expected a run in {os.fspath(path)}, got one that is damaged "
            f"({type(error).__name__}: {error}); resume an earlier checkpoint"
        ) from error


def _run_of(file: File, path: str | os.PathLike[str]) -> dict[str, Any]:
    if not isinstance(data := file.data.get("run"), dict):
        raise FileError(
            f"expected a run in {os.fspath(path)}, got a file without one; nnx.load reads the "
            "network in it, and Checkpoint writes runs"
        )
    if missing := sorted(PARTS - set(data)):
        raise FileError(
            f"expected a whole run in {os.fspath(path)}, found no {missing[0]!r} in it; resume an "
            "earlier checkpoint"
        )
    return data


def _states(run: Run, saved: list[Any]) -> list[tuple[Callback, dict[str, Any]]]:
    """Return the callbacks with their states: the first of a class gets the first, and so on."""
    found, waiting = [], list(run.callbacks)
    for name, state in saved:
        callback = next((c for c in waiting if type(c).__name__ == name), None)
        if callback is not None:
            waiting.remove(callback)
            found.append((callback, state))
        elif state:
            logging.getLogger("nnx").warning(
                "resume: the run had a callback %s, which this training does not have", name
            )
    return found
