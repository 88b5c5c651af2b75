"""What becomes of padded time steps on their way through the layers of a network.

Padding is recognised by its value: all features of a padded time step equal one number. A layer
with `mask_value` looks for that number. Behind a layer that gives padding other values it would
take padding for data, so a network is checked when it is put together: each layer says by
`padding_after` what comes out of it for padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnx.config import is_own

__all__ = ["Padding", "check_padding", "joined", "stays"]


@dataclass(frozen=True)
class Padding:
    """What padding is between two layers.

    Attributes:
        value: the number that all features of a padded time step equal; NaN if they are not alike,
            so that no layer recognises it.
        origin: the layer from which it has the value; None for the input of the network.
        remedy: what to do about that layer if the value is NaN; else a MaskedLayer is proposed.
    """

    value: float
    origin: Any = None
    remedy: str = ""

    @property
    def is_lost(self) -> bool:
        """Does no layer recognise it any more?"""
        return math.isnan(self.value)

    def becomes(self, value: float, layer: Any) -> Padding:
        """Return padding to which a layer gives a value; what was lost stays lost."""
        return self if self.is_lost or value == self.value else Padding(value, layer)

    def lost(self, layer: Any, remedy: str = "") -> Padding:
        """Return padding to which a layer gives other values, not all alike."""
        return self if self.is_lost else Padding(math.nan, layer, remedy)

    def found_by(self, layer: Any, value: float) -> Padding:
        """Return what comes out of a layer that gives the value to the padding that it finds.

        Raises:
            ValueError: the layer has a mask_value, and padding does not equal it.
        """
        wanted = layer.mask_value
        if wanted is None:
            return self.lost(layer, "give it the same mask_value")
        if self.value == wanted:
            return Padding(value, layer)
        origin = "the input" if self.origin is None else repr(self.origin)
        came, remedy = f"{self.value} from {origin}", f"write mask_value={self.value}"
        if self.is_lost:
            more = f", mask_value={wanted}" if wanted else ""
            came = f"other values from {origin}, which does not keep it"
            remedy = self.remedy or f"write MaskedLayer({origin}{more})"
        raise ValueError(
            f"{layer.name}: expected padding to be {wanted}, its mask_value, got {came}; {remedy}"
        )


def joined(layer: Any, parts: Sequence[Padding], add: bool) -> Padding:
    """Return the padding of arrays that a layer adds, or puts side by side."""
    for part in parts:
        if part.is_lost:
            return part
    if add:
        return Padding(sum(part.value for part in parts), layer)
    same = all(part.value == parts[0].value for part in parts)
    return parts[0] if same else parts[0].lost(layer)


def stays(afun: Any, value: float) -> bool:
    """Return whether phi(value) = value; an activation of a user's own is not tried."""
    x = np.full((1, 3), value)  # 3 features, as a softmax of one is 1
    return not is_own(type(afun)) or np.array_equal(afun.forward(x)[0], x)


def check_padding(layer: Any, layers: Sequence[Any]) -> None:
    """Check that padding reaches every layer that has a mask_value.

    The value that it has in the data is not known: it is a mask_value, or 0.

    Args:
        layer: what gets the data.
        layers: the layer itself, or those that it is made of.

    Raises:
        ValueError: it does not; a layer that does not keep it is named, with what to write.
    """
    values, below = [], list(layers)
    for one in below:
        below += one.children
        value = vars(one).get("mask_value")
        if isinstance(value, float | int):
            values.append(value)
    errors = []
    for value in dict.fromkeys([*values, 0.0] if values else []):
        try:
            layer.padding_after(Padding(value))
        except ValueError as error:
            errors.append(error)
        else:
            return
    if errors:
        raise errors[0]
