"""What a check of gradients found, and the error that says what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field


class GradientError(AssertionError):
    """A backward that is not the derivative of its forward, or that breaks the contract.

    Attributes:
        thing: what was checked.
        parameter: the array whose gradient is wrong: "x" for inputs, "W", ...; or "forward".
        message: what is wrong.
        expected: the directional derivative, or None if the fault is of another kind.
        given: the one that follows from backward.
    """

    def __init__(
        self,
        thing: str,
        parameter: str,
        message: str,
        expected: float | None = None,
        given: float | None = None,
    ) -> None:
        super().__init__(thing, parameter, message, expected, given)
        self.thing, self.parameter, self.message = thing, parameter, message
        self.expected, self.given = expected, given

    def __str__(self) -> str:
        return f"{self.thing}: {self.message}"


@dataclass(frozen=True)
class Comparison:
    """Expected and given derivative in the worst direction, for one array."""

    name: str
    expected: float
    given: float
    error: float
    allowed: float

    def __str__(self) -> str:
        return (
            f"{self.name}: expected {self.expected:.9g}, given {self.given:.9g}, "
            f"relative error {self.error:.1e} (allowed {self.allowed:.1e})"
        )


@dataclass
class GradientReport:
    """What `check_gradients` found; print it.

    Attributes:
        thing: what was checked.
        comparisons: the worst direction for each array; errors are relative.
        autodiff: backend -> largest relative error against its automatic differentiation.
        not_run: backend -> why it was not compared with its automatic differentiation.
        kinks: directions left out because forward has a kink there.
        moves: how often the point was moved off a kink.
    """

    thing: str
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    autodiff: dict[str, float] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    kinks: int = 0
    moves: int = 0

    @property
    def worst(self) -> Comparison:
        """The array with the largest relative error."""
        return max(self.comparisons.values(), key=lambda comparison: comparison.error)

    def __str__(self) -> str:
        lines = [f"gradients of {self.thing}"]
        lines += [f"  {comparison}" for comparison in self.comparisons.values()]
        lines += [f"  against {name}: error {error:.1e}" for name, error in self.autodiff.items()]
        lines += [f"  not against {name}: {reason}" for name, reason in self.not_run.items()]
        if self.kinks or self.moves:
            lines.append(f"  kinks: {self.kinks} directions left out, point moved {self.moves}x")
        return "\n".join(lines)
