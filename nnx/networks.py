"""The sequential network: a list of layers and a loss."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnx import training
from nnx.activations import Activation, Linear, Logistic, SoftMax
from nnx.backend import Array, Backend, BackendError, get_backend, resolve, working_on
from nnx.data import as_inputs, batches, check_batch_size, is_classification
from nnx.layers.base import AffineLayer, Gradients, Layer, ShapeError, gradient_of, step
from nnx.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    LogisticCrossEntropy,
    Loss,
    QuadraticCost,
    SoftMaxCrossEntropy,
)
from nnx.optimizers import Optimizer

__all__ = ["SequentialNet"]

Backward = Callable[..., tuple[Array, list[Gradients]]]

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


class Objective(NamedTuple):
    """What training minimises: the layers' forwards, a loss, and what is left to do for outputs.

    Where the loss is fused with the last activation, the last forward stops before it.
    """

    forwards: list[Callable[..., Any]]
    loss: Loss
    afun: Activation


class SequentialNet:
    """Layers one after another, and the loss that training minimises.

    Args:
        input_shape: number of input features, or the shape of one sample.
        layers: the layers, in order.
        cost: the loss; QuadraticCost() if not given.
        optim: one optimizer for all parameters, instead of the layers' own; the network takes a
            clone of it.

    Raises:
        ShapeError: a layer does not take what the one before it gives.
        BackendError: the layers were not all born on one backend.
        ValueError: there is no layer, or one stands in the list twice.
    """

    def __init__(
        self,
        input_shape: int | tuple[int, ...],
        layers: Iterable[Layer],
        cost: Loss | None = None,
        optim: Optimizer | None = None,
    ) -> None:
        if isinstance(input_shape, tuple):
            self.input_shape = input_shape
        else:
            self.input_shape = (operator.index(input_shape),)
        self.layers = list(layers)
        self.cost = cost or QuadraticCost()
        if not isinstance(self.cost, Loss):
            raise TypeError(f"SequentialNet: expected a loss such as CrossEntropy(), got {cost!r}")
        self.optim = optim and optim.clone()
        self.output_shape = _check_shapes(self.input_shape, self.layers)
        self.backend = _common_backend(self.layers)
        self._backward: Backward | None = None

    # The mathematics.

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The outputs and their backward, delta -> (dx, the layers' gradients in order)."""
        return self._chain([layer.forward for layer in self.layers], x, training)

    def objective(self) -> Objective:
        """What training minimises, the loss fused with the last activation where they cancel."""
        forwards: list[Callable[..., Any]] = [layer.forward for layer in self.layers]
        last = self.layers[-1]
        if isinstance(last, AffineLayer):
            fuse = FUSED.get((type(self.cost), type(last.afun)))
            if fuse is not None:
                forwards[-1] = last.preactivation
                return Objective(forwards, fuse(self.cost, last.afun), last.afun)
        return Objective(forwards, self.cost, Linear())

    def step(self, objective: Objective, x: Array, y: Array, *weights: Array) -> Array:
        """One training step on a batch of the backend's arrays; nothing is read back.

        The batch is inputs, targets and, where the samples have them, their weights.

        Returns the outputs of the last forward of the objective, before the step.
        """
        a, backward = self._chain(objective.forwards, x, training=True)
        _, gradients = backward(objective.loss.gradient(a, y, *weights), need_dx=False)
        for layer, of_layer in zip(self.layers, gradients, strict=True):
            layer.regularize(of_layer)
        self._apply(gradients)
        return a

    def penalty(self) -> Array | float:
        """The sum of the layers' penalties."""
        return sum((layer.penalty() for layer in self.layers), start=0.0)

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
        for layer, of_layer in zip(self.layers, gradients, strict=True):
            layer.gradients = layer.regularize(of_layer)
        return dx

    def update(self) -> None:
        """Let the optimizers act with the gradients of the last `backprop`."""
        if not any(layer.gradients for layer in self.layers):
            raise RuntimeError("SequentialNet.update: call evaluate(x) and backprop(delta) first")
        self._apply([layer.gradients for layer in self.layers])

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
        twin.layers = [layer.to(target) for layer in self.layers]
        twin.optim = self.optim and self.optim.move(lambda a: target.copy_of(a, self.backend))
        twin.backend = target
        twin._backward = None
        return twin

    def __repr__(self) -> str:
        lines = "".join(f"\n    {layer!r}," for layer in self.layers)
        return f"SequentialNet({self.input_shape}, [{lines}\n], cost={self.cost!r})"

    def _chain(
        self, forwards: list[Callable[..., Any]], x: Array, training: bool
    ) -> tuple[Array, Backward]:
        backwards = []
        for forward in forwards:
            x, backward = forward(x, training)
            backwards.append(backward)

        def chain_backward(delta: Array, need_dx: bool = True) -> tuple[Array, list[Gradients]]:
            gradients = []
            for backward in backwards[:0:-1]:
                delta, of_layer = backward(delta)
                gradients.append(of_layer)
            skip = {"need_dx": False} if not need_dx and self.layers[0].can_skip_dx else {}
            delta, of_layer = backwards[0](delta, **skip)
            gradients.append(of_layer)
            return delta, gradients[::-1]

        return x, chain_backward

    def _apply(self, gradients: list[Gradients]) -> None:
        if self.optim is None:
            for layer, of_layer in zip(self.layers, gradients, strict=True):
                if layer.parameters:
                    layer.parameters = step(layer, layer.optim, of_layer)
            return
        pairs = list(zip(self.layers, gradients, strict=True))
        keys = [(layer, of_layer, name) for layer, of_layer in pairs for name in layer.parameters]
        updated = self.optim.update(
            [layer.parameters[name] for layer, _, name in keys],
            [gradient_of(layer, of_layer, name) for layer, of_layer, name in keys],
        )
        for (layer, _, name), p in zip(keys, updated, strict=True):
            layer.parameters[name] = p


def _check_shapes(shape: tuple[int, ...], layers: list[Layer]) -> tuple[int, ...]:
    if not layers:
        raise ValueError("SequentialNet: expected at least one layer, got none")
    source = "the network's input is"
    for number, layer in enumerate(layers, start=1):
        if not isinstance(layer, Layer):
            raise TypeError(f"SequentialNet: layer {number} is no Layer but {layer!r}")
        if any(layer is other for other in layers[: number - 1]):
            raise ValueError(
                f"SequentialNet: layer {number} ({layer.name}) stands in the list twice; "
                "make a second one"
            )
        try:
            shape = layer.output_shape(shape)
        except ShapeError as error:
            raise ShapeError(f"layer {number} ({layer.name}) {error}; {source} {shape}") from None
        source = f"layer {number} ({layer.name}) gives"
    return shape


def _common_backend(layers: list[Layer]) -> Backend:
    backend = layers[0].backend if layers else get_backend()
    for number, layer in enumerate(layers, start=1):
        if not layer.backend.same_place(backend):
            raise BackendError(
                f"layer 1 ({layers[0].name}) was born on {backend}, "
                f"layer {number} ({layer.name}) on {layer.backend}",
                "make all layers of a network under one nnx.set_backend(...)",
            )
    return backend
