"""A network without values, built from plain data: to know its arrays before they are read.

Constructors run on the outline backend, on which arrays are zeros. It makes no more numbers than a
few times those that a file holds, so that a file cannot ask for memory that it does not fill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np

from nnx.activations import Activation
from nnx.backend import Array, Backend, use_backend
from nnx.clipping import Clip
from nnx.config import Configured, build
from nnx.initializers import Initializer
from nnx.layers.base import Layer
from nnx.layers.tree import walk
from nnx.losses import Loss
from nnx.optimizers import Optimizer
from nnx.randomness import without_draws
from nnx.regularizers import Regularizer
from nnx.saving.errors import FileError
from nnx.schedules import Schedule

__all__ = ["built", "outline"]

# Nothing else of nnx is made from what a file says.
KINDS = (Layer, Activation, Initializer, Loss, Optimizer, Schedule, Clip, Regularizer)
# A layer that stands in several places counts in each of them.
PLACES = 10_000
# Layers that compute an array of this shape with the host's numbers, before the backend sees it.
ON_THE_HOST = {"PositionalEncodingLayer": ("ni", "max_time")}


class _Outline(Backend):
    """NumPy, for at most so many numbers."""

    name = "outline"
    library = "numpy"
    array_types = (np.ndarray, np.generic)

    def __init__(self, dtype: str, numbers: int) -> None:
        """Take nothing from the base class: its constructor registers types of arrays."""
        self.held = numbers
        self.left = 8 * numbers + (1 << 20)  # for what a constructor makes on the way
        self.device_spec, self.dtype_name = None, dtype
        self.xp, self.device = self.connect(None, dtype)
        self.dtype = np.dtype(dtype)

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        def eye(rows: int, columns: int | None = None, /, **options: Any) -> Array:
            self.take(rows * (rows if columns is None else columns))
            return np.eye(rows, columns, **options)

        names = ("zeros", "ones", "empty", "full")
        counted = {name: self._counted(getattr(np, name)) for name in names}
        return SimpleNamespace(**{**vars(np), **counted, "eye": eye}), "cpu"

    def weights(self, shape: Any) -> Array:
        return self.xp.zeros(shape, dtype=self.dtype)

    def _counted(self, make: Callable[..., Array]) -> Callable[..., Array]:
        def counted(shape: Any, *arguments: Any, **options: Any) -> Array:
            self.take(math.prod(shape) if isinstance(shape, tuple | list) else shape)
            return make(shape, *arguments, **options)

        return counted

    def take(self, numbers: int, of: float = math.inf) -> None:
        """Count numbers that are made."""
        self.left -= numbers
        if self.left < 0 or numbers > of:
            raise FileError(
                f"expected layers for the {self.held:,} numbers in the file, got layers that need "
                f"{min(numbers, 10**18):,} and more; the description is not that of the arrays"
            )


def outline(data: Any, classes: Iterable[type], dtype: str, numbers: int) -> Any:
    """Return the layer of plain data with zeros as its arrays; nothing is drawn.

    Args:
        data: the plain data of a layer.
        classes: the user's own.
        dtype: of the arrays.
        numbers: how many the file holds.

    Raises:
        FileError: it cannot be built, or needs more numbers.
    """
    own = tuple(classes)
    backend = _Outline(dtype, numbers)
    names = {kind.__name__ for kind in own if issubclass(kind, Layer)}
    names |= {kind.__name__ for kind in _below(Layer)}
    try:
        places = _places(data, names, [], backend)
    except RecursionError:
        raise FileError("expected layers, got some that are nested too deep") from None
    if places > PLACES:
        raise FileError(f"expected at most {PLACES:,} places of layers, got {places:,}")
    with use_backend(backend), without_draws(backend.weights):
        return built(data, own, Layer)


def built(data: Any, classes: Iterable[type], kind: type) -> Any:
    """Return the object that plain data describes.

    Raises:
        FileError: it cannot be made, or is of another kind.
    """
    what = f"an object of kind {kind.__name__}"
    try:
        made = build(data, classes, KINDS)
        if isinstance(made, Layer):
            walk(made)  # a container asks for its children then
    except FileError:
        raise
    except RecursionError:
        raise FileError("expected a description, got one that is nested too deep") from None
    except Exception as error:
        raise FileError(
            f"expected the description of {what}, got one that cannot be: "
            f"{type(error).__name__}: {_own_words(error)}"
        ) from error
    if not isinstance(made, kind):
        raise FileError(f"expected the description of {what}, got {made!r:.100}")
    return made


def _own_words(error: Exception) -> str:
    """Return the message of an error, with the name that the argument has for who loads."""
    return str(error).replace("pass it: classes=[", "pass it: layers=[")[:500]


def _places(data: Any, names: set[str], sizes: list[int], backend: _Outline) -> int:
    """Return how many layers a walk through the tree would meet, shared ones each time."""
    if isinstance(data, list):
        return sum(_places(item, names, sizes, backend) for item in data)
    if not isinstance(data, dict):
        return 0
    if type(index := data.get("shared")) is int:
        return sizes[index] if 0 <= index < len(sizes) else 0
    name = data.get("class")
    if isinstance(name, str) and name in ON_THE_HOST:
        sides = [data.get(side) for side in ON_THE_HOST[name]]
        if all(type(side) is int for side in sides):
            backend.take(max(math.prod(sides), 0), of=backend.held)  # type: ignore[arg-type]
    inside = [value for key, value in data.items() if key != "class"]
    if not isinstance(name, str) or name not in names:
        return _places(inside, names, sizes, backend)
    place = len(sizes)
    sizes.append(0)
    sizes[place] = 1 + _places(inside, names, sizes, backend)
    return sizes[place]


def _below(kind: type[Configured]) -> Iterable[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _below(sub)
