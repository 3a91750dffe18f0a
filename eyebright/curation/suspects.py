"""What may be wrong with pictures, as one list, worst first, and as a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["contradiction", "leak", "label", "duplicate", "two classes", "odd", "unlike"]

# worst first, with what each means
KINDS: dict[Kind, str] = {
    "contradiction": "the same picture under two labels: one of them is wrong",
    "leak": "the same picture in two parts: figures on the later part are too good",
    "label": "labels that contradict what a classifier makes of the picture",
    "duplicate": "the same picture twice in one part: it counts twice",
    "two classes": "pictures that could be of either of two classes",
    "odd": "pictures unlike the others in brightness, sharpness or size",
    "unlike": "pictures that show something unlike all others",
}
COLUMNS = ("rank", "kind", "part", "path", "label", "suggestion", "score", "reason")


@dataclass(frozen=True)
class Suspect:
    """A picture that should be looked at.

    Attributes:
        kind: what is suspected; one of `KINDS`.
        part: that the picture is in.
        index: of it in that part.
        path: what it is called in the data.
        label: its class.
        suggestion: the class that it may be of, or the picture that it is a copy of; or nothing.
        score: the larger the worse, among those of a kind.
        reason: why, in words.
        copy: part and index of the picture that it is a copy of; or None.
    """

    kind: Kind
    part: str
    index: int
    path: str
    label: str
    suggestion: str
    score: float
    reason: str
    copy: tuple[str, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def rank(suspects: Iterable[Suspect]) -> list[Suspect]:
    """Worst first: by kind, then by score."""
    order = list(KINDS)
    return sorted(suspects, key=lambda one: (order.index(one.kind), -one.score, one.part, one.index))


def as_csv(suspects: Sequence[Suspect]) -> str:
    """One line each, in the order given, with `COLUMNS`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for place, one in enumerate(suspects, start=1):
        writer.writerow(
            [place, one.kind, one.part, one.path, one.label, one.suggestion, f"{one.score:.4g}", one.reason]
        )
    return text.getvalue()
