"""Train a dense network on the handwritten digits of MNIST, on the backend of your choice.

python examples/mnist.py
python examples/mnist.py --backend cupy --hidden 512 512 --batch-size 128
python examples/mnist.py --hidden 512 512 --batch-size 128 --target 98 --epochs 20
"""

import argparse
import time
from itertools import pairwise

import nnx


def arguments():
    parser = argparse.ArgumentParser(description="Train a dense network on handwritten digits.")
    parser.add_argument("--backend", help="numpy (default), cupy, cupy:1, torch, jax, strict")
    parser.add_argument("--dtype", choices=["float32", "float64"])
    parser.add_argument("--dataset", choices=nnx.datasets.names(), help="use this one and no other")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--limit", type=int, help="train only on this many samples, the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--target", type=float, metavar="PERCENT", help="stop at this test accuracy, with Adam"
    )
    parser.add_argument("--hidden", type=int, nargs="*", default=[100], help="hidden units")
    return parser.parse_args()


def load(name):
    """Load a dataset; without a name MNIST, or scikit-learn's digits if it cannot be had."""
    if name:
        return name, nnx.datasets.load(name)
    try:
        return "mnist", nnx.datasets.load("mnist")
    except nnx.datasets.DatasetNotFoundError:
        print("MNIST is not here and cannot be downloaded; using scikit-learn's 8x8 digits")
        return "digits", nnx.datasets.load("digits")


def build(sizes, optim):
    """Build hidden layers with ReLU, and an output layer with one probability for each digit."""
    layers = [nnx.DenseLayer(ni, no, nnx.ReLU(), optim) for ni, no in pairwise(sizes[:-1])]
    layers.append(nnx.DenseLayer(sizes[-2], sizes[-1], nnx.SoftMax(), optim))
    return nnx.SequentialNet(sizes[0], layers, cost=nnx.CrossEntropy())


def main():
    args = arguments()
    backend = nnx.set_backend(args.backend, dtype=args.dtype)
    nnx.seed(args.seed)

    name, (x_train, y_train, x_test, y_test) = load(args.dataset)
    x_train, y_train = x_train[: args.limit], y_train[: args.limit]
    print(f"{name}: {len(x_train)} digits for training, {len(x_test)} for the test")
    where = f"{backend.name} {backend.version}, {backend.device_name()}, {backend.dtype_name}"
    print(f"backend {where}")

    sizes, callbacks = [x_train.shape[1], *args.hidden, 10], []
    if args.target:
        net = build(sizes, nnx.Adam())
        callbacks.append(lambda net, history: 100 * history.validation_accuracy[-1] >= args.target)
    else:  # the learning rate falls from 0.1 to 0 along half a cosine, step by step
        steps = args.epochs * -(-len(x_train) // args.batch_size)
        net = build(sizes, nnx.SGD(nnx.CosineSchedule(0.1, steps)))
    start = time.perf_counter()
    net.train(
        *(x_train, y_train, args.batch_size, args.epochs),
        validation=(x_test, y_test),
        callbacks=callbacks,
    )
    print(f"trained in {time.perf_counter() - start:.1f} s")
    print(f"test accuracy {100 * net.score(x_test, y_test).accuracy:.2f} %")


if __name__ == "__main__":
    main()
