"""Experiment 2: gradient descent, momentum and Adam, each with and without an L2 penalty.

python examples/regularization.py

The network is 784-100-10 with Logistic in both layers and the quadratic cost. All networks start
from the same random numbers and see the same batches in the same order; only the optimizers and
the penalty differ. AdamW is added: it is the way to combine Adam with weight decay.
"""

import math

import numpy as np
from _common import arguments, draw_digits, load, report, save, start

import nnx
from nnx import plotting

# Optimizers of the hidden and of the output layer. A layer keeps a clone, so no state passes from
# one layer or network to another.
OPTIMIZERS = {
    "SGD(.01)": (nnx.SGD(0.01), nnx.SGD(0.01)),
    "SGD(.01, momentum .9)": (nnx.SGD(0.01, 0.9), nnx.SGD(0.01, 0.9)),
    "Adam(.01), Adam(.001)": (nnx.Adam(0.01), nnx.Adam(0.001)),  # the course's pair
    "Adam(.001)": (nnx.Adam(0.001), nnx.Adam(0.001)),
}
# AdamW(.001) with lambda = .005 takes eta lambda = 5e-6 of a weight in every step. SGD(.01) with
# that L2 penalty takes ten times as much, as lambda = .05 does here.
DECAYING = {
    "AdamW(.001, .005)": (nnx.AdamW(0.001, weight_decay=0.005),) * 2,
    "AdamW(.001, .05)": (nnx.AdamW(0.001, weight_decay=0.05),) * 2,
}


def build(inputs, optimizers, regularizer):
    hidden, output = optimizers
    layers = [
        nnx.DenseLayer(inputs, 100, nnx.Logistic(), hidden, kernel_regularizer=regularizer),
        nnx.DenseLayer(100, 10, nnx.Logistic(), output, kernel_regularizer=regularizer),
    ]
    return nnx.SequentialNet(inputs, layers, cost=nnx.QuadraticCost())


def weights(net):
    """Return all weights, without the biases, as one NumPy array."""
    return np.concatenate([nnx.to_numpy(layer.W).ravel() for layer in net.layers])


def main():
    args = arguments("Optimizers with and without an L2 penalty.")
    start(args.backend, args.dtype, args.out)
    x_train, y_train, x_test, y_test = load(args.dataset, args.limit)

    plain, penalty, decay = "no penalty", "L2(.005)", "decay in AdamW"
    runs = [(name, p, o) for name, o in OPTIMIZERS.items() for p in (plain, penalty)]
    runs += [(name, decay, o) for name, o in DECAYING.items()]
    rows, best_accuracy, best_net = [], -1.0, None
    curves, histograms = {plain: {}, penalty: {}, decay: {}}, {}
    for number, (name, kind, optimizers) in enumerate(runs, start=1):
        print(f"{number} of {len(runs)}: {name}, {kind}")
        nnx.seed(args.seed)
        regularizer = nnx.L2Regularizer(0.005) if kind == penalty else None
        net = build(x_train.shape[1], optimizers, regularizer)
        history = net.train(x_train, y_train, 10, args.epochs, validation=(x_test, y_test))

        accuracy = [100 * a for a in history.validation_accuracy]
        W = weights(net)
        rows.append(
            {
                "optimizer": name,
                "penalty": kind,
                "accuracy": accuracy[-1],
                "best": max(accuracy),
                "loss": history.loss[-1],
                "|W|": math.sqrt(float(W @ W)),
                "seconds": sum(history.seconds),
            }
        )
        curves[kind][name] = accuracy
        histograms.setdefault(name, {})[kind] = W
        if accuracy[-1] > best_accuracy:
            best_accuracy, best_net = accuracy[-1], net

    report(
        "Test accuracy in %; the loss is that of training, penalty included",
        rows,
        args.out / "regularization.csv",
    )
    save(plotting.plot_curves(curves), args.out / "regularization_accuracy.png")
    save(plotting.plot_weights(histograms), args.out / "regularization_weights.png")
    draw_digits(best_net, x_test, y_test, args.out / "regularization_digits.png")


if __name__ == "__main__":
    main()
