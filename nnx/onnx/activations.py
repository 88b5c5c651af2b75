"""Activations: an operator where the standard has one, else the formula in its operators."""

from __future__ import annotations

import math
from typing import Any

from nnx.activations import (
    CELU,
    ELU,
    GELU,
    ISRU,
    SELU,
    Abs,
    ArcTan,
    BentIdentity,
    Exp,
    Gaussian,
    GELUTanh,
    HardShrink,
    HardSigmoid,
    HardSwish,
    HardTanh,
    Heaviside,
    LeakyReLU,
    Linear,
    LOCo,
    Logistic,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ModifiedHeaviside,
    ReLU,
    ReLU6,
    Sign,
    Sinusoid,
    SoftAbs,
    SoftMax,
    SoftPlus,
    SoftShrink,
    SoftSign,
    Squareplus,
    Swish,
    TanH,
    TanhShrink,
    ThresholdedReLU,
    Twist,
)
from nnx.onnx.graph import ActivationForm, Graph

__all__ = ["ACTIVATIONS"]


def _operator(name: str, *arguments: str, **fixed: Any) -> ActivationForm:
    """Return the form of an operator that has the arguments of the activation as attributes."""

    def form(graph: Graph, afun: Any, x: str) -> str:
        return graph.node(name, x, **fixed, **{key: getattr(afun, key) for key in arguments})

    return form


def _steep(name: str) -> ActivationForm:
    """Return the form of an operator of k x."""
    return lambda graph, afun, x: graph.node(name, _times(graph, afun.k, x))


def _times(graph: Graph, k: float, x: str) -> str:
    """k x, or x itself if k is 1."""
    return x if k == 1 else graph.node("Mul", x, graph.number(k))


def _within(low: float, high: float) -> ActivationForm:
    """Return the form of min(max(x, low), high)."""
    return lambda graph, afun, x: graph.node("Clip", x, graph.number(low), graph.number(high))


def _hypot(graph: Graph, x: str, c: float) -> str:
    """sqrt(x^2 + c^2) without overflow: m sqrt(1 + (n / m)^2) of the larger m and smaller n."""
    a, constant = graph.node("Abs", x), graph.number(c)
    larger, smaller = graph.node("Max", a, constant), graph.node("Min", a, constant)
    ratio = graph.node("Div", smaller, larger)
    sum_ = graph.node("Add", graph.node("Mul", ratio, ratio), graph.number(1))
    return graph.node("Mul", larger, graph.node("Sqrt", sum_))


def _heaviside(graph: Graph, afun: Heaviside, x: str) -> str:
    """1 if x >= 0, else 0."""
    step = graph.node("GreaterOrEqual", x, graph.number(0))
    return graph.node("CastLike", step, x)


def _modified_heaviside(graph: Graph, afun: ModifiedHeaviside, x: str) -> str:
    """(1 + sign(x)) / 2."""
    step = graph.node("Add", graph.node("Sign", x), graph.number(1))
    return graph.node("Mul", step, graph.number(0.5))


def _isru(graph: Graph, afun: ISRU, x: str) -> str:
    """r x / sqrt(x^2 + r^2), r = 1 / sqrt(alpha)."""
    r = 1.0 / math.sqrt(afun.alpha)
    return _times(graph, r, graph.node("Div", x, _hypot(graph, x, r)))


def _absolute(graph: Graph, afun: Abs, x: str) -> str:
    """|x|, or x (x / (h + alpha)) with h = sqrt(x^2 + alpha^2)."""
    if afun.alpha == 0:
        return graph.node("Abs", x)
    d = graph.node("Add", _hypot(graph, x, afun.alpha), graph.number(afun.alpha))
    return graph.node("Mul", x, graph.node("Div", x, d))


def _loco(graph: Graph, afun: LOCo, x: str) -> str:
    """|x| - b + log1p(u) / k with b = min(|x|, 20 / k) and u = 2 sinh(k b / 2)^2.

    With w = 1 + u as it is rounded, log1p(u) is log(w) u / (w - 1), or u if w is 1.
    """
    a = graph.node("Abs", x)
    b = graph.node("Min", a, graph.number(20.0 / afun.k))
    half = graph.node("Sinh", graph.node("Mul", b, graph.number(0.5 * afun.k)))
    u = graph.node("Mul", graph.node("Mul", half, half), graph.number(2))
    w, one = graph.node("Add", u, graph.number(1)), graph.number(1)
    log = graph.node("Mul", graph.node("Log", w), graph.node("Div", u, graph.node("Sub", w, one)))
    log = graph.node("Where", graph.node("Equal", w, one), u, log)
    return graph.node("Add", graph.node("Sub", a, b), _times(graph, 1.0 / afun.k, log))


def _twist(graph: Graph, afun: Twist, x: str) -> str:
    """x tanh(k x)."""
    return graph.node("Mul", x, graph.node("Tanh", _times(graph, afun.k, x)))


def _over(graph: Graph, x: str, r: float) -> str:
    """x / (r + |x|)."""
    return graph.node("Div", x, graph.node("Add", graph.node("Abs", x), graph.number(r)))


def _soft_sign(graph: Graph, afun: SoftSign, x: str) -> str:
    """k x / (1 + |k x|) as x / (1 / k + |x|), where k x might overflow."""
    return graph.node("Softsign", x) if afun.k == 1 else _over(graph, x, 1.0 / afun.k)


def _soft_plus(graph: Graph, afun: SoftPlus, x: str) -> str:
    """log(1 + exp(k x)) / k; from k x = 100 on it is x, where k x might overflow."""
    if afun.k == 1:
        return graph.node("Softplus", x)
    bounded = graph.node("Min", _times(graph, afun.k, x), graph.number(100))
    return graph.node("Max", x, _times(graph, 1.0 / afun.k, graph.node("Softplus", bounded)))


def _log_sigmoid(graph: Graph, afun: LogSigmoid, x: str) -> str:
    """-log(1 + exp(-x))."""
    return graph.node("Neg", graph.node("Softplus", graph.node("Neg", x)))


def _gaussian(graph: Graph, afun: Gaussian, x: str) -> str:
    """exp(-x^2)."""
    return graph.node("Exp", graph.node("Neg", graph.node("Mul", x, x)))


def _bent_identity(graph: Graph, afun: BentIdentity, x: str) -> str:
    """x + x (x / (h + 1)) / 2 with h = sqrt(x^2 + 1)."""
    share = graph.node("Div", x, graph.node("Add", _hypot(graph, x, 1), graph.number(1)))
    return graph.node("Add", x, graph.node("Mul", _times(graph, 0.5, x), share))


def _squareplus(graph: Graph, afun: Squareplus, x: str) -> str:
    """max(x, 0) + b / 4 / (h + |x| / 2), h = sqrt(x^2 + b) / 2, as of x / 2 and sqrt(b) / 2."""
    half = _times(graph, 0.5, x)
    h = _hypot(graph, half, 0.5 * math.sqrt(afun.b))
    d = graph.node("Add", h, graph.node("Abs", half))
    return graph.node(
        "Add", graph.node("Relu", x), graph.node("Div", graph.number(0.25 * afun.b), d)
    )


ACTIVATIONS: dict[type, ActivationForm] = {
    Abs: _absolute,
    ArcTan: _operator("Atan"),
    BentIdentity: _bent_identity,
    CELU: _operator("Celu", "alpha"),
    ELU: _operator("Elu", "alpha"),
    Exp: _operator("Exp"),
    GELU: _operator("Gelu"),
    GELUTanh: _operator("Gelu", approximate="tanh"),
    Gaussian: _gaussian,
    HardShrink: _operator("Shrink", "lambd", bias=0.0),
    HardSigmoid: _operator("HardSigmoid", "alpha", "beta"),
    HardSwish: _operator("HardSwish"),
    HardTanh: _within(-1, 1),
    Heaviside: _heaviside,
    ISRU: _isru,
    LOCo: _loco,
    LeakyReLU: _operator("LeakyRelu", "alpha"),
    Linear: lambda graph, afun, x: x,
    LogSigmoid: _log_sigmoid,
    LogSoftmax: _operator("LogSoftmax", axis=-1),
    Logistic: _steep("Sigmoid"),
    Mish: _operator("Mish"),
    ModifiedHeaviside: _modified_heaviside,
    ReLU: _operator("Relu"),
    ReLU6: _within(0, 6),
    SELU: _operator("Selu", "alpha", "gamma"),
    Sign: _operator("Sign"),
    Sinusoid: _steep("Sin"),
    SoftAbs: lambda graph, afun, x: graph.node("Mul", x, _over(graph, x, 1.0 / afun.k)),
    SoftMax: _operator("Softmax", axis=-1),
    SoftPlus: _soft_plus,
    SoftShrink: lambda graph, afun, x: graph.node("Shrink", x, lambd=afun.lambd, bias=afun.lambd),
    SoftSign: _soft_sign,
    Squareplus: _squareplus,
    Swish: lambda graph, afun, x: graph.node("Swish", x, alpha=afun.k),
    TanH: _steep("Tanh"),
    TanhShrink: lambda graph, afun, x: graph.node("Sub", x, graph.node("Tanh", x)),
    ThresholdedReLU: _operator("ThresholdedRelu", "alpha"),
    Twist: _twist,
}
