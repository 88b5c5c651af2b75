"""A block of layers that keeps the padding of sequences."""

from __future__ import annotations

from typing import Any

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError
from nnx.layers._padding import Padding
from nnx.layers._sequences import check_input, is_data
from nnx.layers._shapes import Shape, merged, output_shape
from nnx.layers.base import Backward, Gradients
from nnx.layers.container import Container, as_layer, skipping

__all__ = ["MaskedLayer"]


class MaskedLayer(Container):
    """y = f(x) for time steps that are data, and y = mask_value for padding, in all features.

    Backward: dx = f'(x) delta, where delta and dx are 0 for padding. A time step whose features
    are all equal to mask_value is padding, as in the recurrent layers and attention. f may be
    layers that would give padding other values, so that the layers that follow would take it for
    data: a DenseLayer, LayerNormLayer or others with a bias. A block of a transformer is

        ResidualLayer([MaskedLayer(LayerNormLayer(8)), MultiHeadAttentionLayer(8, 2, mask_value=0)])
        ResidualLayer(MaskedLayer([DenseLayer(8, 32), DenseLayer(32, 8, Linear())]))

    A block that ends with ReLU may give 0 in all features for data too, which is padding then:
    prefer Linear() before layers that look for padding.

    Shapes: x (samples, time, features); y (samples, time, features of the block's output).

    Args:
        block: a layer, or a list of layers, which is a SequentialLayer. It keeps the time steps.
        mask_value: the number that all features of padding are equal to.
        name: what messages call the layer.

    Raises:
        TypeError: block is not a layer, or mask_value not a number.
        ValueError: mask_value is not finite.

    Source: Keras masks by a layer Masking, whose mask the layers after it share; ONNX operator
    Where.
    """

    can_skip_dx = True

    def __init__(self, block: Any, mask_value: float = 0.0, name: str | None = None) -> None:
        super().__init__(name)
        self.block = as_layer(self.name, "block", block)
        self.mask_value = checks.number(self, "mask_value", mask_value)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return f(x), with mask_value for padding; delta -> f'(x) delta, with 0 for padding."""
        check_input(self, x)
        xp, data = array_namespace(x), is_data(x, self.mask_value)
        y, backward_of_block = self.block.forward(x, training)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array | None, Gradients]:
            delta = xp.where(data, delta, 0.0)
            dx, gradients = backward_of_block(delta, **skipping(self.block, need_dx))
            return xp.where(data, dx, 0.0) if need_dx else None, {0: gradients}

        return xp.where(data, y, self.mask_value), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(time, features) -> (time, features of the block's output); time may be None, any.

        Raises:
            ShapeError: another shape, or the block does not keep the time steps.
        """
        if len(input_shape) != 2:
            raise ShapeError(f"takes input of shape (time, features), got {input_shape}")
        shape = output_shape(self.block, input_shape)
        time = merged(shape[:1], input_shape[:1])
        if len(shape) != 2 or time is None:
            raise ShapeError(
                "sets padded time steps in the output of its block: expected shape "
                f"({input_shape[0]}, features), got {shape}; give it a block that keeps the time "
                "steps, recurrent layers with return_sequences=True"
            )
        return (*time, shape[1])

    def padding_after(self, before: Padding) -> Padding:
        """It is mask_value; also layers of the block may look for it."""
        after = before.found_by(self, self.mask_value)
        self.block.padding_after(before)
        return after
