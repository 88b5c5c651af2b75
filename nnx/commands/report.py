"""`nnx check --report DIR`: all that a bug report on a machine needs, in one folder.

It runs what `nnx doctor`, `nnx check` and `nnx bench` run, measures the memory of a training, and
watches steps for reads of the device, on every backend that works. A part that fails is in the
report with its traceback, and does not keep the others from running. `report.json` has everything,
`report.md` is the page to paste.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import nnx
from nnx.backend import resolve
from nnx.commands.bench import WORKLOADS, bench, timed_backends
from nnx.commands.check import check
from nnx.commands.doctor import environment
from nnx.testing import assert_no_host_sync

__all__ = ["PARTS", "Report", "report"]

QUICK_STEPS, QUICK_WIDTH = 4, 128  # of the short form of the benchmark
PAGE = ("numpy", "cupy", "nvidia", "cuda", "torch", "jax", "array-api", "ml-dtypes", "scipy")
Tell = Callable[[int, int, str], Any]


@dataclass
class Report:
    """What is known of a machine and of nnx on it.

    Attributes:
        machine: name -> value: what tells two machines apart.
        packages: every installed distribution -> its version.
        parts: name -> what was found, plain values; one that has failed has an "error".
        passed: name -> whether it went well.
        quick: whether it was the short form.
        seconds: how long it took.
    """

    machine: dict[str, str]
    packages: dict[str, str]
    quick: bool
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    passed: dict[str, bool] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return {
            "nnx": nnx.__version__,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "quick": self.quick,
            "seconds": round(self.seconds, 1),
            "passed": self.passed,
            "machine": self.machine,
            "packages": self.packages,
            **self.parts,
        }

    def to_markdown(self) -> str:
        """Return the page: verdicts, the machine, then each part."""
        return "\n".join(_page(self)) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write report.json and report.md; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        files = [folder / "report.json", folder / "report.md"]
        for file, content in zip(files, (text, self.to_markdown()), strict=True):
            file.write_text(content, encoding="utf-8")
        return files


def report(
    backends: Sequence[str] | None = None,
    quick: bool = False,
    tell: Tell = lambda done, of, name: None,
) -> Report:
    """Run every part on these backends; this calls `nnx.seed(0)`.

    Args:
        backends: their names; all that are usable if not given.
        quick: the quick check, and a few steps of few networks in the benchmark.
        tell: called with the number of things done, that of all, and the name of the next.

    Raises:
        BackendError: a backend that is named cannot be used.
    """
    for spec in backends or ():
        resolve(spec, "float32")
    start = time.perf_counter()
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    found = Report(_machine(), dict(sorted(packages.items(), key=lambda p: p[0].lower())), quick)
    for name, part in PARTS.items():
        tell(0, 1, name)
        try:
            found.passed[name], found.parts[name] = part(backends, quick, tell)
        except Exception:  # the report is for the day on which something fails
            found.passed[name], found.parts[name] = False, {"error": traceback.format_exc()}
    found.seconds = time.perf_counter() - start
    return found


Part = tuple[bool, dict[str, Any]]


def _doctor(backends: Sequence[str] | None, quick: bool, tell: Tell) -> Part:
    found = environment(backends)
    return not found.problems, found.to_dict()


def _check(backends: Sequence[str] | None, quick: bool, tell: Tell) -> Part:
    run = check(backends, quick, tell)
    failures = [str(result) for report in run.reports for result in report.failures]
    return run.passed, {**run.to_dict(), "failures": failures, "environment": None}


def _bench(backends: Sequence[str] | None, quick: bool, tell: Tell) -> Part:
    chosen = timed_backends(None if backends is None else ["numpy", *backends])
    if quick:
        few = [w for w in WORKLOADS if w.optimizer and max(w.sizes[1:]) <= QUICK_WIDTH]
        few = [w for w in few if w.family != "batch"]
        run = bench(chosen, quick, tell, few, QUICK_STEPS)
    else:
        run = bench(chosen, quick, tell)
    return True, {**run.to_dict(), "environment": None}


def _memory(backends: Sequence[str] | None, quick: bool, tell: Tell) -> Part:
    """Compare the peak of a training with what it should be, and that of more epochs with it."""
    found = {spec: _peaks(spec, quick) for spec in timed_backends(backends)}
    return all(row.get("passed", True) for row in found.values()), {"backends": found}


def _peaks(spec: str, quick: bool) -> dict[str, Any]:
    sizes, batch, steps = (784, 512, 512, 10), 128, 4 if quick else 20
    nnx.seed(0)
    with nnx.use_backend(spec) as backend:
        measure = backend.peak_memory()
        if measure is None:
            return {"not measured": "its library does not tell"}
        layers = [nnx.DenseLayer(m, n, nnx.ReLU()) for m, n in pairwise(sizes[:-1])]
        layers.append(nnx.DenseLayer(sizes[-2], 10, nnx.SoftMax()))
        net = nnx.SequentialNet(784, layers, nnx.CrossEntropy(), nnx.Adam())
        rng, samples = nnx.randomness.generator("batches"), batch * steps
        x = backend.asarray(rng.random((samples, 784), dtype="float32"))
        y = backend.asarray(rng.integers(0, 10, samples))
        numbers = sum(math.prod(p.shape) for p in net.parameters.values())
        # Gradients, m and v, and while arrays get their places, copies of two of them; what a step
        # keeps of its batch, for the backward; the labels as rows.
        expected = 4 * (5 * numbers + 4 * batch * sum(sizes) + 10 * samples)
        with measure as peak:
            net.train(x, y, batch, 2, progress=False)
            first = peak()
        with backend.peak_memory() as peak:  # type: ignore[union-attr]
            net.train(x, y, batch, 1, progress=False)
            one = peak()
        with backend.peak_memory() as peak:  # type: ignore[union-attr]
            net.train(x, y, batch, 5, progress=False)
            five = peak()
    passed = first <= expected and five <= 1.02 * one
    row = {"peak": first, "expected": expected, "of one epoch": one, "of five": five}
    return {**row, "passed": passed}


def _waits(backends: Sequence[str] | None, quick: bool, tell: Tell) -> Part:
    """Watch steps of networks of several kinds for reads of the device."""
    rng = nnx.randomness.generator("batches")
    dense = [nnx.DenseLayer(12, 8, nnx.ReLU(), nnx.Adam()), nnx.BatchNormLayer(8)]
    ends = [nnx.DenseLayer(8, 4, nnx.SoftMax())]
    conv = [nnx.Conv2DLayer(1, 2, 3, nnx.ReLU()), nnx.MaxPool2DLayer(), nnx.FlattenLayer()]
    kinds: dict[str, tuple[Any, list[nnx.Layer]]] = {
        "dense": ((12,), [*dense, *ends]),
        "convolution": ((1, 6, 6), [*conv, nnx.DenseLayer(8, 4, nnx.SoftMax())]),
        "recurrent": ((5, 3), [nnx.LSTMLayer(3, 8), nnx.DenseLayer(8, 4, nnx.SoftMax())]),
    }
    rows: dict[str, Any] = {}
    for name, (shape, layers) in kinds.items():
        net = nnx.SequentialNet(shape, layers, nnx.CrossEntropy())
        x, y = rng.standard_normal((6, *shape)), rng.integers(0, 4, 6)
        try:
            seen = assert_no_host_sync(lambda net, x, y: net.step(x, y), net, x, y)
            rows[name] = {"no read on": seen.watched, "not watched on": seen.not_run}
        except AssertionError as error:
            rows[name] = {"read": str(error)}
    return not any("read" in row for row in rows.values()), {"steps": rows}


# What a report consists of: its name, and what runs it.
PARTS: dict[str, Callable[[Sequence[str] | None, bool, Tell], Part]] = {
    "doctor": _doctor,
    "check": _check,
    "bench": _bench,
    "memory": _memory,
    "waits": _waits,
}


def _machine() -> dict[str, str]:
    """Return what tells two machines apart besides their backends."""
    libc = " ".join(platform.libc_ver()).strip()
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        usable = os.cpu_count() or 1
    return {
        "OS": platform.platform(),
        "C library": libc or "not known",
        "CPU": _processor(),
        "cores": f"{os.cpu_count()}, {usable} for this process",
        "Python": f"{platform.python_implementation()} {platform.python_version()} "
        f"({platform.python_compiler()})",
        "nnx": nnx.__version__,
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(n.partition(":")[2].strip() for n in lines if n.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a processor that is described otherwise
        return platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit of the clone from which nnx runs, and whether files differ from it."""
    folder = Path(nnx.__file__).parents[1]
    if not (folder / ".git").exists():
        return "not a clone"
    try:
        said = [
            subprocess.run(
                ["git", "-C", str(folder), *command],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        ]
    except (OSError, subprocess.SubprocessError) as error:
        return f"not known: {type(error).__name__}"
    return said[0] + (", with changes" if said[1] else "")


def _page(found: Report) -> Iterator[str]:
    form = "quick report" if found.quick else "report"
    yield f"# nnx {form}"
    yield f"\n{found.seconds:.0f} s"
    yield from _table(
        ("part", "result"),
        [(name, "passed" if good else "**FAILED**") for name, good in found.passed.items()],
    )
    yield "\n## Machine"
    yield from _table(("", ""), found.machine.items())
    kept = [(n, v) for n, v in found.packages.items() if n.lower().startswith(PAGE)]
    yield "\n## Packages"
    yield from _table(("package", "version"), kept)
    for name, part in found.parts.items():
        yield f"\n## {name.capitalize()}"
        if "error" in part:
            yield f"\n```\n{part['error'].strip()}\n```"
        else:
            yield from _SECTIONS[name](part)


def _doctor_page(part: dict[str, Any]) -> Iterator[str]:
    for heading, facts in part["facts"].items():
        yield f"\n### {heading}"
        yield from _table(("", ""), facts.items())
    for kind in ("problems", "advice"):
        for problem in part[kind]:
            yield f"\n* {kind}: {problem['reason']}: {problem['remedy']}"


def _check_page(part: dict[str, Any]) -> Iterator[str]:
    yield f"\n{part['verdict']}"
    for failure in part["failures"]:
        yield f"\n```\n{failure}\n```"


def _bench_page(part: dict[str, Any]) -> Iterator[str]:
    yield "\nMicroseconds of a step (of a prediction), median, and of the first step."
    rows = []
    for workload in part["workloads"]:
        row = [workload["workload"]]
        for backend in part["backends"]:
            times = sorted(workload["seconds"][backend])
            median, first = times[len(times) // 2], workload["first"][backend]
            row.append(f"{1e6 * median:.0f} (first {1e6 * first:.0f})")
        rows.append(row)
    yield from _table(("network", *part["backends"]), rows)
    for line in (*part["crossings"], *part["first_steps"]):
        yield f"\n* {line}"


def _memory_page(part: dict[str, Any]) -> Iterator[str]:
    yield "\nBytes that a training of 784-512-512-10 took at most, beside its data."
    names = ("peak", "expected", "of one epoch", "of five")
    rows = []
    for backend, row in part["backends"].items():
        if "not measured" in row:
            rows.append((backend, f"not measured: {row['not measured']}", "", "", ""))
        else:
            rows.append((backend, *(f"{row[name]:,}" for name in names)))
    yield from _table(("backend", "peak", "expected at most", "of one epoch", "of five"), rows)


def _waits_page(part: dict[str, Any]) -> Iterator[str]:
    for kind, row in part["steps"].items():
        if "read" in row:
            yield f"\n* {kind}:\n\n```\n{row['read']}\n```"
            continue
        yield f"\n* {kind}: no read of the device seen on {', '.join(row['no read on'])}"
        for spec, why in row["not watched on"].items():
            yield f"    * not watched on {spec}: {why}"


_SECTIONS = {
    "doctor": _doctor_page,
    "check": _check_page,
    "bench": _bench_page,
    "memory": _memory_page,
    "waits": _waits_page,
}


def _table(heads: Sequence[str], rows: Any) -> Iterator[str]:
    def line(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"

    yield f"\n{line(heads)}"
    yield line(["---"] * len(heads))
    yield from map(line, rows)
