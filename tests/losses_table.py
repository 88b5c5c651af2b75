"""The losses that the tests run through, and the numbers that PyTorch has for them.

`fixtures/losses.json` is written by `fixtures/make_losses.py`.
"""

import json
from pathlib import Path

import numpy as np

import nnx

FILE = Path(__file__).parent / "fixtures" / "losses.json"

# class -> what its outputs are, what its target rows are
LOSSES = {
    "QuadraticCost": ("numbers", "numbers"),
    "MeanSquaredError": ("numbers", "numbers"),
    "MeanAbsoluteError": ("numbers", "numbers"),
    "Huber": ("numbers", "numbers"),
    "CrossEntropy": ("distributions", "distributions"),
    "SoftMaxCrossEntropy": ("numbers", "distributions"),
    "BinaryCrossEntropy": ("fractions", "fractions"),
    "LogisticCrossEntropy": ("numbers", "fractions"),
    "Hinge": ("numbers", "one-hot"),
    "KullbackLeibler": ("distributions", "distributions"),
}
WITH_SMOOTHING = [
    "CrossEntropy",
    "SoftMaxCrossEntropy",
    "BinaryCrossEntropy",
    "LogisticCrossEntropy",
]
WITH_CLASS_WEIGHTS = [*WITH_SMOOTHING, "Hinge"]
BINARY = ["BinaryCrossEntropy", "LogisticCrossEntropy"]


def make(name, **arguments):
    return getattr(nnx, name)(**arguments)


def draw(kind, rng, shape):
    """Numbers of one kind, float64, with few digits."""
    if kind == "numbers":
        numbers = np.round(2.0 * rng.standard_normal(shape), 3)
        return np.where(numbers == 0.0, 0.001, numbers)  # |a| has no derivative at 0
    if kind == "fractions":
        return rng.integers(1, 64, shape) / 64.0
    if kind == "one-hot":
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]
    counts = rng.multinomial(64 - shape[-1], np.full(shape[-1], 1.0 / shape[-1]), shape[:-1])
    return (1.0 + counts) / 64.0


def classes_of(name, shape):
    """How many class weights such outputs take."""
    return 2 if name in BINARY or shape[-1] == 1 else shape[-1]


def recorded():
    """Cases: name, arguments, a, y (rows or indices), weights or None, value, gradient."""
    cases = json.loads(FILE.read_text())
    for case in cases:
        for key in ("a", "y", "weights", "gradient"):
            case[key] = None if case[key] is None else np.array(case[key])
    return cases


def label(case):
    """What a test of the case is called."""
    extras = ", ".join(f"{name}={value}" for name, value in case["arguments"].items())
    parts = [case["name"], extras, "x".join(map(str, case["a"].shape)), f"y {case['y'].ndim}-d"]
    return " ".join(filter(None, [*parts, "weighted" if case["weights"] is not None else ""]))
