"""Time the training of images, sequences, attention and embeddings in nnx and in PyTorch.

    pip install -e ".[bench]"
    python examples/benchmark_layers.py
    python examples/benchmark_layers.py --workloads lenet,lstm --contenders nnx:numpy,torch

All networks are trained by Adam in float32, on random data that is on the device. Each contender
has a process of its own in every round, and they take turns. A round is one epoch that warms up,
whose seconds are shown as "first", and three more, whose median counts. nnx is timed as
`net.train`, which also checks the data and computes the loss of every epoch; PyTorch runs a bare
training loop with its fused Adam. The ratio is the median over the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

BATCH = {"lenet": 64, "lstm": 32, "lstm-100": 32, "gru": 32, "transformer": 16, "embedding": 32}
STEPS = {"lenet": 20, "lstm": 60, "lstm-100": 20, "gru": 60, "transformer": 20, "embedding": 40}
TITLES = {
    "lenet": "LeNet, 28 x 28, batch 64",
    "lstm": "LSTM 16 -> 64, 20 time steps, batch 32",
    "lstm-100": "LSTM 32 -> 64, 100 time steps, batch 32",
    "gru": "GRU 16 -> 64, 20 time steps, batch 32",
    "transformer": "transformer block, 64 time steps x 64 features, 4 heads, GELU, batch 16",
    "embedding": "embedding of 20,000 words in 32 features, 50 tokens, batch 32, then dense",
}
SHAPES = {"lenet": (1, 28, 28), "lstm": (20, 16), "lstm-100": (100, 32), "gru": (20, 16)}
EPOCHS = 3  # of a round, after the first


def data(name):
    """Return inputs and targets, the same for all contenders."""
    import numpy as np

    rng, samples = np.random.default_rng(0), BATCH[name] * STEPS[name]
    if name == "embedding":
        return rng.integers(0, 20_000, (samples, 50)), rng.integers(0, 2, samples)
    if name == "transformer":
        x = rng.standard_normal((samples, 64, 64), dtype=np.float32)
        return x, np.roll(x, 1, axis=1)
    x = rng.standard_normal((samples, *SHAPES[name]), dtype=np.float32)
    return x, rng.integers(0, 10, samples)


def nnx_network(name):
    import nnx

    dense, softmax, linear, relu = nnx.DenseLayer, nnx.SoftMax(), nnx.Linear(), nnx.ReLU()
    optim, entropy = nnx.Adam(), nnx.CrossEntropy()
    if name == "lenet":
        layers = [
            nnx.Conv2DLayer(1, 6, 5, relu, padding=2),
            nnx.MaxPool2DLayer(2),
            nnx.Conv2DLayer(6, 16, 5, relu),
            nnx.MaxPool2DLayer(2),
            nnx.FlattenLayer(),
            *[dense(400, 120, relu), dense(120, 84, relu), dense(84, 10, softmax)],
        ]
        return nnx.SequentialNet((1, 28, 28), layers, entropy, optim)
    if name in ("lstm", "lstm-100", "gru"):
        kind = nnx.GRULayer if name == "gru" else nnx.LSTMLayer
        layers = [kind(SHAPES[name][1], 64), dense(64, 10, softmax)]
        return nnx.SequentialNet(SHAPES[name], layers, entropy, optim)
    if name == "embedding":
        layers = [nnx.EmbeddingLayer(20_000, 32), nnx.FlattenLayer(), dense(1600, 2, softmax)]
        return nnx.SequentialNet((50,), layers, entropy, optim)
    attention = nnx.MultiHeadAttentionLayer(64, 4)
    forward = [nnx.LayerNormLayer(64), dense(64, 256, nnx.GELU()), dense(256, 64, linear)]
    layers = [nnx.ResidualLayer([nnx.LayerNormLayer(64), attention]), nnx.ResidualLayer(forward)]
    return nnx.SequentialNet((64, 64), layers, nnx.MeanSquaredError(), optim)


def train_nnx(name, backend):
    """Return the seconds of the first epoch and of the later ones."""
    import nnx

    chosen = nnx.set_backend(backend, dtype="float32")
    nnx.seed(0)
    net, batch = nnx_network(name), BATCH[name]
    x, y = data(name)
    x = chosen.from_numpy(x) if x.dtype.kind == "i" else chosen.asarray(x)
    y = chosen.from_numpy(y) if y.dtype.kind == "i" else chosen.asarray(y)
    times = []
    for epochs in (1, EPOCHS):
        chosen.synchronize()
        start = time.perf_counter()
        history = net.train(x, y, batch, epochs, progress=False)
        chosen.synchronize()
        times.append(time.perf_counter() - start if epochs == 1 else history["seconds"])
    return times


def torch_network(name):
    import torch
    from torch import nn

    class Last(nn.Module):
        """The output at the last time step, then a dense layer."""

        def __init__(self, recurrent):
            super().__init__()
            self.recurrent, self.dense = recurrent, nn.Linear(64, 10)

        def forward(self, x):
            return self.dense(self.recurrent(x)[0][:, -1])

    class Block(nn.Module):
        """x + attention(norm(x)), then x + dense(GELU(dense(norm(x))))."""

        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(64)
            self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
            self.forwards = nn.Sequential(
                nn.LayerNorm(64), nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)
            )

        def forward(self, x):
            z = self.norm(x)
            x = x + self.attention(z, z, z, need_weights=False)[0]
            return x + self.forwards(x)

    torch.manual_seed(0)
    if name == "lenet":
        return nn.Sequential(
            *[nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()],
            *[nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)],
        )
    if name in ("lstm", "lstm-100"):
        return Last(nn.LSTM(SHAPES[name][1], 64, batch_first=True))
    if name == "gru":
        return Last(nn.GRU(16, 64, batch_first=True))
    if name == "embedding":
        return nn.Sequential(nn.Embedding(20_000, 32), nn.Flatten(), nn.Linear(1600, 2))
    return Block()


def train_torch(name, device):
    """Return the same for PyTorch: eager, with its fused Adam."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model, batch = torch_network(name).to(device), BATCH[name]
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loss = torch.nn.MSELoss() if name == "transformer" else torch.nn.CrossEntropyLoss()
    x, y = (torch.from_numpy(array).to(device) for array in data(name))
    times = []
    for _ in range(1 + EPOCHS):
        start = time.perf_counter()
        order = torch.randperm(len(x)).to(device)
        for first in range(0, len(x), batch):
            index = order[first : first + batch]
            optimizer.zero_grad()
            loss(model(x[index]), y[index]).backward()
            optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times[0], times[1:]


def work(contender, name):
    """Print the seconds of the first epoch, and the median microseconds of a later step."""
    kind, _, where = contender.partition(":")
    first, later = train_nnx(name, where) if kind == "nnx" else train_torch(name, where or "cpu")
    print(json.dumps({"first": first, "step": 1e6 * statistics.median(later) / STEPS[name]}))


def start(contender, name, threads):
    """Return what a new process of a contender prints."""
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    env = os.environ | dict.fromkeys(counts, str(threads)) | {"JAX_ENABLE_X64": "0"}
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    command = [sys.executable, __file__, "--worker", contender, name]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{contender}, {name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    comma = lambda text: [word for word in text.split(",") if word]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", type=comma, default=list(BATCH), metavar="NAME,...")
    default = comma("torch,nnx:numpy,nnx:torch,nnx:jax")
    parser.add_argument("--contenders", type=comma, default=default, metavar="NAME,...")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if unknown := set(args.workloads) - set(BATCH):
        parser.error(f"unknown workloads {', '.join(unknown)}; known are {', '.join(BATCH)}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.threads :])
    print(
        f"{args.threads} threads, {args.rounds} rounds; us for a step, and its ratio to PyTorch's"
    )
    for name in args.workloads:
        print(f"\n{TITLES[name]}", flush=True)
        rows = {contender: [] for contender in args.contenders}
        for _ in range(args.rounds):
            for contender in args.contenders:
                rows[contender].append(start(contender, name, args.threads))
        for contender, row in rows.items():
            step, first = (statistics.median(r[key] for r in row) for key in ("step", "first"))
            ratio = ""
            if "torch" in rows:
                pairs = zip(row, rows["torch"], strict=True)
                ratio = f"{statistics.median(a['step'] / b['step'] for a, b in pairs):6.2f}"
            print(f"  {contender:12}{step:10.0f}{ratio}   first epoch {first:.1f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        main()
