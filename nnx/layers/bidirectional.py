"""Two recurrent layers that read a sequence in both directions."""

from __future__ import annotations

from typing import Any

from nnx import checks
from nnx.layers.branches import ParallelLayer
from nnx.layers.container import Container
from nnx.layers.recurrent import RecurrentLayer

__all__ = ["BidirectionalLayer"]


class BidirectionalLayer(ParallelLayer):
    """Apply two recurrent layers to the same input, one for each direction of time.

        y = (y_forward, y_backward) along the features, or y_forward + y_backward

    Backward: each layer gets its part of delta, or all of it for "sum"; dx is the sum of theirs.
    Without return_sequences, y has the last state of each: one after the last time step, the other
    after the first.

        BidirectionalLayer(LSTMLayer(8, 16), LSTMLayer(8, 16, reverse=True))

    Shapes: x (samples, time, ni); y as that of the two layers, with the sum of their features for
    "concat". The layer is a container: its parameters are "0.W_ih", "1.W_ih", ... In PyTorch's
    bidirectional layers they are weight_ih_l0, weight_ih_l0_reverse, ...

    Args:
        forward_layer: the recurrent layer that reads from the first time step to the last.
        backward_layer: one with reverse=True that takes the same input.
        merge: "concat" or "sum".
        name: what messages call the layer.

    Raises:
        TypeError: one of the two is not a recurrent layer.
        ValueError: the two layers do not fit together, or merge is unknown.

    Source: Schuster and Paliwal, IEEE Transactions on Signal Processing 45, 1997.
    """

    def __init__(
        self,
        forward_layer: RecurrentLayer,
        backward_layer: RecurrentLayer,
        merge: str = "concat",
        name: str | None = None,
    ) -> None:
        _check(self, forward_layer, backward_layer, merge)
        Container.__init__(self, name)
        self.forward_layer, self.backward_layer = forward_layer, backward_layer
        self.merge, self.axis = merge, -1
        self.check_backend()

    def __setattr__(self, name: str, value: Any) -> None:
        pair = {key: vars(self).get(key) for key in ("forward_layer", "backward_layer", "merge")}
        if pair.get(name) is not None:
            _check(self, **{**pair, name: value})
        super().__setattr__(name, value)


def _check(owner: Any, forward_layer: Any, backward_layer: Any, merge: str) -> None:
    """Check that two layers fit together, as the constructor says."""
    given = {"forward_layer": forward_layer, "backward_layer": backward_layer}
    for argument, layer in given.items():
        checks.instance(owner, argument, layer, RecurrentLayer, "LSTMLayer(8, 16)")
    checks.choice(owner, "merge", merge, ("concat", "sum"))
    if forward_layer.reverse or not backward_layer.reverse:
        raise ValueError(
            "BidirectionalLayer: expected forward_layer to read forward and backward_layer to "
            f"be made with reverse=True, got {forward_layer!r} and {backward_layer!r}; swap "
            "them, or make the second with reverse=True"
        )
    for fact in ("ni", "return_sequences", "mask_value", *(["no"] if merge == "sum" else [])):
        one, other = getattr(forward_layer, fact), getattr(backward_layer, fact)
        if one != other:
            raise ValueError(
                f"BidirectionalLayer: expected both layers to have the same {fact}, got {one} "
                f"and {other}; make both with the same"
            )
