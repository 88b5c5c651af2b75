"""What a layer is: two formulas, a dict of parameters, and the classroom interface on top."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from nnx import checks
from nnx.activations import Activation
from nnx.backend import Array, Backend, get_backend
from nnx.checks import ShapeError
from nnx.config import Configured
from nnx.layers._arguments import Checked, Penalty
from nnx.layers._contract import (
    explain_backward,
    explain_forward,
    explain_parameters,
    explain_shape,
)
from nnx.optimizers import SGD, Optimizer
from nnx.regularizers import Regularizer

__all__ = ["AffineLayer", "Layer", "Parameter", "ShapeError"]

Gradients = dict[str, Array]
Backward = Callable[..., tuple[Array, Gradients]]


class Parameter:
    """Declares a parameter of a layer: `layer.W` reads and writes `layer.parameters["W"]`.

    What is assigned is copied to the layer's backend and dtype: training changes parameters in
    place, and must not reach the array of somebody else.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Layer | None, owner: type) -> Any:
        if layer is None:
            return self
        try:
            return layer.parameters[self.name]
        except KeyError:
            raise AttributeError(f"{layer.name} has no parameter {self.name!r}") from None

    def __set__(self, layer: Layer, array: Array) -> None:
        known = layer.parameters.get(self.name)
        if known is not None and tuple(known.shape) != tuple(array.shape):
            raise ShapeError(
                f"{layer.name}.{self.name}: expected shape {tuple(known.shape)}, got "
                f"{tuple(array.shape)}"
            )
        backend = layer.backend
        own = backend.asarray(array, dtype=backend.dtype)
        layer.parameters[self.name] = backend.xp.asarray(own, copy=True)


class Layer(Configured):
    """Base class of all layers.

    Subclasses define `forward(x, training=False) -> (y, backward)`, where backward(delta) returns
    the gradient with respect to x and a dict of gradients with a key for each parameter, and
    `output_shape(input_shape)`, both shapes without the samples.

    Attributes:
        parameters: what is trained, name -> array.
        buffers: what is kept but not trained, name -> array.
        regularizers: parameter name -> its penalty.
        optim: the optimizer of this layer.
        gradients: name -> gradient, after `backprop`; `layer.dW` reads `gradients["W"]`.
        frozen: True keeps the layer as it is: training neither changes nor randomises it.
        backend: where the parameters were born.
        name: what messages call the layer.
    """

    unique = True
    frozen: bool = False

    # May its backward be called as backward(delta, need_dx=False), to save the work for a dx that
    # nobody needs? The first layer of a network is.
    can_skip_dx: ClassVar[bool] = False

    # Does forward nothing but compute? One that also records or prints what passes says False, and
    # where the library would compile the steps of a training they are made one by one.
    traceable: ClassVar[bool] = True

    # Are the outputs just the inputs in another arrangement? The search for the last activation
    # of a network looks through such layers.
    keeps_values: ClassVar[bool] = False

    def __init__(self, optim: Optimizer | None = None, name: str | None = None) -> None:
        if not isinstance(name, str | None):
            raise TypeError(
                f"{type(self).__name__}: expected name to be text or None, got {name!r}; several "
                "layers are given as a list"
            )
        self.name = name or type(self).__name__
        self.parameters: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}
        self.regularizers: dict[str, Regularizer] = {}
        self.gradients: Gradients = {}
        if optim is not None:
            checks.instance(self, "optim", optim, Optimizer, "SGD(0.1)")
        self.optim = (optim or SGD()).clone()
        self.backend: Backend = get_backend()
        self._backward: Backward | None = None
        self._input_shape: tuple[int, ...] = ()

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The value and its backward, delta -> (dx, gradients)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, training)")

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one sample's output for that of its input.

        Raises:
            ShapeError: the layer does not take that input.
        """
        raise NotImplementedError(f"{type(self).__name__} must define output_shape(input_shape)")

    def places(self) -> list[tuple[str, Layer]]:
        """Where layers that are not made of others stand in this one, with the prefix of their
        names: this layer alone, with none.
        """
        return [("", self)]

    def leaves(self) -> list[tuple[str, Layer]]:
        """The layers of `places`, each of them once."""
        found: dict[int, tuple[str, Layer]] = {}
        for prefix, leaf in self.places():
            found.setdefault(id(leaf), (prefix, leaf))
        return list(found.values())

    def check_batch(self, input_shape: tuple[int, ...], samples: int) -> None:
        """Raise ShapeError if a training step with so many samples of this shape is impossible.

        Training asks every layer once, before the first step.
        """

    def check_inputs(self, x: Any) -> None:
        """Raise an error if the values of x, host data or an array, are not what the layer takes.

        It is asked once for all data, before x is converted, and only of the layer that gets the
        data as they are.
        """

    def evaluate(self, x: Any, training: bool = False) -> Array:
        """Return the value; remember what `backprop` needs.

        Args:
            x: (samples, *input_shape), NumPy data or an array of the layer's backend.
            training: as in training, for layers that act differently then.

        Raises:
            ShapeError: the layer does not take x of this shape.
            TypeError: x is not made of real numbers.
        """
        self.check_inputs(x)
        x = as_array(self, x)
        expected = _output_shape(self, x)
        if foreign := explain_parameters(self):
            raise foreign
        result = self.forward(x, training)
        try:
            y, backward = result
            wrong = not callable(backward) or expected not in (None, tuple(y.shape))
        except (TypeError, ValueError, AttributeError):
            wrong = True
        if wrong:
            raise explain_forward(self, result, expected)
        self._backward, self._input_shape = backward, tuple(x.shape)
        return y

    def backprop(self, delta: Array) -> Array:
        """The gradient with respect to the x of the last `evaluate`.

        The layer then holds the gradients of its parameters, those of the penalties included:
        `layer.dW`, `layer.db`.
        """
        if self._backward is None:
            raise RuntimeError(f"{self.name}.backprop: call evaluate(x) first")
        result = self._backward(delta)
        if not self._keeps_contract(result):
            raise explain_backward(self, result, self._input_shape)
        dx, gradients = result
        self.gradients = self.regularize(gradients)
        return dx

    def _keeps_contract(self, result: Any) -> bool:
        """Is this what a backward must return: dx like x, and a gradient like each parameter?"""
        try:
            dx, gradients = result
            shapes = {name: tuple(gradient.shape) for name, gradient in gradients.items()}
            expected = {name: tuple(array.shape) for name, array in self.parameters.items()}
            return shapes == expected and tuple(dx.shape) == self._input_shape
        except (TypeError, ValueError, AttributeError):
            return False

    def update(self) -> None:
        """Let the optimizer act with the gradients of the last `backprop`, unless frozen."""
        if self.frozen:
            return
        if self.parameters and not self.gradients:
            raise RuntimeError(f"{self.name}.update: call evaluate(x) and backprop(delta) first")
        self.parameters = step(self, self.optim, self.gradients)

    def regularize(self, gradients: Gradients) -> Gradients:
        """The gradients plus those of the penalties."""
        for name, regularizer in self.regularizers.items():
            gradients[name] = regularizer.update(self.parameters[name], gradients[name])
        return gradients

    def penalty(self) -> Array | float:
        """The sum of the penalties, a 0-d array; 0.0 without any."""
        return sum(
            (r.value(self.parameters[name]) for name, r in self.regularizers.items()), start=0.0
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but the closure of the last `evaluate`, which belongs to this very layer."""
        return {**vars(self), "_backward": None}

    def to(self, backend: Backend) -> Layer:
        """The same layer, its optimizer included, on another backend; this one stays."""
        twin = copy.copy(self)
        twin.parameters = {n: backend.copy_of(p, self.backend) for n, p in self.parameters.items()}
        twin.buffers = {n: backend.copy_of(p, self.backend) for n, p in self.buffers.items()}
        twin.optim = self.optim.move(lambda array: backend.copy_of(array, self.backend))
        twin.regularizers = dict(self.regularizers)
        twin.gradients, twin._backward = {}, None
        twin.backend = backend
        return twin

    def __getattr__(self, name: str) -> Any:
        gradients = self.__dict__.get("gradients", {})
        if name[:1] == "d" and name[1:] in gradients:
            return gradients[name[1:]]
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
            + (" before backprop" if name[1:] in self.__dict__.get("parameters", {}) else "")
        )


class AffineLayer(Layer):
    """Base class of the layers a = phi(z), z affine in the weights W and the bias b.

    Subclasses define `preactivation(x, training) -> (z, backward)`, where backward(dz,
    need_dx=True) may leave out dx. A network whose loss cancels with the last activation works
    with z itself.
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
        """The affine part z and its backward."""
        raise NotImplementedError(f"{type(self).__name__} must define preactivation(x, training)")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """a = phi(z); backward: dz = phi'(z) delta, then the backward of z."""
        z, affine = self.preactivation(x, training)
        a, activation = self.afun.forward(z)
        return a, lambda delta, need_dx=True: affine(activation(delta), need_dx)


def as_array(layer: Layer, x: Any) -> Array:
    """Return x as an array of the layer's backend and dtype.

    Raises:
        TypeError: x is not made of real numbers.
        BackendError: x is an array of another library.
    """
    backend = layer.backend
    if backend.owns(x) and x.dtype == backend.dtype:
        return x
    if not hasattr(x, "dtype"):
        try:
            x = np.asarray(x)
        except ValueError:
            raise TypeError(
                f"{layer.name}.evaluate: expected x with as many numbers in every sample; check "
                "the lengths of the rows"
            ) from None
    if isinstance(x, np.ndarray | np.generic):
        real = x.dtype.kind in "biuf"
    else:
        real = not backend.owns(x) or not backend.xp.isdtype(x.dtype, "complex floating")
    if not real:
        raise TypeError(
            f"{layer.name}.evaluate: expected x of real numbers, got {x.dtype}; convert it first: "
            "x.astype(float)"
        )
    return backend.asarray(x, dtype=backend.dtype)


def _output_shape(layer: Layer, x: Array) -> tuple[int, ...] | None:
    """The shape of y for x, with the samples; None if the layer does not tell.

    Raises:
        ShapeError: the layer does not take x.
    """
    if type(layer).output_shape is Layer.output_shape:
        return None
    given = tuple(x.shape)
    if not given:
        raise ShapeError(
            f"{layer.name}: expected x of shape (samples, ...), got a single number; for one "
            "sample of one feature: [[x]]"
        )
    try:
        shape = layer.output_shape(given[1:])
    except ShapeError as error:
        raise ShapeError(f"{layer.name} {error}, each without the samples; x has {given}") from None
    if wrong := explain_shape(layer, given[1:], shape):
        raise wrong
    return (given[0], *shape)


def step(layer: Layer, optim: Optimizer, gradients: Gradients) -> dict[str, Array]:
    """The parameters of a layer after one step of the optimizer."""
    parameters = layer.parameters
    updated = optim.update(
        list(parameters.values()), [gradient_of(layer, gradients, name) for name in parameters]
    )
    return dict(zip(parameters, updated, strict=True))


def gradient_of(layer: Layer, gradients: Gradients, name: str) -> Array:
    """The gradient of one parameter.

    Raises:
        ValueError: the layer's backward has not returned it.
    """
    try:
        return gradients[name]
    except KeyError:
        raise ValueError(
            f"{layer.name}: backward returned gradients of {sorted(gradients)}, expected one for "
            f"each of the parameters {sorted(layer.parameters)}; {name} has none"
        ) from None
