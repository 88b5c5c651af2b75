"""Callbacks that tell others: files, the module `logging`, TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
import os
from typing import Any

from nnx.checks import count
from nnx.saving.files import replaced
from nnx.training.callbacks import Callback, file_path

__all__ = ["CSVLogger", "EpochLogger", "TensorBoard"]


class CSVLogger(Callback):
    """Write the history to a CSV file after every epoch: one row per epoch, one column per name.

    The file is written as a whole, and replaced at once: whoever reads it finds complete rows, and
    after a resume each epoch is there once.

    Args:
        path: of the file.
    """

    everywhere = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = file_path(self, path)

    def after_epoch(self, run: Any) -> None:
        """Write the file."""
        history, text = run.history, io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *history.keys()])
        columns = [history[name] for name in history]
        rows = zip(*columns, strict=True)
        writer.writerows([i, *row] for i, row in enumerate(rows, start=1))
        with replaced(self.path) as file:
            file.write(text.getvalue().encode())


class EpochLogger(Callback):
    """Log one line per epoch with the module `logging`.

    Args:
        name: of the logger.
        level: of the messages.
    """

    everywhere = False

    def __init__(self, name: str = "nnx.training", level: int = logging.INFO) -> None:
        if not isinstance(name, str):
            raise TypeError(
                f'EpochLogger: expected name to be text, got {name!r}; write "nnx.training"'
            )
        self.name = name
        self.level = count(self, "level", level, least=0)

    def after_epoch(self, run: Any) -> None:
        """Log the epoch."""
        text = f"epoch {run.epoch}/{run.epochs}  {run.history.last().strip()}"
        logging.getLogger(self.name).log(self.level, "%s", text)


class TensorBoard(Callback):
    """Give the numbers of every epoch to a writer of TensorBoard.

    Args:
        writer: an object with add_scalar(tag, value, step), such as
            torch.utils.tensorboard.SummaryWriter or tensorboardX.SummaryWriter. It is not closed.
    """

    everywhere = False

    def __init__(self, writer: Any) -> None:
        if not callable(getattr(writer, "add_scalar", None)):
            raise TypeError(
                "TensorBoard: expected a writer with add_scalar(tag, value, step), got "
                f"{writer!r}; write TensorBoard(tensorboardX.SummaryWriter())"
            )
        self.writer = writer

    def after_epoch(self, run: Any) -> None:
        """Write the epoch: the tags are those of the history, as "loss/validation"."""
        for name in run.history:
            of_validation = name.removeprefix("validation_")
            tag = f"{name}/training" if of_validation == name else f"{of_validation}/validation"
            self.writer.add_scalar(tag, run.history[name][-1], run.epoch)

    def end(self, run: Any) -> None:
        """Write what the writer has buffered."""
        if callable(flush := getattr(self.writer, "flush", None)):
            flush()
