"""Layers that prepare data, so that a prediction, a saved file and an export do it, too."""

from __future__ import annotations

from typing import Any, Self

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError
from nnx.layers._moments import moments
from nnx.layers._padding import Padding
from nnx.layers._shapes import KNOWN, Shape
from nnx.layers.base import Backward, Layer

__all__ = ["RescalingLayer", "StandardizeLayer"]


class RescalingLayer(Layer):
    """Rescale all numbers alike: y = scale x + offset; backward: dx = scale delta.

    RescalingLayer(1 / 255) makes numbers from 0 to 1 of the bytes of an image.

    Shapes: x and y alike, any.

    Args:
        scale: the factor.
        offset: added to the product.
        name: what messages call the layer.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is not finite.

    Source: Keras calls it Rescaling; ONNX operators Mul and Add.
    """

    def __init__(self, scale: float, offset: float = 0.0, name: str | None = None) -> None:
        super().__init__(name=name)
        self.scale = checks.number(self, "scale", scale)
        self.offset = checks.number(self, "offset", offset)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return scale x + offset; backward: dx = scale delta."""
        scale = self.scale
        y = scale * x
        if self.offset:
            y += self.offset
        return y, lambda delta: (scale * delta, {})

    def output_shape(self, input_shape: Shape) -> Shape:
        """Unchanged."""
        return input_shape

    def padding_after(self, before: Padding) -> Padding:
        """It is rescaled, too."""
        return before.becomes(self.scale * before.value + self.offset, self)


class StandardizeLayer(Layer):
    """Give every feature or channel mean 0 and deviation 1: y = (x - mean) / deviation.

    Backward: dx = delta / deviation. Mean and deviation are those of the data that `fit` has seen,
    over all samples and positions; training leaves them as they are.

        layer = nnx.StandardizeLayer(3).fit(x)

    Shapes: x and y (samples, n) or (samples, n, *positions), with axis=-1 (samples, *positions, n);
    the buffers mean and deviation (n,).

    Args:
        n: number of features or channels.
        axis: of x, which has the features or channels: 1, or -1 for the last one, as in sequences
            (samples, time, features).
        name: what messages call the layer.

    Raises:
        TypeError: n is not an integer.
        ValueError: an argument is out of its range.
        RuntimeError: the layer computes, and has not been fitted.

    Source: Keras calls it Normalization, scikit-learn StandardScaler; ONNX operators Sub and Div.
    """

    _fitted: bool = False  # known without reading the device

    def __init__(self, n: int, axis: int = 1, name: str | None = None) -> None:
        super().__init__(name=name)
        self.n = checks.count(self, "n", n)
        self.axis = checks.choice(self, "axis", axis, (1, -1))
        xp, dtype, device = self.backend.xp, self.backend.dtype, self.backend.device
        self.buffers["mean"] = xp.zeros((self.n,), dtype=dtype, device=device)
        # No data has the deviation 0, see `fit`: it says that there has been none.
        self.buffers["deviation"] = xp.zeros((self.n,), dtype=dtype, device=device)

    def fit(self, x: Any) -> Self:
        """Take mean and deviation of x, which is read once, block by block; return the layer.

        They are computed on the host in float64. The deviation, that of the data itself and not an
        estimate (its divisor is the number of values), is 1 for values that are all equal.

        Args:
            x: what the layer will get. An array of NumPy or a backend, or anything else with
                shape, dtype and slices, on disk for example; a list or a table of a data frame; or
                an iterable of batches x, (x, y) or (x, y, weights), or a function that returns one.

        Raises:
            TypeError: x is none of these, or does not hold real numbers.
            ValueError: there is no sample, or one that is not finite; it is named by its index.
            ShapeError: the layer does not take its samples.
        """
        found = moments(self, x, self.axis)
        for name, array in zip(("mean", "deviation"), found, strict=True):
            self.buffers[name] = self.backend.asarray(array, dtype=self.backend.dtype)
        self._fitted = True
        return self

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """(x - mean) / deviation; backward: dx = delta / deviation."""
        if not self._fitted:
            self._check_fitted()
        mean, deviation = self.buffers["mean"], self.buffers["deviation"]
        if self.axis == 1:
            xp, shape = array_namespace(x, mean), (self.n,) + (1,) * (x.ndim - 2)
            mean, deviation = xp.reshape(mean, shape), xp.reshape(deviation, shape)
        return (x - mean) / deviation, lambda delta: (delta / deviation, {})

    def check_batch(self, input_shape: Shape, samples: int) -> None:
        """Raise RuntimeError if the layer has not been fitted; the device is read once."""
        self._check_fitted()

    def check_inputs(self, x: Any) -> None:
        """Raise RuntimeError if the layer has not been fitted; the device is read once."""
        self._check_fitted()

    def _check_fitted(self) -> None:
        deviation = self.buffers["deviation"]
        if not bool(array_namespace(deviation).all(deviation > 0)):
            raise RuntimeError(
                f"{self.name}: expected a layer that knows mean and deviation of the data, got one "
                "that has not been fitted; call its fit(x) with the training data first"
            )
        self._fitted = True

    def output_shape(self, input_shape: Shape) -> Shape:
        """(n, *positions) or, with axis=-1, (*positions, n), unchanged."""
        given = input_shape[:1] if self.axis == 1 else input_shape[-1:]
        if given != (self.n,):
            what = f"({self.n}, ...)" if self.axis == 1 else f"(..., {self.n})"
            remedy = f"; {KNOWN} for this axis" if given == (None,) else ""
            raise ShapeError(
                f"takes input of shape ({self.n},) or {what}, got {input_shape}{remedy}"
            )
        return input_shape

    def padding_after(self, before: Padding) -> Padding:
        """It is lost, and would count in mean and deviation."""
        return before.lost(
            self, "standardize the data without its padding, or leave out mask_value"
        )
