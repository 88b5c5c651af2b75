"""The sequential network: a list of layers and a loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from nnx import training
from nnx.activations import (
    AbsLike,
    Activation,
    Exp,
    Linear,
    Logistic,
    LogSigmoid,
    LogSoftmax,
    ReLULike,
    SignLike,
    SoftMax,
)
from nnx.backend import Array, Backend, resolve, working_on
from nnx.data import as_inputs, batches, check_batch_size, is_classification
from nnx.groups import grouped
from nnx.layers.activation import ActivationLayer
from nnx.layers.base import AffineLayer, Backward, Layer, gradient_of
from nnx.layers.container import SequentialLayer
from nnx.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    KullbackLeibler,
    LogisticCrossEntropy,
    Loss,
    QuadraticCost,
    SoftMaxCrossEntropy,
)
from nnx.optimizers import Optimizer
from nnx.steps import Step

__all__ = ["SequentialNet"]

# Where a loss cancels with the output activation, the loss of the preactivation that stands in
# for the two. Each of them alone remains its own exact derivative.
FUSED: dict[tuple[type[Loss], type[Activation]], Callable[[Any, Any], Loss]] = {
    (CrossEntropy, SoftMax): lambda cost, afun: SoftMaxCrossEntropy(
        cost.label_smoothing, cost.class_weights
    ),
    (BinaryCrossEntropy, Logistic): lambda cost, afun: LogisticCrossEntropy(
        cost.label_smoothing, cost.class_weights, afun.k
    ),
}


# What no probabilities come out of.
NO_PROBABILITIES = (AbsLike, Exp, Linear, LogSigmoid, LogSoftmax, ReLULike, SignLike)


class Objective(NamedTuple):
    """What training minimises: the layers' forwards, and a loss of what comes out of them.

    Where the loss is fused with the last activation, the last forward stops before it.
    """

    forwards: list[Callable[..., Any]]
    loss: Loss


class SequentialNet:
    """Layers one after another, and the loss that training minimises.

    Args:
        input_shape: number of input features, or the shape of one sample.
        layers: the layers, in order. A layer that stands in several places is one set of
            parameters; a network stands for its layers.
        cost: the loss; QuadraticCost() if not given.
        optim: one optimizer for all parameters, instead of the layers' own; the network takes a
            clone of it.

    Raises:
        ShapeError: a layer does not take what the one before it gives.
        BackendError: the layers were not all born on one backend.
        ValueError: there is no layer.
    """

    def __init__(
        self,
        input_shape: int | tuple[int, ...],
        layers: Iterable[Layer],
        cost: Loss | None = None,
        optim: Optimizer | None = None,
    ) -> None:
        sizes = input_shape if isinstance(input_shape, tuple | list) else (input_shape,)
        if not all(isinstance(size, Integral) and size > 0 for size in sizes):
            raise ValueError(
                "SequentialNet: expected the number of features or the shape of a sample, such as "
                f"784 or (1, 28, 28), got {input_shape!r}"
            )
        self.input_shape = tuple(map(int, sizes))
        self.layers = list(layers)
        self.cost = cost or QuadraticCost()
        if not isinstance(self.cost, Loss):
            raise TypeError(f"SequentialNet: expected a loss such as CrossEntropy(), got {cost!r}")
        if not isinstance(optim, Optimizer | None):
            raise TypeError(f"SequentialNet: expected an optimizer such as Adam(), got {optim!r}")
        _check_cost(self.cost, self.layers[-1])
        self.optim = optim and optim.clone()
        self._backward: Backward | None = None

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order; those that are assigned are checked as at the beginning."""
        return self.chain.children

    @layers.setter
    def layers(self, layers: list[Layer]) -> None:
        chain = SequentialLayer(layers, name="SequentialNet")
        self.output_shape = chain.shapes(self.input_shape, "the network's input is")[-1]
        self.chain, self.backend = chain, chain.backend

    @property
    def frozen(self) -> bool:
        """Are all layers frozen? To say so is to say it to each of them."""
        return self.chain.frozen

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self.chain.frozen = value

    # The mathematics.

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The outputs and their backward, delta -> (dx, gradients).

        Parameters go by dotted names, "0.W" is W of the first layer.
        """
        return self.chain.forward(x, training)

    def objective(self) -> Objective:
        """What training minimises, the loss fused with the last activation where they cancel."""
        forwards: list[Callable[..., Any]] = [layer.forward for layer in self.layers]
        last = self.layers[-1]
        if isinstance(last, AffineLayer | ActivationLayer):
            fuse = FUSED.get((type(self.cost), type(last.afun)))
            if fuse is not None:
                forwards[-1] = last.preactivation
                return Objective(forwards, fuse(self.cost, last.afun))
        return Objective(forwards, self.cost)

    def step(self, x: Array, y: Array, *weights: Array) -> Array:
        """One training step on a batch of the backend's arrays; nothing is read back.

        Args:
            x: inputs (samples, *input_shape).
            y: targets, class indices or rows.
            weights: of the samples, where they have some.

        Returns:
            The outputs before the step; where the loss is fused with the last activation, those
            of the layer before it: see `objective`.
        """
        return Step(self)(x, y, *weights)

    def penalty(self) -> Array | float:
        """The sum of the layers' penalties."""
        return self.chain.penalty()

    # The classroom interface.

    def evaluate(self, x: Any, training: bool = False) -> Array:
        """The outputs (samples, ...) as an array of the backend; remembers what backprop needs.

        Args:
            x: (samples, *input_shape), NumPy data or an array of the backend.
            training: as in training, for layers to which that matters.
        """
        with working_on(self.backend):
            y, self._backward = self.forward(as_inputs(self.backend, self.input_shape, x), training)
            return y

    def backprop(self, delta: Array) -> Array:
        """The gradient with respect to the x of the last `evaluate`; layers keep theirs."""
        if self._backward is None:
            raise RuntimeError("SequentialNet.backprop: call evaluate(x) first")
        dx, gradients = self._backward(delta)
        self.chain.gradients = self.chain.regularize(gradients)
        return dx

    def update(self) -> None:
        """Let the optimizers act with the gradients of the last `backprop`."""
        slots = self.chain.slots(frozen=False)
        if slots and not self.chain.gradients:
            raise RuntimeError("SequentialNet.update: call evaluate(x) and backprop(delta) first")
        if self.optim is None:
            self.chain.update()
            return
        gradients = [gradient_of(slot.leaf, slot.leaf.gradients, slot.name) for slot in slots]
        for group in grouped(self.backend, self.chain.slots(), self.optim):
            group.update(gradients)

    # The everyday interface.

    def train(
        self,
        x: Any,
        y: Any,
        batch_size: int = 10,
        epochs: int = 1,
        *,
        validation: tuple[Any, Any] | None = None,
        callbacks: Sequence[training.Callback] = (),
        progress: bool = True,
        shuffle: bool = True,
        sample_weights: Any = None,
        rng: np.random.Generator | None = None,
    ) -> training.History:
        """Minimise the loss over batches of the data; the data moves to the device once.

        Args:
            x: (samples, *input_shape), NumPy data or arrays of the backend.
            y: class indices (samples,), or rows (samples, *output_shape).
            batch_size: samples per step; the last step of an epoch takes what is left.
            epochs: passes over the data.
            validation: a pair (x, y) that is scored after every epoch.
            callbacks: called as callback(net, history) after every epoch; one that returns
                True ends the training.
            progress: show a progress bar.
            shuffle: draw a new order for every epoch.
            sample_weights: (samples,), >= 0; how often each sample counts in the loss.
            rng: draw the orders from it, instead of the seeded stream "batches".

        Returns:
            The History; Ctrl-C ends the training with what there is so far.

        Raises:
            NonFiniteLossError: the loss has become infinite or NaN; carries the History.
            ShapeError, ValueError, TypeError: the data does not fit, with what to do.
        """
        with working_on(self.backend):
            return training.train(
                self,
                x,
                y,
                batch_size,
                epochs,
                validation=validation,
                callbacks=callbacks,
                progress=progress,
                shuffle=shuffle,
                sample_weights=sample_weights,
                rng=rng,
            )

    def predict(self, x: Any, batch_size: int = 1024) -> Array:
        """The outputs (samples, ...) as an array of the backend, computed in batches.

        Nothing is remembered. `nnx.to_numpy` brings the result to the host.
        """
        check_batch_size(batch_size)
        with working_on(self.backend):
            x = as_inputs(self.backend, self.input_shape, x)
            outputs = [self.forward(x[batch, ...])[0] for batch in batches(x.shape[0], batch_size)]
            return outputs[0] if len(outputs) == 1 else self.backend.xp.concat(outputs, axis=0)

    def score(self, x: Any, y: Any, batch_size: int = 1024) -> training.Score:
        """The loss, penalties included, and the accuracy on the given data."""
        check_batch_size(batch_size)
        with working_on(self.backend):
            x, y = training.checked(self, x, y)
            classes = is_classification(self.backend, self.output_shape, y)
            return training.score(self, x, y, batch_size, classes)

    def to(self, backend: str | Backend, dtype: str | None = None) -> SequentialNet:
        """The same network on another backend, in the middle of its training; this one stays."""
        if dtype is None and not isinstance(backend, Backend):
            dtype = self.backend.dtype_name
        target = resolve(backend, dtype)
        twin = copy.copy(self)
        twin.chain = self.chain.to(target)
        twin.optim = self.optim and self.optim.move(lambda a: target.copy_of(a, self.backend))
        twin.backend = target
        twin._backward = None
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """All but the closure of the last `evaluate`, which belongs to this very network."""
        return {**vars(self), "_backward": None}

    def summary(self) -> None:
        """Print the layers, the shapes that they give for one sample, how many parameters."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("", "layer", "output shape")
        table.add_column("parameters", justify="right")
        shapes = self.chain.shapes(self.input_shape, "")
        table.add_row("", "input", str(self.input_shape), "")
        for number, (layer, shape) in enumerate(zip(self.layers, shapes, strict=True), start=1):
            name = "" if layer.name == type(layer).__name__ else f"{layer.name} "
            text = f"{name}{layer!r}{', frozen' if layer.frozen else ''}"
            table.add_row(str(number), Text(text), str(shape), f"{_count(layer.parameters):,}")
        console = Console()
        console.print(table)
        trained = [s.leaf.parameters[s.name] for s in self.chain.slots(frozen=False)]
        console.print(
            f"{_count(self.chain.parameters):,} parameters, {_count(trained):,} of them trained",
            highlight=False,
        )

    def __repr__(self) -> str:
        lines = "".join(f"\n    {layer!r}," for layer in self.layers)
        return f"SequentialNet({self.input_shape}, [{lines}\n], cost={self.cost!r})"


def _check_cost(cost: Loss, last: Layer) -> None:
    """Refuse a loss of probabilities on what are none, and a loss of logits on probabilities."""
    if not isinstance(last, AffineLayer | ActivationLayer):
        return
    if isinstance(cost, CrossEntropy | BinaryCrossEntropy | KullbackLeibler):
        if isinstance(last.afun, NO_PROBABILITIES):
            afun, logits = "SoftMax", "SoftMaxCrossEntropy() with Linear()"
            if isinstance(cost, BinaryCrossEntropy):
                afun, logits = "Logistic", "LogisticCrossEntropy() with Linear()"
            raise ValueError(
                f"{type(cost).__name__} takes probabilities, and the last layer ({last.name}) ends "
                f"in {last.afun!r}; give it {afun}(), or the network {logits}"
            )
    elif isinstance(cost, SoftMaxCrossEntropy | LogisticCrossEntropy) and isinstance(
        last.afun, SoftMax | Logistic
    ):
        raise ValueError(
            f"{type(cost).__name__} contains {last.afun!r}, in which the last layer ({last.name}) "
            "ends too; give that Linear(), or the network CrossEntropy() or BinaryCrossEntropy()"
        )


def _count(arrays: Any) -> int:
    """How many numbers there are in arrays."""
    arrays = arrays.values() if isinstance(arrays, dict) else arrays
    return sum(math.prod(array.shape) for array in arrays)
