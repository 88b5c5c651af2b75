"""Draw how the time and the memory of a training step grow with batch, width, depth and sequence.

    python examples/growth.py
    python examples/growth.py --backends numpy,torch,jax --out growth.svg
    python examples/growth.py --backends jax --kinds time --keep growth.json    # in pieces

batch: 784-100-10. width: 784-width-width-10, batch 128. depth: 128-128-...-10 with so many hidden
layers, batch 128. time: an LSTM of 16 -> 32 over so many time steps, batch 32. All under Adam in
float32. A time is the smallest of several epochs of `net.train`, divided by the number of steps.
Memory is what a step takes at most besides data and parameters, where the backend can tell. The
slope is that of a line through the largest values in the double-logarithmic picture: 1 is linear.
"""

import argparse
import itertools
import json
import math
from pathlib import Path

import numpy as np

import nnx
from nnx.plotting import require_matplotlib

SIZES = {
    "batch": [1, 4, 16, 64, 256, 1024, 4096],
    "width": [16, 64, 256, 1024, 4096],
    "depth": [1, 2, 4, 8, 16, 32, 64],
    "time": [10, 30, 100, 300, 1000],
}
BATCH = {"width": 128, "depth": 128, "time": 32}
EPOCHS = 4
# Colours that the colour-blind tell apart (Okabe and Ito, Color Universal Design, 2008).
STYLES = [
    {"color": color, "marker": marker, "linestyle": line}
    for color, marker, line in zip(
        ("#0072B2", "#D55E00", "#000000", "#009E73"), "os^D", ("-", "--", ":", "-."), strict=True
    )
]


def network(kind, n):
    """Return a network in which one quantity has the value n."""
    if kind == "time":
        layers = [nnx.LSTMLayer(16, 32), nnx.DenseLayer(32, 10, nnx.SoftMax())]
        return nnx.SequentialNet((n, 16), layers, nnx.CrossEntropy(), nnx.Adam())
    sizes = {
        "batch": [784, 100, 10],
        "width": [784, n, n, 10],
        "depth": [128, *[128] * n, 10],
    }[kind]
    *hidden, last = itertools.pairwise(sizes)
    layers = [nnx.DenseLayer(ni, no, nnx.ReLU()) for ni, no in hidden]
    layers.append(nnx.DenseLayer(*last, nnx.SoftMax()))
    return nnx.SequentialNet(sizes[0], layers, nnx.CrossEntropy(), nnx.Adam())


def measured(kind, n, longest):
    """Return the microseconds of a step, and the megabytes that it takes, NaN if not known."""
    backend, batch = nnx.get_backend(), BATCH.get(kind, n)
    net = network(kind, n)
    rng = np.random.default_rng(0)

    def train(steps, epochs):
        # Four of five inputs are 0, as the pixels of MNIST are.
        x = np.maximum(5 * rng.random((steps * batch, *net.input_shape), dtype=np.float32) - 4, 0)
        x, y = backend.asarray(x), backend.from_numpy(rng.integers(0, 10, len(x)))
        return net.train(x, y, batch, epochs, progress=False)["seconds"]

    steps = 4
    once = min(train(steps, 2)) / steps
    steps = max(4, min(100, int(longest / once / EPOCHS)))
    seconds = min(train(steps, EPOCHS)) / steps
    x = backend.asarray(rng.random((batch, *net.input_shape), dtype=np.float32))
    y = backend.from_numpy(rng.integers(0, 10, batch))
    plan = net.plan()
    plan.step(x, y)
    peak = backend.peak_memory()
    if peak is None:
        return 1e6 * seconds, math.nan
    with peak as read:
        plan.step(x, y)
        backend.synchronize()
        return 1e6 * seconds, read() / 1e6


def slope(numbers, values):
    """Return the slope through the last three points of a double-logarithmic picture."""
    x, y = np.log(numbers[-3:]), np.log(values[-3:])
    return float(np.polyfit(x, y, 1)[0])


def draw(results, path):
    figure = require_matplotlib()(figsize=(13, 5.6), layout="constrained")
    axes = figure.subplots(2, len(results), squeeze=False)
    for column, kind in enumerate(kind for kind in SIZES if kind in results):
        for row, quantity in enumerate(("microseconds", "megabytes")):
            ax, numbers = axes[row][column], SIZES[kind]
            for (backend, points), style in zip(results[kind].items(), itertools.cycle(STYLES)):
                values = [point[row] for point in points]
                if not np.isfinite(values).all():
                    continue
                label = f"{backend}, slope {slope(numbers[: len(values)], values):.2f}"
                ax.plot(numbers[: len(values)], values, markersize=5, label=label, **style)
            ax.set(xscale="log", yscale="log", xlabel=kind, ylabel=f"{quantity} of a step")
            ax.set_xticks(numbers, labels=map(str, numbers), fontsize="small")
            ax.yaxis.get_major_locator().set_params(subs=(1, 3))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
            ax.grid(alpha=0.3)
            if ax.lines:
                ax.legend(frameon=False, fontsize="small")
            else:
                ax.set_axis_off()
    figure.savefig(path)
    print(f"written {path}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", default="numpy", metavar="NAME,...")
    parser.add_argument("--kinds", default=",".join(SIZES), metavar="KIND,...")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each value, about")
    parser.add_argument("--largest", type=int, help="leave out larger values")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add results to those in here")
    parser.add_argument("--out", default="growth.png", metavar="FILE")
    args = parser.parse_args()
    require_matplotlib()
    for kind, sizes in SIZES.items():
        SIZES[kind] = [n for n in sizes if n <= (args.largest or n)]
    kept = args.keep and args.keep.exists()
    results = json.loads(args.keep.read_text()) if kept else {}
    for kind in filter(None, args.kinds.split(",")):
        results.setdefault(kind, {})
        for spec in args.backends.split(","):
            nnx.seed(0)
            points = []
            with nnx.use_backend(spec, dtype="float32"):
                for n in SIZES[kind]:
                    points.append(measured(kind, n, args.seconds))
                    us, mb = points[-1]
                    print(f"{spec:8}{kind:6}{n:6}{us:12.0f} us{mb:10.2f} MB", flush=True)
            times, memory = zip(*points, strict=True)
            of = f"time {slope(SIZES[kind], times):.2f}, memory {slope(SIZES[kind], memory):.2f}"
            print(f"{spec:8}{kind:6} slope: {of}")
            results[kind][spec] = points
            if args.keep:
                args.keep.write_text(json.dumps(results))
    draw(results, args.out)


if __name__ == "__main__":
    main()
