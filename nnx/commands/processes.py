"""`nnx check --processes` and `nnx bench --processes`: several processes of this machine by MPI.

Both start this module on so many processes. For the check, each trains some networks together with
the others, and once more alone: the weights must agree. For the bench, each times steps of one
network that all train together, and how long it waits for sums.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import nnx
from nnx.backend import resolve
from nnx.commands.run import LaunchError, launch
from nnx.communication import Communicator, SingleProcess
from nnx.training.exchange import Exchange
from nnx.training.plan import Plan

__all__ = ["bench_processes", "check_processes", "model"]

# How far weights may be apart, as a part of the largest: sums in another order.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
SIZES = (784, 512, 512, 10)
BATCHES = (128, 1024)


def check_processes(processes: int, backends: Sequence[str] | None, file: Path | None) -> int:
    """Compare a training on several processes with one of a single process; print a table.

    Returns:
        The exit status: 0 if they agree.
    """
    found = _results(processes, "check", backends)
    if isinstance(found, int):
        return found
    from rich.console import Console
    from rich.table import Table

    table = Table("network", "backend", "dtype", "error", "tolerance")
    for row in found["rows"]:
        color = "" if row["error"] <= row["tolerance"] else "red"
        cells = (row["network"], row["backend"], row["dtype"])
        table.add_row(*cells, f"{row['error']:.1e}", f"{row['tolerance']:.0e}", style=color)
    Console().print(table)
    passed = all(row["error"] <= row["tolerance"] for row in found["rows"])
    agree = "agree" if passed else "DO NOT AGREE"
    print(f"{processes} processes and one {agree}: {found['communicator']}")
    _write(file, {**found, "passed": passed})
    return 0 if passed else 1


def bench_processes(processes: int, backends: Sequence[str] | None, file: Path | None) -> int:
    """Time a step on one process and on several, communication apart; print a table.

    Returns:
        The exit status: 0 if it was timed.
    """
    found = _results(processes, "bench", backends)
    if isinstance(found, int):
        return found
    from rich.console import Console
    from rich.table import Table

    name = "-".join(map(str, SIZES))
    table = Table("backend", "batch", title=f"milliseconds of a step of {name}, SGD, float32")
    for column in ("1 process", f"{processes} processes", "waiting for sums", "efficiency"):
        table.add_column(column, justify="right")
    for row in found["rows"]:
        alone, step, waiting = (1e3 * row[key] for key in ("alone", "step", "waiting"))
        share = alone / step / processes
        cells = (f"{alone:.2f}", f"{step:.2f}", f"{waiting:.2f}", f"{100 * share:.0f} %")
        table.add_row(row["backend"], str(row["batch"]), *cells)
    Console().print(table)
    print(f"{found['communicator']}; efficiency: time on 1 process / time on all / their number")
    _write(file, found)
    return 0


def model(
    compute: float, numbers: int, ranks: int, latency: float, bandwidth: float, bytes_each: int = 4
) -> float:
    """Return the seconds of a step on so many ranks, each with the same number of samples.

    compute + 2 (r - 1) / r m / bandwidth + 2 ceil(log2 r) latency: a sum of m bytes on r ranks
    sends each byte twice, less what stays where it is, and takes two passes through a tree.

    Args:
        compute: seconds of a step of one rank by itself.
        numbers: how many numbers the gradients have.
        ranks: r.
        latency: seconds of an empty message.
        bandwidth: bytes in a second that a rank sends and receives at the same time.
        bytes_each: of a number.

    Source: Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in
    MPICH, 2005.
    """
    if ranks == 1:
        return compute
    passes = 2 * (ranks - 1).bit_length()
    return compute + 2 * (ranks - 1) / ranks * numbers * bytes_each / bandwidth + passes * latency


def _results(processes: int, what: str, backends: Sequence[str] | None) -> Any:
    """Return what rank 0 has found, or an exit status."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = ["-m", __name__, what, str(path), *(backends or ["numpy"])]
        try:
            status = launch(processes, command).wait()
        except LaunchError as error:
            print(f"nnx {what}: {error}", file=sys.stderr)
            return 2
        return json.loads(path.read_text()) if status == 0 else status


def _write(file: Path | None, report: dict[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps({"nnx": nnx.__version__, **report}, indent=1) + "\n")
        print(f"written to {file}")


# What each process does.


def _main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("check", "bench"))
    parser.add_argument("file", type=Path)
    parser.add_argument("backends", nargs="+")
    chosen = parser.parse_args(arguments)
    communicator, rows = None, []
    for spec in chosen.backends:
        for dtype in ("float64", "float32") if chosen.what == "check" else ("float32",):
            with nnx.use_backend(resolve(spec, dtype)):
                communicator = nnx.communicator()
                work = _checked if chosen.what == "check" else _timed
                rows += [{"backend": spec, "dtype": dtype, **row} for row in work(communicator)]
    if communicator is not None and communicator.rank == 0:
        found = {"communicator": communicator.name, "size": communicator.size, "rows": rows}
        chosen.file.write_text(json.dumps(found))


def _dense() -> nnx.SequentialNet:
    layers = [
        nnx.DenseLayer(20, 32, nnx.ReLU(), kernel_regularizer=nnx.L2Regularizer(0.01)),
        nnx.DropoutLayer(0.3),
        nnx.DenseLayer(32, 4, nnx.SoftMax()),
    ]
    optim = nnx.Adam(0.01, clip=nnx.ClipNorm(1.0))
    return nnx.SequentialNet(20, layers, nnx.CrossEntropy(), optim)


def _images() -> nnx.SequentialNet:
    layers = [
        nnx.ReshapeLayer((1, 4, 5)),
        nnx.Conv2DLayer(1, 4, 3, bias=False),
        nnx.BatchNormLayer(4),
        nnx.ActivationLayer(nnx.ReLU()),
        nnx.FlattenLayer(),
        nnx.DenseLayer(24, 4, nnx.SoftMax()),
    ]
    return nnx.SequentialNet(20, layers, nnx.CrossEntropy(), nnx.SGD(0.05, momentum=0.9))


def _checked(communicator: Communicator) -> list[dict[str, Any]]:
    """Train together and alone; return the largest difference of the weights."""
    rows = []
    networks: dict[str, Callable[[], nnx.SequentialNet]] = {
        "dense, dropout, penalty, clipping": _dense,
        "convolution, batch norm": _images,
    }
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((331, 20)), rng.integers(0, 4, 331)
    for name, make in networks.items():
        weights = []
        for among in (communicator, SingleProcess()):
            nnx.seed(0)
            net = make()
            net.train(x, y, 32, 2, progress=False, communicator=among)
            weights.append([nnx.to_numpy(p) for p in net.parameters.values()])
        error = max(
            float(np.abs(one - other).max()) / float(np.abs(other).max())
            for one, other in zip(*weights, strict=True)
        )
        worst = max(communicator.gather(error))
        tolerance = TOLERANCES[nnx.get_backend().dtype_name]
        rows.append({"network": name, "error": worst, "tolerance": tolerance})
    return rows


def _timed(communicator: Communicator) -> list[dict[str, Any]]:
    """Time steps on random data: of one process with the whole batch, and of all together."""
    rows, backend = [], nnx.get_backend()
    for batch in BATCHES:
        *hidden, (ni, no) = pairwise(SIZES)
        layers: list[nnx.Layer] = [nnx.DenseLayer(m, n, nnx.ReLU()) for m, n in hidden]
        layers.append(nnx.DenseLayer(ni, no, nnx.SoftMax()))
        net = nnx.SequentialNet(SIZES[0], layers, nnx.CrossEntropy(), nnx.SGD(0.01))
        rng = np.random.default_rng(0)
        x = backend.asarray(rng.random((batch, SIZES[0]), dtype="float32"))
        y = backend.asarray(rng.integers(0, SIZES[-1], batch))
        plan = net.plan()
        alone = [0.0]
        if communicator.rank == 0:  # by itself: the others wait, without work
            alone = _steps(plan, x, y, batch)
        communicator.barrier()
        exchange = plan.exchange = Exchange(communicator, backend, plan.slots)
        exchange.share.of_batch(batch)
        own = slice(exchange.share.start, exchange.share.stop)
        _steps(plan, x[own, ...], y[own], batch)
        exchange.seconds, steps = 0.0, _steps(plan, x[own, ...], y[own], batch)
        waiting = communicator.gather(exchange.seconds / len(steps))
        median = communicator.gather(statistics.median(steps))
        rows.append(
            {
                "batch": batch,
                "alone": statistics.median(alone),
                "step": max(median),
                "waiting": statistics.mean(waiting),
            }
        )
    return rows


def _steps(plan: Plan, x: Any, y: Any, batch: int) -> list[float]:
    """Return the seconds of each step, which the host waits for."""
    backend, found = plan.backend, []
    for _ in range(max(10, 20_000 // batch)):
        start = time.perf_counter()
        plan.step(x, y)
        backend.synchronize()
        found.append(time.perf_counter() - start)
    return found


if __name__ == "__main__":
    _main(sys.argv[1:])
