"""What a comparison of backends found: results, reports, and the error that carries one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["BackendMismatchError", "BackendReport", "BackendResult"]


@dataclass(frozen=True)
class BackendResult:
    """One quantity of one thing on one backend.

    Attributes:
        item: the name of the thing.
        error: in units of the tolerance; inf if the two cannot be compared. For bits 0 or inf.
        tolerance: relative, `nnx.testing.equivalence` says to what; 0 for bits.
        hint: what to look for.
        place: file and line of the formula, and of what raised an error.
    """

    item: str
    backend: str
    dtype: str
    quantity: str
    error: float
    tolerance: float = 0.0
    expected: str = ""
    given: str = ""
    hint: str = ""
    place: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= 1.0

    def __str__(self) -> str:
        head = f"{self.item} on {self.backend} in {self.dtype}: {self.quantity}"
        if self.passed:
            return f"{head}: {self.error:.2g} of the tolerance {self.tolerance:.2g}"
        text = f"{head}\n  expected {self.expected}\n  given    {self.given}"
        if self.place:
            text += f"\n  at       {self.place}"
        return f"{text}\n  look for {self.hint}"


@dataclass
class BackendReport:
    """The results for one thing; `notes` says what was not run."""

    item: str
    results: list[BackendResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[BackendResult]:
        """The results that did not pass."""
        return [result for result in self.results if not result.passed]

    @property
    def passed(self) -> bool:
        """Whether there are results and all of them passed."""
        return bool(self.results) and not self.failures

    @property
    def backends(self) -> list[str]:
        """The backends that were compared."""
        return list(dict.fromkeys(result.backend for result in self.results))

    def worst(self, backend: str) -> float:
        """The largest error on a backend, in units of the tolerance; NaN if nothing ran."""
        errors = [result.error for result in self.results if result.backend == backend]
        return max(errors, default=math.nan)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the error of what cannot be compared is None."""
        rows = []
        for result in self.results:
            row = asdict(result) | {"passed": result.passed}
            row["error"] = result.error if math.isfinite(result.error) else None
            rows.append({name: value for name, value in row.items() if value != ""})
        return {"item": self.item, "passed": self.passed, "results": rows, "notes": self.notes}

    def __str__(self) -> str:
        if self.failures:
            return "\n".join(map(str, self.failures))
        worst = ", ".join(f"{name} {self.worst(name):.2g}" for name in self.backends)
        lines = [f"{self.item}: within the tolerance; worst, in units of it: {worst}", *self.notes]
        return "\n  ".join(lines)


class BackendMismatchError(AssertionError):
    """A backend computes something else than NumPy; `report` has all the results."""

    def __init__(self, report: BackendReport) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return "\n".join(map(str, self.report.failures)) or f"{self.report.item}: nothing was run"
