"""The sequential network: a sequence of layers, the shape of its inputs, and a loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from nnx import saving
from nnx.backend import Array, Backend, working_on
from nnx.checks import ShapeError, count, flag, instance
from nnx.communication import Communicator
from nnx.data import KnownInputs, as_floats, checked_on_device, equal_parts, source_of
from nnx.layers._padding import check_padding
from nnx.layers.base import Layer
from nnx.layers.container import SequentialLayer
from nnx.layers.summary import Summary
from nnx.layers.tree import Slot, once
from nnx.losses import Loss, QuadraticCost
from nnx.optimizers import Optimizer
from nnx.synonyms import named, not_called
from nnx.training.callbacks import Callback
from nnx.training.history import History, Score
from nnx.training.plan import Plan
from nnx.training.predictions import predict
from nnx.training.run import score
from nnx.training.start import scored, started

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

    Attributes:
        about: plain data on what it was trained with, names of columns and classes if `nnx train`
            has made it. Files and copies keep it, `clone`, which is untrained, does not.

    Raises:
        ShapeError: a layer does not take what the one before it gives.
        BackendError: the layers were not all born on one backend.
        ValueError: there is no layer, the loss does not go with the last activation, or padding
            does not reach a layer with a mask_value, as one before it gives it other values.
    """

    __call__ = not_called("net.predict(x)")
    about: Mapping[str, Any] | None = None
    known_inputs: KnownInputs | None = None
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
        """Return the shape of one sample's output, after checking layers, loss and padding.

        Raises:
            ShapeError, BackendError, ValueError: they do not fit together; with what to do.
        """
        shape = self.shapes(self.input_shape, "the network's input is")[-1]
        check_padding(self, self.layers)
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
        remedy = "for loss and accuracy: write net.score(x, y)"
        training = flag("evaluate", "training", training, remedy)
        with working_on(self.backend):
            (x, *more), _ = equal_parts(self, x)
            if more:
                raise ShapeError(
                    "evaluate: expected samples of one shape, got several; write net.predict(x)"
                )
            self.shapes(tuple(x.shape[1:]), "a sample of x is")
            self._input_shape = tuple(x.shape)
            y, self._backward = self.forward(as_floats(self.backend, x), training)
            return y

    # The everyday interface.

    @named
    def train(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 10,
        epochs: int = 1,
        *,
        validation: Any = None,
        validation_batch_size: int | None = None,
        metrics: Any = None,
        callbacks: Sequence[Callback | Callable[[SequentialNet, History], Any]] = (),
        resume: str | os.PathLike[str] | None = None,
        progress: bool = True,
        shuffle: bool | str = True,
        sample_weights: Any = None,
        class_weights: Any = None,
        ignore_label: int | None = None,
        rng: np.random.Generator | None = None,
        on_device: bool | None = None,
        mixing: Callable[..., Any] | None = None,
        communicator: Communicator | None = None,
    ) -> History:
        """Minimise the loss over batches of the data.

        Args:
            x: (samples, *input_shape), NumPy data or arrays of the backend; or an array on disk, as
                numpy.memmap, h5py.Dataset or zarr.Array. If input_shape has free axes, None, also a
                list of arrays that differ there; a batch has one shape. Or, without y, what gives
                batches (x, y) or (x, y, weights), or dicts of these items in this order: a function
                that returns an iterator, as lambda: itertools.islice(endless(), 100), or an object
                that can be iterated for each epoch, as a DataLoader of PyTorch or tf.data.Dataset.
            y: class indices (samples,), or rows (samples, *output_shape); a list for a list.
            batch_size: samples per step, all if there are fewer; the last step takes what is left.
            epochs: passes over the data.
            validation: (x, y), (x, y, weights) or what gives batches, scored after every epoch; or
                the fraction of the samples that is kept for it, of each class its share.
            validation_batch_size: samples per batch there; 4 batch_size, at most 1024, if None.
            metrics: what to report beside loss and accuracy: a list of names of `nnx.metrics` and
                functions of (outputs, targets), or a dict of functions by name. A function gets the
                outputs of all samples, and the targets as class indices or rows, as they were
                given. The outputs of an epoch are kept for it. None means mean_absolute_error and
                r2 for targets that are not classes.
            callbacks: `Callback` objects, and functions that are called as callback(net, history)
                after every epoch; one that returns True ends the training.
            resume: continue the run that a `Checkpoint` has written to this file; the network, the
                data and the seed must be the same. If there is no such file, begin.
            progress: show a progress bar.
            shuffle: draw a new order for every epoch; "blocks": draw one of blocks of samples that
                follow each other, and shuffle within a few of them, for storage where single rows
                are slow to read. Batches of the user keep their order.
            sample_weights: weights >= 0 in the loss: (samples,), or (samples, time) for a loss of
                time steps.
            class_weights: "balanced", or {class: weight}; they multiply the sample weights. Weights
                count in the loss, accuracy and metrics of the training; the validation has none but
                its own.
            ignore_label: a class index that does not count, as of padded time steps.
            rng: draw the orders from it, instead of the seeded stream "batches".
            on_device: True moves the inputs to the device at once, False reads a block ahead of the
                present one, None moves them if they take less than half of the free memory.
            mixing: a function of a batch, (x, y) or (x, y, weights), that returns the one to train
                with: nnx.MixUp(0.2), or a rule of your own. See `nnx.training.mixing`.
            communicator: `nnx.communicator()` connects processes that train this network together:
                each calls `train` with the same arguments, and computes its part of every batch.

        Returns:
            The History; Ctrl-C ends the training with what there is so far.

        Raises:
            NonFiniteLossError: the loss, the validation loss or a parameter has become infinite or
                NaN; carries the History.
            ShapeError, ValueError, TypeError: the data or an argument does not fit, with what to
                do.
            FileError: the file to resume from holds no run, or is damaged.
            CommunicationError: the processes do not fit together. Other errors end all of them.
        """
        epochs = count("train", "epochs", epochs, least=0)
        progress = flag("train", "progress", progress)
        with working_on(self.backend):
            run = started(
                self,
                (x, y, sample_weights),
                batch_size,
                epochs,
                validation=validation,
                validation_batch_size=validation_batch_size,
                metrics=metrics,
                callbacks=callbacks,
                resume=resume,
                shuffle=shuffle,
                class_weights=class_weights,
                ignore_label=ignore_label,
                rng=rng,
                on_device=on_device,
                mixing=mixing,
                communicator=communicator,
            )
            return run.train(progress)

    @named
    def predict(
        self, x: Any, batch_size: int = 1024, *, on_device: bool | None = None, out: Any = None
    ) -> Any:
        """Return the outputs (samples, ...) as an array of the backend, computed in batches.

        For a list of samples of several shapes it is a list of arrays, in the same order, unless
        the outputs have one shape. Nothing is remembered. `nnx.to_numpy` brings an array to the
        host.

        Args:
            x: inputs, as those of `train`, finite as they are; batches may be x alone.
            batch_size: samples per batch.
            on_device: that of `train`.
            out: an array on the host, (samples, *output_shape), to which the outputs are written,
                and which is returned: one of NumPy, or one on disk.
        """
        size = count("predict", "batch_size", batch_size)
        on_device = checked_on_device(on_device, "predict")
        with working_on(self.backend) as backend:
            return predict(self, backend, x, size, on_device, out)

    @named
    def score(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 1024,
        sample_weights: Any = None,
        *,
        metrics: Any = None,
        ignore_label: int | None = None,
        on_device: bool | None = None,
    ) -> Score:
        """Return the loss, penalties included, the accuracy and the metrics on the given data.

        Arguments are those of `train`.
        """
        size = count("score", "batch_size", batch_size)
        on_device = checked_on_device(on_device, "score")
        with working_on(self.backend):
            source = source_of(self, x, y, sample_weights, on_device, ignore_label)
            return score(self, scored(self, source, size, metrics))

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file: layers, loss, optimizers and their states.

        `nnx.load` reads it.

        Raises:
            TypeError: an argument of a layer cannot be written as plain data.
            ValueError: a parameter is NaN or infinite.
            OSError: the file cannot be written; one that was there before is as it was.
        """
        saving.save(self, path)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and buffers, by path, to a safetensors file."""
        saving.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str], strict: bool = True) -> saving.Differences:
        """Read parameters and buffers from a file that holds them under the same paths.

        Args:
            path: a file of `save_weights`, `save` or `Checkpoint`, or another safetensors file.
            strict: refuse a file in which something is missing, left over or of another shape.
                False takes what fits.

        Returns:
            What is missing, left over, and of another shape.

        Raises:
            FileError: the file does not fit, or is damaged; nothing has changed then.
        """
        return saving.load_weights(self, path, strict)

    # Copies and pictures.

    def _fill(self, source: Any, backend: Backend, convert: Any, made: dict[int, Any]) -> None:
        """Give a twin layers and an optimizer of its own."""
        super()._fill(source, backend, convert, made)
        vars(self).update(_plan=None, known_inputs=None)
        if source.optim is not None:
            vars(self)["optim"] = source.optim.move(convert)

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the plan and the closure of the last `evaluate`."""
        return {**super().__getstate__(), "_plan": None, "known_inputs": None}

    def summary(self) -> None:
        """Print each layer with its output shape for one sample and its number of parameters.

        A notebook shows an HTML table.
        """
        Summary(self).print()

    def _repr_html_(self) -> str:
        return Summary(self)._repr_html_()


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
