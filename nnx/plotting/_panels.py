"""What all pictures share: colours, panels, `ax`, and arrays of any backend as NumPy arrays."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnx.backend import to_numpy
from nnx.checks import ShapeError

__all__ = [
    "COLORS",
    "STYLES",
    "WRONG",
    "add_legend",
    "called",
    "color_of",
    "finite",
    "grid",
    "numbers",
    "require_matplotlib",
    "titled",
]

# Ten colours that people with any kind of colour vision can tell apart (Petroff, arXiv:2107.02270).
# The eleventh line of a panel has the first colour again, dashed.
COLORS = [
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
]  # fmt: skip
STYLES = ["-", "--", ":"]
WRONG = "#d62728"  # legible on white and on black


def require_matplotlib() -> type:
    """Return the class of the figures; a script calls this first, so that it fails early.

    Raises:
        ImportError: matplotlib is missing; the message says what to install.
    """
    try:
        from nnx.plotting.figure import Picture
    except ImportError as error:
        raise ImportError(
            'pictures need matplotlib, which is not installed: pip install "nnx-array[examples]"'
        ) from error
    return Picture


def color_of(index: int) -> str:
    """Return the colour of a line."""
    return COLORS[index % len(COLORS)]


def grid(
    owner: str, count: int, columns: int, size: tuple[float, float], ax: Any, **options: Any
) -> tuple[Any, list[Any]]:
    """Return what a picture returns, and the list of the Axes of its panels.

    Args:
        owner: the function that messages begin with.
        count: how many panels there are.
        columns: the most panels side by side, in a new figure.
        size: of a panel in inches, in a new figure.
        ax: None for a new figure; otherwise one Axes, or as many as there are panels.
        options: of `Figure.subplots`.

    Raises:
        TypeError: `ax` is something else.
        ValueError: another number of Axes.
    """
    if ax is not None:
        return ax, _given(owner, count, ax)
    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    figsize = (columns * size[0], rows * size[1] + 0.4)
    figure = require_matplotlib()(figsize=figsize, layout="constrained", dpi=120)
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for unused in axes[count:]:
        unused.remove()
    if options.get("sharex"):  # the lowest panel of a column may not be in the last row
        for lowest in axes[max(0, count - columns) : count]:
            lowest.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def _given(owner: str, count: int, ax: Any) -> list[Any]:
    require_matplotlib()
    from matplotlib.axes import Axes

    several = isinstance(ax, np.ndarray | Sequence) and not isinstance(ax, str)
    axes = list(np.ravel(np.asarray(ax, dtype=object))) if several else [ax]
    for one in axes:
        if not isinstance(one, Axes):
            what = "an Axes of Matplotlib" if count == 1 else f"{count} Axes of Matplotlib"
            raise TypeError(
                f"{owner}: expected ax to be {what}, got {reprlib.repr(one)}; "
                f"write figure, ax = matplotlib.pyplot.subplots({'' if count == 1 else count})"
            )
    if len(axes) != count:
        raise ValueError(
            f"{owner}: expected {count} Axes, one for each panel, got {len(axes)}; write "
            f"figure, ax = matplotlib.pyplot.subplots({count}), or leave ax out"
        )
    return axes


def add_legend(picture: Any, axes: Sequence[Any], handles: Sequence[Any]) -> None:
    """Put one legend below the panels of a new figure, or into the last of the given Axes."""
    if hasattr(picture, "add_subplot"):
        picture.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    else:
        axes[-1].legend(handles=handles, fontsize="small")


def numbers(owner: str, name: str, values: Any, axes: Iterable[int] = (), what: str = "") -> Any:
    """Return numbers of any backend as a NumPy array.

    Args:
        owner: the function that messages begin with.
        name: of the argument.
        values: an array of a backend, or host data.
        axes: how many axes it may have; any number if not given.
        what: the shapes that are meant, for a message.

    Raises:
        TypeError: not numbers.
        ShapeError: another number of axes.
    """
    try:
        array = to_numpy(values)
    except TypeError:
        raise TypeError(
            f"{owner}: expected {name} to be an array or numbers, got {reprlib.repr(values)}; "
            f"convert it first, for example numpy.asarray({name}, dtype=float)"
        ) from None
    if array.dtype.kind == "V":  # types of other packages, such as bfloat16
        array = array.astype(np.float32)
    if (expected := tuple(axes)) and array.ndim not in expected:
        raise ShapeError(
            f"{owner}: expected {name} of shape {what}, got {array.shape}; reshape it first"
        )
    return array


def finite(owner: str, name: str, array: Any) -> Any:
    """Return the array.

    Raises:
        ValueError: a number in it is infinite or NaN.
    """
    if not np.isfinite(array).all():
        raise ValueError(
            f"{owner}: expected finite numbers, got infinity or NaN in {name}; if a training has "
            "made them, try a smaller learning rate or nnx.ClipNorm, else numpy.nan_to_num"
        )
    return array


def called(owner: str, names: Any, label: Any) -> str:
    """Return the name of a class: `names[label]`, or the label itself if there are no names.

    Raises:
        ValueError: there is no name for it.
    """
    label = label.item() if isinstance(label, np.generic) else label
    if names is None:
        return str(label)
    try:
        return str(names[label] if isinstance(names, Mapping) else list(names)[label])
    except (KeyError, IndexError, TypeError):
        raise ValueError(
            f"{owner}: expected names to have one for each class, got none for {label!r} in "
            f"{reprlib.repr(names)}; pass a list in the order of the class indices, or a dict"
        ) from None


def titled(owner: str, found: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return title -> name -> values; raises TypeError."""
    if not isinstance(found, Mapping) or not all(isinstance(f, Mapping) for f in found.values()):
        raise TypeError(
            f"{owner}: expected a dict from title to a dict from name to values, got "
            f"{reprlib.repr(found)}; "
            'write {"title": {"name": values}}'
        )
    return found
