"""An activation as a layer."""

from __future__ import annotations

from nnx.activations import Activation
from nnx.backend import Array
from nnx.layers._arguments import Checked
from nnx.layers._padding import Padding, stays
from nnx.layers._shapes import Shape
from nnx.layers.base import Backward, Gradients, Layer

__all__ = ["ActivationLayer"]


class ActivationLayer(Layer):
    """Apply an activation: a = phi(x), backward: dx = phi'(x) delta.

    Use it for an activation that does not belong to a layer with weights, for example after a
    normalization.

    Shapes: x and a alike, any.

    Args:
        afun: the activation.
        name: what messages call the layer.

    Raises:
        TypeError: afun is not an activation.
    """

    afun = Checked(Activation, "ReLU()")

    def __init__(self, afun: Activation, name: str | None = None) -> None:
        super().__init__(name=name)
        self.afun = afun

    def preactivation(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x itself. A network whose loss cancels with the activation works with it."""
        return x, lambda delta: (delta, {})

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """phi(x) and delta -> phi'(x) delta."""
        a, activation = self.afun.forward(x)

        def backward(delta: Array) -> tuple[Array, Gradients]:
            return activation(delta), {}

        return a, backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape

    def padding_after(self, before: Padding) -> Padding:
        """It is kept if phi(value) = value; an activation of a user's own is taken to keep it."""
        return before if stays(self.afun, before.value) else before.lost(self)
