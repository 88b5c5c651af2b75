"""What a network gives beside what is right: predictions against targets, confusion of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnx.checks import ShapeError, choice
from nnx.plotting._panels import COLORS, called, finite, grid, numbers
from nnx.synonyms import named

__all__ = ["plot_confusion_matrix", "plot_predictions"]

# Classes: for more of them the cells are too small for numbers; twice as many have their names.
LEGIBLE = 20


@named
def plot_predictions(
    targets: Any,
    predictions: Any,
    *,
    names: Sequence[str] | None = None,
    unit: str = "",
    ax: Any = None,
) -> Any:
    """Plot predictions against targets of a regression; on the diagonal they are equal.

    Args:
        targets: (samples,) or (samples, outputs), of any backend; there is a panel for each output.
        predictions: of the same shape; (samples, 1) and (samples,) go together.
        names: of the outputs.
        unit: of the numbers, for the labels.
        ax: as many Axes as there are outputs; a new figure if not given.

    Returns:
        The figure, or `ax`.

    Raises:
        ShapeError: the shapes differ.
        TypeError, ValueError: another argument does not fit, or a number is infinite or NaN.
    """
    owner, what = "plot_predictions", "(samples,) or (samples, outputs)"
    right, given = (
        _columns(finite(owner, name, numbers(owner, name, values, (1, 2), what)))
        for name, values in (("targets", targets), ("predictions", predictions))
    )
    if right.shape != given.shape:
        raise ShapeError(
            f"{owner}: expected predictions of the shape of the targets, {right.shape}, got "
            f"{given.shape}; write net.predict(x) for the x that belongs to the targets"
        )
    outputs = right.shape[1]
    if names is not None and (isinstance(names, str) or len(names) != outputs):
        raise ValueError(
            f"{owner}: expected a list of {outputs} names, one for each output, got {names!r}"
        )
    picture, axes = grid(owner, outputs, 3, (4.0, 3.5), ax)
    of_unit = f" in {unit}" if unit else ""
    for i, panel in enumerate(axes):
        both = np.concatenate([right[:, i], given[:, i]])
        low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
        margin = 0.04 * (high - low) or 0.5
        panel.axline((low, low), slope=1, color="0.5", linewidth=1, zorder=1)
        alpha = 0.6 if len(right) <= 1000 else 0.3
        dots = {"s": 14, "color": COLORS[0], "alpha": alpha, "linewidths": 0, "zorder": 2}
        panel.scatter(right[:, i], given[:, i], **dots)
        limits = low - margin, high + margin
        panel.set(xlim=limits, ylim=limits, aspect="equal")
        panel.set(xlabel=f"target{of_unit}", ylabel=f"prediction{of_unit}")
        panel.locator_params(nbins=5)
        panel.ticklabel_format(scilimits=(-3, 5))
        panel.grid(alpha=0.3)
        if names is not None:
            panel.set_title(names[i], fontsize="medium")
    return picture


def _columns(array: Any) -> Any:
    return array[:, None] if array.ndim == 1 else array


@named
def plot_confusion_matrix(
    matrix: Any,
    names: Sequence[Any] | Mapping[int, Any] | None = None,
    *,
    normalize: str | None = None,
    ax: Any = None,
) -> Any:
    """Plot a confusion matrix: rows are the true classes, columns the guessed ones.

        plot_confusion_matrix(nnx.metrics.confusion_matrix(net.predict(x), y))

    Up to 20 classes have their numbers in the cells. Of more, the colour tells the number: the bar
    beside the picture says what a colour means. Mistakes are easier to see without what is right:
    plot_confusion_matrix(matrix - numpy.diag(numpy.diag(matrix))).

    Args:
        matrix: (classes, classes), numbers of samples, of any backend.
        names: of the classes; their indices if not given.
        normalize: None for numbers of samples, "true" for percentages of each true class (rows),
            "pred" for those of each guessed class (columns), "all" for those of all samples.
        ax: an Axes; a new figure if not given.

    Returns:
        The figure, or `ax`.

    Raises:
        ShapeError: the matrix is not square.
        TypeError, ValueError: it has negative entries or NaN; another argument does not fit.
    """
    owner = "plot_confusion_matrix"
    counts = numbers(owner, "matrix", matrix, (2,), "(classes, classes)")
    if counts.shape[0] != counts.shape[1] or not counts.size:
        raise ShapeError(
            f"{owner}: expected a matrix of shape (classes, classes), got {counts.shape}; write "
            "nnx.metrics.confusion_matrix(net.predict(x), y)"
        )
    if not (counts >= 0).all():
        raise ValueError(
            f"{owner}: expected numbers of samples, >= 0, got {counts.min()}; write "
            "nnx.metrics.confusion_matrix(net.predict(x), y)"
        )
    choice(owner, "normalize", normalize, (None, "true", "pred", "all"))
    shown, what = _normalized(counts, normalize)
    classes = [called(owner, names, i) for i in range(len(counts))]
    side = 1.6 + 0.42 * min(max(len(classes), 4), LEGIBLE)
    wide = 0.5 if len(classes) <= LEGIBLE else 2.0
    picture, (panel,) = grid(owner, 1, 1, (side + wide, side), ax)
    image = panel.imshow(shown, cmap="Blues", vmin=0, vmax=shown.max() or 1)
    if len(classes) <= LEGIBLE:
        _write(panel, shown, normalize)
    else:
        panel.figure.colorbar(image, ax=panel, label=what, shrink=0.9)
    ticks = range(0, len(classes), -(-len(classes) // (2 * LEGIBLE)))
    panel.set_xticks(ticks, [classes[i] for i in ticks])
    panel.set_yticks(ticks, [classes[i] for i in ticks])
    if max(map(len, classes)) > 3 or len(ticks) > LEGIBLE:
        panel.tick_params(axis="x", labelrotation=45)
        for label in panel.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    panel.set(xlabel="guessed class", ylabel="true class")
    panel.set_title(what, fontsize="medium")
    return picture


def _normalized(counts: Any, normalize: str | None) -> tuple[Any, str]:
    """Return the numbers that are shown, and what they are."""
    if normalize is None:
        return counts, "number of samples"
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = counts.sum(axis=axis, keepdims=True)
    name = {"true": "each true class", "pred": "each guessed class", "all": "all samples"}
    return 100 * counts / np.where(total > 0, total, 1), f"% of {name[normalize]}"


def _write(panel: Any, shown: Any, normalize: str | None) -> None:
    """Write the numbers into the cells; an empty cell is a zero."""
    fractions = normalize is not None or (shown != np.round(shown)).any()
    for (i, j), value in np.ndenumerate(shown):
        if value:
            color = "white" if value > 0.55 * shown.max() else "black"
            text = f"{value:.1f}" if fractions else f"{value:.0f}"
            style = {"ha": "center", "va": "center", "color": color, "fontsize": "small"}
            panel.text(j, i, text, **style)
