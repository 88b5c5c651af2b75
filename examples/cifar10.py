"""Train a residual network on the photographs of CIFAR-10, on the backend of your choice.

python examples/cifar10.py
python examples/cifar10.py --backend cupy --blocks 3 --batch-size 128 --epochs 60
python examples/cifar10.py --generated --epochs 2    # on generated images: no data is needed

The network standardizes the bytes of its images itself, so that it predicts from bytes, too. In
training it mirrors and shifts them at random. Then come a convolution and three stages of residual
blocks, of 16, 32 and 64 channels: He, Zhang, Ren and Sun, arXiv:1512.03385, section 4.2.
"""

import argparse
import statistics

import numpy as np

import nnx


def arguments():
    parser = argparse.ArgumentParser(description="Train a residual network on CIFAR-10.")
    parser.add_argument("--backend", help="numpy (default), cupy, cupy:1, torch, jax, strict")
    parser.add_argument("--dtype", choices=["float32", "float64"])
    parser.add_argument("--generated", action="store_true", help="train on generated images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--limit", type=int, help="train only on this many samples, the first")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64], help="by stage")
    parser.add_argument("--blocks", type=int, default=1, help="residual blocks in each stage")
    parser.add_argument("--plain", action="store_true", help="train without augmentation")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def load(generated, limit):
    """Load CIFAR-10 as bytes; generate images of that shape if asked to, or if it is not there."""
    if not generated:
        try:
            return "cifar-10", nnx.datasets.load("cifar-10", flat=False, dtype="uint8")
        except nnx.datasets.DatasetNotFoundError:
            print("CIFAR-10 is not here and cannot be downloaded; using generated images")
    x, y = generate((limit or 2000) + 200)
    return "generated", (x[:-200], y[:-200], x[-200:], y[-200:])


def generate(samples):
    """Generate images of ten classes: waves of the class, at random places, under noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, samples)
    down, right = np.mgrid[:32, :32] / 32.0
    waves = 1 + np.arange(10) % 5, 1 + np.arange(10) // 5
    phase = rng.uniform(0, 2 * np.pi, (samples, 3, 1, 1))
    angle = waves[0][y][:, None, None] * right + waves[1][y][:, None, None] * down
    x = 128 + 60 * np.sin(2 * np.pi * angle[:, None] + phase)
    x += 20 * rng.standard_normal(x.shape)
    return np.clip(x, 0, 255).astype(np.uint8), y


def convolution(ni, no, kernel, stride, optim):
    """A convolution without an activation, and a normalization in place of its bias."""
    options = {"stride": stride, "padding": "same", "bias": False}
    return [
        nnx.Conv2DLayer(ni, no, kernel, nnx.Linear(), optim, nnx.HeNormal(), **options),
        nnx.BatchNormLayer(no, optim=optim),
    ]


def block(ni, no, stride, optim):
    """Two convolutions beside a shortcut; one of 1 x 1 if the shape changes."""
    relu = nnx.ActivationLayer(nnx.ReLU())
    path = [*convolution(ni, no, 3, stride, optim), relu, *convolution(no, no, 3, 1, optim)]
    if (ni, stride) == (no, 1):
        return [nnx.ResidualLayer(path), relu]
    return [nnx.ParallelLayer([path, convolution(ni, no, 1, stride, optim)], "sum"), relu]


def build(x, channels, blocks, augmented, eta):
    """Build the network for the images x, from their bytes to ten probabilities."""
    optim = nnx.SGD(eta, momentum=0.9, nesterov=True)
    layers = [nnx.StandardizeLayer(x.shape[1]).fit(x)]
    if augmented:
        layers += [nnx.RandomFlipLayer(), nnx.RandomShiftLayer(4)]
    ni = channels[0]
    layers += [*convolution(x.shape[1], ni, 3, 1, optim), nnx.ActivationLayer(nnx.ReLU())]
    for stage, no in enumerate(channels):
        for number in range(blocks):
            layers += block(ni, no, 2 if stage and not number else 1, optim)
            ni = no
    layers += [nnx.GlobalAvgPoolLayer(), nnx.DenseLayer(ni, 10, nnx.SoftMax(), optim)]
    return nnx.SequentialNet(x.shape[1:], layers, nnx.CrossEntropy())


def main():
    args = arguments()
    backend = nnx.set_backend(args.backend, dtype=args.dtype)
    nnx.seed(args.seed)

    name, (x_train, y_train, x_test, y_test) = load(args.generated, args.limit)
    x_train, y_train = x_train[: args.limit], y_train[: args.limit]
    print(f"{name}: {len(x_train)} images for training, {len(x_test)} for the test")
    where = f"{backend.name} {backend.version}, {backend.device_name()}, {backend.dtype_name}"
    print(f"backend {where}")

    # The learning rate falls from 0.1 to 0 along half a cosine, step by step.
    size = min(args.batch_size, len(x_train))
    steps = args.epochs * -(-len(x_train) // size)
    eta = nnx.CosineSchedule(0.1, steps)
    net = build(x_train, args.channels, args.blocks, not args.plain, eta)
    net.summary()
    history = net.train(x_train, y_train, size, args.epochs, validation=(x_test, y_test))
    seconds = statistics.median(history.seconds)
    accuracy = 100 * net.score(x_test, y_test).accuracy
    print(f"{seconds:.1f} s an epoch, test accuracy {accuracy:.2f} %")


if __name__ == "__main__":
    main()
