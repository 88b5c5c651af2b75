"""Layers whose children get the same input: around a block, or side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from nnx.activations import Activation
from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError, choice, shapes
from nnx.layers._padding import Padding, joined
from nnx.layers._shapes import Shape, merged, output_shape, total
from nnx.layers.base import Backward, Gradients
from nnx.layers.container import Container, as_layer, as_layers, skipping

__all__ = ["ParallelLayer", "ResidualLayer"]


class ResidualLayer(Container):
    """y = x + f(x), with f a block of layers that keeps the shape; backward: delta + f'(x) delta.

    Args:
        block: a layer, or a list of layers, which is a SequentialLayer.
        name: what messages call the layer.

    Source: He, Zhang, Ren and Sun, CVPR 2016.
    """

    can_skip_dx = True

    def __init__(self, block: Any, name: str | None = None) -> None:
        super().__init__(name)
        self.block = as_layer(self.name, "block", block)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return x + f(x) and delta -> delta + f'(x) delta."""
        y, backward_of_block = self.block.forward(x, training)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array | None, Gradients]:
            dx, gradients = backward_of_block(delta, **skipping(self.block, need_dx))
            return delta + dx if need_dx else None, {0: gradients}

        return x + y, backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the input.

        Raises:
            ShapeError: the block gives another shape.
        """
        shape = output_shape(self.block, input_shape)
        both = merged(shape, input_shape)
        if both is None:
            raise ShapeError(
                f"adds its input to the output of its block: expected {input_shape}, got {shape}; "
                "give the block's last layer as many outputs as the block has inputs"
            )
        return both

    def padding_after(self, before: Padding) -> Padding:
        """Add its value and that of the block's output."""
        return joined(self, [before, self.block.padding_after(before)], add=True)


class ParallelLayer(Container):
    """The same input through several branches, whose outputs are added or put side by side.

    merge="sum": y = sum_i f_i(x); merge="concat": y = [f_1(x), f_2(x), ...] along `axis`.
    Backward: dx = sum_i f_i'(x) delta_i, where delta_i is delta, or the part of it that belongs
    to the branch.

    Args:
        branches: layers; a list in it is a SequentialLayer.
        merge: "sum" or "concat".
        axis: of one sample, for "concat". If not given it is the channels of images (0) and the
            features of vectors and sequences (-1).
        name: what messages call the layer.

    Raises:
        ValueError: there is no branch, or an unknown merge.
        TypeError: a branch is not a layer, or the axis not an integer.
    """

    MERGES: ClassVar[tuple[str, ...]] = ("sum", "concat")

    def __init__(
        self,
        branches: Iterable[Any],
        merge: str = "concat",
        axis: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.branches = as_layers(self.name, branches, "branches")
        self.merge = choice(self.name, "merge", merge, self.MERGES)
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
            raise TypeError(f"{self.name}: expected axis to be an integer or None, got {axis!r}")
        self.axis = axis
        self.check_backend()

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return the branches' outputs as one, and delta -> the sum of what they return."""
        results = [branch.forward(x, training) for branch in self.children]
        ys = [y for y, _ in results]
        if self.merge == "sum":
            y, split = sum(ys[1:], start=ys[0]), lambda delta: [delta] * len(ys)
        else:
            axis = self._axis(x.ndim - 1)
            axis = axis + 1 if axis >= 0 else axis
            y, split = array_namespace(x).concat(ys, axis=axis), _splitter(ys, axis)

        def backward(delta: Array) -> tuple[Array, Gradients]:
            parts = [
                backward_of_branch(part)
                for (_, backward_of_branch), part in zip(results, split(delta), strict=True)
            ]
            first, *others = [dx for dx, _ in parts]
            return sum(others, start=first), {i: part[1] for i, part in enumerate(parts)}

        return y, backward

    def _axis(self, axes: int) -> int:
        """Return the axis along which branches are joined, for samples of so many axes."""
        if self.axis is not None:
            return self.axis
        return 0 if axes == 3 else -1

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the common shape, or that of the branches side by side.

        Raises:
            ShapeError: the branches' outputs do not fit together.
        """
        found = [output_shape(branch, input_shape) for branch in self.children]
        first = found[0]
        if self.merge == "sum":
            if (common := merged(*found)) is None:
                raise ShapeError(
                    f"adds its branches: expected outputs of one shape, got {shapes(found)}"
                )
            return common
        axis = self._axis(len(input_shape))
        if not -len(first) <= axis < len(first):
            raise ShapeError(f"joins axis {axis}: its branches give {shapes(found)}")
        axis %= len(first)
        beside = merged(*[(len(s), *s[:axis], *s[axis + 1 :]) for s in found])
        if beside is None:
            raise ShapeError(
                f"joins its branches along axis {axis}: expected outputs that differ there "
                f"only, got {shapes(found)}"
            )
        joined = total(*[shape[axis] for shape in found])
        return (*beside[1 : axis + 1], joined, *beside[axis + 1 :])

    def padding_after(self, before: Padding) -> Padding:
        """It is kept if all branches give it the same value, or is the sum of their values."""
        found = [branch.padding_after(before) for branch in self.children]
        return joined(self, found, add=self.merge == "sum")

    def last_activations(self) -> list[Activation] | None:
        """Return those of all branches if they stand side by side; a sum has none."""
        found = [branch.last_activations() for branch in self.children]
        if self.merge == "sum" or None in found:
            return None
        return [afun for of_branch in found for afun in of_branch or ()]


def _splitter(parts: Sequence[Array], axis: int) -> Callable[[Array], list[Array]]:
    """Return what splits an array along an axis into parts of the same sizes, views of it."""
    axis %= parts[0].ndim
    sizes = [part.shape[axis] for part in parts]

    def split(delta: Array) -> list[Array]:
        found, start = [], 0
        for size in sizes:
            here = (*[slice(None)] * axis, slice(start, start + size))
            found.append(delta[(*here, ...)])
            start += size
        return found

    return split
