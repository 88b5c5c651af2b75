"""Curves: what epochs have seen, values at 1, 2, 3, ..., and activations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnx.activations import Activation
from nnx.backend import get_backend, to_numpy
from nnx.checks import choice, instance, sequence
from nnx.plotting._panels import COLORS, STYLES, add_legend, color_of, grid, numbers, titled
from nnx.synonyms import named
from nnx.training import History

__all__ = ["plot_activations", "plot_curves", "plot_history"]

# Quantities of a History whose axis says more than their name.
LABELS = {
    "loss": "mean loss per sample",
    "accuracy": "accuracy in %",
    "mean_absolute_error": "mean absolute error\n(unit of the target)",
    "root_mean_squared_error": "root mean squared error\n(unit of the target)",
    "mean_squared_error": "mean squared error\n(unit of the target, squared)",
    "r2": "R² (at most 1)",
    "seconds": "time of an epoch in s",
}


@named
def plot_history(
    history: Any,
    quantities: Iterable[str] | None = None,
    *,
    yscale: str = "linear",
    ax: Any = None,
) -> Any:
    """Plot what each epoch has seen: one panel per quantity, one colour per History.

    Lines are solid for training and dashed for validation.

    Args:
        history: a History, a dict of them by name, or a list of them.
        quantities: names such as "loss", "accuracy" or "f1"; a panel also has the validation. None
            means all but "seconds".
        yscale: "linear" or "log", for all panels.
        ax: as many Axes as there are quantities; a new figure if not given.

    Returns:
        The figure, or `ax`.

    Raises:
        TypeError, ValueError: another argument, more than ten Histories, or a quantity that none of
            them has.
    """
    owner = "plot_history"
    choice(owner, "yscale", yscale, ("linear", "log"))
    histories = _histories(owner, history)
    of_training = [name.removeprefix("validation_") for h in histories.values() for name in h]
    known = list(dict.fromkeys(of_training))
    if quantities is None:
        chosen = [name for name in known if name != "seconds"]
    else:
        chosen = sequence(owner, "quantities", quantities, 'a list of names such as ["loss"]')
        for name in chosen:
            choice(owner, "quantities", name, known)
    picture, axes = grid(owner, len(chosen), 3, (4.6, 3.2), ax)
    longest = max((len(h[name]) for h in histories.values() for name in h), default=0)
    has_validation = False
    for panel, quantity in zip(axes, chosen, strict=True):
        unit = 100 if quantity == "accuracy" else 1
        for i, h in enumerate(histories.values()):
            for name, style in ((quantity, "-"), (f"validation_{quantity}", "--")):
                if name not in h.keys():  # noqa: SIM118 - has no `in`
                    continue
                has_validation |= style == "--"
                values = unit * np.asarray(h[name])
                marker = "." if longest <= 30 else ""
                panel.plot(
                    np.arange(1, len(values) + 1),
                    values,
                    color=COLORS[i],
                    linestyle=style,
                    linewidth=1.5,
                    marker=marker,
                )
        label = LABELS.get(quantity, quantity.replace("_", " "))
        panel.set_ylabel(label if yscale == "linear" else f"{label}, logarithmic")
        panel.set_yscale(yscale)
        _count_along_x(panel, "epoch")
    _explain(picture, axes, list(histories), has_validation)
    return picture


def _explain(picture: Any, axes: list[Any], names: list[str], has_validation: bool) -> None:
    """Say which colour is which History, and which style is the validation."""
    from matplotlib.lines import Line2D

    handles = []
    if len(names) > 1:
        handles = [Line2D([], [], color=COLORS[i], label=name) for i, name in enumerate(names)]
    if has_validation:
        color = COLORS[0] if len(names) == 1 else "0.5"
        handles += [
            Line2D([], [], color=color, linestyle="-", label="training"),
            Line2D([], [], color=color, linestyle="--", label="validation"),
        ]
    if handles and axes:
        add_legend(picture, axes, handles)


def _histories(owner: str, history: Any) -> dict[str, History]:
    """Return Histories by name."""
    if isinstance(history, History):
        return {"": history}
    if isinstance(history, Mapping):
        found = {str(name): h for name, h in history.items()}
    else:
        what = "a History, a dict of them by name, or a list of them"
        items = sequence(owner, "history", history, what)
        found = {f"training {i}": h for i, h in enumerate(items, start=1)}
    for name, h in found.items():
        instance(owner, f"history[{name!r}]", h, History, "net.train(...), which returns one")
    if len(found) > len(COLORS):
        raise ValueError(
            f"{owner}: expected at most {len(COLORS)} Histories, which is as many colours as can "
            f"be told apart, got {len(found)}; draw some of them"
        )
    return found


@named
def plot_curves(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str = "epoch",
    ylabel: str = "test accuracy in %",
    share_y: bool = True,
    percent: bool = True,
    *,
    ax: Any = None,
) -> Any:
    """Plot one panel for each title and one line for each name, with its values at 1, 2, 3, ...

    Args:
        panels: title -> name -> values.
        xlabel: label of the axis of the numbers 1, 2, 3, ...
        ylabel: label of the values.
        share_y: use one scale of the values in all panels of a new figure.
        percent: the values are percentages. Their axis is stretched towards 100, so that halving
            the distance to 100 takes the same length everywhere, and its label says so.
        ax: as many Axes as there are panels; a new figure if not given.

    Returns:
        The figure, or `ax`.
    """
    owner = "plot_curves"
    titles = titled(owner, panels)
    picture, axes = grid(owner, len(titles), 3, (5.2, 3.4), ax, sharey=share_y)
    ylabel += "\n(stretched towards 100)" if percent else ""
    for i, (panel, (title, curves)) in enumerate(zip(axes, titles.items(), strict=True)):
        ends = []
        for j, (name, values) in enumerate(curves.items()):
            y = numbers(owner, f"the values of {name!r}", values, (1,), "(values,)")
            ends.append(y[-1] if len(y) else -math.inf)
            style = {"color": color_of(j), "linestyle": STYLES[j // len(COLORS) % len(STYLES)]}
            x = np.arange(1, len(y) + 1)
            panel.plot(x, y, label=name, marker=".", markersize=4, linewidth=1.2, **style)
        panel.set_title(title, fontsize="medium")
        if not share_y or i % 3 == 0:
            panel.set_ylabel(ylabel)
        if percent:
            panel.set_yscale("function", functions=(_widen, _narrow))
        _count_along_x(panel, xlabel)
        if curves:
            # The legend lists the lines in the order of their last values, from the top.
            order = sorted(range(len(ends)), key=lambda j: -ends[j])
            panel.legend(
                handles=[panel.lines[j - len(ends)] for j in order],
                loc="upper left",
                bbox_to_anchor=(1.0, 1.03),
                fontsize="small",
                frameon=False,
            )
    if percent:  # known when all lines are there, as panels may share their scale
        from matplotlib.ticker import FixedLocator

        for panel in axes:
            panel.yaxis.set_major_locator(FixedLocator(_ticks(*panel.get_ylim())))
            panel.yaxis.set_major_formatter("{x:g}")
    return picture


@named
def plot_activations(
    activations: Iterable[Activation], limit: float = 4.0, *, ax: Any = None
) -> Any:
    """Plot each function and its derivative on [-limit, limit], in one colour for each family.

    The derivative is the function's backward of delta = 1.

    Args:
        activations: the functions.
        limit: where the axes end.
        ax: as many Axes as there are functions; a new figure if not given.

    Returns:
        The figure, or `ax`.
    """
    owner = "plot_activations"
    activations = sequence(owner, "activations", activations, "a list of activations")
    for i, activation in enumerate(activations):
        instance(owner, f"activations[{i}]", activation, Activation, "TanH()")
    shared = {"sharex": True, "sharey": True}
    picture, axes = grid(owner, len(activations), 8, (1.75, 1.75), ax, **shared)
    from matplotlib import rcParams

    t = np.linspace(-limit, limit, 401)
    # Functions that act on rows see the row (t, 0); the others ignore its second number.
    x = get_backend().asarray(np.stack([t, 0 * t], axis=1))
    delta = get_backend().asarray(np.stack([0 * t + 1, 0 * t], axis=1))
    lines: dict[str, Any] = {}  # of the legend
    dashed = {"color": rcParams["text.color"], "linestyle": "--", "linewidth": 1}
    for panel, activation in zip(axes, activations, strict=True):
        base = type(activation).__bases__[0]
        family = "no family" if base is Activation else base.__name__
        color = lines[family].get_color() if family in lines else color_of(len(lines))
        y, backward = activation.forward(x)
        panel.axhline(0, color="0.8", linewidth=0.8)
        panel.axvline(0, color="0.8", linewidth=0.8)
        (line,) = panel.plot(t, to_numpy(y)[:, 0], color=color, linewidth=1.8)
        lines.setdefault(family, line).set_label(family)
        slope = to_numpy(backward(delta))[:, 0]
        (derivative,) = panel.plot(t, slope, label="derivative", **dashed)
        panel.set_title(type(activation).__name__, fontsize="medium")
        panel.set(xlim=(-limit, limit), ylim=(-0.55 * limit, limit))
        panel.set_xticks([-limit / 2, 0, limit / 2])
    if lines:
        add_legend(picture, axes, [*lines.values(), derivative])
    return picture


def _count_along_x(panel: Any, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel(label)
    panel.grid(alpha=0.3)


def _ticks(low: float, high: float) -> list[float]:
    """Return percentages as ticks of the stretched axis, four of them or more if possible."""
    coarse = [0, 20, 40, 60, 70, 80, 90, 95, 97, 98, 99]
    fine = [*range(0, 80, 5), *range(80, 90, 2), *range(90, 100), 99.5, 99.8]
    finest = [*np.arange(0, 95, 0.5), *np.round(np.arange(95, 100, 0.1), 1)]
    for ticks in (coarse, fine, finest):
        if sum(low <= tick <= high for tick in ticks) >= 4:
            break
    return [float(tick) for tick in ticks]


def _widen(percentage: Any) -> Any:
    """Return -log(100 - percentage), with a distance to 100 of at least 0.1."""
    return -np.log(np.maximum(100.0 - percentage, 0.1))


def _narrow(height: Any) -> Any:
    """Return the inverse of _widen."""
    return 100.0 - np.exp(-height)
