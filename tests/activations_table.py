"""Every activation with the arguments it is tested with, and what it should be.

A formula is written for mpmath, as the mathematics says it, with no thought of rounding:
`formula(m, x, at, **arguments)` where m is mpmath. A function in pieces takes the piece to which
the point `at` belongs, so that it can be differentiated there, also at a kink.
"""

from dataclasses import dataclass, field

import nnx

# Points of the recorded values; 0 and both signs. Spread from where functions cancel to where
# an exponential overflows.
MAGNITUDES = (1e-30, 1e-8, 1e-3, 0.25, 0.75, 1.3, 2.2, 3.6, 5.1, 8.7, 20.3, 88.9, 1e4)


@dataclass(frozen=True)
class Case:
    """One activation with its arguments."""

    cls: type
    arguments: dict = field(default_factory=dict)
    kinks: tuple = ()  # where the derivative jumps
    largest: float = 1e4  # up to where it must stay finite

    @property
    def name(self):
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.cls.__name__}({arguments})"

    @property
    def rowwise(self):
        """Does it act on rows and not on single numbers?"""
        return self.cls in (nnx.SoftMax, nnx.LogSoftmax)

    def make(self):
        return self.cls(**self.arguments)

    def reference(self, x):
        """Value and derivative of phi at the number x, in mpmath with 150 digits."""
        import mpmath

        formula = FORMULAS[self.cls.__name__]
        with mpmath.workdps(150):
            at = mpmath.mpf(float(x))
            phi = lambda x: formula(mpmath, x, at, **self.arguments)
            return +phi(at), mpmath.diff(phi, at)

    def reference_rows(self, x, delta):
        """Value and backward of a row of numbers, in mpmath: for SoftMax and LogSoftmax."""
        import mpmath

        with mpmath.workdps(150):
            e = [mpmath.exp(mpmath.mpf(float(number))) for number in x]
            y = [number / mpmath.fsum(e) for number in e]
            delta = [mpmath.mpf(float(number)) for number in delta]
            if self.cls is nnx.SoftMax:
                jacobian = lambda i, j: y[i] * ((i == j) - y[j])
                value = y
            else:
                jacobian = lambda i, j: (i == j) - y[j]
                value = [mpmath.log(number) for number in y]
            indices = range(len(y))
            gradient = [mpmath.fsum(delta[i] * jacobian(i, j) for i in indices) for j in indices]
            return value, gradient


CASES = (
    Case(nnx.Heaviside, kinks=(0,)),
    Case(nnx.ModifiedHeaviside, kinks=(0,)),
    Case(nnx.Logistic),
    Case(nnx.Logistic, {"k": 3.0}),
    Case(nnx.SoftMax),
    Case(nnx.Exp, largest=80.0),
    Case(nnx.HardSigmoid, kinks=(-2.5, 2.5)),
    Case(nnx.HardSigmoid, {"alpha": 0.5, "beta": 0.6}, kinks=(-1.2, 0.8)),
    Case(nnx.Sign, kinks=(0,)),
    Case(nnx.TanH),
    Case(nnx.TanH, {"k": 0.5}),
    Case(nnx.SoftSign),
    Case(nnx.SoftSign, {"k": 3.0}),
    Case(nnx.HardTanh, kinks=(-1, 1)),
    Case(nnx.ArcTan),
    Case(nnx.ISRU),
    Case(nnx.ISRU, {"alpha": 3.0}),
    Case(nnx.ReLU, kinks=(0,)),
    Case(nnx.LeakyReLU, kinks=(0,)),
    Case(nnx.LeakyReLU, {"alpha": 0.3}, kinks=(0,)),
    Case(nnx.ELU),
    Case(nnx.ELU, {"alpha": 2.0}, kinks=(0,)),
    Case(nnx.SoftPlus),
    Case(nnx.SoftPlus, {"k": 3.0}),
    Case(nnx.Swish),
    Case(nnx.Swish, {"k": 3.0}),
    Case(nnx.GELU),
    Case(nnx.GELUTanh),
    Case(nnx.SELU, kinks=(0,)),
    Case(nnx.CELU),
    Case(nnx.CELU, {"alpha": 3.0}),
    Case(nnx.Mish),
    Case(nnx.HardSwish, kinks=(-3, 3)),
    Case(nnx.ReLU6, kinks=(0, 6)),
    Case(nnx.ThresholdedReLU, kinks=(1,)),
    Case(nnx.ThresholdedReLU, {"alpha": 2.5}, kinks=(2.5,)),
    Case(nnx.Squareplus),
    Case(nnx.Squareplus, {"b": 0.3}),
    Case(nnx.Abs, kinks=(0,)),
    Case(nnx.Abs, {"alpha": 0.3}),
    Case(nnx.LOCo),
    Case(nnx.LOCo, {"k": 3.0}),
    Case(nnx.Twist),
    Case(nnx.Twist, {"k": 3.0}),
    Case(nnx.SoftAbs),
    Case(nnx.SoftAbs, {"k": 3.0}),
    Case(nnx.Linear),
    Case(nnx.LogSigmoid),
    Case(nnx.LogSoftmax),
    Case(nnx.Gaussian),
    Case(nnx.Sinusoid),
    Case(nnx.Sinusoid, {"k": 2.0}),
    Case(nnx.BentIdentity),
    Case(nnx.TanhShrink),
    Case(nnx.SoftShrink, kinks=(-0.5, 0.5)),
    Case(nnx.SoftShrink, {"lambd": 2.0}, kinks=(-2, 2)),
    Case(nnx.HardShrink, kinks=(-0.5, 0.5)),
    Case(nnx.HardShrink, {"lambd": 2.0}, kinks=(-2, 2)),
)
ELEMENTWISE = tuple(case for case in CASES if not case.rowwise)
ROWWISE = tuple(case for case in CASES if case.rowwise)

FACTORS = {
    "HeavisideLike": "Heaviside ModifiedHeaviside Logistic SoftMax Exp HardSigmoid",
    "SignLike": "Sign TanH SoftSign HardTanh ArcTan ISRU",
    "ReLULike": "ReLU LeakyReLU ELU SoftPlus Swish GELU GELUTanh SELU CELU Mish HardSwish ReLU6 "
    "ThresholdedReLU Squareplus",
    "AbsLike": "Abs LOCo Twist SoftAbs",
    "Activation": "Linear LogSigmoid LogSoftmax Gaussian Sinusoid BentIdentity TanhShrink "
    "SoftShrink HardShrink",
}


def logistic(m, t):
    return 1 / (1 + m.exp(-t))


def hard_step(x, at, alpha, beta):
    place = alpha * at + beta
    return 0 * x if place <= 0 else 0 * x + 1 if place >= 1 else alpha * x + beta


def elu(m, x, at, alpha):
    return x if at > 0 else alpha * (m.exp(x) - 1)


SELU_ALPHA = "1.6732632423543772848170429916717"
SELU_GAMMA = "1.0507009873554804934193349852946"

FORMULAS = {
    "Heaviside": lambda m, x, at: 0 * x + (at >= 0),
    "ModifiedHeaviside": lambda m, x, at: 0 * x + ((at > 0) + (at >= 0)) / m.mpf(2),
    "Logistic": lambda m, x, at, k=1: logistic(m, k * x),
    "Exp": lambda m, x, at: m.exp(x),
    "HardSigmoid": lambda m, x, at, alpha=0.2, beta=0.5: hard_step(x, at, alpha, beta),
    "Sign": lambda m, x, at: 0 * x + m.sign(at),
    "TanH": lambda m, x, at, k=1: m.tanh(k * x),
    "SoftSign": lambda m, x, at, k=1: k * x / (1 + k * (x if at > 0 else -x)),
    "HardTanh": lambda m, x, at: x if abs(at) < 1 else 0 * x + m.sign(at),
    "ArcTan": lambda m, x, at: m.atan(x),
    "ISRU": lambda m, x, at, alpha=1: x / m.sqrt(1 + alpha * x**2),
    "ReLU": lambda m, x, at: x if at > 0 else 0 * x,
    "LeakyReLU": lambda m, x, at, alpha=0.01: x if at > 0 else alpha * x,
    "ELU": lambda m, x, at, alpha=1: elu(m, x, at, alpha),
    "SoftPlus": lambda m, x, at, k=1: m.log1p(m.exp(k * x)) / k,
    "Swish": lambda m, x, at, k=1: x * logistic(m, k * x),
    "GELU": lambda m, x, at: x * m.erfc(-x / m.sqrt(2)) / 2,
    "GELUTanh": lambda m, x, at: (
        x * logistic(m, 2 * m.sqrt(2 / m.pi) * (x + m.mpf("0.044715") * x**3))
    ),
    "SELU": lambda m, x, at: m.mpf(SELU_GAMMA) * elu(m, x, at, m.mpf(SELU_ALPHA)),
    "CELU": lambda m, x, at, alpha=1: x if at > 0 else alpha * (m.exp(x / alpha) - 1),
    "Mish": lambda m, x, at: x * m.tanh(m.log1p(m.exp(x))),
    "HardSwish": lambda m, x, at: x * hard_step(x, at, m.mpf(1) / 6, m.mpf(1) / 2),
    "ReLU6": lambda m, x, at: x if 0 < at < 6 else 0 * x + 6 * (at >= 6),
    "ThresholdedReLU": lambda m, x, at, alpha=1: x if at > alpha else 0 * x,
    "Squareplus": lambda m, x, at, b=4: (x + m.sqrt(x**2 + b)) / 2,
    "Abs": lambda m, x, at, alpha=0: (
        m.sqrt(x**2 + m.mpf(alpha) ** 2) - alpha if alpha else m.sign(at) * x
    ),
    "LOCo": lambda m, x, at, k=1: m.log(m.cosh(k * x)) / k,
    "Twist": lambda m, x, at, k=1: x * m.tanh(k * x),
    "SoftAbs": lambda m, x, at, k=1: k * x**2 / (1 + k * (x if at > 0 else -x)),
    "Linear": lambda m, x, at: x,
    "LogSigmoid": lambda m, x, at: -m.log1p(m.exp(-x)),
    "Gaussian": lambda m, x, at: m.exp(-(x**2)),
    "Sinusoid": lambda m, x, at, k=1: m.sin(k * x),
    "BentIdentity": lambda m, x, at: x + (m.sqrt(x**2 + 1) - 1) / 2,
    "TanhShrink": lambda m, x, at: x - m.tanh(x),
    "SoftShrink": lambda m, x, at, lambd=0.5: x - lambd * m.sign(at) if abs(at) > lambd else 0 * x,
    "HardShrink": lambda m, x, at, lambd=0.5: x if abs(at) > lambd else 0 * x,
}
