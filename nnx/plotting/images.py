"""Images: samples with label and guess, and the weights of a layer as images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnx.backend.namespace import is_array
from nnx.checks import ShapeError, count
from nnx.layers.base import Layer
from nnx.layers.tree import walk
from nnx.plotting._panels import WRONG, called, finite, grid, numbers
from nnx.synonyms import named

__all__ = ["plot_digits", "plot_filters", "plot_images"]


@named
def plot_images(
    images: Any,
    labels: Any = None,
    guesses: Any = None,
    *,
    names: Sequence[Any] | Mapping[Any, Any] | None = None,
    shape: tuple[int, ...] | None = None,
    columns: int = 10,
    cmap: str = "gray_r",
    ax: Any = None,
) -> Any:
    """Plot images, with "label: guess" above them; a wrong guess is bold and red.

    All images have one scale: numbers of colour images that are not in [0, 1], and not bytes, are
    mapped to it from the smallest to the largest.

    Args:
        images: (samples, height, width), (samples, channels, height, width) with 1 or 3 channels,
            or rows of pixels (samples, pixels), of any backend.
        labels: the right classes (samples,), of any type.
        guesses: the network's classes (samples,).
        names: of the classes, by class index or label.
        shape: of one image, (height, width) or (channels, height, width), for rows of pixels; a
            square if not given.
        columns: how many images are side by side in a new figure.
        cmap: colour map of images with one channel; "gray_r" draws 0 as white paper.
        ax: as many Axes as there are images; a new figure if not given.

    Returns:
        The figure, or `ax`.

    Raises:
        ShapeError: these are not images, or not one label and guess for each.
        TypeError, ValueError: another argument does not fit, or a number is infinite or NaN.
    """
    owner = "plot_images"
    pictures = _pictures(owner, finite(owner, "images", numbers(owner, "images", images)), shape)
    right = _classes(owner, "labels", labels, len(pictures))
    given = _classes(owner, "guesses", guesses, len(pictures))
    texts = [
        [called(owner, names, these[i]) for these in (right, given) if these is not None]
        for i in range(len(pictures))
    ]
    widest = max((len(": ".join(text)) for text in texts), default=0)
    above = ":\n" if widest > 12 else ": "
    columns = count(owner, "columns", columns)
    size = (1.0, 1.25) if widest <= 12 else (1.3, 1.7)
    picture, axes = grid(owner, len(pictures), columns, size, ax)
    low, high = (pictures.min(), pictures.max()) if pictures.size else (0, 1)
    for i, (panel, image, text) in enumerate(zip(axes, pictures, texts, strict=True)):
        panel.imshow(image, cmap=cmap, vmin=low, vmax=high)
        title = panel.set_title(above.join(text), fontsize="small" if widest > 12 else "medium")
        if right is not None and given is not None and right[i] != given[i]:
            title.set(color=WRONG, fontweight="bold")
        panel.set_axis_off()
    if ax is None and right is not None and given is not None:
        picture.suptitle("label: guess", fontsize="medium")
    return picture


@named
def plot_digits(images: Any, labels: Any, guesses: Any, *, ax: Any = None) -> Any:
    """Plot images under titles "label: guess"; `plot_images` has more arguments."""
    return plot_images(images, labels, guesses, ax=ax)


def _pictures(owner: str, images: Any, shape: Any) -> Any:
    """Return images (samples, height, width) or (samples, height, width, 3) for `imshow`."""
    if images.ndim == 2:
        images = images.reshape(len(images), *_image_shape(owner, images.shape[1], shape))
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim == 3:
        return images
    if images.ndim != 4 or images.shape[1] != 3:
        last = images.ndim == 4 and images.shape[-1] in (1, 3)
        remedy = "write numpy.moveaxis(images, -1, 1)" if last else "for one image, images[None]"
        raise ShapeError(
            f"{owner}: expected images of shape (samples, height, width), or (samples, channels, "
            f"height, width) with 1 or 3 channels, got {images.shape}; {remedy}"
        )
    return _in_colour(np.moveaxis(images, 1, -1))


def _in_colour(images: Any) -> Any:
    """Return images (..., 3) with numbers in [0, 1]."""
    if images.dtype == np.uint8:
        return images / 255
    low, high = images.min(initial=0), images.max(initial=1)
    return (images - low) / (high - low)


def _image_shape(owner: str, pixels: int, shape: Any) -> tuple[int, ...]:
    """Return the shape of an image of so many pixels: the given one, or a square.

    Raises:
        ShapeError: it does not have as many pixels, or they are not a square.
    """
    if shape is None:
        side = math.isqrt(pixels)
        if side * side == pixels:
            return side, side
        raise ShapeError(
            f"{owner}: expected a square number of pixels, got {pixels} pixels; write "
            "shape=(height, width) or shape=(channels, height, width)"
        )
    try:
        sizes = tuple(count(owner, "shape", size) for size in shape)
    except TypeError:
        sizes = ()
    if len(sizes) not in (2, 3) or math.prod(sizes) != pixels:
        raise ShapeError(
            f"{owner}: expected shape=(height, width) or (channels, height, width) with "
            f"{pixels} pixels, got {shape!r}"
        )
    return sizes


def _classes(owner: str, name: str, classes: Any, samples: int) -> Any:
    """Return classes of any type, one for each image."""
    if classes is None:
        return None
    on_host = isinstance(classes, np.ndarray) or not is_array(classes)
    found = np.asarray(classes) if on_host else numbers(owner, name, classes)
    if found.shape != (samples,):
        remedy = f"write {name}.argmax(axis=1)" if found.ndim == 2 else "give one for each image"
        raise ShapeError(
            f"{owner}: expected {name} of shape ({samples},), got {found.shape}; {remedy}"
        )
    return found


@named
def plot_filters(
    weights: Any, *, shape: tuple[int, ...] | None = None, limit: int = 64, ax: Any = None
) -> Any:
    """Plot weights of a layer as images, one for each unit or filter, all with one scale.

    A dense layer's image has a pixel for each input. A filter with three channels is shown in
    colour; one with more channels is a row of images, one for each channel.

    Args:
        weights: a network, whose first layer with weights is taken; a layer; or its weights W of
            any backend: (units, inputs), (filters, channels, length), or (filters, channels,
            height, width).
        shape: of the image that a dense layer gets, (height, width) or (channels, height, width).
            If not given it is the input shape of the network, or a square.
        limit: the most units or filters that are shown, and the most channels of each.
        ax: an Axes; a new figure if not given.

    Returns:
        The figure, or `ax`.

    Raises:
        ShapeError: the weights are not images.
        TypeError, ValueError: another argument does not fit, or a number is infinite or NaN.
    """
    owner = "plot_filters"
    if isinstance(weights, Layer):
        weights, of_network = _first(owner, weights)
        shape = of_network if shape is None else shape
    what = "(units, inputs), (filters, channels, length) or (filters, channels, height, width)"
    W = finite(owner, "weights", numbers(owner, "weights", weights, (2, 3, 4), what))
    limit = count(owner, "limit", limit)
    what = "units" if W.ndim == 2 else "filters"
    if W.ndim == 2:
        W = W.reshape(len(W), *_image_shape(owner, W.shape[1], shape))
    if W.ndim == 3:  # one channel; a filter over time is an image of channels and time steps
        W = W[:, None]
    total = f"the first {limit} of {len(W)}" if len(W) > limit else len(W)
    channels, height, width = W.shape[1:]
    W = W[:limit, :limit]
    what, largest = f"{total} {what}", np.abs(W).max(initial=0.0) or 1.0
    if channels in (1, 3):
        tiles = W[:, 0] if channels == 1 else 0.5 + np.moveaxis(W, 1, -1) / (2 * largest)
        what += ", grey is 0" if channels == 3 else ""
        columns = math.ceil(math.sqrt(1.6 * len(W) * height / width))
    else:
        what = f"{what} (rows), channels (columns)"
        tiles, columns = W.reshape(-1, height, width), W.shape[1]
    mosaic = _mosaic(tiles, max(1, min(columns, len(tiles))))
    inch = min(8 / mosaic.shape[1], 6 / mosaic.shape[0], 0.16)
    size = max(3.0, inch * mosaic.shape[1] + 1.0), max(1.6, inch * mosaic.shape[0] + 0.2)
    picture, (panel,) = grid(owner, 1, 1, size, ax)
    image = panel.imshow(mosaic, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="none")
    if mosaic.ndim == 2:
        panel.figure.colorbar(image, ax=panel, label="weight", shrink=0.8)
    panel.set_title(what, fontsize="medium")
    panel.set_axis_off()
    return picture


def _first(owner: str, layer: Layer) -> tuple[Any, tuple[int, ...] | None]:
    """Return W of the first layer that has it, and the shape of the images that a network takes.

    Raises:
        ValueError: no layer has a W that makes images.
    """
    shape: tuple[int, ...] | None = getattr(layer, "input_shape", None)
    for _, below in walk(layer):
        if not below.children and "W" in below.parameters:
            is_image = shape is not None and len(shape) in (2, 3) and None not in shape
            return below.parameters["W"], shape if is_image else None
    raise ValueError(
        f"{owner}: expected a dense or convolutional layer, or a network with one, got "
        f"{layer.name}, which has no W; pass an array of weights"
    )


def _mosaic(tiles: Any, columns: int) -> Any:
    """Return tiles (count, height, width) or (..., 3) as one image, with empty lines between."""
    count, height, width = tiles.shape[:3]
    rows = -(-count // columns)
    whole = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    if tiles.ndim == 4:  # the fourth number of a pixel is 0 where nothing is
        tiles = np.concatenate([tiles, np.ones_like(tiles[..., :1])], axis=-1)
        whole = np.zeros((*whole.shape, 4))
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        whole[top : top + height, left : left + width] = tile
    return whole
