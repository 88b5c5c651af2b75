"""Loss, accuracy and metrics of many samples, summed on the device and read once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from nnx.backend import Array, Backend
from nnx.metrics import hits
from nnx.training.history import Score
from nnx.training.plan import Plan

__all__ = ["Tally"]

Metrics = Mapping[str, Callable[[Array, Array, Array | None], Any]]


class Tally:
    """Loss and hits, summed on the device and read once; outputs are kept if metrics need them.

    Args:
        classes: are the targets classes? There is no accuracy otherwise.
        metrics: functions of outputs, targets and weights (or None), by name.
    """

    def __init__(self, classes: bool, metrics: Metrics) -> None:
        self.classes, self.metrics = classes, metrics
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self.samples, self.terms = 0, 0
        self.loss: Array | float = 0.0
        self.hits: Array | float = 0.0
        self.weight: Array | float = 0.0
        self.weighted = False
        self.kept: list[tuple[Array, ...]] = []

    def add(self, plan: Plan, a: Array, y: Array, weights: Array | None = None) -> None:
        """Count the outputs of some samples, as the loss of the plan takes them."""
        xp, samples, loss = plan.backend.xp, a.shape[0], plan.loss
        self.samples += samples
        self.loss = self.loss + loss.value(a, y, weights) * samples
        if self.metrics:
            self.kept.append((plan.finished(a), y, *(() if weights is None else (weights,))))
        if not self.classes:
            return
        # A fused loss contains the last activation, an increasing function: a threshold on its
        # values is one on the outputs before it, `loss.threshold`.
        right = hits(a, y, loss.threshold, loss.per_entry and a.shape[-1] > 1)
        self.terms += math.prod(right.shape)
        if weights is not None:
            self.weighted = True
            weights = _spread(xp, weights, right.shape)
            right = right * weights
            self.weight = self.weight + xp.sum(weights)
        self.hits = self.hits + xp.sum(right)

    def read(self, net: Any) -> Score:
        """Return the means, with the penalties of the network."""
        loss = _host(net.backend, self.loss) / self.samples + _host(net.backend, net.penalty())
        metrics = self._metrics(net.backend) if self.metrics else {}
        if not self.classes:
            return Score(loss, math.nan, metrics)
        right = _host(net.backend, self.hits)
        if not self.weighted:  # hits are whole numbers
            return Score(loss, round(right) / self.terms, metrics)
        weight = _host(net.backend, self.weight)
        return Score(loss, right / weight if weight else math.nan, metrics)

    def _metrics(self, backend: Backend) -> dict[str, float]:
        xp, kept = backend.xp, self.kept
        if len({tuple(a.shape[1:]) for a, *_ in kept}) > 1:  # sequences of several lengths
            kept = [_as_rows(xp, *arrays) for arrays in kept]
        joined = [xp.concat(list(arrays), axis=0) for arrays in zip(*kept, strict=True)]
        a, y, weights = (*joined, None)[:3]
        return {name: float(metric(a, y, weights)) for name, metric in self.metrics.items()}

    def state(self) -> dict[str, Any]:
        """Return what has been counted so far: plain data and arrays."""
        return {
            "samples": self.samples,
            "terms": self.terms,
            "weighted": self.weighted,
            "sums": [self.loss, self.hits, self.weight],
            "kept": [list(arrays) for arrays in self.kept],
        }

    def set_state(self, backend: Backend, saved: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.samples, self.terms, self.weighted = (
            saved[name] for name in ("samples", "terms", "weighted")
        )
        self.loss, self.hits, self.weight = (
            number if type(number) is float else backend.from_numpy(number)
            for number in saved["sums"]
        )
        self.kept = [tuple(map(backend.from_numpy, arrays)) for arrays in saved["kept"]]


def _spread(xp: Any, weights: Array, shape: tuple[int, ...]) -> Array:
    """Return weights of the shape of what they weight."""
    weights = xp.reshape(weights, (*weights.shape, *[1] * (len(shape) - weights.ndim)))
    return xp.broadcast_to(weights, shape)


def _as_rows(xp: Any, a: Array, y: Array, weights: Array | None = None) -> tuple[Array, ...]:
    """Return outputs (terms, outputs), targets and weights of the terms, whatever the lengths."""
    terms = a.shape[:-1]
    y = xp.reshape(y, (-1, y.shape[-1]) if y.ndim == a.ndim else (-1,))
    more = () if weights is None else (xp.reshape(_spread(xp, weights, terms), (-1,)),)
    return (xp.reshape(a, (-1, a.shape[-1])), y, *more)


def _host(backend: Backend, value: Array | float) -> float:
    return value if type(value) is float else float(backend.to_numpy(value))
