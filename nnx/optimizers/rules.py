"""Optimizers: `update(parameters, gradients)` returns the new parameters.

An algorithm is a rule for one array: `init(p)` makes the state that belongs to it, `rule(p, g,
state, factors)` returns the new parameter and the new state. The base class does the rest: it
counts the steps, asks the schedule, clips, and goes through the arrays. Parameters change in
place where the library can write, and are new arrays where it cannot (JAX); use what `update`
returns. Gradients are only read.

A rule works elementwise, so that it may be given any part of an array, or several arrays packed
into one. What does not depend on the array is in `factors(eta, t)`, plain numbers that are worked
out on the host: a compiled rule takes them as arguments, and a factor that is folded into another
one is one pass over the array less. For that reason the running averages
m <- beta m + (1 - beta) g are kept without the factor 1 - beta, as sums m <- beta m + g.
"""

from __future__ import annotations

from nnx.backend import Array, array_namespace
from nnx.checks import number
from nnx.clipping import Clip
from nnx.optimizers.base import Factors, Optimizer, State
from nnx.schedules import Schedule

__all__ = [
    "SGD",
    "AMSGrad",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "Lion",
    "NAdam",
    "RMSProp",
]

class SGD(Optimizer):
    """Stochastic gradient descent: v <- gamma v + g, p <- p - eta v, with v = 0 at the start.

    eta stands outside v, so that it may change from step to step. With `nesterov` the step looks
    ahead: p <- p - eta (g + gamma v).

    Args:
        eta: learning rate, >= 0, or a Schedule.
        momentum: gamma in [0, 1).
        nesterov: look ahead.
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
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov=True needs a momentum > 0")

    def init(self, p: Array) -> State:
        """v = 0, and nothing at all without momentum."""
        return _zeros(p, 1) if self.momentum else ()

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


class _AdamLike(Optimizer):
    """What the relatives of Adam share: beta1 and beta2 in [0, 1), eps > 0."""

    fusible = True

    def __init__(
        self, eta: float | Schedule, beta1: float, beta2: float, eps: float, clip: Clip | None
    ) -> None:
        super().__init__(eta, clip)
        self.beta1 = number(self, "beta1", beta1, "in [0, 1)")
        self.beta2 = number(self, "beta2", beta2, "in [0, 1)")
        self.eps = number(self, "eps", eps, "> 0")

    def init(self, p: Array) -> State:
        """m = 0, v = 0."""
        return _zeros(p, 2)

    def _moments(self, g: Array, m: Array, v: Array) -> State:
        """The sums m <- beta1 m + g, v <- beta2 v + g^2."""
        m *= self.beta1
        m += g
        v *= self.beta2
        v += g * g
        return m, v

    def _correction1(self, t: int) -> float:
        """What makes a sum m the bias-corrected average: (1 - beta1) / (1 - beta1^t)."""
        return (1.0 - self.beta1) / (1.0 - self.beta1**t)

    def _correction2(self, t: int) -> float:
        """r with sqrt(v^) = r sqrt(v) for a sum v: the root of (1 - beta2) / (1 - beta2^t)."""
        return ((1.0 - self.beta2) / (1.0 - self.beta2**t)) ** 0.5

    def factors(self, eta: float, t: int) -> Factors:
        """The step is p - size m / (sqrt(v) + least), from the sums m and v: size and least."""
        r = self._correction2(t)
        return eta * self._correction1(t) / r, self.eps / r

    def _step(self, p: Array, m: Array, v: Array, size: float, least: float) -> Array:
        """p - size m / (sqrt(v) + least), which is p - eta m^ / (sqrt(v^) + eps)."""
        d = array_namespace(v).sqrt(v)
        d += least
        q = m / d
        q *= size
        p -= q
        return p


class Adam(_AdamLike):
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

    def __init__(
        self,
        eta: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, beta1, beta2, eps, clip)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta m^ / (sqrt(v^) + eps)."""
        m, v = self._moments(g, *state)
        return self._step(p, m, v, *factors), (m, v)


class AdamW(_AdamLike):
    """Adam with decoupled weight decay: p <- p - eta (m^ / (sqrt(v^) + eps) + lambda p).

    An L2 penalty adds lambda p to the gradient, and Adam divides it by the gradient's size: large
    gradients decay less. Here every parameter decays alike. The paper has a schedule eta_t before
    the bracket and a second rate alpha before m^; eta is the product of the two, lambda theirs
    divided by alpha, as everybody implements it.

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
        super().__init__(eta, beta1, beta2, eps, clip)
        self.weight_decay = number(self, "weight_decay", weight_decay, ">= 0")

    def factors(self, eta: float, t: int) -> Factors:
        """Those of Adam, and 1 - eta lambda."""
        return (*super().factors(eta, t), 1.0 - eta * self.weight_decay)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta (m^ / (sqrt(v^) + eps) + lambda p)."""
        *of_adam, decay = factors
        m, v = self._moments(g, *state)
        p *= decay
        return self._step(p, m, v, *of_adam), (m, v)


class NAdam(_AdamLike):
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
        super().__init__(eta, beta1, beta2, eps, clip)
        self.momentum_decay = number(self, "momentum_decay", momentum_decay, ">= 0")
        self._product = (0, 1.0)  # a step t, and mu_1 ... mu_t

    def factors(self, eta: float, t: int) -> Factors:
        """What stands before the sum m and before g in eta h / r, and eps / r."""
        r = self._correction2(t)
        mu, mu_next, product = self._mu(t), self._mu(t + 1), self._mu_product(t)
        before_m = eta * (1.0 - self.beta1) * mu_next / (1.0 - product * mu_next) / r
        return before_m, eta * (1.0 - mu) / (1.0 - product) / r, self.eps / r

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta h / (sqrt(v^) + eps)."""
        before_m, before_g, least = factors
        m, v = self._moments(g, *state)
        d = array_namespace(v).sqrt(v)
        d += least
        h = m * before_m
        h += g * before_g
        h /= d
        p -= h
        return p, (m, v)

    def _mu(self, t: int) -> float:
        return self.beta1 * (1.0 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def _mu_product(self, t: int) -> float:
        """mu_1 ... mu_t, from the last one asked for where that helps: it is the same number."""
        last, product = self._product if self._product[0] <= t else (0, 1.0)
        for i in range(last + 1, t + 1):
            product *= self._mu(i)
        self._product = (t, product)
        return product


class AMSGrad(_AdamLike):
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

    def __init__(
        self,
        eta: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        clip: Clip | None = None,
    ) -> None:
        super().__init__(eta, beta1, beta2, eps, clip)

    def init(self, p: Array) -> State:
        """m = 0, v = 0, u = 0."""
        return _zeros(p, 3)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta m^ / (sqrt(u^) + eps)."""
        m, v, u = state
        m, v = self._moments(g, m, v)
        u = array_namespace(u).maximum(u, v)
        return self._step(p, m, u, *factors), (m, v, u)


class AdaMax(_AdamLike):
    """Adam with the maximum norm: p <- p - eta m^ / u, u <- max(beta2 u, |g| + eps).

    m^ is Adam's. The paper has no eps; it keeps u from 0 where there has been no gradient yet.

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
        super().__init__(eta, beta1, beta2, eps, clip)

    def factors(self, eta: float, t: int) -> Factors:
        """What makes a sum m the step eta m^."""
        return (eta * self._correction1(t),)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta m^ / u."""
        (size,) = factors
        m, u = state
        xp = array_namespace(g)
        m *= self.beta1
        m += g
        height = xp.abs(g)
        height += self.eps
        u *= self.beta2
        u = xp.maximum(u, height)
        q = m / u
        q *= size
        p -= q
        return p, (m, u)


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
        return _zeros(p, 1)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """s <- s + g^2, p <- p - eta g / (sqrt(s) + eps)."""
        (eta,) = factors
        (s,) = state
        s += g * g
        d = array_namespace(s).sqrt(s)
        d += self.eps
        q = g / d
        q *= eta
        p -= q
        return p, (s,)


class AdaDelta(Optimizer):
    """Steps in the units of p: d = g sqrt(u + eps) / sqrt(s + eps), p <- p - eta d.

    s <- rho s + (1 - rho) g^2 before, u <- rho u + (1 - rho) d^2 after, both 0 at the start.

    Args:
        eta: a factor, 1 in the paper, >= 0, or a Schedule.
        rho: decay of s and u, in [0, 1).
        eps: > 0, inside the roots: without it there would never be a first step.
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
        return _zeros(p, 2)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """d = g sqrt(u + eps) / sqrt(s + eps), p <- p - eta d."""
        (eta,) = factors
        s, u = state
        eps = self.eps / (1.0 - self.rho)
        s *= self.rho
        s += g * g
        d = u + eps
        d /= s + eps
        d = array_namespace(d).sqrt(d)
        d *= g
        u *= self.rho
        u += d * d
        d *= eta
        p -= d
        return p, (s, u)


class RMSProp(Optimizer):
    """Divide by the root of the mean square: p <- p - eta g / (sqrt(v) + eps).

    v <- rho v + (1 - rho) g^2 from v = 0, and no correction for that.

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
        return _zeros(p, 1)

    def factors(self, eta: float, t: int) -> Factors:
        """eta / r and eps / r, with r sqrt(v) the root of the average for a sum v."""
        r = (1.0 - self.rho) ** 0.5
        return eta / r, self.eps / r

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta g / (sqrt(v) + eps)."""
        size, least = factors
        (v,) = state
        v *= self.rho
        v += g * g
        d = array_namespace(v).sqrt(v)
        d += least
        q = g / d
        q *= size
        p -= q
        return p, (v,)


class Lion(Optimizer):
    """Steps of one size: p <- p - eta (sign(c) + lambda p), c = beta1 m + (1 - beta1) g.

    m <- beta2 m + (1 - beta2) g afterwards, from m = 0.

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
        return _zeros(p, 1)

    def factors(self, eta: float, t: int) -> Factors:
        """eta, and 1 - eta lambda."""
        return eta, 1.0 - eta * self.weight_decay

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """p <- p - eta (sign(c) + lambda p)."""
        eta, decay = factors
        (m,) = state
        xp = array_namespace(g)
        # c > 0 where g is greater than this
        zero = m * (-self.beta1 * (1.0 - self.beta2) / (1.0 - self.beta1))
        q = xp.astype(g > zero, p.dtype)
        q -= xp.astype(g < zero, p.dtype)
        q *= eta
        if self.weight_decay:
            p *= decay
        p -= q
        m *= self.beta2
        m += g
        return p, (m,)


def _zeros(p: Array, arrays: int) -> State:
    xp = array_namespace(p)
    return tuple(xp.zeros_like(p) for _ in range(arrays))
