"""What a comparison of backends has found: results, reports, and the error that carries one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["BackendMismatchError", "BackendReport", "BackendResult"]


@dataclass(frozen=True)
class BackendResult:
    """One quantity of one thing on one backend.

    `error` is in units of the tolerance, inf where the two cannot be compared; for bits it is 0
    or inf. `tolerance` is relative, `nnx.testing.equivalence` says to what; 0 for bits.
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

    @property
    def passed(self) -> bool:
        """Is the error within the tolerance?"""
        return self.error <= 1.0

    def __str__(self) -> str:
        head = f"{self.item} on {self.backend} in {self.dtype}: {self.quantity}"
        if self.passed:
            return f"{head}: {self.error:.2g} of the tolerance {self.tolerance:.2g}"
        return (
            f"{head}\n  expected {self.expected}\n  given    {self.given}\n  look for {self.hint}"
        )


@dataclass
class BackendReport:
    """The results for one thing; `notes` says what was not run, `causes` what was raised."""

    item: str
    results: list[BackendResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    causes: list[Exception] = field(default_factory=list)

    @property
    def failures(self) -> list[BackendResult]:
        """The results that did not pass."""
        return [result for result in self.results if not result.passed]

    @property
    def passed(self) -> bool:
        """Has everything passed, and was there anything?"""
        return bool(self.results) and not self.failures

    @property
    def backends(self) -> list[str]:
        """The backends that were compared."""
        return list(dict.fromkeys(result.backend for result in self.results))

    def worst(self, backend: str) -> float:
        """The largest error on a backend, in units of the tolerance; NaN if nothing was run."""
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
    """A backend gives something else than NumPy; `report` has all the results."""

    def __init__(self, report: BackendReport) -> None:
        super().__init__("\n".join(map(str, report.failures)) or f"{report.item}: nothing was run")
        self.report = report
