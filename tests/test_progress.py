"""The progress of a training on a terminal, in a file, inside other displays, and in threads."""

import io
import threading

import pytest
import rich
from rich.console import Console
from rich.progress import Progress, track

from nnx.training import progress
from nnx.training.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def console(monkeypatch):
    """What rich writes to, as a terminal."""
    console = Console(file=Terminal(), force_terminal=True, width=100)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    return console


def epochs_of(bar, epochs=3):
    with bar:
        for epoch in range(1, epochs + 1):
            bar.start(epoch)
            bar.advance(5)
            bar.advance(10)
            bar.finish(f"[loss] {epoch / 10}")


def lines(text):
    return [line for line in text.splitlines() if line.startswith("epoch")]


def test_a_terminal_shows_a_moving_bar_and_lasting_lines(console):
    epochs_of(ProgressBar(10, 3, True))
    text = console.file.getvalue()
    assert "\x1b[?25l" in text  # the cursor is hidden, and then shown again
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "5/10" in text
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3  [loss] 0.{epoch}\n" in text


def test_a_file_gets_one_line_for_every_epoch_and_no_control_characters(console):
    # FORCE_COLOR has this effect, and CI systems set it
    console.file = io.StringIO()
    epochs_of(ProgressBar(10, 3, True))
    expected = "".join(f"epoch {epoch}/3  [loss] 0.{epoch}\n" for epoch in (1, 2, 3))
    assert console.file.getvalue() == expected


def test_nothing_is_shown_if_it_is_not_enabled(console, capsys):
    epochs_of(ProgressBar(10, 3, False))
    assert console.file.getvalue() == ""
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("outer", ["track", "Progress", "Live", "status", "ProgressBar"])
def test_a_bar_inside_another_display(outer, console):
    inner = ProgressBar(10, 3, True)
    if outer == "track":
        for _ in track(range(1), console=console):
            epochs_of(inner)
    elif outer == "ProgressBar":
        with ProgressBar(10, 1, True) as bar:
            bar.start(1)
            bar.advance(5)
            epochs_of(inner)
            bar.advance(10)
    else:
        from rich.live import Live

        displays = {
            "Progress": lambda: Progress(console=console),
            "Live": lambda: Live("around", console=console),
            "status": lambda: console.status("around"),
        }
        with displays[outer]():
            epochs_of(inner)
    text = console.file.getvalue()
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3  [loss] 0.{epoch}\n" in text
    assert console._live_stack == []


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_bars_in_two_threads_end_in_any_order(first_to_end, console):
    both_started, one_ended = threading.Barrier(2), threading.Event()
    errors = []

    def work(i):
        try:
            with ProgressBar(10, 3, True) as bar:
                both_started.wait(10)
                for epoch in (1, 2, 3):
                    bar.start(epoch)
                    bar.advance(5)
                    bar.finish(f"thread {i}")
                if i != first_to_end:
                    one_ended.wait(10)
                    bar.advance(10)
                    bar.finish(f"thread {i} last")
        except BaseException as error:
            errors.append(error)
        one_ended.set()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    text = console.file.getvalue()
    for i in range(2):
        for epoch in (1, 2, 3):
            assert f"epoch {epoch}/3  thread {i}" in text
    assert f"thread {1 - first_to_end} last" in text
    assert console._live_stack == []
    epochs_of(ProgressBar(10, 1, True), 1)  # the console is as good as new


def test_an_error_takes_the_bar_down(console):
    def fail():
        with ProgressBar(10, 3, True) as bar:
            bar.start(1)
            bar.advance(5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert console.file.getvalue().rindex("\x1b[?25h") > 0
    assert console._live_stack == []
