"""An activation as a layer."""

from __future__ import annotations

from nnx.activations import Activation
from nnx.backend import Array
from nnx.layers.base import Backward, Gradients, Layer

__all__ = ["ActivationLayer"]


class ActivationLayer(Layer):
    """a = phi(x), backward: phi'(x) delta, of any shape.

    For an activation that does not belong to a layer with weights, after a normalisation say.

    Args:
        afun: the activation.
        name: what messages call the layer.
    """

    def __init__(self, afun: Activation, name: str | None = None) -> None:
        super().__init__(None, name)
        if not isinstance(afun, Activation):
            raise TypeError(f"{self.name}: expected an activation such as ReLU(), got {afun!r}")
        self.afun = afun

    def preactivation(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """x itself: where a loss cancels with the activation, the network works with that."""
        return x, lambda delta: (delta, {})

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """phi(x) and delta -> phi'(x) delta."""
        a, activation = self.afun.forward(x)

        def backward(delta: Array) -> tuple[Array, Gradients]:
            return activation(delta), {}

        return a, backward

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the input."""
        return input_shape

    def __repr__(self) -> str:
        return f"ActivationLayer({self.afun!r})"
