"""Time training and prediction in nnx and in other libraries.

    pip install -e ".[bench]"
    python examples/benchmark.py                                 # everything, many minutes
    python examples/benchmark.py --workloads A,C --contenders nnx:numpy,numpy,torch --threads 1
    python examples/benchmark.py --quick --json times.json --picture times.png
    python examples/benchmark.py --target 98                     # seconds to an accuracy on MNIST

A and B train 784-100-10 with batches of 10 under SGD and Adam, C and D 784-512-512-10 with batches
of 128; E predicts 10,000 samples; F is the time from the import to the first step in a fresh
process; G varies batch, width and depth. All train on the same random data in float32, with ReLU,
SoftMax and cross-entropy.

Each contender runs in its own process, which builds the network and warms up once. The processes
take turns, so that one works at a time. The figures are medians over the rounds; a ratio is the
median of the ratios of the rounds. nnx is timed as `net.train`, which also checks the data and
computes loss and accuracy. The others run a bare training loop. After the first epoch, all networks
with the same initial weights and batches must have the same loss, to LOSS of its value. Keras and
scikit-learn draw their own order of batches, and scikit-learn its own weights, so their loss is
shown but not compared. Memory is the peak of a process in a round, minus what it had before it
built the network.

A contender may name a device: nnx:cupy, nnx:torch:cuda:0, torch:cuda, jax:gpu.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

# Import nothing heavy here: the clock of F starts before a worker imports anything.

DEFAULT = "nnx:numpy,nnx:cupy,nnx:torch,nnx:jax,numpy,torch,torch-fused,jax,jax-scan,keras,sklearn"
# Contender -> what it imports, what to install.
NEEDS = {
    "nnx": ("nnx", "nnx-array"),
    "numpy": ("numpy", "numpy"),
    "cupy": ("cupy", "cupy-cuda13x"),
    "torch": ("torch", "torch"),
    "torch-fused": ("torch", "torch"),
    "jax": ("jax", "jax"),
    "jax-scan": ("jax", "jax"),
    "keras": ("keras", "keras jax"),
    "sklearn": ("sklearn", "scikit-learn"),
}
NOT_COMPARED = {
    "keras": "draws its own order of the batches",
    "sklearn": "draws its own weights and order",
}
SAME_PREDICTION = {"torch-fused", "jax-scan"}  # as torch and jax
LOSS = {"SGD": 1e-4, "Adam": 2e-3}  # relative; Adam divides by small gradients
STYLE = {"show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
GROWTH = {
    "batch": "784-100-10, SGD",
    "width": "784-width-width-10, batches of 128, SGD",
    "depth": "784-128-...-128-10, batches of 128, SGD",
}
EPOCHS = 3  # of a round
SETTLE = 0.15  # seconds between turns: OpenBLAS's threads look for work for 0.1 s, then sleep
LIBRARIES = ("nnx-array", "numpy", "torch", "jax", "jaxlib", "keras", "scikit-learn")
LIBRARIES += ("cupy-cuda12x", "cupy-cuda13x", "array-api-compat", "threadpoolctl")


def workloads(quick, steps):
    """Return the problems of each workload by its letter, each with a title and a unit."""

    def problem(title, sizes, batch, optimizer, n, unit="step", task="train", **of):
        n = n if task != "train" or unit == "start" else steps or (max(n // 10, 10) if quick else n)
        fields = {"sizes": sizes, "batch": batch, "optimizer": optimizer, "steps": n, "task": task}
        return {"title": title, "unit": unit, "problem": fields, **of}

    def growth(varied, value, sizes, batch):
        work = 6 * batch * sum(ni * no for ni, no in pairwise(sizes))
        n = max(10, min(500, int(1e10 / work), 20_000 // batch))  # 0.3 s or so
        name = f"{'-'.join(map(str, sizes))}, batch {batch}, SGD"
        return problem(name, sizes, batch, "SGD", n, varied=varied, value=value)

    small, large = [784, 100, 10], [784, 512, 512, 10]
    batches = [10, 100, 1000] if quick else [10, 32, 100, 320, 1024]
    widths = [32, 128, 512] if quick else [32, 64, 128, 256, 512, 1024, 2048]
    depths = [1, 4] if quick else [1, 2, 4, 8, 16]
    e = {"unit": "pass", "task": "predict"}
    return {
        "A": [problem("784-100-10, batch 10, SGD", small, 10, "SGD", 2000)],
        "B": [problem("784-100-10, batch 10, Adam", small, 10, "Adam", 2000)],
        "C": [problem("784-512-512-10, batch 128, SGD", large, 128, "SGD", 150)],
        "D": [problem("784-512-512-10, batch 128, Adam", large, 128, "Adam", 150)],
        "E": [
            problem(
                "784-100-10 predicts 10,000 samples in batches of 1024", small, 1024, "SGD", 1, **e
            ),
            problem("784-100-10 predicts 10,000 samples at once", small, 10_000, "SGD", 1, **e),
        ],
        "F": [problem("import to first step of 784-100-10", small, 10, "SGD", 1, unit="start")],
        "G": [
            *(growth("batch", n, [784, 100, 10], n) for n in batches),
            *(growth("width", n, [784, n, n, 10], 128) for n in widths),
            *(growth("depth", n, [784, *[128] * n, 10], 128) for n in depths),
        ],
    }


class Worker:
    """A contender in its own process; it has warmed up when the constructor returns."""

    def __init__(self, name, problem, threads):
        self.name = name
        counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        flags = os.environ.get("XLA_FLAGS", "")
        if threads == 1:
            flags += " --xla_cpu_multi_thread_eigen=false"
        env = os.environ | dict.fromkeys(counts, str(threads))
        env |= {"XLA_FLAGS": flags.strip(), "JAX_ENABLE_X64": "0", "KERAS_BACKEND": "jax"}
        command = [sys.executable, __file__, "--worker", name, json.dumps(problem), str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, env=env, **pipes)
        self.idle = 0.0  # processor seconds that it used while others worked
        self.answer = self.read()

    def read(self):
        """Return the next answer of the process; one with an error if it has died."""
        answer = json.loads(self.process.stdout.readline() or "{}")
        if not answer:
            self.close()
            answer = {"error": f"ended with status {self.process.returncode}"}
        return answer

    def round(self, number):
        """Run a round; return seconds and memory, or an error."""
        self.process.stdin.write(f"{number} {EPOCHS}\n")
        self.process.stdin.flush()
        return self.read()

    def processor_seconds(self):
        """Return the processor time used so far; 0 if the system is not Linux."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def close(self):
        """End it; it ends by itself when there is nothing more to read."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


def measure(item, names, threads, rounds, tell):
    """Return the times of all contenders in one problem; a row with an error has none."""
    rows, workers = {}, {}
    done = item["problem"]["steps"] * (EPOCHS if item["problem"]["task"] == "train" else 1)
    with contextlib.ExitStack() as stack:
        for name in names:
            tell(f"{item['title']}: {name} warms up")
            worker = stack.enter_context(contextlib.closing(Worker(name, item["problem"], threads)))
            rows[name] = {"times": [], "memory": [], "idle": [], **worker.answer}
            if "first" in worker.answer:
                workers[name] = worker
        for number in range(1, rounds + 1):
            for name in list(workers)[:: 1 if number % 2 else -1]:
                tell(f"{item['title']}: round {number} of {rounds}, {name}")
                time.sleep(SETTLE)
                others = {other: w.processor_seconds() for other, w in workers.items()}
                answer = workers[name].round(number)
                if "error" in answer:
                    rows[name] |= {**answer, "times": []}
                    del workers[name]
                    continue
                rows[name]["times"].append(answer["seconds"] / done)
                rows[name]["memory"].append(answer["memory"])
                for other in others.keys() - {name}:
                    spent = workers[other].processor_seconds() - others[other]
                    rows[other]["idle"].append(spent / answer["seconds"])
    return {**item, "contenders": rows, "disagree": disagreement(item, rows)}


def measure_target(percent, names, threads, seeds, tell):
    """Return the seconds to an accuracy; every seed has a new process."""
    rows = {name: {"times": [], "epochs": []} for name in names}
    for seed in seeds:
        for name in names:
            tell(f"{name}, seed {seed} of {seeds[0]} to {seeds[-1]}")
            fields = {"sizes": [784, 512, 512, 10], "batch": 128, "optimizer": "Adam", "steps": 0}
            problem = {**fields, "task": "target", "target": percent / 100, "seed": seed}
            with contextlib.closing(Worker(name, problem, threads)) as worker:
                answer = worker.answer
            if "seconds" not in answer:
                rows[name] |= {**answer, "times": []}
                continue
            rows[name]["times"].append(answer["seconds"])
            rows[name]["epochs"].append(answer["epochs"])
    return {"contenders": rows}


def show_target(percent, result, console):
    """Print seconds and epochs of each contender, fastest first."""
    from rich import box
    from rich.table import Table

    rows = result["contenders"]
    table = Table("contender", "seconds", "min", "max", "epochs", box=box.SIMPLE_HEAD, **STYLE)
    for name in sorted(
        (name for name in rows if rows[name]["times"]), key=lambda n: middle(rows[n])
    ):
        times = rows[name]["times"]
        numbers = (statistics.median(times), min(times), max(times))
        epochs = ", ".join(map(str, rows[name]["epochs"]))
        table.add_row(name, *(f"{seconds:.1f}" for seconds in numbers), epochs)
    console.print(f"\nMNIST, 784-512-512-10, batch 128, Adam: seconds to {percent} %", style="bold")
    console.print(table)
    for name, row in rows.items():
        if "error" in row or "unusable" in row:
            console.print(f"{name}: {row.get('error') or row.get('unusable')}", markup=False)


def measure_starts(item, names, threads, rounds, tell):
    """Do the same with a new process for every round; the first one only fills the disk cache."""
    rows = {name: {"times": []} for name in names}
    for number in range(rounds + 1):
        for name in names:
            tell(f"{item['title']}: round {number} of {rounds}, {name}")
            with contextlib.closing(Worker(name, item["problem"], threads)) as worker:
                rows[name] |= worker.answer
            if number and "first" in rows[name]:
                rows[name]["times"].append(rows[name]["first"])
    return {**item, "contenders": rows, "disagree": disagreement(item, rows)}


def disagreement(item, rows):
    """Return the losses after the first epoch that differ from the others, by contender."""
    if item["problem"]["task"] != "train":
        return {}
    losses = {n: row["loss"] for n, row in rows.items() if "loss" in row and n not in NOT_COMPARED}
    if not losses:
        return {}
    middle = statistics.median_low(losses.values())
    allowed = LOSS[item["problem"]["optimizer"]] * middle
    return {name: loss for name, loss in losses.items() if not abs(loss - middle) <= allowed}


def choose(names):
    """Return the contenders that can take part, and why the others cannot."""
    usable, missing = [], {}
    for name in names:
        kind, _, device = name.partition(":")
        if kind not in NEEDS or (kind == "nnx" and not device):
            known = ", ".join(kind for kind in NEEDS if kind != "nnx")
            missing[name] = f"unknown; known are nnx:BACKEND, {known}"
            continue
        library, packages = NEEDS[kind]
        if kind == "nnx":
            library, packages = backend_needs(device.partition(":")[0]) or (library, packages)
        if importlib.util.find_spec(library) is None:
            missing[name] = f"not installed: pip install {packages}"
        else:
            usable.append(name)
    return usable, missing


def backend_needs(name):
    import nnx.backend

    kind = nnx.backend.installed_backends().get(name)
    extra = {"cupy": "cupy13", "strict": "test"}.get(name, name)
    return kind and (kind.library, f'"nnx-array[{extra}]"')


def ratio(rows, ours, theirs):
    """Return the median over the rounds of the time of one divided by that of another."""
    pairs = zip(rows[ours]["times"], rows[theirs]["times"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def show(result, console):
    """Print one row for each contender, fastest first."""
    from rich import box
    from rich.table import Table

    rows, trains = result["contenders"], result["problem"]["task"] == "train"
    scale, unit = (1e3, "ms") if result["unit"] == "start" else (1e6, "us")
    done = sorted((name for name in rows if rows[name]["times"]), key=lambda n: middle(rows[n]))
    ours = [name for name in done if name.startswith("nnx:")]
    title = f"{result['title']}: {unit} for one {result['unit']}"
    table = Table(box=box.SIMPLE_HEAD, **STYLE)
    for column in ["contender", "median", "min", "max", *ours, *["loss"] * trains]:
        justify = "left" if column == "contender" else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for name in done:
        times = [scale * t for t in rows[name]["times"]]
        cells = [
            f"{t:.1f}" if t < 1e4 else f"{t:.0f}"
            for t in (statistics.median(times), min(times), max(times))
        ]
        cells += ["" if name == own else f"{ratio(rows, own, name):.2f}" for own in ours]
        mark = "!" if name in result["disagree"] else "*" if name in NOT_COMPARED else " "
        cells += [f"{rows[name]['loss']:.5f}{mark}"] * trains
        table.add_row(name, *cells)
    console.print(f"\n{title}", style="bold", highlight=False)
    console.print(table)
    notes(result, console)


def notes(result, console):
    """Print what has failed, worked out of turn, or solved another problem."""

    def line(text):
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for name, row in result["contenders"].items():
        if "error" in row:
            line(f"{name}: {row['error']}")
        idle = statistics.mean(row.get("idle") or [0.0])
        if idle > 0.1:
            line(f"{name} used {idle:.0%} of a core while others worked")
    for name, loss in result["disagree"].items():
        line(f"! {name} does not solve the same problem: its loss is {loss}")


def middle(row, quantity="times"):
    """Return the median of the rounds; NaN if there is none."""
    values = [value for value in row.get(quantity, ()) if value is not None]
    return statistics.median(values) if values else math.nan


def show_growth(results, console):
    """Print time and memory of all contenders for each value of each varied quantity."""
    from rich import box
    from rich.table import Table

    for varied in dict.fromkeys(result["varied"] for result in results):
        points = [result for result in results if result["varied"] == varied]
        for quantity, unit, scale in (("times", "us", 1e6), ("memory", "MiB", 2**-20)):
            title = f"{GROWTH[varied]}: {unit} of a step by {varied}"
            table = Table(box=box.SIMPLE_HEAD, **STYLE)
            table.add_column(varied)
            for point in points:
                table.add_column(str(point["value"]), justify="right", no_wrap=True)
            for name in points[0]["contenders"]:
                values = [scale * middle(point["contenders"][name], quantity) for point in points]
                table.add_row(name, *("" if math.isnan(v) else f"{v:.0f}" for v in values))
            console.print(f"\n{title}", style="bold", highlight=False)
            console.print(table)
    for result in results:
        notes(result, console)


def draw(results, path):
    """Draw the time of a step against batch size and width, with a line for each contender."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained", dpi=120)
    for ax, varied in zip(figure.subplots(1, 2), ("batch", "width"), strict=True):
        points = [result for result in results if result["varied"] == varied]
        values = [point["value"] for point in points]
        for i, name in enumerate(points[0]["contenders"]):
            times = [1e6 * middle(point["contenders"][name]) for point in points]
            mine = name.startswith("nnx:")
            style = {"linestyle": "-" if mine else "--", "linewidth": 2.4 if mine else 1.2}
            ax.plot(values, times, label=name, marker=".", color=f"C{i % 10}", **style)
        ax.set(xscale="log", yscale="log", xlabel=varied, ylabel="us a step")
        ax.set_xticks(values, labels=map(str, values))
        ax.minorticks_off()
        ax.set_title(GROWTH[varied], fontsize="medium")
        ax.grid(alpha=0.3)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path)


def machine(threads):
    """Return what the figures depend on: processor, threads, versions."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(x for x in lines if x.startswith("model name")).partition(": ")[2]
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor,
        "cores": cores(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def cores():
    """Return how many cores this process may use."""
    from nnx_backends._host import cores

    return cores()


def pin(threads):
    """Restrict this process, and those that it starts, to this many cores."""
    with contextlib.suppress(AttributeError):  # not on macOS and Windows
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, usable[-threads:])


def main():
    comma = lambda text: [word for word in text.split(",") if word]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", type=comma, default=list("ABCDEFG"), metavar="A,B,...")
    parser.add_argument("--contenders", type=comma, default=comma(DEFAULT), metavar="NAME,...")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--steps", type=int, help="steps of an epoch; by default each workload has its own number"
    )
    parser.add_argument("--threads", type=int, help="number of threads; all cores if not given")
    parser.add_argument("--target", type=float, metavar="PERCENT", help="accuracy on MNIST instead")
    parser.add_argument("--seed", type=int, default=0, help="of the first round of --target")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, 3 rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw G; needs matplotlib")
    args = parser.parse_args()
    problems = workloads(args.quick, args.steps)
    if args.picture:
        from nnx.plotting import require_matplotlib

        require_matplotlib()
        args.workloads = sorted({*args.workloads, "G"})
    if unknown := set(args.workloads) - set(problems):
        parser.error(f"unknown workloads {', '.join(sorted(unknown))}; known are A to G")
    threads = args.threads or cores()
    if min(threads, args.rounds, args.steps or 1) < 1:
        parser.error("--threads, --rounds and --steps must be 1 or more")
    return run(args, {letter: problems[letter] for letter in args.workloads}, threads)


def run(args, problems, threads):
    from rich.console import Console

    console, facts = Console(), machine(threads)
    pin(threads)

    def line(text):
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    usable, missing = choose(args.contenders)
    rounds = min(args.rounds, 3) if args.quick else args.rounds
    where = f"{threads} threads on {facts['cores']} cores of {facts['processor']}"
    line(f"{where}, load {facts['load']}, {rounds} rounds")
    line(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    report = {**facts, "rounds": rounds, "missing": missing, "results": {}}
    for name, why in missing.items():
        line(f"{name}: {why}")
    if not args.target:
        line("In the tables, under nnx:..., is its time divided by that of the row.")
    if args.target:
        with Console(stderr=True).status("") as status:
            seeds = range(args.seed, args.seed + rounds)
            result = measure_target(args.target, usable, threads, seeds, status.update)
        show_target(args.target, result, console)
        report["results"]["target"] = result
        problems = {}
    with Console(stderr=True).status("") as status:
        for letter, items in problems.items():
            results = report["results"][letter] = []
            for item in items:
                method = measure_starts if item["unit"] == "start" else measure
                predicts = item["problem"]["task"] == "predict"
                names = [n for n in usable if not (predicts and n in SAME_PREDICTION)]
                results.append(method(item, names, threads, rounds, status.update))
                for name, row in list(results[-1]["contenders"].items()):
                    if "unusable" in row:
                        missing[name] = row["unusable"]
                        line(f"{name}: {missing[name]}")
                        usable.remove(name)
                        del results[-1]["contenders"][name]
                if letter != "G":
                    show(results[-1], console)
            if letter == "G":
                show_growth(results, console)
    for name in NOT_COMPARED.keys() & set(usable):
        line(f"* {name} {NOT_COMPARED[name]}: its loss is shown, not compared")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
        line(f"written {args.json}")
    if args.picture:
        draw(report["results"]["G"], args.picture)
        line(f"written {args.picture}")
    disagree = any(item["disagree"] for letter in problems for item in report["results"][letter])
    return 1 if disagree else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        clock = time.perf_counter()
        from _peers import work

        work(sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]), clock)
    else:
        sys.exit(main())
