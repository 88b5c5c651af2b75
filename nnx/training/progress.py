"""The progress bar of a training."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

__all__ = ["ProgressBar"]

REFRESH_SECONDS = 0.1


class ProgressBar:
    """One moving line for the epoch at work, one lasting line for every finished epoch.

    It is redrawn from the training loop itself, at most every tenth of a second: no second
    thread takes time from it.
    """

    def __init__(self, samples: int, epochs: int, enabled: bool) -> None:
        self.samples, self.epochs, self.enabled = samples, epochs, enabled
        self._due = 0.0

    def __enter__(self) -> ProgressBar:
        if self.enabled:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress: Any = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                auto_refresh=False,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=self.samples)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.enabled:
            self._progress.stop()

    def start(self, epoch: int) -> None:
        """This epoch begins."""
        self._name = f"epoch {epoch}/{self.epochs}"

    def advance(self, done: int) -> None:
        """So many samples of the epoch are done."""
        if self.enabled and (now := time.perf_counter()) >= self._due:
            self._due = now + REFRESH_SECONDS
            self._progress.update(self._task, description=self._name, completed=done, refresh=True)

    def finish(self, text: str) -> None:
        """The epoch is done; its line stays."""
        self.print(f"{self._name}  {text}")

    def print(self, text: str) -> None:
        """A lasting line above the bar."""
        if self.enabled:
            self._progress.console.print(text, highlight=False, soft_wrap=True)
