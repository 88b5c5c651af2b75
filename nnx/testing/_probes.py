"""What a check looks at: for each kind of thing a generator of the quantities that it computes.

A probe runs on one backend and yields `Quantity`s and `Claim`s. The others are compared with the
same probe on NumPy in float64. It gets its arrays from `Inputs`, the same numbers everywhere.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nnx.activations import Activation
from nnx.backend import Array, Backend
from nnx.data import batches, checked_samples
from nnx.initializers import Initializer
from nnx.layers import Layer
from nnx.losses import Loss
from nnx.networks import SequentialNet
from nnx.optimizers import Optimizer
from nnx.randomness import generator
from nnx.regularizers import Regularizer

__all__ = ["PROBES", "Claim", "Inputs", "Probe", "Quantity"]

CLOSE, BITS, TRAINING = "close", "bits", "training"
OPTIMIZER_STEPS = 20
BATCH = 10


class Quantity(NamedTuple):
    """An array that a thing computes.

    Attributes:
        terms: a bound on the length of the sums in it, 0 if every entry is computed by itself.
        how: what it must be. CLOSE: near NumPy's in float64. BITS: those of NumPy in the same
            dtype. TRAINING: near the losses of NumPy's training in float64.
    """

    name: str
    array: Array
    terms: int = 0
    how: str = CLOSE


class Claim(NamedTuple):
    """What must hold on a backend by itself, without comparison."""

    name: str
    holds: bool
    expected: str
    given: str
    hint: str


class Inputs:
    """The arrays of one run: `x` and `y` if the user gave them, and draws from the seed.

    All are rounded to the dtype that is checked, also for the reference in float64, so that
    differences do not contain the rounding of the inputs.
    """

    def __init__(self, backend: Backend, dtype: str, seed: int, x: Any, y: Any, steps: int) -> None:
        self.backend, self.steps = backend, steps
        self._dtype = dtype
        self._rng = np.random.default_rng(seed)
        self._watched: list[tuple[Array, np.ndarray]] = []
        self.x = None if x is None else self.array(x)
        self.y = None if y is None else self.array(y)

    def array(self, data: Any, watch: bool = True) -> Array:
        """Return an array of the backend; if watched, it must keep its values to the end."""
        host = np.array(data)
        if host.dtype.kind == "f":
            host = host.astype(self._dtype)
        array = self.backend.asarray(host.copy())
        if watch:
            self._watched.append((array, host))
        return array

    def normal(self, *shape: int, scale: float = 1.0, watch: bool = True) -> Array:
        """Return normal numbers of that standard deviation."""
        return self.array(scale * self._rng.standard_normal(shape), watch)

    def rows(self, samples: int, classes: int) -> np.ndarray:
        """Return distributions on the host, without entries near 0 or 1, which every loss takes."""
        weights = self._rng.uniform(0.2, 1.0, (samples, classes))
        return weights / weights.sum(axis=1, keepdims=True)

    def classes(self, shape: tuple[int, ...], classes: int) -> np.ndarray:
        """Return class indices on the host."""
        return self._rng.integers(0, max(classes, 2), shape)

    def left_alone(self) -> Claim:
        """Return the claim that nothing wrote to a watched array."""
        kept = all(
            np.array_equal(self.backend.to_numpy(array), host) for array, host in self._watched
        )
        return Claim(
            "arguments",
            kept,
            "left as they were",
            "written to",
            "an operation in place (+=, x[i] = v) on an array that the function did not make",
        )


Probe = Callable[[Any, Inputs], Iterator[Quantity | Claim]]


def activation(phi: Activation, inputs: Inputs) -> Iterator[Quantity | Claim]:
    """Yield value and backward, at 0 and from small numbers to large ones."""
    x = inputs.x
    if x is None:
        host = 3.0 * np.random.default_rng(1).standard_normal((8, 6))
        host[0] = [0.0, 1e-3, -1e-3, 20.0, -20.0, 0.3]
        x = inputs.array(host)
    y, backward = phi.forward(x)
    yield Quantity("value", y)
    yield Quantity("gradient of x", backward(inputs.normal(*y.shape)))


def loss(cost: Loss, inputs: Inputs) -> Iterator[Quantity | Claim]:
    """Yield value and gradient for given targets, else class indices and rows; weighted too."""
    a = inputs.array(inputs.rows(8, 6)) if inputs.x is None else inputs.x
    if inputs.y is None:
        labels = inputs.classes((a.shape[0],), a.shape[-1])
        hot = (labels[:, None] == np.arange(a.shape[-1])).astype(float)
        targets = {" of classes": inputs.array(labels), " of rows": inputs.array(hot)}
    else:
        targets = {"": inputs.y}
    weights = inputs.array(1.0 + 0.25 * np.arange(a.shape[0]))
    terms = int(np.prod(a.shape))
    for which, y in targets.items():
        yield Quantity(f"value{which}", cost.value(a, y), terms)
        yield Quantity(f"gradient{which}", cost.gradient(a, y), a.shape[-1])
        yield Quantity(f"weighted value{which}", cost.value(a, y, weights), terms)
        yield Quantity(f"weighted gradient{which}", cost.gradient(a, y, weights), a.shape[-1])


def regularizer(penalty: Regularizer, inputs: Inputs) -> Iterator[Quantity | Claim]:
    """Yield value, gradient, and the gradient added to another."""
    p = inputs.normal(5, 4) if inputs.x is None else inputs.x
    terms = int(np.prod(p.shape))
    yield Quantity("value", penalty.value(p), terms)
    yield Quantity("gradient", penalty.gradient(p), terms)
    yield Quantity("update", penalty.update(p, inputs.normal(*p.shape)), terms)


def initializer(initial: Initializer, inputs: Inputs) -> Iterator[Quantity | Claim]:
    """Yield the bits of a matrix and of filters."""
    yield Quantity("weights of wfun(6, 5)", initial.wfun(6, 5), how=BITS)
    yield Quantity("weights of filters((4, 3, 3, 3))", initial.filters((4, 3, 3, 3)), how=BITS)


def optimizer(rule: Optimizer, inputs: Inputs) -> Iterator[Quantity | Claim]:
    """Yield the parameters after some steps, and the state at the end.

    Claim that the state changes, and that a step depends on nothing but the state. All backends
    share such a defect, so a comparison does not show it.
    """
    rule, fresh, backend = rule.clone(), rule.clone(), inputs.backend
    shapes = ((4, 3), (5,))
    p = [inputs.normal(*shape, watch=False) for shape in shapes]
    first = [[backend.to_numpy(s).copy() for s in rule.init(q)] for q in p]
    for t in range(1, OPTIMIZER_STEPS + 1):
        p = rule.update(p, [inputs.normal(*shape) for shape in shapes])
        if t in (1, 2, OPTIMIZER_STEPS):
            for i, array in enumerate(p, start=1):
                yield Quantity(f"parameter {i} after step {t}", array, t)
    for i, state in enumerate(rule.state or (), start=1):
        for j, now in enumerate(state, start=1):
            name = f"state {j} of parameter {i}"
            yield Quantity(name, now, OPTIMIZER_STEPS)
            yield Claim(
                f"change of {name}",
                not np.array_equal(backend.to_numpy(now), first[i - 1][j - 1]),
                "other numbers than before the first step",
                f"the same after {OPTIMIZER_STEPS} steps",
                "a rule that returns the state it was given: v = gamma * v + g makes a new array, "
                "and `state` still holds the old one",
            )
    yield _resumed(rule, fresh, p, inputs)


def _resumed(rule: Optimizer, twin: Optimizer, p: list[Array], inputs: Inputs) -> Claim:
    """Claim that five more steps are the same for a twin that loaded what this one saved."""
    backend, given = inputs.backend, "other bits"
    q = [backend.asarray(backend.to_numpy(array).copy()) for array in p]
    try:
        twin.load_state_dict(rule.state_dict(), backend)
        for _ in range(5):
            gradients = [inputs.normal(*array.shape) for array in p]
            p, q = rule.update(p, gradients), twin.update(q, gradients)
        same = all(map(np.array_equal, map(backend.to_numpy, p), map(backend.to_numpy, q)))
    except Exception as error:
        same, given = False, f"{type(error).__name__}: {error}"
    return Claim(
        "training resumed",
        same,
        "the bits of the training that was not interrupted",
        given,
        "a value that steps depend on and that is neither in `state` nor a hyper-parameter; an "
        "argument of the constructor that is not kept under its name",
    )


def layer(of: Layer, inputs: Inputs) -> Iterator[Quantity | Claim]:
    """Yield initial weights, the value, and value, gradients, buffers and a step in training."""
    if inputs.x is None:
        raise ValueError(f"{type(of).__name__}: pass x, inputs of the layer, (samples, ...)")
    for name, p in of.parameters.items():
        yield Quantity(f"initial {name}", p, how=BITS)
    terms = int(np.prod(inputs.x.shape))
    yield Quantity("value", of.forward(inputs.x)[0], terms)
    y = of.evaluate(inputs.x, training=True)
    yield Quantity("value in training", y, terms)
    dx = of.backprop(inputs.normal(*y.shape))
    if dx is not None:
        yield Quantity("gradient of x", dx, terms)
    for name, gradient in of.gradients.items():
        yield Quantity(f"gradient of {name}", gradient, terms)
    for name, buffer in of.buffers.items():
        yield Quantity(f"{name} after training", buffer, terms)
    of.update()
    for name, p in of.parameters.items():
        yield Quantity(f"{name} after a step", p, terms)


def network(net: SequentialNet, inputs: Inputs) -> Iterator[Quantity | Claim]:
    """Yield initial weights, outputs, gradients, losses of the first steps, order of batches."""
    xp = inputs.backend.xp
    layers = list(enumerate(net.layers, start=1))
    for n, of in layers:
        for name, p in of.parameters.items():
            yield Quantity(f"initial {name} of layer {n}", p, how=BITS)
    if inputs.x is None and None in net.input_shape:
        raise ValueError(
            f"{net.name}: expected x for a network with input shape {net.input_shape}, got none; "
            "pass x, inputs (samples, ...) whose axes have the lengths to check"
        )
    x = inputs.normal(200, *net.input_shape) if inputs.x is None else inputs.x
    y = inputs.y
    if y is None:
        *rows, outputs = net.shapes(tuple(x.shape[1:]), "each sample of x is")[-1]
        y = inputs.array(inputs.classes((x.shape[0], *rows), outputs))
    ((x, y),) = checked_samples(net, x, y)

    few = x[: min(BATCH, x.shape[0]), ...]
    terms = int(np.prod(few.shape)) * len(layers)
    a = net.evaluate(few)
    yield Quantity("value", a, terms)
    dx = net.backprop(inputs.normal(*a.shape))
    if dx is not None:
        yield Quantity("gradient of x", dx, terms)
    for n, of in layers:
        for name, gradient in of.gradients.items():
            yield Quantity(f"gradient of {name} of layer {n}", gradient, terms)

    cost, losses = net.plan().loss, []
    for batch in itertools.islice(_batches(inputs.backend, x.shape[0]), inputs.steps):
        xb, yb = xp.take(x, batch, axis=0), xp.take(y, batch, axis=0)
        losses.append(cost.value(net.step(xb, yb), yb))
    yield Quantity(f"losses of the first {inputs.steps} steps", xp.stack(losses), how=TRAINING)

    recorder, twin = _Recorder(), copy.copy(net)
    twin.layers = [recorder, *net.layers]
    history = twin.train(x, y, min(BATCH, x.shape[0]), 1, progress=False)
    yield Quantity("batches of an epoch", xp.concat(recorder.seen, axis=0), how=BITS)
    yield Quantity("loss of an epoch", inputs.backend.asarray(history.loss), how=TRAINING)


def _batches(backend: Backend, samples: int) -> Iterator[Array]:
    """Yield the indices of every batch, epoch after epoch, as training draws them."""
    while True:
        order = backend.asarray(generator("batches").permutation(samples))
        for batch in batches(samples, BATCH):
            yield order[batch]


class _Recorder(Layer):
    """Passes its input on and keeps it in training."""

    traceable = False

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Array] = []

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Any]:
        if training:
            self.seen.append(x)
        return x, lambda delta: (delta, {})

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape


PROBES: dict[type, Probe] = {
    Activation: activation,
    Initializer: initializer,
    SequentialNet: network,
    Layer: layer,
    Loss: loss,
    Optimizer: optimizer,
    Regularizer: regularizer,
}
