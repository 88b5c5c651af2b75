"""Loss, accuracy and metrics of many samples, summed on the device and read once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nnx.backend import Array, Backend
from nnx.metrics import hits
from nnx.metrics.chosen import Metric, joined
from nnx.training.history import Score
from nnx.training.plan import Plan

__all__ = ["Tally"]


class Tally:
    """Loss and hits, summed on the device and read once; outputs are kept if metrics need them.

    Args:
        classes: are the targets classes? There is no accuracy otherwise.
        metrics: what else is reported, by name.
    """

    def __init__(self, classes: bool, metrics: Mapping[str, Metric]) -> None:
        self.classes, self.metrics = classes, metrics
        self.terms, self.judged = 0, 0  # of the loss, of the accuracy
        self.loss: Array | float = 0.0
        self.hits: Array | float = 0.0
        self.weight: Array | float = 0.0
        self.weighted = False
        self.kept: list[tuple[Array, Array, Array | None]] = []

    def add(self, plan: Plan, a: Array, y: Array, weights: Array | None = None) -> None:
        """Count the outputs of some samples, as the loss of the plan takes them."""
        xp, loss = plan.backend.xp, plan.loss
        terms = math.prod(a.shape[loss.over])  # several lengths: each time step counts
        self.terms += terms
        self.loss = self.loss + plan.value(a, y, weights) * terms
        if self.metrics:
            self.kept.append((plan.finished(a), y, weights))
        if not self.classes:
            return
        # A fused loss contains the last activation, an increasing function: a threshold on its
        # values is one on the outputs before it, `loss.threshold`.
        right = hits(a, y, loss.threshold, loss.per_entry and a.shape[-1] > 1)
        self.judged += math.prod(right.shape)
        if weights is not None:
            self.weighted = True
            weights = xp.reshape(weights, (*weights.shape, *[1] * (right.ndim - weights.ndim)))
            weights = xp.broadcast_to(weights, right.shape)
            right = right * weights
            self.weight = self.weight + xp.sum(weights)
        self.hits = self.hits + xp.sum(right)

    def read(self, net: Any) -> Score:
        """Return the means, with the penalties of the network."""
        loss = _host(net.backend, self.loss) / self.terms + _host(net.backend, net.penalty())
        metrics = {}
        if self.metrics:
            arrays = joined(self.kept)
            metrics = {name: metric(*arrays) for name, metric in self.metrics.items()}
        if not self.classes:
            return Score(loss, math.nan, metrics)
        right = _host(net.backend, self.hits)
        if not self.weighted:  # hits are whole numbers
            return Score(loss, round(right) / self.judged, metrics)
        weight = _host(net.backend, self.weight)
        return Score(loss, right / weight if weight else math.nan, metrics)

    def state(self) -> dict[str, Any]:
        """Return what has been counted so far: plain data and arrays."""
        return {
            "terms": self.terms,
            "judged": self.judged,
            "weighted": self.weighted,
            "sums": [self.loss, self.hits, self.weight],
            "kept": [[a for a in arrays if a is not None] for arrays in self.kept],
        }

    def set_state(self, backend: Backend, saved: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.terms, self.judged, self.weighted = (
            saved[name] for name in ("terms", "judged", "weighted")
        )
        self.loss, self.hits, self.weight = (
            number if type(number) is float else backend.from_numpy(number)
            for number in saved["sums"]
        )
        self.kept = [
            (*map(backend.from_numpy, arrays), *[None] * (3 - len(arrays)))
            for arrays in saved["kept"]
        ]


def _host(backend: Backend, value: Array | float) -> float:
    return value if type(value) is float else float(backend.to_numpy(value))
