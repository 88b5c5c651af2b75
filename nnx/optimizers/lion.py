"""Lion: steps of one size."""

from __future__ import annotations

from nnx.backend import Array, array_namespace
from nnx.checks import number
from nnx.clipping import Clip
from nnx.optimizers.base import Factors, Optimizer, State, zeros
from nnx.schedules import Schedule

__all__ = ["Lion"]


class Lion(Optimizer):
    """Steps of one size: p <- p - eta (sign(c) + lambda p), c = beta1 m + (1 - beta1) g.

    m <- beta2 m + (1 - beta2) g afterwards, from m = 0. The sign is computed as c / max(|c|, tiny),
    where tiny is the smallest normal number: it is NaN if c is NaN, and between -1 and 1 if c is
    subnormal.

    Args:
        eta: learning rate, >= 0, or a Schedule; a tenth to a third of Adam's.
        beta1: weight of m in the step, in [0, 1).
        beta2: decay of m, in [0, 1).
        weight_decay: lambda >= 0.
        clip: bounds the gradients first.

    Source: Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.
    """

    fusible = True

    def __init__(
        self,
        eta: float | Schedule = 0.0001,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, clip)
        self.beta1 = number(self, "beta1", beta1, "in [0, 1)")
        self.beta2 = number(self, "beta2", beta2, "in [0, 1)")
        self.weight_decay = number(self, "weight_decay", weight_decay, ">= 0")

    def init(self, p: Array) -> State:
        """m = 0."""
        return zeros(p, 1)

    def factors(self, eta: float, t: int) -> Factors:
        """Return eta and 1 - eta lambda."""
        return eta, 1.0 - eta * self.weight_decay

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta (sign(c) + lambda p).

        m and c are the sums m / (1 - beta2) and c / (1 - beta1) here.
        """
        eta, decay = factors
        (m,) = state
        xp = array_namespace(g)
        tiny = float(xp.finfo(g.dtype).smallest_normal)
        c = m * (self.beta1 * (1.0 - self.beta2) / (1.0 - self.beta1))
        c += g
        c /= xp.maximum(xp.abs(c), tiny)  # the sign
        c *= eta
        if self.weight_decay:
            p *= decay
        p -= c
        m *= self.beta2
        m += g
        return p, (m,)
