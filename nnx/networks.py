"""The sequential network: a sequence of layers, the shape of its inputs, and a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from nnx.backend import Array, Backend, working_on
from nnx.checks import count, flag, instance
from nnx.data import (
    as_inputs,
    batches,
    check_batch_size,
    checked_callbacks,
    checked_rng,
    checked_samples,
    checked_validation,
    is_classification,
    warn_of_targets,
)
from nnx.layers.base import Layer
from nnx.layers.container import SequentialLayer
from nnx.layers.tree import Slot, once, slots, walk
from nnx.losses import Loss, QuadraticCost
from nnx.optimizers import Optimizer
from nnx.training import run
from nnx.training.history import History, Score
from nnx.training.plan import Plan

__all__ = ["SequentialNet"]


class SequentialNet(SequentialLayer):
    """Layers one after another, and the loss that training minimises.

    Args:
        input_shape: number of input features, or the shape of one sample. An axis that is None may
            have another length in every batch: (None, 8) for sequences, (1, None, None) for images.
        layers: the layers, in order. A layer that stands in several places is one set of
            parameters; a network in the list is replaced by the sequence of its layers.
        cost: the loss.
        optim: one optimizer for all parameters, instead of the layers' own; the network keeps a
            clone of it.

    Raises:
        ShapeError: a layer does not take what the one before it gives.
        BackendError: the layers were not all born on one backend.
        ValueError: there is no layer, or the loss does not go with the last activation.
    """

    _plan: Plan | None = None

    def __init__(
        self,
        input_shape: int | tuple[int, ...],
        layers: Iterable[Layer],
        cost: Loss = QuadraticCost(),
        optim: Optimizer | None = None,
    ) -> None:
        self.input_shape: tuple[int, ...] = input_shape  # type: ignore[assignment]
        self.cost = cost
        super().__init__(layers)
        self.optim = optim if optim is None else _optimizer(optim).clone()
        self.check()

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        if name == "input_shape":
            value = _shape(value)
        if name == "cost":
            instance(self, name, value, Loss, "CrossEntropy()")
        if name == "optim":
            value = value if value is None else _optimizer(value)
        if name == "optim" and name in vars(self):
            for _, layer in once(self):
                if not layer.children:
                    layer.states = {}
        super().__setattr__(name, value)
        if before is not None and name in ("cost", "layers", "input_shape"):
            try:
                self.check()
            except Exception:
                super().__setattr__(name, before)
                raise

    def check(self) -> tuple[int, ...]:
        """Check that the layers fit together, and that the loss goes with the last activation.

        Returns:
            The shape of one sample's output.

        Raises:
            ShapeError, BackendError, ValueError: they do not; with what to do.
        """
        shape = self.output_shape
        for afun in self.last_activations() or ():
            self.cost.check_activation(afun, shape[-1])
        return shape

    @property
    def output_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of one sample's output."""
        return self.shapes(self.input_shape, "the network's input is")[-1]

    @property
    def chain(self) -> SequentialLayer:
        """The layers as one layer, without input shape and loss."""
        return SequentialLayer(self.layers)

    def as_child(self) -> SequentialLayer:
        """Return the chain of layers, which represents the network inside another one.

        Raises:
            ValueError: the network has an optimizer of its own.
        """
        if self.optim is not None:
            raise ValueError(
                "SequentialNet: a network inside of another one cannot have an optimizer; give it "
                "to its layers, or to the outermost network: SequentialNet(..., optim=...)"
            )
        return self.chain

    def optimized(self, trained: Sequence[Slot]) -> list[tuple[Optimizer, list[int]]]:
        """Return each optimizer with the indices of the parameters that it steps."""
        if self.optim is None:
            return super().optimized(trained)
        return [(self.optim, list(range(len(trained))))] if trained else []

    def plan(self) -> Plan:
        """Return the network's plan of a training step: the last one, or a new one if it is stale.

        Raises:
            ShapeError, BackendError, ValueError: after a change, the layers do not fit together,
                or the loss does not suit the last activation.
        """
        if self._plan is None or self._plan.stale:
            vars(self)["_plan"] = Plan(self, self.cost, self.check(), self._plan)
        return self._plan  # type: ignore[return-value]

    def step(self, x: Array, y: Array, weights: Array | None = None) -> Array:
        """Make one training step with a batch of the backend's arrays; see `Plan.step`."""
        plan = self._plan
        if plan is None or plan.stale:
            plan = self.plan()
        return plan.step(x, y, weights)

    # The interface of the lecture: `evaluate`, then `backprop` and `update` of every layer.

    def evaluate(self, x: Any, training: bool = False) -> Array:
        """Return the outputs (samples, ...) as an array of the backend.

        The network remembers what `backprop` needs.

        Args:
            x: (samples, *input_shape), NumPy data or an array of the backend.
            training: True for layers that act differently in training.
        """
        with working_on(self.backend) as backend:
            self.check_inputs(x)
            x = as_inputs(backend, self.input_shape, x)
            self._input_shape = tuple(x.shape)
            y, self._backward = self.forward(x, training)
            return y

    # The everyday interface.

    def train(
        self,
        x: Any,
        y: Any,
        batch_size: int = 10,
        epochs: int = 1,
        *,
        validation: tuple[Any, ...] | None = None,
        callbacks: Sequence[Callable[[SequentialNet, History], Any]] = (),
        progress: bool = True,
        shuffle: bool = True,
        sample_weights: Any = None,
        rng: np.random.Generator | None = None,
    ) -> History:
        """Minimise the loss over batches of the data; the data moves to the device once.

        Args:
            x: (samples, *input_shape), NumPy data or arrays of the backend.
            y: class indices (samples,), or rows (samples, *output_shape).
            batch_size: samples per step; the last step of an epoch takes what is left.
            epochs: passes over the data.
            validation: (x, y) or (x, y, weights), scored after every epoch.
            callbacks: called as callback(net, history) after every epoch; one that returns
                True ends the training.
            progress: show a progress bar.
            shuffle: draw a new order for every epoch.
            sample_weights: weights >= 0 in the loss: (samples,), or (samples, time) for a loss of
                time steps.
            rng: draw the orders from it, instead of the seeded stream "batches".

        Returns:
            The History; Ctrl-C ends the training with what there is so far.

        Raises:
            NonFiniteLossError: the loss, the validation loss or a parameter has become infinite or
                NaN; carries the History.
            ShapeError, ValueError, TypeError: the data or an argument does not fit, with what to
                do.
        """
        epochs = count("train", "epochs", epochs, least=0)
        progress, shuffle = flag("train", "progress", progress), flag("train", "shuffle", shuffle)
        callbacks, rng = checked_callbacks(callbacks), checked_rng(rng)
        validation = checked_validation(validation)
        with working_on(self.backend):
            data = checked_samples(self, x, y, sample_weights)
            size = check_batch_size(batch_size, data[0].shape[0])
            for samples in {size, data[0].shape[0] % size} - {0}:
                self.check_batch(self.input_shape, samples)
            warn_of_targets(self, data[1])
            valid = validation and checked_samples(self, *validation, owner="validation")  # type: ignore[misc]
            return run.train(
                self,
                data,
                size,
                epochs,
                classes=self._are_classes(data[1]),
                validation=valid,
                validation_classes=valid is not None and self._are_classes(valid[1]),
                callbacks=callbacks,
                progress=progress,
                shuffle=shuffle,
                rng=rng,
            )

    def predict(self, x: Any, batch_size: int = 1024) -> Array:
        """Return the outputs (samples, ...) as an array of the backend, computed in batches.

        Nothing is remembered. `nnx.to_numpy` brings the result to the host.
        """
        size = check_batch_size(batch_size, owner="predict")
        with working_on(self.backend) as backend:
            self.check_inputs(x)
            x = as_inputs(backend, self.input_shape, x)
            outputs = []
            for batch in batches(x.shape[0], size):
                a = x[batch, ...]
                for layer in self.layers:
                    a = layer.forward(a)[0]  # its backward goes, and with it what that holds
                outputs.append(a)
            return outputs[0] if len(outputs) == 1 else backend.xp.concat(outputs, axis=0)

    def score(self, x: Any, y: Any, batch_size: int = 1024, sample_weights: Any = None) -> Score:
        """Return the loss, penalties included, and the accuracy on the given data."""
        size = check_batch_size(batch_size, owner="score")
        with working_on(self.backend):
            data = checked_samples(self, x, y, sample_weights)
            return run.score(self, data, size, self._are_classes(data[1]))

    def _are_classes(self, y: Array) -> bool:
        return is_classification(self.backend, self.output_shape, y, self.cost.per_entry)

    # Copies and pictures.

    def _fill(self, source: Any, backend: Backend, convert: Any, made: dict[int, Any]) -> None:
        """Give a twin layers and an optimizer of its own."""
        super()._fill(source, backend, convert, made)
        vars(self)["_plan"] = None
        if source.optim is not None:
            vars(self)["optim"] = source.optim.move(convert)

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the plan and the closure of the last `evaluate`."""
        return {**super().__getstate__(), "_plan": None}

    def summary(self) -> None:
        """Print each layer with its output shape for one sample and its number of parameters."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("", "layer", "output shape")
        table.add_column("parameters", justify="right")
        shapes = self.shapes(self.input_shape, "")
        table.add_row("", "input", str(self.input_shape), "")
        for number, (layer, shape) in enumerate(zip(self.layers, shapes, strict=True), start=1):
            text = f"{layer!r}{', frozen' if layer.frozen else ''}"
            table.add_row(str(number), Text(text), str(shape), f"{_count(layer.parameters):,}")
        console = Console()
        console.print(table)
        trained = [slot.array for slot in slots(walk(self), frozen=False)]
        console.print(
            f"{_count(self.parameters):,} parameters, {_count(trained):,} of them trained",
            highlight=False,
        )


def _shape(shape: Any) -> tuple[Any, ...]:
    """Return the shape of a sample; a number of features is one axis, None is any length."""
    several = isinstance(shape, tuple | list)
    sizes: tuple[Any, ...] = tuple(shape) if several else (shape,)
    if not all(
        (s is None and several)
        or (isinstance(s, Integral) and not isinstance(s, bool) and int(s) > 0)
        for s in sizes
    ):
        raise ValueError(
            "SequentialNet: expected the number of features or the shape of a sample, such as "
            f"784 or (1, 28, 28), None for an axis of any length as in (None, 8), got {shape!r}"
        )
    return tuple(s if s is None else int(s) for s in sizes)


def _optimizer(optim: Any) -> Optimizer:
    """Return an optimizer; anything else is refused."""
    return instance("SequentialNet", "optim", optim, Optimizer, "Adam()")


def _count(arrays: Any) -> int:
    """Return how many numbers there are in arrays, or in a dict of them."""
    arrays = arrays if isinstance(arrays, list) else arrays.values()
    return sum(math.prod(array.shape) for array in arrays)
