"""What the tests of saving share: all that training goes on with, read without nnx.saving."""

import numpy as np

import nnx
from nnx.layers.tree import walk

ARRAYS = ("parameters", "buffers")


def host(array):
    return nnx.to_numpy(array)


def held(layer):
    """All that training goes on with, place by place, as bytes and plain numbers."""
    found, optimizers = {}, {}
    first = {}
    for keys, below in walk(layer):
        found[keys, "layer"] = type(below).__name__, first.setdefault(id(below), len(first))
        if below.optim is not None:
            optimizers.setdefault(id(below.optim), (len(optimizers), below.optim))
            found[keys, "optimizer"] = optimizers[id(below.optim)][0]
        if below.children:
            continue
        found[keys, "frozen"] = below.frozen
        found[keys, "backend"] = below.backend.name, below.backend.dtype_name
        for name in ARRAYS:
            for key, array in getattr(below, name).items():
                found[keys, name, key] = bits(array)
        for key, penalty in below.regularizers.items():
            found[keys, "penalty", key] = repr(penalty)
        for key, state in below.states.items():
            found[keys, "state", key] = state.t, state.kind, [bits(a) for a in state.arrays]
    for number, optim in optimizers.values():
        own = None if optim.state is None else [[bits(a) for a in of] for of in optim.state]
        found["optimizers", number] = repr(optim), optim.t, own
    return found


def bits(array):
    found = host(array)
    return str(found.dtype), found.shape, found.tobytes()


def steps(layer, x, number=1, seed=7):
    """Train by hand, with a gradient that depends on the outputs alone."""
    nnx.seed(seed)
    for _ in range(number):
        y = layer.evaluate(x, training=True)
        layer.backprop(0.1 * y + 0.01)
        layer.update()


def data(features=6, classes=3, samples=24):
    rng = np.random.default_rng(5)
    return rng.standard_normal((samples, features)), rng.integers(0, classes, samples)
