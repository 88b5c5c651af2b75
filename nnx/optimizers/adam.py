"""Adam and its relatives.

All of them store the sums m / (1 - beta1) and v / (1 - beta2) in place of the averages m and v.
With c1 = (1 - beta1) / (1 - beta1^t) and c2 = (1 - beta2) / (1 - beta2^t), which turn the sums
into the corrected averages m^ and v^, Adam's step is, in terms of the sums,

    eta m^ / (sqrt(v^) + eps) = (eta c1 / sqrt(c2)) m / (sqrt(v) + eps / sqrt(c2)).
"""

from __future__ import annotations

from nnx.backend import Array, add_product, array_namespace, subtract_quotient
from nnx.checks import number
from nnx.clipping import Clip
from nnx.optimizers.base import Factors, Optimizer, State, zeros
from nnx.schedules import Schedule

__all__ = ["AMSGrad", "AdaMax", "Adam", "AdamW", "NAdam"]


class _Adam(Optimizer):
    """Adam's formula, and the arguments that its relatives share."""

    fusible = True

    def __init__(
        self,
        eta: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, clip)
        self.beta1 = number(self, "beta1", beta1, "in [0, 1)")
        self.beta2 = number(self, "beta2", beta2, "in [0, 1)")
        self.eps = number(self, "eps", eps, "> 0")

    def init(self, p: Array) -> State:
        """m = 0, v = 0."""
        return zeros(p, 2)

    def factors(self, eta: float, t: int) -> Factors:
        """Return eta c1 / sqrt(c2) and eps / sqrt(c2)."""
        c1 = (1.0 - self.beta1) / (1.0 - self.beta1**t)
        root = ((1.0 - self.beta2) / (1.0 - self.beta2**t)) ** 0.5
        return eta * c1 / root, self.eps / root

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """m <- beta1 m + g, v <- beta2 v + g^2, p <- p - eta m / (sqrt(v) + eps)."""
        eta, eps = factors
        m, v = state
        m *= self.beta1
        m += g
        v *= self.beta2
        v = add_product(v, g, g)
        d = array_namespace(v).sqrt(v)
        d += eps
        return subtract_quotient(p, eta, m, d), (m, v)


class Adam(_Adam):
    """Adaptive moments: p <- p - eta m^ / (sqrt(v^) + eps).

    m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2, both 0 at the start, and
    corrected for that: m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t).

    Args:
        eta: learning rate, >= 0, or a Schedule.
        beta1: decay of m, in [0, 1).
        beta2: decay of v, in [0, 1).
        eps: > 0; outside the root and outside the correction.
        clip: bounds the gradients first.

    Source: Kingma and Ba, ICLR 2015, Algorithm 1.
    """


class AdamW(_Adam):
    """Adam with decoupled weight decay: p <- p - eta (m^ / (sqrt(v^) + eps) + lambda p).

    An L2 penalty adds lambda p to the gradient, and Adam divides it by the size of the gradient:
    parameters with large gradients decay less. Here all parameters decay alike. The paper has a
    schedule eta_t before the bracket and a second rate alpha before m^. As in other libraries, eta
    is the product of the two, and lambda is the paper's divided by alpha.

    Args:
        eta: learning rate, >= 0, or a Schedule, which the decay follows.
        beta1: decay of m, in [0, 1).
        beta2: decay of v, in [0, 1).
        eps: > 0.
        weight_decay: lambda >= 0.
        clip: bounds the gradients first.

    Source: Loshchilov and Hutter, ICLR 2019, Algorithm 2.
    """

    def __init__(
        self,
        eta: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, beta1, beta2, eps, clip=clip)
        self.weight_decay = number(self, "weight_decay", weight_decay, ">= 0")

    def factors(self, eta: float, t: int) -> Factors:
        """Return those of Adam, and 1 - eta lambda."""
        return (*super().factors(eta, t), 1.0 - eta * self.weight_decay)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- (1 - eta lambda) p, then the step of Adam."""
        p *= factors[2]
        return super().rule(p, g, state, factors[:2])


class NAdam(_Adam):
    """Adam with Nesterov's momentum: p <- p - eta h / (sqrt(v^) + eps).

    h = mu_{t+1} m / (1 - mu_1 ... mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 ... mu_t), where the
    momentum warms up, mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), and m, v^ are Adam's. The
    paper lets m decay with mu_t; here it decays with beta1, as in PyTorch and Keras.

    Args:
        eta: learning rate, >= 0, or a Schedule.
        beta1: decay of m and limit of mu, in [0, 1).
        beta2: decay of v, in [0, 1).
        eps: > 0.
        momentum_decay: how fast mu approaches beta1, >= 0; 1/250 in the paper.
        clip: bounds the gradients first.

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    """

    def __init__(
        self,
        eta: float | Schedule = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        momentum_decay: float = 0.004,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, beta1, beta2, eps, clip=clip)
        self.momentum_decay = number(self, "momentum_decay", momentum_decay, ">= 0")
        self._last = (self.beta1, self.momentum_decay, 0, 1.0)

    def factors(self, eta: float, t: int) -> Factors:
        """Return what m and g are multiplied by in eta h / sqrt(c2), and eps / sqrt(c2)."""
        root = ((1.0 - self.beta2) / (1.0 - self.beta2**t)) ** 0.5
        mu, mu_next, product = self._mu(t), self._mu(t + 1), self._product(t)
        of_m = eta * (1.0 - self.beta1) * mu_next / (1.0 - product * mu_next) / root
        of_g = eta * (1.0 - mu) / (1.0 - product) / root
        return of_m, of_g, self.eps / root

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """m <- beta1 m + g, v <- beta2 v + g^2, p <- p - eta h / (sqrt(v) + eps)."""
        of_m, of_g, eps = factors
        m, v = state
        m *= self.beta1
        m += g
        v *= self.beta2
        v = add_product(v, g, g)
        d = array_namespace(v).sqrt(v)
        d += eps
        h = m * of_m
        h += g * of_g
        h /= d
        p -= h
        return p, (m, v)

    def _mu(self, t: int) -> float:
        return self.beta1 * (1.0 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def _product(self, t: int) -> float:
        """Return mu_1 ... mu_t; 0 if it is so small that 1 - mu_1 ... mu_t rounds to 1.

        The last product is kept and continued, in the order of a product from the start: the
        result depends on t alone.
        """
        if self.beta1**t < 1e-17:
            return 0.0
        *of, last, product = self._last
        if of != [self.beta1, self.momentum_decay] or last > t:
            last, product = 0, 1.0
        for i in range(last + 1, t + 1):
            product *= self._mu(i)
        self._last = (self.beta1, self.momentum_decay, t, product)
        return product


class AMSGrad(_Adam):
    """Adam with a denominator that never shrinks: p <- p - eta m^ / (sqrt(u^) + eps).

    u <- max(u, v), u^ = u / (1 - beta2^t), and m^, v are Adam's. The paper has neither the
    corrections nor eps; they are Adam's here, as in PyTorch and Keras.

    Args:
        eta: learning rate, >= 0, or a Schedule.
        beta1: decay of m, in [0, 1).
        beta2: decay of v, in [0, 1).
        eps: > 0.
        clip: bounds the gradients first.

    Source: Reddi, Kale, Kumar, "On the convergence of Adam and beyond", ICLR 2018, Algorithm 2.
    """

    def init(self, p: Array) -> State:
        """m = 0, v = 0, u = 0."""
        return zeros(p, 3)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """m and v as in Adam, u <- max(u, v), p <- p - eta m / (sqrt(u) + eps)."""
        eta, eps = factors
        m, v, u = state
        xp = array_namespace(g)
        m *= self.beta1
        m += g
        v *= self.beta2
        v = add_product(v, g, g)
        u = xp.maximum(u, v)
        d = xp.sqrt(u)
        d += eps
        return subtract_quotient(p, eta, m, d), (m, v, u)


class AdaMax(_Adam):
    """Adam with the maximum norm: p <- p - eta m^ / u, u <- max(beta2 u, |g| + eps).

    m^ is Adam's. The paper has no eps; it keeps u from 0 before the first gradient that is not 0.

    Args:
        eta: learning rate, >= 0, or a Schedule.
        beta1: decay of m, in [0, 1).
        beta2: decay of u, in [0, 1).
        eps: > 0.
        clip: bounds the gradients first.

    Source: Kingma and Ba, ICLR 2015, Algorithm 2.
    """

    def __init__(
        self,
        eta: float | Schedule = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, beta1, beta2, eps, clip=clip)

    def factors(self, eta: float, t: int) -> Factors:
        """Return eta c1."""
        return (eta * ((1.0 - self.beta1) / (1.0 - self.beta1**t)),)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """m <- beta1 m + g, u <- max(beta2 u, |g| + eps), p <- p - eta m / u."""
        (eta,) = factors
        m, u = state
        xp = array_namespace(g)
        m *= self.beta1
        m += g
        height = xp.abs(g)
        height += self.eps
        u *= self.beta2
        u = xp.maximum(u, height)
        return subtract_quotient(p, eta, m, u), (m, u)
