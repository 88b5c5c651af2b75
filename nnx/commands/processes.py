"""`nnx check --processes` and `nnx bench --processes`: several processes of this machine by MPI.

Both start this module on so many processes. For the check, each trains some networks together with
the others, and once more alone: the weights must agree. For the bench, each times steps of one
network that all train together, and how long it waits for sums.
"""

from __future__ import annotations

import argparse
import json
import math
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
from nnx.communication import Communicator, SingleProcess, own_samples
from nnx.training.exchange import Exchange
from nnx.training.plan import Plan

__all__ = ["bench_processes", "check_processes", "model"]

# How far weights may be apart, as a part of the largest: sums in another order.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
SIZES = (784, 512, 512, 10)
BATCHES = (128, 1024)
# Seconds of an empty message, and bytes in a second, that such networks reach.
NETWORKS = {
    "10 Gbit Ethernet": (25e-6, 1.1e9),
    "100 Gbit InfiniBand": (1.5e-6, 11e9),
    "400 Gbit InfiniBand": (1.5e-6, 45e9),
}
RANKS = (8, 32, 128, 1024)
WARM, BLOCKS = 5, 7  # steps before the clock starts, and how often it does


def check_processes(
    processes: int, backends: Sequence[str] | None, quick: bool, file: Path | None
) -> int:
    """Compare a training on several processes with one of a single process; print a table.

    Returns:
        The exit status: 0 if they agree.
    """
    found = _results(processes, "check", backends, quick)
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


def bench_processes(
    processes: int, backends: Sequence[str] | None, quick: bool, file: Path | None
) -> int:
    """Time a step on one process and on several, communication apart; print a table.

    Returns:
        The exit status: 0 if it was timed.
    """
    found = _results(processes, "bench", backends, quick)
    if isinstance(found, int):
        return found
    from rich.console import Console
    from rich.table import Table

    name = "-".join(map(str, SIZES))
    table = Table("backend", "batch", title=f"milliseconds of a step of {name}, SGD, float32")
    several = f"{processes} processes"
    for column in ("1 process", several, "sums", "modelled", "efficiency"):
        table.add_column(column, justify="right")
    growth = Table("backend", "of a rank", "network", title="efficiency on more ranks, as modelled")
    for ranks in RANKS:
        growth.add_column(str(ranks), justify="right")
    for row in found["rows"]:
        times = [row["alone"], row["step"], row["sums"], row["modelled"]]
        share = row["alone"] / row["step"] / processes
        cells = [*(f"{1e3 * seconds:.2f}" for seconds in times), f"{100 * share:.0f} %"]
        table.add_row(row["backend"], str(row["batch"]), *cells)
        for network, (latency, bandwidth) in NETWORKS.items():
            steps = [model(row["own"], row["numbers"], n, latency, bandwidth) for n in RANKS]
            samples = str(row["batch"] // processes)
            shares = [f"{100 * row['own'] / step:.0f} %" for step in steps]
            growth.add_row(row["backend"], samples, network, *shares)
    console = Console()
    console.print(table)
    print(
        f"{found['communicator']}: a sum takes {1e6 * found['latency']:.0f} us and moves "
        f"{found['bandwidth'] / 1e9:.2f} GB/s; efficiency: time on 1 process / time on all / their "
        "number"
    )
    console.print(growth)
    print("a rank keeps its samples per step; nothing disturbs it, and sums hide behind nothing")
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


def _results(processes: int, what: str, backends: Sequence[str] | None, quick: bool) -> Any:
    """Return what rank 0 has found, or an exit status."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = ["-m", __name__, what, str(path), *(backends or ["numpy"])]
        command += ["--quick"] if quick else []
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
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args(arguments)
    blocks = 1 if chosen.quick else BLOCKS
    communicator, rows = None, []
    for spec in chosen.backends:
        both = chosen.what == "check" and not chosen.quick
        for dtype in ("float64", "float32") if both else ("float32",):
            with nnx.use_backend(resolve(spec, dtype)):
                communicator = nnx.communicator()
                if chosen.what == "check":
                    some = _checked(communicator)
                else:
                    some = _timed(communicator, blocks)
                rows += [{"backend": spec, "dtype": dtype, **row} for row in some]
    if communicator is None:
        return
    found: dict[str, Any] = {
        "communicator": communicator.name,
        "size": communicator.size,
        "rows": rows,
    }
    if chosen.what == "bench":
        found |= _speed(communicator)
        for row in rows:
            size, speed = communicator.size, (found["latency"], found["bandwidth"])
            row["modelled"] = model(row["own"], row["numbers"], size, *speed)
    if communicator.rank == 0:
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


def _timed(communicator: Communicator, blocks: int) -> list[dict[str, Any]]:
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
        own = slice(*own_samples(batch, communicator.rank, communicator.size))
        alone = 0.0
        if communicator.rank == 0:  # by itself: the others wait, without work
            alone = _seconds(SingleProcess(), blocks, plan, x, y)
        by_itself = _seconds(communicator, blocks, plan, x[own, ...], y[own])
        exchange = plan.exchange = Exchange(communicator, backend, plan.slots)
        exchange.share.of_batch(batch)
        step = _seconds(communicator, blocks, plan, x[own, ...], y[own])
        rows.append(
            {
                "batch": batch,
                "alone": alone,
                "own": by_itself,
                "step": step,
                "sums": exchange.seconds / (WARM + blocks * _several(batch // communicator.size)),
                "numbers": sum(math.prod(slot.array.shape) for slot in plan.slots),
            }
        )
    return rows


def _speed(communicator: Communicator) -> dict[str, float]:
    """Return the latency and the bandwidth of sums among these processes, of arrays of the host."""
    found = []
    for numbers in (1, 1 << 19):
        array, total, seconds = np.zeros(numbers, np.float32), np.zeros(numbers, np.float32), []
        for _ in range(50):
            communicator.barrier()
            start = time.perf_counter()
            communicator.start_sum(array, total)()
            seconds.append(time.perf_counter() - start)
        found.append(max(communicator.gather(statistics.median(seconds))))
    ranks = communicator.size
    moved = 2 * (ranks - 1) / ranks * total.nbytes
    latency = found[0] / max(1, 2 * (ranks - 1).bit_length())
    return {"latency": latency, "bandwidth": moved / max(found[1] - found[0], 1e-9)}


def _seconds(communicator: Communicator, blocks: int, plan: Plan, x: Any, y: Any) -> float:
    """Return the seconds of a step, from when all processes begin until the last one ends."""
    backend, found, several = plan.backend, [], _several(x.shape[0])
    for number in range(-1, blocks):
        communicator.barrier()
        start = time.perf_counter()
        for _ in range(several if number >= 0 else WARM):
            plan.step(x, y)
        backend.synchronize()
        communicator.barrier()
        found.append((time.perf_counter() - start) / several)
    return statistics.median(communicator.gather(statistics.median(found[1:])))


def _several(samples: int) -> int:
    return max(4, 5_000 // samples)


if __name__ == "__main__":
    _main(sys.argv[1:])
