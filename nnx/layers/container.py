"""Layers that are made of layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from nnx.backend import Array, Backend, BackendError, array_namespace, get_backend
from nnx.layers.base import Backward, Gradients, Layer, ShapeError, gradient_of

__all__ = ["Container", "ParallelLayer", "ResidualLayer", "SequentialLayer"]

Shape = tuple[int, ...]


class Slot(NamedTuple):
    """A parameter of a container: whose, its name there, its dotted name, where it is used.

    A place is the number of a child and the name in the gradients of that child.
    """

    leaf: Layer
    name: str
    key: str
    places: list[tuple[int, str]]


class Container(Layer):
    """Base class of layers that are made of layers, their children.

    What it has is its children's: parameters, buffers, penalties and gradients, under dotted
    names; "0.W" is W of the first child. A child may stand in several places, also inside of
    other containers; it is one set of parameters then, and its gradients are added. Every child
    has its own optimizer.

    Subclasses define `forward`, whose backward returns `self.merge([...])`, and `output_shape`.

    Args:
        children: layers; a SequentialNet stands for its layers.
        name: what messages call the layer.

    Raises:
        TypeError: something is no layer.
        BackendError: the children were not all born on one backend.
    """

    can_skip_dx: ClassVar[bool] = True

    def __init__(self, children: Iterable[Any], name: str | None = None) -> None:
        self.children = [
            _as_layer(type(self).__name__, number, child)
            for number, child in enumerate(children, start=1)
        ]
        super().__init__(None, name)
        self.backend = _common_backend(self.children)

    def places(self) -> list[tuple[str, Layer]]:
        """Every place of a layer without children, with the prefix of its names."""
        return [
            (f"{i}.{prefix}", leaf)
            for i, child in enumerate(self.children)
            for prefix, leaf in child.places()
        ]

    def slots(self, frozen: bool = True) -> list[Slot]:
        """The parameters, each of them once; those of frozen layers only if asked for."""
        slots: dict[tuple[int, str], Slot] = {}
        for i, child in enumerate(self.children):
            for prefix, leaf in child.leaves():
                if leaf.frozen and not frozen:
                    continue
                for name in leaf.parameters:
                    own = slots.setdefault(
                        (id(leaf), name), Slot(leaf, name, f"{i}.{prefix}{name}", [])
                    )
                    own.places.append((i, prefix + name))
        return list(slots.values())

    def merge(self, gradients: Sequence[Gradients], frozen: bool = True) -> Gradients:
        """The gradients of the children, in order, under dotted names; shared ones are summed."""
        slots = self.slots(frozen)
        return dict(
            zip([s.key for s in slots], gather(slots, self.children, gradients), strict=True)
        )

    # What a layer has: here it is the children's.

    def _collect(self, attribute: str) -> dict[str, Any]:
        return {
            prefix + name: value
            for prefix, leaf in self.leaves()
            for name, value in getattr(leaf, attribute).items()
        }

    def _distribute(self, attribute: str, values: dict[str, Any]) -> None:
        for prefix, leaf in self.leaves():
            size = len(prefix)
            setattr(
                leaf,
                attribute,
                {
                    key[size:]: value
                    for key, value in values.items()
                    if key.startswith(prefix) and "." not in key[size:]
                },
            )

    parameters = property(
        lambda self: self._collect("parameters"),
        lambda self, values: values and self._distribute("parameters", values),
    )
    buffers = property(
        lambda self: self._collect("buffers"),
        lambda self, values: values and self._distribute("buffers", values),
    )
    regularizers = property(
        lambda self: self._collect("regularizers"),
        lambda self, values: values and self._distribute("regularizers", values),
    )
    gradients = property(
        lambda self: self._collect("gradients"),
        lambda self, values: self._distribute("gradients", values),
    )

    @property
    def traceable(self) -> bool:  # type: ignore[override]
        """Are all children? A subclass that is not says False."""
        return all(child.traceable for child in self.children)

    @property
    def frozen(self) -> bool:
        """Are all children frozen? To say so is to say it to each of them."""
        return bool(self.children) and all(child.frozen for child in self.children)

    @frozen.setter
    def frozen(self, value: bool) -> None:
        for child in self.children:
            child.frozen = value

    def regularize(self, gradients: Gradients) -> Gradients:
        """The gradients plus those of the penalties."""
        for key, regularizer in self.regularizers.items():
            gradients[key] = regularizer.update(self.parameters[key], gradients[key])
        return gradients

    def update(self) -> None:
        """Let the children's optimizers act with the gradients of the last `backprop`."""
        for _, leaf in self.leaves():
            leaf.update()

    def to(self, backend: Backend, moved: dict[int, Layer] | None = None) -> Self:
        """The same layer on another backend; what is shared stays shared."""
        moved = {} if moved is None else moved
        twin = copy.copy(self)
        twin.children = []
        for child in self.children:
            if id(child) in moved:
                pass
            elif isinstance(child, Container):
                moved[id(child)] = child.to(backend, moved)
            else:
                moved[id(child)] = child.to(backend)
            twin.children.append(moved[id(child)])
        twin.backend, twin._backward = backend, None
        return twin

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.children))})"


class SequentialLayer(Container):
    """Layers one after another: y = f_n(... f_1(x)); backward runs through them in reverse.

    Args:
        layers: in order; a layer may stand in the list twice.
        name: what messages call the layer.

    Raises:
        ValueError: there is no layer.
    """

    def __init__(self, layers: Iterable[Any], name: str | None = None) -> None:
        super().__init__(layers, name)
        if not self.children:
            raise ValueError(f"{self.name}: expected at least one layer, got none")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The last value and the backward through all."""
        x, backwards = run([child.forward for child in self.children], self.children, x, training)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, Gradients]:
            lowest = 0 if need_dx else first_to_train(self.children)
            dx, gradients = run_back(self.children, backwards, delta, lowest, need_dx)
            return dx, self.merge(gradients, frozen=need_dx)

        return x, backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape that the last layer gives.

        Raises:
            ShapeError: a layer does not take what the one before it gives; both are named.
        """
        return self.shapes(input_shape, "the input is")[-1]

    def shapes(self, shape: Shape, source: str) -> list[Shape]:
        """The output shapes of all layers; `source` is who gives the first input, for a message."""
        found = []
        for number, layer in enumerate(self.children, start=1):
            try:
                found.append(layer.output_shape(shape))
            except ShapeError as error:
                raise ShapeError(
                    f"layer {number} ({layer.name}) {error}; {source} {shape}"
                ) from None
            shape, source = found[-1], f"layer {number} ({layer.name}) gives"
        return found


class ResidualLayer(Container):
    """y = x + f(x), with f a block of layers that keeps the shape; backward: delta + f'(x) delta.

    Args:
        block: a layer, a list of layers or a SequentialNet.
        name: what messages call the layer.

    Source: He, Zhang, Ren and Sun, CVPR 2016.
    """

    def __init__(self, block: Any, name: str | None = None) -> None:
        super().__init__([_as_block(block)], name)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x + f(x) and delta -> delta + f'(x) delta."""
        (block,) = self.children
        y, block_backward = block.forward(x, training and not block.frozen)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, Gradients]:
            dx, gradients = call(block, block_backward, delta, need_dx)
            return delta + dx if need_dx else None, self.merge([gradients], frozen=need_dx)

        return x + y, backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input.

        Raises:
            ShapeError: the block gives another shape.
        """
        (block,) = self.children
        shape = block.output_shape(input_shape)
        if shape != input_shape:
            raise ShapeError(
                f"adds its input to what its block gives: expected {input_shape}, got {shape}; "
                "give the block's last layer as many outputs as the block has inputs"
            )
        return shape


class ParallelLayer(Container):
    """The same input through several branches, whose outputs are added or put side by side.

    merge="sum": y = sum_i f_i(x); merge="concat": y = [f_1(x), f_2(x), ...] along `axis`.
    Backward: dx = sum_i f_i'(x) delta_i, where delta_i is delta, or the part of it that belongs
    to the branch.

    Args:
        branches: layers; a list of layers or a SequentialNet is a branch too.
        merge: "sum" or "concat".
        axis: of one sample, for "concat". If not given it is the channels of images (0) and the
            features of vectors and sequences (-1).
        name: what messages call the layer.

    Raises:
        ValueError: there is no branch, or an unknown merge.
    """

    def __init__(
        self,
        branches: Iterable[Any],
        merge: str = "concat",
        axis: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__([_as_block(branch) for branch in branches], name)
        if not self.children:
            raise ValueError(f"{self.name}: expected at least one branch, got none")
        if merge not in ("sum", "concat"):
            raise ValueError(f'{self.name}: merge must be "sum" or "concat", got {merge!r}')
        self.merging, self.axis = merge, axis

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """The branches' outputs as one, and delta -> the sum of what they return."""
        ys, backwards = [], []
        for child in self.children:
            y, backward_of_child = child.forward(x, training and not child.frozen)
            ys.append(y)
            backwards.append(backward_of_child)
        if self.merging == "concat":
            axis = self._axis(x.ndim - 1)
            axis = axis + 1 if axis >= 0 else axis
            y = array_namespace(x).concat(ys, axis=axis)
            sizes = [part.shape[axis] for part in ys]
        else:
            y = sum(ys[1:], start=ys[0])

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, Gradients]:
            if self.merging == "concat":
                parts = _split(delta, sizes, axis)
            else:
                parts = [delta] * len(self.children)
            results = [
                call(child, backward_of_child, part, need_dx)
                for child, backward_of_child, part in zip(
                    self.children, backwards, parts, strict=True
                )
            ]
            first, *others = [dx for dx, _ in results]
            return (
                sum(others, start=first) if need_dx else None,
                self.merge([gradients for _, gradients in results], frozen=need_dx),
            )

        return y, backward

    def _axis(self, axes: int) -> int:
        """Along which axis of samples of so many axes the branches are joined."""
        if self.axis is not None:
            return self.axis
        return 0 if axes == 3 else -1

    def output_shape(self, input_shape: Shape) -> Shape:
        """The common shape, or that of the branches side by side.

        Raises:
            ShapeError: the branches' outputs do not fit together.
        """
        shapes = [child.output_shape(input_shape) for child in self.children]
        first = shapes[0]
        if self.merging == "sum":
            if any(shape != first for shape in shapes):
                raise ShapeError(
                    f"adds its branches: expected outputs of one shape, got {_list(shapes)}"
                )
            return first
        axis = self._axis(len(input_shape))
        if not -len(first) <= axis < len(first):
            raise ShapeError(f"joins axis {axis}: its branches give {_list(shapes)}")
        axis %= len(first)
        if any(
            len(s) != len(first) or s[:axis] + s[axis + 1 :] != first[:axis] + first[axis + 1 :]
            for s in shapes
        ):
            raise ShapeError(
                f"joins its branches along axis {axis}: expected outputs that differ there "
                f"only, got {_list(shapes)}"
            )
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def run(
    forwards: Sequence[Callable[..., Any]], layers: Sequence[Layer], x: Array, training: bool
) -> tuple[Array, list[Backward]]:
    """Through the forwards of layers in order: the last value, and every backward.

    A frozen layer is evaluated as it is outside of training.
    """
    backwards = []
    for forward, layer in zip(forwards, layers, strict=True):
        x, backward = forward(x, training and not layer.frozen)
        backwards.append(backward)
    return x, backwards


def run_back(
    layers: Sequence[Layer],
    backwards: Sequence[Backward],
    delta: Array,
    lowest: int = 0,
    need_dx: bool = True,
) -> tuple[Array, list[Gradients]]:
    """Through the backwards in reverse, down to layer `lowest`; those below have no gradients."""
    gradients: list[Gradients] = [{}] * len(layers)
    for i in range(len(layers) - 1, lowest, -1):
        delta, gradients[i] = backwards[i](delta)
    if lowest < len(layers):
        delta, gradients[lowest] = call(layers[lowest], backwards[lowest], delta, need_dx)
    return delta, gradients


def call(layer: Layer, backward: Backward, delta: Array, need_dx: bool) -> tuple[Array, Gradients]:
    """The backward of a layer, without dx where nobody needs it and the layer can leave it out."""
    if need_dx or not layer.can_skip_dx:
        return backward(delta)
    return backward(delta, need_dx=False)


def first_to_train(layers: Sequence[Layer]) -> int:
    """The number of the first layer with something to train; below it no gradient is needed."""
    for i, layer in enumerate(layers):
        if any(leaf.parameters and not leaf.frozen for _, leaf in layer.leaves()):
            return i
    return len(layers)


def gather(
    slots: Sequence[Slot], layers: Sequence[Layer], gradients: Sequence[Gradients]
) -> list[Array]:
    """The gradients of slots, from those of the layers; what is used in several places is summed.

    Raises:
        ValueError: a layer's backward has not returned one of them.
    """
    try:
        # One place each, and nothing missing: the usual case, in a third of the time.
        return [gradients[i][name] for ((i, name),) in [slot.places for slot in slots]]
    except (KeyError, ValueError):
        pass
    found = []
    for slot in slots:
        (i, name), *others = slot.places
        gradient = gradient_of(layers[i], gradients[i], name)
        for j, other in others:
            gradient = gradient + gradient_of(layers[j], gradients[j], other)
        found.append(gradient)
    return found


def _split(delta: Array, sizes: Sequence[int], axis: int) -> list[Array]:
    """The parts of an array along an axis, views of it."""
    axis %= delta.ndim
    parts, start = [], 0
    for size in sizes:
        here = (*[slice(None)] * axis, slice(start, start + size))
        parts.append(delta[(*here, ...)])
        start += size
    return parts


def _as_layer(owner: str, number: int, child: Any) -> Layer:
    """The child; a network as the layer that its layers are."""
    if isinstance(child, Layer):
        return child
    chain = getattr(child, "chain", None)
    if not isinstance(chain, Layer):
        raise TypeError(f"{owner}: layer {number} is no Layer but {child!r}")
    if child.optim is not None:
        raise ValueError(
            f"{owner}: layer {number} is a network with an optimizer of its own; give the "
            "optimizer to its layers, or to the outermost network: SequentialNet(..., optim=...)"
        )
    return chain


def _as_block(block: Any) -> Any:
    """A list of layers as one layer."""
    return SequentialLayer(block) if isinstance(block, list | tuple) else block


def _common_backend(layers: Sequence[Layer]) -> Backend:
    backend = layers[0].backend if layers else get_backend()
    for number, layer in enumerate(layers, start=1):
        if not layer.backend.same_place(backend):
            raise BackendError(
                f"layer 1 ({layers[0].name}) was born on {backend}, "
                f"layer {number} ({layer.name}) on {layer.backend}",
                "make all layers of a network under one nnx.set_backend(...)",
            )
    return backend


def _list(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes))
