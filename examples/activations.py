"""Experiment 1: the same small network with every activation.

python examples/activations.py
python examples/activations.py --only ReLU TanH Exp --epochs 3

The network is 784-100-10 with the same activation in both layers, trained by plain gradient
descent with the quadratic cost. Only the activation differs: all networks start from the same
random numbers and see the same batches in the same order.
"""

import math
import warnings

from _common import arguments, draw_digits, load, report, save, start

import nnx
from nnx import plotting

# The first of each family are the course's.
# fmt: off
FAMILIES = {
    "HeavisideLike": [nnx.Logistic(), nnx.SoftMax(), nnx.Exp(), nnx.HardSigmoid()],
    "SignLike": [nnx.TanH(), nnx.SoftSign(), nnx.HardTanh(), nnx.ArcTan(), nnx.ISRU()],
    "ReLULike": [
        nnx.ReLU(), nnx.LeakyReLU(), nnx.ELU(), nnx.SoftPlus(), nnx.Swish(), nnx.GELU(),
        nnx.GELUTanh(), nnx.SELU(), nnx.CELU(2.0), nnx.Mish(), nnx.HardSwish(), nnx.ReLU6(),
        nnx.ThresholdedReLU(), nnx.Squareplus(),  # and CELU(1) is ELU(1)
    ],
    "AbsLike": [nnx.Abs(), nnx.LOCo(), nnx.Twist(), nnx.SoftAbs()],
    "none": [
        nnx.Linear(), nnx.LogSigmoid(), nnx.LogSoftmax(), nnx.Gaussian(), nnx.Sinusoid(),
        nnx.BentIdentity(), nnx.TanhShrink(), nnx.SoftShrink(), nnx.HardShrink(),
    ],
}
# fmt: on

# The derivative of a step function is 0: no gradient comes back through it, and no weight changes.
# These functions are in the picture, but not in the table.
STEPS = [nnx.Heaviside(), nnx.ModifiedHeaviside(), nnx.Sign()]


def name(afun):
    return type(afun).__name__


def build(inputs, afun):
    """Build inputs-100-10, with the default initial weights: RandnAverage, times `afun.factor`."""
    optim = nnx.SGD(0.01)
    layers = [nnx.DenseLayer(inputs, 100, afun, optim), nnx.DenseLayer(100, 10, afun, optim)]
    return nnx.SequentialNet(inputs, layers, cost=nnx.QuadraticCost())


def learn(net, data, epochs):
    """Train; return the history and a remark. Exp ends in NonFiniteLossError."""
    x_train, y_train, x_test, y_test = data
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # Exp overflows
            history = net.train(x_train, y_train, 10, epochs, validation=(x_test, y_test))
    except nnx.NonFiniteLossError as error:
        return error.history, f"diverged in epoch {error.epoch}"
    # If a digit is hardly ever the answer, its output has died. One answer in ten would be normal.
    guesses = nnx.to_numpy(net.predict(x_test)).argmax(axis=1).tolist()
    missed = [str(digit) for digit in range(10) if guesses.count(digit) < len(guesses) / 100]
    return history, f"misses {' '.join(missed)}" if missed else ""


def main():
    trained = [(family, afun) for family, members in FAMILIES.items() for afun in members]
    names = [name(afun) for _, afun in trained]
    only = {"nargs": "+", "choices": names, "metavar": "NAME", "help": "only these activations"}
    args = arguments("The same network with every activation.", only=only)
    start(args.backend, args.dtype, args.out)
    data = load(args.dataset, args.limit)
    gallery = plotting.plot_activations([*STEPS, *(afun for _, afun in trained)])
    save(gallery, args.out / "activations_gallery.png")

    chosen = [pair for pair in trained if name(pair[1]) in (args.only or names)]
    rows, best_accuracy, best_net = [], -1.0, None
    curves = {family: {} for family in FAMILIES}
    for number, (family, afun) in enumerate(chosen, start=1):
        print(f"{number} of {len(chosen)}: {name(afun)}")
        nnx.seed(args.seed)
        net = build(data[0].shape[1], afun)
        history, remark = learn(net, data, args.epochs)
        accuracy = [100 * a for a in history.validation_accuracy]
        diverged = remark.startswith("diverged")
        rows.append(
            {
                "activation": name(afun),
                "family": family,
                "accuracy": math.nan if diverged else accuracy[-1],
                "best": max(accuracy, default=math.nan),
                "loss": math.nan if diverged else history.loss[-1],
                "seconds": sum(history.seconds),
                "remark": remark,
            }
        )
        if not diverged:
            curves[family][name(afun)] = accuracy
            if accuracy[-1] > best_accuracy:
                best_accuracy, best_net = accuracy[-1], net

    report("One activation in both layers: test accuracy in %", rows, args.out / "activations.csv")
    curves = {family: lines for family, lines in curves.items() if lines}
    save(plotting.plot_curves(curves), args.out / "activations_accuracy.png")
    if best_net:
        draw_digits(best_net, *data[2:], args.out / "activations_digits.png")


if __name__ == "__main__":
    main()
