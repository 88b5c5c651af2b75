"""Pictures: every function returns a matplotlib Figure; `figure.savefig(path)` writes it.

A notebook shows the figure if it is the last expression of a cell. No window opens and pyplot's
global state is left alone, so everything works without a display. matplotlib is imported when the
first picture is drawn: pip install "nnx-array[examples]".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnx.activations import Activation
from nnx.backend import get_backend, to_numpy
from nnx.training import History

__all__ = [
    "plot_activations",
    "plot_curves",
    "plot_digits",
    "plot_history",
    "plot_weights",
    "require_matplotlib",
]

# Ten colours that are easy to tell apart; the eleventh line has the first colour again, dashed.
COLORS = [f"C{i}" for i in range(10)]
STYLES = ["-", "--", ":"]


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


def plot_history(history: History) -> Any:
    """Plot what each epoch has seen, in training and in validation: one panel per quantity."""
    panels: dict[str, dict[str, list[float]]] = {}
    for name in history:
        quantity = name.removeprefix("validation_")
        if quantity == "seconds":
            continue
        title = f"{quantity} in %" if quantity == "accuracy" else quantity.replace("_", " ")
        unit = 100 if quantity == "accuracy" else 1
        line = "training" if quantity == name else "validation"
        panels.setdefault(title, {})[line] = [unit * value for value in history[name]]
    return plot_curves(panels, ylabel="", share_y=False, percent=False)


def plot_curves(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str = "epoch",
    ylabel: str = "test accuracy in %",
    share_y: bool = True,
    percent: bool = True,
) -> Any:
    """Plot one panel for each title and one line for each name, with its values at 1, 2, 3, ...

    Args:
        panels: title -> name -> values.
        xlabel: label of the axis of the numbers 1, 2, 3, ...
        ylabel: label of the values.
        share_y: use one scale of the values in all panels.
        percent: the values are percentages. Their axis is stretched towards 100, so that halving
            the distance to 100 takes the same length everywhere.
    """
    figure, axes = _grid(len(panels), 3, (5.2, 3.4), sharey=share_y)
    from matplotlib.ticker import FixedLocator

    for i, (ax, (title, curves)) in enumerate(zip(axes, panels.items(), strict=True)):
        for j, (name, values) in enumerate(curves.items()):
            style = {"color": COLORS[j % 10], "linestyle": STYLES[j // 10 % 3]}
            x = np.arange(1, len(values) + 1)
            ax.plot(x, values, label=name, marker=".", markersize=4, linewidth=1.2, **style)
        ax.set_title(title, fontsize="medium")
        ax.set_xlabel(xlabel)
        if not share_y or i % 3 == 0:
            ax.set_ylabel(ylabel)
        if percent:
            ax.set_yscale("function", functions=(_widen, _narrow))
            ax.yaxis.set_major_locator(FixedLocator([0, 20, 40, 60, 70, 80, 90, 95, 97, 98, 99]))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        if curves:
            # The legend lists the lines in the order of their last values, from the top.
            ends = [values[-1] if len(values) else -math.inf for values in curves.values()]
            order = sorted(range(len(ends)), key=lambda j: -ends[j])
            lines = [ax.lines[j] for j in order]
            ax.legend(
                handles=lines,
                loc="upper left",
                bbox_to_anchor=(1.0, 1.03),
                fontsize="small",
                frameon=False,
            )
    return figure


def plot_activations(activations: Iterable[Activation], limit: float = 4.0) -> Any:
    """Plot each function and its derivative on [-limit, limit], in one colour for each family.

    The derivative is the function's backward of delta = 1.
    """
    activations = list(activations)
    figure, axes = _grid(len(activations), 8, (1.75, 1.75), sharex=True, sharey=True)
    t = np.linspace(-limit, limit, 401)
    # Functions that act on rows see the row (t, 0); the others ignore its second number.
    x = get_backend().asarray(np.stack([t, 0 * t], axis=1))
    delta = get_backend().asarray(np.stack([0 * t + 1, 0 * t], axis=1))
    lines: dict[str, Any] = {}  # of the legend
    for ax, activation in zip(axes, activations, strict=True):
        base = type(activation).__bases__[0]
        family = "no family" if base is Activation else base.__name__
        color = lines[family].get_color() if family in lines else COLORS[len(lines) % 10]
        y, backward = activation.forward(x)
        ax.axhline(0, color="0.8", linewidth=0.8)
        ax.axvline(0, color="0.8", linewidth=0.8)
        (lines[family],) = ax.plot(t, to_numpy(y)[:, 0], color=color, linewidth=1.8)
        slope = to_numpy(backward(delta))[:, 0]
        (derivative,) = ax.plot(t, slope, color="0.2", linestyle="--", linewidth=1)
        ax.set_title(type(activation).__name__, fontsize="medium")
        ax.set(xlim=(-limit, limit), ylim=(-0.55 * limit, limit))
        ax.set_xticks([-limit / 2, 0, limit / 2])
    if lines:
        handles = [*lines.values(), derivative]
        names = [*lines, "derivative"]
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def plot_digits(images: Any, labels: Any, guesses: Any) -> Any:
    """Plot images under titles "label: guess", in red if the guess is wrong; ten in a row.

    Args:
        images: host data (samples, height, width), or (samples, pixels) of square images.
        labels: the right classes (samples,).
        guesses: the network's classes (samples,).

    Raises:
        ValueError: rows of pixels that are not square images.
    """
    images = np.asarray(images)
    if images.ndim == 2:
        side = math.isqrt(images.shape[1])
        if side * side != images.shape[1]:
            raise ValueError(
                f"plot_digits: expected images as rows of a square number of pixels, got "
                f"{images.shape[1]} pixels; pass images of shape (samples, height, width)"
            )
        images = images.reshape(-1, side, side)
    figure, axes = _grid(len(images), 10, (1.0, 1.25))
    for ax, image, label, guess in zip(axes, images, labels, guesses, strict=True):
        ax.imshow(image, cmap="gray_r")
        ax.set_title(f"{label}: {guess}", color="black" if label == guess else "red")
        ax.set_axis_off()
    figure.suptitle("label: guess", fontsize="medium")
    return figure


def plot_weights(panels: Mapping[str, Mapping[str, Any]], bins: int = 101) -> Any:
    """Plot histograms of weights: one panel for each title, one line for each name.

    Args:
        panels: title -> name -> weights, host data of any shape.
        bins: number of bins of each histogram.
    """
    figure, axes = _grid(len(panels), 3, (4.2, 2.8), sharey=True)
    for ax, (title, weights) in zip(axes, panels.items(), strict=True):
        largest = max((np.abs(values).max() for values in weights.values()), default=1.0)
        edges = np.linspace(-largest, largest, bins + 1)
        for j, (name, values) in enumerate(weights.items()):
            counts, _ = np.histogram(values, edges)
            ax.stairs(counts, edges, label=name, color=COLORS[j % 10], linewidth=1.3)
        ax.set_yscale("log")  # the few large weights would be invisible on a linear axis
        ax.set_title(title, fontsize="medium")
        ax.set_xlabel("weight")
        ax.locator_params(axis="x", nbins=6)
        ax.set_ylabel("number of weights")
        if weights:
            ax.legend(fontsize="small")
    return figure


def _widen(percentage: Any) -> Any:
    """Return -log(100 - percentage), with a distance to 100 of at least 0.1."""
    return -np.log(np.maximum(100.0 - percentage, 0.1))


def _narrow(height: Any) -> Any:
    """Return the inverse of _widen."""
    return 100.0 - np.exp(-height)


def _grid(count: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """Return a figure with `count` panels of a size in inches, and the list of their axes."""
    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    figsize = (columns * size[0], rows * size[1] + 0.4)
    figure = require_matplotlib()(figsize=figsize, layout="constrained", dpi=120)
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for ax in axes[count:]:
        ax.remove()
    if options.get("sharex"):  # the lowest panel of a column may not be in the last row
        for ax in axes[max(0, count - columns) : count]:
            ax.tick_params(labelbottom=True)
    return figure, axes[:count]
