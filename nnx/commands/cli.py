"""The command line of `nnx`: what is asked for, printed and written."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import nnx
from nnx.backend import BackendError, Memory, available_backends
from nnx.commands import shell
from nnx.commands.parser import Parser

if TYPE_CHECKING:
    from nnx.commands.bench import BenchRun
    from nnx.commands.check import CheckRun
    from nnx.commands.doctor import Environment

__all__ = ["EXIT_STATUS", "main"]

T = TypeVar("T")

EXIT_STATUS = """exit status:
  backends  0 if a backend is usable, else 1
  doctor    0 if nnx, and every backend whose library is installed, works; else 1. Missing
            optional libraries and advice do not change it
  check     0 if all backends agree with NumPy; 1 if one differs, cannot be used, or could not be
            checked; with --report, also if another part of the report has failed
  bench     0 if all backends were timed; 1 if one cannot be used
  train     0 if the training has come to its end; 1 if a number has become infinite or NaN; 130
            after Ctrl-C
  evaluate  0 if the score is printed
  predict   0 if the outputs are written
  show      0 if the file can be read
  run       that of the program; not 0 if one of the processes has failed
  any       2 if the command line, a file or the data is wrong"""
if shell.can_export():
    EXIT_STATUS += "\n  export    0 if the ONNX file is written"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; `EXIT_STATUS` says what it means."""
    parser = Parser(
        prog="nnx",
        description="Neural networks on any array library",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnx {nnx.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    add = lambda name, text: commands.add_parser(name, help=text, description=text)
    add("backends", "list the backends: which work here, and why the others do not")
    add("doctor", "show what this machine has, what is wrong with it, and how to fix it")
    check = add("check", "compare everything nnx computes on the backends with NumPy")
    bench = add("bench", "time a training step on the backends, and find the size that pays")
    for command, quick in (
        (check, "only float32, and a shorter training"),
        (bench, "fewer rounds and steps, and no very wide layer"),
    ):
        command.add_argument(
            "--backends",
            metavar="NAME,NAME",
            type=lambda text: text.replace(",", " ").split(),
            help="these, for example numpy,cupy:1; all that are usable if not given",
        )
        command.add_argument(
            "--json", metavar="FILE", type=Path, help="write the results to this file"
        )
        command.add_argument("--quick", action="store_true", help=quick)
        command.add_argument(
            "--processes",
            metavar="N",
            type=_processes,
            help="start so many, which train together by MPI, and do this with them alone",
        )
    check.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="run doctor, check, bench and tests of memory and waits; write report.md, to paste "
        "into a bug report, and report.json to this folder",
    )
    shell.add_commands(commands)
    started = add("run", "run a program on several processes, that train one network by MPI")
    started.add_argument(
        "-n", type=_processes, required=True, dest="count", metavar="N", help="how many processes"
    )
    started.add_argument("program", metavar="FILE", help="a Python program")
    passed = started.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="what is passed to it"
    )
    passed.required = False
    chosen, left = parser.parse_known_args(arguments)
    if chosen.command is None:
        parser.refuse(left[0] if left else "", list(commands.choices))
    if left:
        commands.choices[chosen.command].error(f"unrecognized arguments: {' '.join(left)}")
    if chosen.command == "run":
        from nnx.commands.run import run

        return run(chosen.count, chosen.program, chosen.arguments)
    if chosen.command in shell.COMMANDS:
        return shell.run(chosen)
    if chosen.command in ("check", "bench") and chosen.processes:
        from nnx.commands import processes

        does = getattr(processes, f"{chosen.command}_processes")
        return does(chosen.processes, chosen.backends, chosen.quick, chosen.json)
    if chosen.command == "bench":
        return run_bench(chosen.backends, chosen.quick, chosen.json)
    if chosen.command == "check" and chosen.report:
        return run_report(chosen.backends, chosen.quick, chosen.report)
    if chosen.command == "check":
        return run_check(chosen.backends, chosen.quick, chosen.json)
    return run_doctor() if chosen.command == "doctor" else show_backends()


def show_backends() -> int:
    """Print one row for each installed backend; return 0 if one of them is usable."""
    from rich.console import Console
    from rich.table import Table

    statuses = list(available_backends().values())
    table = Table("backend", "usable", "version", "device", "memory free of total")
    for status in statuses:
        answer = "yes" if status.usable else "no"
        table.add_row(status.name, answer, status.version, status.device, _gibibytes(status.memory))
    console = Console()
    console.print(table)
    for status in statuses:
        if not status.usable:
            console.print(str(status), markup=False, highlight=False, soft_wrap=True)
    if not statuses:
        print("no backends are installed; in nnx's folder: pip install -e .", file=sys.stderr)
    return 0 if any(status.usable for status in statuses) else 1


def run_doctor() -> int:
    """Print what this machine has and what to fix; return 1 if something does not work."""
    from nnx.commands.doctor import environment

    found = environment()
    show_environment(found)
    return 1 if found.problems else 0


def run_bench(backends: Sequence[str] | None, quick: bool, file: Path | None) -> int:
    """Time the backends, show and write the times; return 0 if all of them could be timed."""
    from nnx.commands.bench import bench

    run = _with_bar(bench, backends, quick)
    if run is None:
        return 1
    show_bench(run)
    _write(file, run.to_dict())
    return 0


def show_bench(run: BenchRun) -> None:
    """Print a row for each workload, a column for each backend, where each pays, and advice."""
    from rich.console import Console
    from rich.table import Table

    table = Table("network", title="microseconds of a step (of a prediction), median")
    for backend in run.backends:
        table.add_column(backend, justify="right")
    table.add_column("operations", justify="right")
    for timing in run.timings:
        cells = [f"{1e6 * timing.median(backend):.0f}" for backend in run.backends]
        counted = "" if timing.operations is None else str(timing.operations)
        table.add_row(str(timing.workload), *cells, counted)
    console = Console()
    console.print(table)
    lines = run.crossings() + run.first_steps()
    for backend in run.backends:
        facts = run.environment.facts[f"backend {backend.partition(':')[0]}"]
        lines.append(f"{backend}: {', '.join(f'{name} {fact}' for name, fact in facts.items())}")
    lines += [f"advice: {advice.reason}: {advice.remedy}" for advice in run.environment.advice]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def run_check(backends: Sequence[str] | None, quick: bool, file: Path | None) -> int:
    """Check the backends, show and write the results; return 0 if all agree."""
    from nnx.commands.check import check

    run = _with_bar(check, backends, quick)
    if run is None:
        return 1
    show_check(run)
    _write(file, run.to_dict())
    return 0 if run.passed else 1


def run_report(backends: Sequence[str] | None, quick: bool, folder: Path) -> int:
    """Run all that a bug report needs, and write it; return 0 if every part went well."""
    from nnx.commands.report import report

    found = _with_bar(report, backends, quick)
    if found is None:
        return 1
    for name, good in found.passed.items():
        print(f"{name}: {'passed' if good else 'FAILED'}")
    for file in found.write(folder):
        print(f"written to {file}")
    return 0 if all(found.passed.values()) else 1


def show_check(run: CheckRun) -> None:
    """Print a row for each item, a column for each backend, failures, environment, verdict."""
    from rich.console import Console
    from rich.table import Table

    table = Table("item", *run.backends, title="largest error, in units of the tolerance")
    for report in run.reports:
        failed = {result.backend for result in report.failures}
        cells = []
        for backend in run.backends:
            worst = report.worst(backend)
            cell = "-" if math.isnan(worst) else f"{worst:.2f}"
            cells.append(f"[red]FAIL {worst:.3g}[/]" if backend in failed else cell)
        table.add_row(report.item, *cells)
    console = Console()
    console.print(table)
    for report in run.reports:
        for result in report.failures:
            console.print(str(result), markup=False, highlight=False, soft_wrap=True)
    for note in dict.fromkeys(note for report in run.reports for note in report.notes):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    show_environment(run.environment)
    form = "quick check" if run.quick else "check"
    console.print(
        f"{form}, {run.seconds:.0f} s: {run.verdict}",
        style="green" if run.passed else "red",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def show_environment(found: Environment) -> None:
    """Print facts under their headings, then each problem with its remedy."""
    from rich.console import Console

    console = Console()

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    for heading, facts in found.facts.items():
        line(heading, "bold")
        for name, value in facts.items():
            line(f"  {name}: {value}")
    for problem in found.problems:
        line(f"problem: {problem.reason}\n  {problem.remedy}", "red")
    for problem in found.advice:
        line(f"advice: {problem.reason}\n  {problem.remedy}")


def _processes(text: str) -> int:
    """Return a number of processes."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of processes from 1 on, got {text!r}")
    return int(text)


def _with_bar(work: Callable[..., T], backends: Sequence[str] | None, quick: bool) -> T | None:
    """Return what the work gives, with a bar meanwhile; None if a backend cannot be used."""
    from rich.progress import Progress

    try:
        with Progress(transient=True) as bar:
            task = bar.add_task("")
            return work(
                backends,
                quick,
                lambda done, of, name: bar.update(task, completed=done, total=of, description=name),
            )
    except BackendError as error:
        print(error, file=sys.stderr)
        return None


def _write(file: Path | None, report: dict[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
        print(f"written to {file}")


def _gibibytes(memory: Memory | None) -> str:
    if memory is None:
        return ""
    return f"{memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB"


if __name__ == "__main__":
    sys.exit(main())
