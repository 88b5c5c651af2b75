"""Histograms of weights and of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnx.checks import count, instance
from nnx.layers.base import Layer
from nnx.layers.tree import once
from nnx.plotting._panels import color_of, finite, grid, numbers, titled
from nnx.synonyms import named

__all__ = ["plot_gradients", "plot_weights"]


@named
def plot_weights(panels: Any, bins: int = 101, *, ax: Any = None) -> Any:
    """Plot histograms of weights: one panel for each layer of a network, or for each title.

    The numbers are on a logarithmic axis, on which few large weights are visible, too.

    Args:
        panels: a network or layer; or title -> name -> weights, of any shape and backend.
        bins: number of bins of each histogram.
        ax: as many Axes as there are panels; a new figure if not given.

    Returns:
        The figure, or `ax`.

    Raises:
        TypeError, ValueError: an argument does not fit, or a weight is infinite or NaN.
    """
    owner = "plot_weights"
    if isinstance(panels, Layer):
        panels = _by_layer(panels, "parameters")
        if not panels:
            raise ValueError(f"{owner}: expected a layer with parameters, got one without")
    return _histograms(owner, "weight", titled(owner, panels), bins, ax)


@named
def plot_gradients(net: Layer, bins: int = 101, *, ax: Any = None) -> Any:
    """Plot histograms of the gradients of the last `backprop`: one panel for each layer.

        a = net.evaluate(x, training=True)
        net.backprop(net.cost.gradient(a, y))
        plot_gradients(net)

    Args:
        net: a network or layer.
        bins: number of bins of each histogram.
        ax: as many Axes as there are layers with parameters; a new figure if not given.

    Returns:
        The figure, or `ax`.

    Raises:
        ValueError: there are no gradients, or one of them is infinite or NaN.
        TypeError: another argument does not fit.
    """
    owner = "plot_gradients"
    instance(owner, "net", net, Layer, "SequentialNet(...)")
    panels = _by_layer(net, "gradients")
    if not panels:
        raise ValueError(
            f"{owner}: expected the gradients of a backprop, got none; write "
            "a = net.evaluate(x); net.backprop(net.cost.gradient(a, y)). A training step "
            "removes them"
        )
    return _histograms(owner, "gradient", panels, bins, ax)


def _by_layer(net: Layer, attribute: str) -> dict[str, dict[str, Any]]:
    """Return the arrays of each layer, by the layer's number and name."""
    found = {}
    for keys, layer in once(net):
        if not layer.children and (arrays := getattr(layer, attribute)):
            number = ".".join(str(key + 1) for key in keys)
            found[f"{number} {layer.name}".strip()] = dict(arrays)
    return found


def _histograms(
    owner: str, what: str, panels: Mapping[str, Mapping[str, Any]], bins: int, ax: Any
) -> Any:
    bins = count(owner, "bins", bins)
    picture, axes = grid(owner, len(panels), 3, (4.2, 2.8), ax, sharey=True)
    for panel, (title, arrays) in zip(axes, panels.items(), strict=True):
        found = {}
        for name, values in arrays.items():
            where = f"{title}, {name}"
            found[name] = finite(owner, where, numbers(owner, where, values))
        largest = max((np.abs(a).max(initial=0.0) for a in found.values()), default=0.0) or 1.0
        edges = np.linspace(-largest, largest, bins + 1)
        for j, (name, values) in enumerate(found.items()):
            counts, _ = np.histogram(values, edges)
            panel.stairs(counts, edges, label=name, color=color_of(j), linewidth=1.3)
        panel.set_yscale("log")
        panel.set_title(title, fontsize="medium")
        panel.set_xlabel(what)
        panel.locator_params(axis="x", nbins=6)
        panel.set_ylabel(f"number of {what}s, logarithmic")
        if found:
            panel.legend(fontsize="small")
    return picture
