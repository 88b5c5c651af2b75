"""Optimizers: rules that turn parameters and gradients into new parameters.

A rule works elementwise, so that it may be given part of an array, or several arrays packed into
one. What does not depend on the arrays is in `factors(eta, t)`, floats computed on the host: a
compiled rule takes them as arguments, and a factor folded into another one saves a pass over the
arrays. For the same reason a running average m <- beta m + (1 - beta) g is stored as the sum
m / (1 - beta), which follows m <- beta m + g; the factor 1 - beta moves to `factors`.

Gradients. A NaN or an infinity in a gradient makes the parameter NaN or infinite in the same step.
Very large finite gradients overflow, as in PyTorch: from 1.8e19 in float32 (1.3e154 in float64)
the square of a gradient is infinite. The optimizers that divide by a root of squares then leave
the entry where it is, or make it NaN in a later step if the sum of gradients overflows, too. A clip
prevents both.
"""

from nnx.optimizers.adam import Adam, AdaMax, AdamW, AMSGrad, NAdam
from nnx.optimizers.adaptive import AdaDelta, AdaGrad, RMSProp
from nnx.optimizers.base import Factors, Optimizer, State
from nnx.optimizers.lion import Lion
from nnx.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "AMSGrad",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "Factors",
    "Lion",
    "NAdam",
    "Optimizer",
    "RMSProp",
    "State",
]
