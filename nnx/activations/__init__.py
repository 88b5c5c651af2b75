"""Activation functions: each is its formula and the formula of its derivative.

`forward(x)` returns the value and its backward, a closure that takes the gradient delta with
respect to the value and returns the gradient with respect to x. Nothing is kept on the object,
so one object may serve many layers. All act elementwise on arrays of any shape, except SoftMax
and LogSoftmax, which act along the last axis.

Each family has a `factor`, the gain of the initial weights that keeps the size of a signal through
such a layer. s(t) = 1 / (1 + exp(-t)) throughout.

Values and derivatives are right to a few epsilon of the dtype relative to max(1, |value|), for
every finite x. An infinite x gives the limit or NaN. NaN gives NaN in the value.

Where NumPy warns of an overflow, the result is still right: the value is too large for the dtype,
or an intermediate result saturates (k x of a steep function, the difference to the largest entry
of a row in SoftMax and LogSoftmax).

`forward` takes arrays of float32 and float64 and does not check. `evaluate` and a call check:
arrays of another dtype are refused.
"""

from nnx.activations.absolute import Abs, LOCo, SoftAbs, Twist
from nnx.activations.base import AbsLike, Activation, HeavisideLike, ReLULike, SignLike
from nnx.activations.heaviside import (
    Exp,
    HardSigmoid,
    Heaviside,
    Logistic,
    ModifiedHeaviside,
    SoftMax,
)
from nnx.activations.other import (
    BentIdentity,
    Gaussian,
    HardShrink,
    Linear,
    LogSigmoid,
    LogSoftmax,
    Sinusoid,
    SoftShrink,
    TanhShrink,
)
from nnx.activations.relu import (
    CELU,
    ELU,
    GELU,
    SELU,
    GELUTanh,
    HardSwish,
    LeakyReLU,
    Mish,
    ReLU,
    ReLU6,
    SoftPlus,
    Squareplus,
    Swish,
    ThresholdedReLU,
)
from nnx.activations.sign import ISRU, ArcTan, HardTanh, Sign, SoftSign, TanH

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "ISRU",
    "SELU",
    "Abs",
    "AbsLike",
    "Activation",
    "ArcTan",
    "BentIdentity",
    "Exp",
    "GELUTanh",
    "Gaussian",
    "HardShrink",
    "HardSigmoid",
    "HardSwish",
    "HardTanh",
    "Heaviside",
    "HeavisideLike",
    "LOCo",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "Logistic",
    "Mish",
    "ModifiedHeaviside",
    "ReLU",
    "ReLU6",
    "ReLULike",
    "Sign",
    "SignLike",
    "Sinusoid",
    "SoftAbs",
    "SoftMax",
    "SoftPlus",
    "SoftShrink",
    "SoftSign",
    "Squareplus",
    "Swish",
    "TanH",
    "TanhShrink",
    "ThresholdedReLU",
    "Twist",
    "leakyReLU",
]

leakyReLU = LeakyReLU  # noqa: N816 - the spelling of the exercise sheets
