"""A run as a file: what is in it, how it is resumed, and the callback that writes it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

from nnx import randomness
from nnx.checks import count
from nnx.config import plain
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
from nnx.training.history import History
from nnx.training.run import Run

__all__ = ["Checkpoint", "resume_run", "save_run", "seed_as"]

REMEDY = "train with the same, or leave out resume= to start from the beginning"
SIGNALS = ("SIGTERM", "SIGUSR1")  # what clusters send before they end a job


def save_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Write a run to a file, which `train(resume=path)` continues and `nnx.load` reads.

    The file is complete or not there: it is written beside the old one, which it then replaces.

    Raises:
        OSError: the file cannot be written; the old one is still there.
        ValueError: a parameter is NaN or infinite.
    """
    network, arrays = pack(run.net)
    streams = randomness.state()
    if run.order and run.rng is None:  # the order of this epoch is drawn again
        streams["running"].pop("batches", None)
        if run.before is not None:
            streams["running"]["batches"] = run.before
    data, more = split(
        {
            "identity": run.identity(),
            "made_of": run.made_of,
            "streams": streams,
            "rng": None if run.rng is None else _position(run),
            "epoch": run.epoch,
            "done": run.done,
            "batches": run.batches,
            "seconds": run.seconds,
            "stopped": run.ending == "stopped",
            "history": dataclasses.asdict(run.history),
            "tally": run.tally.state(),
            "pending": run.pending,
            "callbacks": [[type(c).__name__, c.state] for c in run.callbacks],
        },
        "run",
    )
    write_file(path, {**arrays, **more}, {**network, "run": data})


def resume_run(run: Run, file: File, path: str | os.PathLike[str]) -> None:
    """Continue the run of a file with the network, data and callbacks of another one.

    Nothing is changed if they do not belong together.

    Raises:
        ValueError: the network, the data, or how it is trained differ; the message names the first
            difference.
        FileError: the file holds no run, or is damaged.
    """
    data = _run_of(file, path)
    now = plain(run.net)
    found = first_difference(data["made_of"], now)
    if found and first_difference(file.data["architecture"], now):
        raise ValueError(
            f"train: expected the network of the run in {os.fspath(path)}, got another one: "
            f"{found}; {REMEDY}"
        )
    if found := first_difference(data["identity"], run.identity()):
        raise ValueError(
            f"train: expected what the run in {os.fspath(path)} was started with, got something "
            f"else: {found}; {REMEDY}"
        )
    saved = join(data, file)
    states = _states(run, saved["callbacks"])
    restore(run.net, file.data, file)
    try:
        run.history = History(**saved["history"])
        for name in ("epoch", "done", "batches", "seconds", "made_of"):
            setattr(run, name, saved[name])
        run.ending = "stopped" if saved["stopped"] else ""
        backend = run.net.backend
        run.tally.set_state(backend, saved["tally"])
        run.pending = [backend.from_numpy(outputs) for outputs in saved["pending"]]
        for callback, state in states:
            callback.state = state
        if run.rng is not None:
            run.rng.bit_generator.state = saved["rng"]
        randomness.set_state(saved["streams"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(
            f"expected a run in {os.fspath(path)}, got one that is damaged "
            f"({type(error).__name__}: {error}); resume an earlier checkpoint"
        ) from error
    run.history.interrupted = False


class Checkpoint(Callback):
    """Write the run to a file after every few epochs; `train(resume=path)` continues from there.

    A run that was stopped at any moment and is resumed by the same call ends with the same weights,
    states of optimizers and history as one that was never stopped. When a cluster asks the process
    to end (the signals SIGTERM and SIGUSR1), the run is written after the current batch, and the
    training ends as by Ctrl-C. On a library that compiles, it ends after the current loop.

    It is called after all other callbacks, and also writes the run when the training ends.

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
        """Listen to signals."""
        self.state.setdefault("written", None)
        if run.made_of is None:
            run.made_of = plain(run.net)
        if self._monitor is not None:
            self._monitor.state = self.state.setdefault("monitor", {})
            self._monitor.begin(run)
        self._previous: dict[Any, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                if (number := getattr(signal, name, None)) is not None:  # Windows has fewer
                    self._previous[number] = signal.signal(number, lambda *_: run.interrupt())

    def after_batches(self, run: Run) -> None:
        """Write the run."""
        self._write(run)

    def after_epoch(self, run: Run) -> None:
        """Write the run if it is due, and once more if it is the best."""
        better = self._monitor is not None and self._monitor.improved(run)
        if run.epoch % self.every == 0:
            self._write(run)
        if better:
            save_run(run, self._named("best"))

    def end(self, run: Run) -> None:
        """Write the run if the file is older; stop listening to signals."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if not run.failed and not run.torn and self.state["written"] != [run.epoch, run.done]:
            self._write(run)

    def _write(self, run: Run) -> None:
        for i in range(self.keep - 1, 0, -1):
            older = self._named(str(i))
            if i > 1:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self._named(str(i - 1)), older)
            elif os.path.exists(self.path):
                _copy_file(self.path, older)
        self.state["written"] = [run.epoch, run.done]
        save_run(run, self.path)

    def _named(self, what: str) -> str:
        """Return run.WHAT.safetensors."""
        path = Path(self.path)
        return str(path.with_name(f"{path.stem}.{what}{path.suffix}"))


def _position(run: Run) -> Any:
    """Return where the generator of the orders stood before this epoch, if it has begun."""
    return run.before if run.order else run.rng.bit_generator.state  # type: ignore[union-attr]


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
    if here["seeded"] and here["entropy"] != streams["entropy"]:
        theirs = f"nnx.seed({streams['entropy']})" if streams["seeded"] else "no seed"
        raise ValueError(
            f"train: expected the seed of the run in {os.fspath(path)}, {theirs}, got "
            f"nnx.seed({here['entropy']}); {REMEDY}"
        )
    randomness.set_state(streams)


def _run_of(file: File, path: str | os.PathLike[str]) -> dict[str, Any]:
    if not isinstance(data := file.data.get("run"), dict):
        raise FileError(
            f"expected a run in {os.fspath(path)}, got a file without one; nnx.load reads the "
            "network in it, and Checkpoint writes runs"
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
