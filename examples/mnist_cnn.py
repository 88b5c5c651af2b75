"""Train a small convolutional network, like LeNet-5, on handwritten digits.

python examples/mnist_cnn.py
python examples/mnist_cnn.py --backend cupy --batch-size 128
python examples/mnist_cnn.py --compare             # time steps of the same network in PyTorch, too

Two convolutions of 5x5 with ReLU, each followed by the maximum of 2x2 windows, then three dense
layers: 6 and 16 channels, 120 and 84 units, as in LeCun, Bottou, Bengio and Haffner, Proceedings
of the IEEE 86 (1998).
"""

import argparse
import statistics
import time

import numpy as np
from _common import load

import nnx


def arguments():
    parser = argparse.ArgumentParser(description="Train a convolutional network on digits.")
    parser.add_argument("--backend", help="numpy (default), cupy, cupy:1, torch, jax, strict")
    parser.add_argument("--dtype", choices=["float32", "float64"])
    parser.add_argument("--dataset", choices=nnx.datasets.names(), help="use this one and no other")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--limit", type=int, help="train only on this many samples, the first")
    parser.add_argument("--channels", type=int, nargs=2, default=[6, 16])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", action="store_true", help="also time the steps of PyTorch")
    return parser.parse_args()


def build(shape, channels, eta):
    """Build the network for images of shape (1, height, width), with smaller windows if small."""
    optim, size = nnx.Adam(eta), 5 if shape[-1] > 16 else 3
    first, second = channels
    body = [
        nnx.Conv2DLayer(shape[0], first, size, nnx.ReLU(), optim, padding="same"),
        nnx.MaxPool2DLayer(2),
        nnx.Conv2DLayer(first, second, size, nnx.ReLU(), optim, padding="same"),
        nnx.MaxPool2DLayer(2),
        nnx.FlattenLayer(),
    ]
    features = nnx.SequentialLayer(body).output_shape(shape)[0]
    head = [
        nnx.DenseLayer(features, 120, nnx.ReLU(), optim),
        nnx.DenseLayer(120, 84, nnx.ReLU(), optim),
        nnx.DenseLayer(84, 10, nnx.SoftMax(), optim),
    ]
    return nnx.SequentialNet(shape, [*body, *head], nnx.CrossEntropy())


def in_pytorch(net, eta):
    """Build the same network in PyTorch, with the same weights; return two functions.

    The first makes a tensor of an array, the second makes a training step.
    """
    import torch

    nn, modules = torch.nn, []
    for layer in net.layers:
        if isinstance(layer, nnx.MaxPool2DLayer):
            modules.append(nn.MaxPool2d(2))
            continue
        if isinstance(layer, nnx.FlattenLayer):
            modules.append(nn.Flatten())
            continue
        W = torch.tensor(nnx.to_numpy(layer.W))
        if W.ndim == 4:
            module = nn.Conv2d(W.shape[1], W.shape[0], W.shape[2], padding="same")
        else:
            module = nn.Linear(W.shape[1], W.shape[0])
        module.load_state_dict({"weight": W, "bias": torch.tensor(nnx.to_numpy(layer.b))})
        modules += [module, nn.ReLU()]
    model = nn.Sequential(*modules[:-1])
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=eta), nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value

    return torch.from_numpy, step


def compare(net, x, y, batch_size, eta, rounds=9, steps=20):
    """Time steps of nnx and PyTorch in turn, on the same cores; print the medians and a ratio."""
    tensor, their_step = in_pytorch(net, eta)
    backend = net.backend
    rows = np.eye(10, dtype=x.dtype)[y]
    parts = [slice(i * batch_size, (i + 1) * batch_size) for i in range(steps)]
    ours = [(backend.asarray(x[part]), backend.asarray(rows[part])) for part in parts]
    theirs = [(tensor(x[part]), tensor(y[part].astype(np.int64))) for part in parts]
    times = {"nnx": [], "PyTorch": []}
    for number in range(rounds + 1):
        for name, batches, step in (
            ("nnx", ours, net.step),
            ("PyTorch", theirs, their_step),
        ):
            time.sleep(0.15)  # as long as idle threads of the other's BLAS look for work
            start = time.perf_counter()
            for batch in batches:
                step(*batch)
            backend.synchronize()
            if number:
                times[name].append((time.perf_counter() - start) / steps)
    for name, seconds in times.items():
        print(f"{name:8} {1e3 * statistics.median(seconds):8.2f} ms a step of {batch_size}")
    pairs = zip(times["nnx"], times["PyTorch"], strict=True)
    print(f"ratio    {statistics.median(a / b for a, b in pairs):8.2f}")


def main():
    args = arguments()
    backend = nnx.set_backend(args.backend, dtype=args.dtype)
    nnx.seed(args.seed)

    x_train, y_train, x_test, y_test = load(args.dataset, args.limit, flat=False)
    where = f"{backend.name} {backend.version}, {backend.device_name()}, {backend.dtype_name}"
    print(f"backend {where}")

    # The learning rate falls from 0.002 to 0 along half a cosine, step by step.
    steps = args.epochs * -(-len(x_train) // args.batch_size)
    net = build(x_train.shape[1:], args.channels, nnx.CosineSchedule(0.002, steps))
    net.summary()
    if args.compare:
        compare(net.to(backend), x_train, y_train, args.batch_size, 0.002)
    history = net.train(x_train, y_train, args.batch_size, args.epochs, validation=(x_test, y_test))
    seconds = statistics.median(history.seconds)
    accuracy = 100 * net.score(x_test, y_test).accuracy
    print(f"{seconds:.1f} s an epoch, test accuracy {accuracy:.2f} %")


if __name__ == "__main__":
    main()
