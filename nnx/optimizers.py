"""Optimizers: `update(parameters, gradients)` returns the new parameters.

An algorithm is a rule for one array: `init(p)` makes the state that belongs to it, `rule(p, g,
state, eta, t)` returns the new parameter and the new state. The base class does the rest: it counts the
steps and goes through the arrays. Parameters change in place where the library can write, and
are new arrays where it cannot (JAX); use what `update` returns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from nnx.backend import Array, array_namespace

__all__ = ["SGD", "Optimizer"]


class Optimizer:
    """Base class: the state of one set of parameters and the count t of its steps.

    Subclasses define `init(p)`, a tuple of arrays, and `rule(p, g, state, eta, t)`.

    Args:
        eta: the learning rate, >= 0.
    """

    def __init__(self, eta: float) -> None:
        self.eta = _at_least_zero(type(self).__name__, "eta", eta)
        self.t = 0
        self.state: list[tuple[Array, ...]] | None = None

    def init(self, p: Array) -> tuple[Array, ...]:
        """The state of one parameter before the first step."""
        return ()

    def rule(
        self, p: Array, g: Array, state: tuple[Array, ...], eta: float, t: int
    ) -> tuple[Array, tuple[Array, ...]]:
        """Step t = 1, 2, ... for one parameter with gradient g: the new parameter and state."""
        raise NotImplementedError(f"{type(self).__name__} must define rule(p, g, state, eta, t)")

    def update(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
        """One step for all parameters; two equally long lists, the same ones at every call.

        Raises:
            ValueError: the lists differ in length, or are not those of the last call.
        """
        if self.state is None:
            self.state = [self.init(p) for p in parameters]
        if not len(parameters) == len(gradients) == len(self.state):
            raise ValueError(
                f"{type(self).__name__}.update: got {len(parameters)} parameters and "
                f"{len(gradients)} gradients, and has state for {len(self.state)}; give each set "
                "of parameters an optimizer of its own: optimizer.clone()"
            )
        self.t += 1
        updated = []
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            p, self.state[i] = self.rule(p, g, self.state[i], self.eta, self.t)
            updated.append(p)
        return updated

    def clone(self) -> Optimizer:
        """The same algorithm and hyper-parameters, without any state."""
        twin = copy.copy(self)
        twin.t, twin.state = 0, None
        return twin

    def move(self, convert: Callable[[Array], Array]) -> Optimizer:
        """The same optimizer in the middle of its work, its arrays passed through `convert`."""
        twin = copy.copy(self)
        if self.state is not None:
            twin.state = [tuple(convert(s) for s in state) for state in self.state]
        return twin

    def __repr__(self) -> str:
        shown: dict[str, Any] = {k: v for k, v in vars(self).items() if k not in ("t", "state")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


class SGD(Optimizer):
    """Stochastic gradient descent: v <- gamma v + g, p <- p - eta v, with v = 0 at the start.

    eta stands outside v, so that it may change from step to step. With `nesterov` the step looks
    ahead: p <- p - eta (g + gamma v).

    Args:
        eta: learning rate, >= 0.
        momentum: gamma in [0, 1).
        nesterov: look ahead.

    Source: Polyak, USSR Comput. Math. 4 (1964); Sutskever et al., ICML 2013.
    """

    def __init__(self, eta: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(eta)
        self.momentum = _at_least_zero("SGD", "momentum", momentum)
        if self.momentum >= 1.0:
            raise ValueError(f"SGD: momentum must be < 1, got {momentum!r}")
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov=True needs a momentum > 0")
        self.nesterov = nesterov

    def init(self, p: Array) -> tuple[Array, ...]:
        """v = 0, and nothing at all without momentum."""
        return (array_namespace(p).zeros_like(p),) if self.momentum else ()

    def rule(
        self, p: Array, g: Array, state: tuple[Array, ...], eta: float, t: int
    ) -> tuple[Array, tuple[Array, ...]]:
        """v <- gamma v + g, p <- p - eta v."""
        if not self.momentum:
            p -= eta * g
            return p, state
        (v,) = state
        v *= self.momentum
        v += g
        p -= eta * (g + self.momentum * v if self.nesterov else v)
        return p, (v,)


def _at_least_zero(owner: str, name: str, value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{owner}: {name} must be >= 0, got {value!r}")
    return float(value)
