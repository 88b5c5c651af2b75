"""Stochastic gradient descent, with and without momentum."""

from __future__ import annotations

from nnx.backend import Array
from nnx.checks import flag, number
from nnx.clipping import Clip
from nnx.optimizers.base import Factors, Optimizer, State, zeros
from nnx.schedules import Schedule

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent: v <- gamma v + g, p <- p - eta v, with v = 0 at the start.

    eta stands outside v, so that it may change from step to step. With `nesterov` the step looks
    ahead: p <- p - eta (g + gamma v).

    Args:
        eta: learning rate, >= 0, or a Schedule.
        momentum: gamma in [0, 1).
        nesterov: look ahead; needs a momentum > 0.
        clip: bounds the gradients first.

    Source: Polyak, USSR Comput. Math. 4 (1964); Sutskever et al., ICML 2013.
    """

    fusible = True

    def __init__(
        self,
        eta: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, clip)
        self.momentum = number(self, "momentum", momentum, "in [0, 1)")
        self.nesterov = flag(self, "nesterov", nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError(
                "SGD: expected a momentum > 0 with nesterov=True, got 0.0; "
                "write SGD(eta, momentum=0.9, nesterov=True)"
            )

    @property
    def name(self) -> str:
        """The optimizer in words: "SGD(0.1) with momentum 0.9"."""
        kind = "Nesterov momentum" if self.nesterov else "momentum"
        return f"{super().name} with {kind} {self.momentum}" if self.momentum else super().name

    def init(self, p: Array) -> State:
        """v = 0; without momentum there is no state."""
        return zeros(p, 1) if self.momentum else ()

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """v <- gamma v + g, p <- p - eta v."""
        (eta,) = factors
        if not self.momentum:
            p -= eta * g
            return p, state
        (v,) = state
        v *= self.momentum
        v += g
        p -= eta * (g + self.momentum * v if self.nesterov else v)
        return p, (v,)
