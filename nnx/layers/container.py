"""What a layer is that is made of layers, and the sequence of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from nnx.activations import Activation
from nnx.backend import Array, Backend, BackendError
from nnx.checks import ShapeError, sequence
from nnx.config import kept, parameters_of
from nnx.layers._arguments import ATTRIBUTES, assigned, checked_name
from nnx.layers._contract import explain_shape
from nnx.layers._padding import Padding, check_padding
from nnx.layers._shapes import Shape, told
from nnx.layers.base import Backward, Gradients, Layer
from nnx.layers.tree import once, walk
from nnx.optimizers import Optimizer

__all__ = ["Container", "SequentialLayer", "as_layer", "as_layers", "skipping"]


class Container(Layer):
    """Base class of layers made of other layers: the constructor arguments that are layers.

    A subclass keeps them under the arguments' names, one layer or a list of them, and defines
    `forward` and `output_shape`. Its backward returns, in place of gradients by name, those of its
    children by their index:

        class Residual(nnx.Container):
            def __init__(self, block):
                super().__init__()
                self.block = block

            def forward(self, x, training=False):
                y, backward_of_block = self.block.forward(x, training)

                def backward(delta):
                    dx, gradients = backward_of_block(delta)
                    return delta + dx, {0: gradients}

                return x + y, backward

            def output_shape(self, input_shape):
                return self.block.output_shape(input_shape)

    `parameters`, `states` and the like collect those of the children, by path: "0.W" is W of the
    first child. A layer may be used in several places, also inside of other containers; it is one
    set of parameters then, and its gradients are added. A container has no parameters of its own.

    Args:
        name: what messages call the layer; its class if not given.
    """

    optim: Optimizer | None = None

    def __init__(self, name: str | None = None) -> None:
        self.name = checked_name(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ATTRIBUTES:
            value = assigned(self, name, value)
        before, parameter = vars(self).get(name), parameters_of(type(self)).get(name)
        if parameter is not None and not (value is None and parameter.default is None):
            if isinstance(before, Layer):
                value = as_layer(self.name, name, value)
            elif isinstance(before, list | tuple) and isinstance(next(iter(before), None), Layer):
                value = as_layers(self.name, value, name)
        value = value.as_child() if isinstance(value, Layer) else value
        super(Layer, self).__setattr__(name, value)

    @property
    def children(self) -> list[Layer]:  # type: ignore[override]
        """The layers among the arguments, in order; a list or tuple counts with each of its items.

        Raises:
            TypeError: there is none, or something in a list of layers is not a layer.
        """
        found: list[Layer] = []
        for name in parameters_of(type(self)):
            value = vars(self)[name] if name in vars(self) else kept(self, name)
            if isinstance(value, Layer):
                found.append(value)
            elif isinstance(value, list | tuple):
                before = len(found)
                for item in value:
                    if isinstance(item, Layer):
                        found.append(item)  # noqa: PERF401 (a call less)
                if before < len(found) < before + len(value):  # some are layers, but not all
                    as_layers(self.name, value)
        if not found:
            raise TypeError(
                f"{self.name}: expected a layer, or a list of layers, among the arguments of its "
                "constructor, found none; pass the layers that it is made of, and keep each "
                "argument under its own name"
            )
        return found

    def by_path(self, attribute: str) -> Mapping[str, Any]:
        """Return what the layers below keep under names, as one read-only dict under paths."""
        return MappingProxyType(
            {
                ".".join(map(str, (*keys, name))): value
                for keys, layer in once(self)
                if not layer.children
                for name, value in getattr(layer, attribute).items()
            }
        )

    parameters = property(lambda self: self.by_path("parameters"))
    buffers = property(lambda self: self.by_path("buffers"))
    regularizers = property(lambda self: self.by_path("regularizers"))
    gradients = property(lambda self: self.by_path("gradients"))
    states = property(lambda self: self.by_path("states"))

    @property
    def backend(self) -> Backend:  # type: ignore[override]
        """The backend of the first layer; `check_backend` checks that all layers share it."""
        layer: Layer = self
        while isinstance(layer, Container):
            layer = layer.children[0]
        return layer.backend

    def check_backend(self) -> None:
        """Check that all layers were born on one backend.

        Raises:
            BackendError: they were not; two of them are named.
        """
        first, *others = [layer for _, layer in walk(self) if not layer.children]
        for layer in others:
            if layer.backend is not first.backend and not layer.backend.same_place(first.backend):
                raise BackendError(
                    f"{first.name} was born on {first.backend}, {layer.name} on {layer.backend}",
                    "make all layers of a network under one nnx.set_backend(...)",
                )

    def check_batch(self, input_shape: Shape, samples: int) -> None:
        """Check the batch in every child; override this if the children get other shapes."""
        for child in self.children:
            child.check_batch(input_shape, samples)

    def check_inputs(self, x: Any) -> None:
        """Check x in every child; override this if the children do not get x as it is."""
        for child in self.children:
            child.check_inputs(x)

    def padding_after(self, before: Padding) -> Padding:
        """Check each child by itself, as it is not known what it gets; override this if it is."""
        for child in self.children:
            check_padding(child, [child])
        return before

    @property
    def traceable(self) -> bool:  # type: ignore[override]
        """Are all children traceable? A subclass that is not sets this to False."""
        return all(child.traceable for child in self.children)

    @property
    def frozen(self) -> bool:
        """Are all children frozen? Setting it sets every layer below."""
        return bool(self.children) and all(child.frozen for child in self.children)

    @frozen.setter
    def frozen(self, value: bool) -> None:
        for child in self.children:
            child.frozen = value

    def _fill(self, source: Any, backend: Backend, convert: Any, made: dict[int, Any]) -> None:
        """Give a twin children of its own."""
        own = vars(self)
        own.pop("backend", None)

        def twin(value: Any) -> Any:
            return value.twin(backend, convert, made) if isinstance(value, Layer) else value

        for name, value in vars(source).items():  # other attributes may hold a child, too
            if isinstance(value, list | tuple):
                own[name] = type(value)(map(twin, value))
            elif isinstance(value, Layer):
                own[name] = twin(value)


class SequentialLayer(Container):
    """Layers one after another: y = f_n(... f_1(x)); backward runs through them in reverse.

    Args:
        layers: in order; a layer may stand in the list twice, and a list in it is a
            SequentialLayer.
        name: what messages call the layer.

    Raises:
        ValueError: there is no layer.
        TypeError: something in the list is not a layer.
    """

    can_skip_dx = True

    def __init__(self, layers: Iterable[Any], name: str | None = None) -> None:
        super().__init__(name)
        self.layers: list[Layer] = as_layers(self.name, layers)
        self.check_backend()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "layers":
            value = as_layers(self.name, value)
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        """Return `layers[index]`; for a slice, these layers themselves as a SequentialLayer."""
        found = self.layers[index]
        return SequentialLayer(found) if isinstance(found, list) else found

    def __setitem__(self, index: int, layer: Any) -> None:
        """Put a layer in the place of another one."""
        layers = list(self.layers)
        layers[index] = layer
        self.layers = layers

    @property
    def backend(self) -> Backend:  # type: ignore[override]
        """The backend of the first layer."""
        try:
            return self.layers[0].backend
        except (AttributeError, IndexError):  # no layer
            return super().backend

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return the last value and the backward through all."""
        backwards = []
        for layer in self.layers:
            x, backward_of_layer = layer.forward(x, training)
            backwards.append(backward_of_layer)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, Gradients]:
            gradients: Gradients = {}
            for i in range(len(backwards) - 1, 0, -1):
                delta, gradients[i] = backwards[i](delta)
            skip = skipping(self.layers[0], need_dx)
            delta, gradients[0] = backwards[0](delta, **skip)
            return delta, gradients

        return x, backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape that the last layer gives.

        Raises:
            ShapeError: a layer does not take what the one before it gives; both are named.
        """
        return self.shapes(input_shape, "the input is")[-1]

    def shapes(self, shape: Shape, source: str) -> list[Shape]:
        """Return the output shape of each layer, after checking that it is a layer.

        Args:
            shape: of the first input.
            source: who gives it, for a message.
        """
        found = []
        for number, layer in enumerate(self.layers or as_layers(self.name, []), start=1):
            if not isinstance(layer, Layer) or (
                isinstance(layer, Container) and layer.as_child() is not layer
            ):
                self.layers[:] = as_layers(self.name, self.layers)
                return self.shapes(shape, source)
            try:
                shape_after = layer.output_shape(shape)
                if type(shape_after) is not tuple:
                    raise explain_shape(layer, shape, shape_after) or TypeError(layer)
            except (ShapeError, TypeError) as error:
                reason = told(layer, shape, error)
                if not isinstance(reason, ShapeError):
                    raise
                if number > 1:
                    source = f"layer {number - 1} ({self.layers[number - 2].name}) gives"
                remedy = _remedy(self.layers[:number], shape) if ";" not in str(reason) else ""
                raise ShapeError(
                    f"layer {number} ({layer.name}) {reason}; {source} {shape}{remedy}"
                ) from (None if reason is error else error)
            found.append(shape_after)
            shape = shape_after
        return found

    def check_batch(self, input_shape: Shape, samples: int) -> None:
        """Check each layer with the shape that the one before it gives."""
        for layer in self.layers:
            layer.check_batch(input_shape, samples)
            input_shape = layer.output_shape(input_shape)

    def check_inputs(self, x: Any) -> None:
        """Let the first layer check them."""
        self.layers[0].check_inputs(x)

    def padding_after(self, before: Padding) -> Padding:
        """Let the layers treat it one after another."""
        for layer in self.layers:
            before = layer.padding_after(before)
        return before

    def last_activations(self) -> list[Activation] | None:
        """Return the activations of the last layer that does more than rearrange its inputs."""
        for layer in reversed(self.layers):
            if not layer.keeps_values:
                return layer.last_activations()
        return None


def _remedy(layers: list[Layer], shape: Shape) -> str:
    """Return what to write if the last of some layers does not take what comes before it."""
    *before, layer = layers
    if before and len(shape) == 1 and getattr(before[-1], "return_sequences", True) is False:
        return f"; for all time steps, give layer {len(before)} return_sequences=True"
    if len(shape) == 1 and getattr(layer, "ni", shape[0]) != shape[0]:
        return f"; write {type(layer).__name__}({shape[0]}, ...)"
    return ""


def skipping(layer: Layer, need_dx: bool) -> dict[str, bool]:
    """Return what a backward of the layer is given besides delta, so that it computes no dx."""
    return {} if need_dx or not layer.can_skip_dx else {"need_dx": False}


def as_layer(owner: str, name: str, child: Any) -> Layer:
    """Return a child; a list of layers as a SequentialLayer. Messages call it by the name.

    Raises:
        TypeError: it is not a layer.
        ValueError: it is a network with an optimizer of its own.
    """
    if isinstance(child, list | tuple):
        return SequentialLayer(child)
    if not isinstance(child, Layer):
        remedy = f"; write {child.__name__}(...)" if isinstance(child, type) else ""
        remedy = "; write for example DenseLayer(64, 10)" if isinstance(child, str) else remedy
        if isinstance(child, Activation):
            remedy = f"; write ActivationLayer({child!r})"
        raise TypeError(f"{owner}: expected {name} to be a layer, got {child!r}{remedy}")
    return child.as_child()


def as_layers(owner: str, layers: Any, name: str = "layers") -> list[Layer]:
    """Return a list of at least one layer.

    Raises:
        TypeError: not a list, or something in it is not a layer.
        ValueError: it is empty.
    """
    if isinstance(layers, Layer):
        raise TypeError(f"{owner}: expected a list of layers, got one layer; write [{layers!r}]")
    items = sequence(owner, name, layers, "a list of layers")
    if not items:
        raise ValueError(f"{owner}: expected at least one layer, got none")
    return [as_layer(owner, f"layer {i}", item) for i, item in enumerate(items, start=1)]
