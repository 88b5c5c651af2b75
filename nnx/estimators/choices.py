"""What the arguments of an estimator mean: names become objects, and a network is built."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from nnx import activations, initializers, losses, optimizers
from nnx.activations import Activation, Linear
from nnx.checks import ShapeError, count, flag, instance, number
from nnx.config import is_own
from nnx.initializers import Initializer
from nnx.layers import BatchNormLayer, DenseLayer, DropoutLayer, FlattenLayer
from nnx.layers.base import Layer
from nnx.layers.container import SequentialLayer, as_layers
from nnx.losses import Loss
from nnx.networks import SequentialNet
from nnx.optimizers import Optimizer
from nnx.regularizers import L2Regularizer, Regularizer
from nnx.schedules import Schedule
from nnx.synonyms import CLASSES

__all__ = ["built", "named"]

# Names of scikit-learn and others, as `_key` writes them -> those of nnx.
ELSEWHERE = CLASSES | {
    "absoluteerror": "MeanAbsoluteError",
    "identity": "Linear",
    "logloss": "CrossEntropy",
    "quadratic": "QuadraticCost",
    "squarederror": "MeanSquaredError",
}
# Of each kind an example, and the room of its classes.
KINDS: dict[type, tuple[str, Any]] = {
    Activation: ("ReLU()", activations),
    Initializer: ("HeNormal()", initializers),
    Loss: ("CrossEntropy()", losses),
    Optimizer: ("Adam()", optimizers),
}


def named(owner: str, name: str, value: Any, kind: type) -> Any:
    """Return an object of a kind, from the object itself or from its name: "relu", "adam".

    Raises:
        ValueError: no class has this name; the message lists those that there are.
        TypeError: neither a name nor such an object.
    """
    example, room = KINDS[kind]
    if not isinstance(value, str):
        return instance(owner, name, value, kind, f"nnx.{example} or its name")
    things = {thing: getattr(room, thing) for thing in room.__all__}
    known = {_key(thing): c for thing, c in things.items() if _is_concrete(c, kind)}
    key = _key(value)
    found = known.get(key) or known.get(_key(ELSEWHERE.get(key, "")))
    if found is None:
        names = ", ".join(sorted({c.__name__ for c in known.values()}))
        like = [known[one].__name__ for one in difflib.get_close_matches(key, known, n=1)]
        raise ValueError(
            f"{owner}: expected {name} to be an object such as nnx.{example}, or one of the "
            f"names {names}, got {value!r}; {f'did you mean {like[0]}?' if like else 'choose one'}"
        )
    return found()


def built(
    estimator: Any,
    input_shape: tuple[int, ...],
    outputs: int,
    last: Activation,
    costs: Sequence[Loss],
) -> SequentialNet:
    """Return the network that an estimator's arguments describe, with new initial weights.

    Args:
        estimator: with the arguments.
        input_shape: that of a sample.
        outputs: how many there should be.
        last: the last activation of a network that is made from `hidden`.
        costs: losses of which the first is taken that goes with the last activation, if the
            estimator has none of its own.

    Raises:
        ShapeError: `layers` end with another number of outputs.
        TypeError, ValueError: an argument does not fit.
    """
    owner, loss = type(estimator).__name__, estimator.loss
    if loss is not None:
        costs = [named(owner, "loss", loss, Loss)]
    if estimator.layers is None:
        if not _suits(costs[0], last, outputs):
            last = Linear()
        layers = _hidden(estimator, input_shape, outputs, last)
    else:
        layers = _own(estimator, input_shape, outputs)
    chain = SequentialLayer(layers)
    shape = chain.shapes(input_shape, "a sample of X is")[-1]
    if shape != (outputs,) and not (shape == (1,) and outputs == 2 and last.distribution):
        raise ShapeError(
            f"{owner}: expected layers that end with {outputs} outputs, as y needs them, got "
            f"{shape} for a sample; end with DenseLayer(..., {outputs})"
        )
    afuns = chain.last_activations() or []
    fitting = [cost for cost in costs if all(_suits(cost, a, shape[-1]) for a in afuns)]
    optim = estimator.optimizer
    if optim is not None:
        optim = named(owner, "optimizer", optim, Optimizer).clone()
        if estimator.learning_rate is not None:
            optim.eta = Schedule.accept(owner, "learning_rate", estimator.learning_rate)
    return SequentialNet(input_shape, layers, (fitting or costs)[0], optim)


def _hidden(
    estimator: Any, input_shape: tuple[int, ...], outputs: int, last: Activation
) -> list[Layer]:
    """Return dense layers of the given sizes."""
    owner, sizes = type(estimator).__name__, estimator.hidden
    sizes = sizes if isinstance(sizes, list | tuple) else (sizes,)
    afun = named(owner, "activation", estimator.activation, Activation)
    penalty = estimator.regularizer
    if penalty is not None and not isinstance(penalty, Regularizer):
        penalty = L2Regularizer(number(owner, "regularizer", penalty, ">= 0"))
    rate = number(owner, "dropout", estimator.dropout, "in [0, 1)")
    more: dict[str, Any] = {"kernel_regularizer": penalty}
    if estimator.initializer is not None:
        more["initializer"] = named(owner, "initializer", estimator.initializer, Initializer)
    normalized = flag(owner, "batch_norm", estimator.batch_norm)
    layers: list[Layer] = [FlattenLayer()] if len(input_shape) > 1 else []
    inputs = 1
    for size in input_shape:
        inputs *= size
    for i, size in enumerate(sizes):
        size = count(owner, f"hidden[{i}]", size)
        layers.append(DenseLayer(inputs, size, afun, **more))
        layers += [BatchNormLayer(size)] if normalized else []
        layers += [DropoutLayer(rate)] if rate else []
        inputs = size
    return [*layers, DenseLayer(inputs, outputs, last, **more)]


def _own(estimator: Any, input_shape: tuple[int, ...], outputs: int) -> list[Layer]:
    """Return the user's layers: what the function returns, or clones of those in the list."""
    owner, layers = type(estimator).__name__, estimator.layers
    for name in ("hidden", "activation", "dropout", "batch_norm", "regularizer", "initializer"):
        if getattr(estimator, name) != estimator.default(name):
            raise ValueError(
                f"{owner}: expected either layers or {name}, which describes layers too, got both; "
                "leave one out"
            )
    if callable(layers) and not isinstance(layers, Layer):
        return as_layers(owner, layers(input_shape, (outputs,)))
    return SequentialLayer(layers).clone().layers


def _suits(cost: Loss, afun: Activation, outputs: int) -> bool:
    try:
        cost.check_activation(afun, outputs)
    except ValueError:
        return False
    return True


def _is_concrete(thing: Any, kind: type) -> bool:
    """Return whether this is a class of the kind from which no class of nnx is derived."""
    if not (isinstance(thing, type) and issubclass(thing, kind)):
        return False
    return not any(map(is_own, thing.__subclasses__()))


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace(" ", "")
