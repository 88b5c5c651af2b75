"""AdaGrad, RMSProp and AdaDelta: every entry has a rate of its own, from its squared gradients."""

from __future__ import annotations

from nnx.backend import Array, add_product, array_namespace, subtract_quotient
from nnx.checks import number
from nnx.clipping import Clip
from nnx.optimizers.base import Factors, Optimizer, State, zeros
from nnx.schedules import Schedule

__all__ = ["AdaDelta", "AdaGrad", "RMSProp"]


class AdaGrad(Optimizer):
    """A rate of its own for every entry: s <- s + g^2, p <- p - eta g / (sqrt(s) + eps).

    Args:
        eta: learning rate, >= 0, or a Schedule.
        eps: > 0.
        clip: bounds the gradients first.

    Source: Duchi, Hazan, Singer, JMLR 12 (2011), the diagonal form.
    """

    fusible = True

    def __init__(
        self, eta: float | Schedule = 0.01, eps: float = 1e-10, *, clip: Clip | None = None
    ) -> None:
        super().__init__(eta, clip)
        self.eps = number(self, "eps", eps, "> 0")

    def init(self, p: Array) -> State:
        """s = 0."""
        return zeros(p, 1)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """s <- s + g^2, p <- p - eta g / (sqrt(s) + eps)."""
        (eta,) = factors
        (s,) = state
        s = add_product(s, g, g)
        d = array_namespace(s).sqrt(s)
        d += self.eps
        return subtract_quotient(p, eta, g, d), (s,)


class AdaDelta(Optimizer):
    """Steps in the units of p: d = g sqrt(u + eps) / sqrt(s + eps), p <- p - eta d.

    s <- rho s + (1 - rho) g^2 before, u <- rho u + (1 - rho) d^2 after, both 0 at the start.

    Args:
        eta: a factor, 1 in the paper, >= 0, or a Schedule.
        rho: decay of s and u, in [0, 1).
        eps: > 0, inside the roots: the first step is proportional to its root. Steps become 0
            where eps / s is subnormal: from gradients of 4e16 in float32.
        clip: bounds the gradients first.

    Source: Zeiler, "ADADELTA", 2012, arXiv 1212.5701, Algorithm 1.
    """

    fusible = True

    def __init__(
        self,
        eta: float | Schedule = 1.0,
        rho: float = 0.95,
        eps: float = 1e-6,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, clip)
        self.rho = number(self, "rho", rho, "in [0, 1)")
        self.eps = number(self, "eps", eps, "> 0")

    def init(self, p: Array) -> State:
        """s = 0, u = 0."""
        return zeros(p, 2)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta d, with the sums s / (1 - rho) and u / (1 - rho) for s and u."""
        (eta,) = factors
        s, u = state
        eps = self.eps / (1.0 - self.rho)
        s *= self.rho
        s = add_product(s, g, g)
        d = u + eps
        d /= s + eps
        d = array_namespace(d).sqrt(d)
        d *= g
        u *= self.rho
        u = add_product(u, d, d)
        d *= eta
        p -= d
        return p, (s, u)


class RMSProp(Optimizer):
    """Divide by the root of the mean square: p <- p - eta g / (sqrt(v) + eps).

    v <- rho v + (1 - rho) g^2 from v = 0, without a correction for that start.

    Args:
        eta: learning rate, >= 0, or a Schedule.
        rho: decay of v, in [0, 1).
        eps: > 0.
        clip: bounds the gradients first.

    Source: Tieleman and Hinton, Neural Networks for Machine Learning, lecture 6e, 2012.
    """

    fusible = True

    def __init__(
        self,
        eta: float | Schedule = 0.001,
        rho: float = 0.9,
        eps: float = 1e-8,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, clip)
        self.rho = number(self, "rho", rho, "in [0, 1)")
        self.eps = number(self, "eps", eps, "> 0")

    def init(self, p: Array) -> State:
        """v = 0."""
        return zeros(p, 1)

    def factors(self, eta: float, t: int) -> Factors:
        """Return eta / r and eps / r, where r^2 = 1 - rho turns the sum v into the average."""
        r = (1.0 - self.rho) ** 0.5
        return eta / r, self.eps / r

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta g / (sqrt(v) + eps), with the sum v / (1 - rho) for v."""
        eta, eps = factors
        (v,) = state
        v *= self.rho
        v = add_product(v, g, g)
        d = array_namespace(v).sqrt(v)
        d += eps
        return subtract_quotient(p, eta, g, d), (v,)
