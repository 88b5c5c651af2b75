"""A step of training, prepared once: forward, gradient of the loss, backward, penalties, update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnx import config
from nnx.activations import Activation
from nnx.backend import Array, Backend, on_device
from nnx.layers._by_hand import check_backward, check_batch, check_forward, check_gradients
from nnx.layers._contract import explain_parameters
from nnx.layers.activation import ActivationLayer
from nnx.layers.base import AffineLayer, Layer
from nnx.layers.container import SequentialLayer
from nnx.layers.tree import Prepared, gather, slots, walk
from nnx.losses import Loss
from nnx.optimizers import Optimizer
from nnx.training.compiled import CompiledLoop, compile_key
from nnx.training.exchange import Exchange
from nnx.training.groups import grouped
from nnx.training.mixing import Mixing

__all__ = ["Plan"]

LOOPS_KEPT = 4  # compiled loops of a network: one that is frozen and thawed by turns needs two


class Plan(Prepared):
    """What a step of training needs and does not change from batch to batch.

    `step` is what `train` runs, and what a loop of one's own can run:

        plan = net.plan()
        for x, y in batches:
            plan.step(x, y)

    It costs the same there, except on a library that compiles: `train` compiles a loop over steps,
    and a step that is called by hand is not compiled.

    A plan holds as long as nobody assigns to an argument of a layer, of its optimizer or of the
    network, or to `frozen` and the like, and the lists of layers stay the same. After that it is
    stale, and refuses to step.
    New values of parameters, and what an optimizer's schedule does, do not matter.

    Args:
        chain: the layers.
        cost: the loss.
        output_shape: that of one sample.
        before: the plan that this one replaces; its compiled loop is used again if it still holds.

    Attributes:
        chain, cost, output_shape, backend: as given; the backend is that of the layers.
        forwards: what computes the outputs, in order. Sequences of layers are taken apart, and if
            the loss and the last activation cancel, the last one stops before the activation.
        loss: the loss of what the last forward returns.
        value: the value of that loss; compiled, as soon as there is a compiled loop.
        slots: the parameters that are trained.
        groups: the same parameters, grouped for the update.
        exchange: adds up the gradients of several processes, while they train together.
    """

    def __init__(
        self,
        chain: SequentialLayer,
        cost: Loss,
        output_shape: tuple[int, ...],
        before: Plan | None = None,
    ) -> None:
        self.chain, self.cost, self.backend = chain, cost, chain.backend
        if type(self.backend).selected is not Backend.selected:
            self.__class__ = _PlanOnDevice  # a call more for each step, which others do not pay
        self.output_shape = output_shape
        self.tree = walk(chain)
        self.layers: list[Layer] = []
        tree, part = [], None  # what is in the tree, with the index of the forward it belongs to
        for keys, layer in self.tree:
            if part is None or keys[: len(part)] != part:
                if type(layer).forward is SequentialLayer.forward:
                    continue
                part = keys
                self.layers.append(layer)
            tree.append(((len(self.layers) - 1, *keys[len(part) :]), layer))
        self.forwards: list[Callable[..., Any]] = [layer.forward for layer in self.layers]
        self.loss = cost
        self.afun: Activation | None = None  # the last activation, if the loss contains it
        last: Any = self.layers[-1]
        plain = type(last).forward in (AffineLayer.forward, ActivationLayer.forward)
        if plain and (fused := cost.fused(last.afun)) is not None:
            self.forwards[-1], self.loss, self.afun = last.preactivation, fused, last.afun
        self.value: Callable[..., Array] = self.loss.value

        self.slots = slots(tree, frozen=False)
        # No gradient is needed below the first forward with something to train.
        self.lowest = self.slots[0].places[0][0] if self.slots else len(self.layers)
        self.groups = grouped(self.backend, chain.optimized(self.slots), self.slots)

        self.leaves: list[Layer] = []
        _, layers = zip(*self.tree, strict=True)
        known = set(map(id, layers))
        self.watch(layers)
        for layer in layers:
            for value in vars(layer).values():
                items = value.values() if isinstance(value, dict) else value
                for item in items if isinstance(value, dict | list | tuple) else (value,):
                    if isinstance(item, Layer) and id(item) not in known:
                        raise TypeError(
                            f"{layer.name}: expected a container whose layers are among the "
                            f"arguments of its constructor, got {item.name} in another attribute; "
                            "derive from nnx.Container, and make it an argument"
                        )
            if layer.children:
                continue
            self.leaves.append(layer)
            if layer.backend is not self.backend:
                chain.check_backend()
            for p in layer.parameters.values():
                if not hasattr(p, "dtype"):
                    raise explain_parameters(layer) or TypeError(layer.name)
        self.exchange: Exchange | None = None  # of a training on several processes
        self._tried = False  # the formulas of the layers are checked in the first step
        self._compiled: list[CompiledLoop] = before._compiled if before else []

    def step(self, x: Array, y: Array, weights: Array | None = None) -> Array:
        """Make one step with a batch of the backend's arrays; nothing is read back.

        An error in the forward or backward changes no parameter. The groups of parameters, one for
        each kind of optimizer, step one after another: an error in a rule, such as a device that is
        full, leaves the steps of those before it. Load the last checkpoint then.

        Args:
            x: inputs (samples, *input_shape).
            y: targets, class indices or rows.
            weights: of the samples, or of the terms of the loss.

        Returns:
            The outputs before the step. If the loss is fused with the last activation, they are
            those before the activation.

        Raises:
            RuntimeError: the plan is stale.
        """
        if self.stale:
            raise RuntimeError(
                "the network was changed after this plan was made (a layer, its optimizer, `frozen`"
                ", the list of layers or the loss); make a new one: plan = net.plan()"
            )
        if not self._tried:
            check_batch(self.chain, x)
        a, gradients = self.gradients(x, y, weights)
        for group in self.groups:
            group.step(gradients)
        return a

    def gradients(
        self, x: Array, y: Array, weights: Array | None = None
    ) -> tuple[Array, list[Array]]:
        """Return the outputs, and the gradient of loss and penalties for each of `slots`."""
        first, shapes, backwards = not self._tried, [], []
        for layer, forward in zip(self.layers, self.forwards, strict=True):
            result = forward(x, True)
            if first:
                shapes.append(tuple(x.shape))
                shape: Any = layer.output_shape  # that of a network is no function
                shape = shape(shapes[-1][1:]) if callable(shape) else shape
                check_forward(layer, result, (x.shape[0], *shape))
            x, backward = result
            backwards.append(backward)
        delta = self.loss.gradient(x, y, weights)
        exchange = self.exchange
        if exchange is not None:
            delta *= exchange.share.weight
        found: list[Any] = [{}] * len(backwards)
        lowest = self.lowest
        for i in range(len(backwards) - 1, lowest, -1):
            result = backwards[i](delta)
            if first:
                check_backward(self.layers[i], result, shapes[i])
            delta, found[i] = result
            if exchange is not None:
                exchange.start(i, found)
        if lowest < len(backwards):
            skip = {"need_dx": False} if self.layers[lowest].can_skip_dx else {}
            result = backwards[lowest](delta, **skip)
            if first:
                check_backward(self.layers[lowest], result, None)
            found[lowest] = result[1]
        gradients = gather(self.slots, found)
        if first:
            check_gradients(self.slots, gradients)
            if len(slots(self.tree, frozen=False)) != len(self.slots):
                raise RuntimeError(
                    "expected all parameters before the first step, got others after it; make the "
                    "parameters of a layer in its constructor"
                )
        self._tried = True
        if exchange is not None:
            exchange.start(0, found)
            gradients = exchange.summed()
        for i, slot in enumerate(self.slots):
            penalties = slot.layer.regularizers
            if penalties and slot.name in penalties:
                gradients[i] = penalties[slot.name].update(slot.array, gradients[i])
        return x, gradients

    def outputs(self, x: Array) -> Array:
        """Return what `loss` takes, for inputs of the backend; no backward is kept."""
        for forward in self.forwards:
            x = forward(x)[0]
        return x

    def forget_gradients(self) -> None:
        """Remove the gradients of an earlier backprop, which steps make stale."""
        for layer in self.leaves:
            layer.gradients.clear()

    def finished(self, a: Array) -> Array:
        """Return the outputs of the network, for what `step` or `outputs` returned."""
        return a if self.afun is None else self.afun.forward(a)[0]

    def compiled(self, mixing: Mixing | None = None) -> CompiledLoop | None:
        """Return the compiled loop over steps; None if the library does not trace.

        None, too, if a layer or the mixing is not traceable, or an optimizer defines `update`.

        Args:
            mixing: makes another batch of every batch, before its step.
        """
        if type(self.backend).compile_loop is Backend.compile_loop or not self.chain.traceable:
            return None
        if not getattr(mixing, "traceable", True):
            return None
        if not all(type(g.optimizer).update is Optimizer.update for g in self.groups):
            return None
        key = (compile_key(self), config.key(mixing))
        loop = next((loop for loop in self._compiled if loop.key == key), None)
        if loop is None:
            twin = self.chain.twin(self.backend, lambda array: array, {})
            loop = CompiledLoop(Plan(twin, self.cost, self.output_shape), key, mixing)
            self._compiled = [*self._compiled[-(LOOPS_KEPT - 1) :], loop]
        self.value = loop.value
        return loop


class _PlanOnDevice(Plan):
    """A plan for a library with a current device, which is the network's during its work."""

    step = on_device(Plan.step)
    gradients = on_device(Plan.gradients)
    outputs = on_device(Plan.outputs)
