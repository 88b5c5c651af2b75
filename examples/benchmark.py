"""Time a training step of nnx beside the same step as a bare NumPy loop.

    OPENBLAS_NUM_THREADS=1 python examples/benchmark.py

Both learn from the same data in the same order with the same first weights, in one process, taking
turns; the figures are medians over the rounds. At the end both have the same weights. What nnx does
beside the step is in its time: it checks the data, and computes loss and accuracy of every epoch.
"""

import argparse
import os
import statistics
import time
from itertools import pairwise

import numpy as np

import nnx

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def bare_loop(parameters, x, rows, batch, eta, order):
    """One epoch of ReLU layers and SoftMax with cross-entropy under SGD, as one writes it down."""
    last = len(parameters) - 1
    for start in range(0, len(x), batch):
        index = order[start : start + batch]
        inputs, y = [x[index]], rows[index]
        for W, b in parameters[:-1]:
            inputs.append(np.maximum(inputs[-1] @ W.T + b, 0))
        W, b = parameters[-1]
        z = inputs[-1] @ W.T + b
        e = np.exp(z - z.max(axis=1, keepdims=True))
        delta = (e / e.sum(axis=1, keepdims=True) - y) / len(index)
        for layer in range(last, -1, -1):
            (W, b), a = parameters[layer], inputs[layer]
            dW, db = delta.T @ a, delta.sum(axis=0)
            if layer:
                delta = (delta @ W) * (a > 0)
            W -= eta * dW
            b -= eta * db


def build(sizes, eta):
    nnx.seed(0)
    optim = nnx.SGD(eta)
    layers = [nnx.DenseLayer(ni, no, nnx.ReLU(), optim) for ni, no in pairwise(sizes[:-1])]
    layers.append(nnx.DenseLayer(sizes[-2], sizes[-1], nnx.SoftMax(), optim))
    return nnx.SequentialNet(sizes[0], layers, nnx.CrossEntropy())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[784, 100, 10])
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2000, help="steps in an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="epochs in one round")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    nnx.set_backend("numpy", dtype="float32")
    threads = ", ".join(f"{name}={os.environ.get(name, 'not set')}" for name in THREADS)
    print(f"NumPy {np.__version__}, {os.cpu_count()} cores, {threads}")

    rng, eta = np.random.default_rng(0), 0.01
    samples = args.steps * args.batch_size
    x = rng.random((samples, args.sizes[0]), dtype=np.float32)
    y = rng.integers(0, args.sizes[-1], samples)
    rows = np.eye(args.sizes[-1], dtype=np.float32)[y]
    net = build(args.sizes, eta)
    parameters = [(layer.W.copy(), layer.b.copy()) for layer in net.layers]

    seconds = {"nnx": [], "bare NumPy": []}
    for round_number in range(args.rounds + 1):
        start = time.perf_counter()
        orders = np.random.default_rng(round_number)
        net.train(x, y, args.batch_size, args.epochs, progress=False, rng=orders)
        middle = time.perf_counter()
        orders = np.random.default_rng(round_number)
        for _ in range(args.epochs):
            bare_loop(parameters, x, rows, args.batch_size, eta, orders.permutation(samples))
        end = time.perf_counter()
        if round_number:  # the first round warms up
            seconds["nnx"].append(middle - start)
            seconds["bare NumPy"].append(end - middle)
    for layer, (W, b) in zip(net.layers, parameters, strict=True):
        np.testing.assert_allclose(layer.W, W, rtol=1e-2, atol=1e-4)
        np.testing.assert_allclose(layer.b, b, rtol=1e-2, atol=1e-4)

    name = "-".join(map(str, args.sizes))
    print(f"{name}, batch {args.batch_size}, SGD, float32, {args.rounds} rounds")
    for who, times in seconds.items():
        microseconds = [1e6 * t / (args.steps * args.epochs) for t in times]
        low, middle, high = min(microseconds), statistics.median(microseconds), max(microseconds)
        print(f"{who:12} {middle:8.1f} us a step (from {low:.1f} to {high:.1f})")
    pairs = zip(seconds["nnx"], seconds["bare NumPy"], strict=True)
    print(f"ratio        {statistics.median(a / b for a, b in pairs):8.2f}")


if __name__ == "__main__":
    main()
