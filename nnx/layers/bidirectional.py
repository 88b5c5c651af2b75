"""A recurrent layer that reads forward beside one that reads backward."""

from __future__ import annotations

from nnx.layers.container import ParallelLayer
from nnx.layers.recurrent import RecurrentLayer

__all__ = ["BidirectionalLayer"]


class BidirectionalLayer(ParallelLayer):
    """Two recurrent layers on the same input, one for each direction of time.

        y = (y_forward, y_backward) along the features, or y_forward + y_backward

    Backward: each layer gets its part of delta, or all of it; dx is the sum of theirs. Without
    return_sequences, y is what each knows at its end: the one after the last step, the other after
    the first.

        BidirectionalLayer(LSTMLayer(8, 16), LSTMLayer(8, 16, reverse=True))

    Shapes: x (samples, time, ni); y as that of the two layers, with the sum of their features for
    "concat". It is a container: parameters are "0.W_ih", "1.W_ih", ... In PyTorch's bidirectional
    layers they are weight_ih_l0, weight_ih_l0_reverse, ...

    Args:
        forward: the recurrent layer that reads forward.
        backward: one with reverse=True, that takes the same input.
        merge: "concat" or "sum".
        name: what messages call the layer.

    Raises:
        ValueError: the two layers do not go together, or an unknown merge.
        TypeError: they are no recurrent layers.

    Source: Schuster and Paliwal, IEEE Transactions on Signal Processing 45, 1997.
    """

    def __init__(
        self,
        forward: RecurrentLayer,
        backward: RecurrentLayer,
        merge: str = "concat",
        name: str | None = None,
    ) -> None:
        owner = name or type(self).__name__
        for layer in (forward, backward):
            if not isinstance(layer, RecurrentLayer):
                raise TypeError(f"{owner}: expected a layer such as LSTMLayer, got {layer!r}")
        if forward.reverse or not backward.reverse:
            raise ValueError(
                f"{owner}: expected a layer that reads forward and one made with reverse=True, in "
                f"this order, got {forward!r} and {backward!r}"
            )
        for fact in ("ni", "return_sequences", "mask_value", *(["no"] if merge == "sum" else [])):
            one, other = getattr(forward, fact), getattr(backward, fact)
            if one != other:
                raise ValueError(
                    f"{owner}: expected both layers to have the same {fact}, got {one} and {other}"
                )
        super().__init__([forward, backward], merge, axis=-1, name=name)

    def __repr__(self) -> str:
        forward, backward = self.children
        return f"BidirectionalLayer({forward!r}, {backward!r}, {self.merging!r})"
