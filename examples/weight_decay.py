"""Experiment 3: what L2 and momentum do to one weight, by hand and by the library.

python examples/weight_decay.py

The computation by hand is exact: it uses fractions. W0 is the weight, g0, g1, g2 are the gradients
of the loss in the three steps, e is the learning rate, l the factor of L2, c the momentum. The
library computes in float64, so the difference between the two is its rounding.
"""

import argparse
from fractions import Fraction
from math import isqrt
from pathlib import Path

from _common import report, save, start

import nnx
from nnx import plotting

W0 = Fraction(1)
G = [Fraction(1, 2), Fraction(1, 4), Fraction(3, 4)]
E, L, C = Fraction(1, 10), Fraction(1, 5), Fraction(9, 10)
BETA1, BETA2, EPS = Fraction(9, 10), Fraction(999, 1000), Fraction(1, 10**8)


def sgd_with_l2(n):
    """W <- W - e (g + l W): the weight decays, and so does the effect of old gradients."""
    keep = 1 - L * E
    return W0 * keep**n - E * sum(G[i] * keep ** (n - 1 - i) for i in range(n))


def momentum(n):
    """v <- c v + g, W <- W - e v: the effect of a gradient grows like 1 + c + c^2 + ..."""
    return W0 - E * sum(G[i] * sum(C**j for j in range(n - i)) for i in range(n))


def adam(n, l2=0, decay=0):
    """Adam, with an L2 penalty in the gradient, or with the separate decay of AdamW."""
    W, m, v = W0, 0, 0
    for t, gradient in enumerate(G[:n], start=1):
        g = gradient + l2 * W
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g**2
        step = m / (1 - BETA1**t) / (root(v / (1 - BETA2**t)) + EPS)
        W = W - E * (step + decay * W)
    return W


def root(x):
    """Return the square root to 50 digits; that of g^2 in the first step is exact."""
    return Fraction(isqrt(x.numerator * 10**100 // x.denominator), 10**50)


def by_library(optimizer, gradients, regularizer=None, start=W0):
    """Return the weight after each step."""
    asarray = nnx.get_backend().asarray
    W, weights = asarray([float(start)]), []
    for g in gradients:
        dW = asarray([float(g)])
        if regularizer:
            dW = regularizer.update(W, dW)
        (W,) = optimizer.update([W], [dW])
        weights.append(float(W[0]))
    return weights


def main():
    parser = argparse.ArgumentParser(description="L2 and momentum by hand and by the library.")
    parser.add_argument("--backend", help="numpy (default), cupy, torch, jax, strict; in float64")
    parser.add_argument("--out", type=Path, default="out", help="folder of the CSV and PNG files")
    args = parser.parse_args()
    start(args.backend, "float64", args.out)
    e, c, decay = float(E), float(C), float(L)
    L2 = nnx.L2Regularizer

    rules = {
        "SGD with L2": (sgd_with_l2, nnx.SGD(e), L2(decay)),
        "SGD with momentum": (momentum, nnx.SGD(e, momentum=c), None),
        "Adam": (adam, nnx.Adam(e), None),
        "Adam with L2": (lambda n: adam(n, l2=L), nnx.Adam(e), L2(decay)),
        "AdamW": (lambda n: adam(n, decay=L), nnx.AdamW(e, weight_decay=decay), None),
    }
    rows = []
    for name, (by_hand, optimizer, regularizer) in rules.items():
        for step, W in enumerate(by_library(optimizer, G, regularizer), start=1):
            exact = by_hand(step)
            rows.append(
                {
                    "rule": name,
                    "step": step,
                    "exactly": str(exact) if exact.denominator < 10**7 else "",
                    "by hand": f"{float(exact):.11f}",
                    "library": f"{W:.11f}",
                    "difference": f"{float(Fraction(W) - exact):8.1e}",
                }
            )
    report("One weight after each step", rows, args.out / "weight_decay.csv")

    # With an L2 penalty Adam divides l W by the size of the gradient, as it divides g: the first
    # step is eta for every l. AdamW does not divide the decay: its first step is eta (1 + l W0).
    rows = []
    for factor in (0.0, 0.005, 0.05, 0.5):
        (with_l2,) = by_library(nnx.Adam(e), G[:1], L2(factor))
        (with_decay,) = by_library(nnx.AdamW(e, weight_decay=factor), G[:1])
        steps = {"Adam with L2": (1 - with_l2) / e, "AdamW": (1 - with_decay) / e}
        rows.append({"l": str(factor)} | {name: f"{step:.8f}" for name, step in steps.items()})
    report("The first step, in units of eta", rows, args.out / "weight_decay_first_step.csv")

    # The picture: the effect of one gradient over time, and how fast weights of two kinds decay.
    pulse = [-1, *[0] * 39]
    after_one = {
        "SGD with momentum": by_library(nnx.SGD(e, momentum=c), pulse, start=0),
        "SGD": by_library(nnx.SGD(e), pulse, start=0),
        "SGD with L2": by_library(nnx.SGD(e), pulse, L2(decay), start=0),
    }
    decaying = {}
    for g in (2, 0.5):
        signs = [g, -g] * 20
        decaying[f"AdamW, g = {g}"] = by_library(nnx.AdamW(e, weight_decay=decay), signs)
        decaying[f"Adam with L2, g = {g}"] = by_library(nnx.Adam(e), signs, L2(decay))
    panels = {"From 0, gradients -1, 0, 0, 0, ...": after_one}
    panels["From 1, gradients g, -g, g, -g, ..."] = decaying
    labels = {"xlabel": "step", "ylabel": "weight"}
    figure = plotting.plot_curves(panels, **labels, share_y=False, percent=False)
    save(figure, args.out / "weight_decay.png")


if __name__ == "__main__":
    main()
