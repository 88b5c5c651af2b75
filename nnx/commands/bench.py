"""`nnx bench`: what a training step costs on the backends of this machine, and where each pays.

Every workload is a network that trains, or predicts, on random data that is already on the
device. The host waits for the device before the clock starts and before it stops. The backends
share one process and take turns. examples/benchmark.py compares nnx with other libraries, each in
its own process.
"""

from __future__ import annotations

import datetime
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import nnx
from nnx.backend import Backend, BackendError, installed_backends, resolve
from nnx.commands.doctor import Environment, environment
from nnx.testing import Recorder

__all__ = ["WORKLOADS", "BenchRun", "Timing", "Workload", "bench", "timed_backends"]

SAMPLES = 10_000  # of a prediction
SETTLE = 0.15  # seconds that idle threads of a BLAS look for work before they sleep


class Workload(NamedTuple):
    """A network of dense layers of these sizes.

    Attributes:
        optimizer: None if the network predicts 10,000 samples in batches of this size.
        family, value: workloads of one family differ in one number, the value.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    optimizer: str | None
    family: str = ""
    value: int = 0

    @property
    def steps(self) -> int:
        """Steps of an epoch: about a fifth of a second, and some tens of megabytes of data."""
        work = 6 * self.batch * sum(ni * no for ni, no in pairwise(self.sizes))
        return max(4, min(200, 10_000_000_000 // work, 20_000 // self.batch))

    def __str__(self) -> str:
        does = self.optimizer or "predicts 10,000"
        return f"{self.name} {'-'.join(map(str, self.sizes))}, batch {self.batch}, {does}".strip()


WORKLOADS = [
    Workload("A", (784, 100, 10), 10, "SGD"),
    Workload("B", (784, 100, 10), 10, "Adam"),
    Workload("C", (784, 512, 512, 10), 128, "SGD"),
    Workload("D", (784, 512, 512, 10), 128, "Adam"),
    Workload("E", (784, 100, 10), 1024, None),
    *(Workload("", (784, 100, 10), n, "SGD", "batch", n) for n in (10, 100, 1000, 5000)),
    *(Workload("", (784, n, n, 10), 128, "SGD", "width", n) for n in (32, 128, 512, 2048)),
]


@dataclass
class Timing:
    """The seconds of one step of a workload, or of one prediction: backend -> rounds.

    Attributes:
        operations: the number of array operations of a step, None if nothing can count them.
        first: backend -> the seconds of the first step, in which libraries load and compile.
    """

    workload: Workload
    seconds: dict[str, list[float]] = field(default_factory=dict)
    operations: int | None = None
    first: dict[str, float] = field(default_factory=dict)

    def median(self, backend: str) -> float:
        """Return the median over the rounds."""
        return statistics.median(self.seconds[backend])


@dataclass
class BenchRun:
    """What `nnx bench` found.

    Attributes:
        backends: what was timed, NumPy first if it is among them.
        quick: whether it was the short form.
        timings: one for each workload.
        environment: of this machine.
    """

    backends: list[str]
    quick: bool
    timings: list[Timing]
    environment: Environment

    def crossings(self) -> list[str]:
        """Return for each backend and family from which size on it is faster than NumPy."""
        lines = []
        for backend in self.backends:
            for family in dict.fromkeys(t.workload.family for t in self.timings):
                of = [t for t in self.timings if t.workload.family == family and family]
                if backend != "numpy" and "numpy" in self.backends and of:
                    lines.append(f"{backend}: {_crossing(backend, family, of)}")
        return lines

    def first_steps(self) -> list[str]:
        """Return for each backend how long its first steps took."""
        lines = []
        for backend in self.backends:
            first = [timing.first[backend] for timing in self.timings]
            lines.append(
                f"{backend}: the first step took {first[0]:.2f} s, those of the other networks up "
                f"to {max(first[1:], default=0.0):.2f} s"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return {
            "nnx": nnx.__version__,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "backends": self.backends,
            "quick": self.quick,
            "crossings": self.crossings(),
            "first_steps": self.first_steps(),
            "environment": self.environment.to_dict(),
            "workloads": [
                {
                    "workload": str(timing.workload),
                    **timing.workload._asdict(),
                    "operations": timing.operations,
                    "first": timing.first,
                    "seconds": timing.seconds,
                }
                for timing in self.timings
            ],
        }


def timed_backends(names: Sequence[str] | None = None) -> list[str]:
    """Return these backends, NumPy first; without names, all usable ones that are for computing.

    Those for tests, with simulated devices, are timed only if they are named.

    Raises:
        BackendError: one that is named cannot be used, or nothing is usable.
    """
    usable = []
    for name, kind in installed_backends().items():
        if names is None and not kind.test_specs:
            try:
                usable.append(resolve(name, "float32").spec)
            except BackendError:  # `nnx doctor` says why
                continue
    chosen = usable if names is None else [resolve(name, "float32").spec for name in names]
    if not chosen:
        raise BackendError("no backend is usable", "run `nnx doctor` for the reasons")
    return sorted(dict.fromkeys(chosen), key=lambda spec: spec != "numpy")


def bench(
    backends: Sequence[str] | None = None,
    quick: bool = False,
    tell: Callable[[int, int, str], Any] = lambda done, of, name: None,
    workloads: Sequence[Workload] | None = None,
    steps: int | None = None,
) -> BenchRun:
    """Time every workload on the backends; this calls `nnx.seed(0)`.

    Args:
        backends: their names; if not given, all that are usable except those for tests.
        quick: 3 rounds instead of 7, fewer steps, and no layer wider than 512.
        tell: called before each workload with the number of workloads done, that of all, and its
            name.
        workloads: what to time, instead of `WORKLOADS`.
        steps: of a round, instead of what suits each workload.

    Raises:
        BackendError: a backend that is named cannot be used.
    """
    chosen = timed_backends(backends)
    if workloads is None:
        workloads = [w for w in WORKLOADS if not (quick and max(w.sizes) > 784)]
    timings = []
    for done, workload in enumerate(workloads):
        tell(done, len(workloads), str(workload))
        timing = Timing(workload, {spec: [] for spec in chosen}, operations(workload))
        several = steps or (max(4, workload.steps // 5) if quick else workload.steps)
        runs = {}
        for spec in chosen:
            runs[spec], timing.first[spec] = _prepare(workload, resolve(spec, "float32"), several)
        for number in range(3 if quick else 7):
            for spec in chosen[:: -1 if number % 2 else 1]:
                time.sleep(SETTLE)
                timing.seconds[spec].append(runs[spec]())
        timings.append(timing)
    return BenchRun(chosen, quick, timings, environment())


def operations(workload: Workload) -> int | None:
    """Return the number of array operations of a step or prediction, None if nothing counts them.

    It is the difference of two epochs, so that the operations of an epoch besides its steps do not
    count.
    """
    for name, kind in installed_backends().items():
        try:
            backend = resolve(name, "float32")
        except BackendError:
            continue
        if kind.test_specs and backend.count_operations(lambda name: None) is not None:
            small = workload._replace(sizes=(4, *(3 for _ in workload.sizes[1:])), batch=2)
            if workload.optimizer is None:
                small = small._replace(batch=workload.batch)
                return _count(small, backend, 1)
            return (_count(small, backend, 20) - _count(small, backend, 10)) // 10
    return None


def _count(workload: Workload, backend: Backend, steps: int) -> int:
    run, _ = _prepare(workload, backend, steps)
    with nnx.use_backend(backend), Recorder() as recorder:
        run()
    return recorder.total


def _prepare(workload: Workload, backend: Backend, steps: int) -> tuple[Callable[[], float], float]:
    """Return a warm function that times this many steps, or a prediction: the seconds of one.

    Also return the seconds of the first.
    """
    nnx.seed(0)
    with nnx.use_backend(backend):
        *hidden, (ni, no) = pairwise(workload.sizes)
        layers: list[nnx.Layer] = [nnx.DenseLayer(m, n, nnx.ReLU()) for m, n in hidden]
        layers.append(nnx.DenseLayer(ni, no, nnx.SoftMax()))
        optim = nnx.Adam() if workload.optimizer == "Adam" else nnx.SGD(0.01)
        net = nnx.SequentialNet(workload.sizes[0], layers, nnx.CrossEntropy(), optim)
        samples = SAMPLES if workload.optimizer is None else steps * workload.batch
        rng = nnx.randomness.generator("batches")
        # As in MNIST, four numbers of five are 0, so that units do not die.
        x = 5 * rng.random((samples, workload.sizes[0]), dtype="float32") - 4
        x = backend.asarray(x * (x > 0))
        y = backend.asarray(rng.integers(0, no, samples))

    def run(steps: int = steps) -> float:
        backend.synchronize()
        start = time.perf_counter()
        if workload.optimizer is None:
            last, count = net.predict(x, workload.batch)[-1, ...], 1
        else:
            some = slice(steps * workload.batch)
            net.train(x[some, ...], y[some], workload.batch, progress=False)
            last, count = net.layers[-1].parameters["b"], steps
        backend.evaluate([last])
        backend.synchronize()
        backend.to_numpy(last)  # a library may compute only what is read
        return (time.perf_counter() - start) / count

    first = run(1)
    run()
    return run, first


def _crossing(backend: str, family: str, timings: Sequence[Timing]) -> str:
    """Return from which value on a backend is faster than NumPy at all larger values."""
    first = math.inf
    for timing in reversed(timings):
        if timing.median(backend) >= timing.median("numpy"):
            break
        first = timing.workload.value
    last = timings[-1].workload
    sizes = "-".join(str(n) if family == "batch" or n in (784, 10) else "w" for n in last.sizes)
    where = f"({sizes}, SGD" + ("" if family == "batch" else f", batch {last.batch}") + ")"
    if first == math.inf:
        return f"not faster than NumPy up to {family} {last.value} {where}"
    return f"faster than NumPy from {family} {first} on {where}"
