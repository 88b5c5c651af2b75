"""What the tests of the optimizers go through: every algorithm, and its formula written again.

A formula here is the paper's, term by term in float64 NumPy, with nothing folded or reused: it
takes the first parameter and the gradients and yields the parameter after each step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import nnx

STEPS = 50


def problem():
    """A first parameter (2, 3), and gradients of fifty steps from 1e-4 to 1e3, with zeros."""
    rng = np.random.default_rng(7)
    scale = np.asarray([[1.0, 1e-4, 1e3], [0.1, 1.0, 1e-2]])
    gradients = rng.standard_normal((STEPS, 2, 3)) * scale
    gradients[:5, 1, 2] = 0.0  # an entry whose first gradients are zero
    gradients[20:, 1, 1] = 0.0  # one whose gradient ends
    return rng.standard_normal((2, 3)), gradients


def sgd(p, gradients, eta, momentum=0.0, nesterov=False):
    v = 0.0
    for g in gradients:
        v = momentum * v + g
        p = p - eta * (g + momentum * v if nesterov else v)
        yield p


def adam(p, gradients, eta, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False):
    m = v = u = 0.0
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        u = np.maximum(u, v) if amsgrad else v
        m_hat, u_hat = m / (1 - beta1**t), u / (1 - beta2**t)
        p = p - eta * (m_hat / (np.sqrt(u_hat) + eps) + weight_decay * p)
        yield p


def nadam(p, gradients, eta, beta1=0.9, beta2=0.999, eps=1e-8, momentum_decay=0.004):
    m = v = 0.0
    mu = [beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in range(len(gradients) + 2)]
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g  # the paper: mu[t] * m + (1 - mu[t]) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - np.prod(mu[1 : t + 2]))
        g_hat = g / (1 - np.prod(mu[1 : t + 1]))
        h = mu[t + 1] * m_hat + (1 - mu[t]) * g_hat
        p = p - eta * h / (np.sqrt(v / (1 - beta2**t)) + eps)
        yield p


def adamax(p, gradients, eta, beta1=0.9, beta2=0.999, eps=1e-8):
    m = u = 0.0
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g) + eps)
        p = p - eta / (1 - beta1**t) * m / u
        yield p


def adagrad(p, gradients, eta, eps=1e-10):
    s = 0.0
    for g in gradients:
        s = s + g**2
        p = p - eta * g / (np.sqrt(s) + eps)
        yield p


def adadelta(p, gradients, eta=1.0, rho=0.95, eps=1e-6):
    s = u = 0.0
    for g in gradients:
        s = rho * s + (1 - rho) * g**2
        d = np.sqrt(u + eps) / np.sqrt(s + eps) * g
        u = rho * u + (1 - rho) * d**2
        p = p - eta * d
        yield p


def rmsprop(p, gradients, eta, rho=0.9, eps=1e-8):
    v = 0.0
    for g in gradients:
        v = rho * v + (1 - rho) * g**2
        p = p - eta * g / (np.sqrt(v) + eps)
        yield p


def lion(p, gradients, eta, beta1=0.9, beta2=0.99, weight_decay=0.0):
    m = 0.0
    for g in gradients:
        p = p - eta * (np.sign(beta1 * m + (1 - beta1) * g) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g
        yield p


class Case(NamedTuple):
    """An algorithm with its hyper-parameters, its formula, and PyTorch's class where it has one.

    `launches` is what one step of one array may cost: its array operations.
    """

    optimizer: type[nnx.Optimizer]
    arguments: dict[str, Any]
    formula: Callable
    formula_arguments: dict[str, Any]
    torch: tuple[str, dict[str, Any]] | None
    launches: int

    def make(self, **more):
        return self.optimizer(**self.arguments, **more)

    def expected(self, p, gradients):
        return np.stack(list(self.formula(p, gradients, **self.formula_arguments)))


def case(optimizer, arguments, formula, torch, launches, **more):
    return Case(optimizer, arguments, formula, arguments | more, torch, launches)


def adam_in_torch(eta, beta1=0.9, beta2=0.999, eps=1e-8, **more):
    return {"lr": eta, "betas": (beta1, beta2), "eps": eps, "weight_decay": 0.0, **more}


CASES = {
    "SGD": case(nnx.SGD, {"eta": 0.1}, sgd, ("SGD", {"lr": 0.1}), 2),
    "SGD, momentum": case(
        nnx.SGD, {"eta": 0.1, "momentum": 0.9}, sgd, ("SGD", {"lr": 0.1, "momentum": 0.9}), 4
    ),
    "SGD, Nesterov": case(
        nnx.SGD,
        {"eta": 0.1, "momentum": 0.9, "nesterov": True},
        sgd,
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        6,
    ),
    "Adam": case(nnx.Adam, {"eta": 0.01}, adam, ("Adam", adam_in_torch(0.01)), 10),
    "Adam, other decays": case(
        nnx.Adam,
        {"eta": 0.01, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3},
        adam,
        ("Adam", adam_in_torch(0.01, 0.5, 0.9, 1e-3)),
        10,
    ),
    # The paper scales lambda by the schedule alone, PyTorch and nnx by eta.
    "AdamW": case(
        nnx.AdamW,
        {"eta": 0.01, "weight_decay": 0.1},
        adam,
        ("AdamW", adam_in_torch(0.01, weight_decay=0.1)),
        11,
    ),
    # The paper lets m decay with mu_t, PyTorch, Keras and nnx with beta1.
    "NAdam": case(nnx.NAdam, {"eta": 0.01}, nadam, ("NAdam", adam_in_torch(0.01)), 12),
    "NAdam, fast": case(
        nnx.NAdam,
        {"eta": 0.01, "momentum_decay": 0.5},
        nadam,
        ("NAdam", adam_in_torch(0.01, momentum_decay=0.5)),
        12,
    ),
    # The paper has no bias corrections and no eps, PyTorch, Keras and nnx have Adam's.
    "AMSGrad": case(
        nnx.AMSGrad,
        {"eta": 0.01, "beta2": 0.9},
        adam,
        ("Adam", adam_in_torch(0.01, beta2=0.9, amsgrad=True)),
        11,
        amsgrad=True,
    ),
    # The paper has no eps, PyTorch and nnx add it to |g|.
    "AdaMax": case(nnx.AdaMax, {"eta": 0.01}, adamax, ("Adamax", adam_in_torch(0.01)), 9),
    "AdaGrad": case(nnx.AdaGrad, {"eta": 0.1}, adagrad, ("Adagrad", {"lr": 0.1}), 7),
    # PyTorch's default rho is .9, the paper's .95.
    "AdaDelta": case(
        nnx.AdaDelta, {}, adadelta, ("Adadelta", {"lr": 1.0, "rho": 0.95, "eps": 1e-6}), 13
    ),
    # PyTorch's default decay is .99, the lecture's .9.
    "RMSProp": case(
        nnx.RMSProp, {"eta": 0.01}, rmsprop, ("RMSprop", {"lr": 0.01, "alpha": 0.9}), 8
    ),
    "Lion": case(nnx.Lion, {"eta": 0.01}, lion, None, 9),
    "Lion, decay": case(nnx.Lion, {"eta": 0.01, "weight_decay": 0.1}, lion, None, 10),
}

# Rates from which a cosine leads to the minimum of a parabola, and of Rosenbrock's function.
RATES = {
    "SGD, momentum": (0.1, 0.003),
    "Adam": (1.0, 0.1),
    "AdamW": (1.0, 0.1),
    "NAdam": (1.0, 0.03),
    "AMSGrad": (1.0, 0.3),
    "AdaMax": (1.0, 1.0),
    "AdaGrad": (3.0, 1.0),
    "AdaDelta": (10.0, 1.0),
    "RMSProp": (0.3, 0.01),
    "Lion": (0.1, 0.03),
}


def torch_trajectory(name, p, gradients):
    """The same steps by PyTorch, in float64."""
    import torch

    # NAdam's product of momenta has PyTorch's default type, whatever the parameter has.
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        kind, arguments = CASES[name].torch
        parameter = torch.nn.Parameter(torch.asarray(p.copy()))
        optimizer = getattr(torch.optim, kind)([parameter], **arguments)
        steps = []
        for g in gradients:
            parameter.grad = torch.asarray(g.copy())
            optimizer.step()
            steps.append(parameter.detach().numpy().copy())
        return np.stack(steps)
    finally:
        torch.set_default_dtype(default)
