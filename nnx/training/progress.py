"""The progress of a training: a moving bar on a terminal, a line of text for every epoch."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

__all__ = ["ProgressBar"]

REFRESH_SECONDS = 0.1


class ProgressBar:
    """One moving line for the current epoch, one lasting line for every finished epoch.

    The moving line appears on a terminal and, if ipywidgets is installed, in a notebook. In files
    and logs there are the lasting lines alone, without control characters. Bars may be nested in
    each other and in displays of rich, and several threads may have one each.

    The training loop redraws it, at most every tenth of a second; there is no second thread.

    Args:
        samples: samples of an epoch, None if that is not known.
        epochs: epochs of the training.
        enabled: show anything at all.
    """

    def __init__(self, samples: int | None, epochs: int, enabled: bool) -> None:
        self.samples, self.epochs, self.enabled = samples, epochs, enabled
        self._bar: Any = None
        self._due = 0.0

    def __enter__(self) -> ProgressBar:
        if self.enabled:
            from rich import get_console

            self._console = get_console()
            if _is_live(self._console):
                self._bar = _bar(self._console)
                self._task = self._bar.add_task("", total=self.samples, of=_of(self.samples))
                self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, epoch: int) -> None:
        """Begin an epoch."""
        self._name = f"epoch {epoch}/{self.epochs}"

    def advance(self, done: int) -> None:
        """Show how many samples of the epoch are done."""
        if self._bar is not None and (now := time.perf_counter()) >= self._due:
            self._due = now + REFRESH_SECONDS
            self._bar.update(self._task, description=self._name, completed=done, refresh=True)

    def finish(self, text: str) -> None:
        """End the epoch with a lasting line."""
        self.print(f"{self._name}  {text}")

    def print(self, text: str) -> None:
        """Print a lasting line above the bar."""
        if not self.enabled:
            return
        if self._console.is_jupyter:
            print(text)  # rich would make every line an output of its own
        else:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _is_live(console: Any) -> bool:
    """Can lines that stand there be redrawn?"""
    if not console.is_jupyter:
        # rich takes a file for a terminal if FORCE_COLOR is set, as it is in many CI systems.
        return console.is_interactive and console.file.isatty()
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return False
    return True


def _of(samples: int | None) -> str:
    return "" if samples is None else f"/{samples}"


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}{task.fields[of]}"),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,
        redirect_stdout=not console.is_jupyter,  # rich would show every print as a table of HTML
        redirect_stderr=not console.is_jupyter,
        transient=True,
    )
