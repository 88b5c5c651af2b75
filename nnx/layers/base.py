"""What a layer is: two formulas, parameters by name, and the interface of the lecture on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from nnx.activations import Activation
from nnx.backend import (
    Array,
    Backend,
    array_namespace,
    born_on_device,
    get_backend,
    on_device,
    resolve,
)
from nnx.checks import ShapeError, instance
from nnx.config import Watched, is_own
from nnx.layers._arguments import (
    ATTRIBUTES,
    Checked,
    Penalty,
    assigned,
    check_whole,
    checked_name,
    kept_with,
)
from nnx.layers._by_hand import as_array, check_backward, check_gradients, checked_forward
from nnx.layers._padding import Padding
from nnx.layers._shapes import Shape
from nnx.layers.tree import ParameterState, Slot, gather, once, slots, take_step, walk
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer
from nnx.synonyms import advice, not_called

__all__ = ["AffineLayer", "Layer", "Parameter"]

Gradients = dict[Any, Any]
Backward = Callable[..., tuple[Array, Gradients]]


class Parameter:
    """Declares a parameter of a layer: `layer.W` and `layer.W = array`.

    Reading gives a copy, an array that training does not change, on every backend. The array that
    training works with, and may change in place, is `layer.parameters["W"]`: formulas read that.
    What is assigned is copied to the layer's backend and dtype.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Layer | None, owner: type) -> Any:
        if layer is None:
            return self
        try:
            array = layer.parameters[self.name]
        except KeyError:
            raise AttributeError(f"{layer.name} has no parameter {self.name!r}") from None
        with layer.backend.selected():
            return array_namespace(array).astype(array, array.dtype, copy=True)

    def __set__(self, layer: Layer, array: Any) -> None:
        if not isinstance(layer.parameters, dict):
            raise TypeError(
                f"{layer.name}.{self.name}: a container has no parameters of its own; put this one "
                "into a layer that is among its children"
            )
        backend = layer.backend
        own = backend.xp.asarray(backend.asarray(array, dtype=backend.dtype), copy=True)
        known = layer.parameters.get(self.name)
        if known is not None and tuple(known.shape) != tuple(own.shape):
            raise ShapeError(
                f"{layer.name}.{self.name}: expected shape {tuple(known.shape)}, got "
                f"{tuple(own.shape)}"
            )
        layer.parameters[self.name] = own


class Layer(Watched):
    """Base class of all layers.

    Subclasses define `forward(x, training=False) -> (y, backward)`. backward(delta) returns the
    gradient with respect to x and a dict with the gradient of each parameter under its name. They
    also define `output_shape(input_shape)`, both shapes without the samples. A layer that acts
    differently in training does so if `training and not self.frozen`. A layer that is made of
    layers derives from `Container`.

    Args:
        optim: the optimizer of this layer, of which it keeps a clone; SGD() if not given.
        name: what messages call the layer; its class if not given.

    Attributes:
        parameters: what is trained, name -> array. Training may change these arrays in place.
        buffers: what is kept but not trained, name -> array.
        regularizers: parameter name -> its penalty.
        gradients: parameter name -> gradient, after `backprop`; `layer.dW` reads one.
        states: parameter name -> state of the optimizer, after the first step.
        frozen: if True, training leaves the layer as it is.
        backend: where the parameters were born.
        children: the layers that this one is made of.
    """

    unique = True
    watched = frozenset({"frozen", "optim", "parameters", "states", "regularizers", "traceable"})
    unwatched = frozenset({"gradients", "buffers", "backend", "name"})
    children: Sequence[Layer] = ()
    frozen: bool = False
    _backward: Backward | None = None
    _input_shape: tuple[int, ...] = ()

    # May backward be called as backward(delta, need_dx=False)? That saves the work for a dx which
    # nobody needs, as in the first layer of a network.
    can_skip_dx: ClassVar[bool] = False

    # Does forward only compute? A layer that also records or prints what passes sets this to False;
    # its steps are not compiled then.
    traceable: bool = True

    # Does the layer only rearrange its inputs? The last activation of a network is then looked for
    # in the layers before this one.
    keeps_values: ClassVar[bool] = False

    def __init__(self, optim: Optimizer | None = None, name: str | None = None) -> None:
        self.name = checked_name(self, name)
        self.parameters: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}
        self.regularizers: dict[str, Regularizer] = {}
        self.gradients: Gradients = {}
        self.states: dict[str, ParameterState] = {}
        self.backend: Backend = get_backend()
        given = SGD() if optim is None else optim
        self.optim = instance(self, "optim", given, Optimizer, "SGD(0.1)").clone()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = born_on_device(cls.__init__)  # type: ignore[method-assign]
        if "forward" in vars(cls) and "can_skip_dx" not in vars(cls):
            cls.can_skip_dx = False  # it was said of another forward

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ATTRIBUTES:
            value = assigned(self, name, value)
        if name == "optim":
            instance(self, name, value, Optimizer, "SGD(0.1)")
            self.states = {}
        if isinstance(getattr(type(self), name, None), Parameter):
            object.__setattr__(self, name, value)  # new values change no plan
        else:
            super().__setattr__(name, value)

    __call__ = not_called("layer.evaluate(x), or layer.forward(x) in formulas")

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name; `name` is None for a layer named by its class."""
        arguments = super().arguments()
        if arguments.get("name") == type(self).__name__:
            arguments["name"] = None
        return arguments

    kept_with = kept_with

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return the value and its backward, delta -> (dx, gradients)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, training)")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the output shape of one sample, given its input shape.

        An axis may be None, any length: for it, and for lengths that follow from it, return None.

        Raises:
            ShapeError: the layer does not take that input.
        """
        raise NotImplementedError(f"{type(self).__name__} must define output_shape(input_shape)")

    def padding_after(self, before: Padding) -> Padding:
        """Return before, before.becomes(value, self) or before.lost(self) for padded time steps.

        Formulas of nnx lose them, unless it is said here; those of a user are taken to keep them.
        """
        lost = is_own(type(self).forward) and not self.keeps_values
        return before.lost(self) if lost else before

    def as_child(self) -> Layer:
        """Return what stands for this layer inside of another one."""
        return self

    def last_activations(self) -> list[Activation] | None:
        """Return the activations whose values come out of this layer; None if it has none."""
        return None

    def check_batch(self, input_shape: Shape, samples: int) -> None:
        """Check that a training step with so many samples of this shape is possible.

        Training asks once, before the first step.

        Raises:
            ShapeError: it is not, for example batch normalisation with a single sample.
        """

    def check_inputs(self, x: Any) -> None:
        """Check the values of x, host data or an array, before they are converted.

        Training asks once for all data, and only the layers that get them as they are.

        Raises:
            TypeError, ValueError: they are not what the layer takes, as for a token out of range.
        """

    # The interface of the lecture.

    @on_device
    def evaluate(self, x: Any, training: bool = False) -> Array:
        """Return the value; remember what `backprop` needs.

        Args:
            x: (samples, *input_shape), NumPy data or an array of the layer's backend.
            training: True for layers that act differently in training.

        Raises:
            ShapeError: the layer does not take x of this shape.
            TypeError: x is not made of real numbers.
        """
        self.check_inputs(x)
        x = as_array(self, x)
        y, self._backward = checked_forward(self, x, training)
        self._input_shape = tuple(x.shape)
        return y

    @on_device
    def backprop(self, delta: Array) -> Array:
        """Return the gradient with respect to the x of the last `evaluate`.

        The layer then holds the gradients of its parameters, those of the penalties included:
        `layer.dW`, `layer.db`.
        """
        if self._backward is None:
            raise RuntimeError(f"{self.name}.backprop: call evaluate(x) first")
        result = self._backward(delta)
        check_backward(self, result, self._input_shape)
        dx, gradients = result
        found = slots(walk(self))
        gathered = gather(found, gradients)
        check_gradients(found, gathered)
        for slot, gradient in zip(found, gathered, strict=True):
            if regularizer := slot.layer.regularizers.get(slot.name):
                gradient = regularizer.update(slot.array, gradient)
            slot.layer.gradients[slot.name] = gradient
        return dx

    @on_device
    def update(self) -> None:
        """Apply the optimizers to the gradients of the last `backprop`, frozen layers left out."""
        trained = slots(walk(self), frozen=False)
        if any(slot.name not in slot.layer.gradients for slot in trained):
            raise RuntimeError(f"{self.name}.update: call evaluate(x) and backprop(delta) first")
        for optimizer, numbers in self.optimized(trained):
            own = [trained[number] for number in numbers]
            take_step(optimizer, own, [slot.layer.gradients[slot.name] for slot in own])

    def optimized(self, trained: Sequence[Slot]) -> list[tuple[Optimizer, list[int]]]:
        """Return each optimizer with the indices of the parameters that it steps."""
        found: dict[int, tuple[Optimizer, list[int]]] = {}
        for number, slot in enumerate(trained):
            optimizer = slot.layer.optim
            if id(optimizer) not in found:
                found[id(optimizer)] = (optimizer, [])
            found[id(optimizer)][1].append(number)
        return list(found.values())

    @on_device
    def penalty(self) -> Array | float:
        """Return the sum of the penalties, a 0-d array; 0.0 without any."""
        return sum(
            (
                regularizer.value(layer.parameters[name])
                for _, layer in once(self)
                if not layer.children
                for name, regularizer in layer.regularizers.items()
            ),
            start=0.0,
        )

    # Copies.

    def to(self, backend: str | Backend, dtype: str | None = None) -> Self:
        """Return the same layer, with its optimizer's states, on another backend."""
        if dtype is None and not isinstance(backend, Backend):
            dtype = self.backend.dtype_name
        target, source = resolve(backend, dtype), self.backend
        return self.twin(target, lambda array: target.copy_of(array, source), {})

    def twin(
        self, backend: Backend, convert: Callable[[Array], Array], made: dict[int, Any]
    ) -> Any:
        """Return a layer with the same arguments and converted arrays; what is shared stays shared.

        Args:
            backend: that of the arrays which `convert` returns.
            convert: is applied to each parameter, buffer and array of an optimizer.
            made: the twins so far, of layers and optimizers, by id of the original.
        """
        if id(self) in made:
            return made[id(self)]
        twin = made[id(self)] = object.__new__(type(self))
        vars(twin).update(vars(self), _backward=None, backend=backend)
        twin._fill(self, backend, convert, made)
        return twin

    def _fill(self, source: Any, backend: Backend, convert: Any, made: dict[int, Any]) -> None:
        """Give a twin arrays of its own."""
        vars(self).update(
            source._converted(convert),
            regularizers=dict(source.regularizers),
            gradients={},
            optim=made.setdefault(id(source.optim), source.optim.move(convert)),
        )

    def _converted(self, convert: Callable[[Array], Array]) -> dict[str, Any]:
        """Return parameters, buffers and states, of converted arrays."""
        return {
            "parameters": {name: convert(p) for name, p in self.parameters.items()},
            "buffers": {name: convert(p) for name, p in self.buffers.items()},
            "states": {name: s.converted(convert) for name, s in self.states.items()},
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the closure of the last `evaluate`; arrays are copied, views or not."""
        kept = {**vars(self), "_backward": None}
        if not self.children:
            copy = self.backend.xp.asarray
            kept |= self._converted(lambda array: copy(array, copy=True))
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Take what was kept; a pickle brings arrays of some libraries to their current device.

        Raises:
            ValueError: something is missing, as in a pickle of another version of nnx.
        """
        vars(self).update(kept)
        check_whole(self)
        if not self.children and type(self.backend).selected is not Backend.selected:
            copy, there = self.backend.xp.asarray, self.backend.device
            vars(self).update(self._converted(lambda a: copy(a, copy=True, device=there)))

    def __getattr__(self, name: str) -> Any:
        known, declared = self.__dict__, getattr(type(self), name, None)
        if isinstance(declared, property) and declared.fget is not None:
            return declared.fget(self)  # it has raised an AttributeError of its own: show that
        if name[:1] == "d" and name[1:] in known.get("gradients", {}):
            return known["gradients"][name[1:]]
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
            + (" before backprop" if name[1:] in known.get("parameters", {}) else "")
            + ("" if "name" in known else "; call super().__init__() first in its constructor")
            + advice(name, dir(self))
        )


class AffineLayer(Layer):
    """Base class of the layers a = phi(z), z affine in the weights W and the bias b.

    Subclasses define `preactivation(x, training) -> (z, backward)`; backward(dz, need_dx=True) may
    leave out dx. A network whose loss cancels with the last activation works with z itself.
    """

    can_skip_dx = True
    W = Parameter()
    b = Parameter()
    afun = Checked(Activation, "ReLU()")
    kernel_regularizer = Penalty("W")

    def __init__(
        self,
        afun: Activation,
        optim: Optimizer | None,
        kernel_regularizer: Regularizer | None,
        name: str | None,
    ) -> None:
        super().__init__(optim, name)
        self.afun = afun
        self.kernel_regularizer = kernel_regularizer

    def preactivation(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return the affine part z and its backward."""
        raise NotImplementedError(f"{type(self).__name__} must define preactivation(x, training)")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return a = phi(z); backward: dz = phi'(z) delta, then the backward of z."""
        z, affine = self.preactivation(x, training)
        a, activation = self.afun.forward(z)
        return a, lambda delta, need_dx=True: affine(activation(delta), need_dx)

    def last_activations(self) -> list[Activation]:
        """Return the activation of the layer."""
        return [self.afun]
