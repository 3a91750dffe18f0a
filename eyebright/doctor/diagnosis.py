"""What the doctor says of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first


@dataclass(frozen=True)
class Diagnosis:
    """One thing that a rule has found.

    Attributes:
        name: of the rule, a word for programs, for example ``"overfitting"``.
        severity: ``"error"``: what was trained will not do, or its figures are not true; ``"warning"``: it could be
            better, or its figures say less than they seem to; ``"note"``: worth knowing, nothing need be done.
        problem: what is wrong, in one sentence.
        evidence: what shows it, with figures and epochs.
        why: how it comes about.
        remedy: what to do.
        epochs: the first and the last that it shows in; None where it is of no epoch.
    """

    name: str
    severity: Severity
    problem: str
    evidence: tuple[str, ...]
    why: str
    remedy: str
    epochs: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(
            (
                f"{self.severity}: {self.problem} [{self.name}]",
                *(f"  · {line}" for line in self.evidence),
                f"  why: {self.why}",
                f"  to do: {self.remedy}",
            )
        )
