"""Decisions about pictures, kept in a small CSV beside the data: the data themselves are never touched.

========== =====================================================================================================
column     what it holds
========== =====================================================================================================
part       train, val or test, as the source has it; may be empty where the path stands in one part only
path       what the split contract calls the picture: the path below the data's folder, or ``picture 17`` in memory;
           of ``add``: a file, relative to the folder of the CSV
decision   ``keep``: it was looked at and is right; ``relabel``; ``drop``; ``add``: a picture that the data lack
label      of ``relabel`` and ``add``: the right class; ``a;b`` where a picture can have several
note       whatever a person wants to remember
========== =====================================================================================================
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from eyebright.errors import DataError, did_you_mean
from eyebright.files import write_atomically

KINDS = ("keep", "relabel", "drop", "add")
PARTS = ("train", "val", "test")
COLUMNS = ("part", "path", "decision", "label", "note")
DELIMITERS = ";\t"  # that spreadsheets write instead of a comma


@dataclass(frozen=True)
class Decision:
    """What was decided about one picture.

    Attributes:
        path: the picture's name; see this module's table, which says of each attribute what it holds.
        decision: ``"keep"``, ``"relabel"``, ``"drop"`` or ``"add"``.
        label: the right class.
        part: ``"train"``, ``"val"``, ``"test"`` or ``""``.
        note: for people.

    Raises:
        DataError: an unknown decision or part, or no path.
    """

    path: str
    decision: str
    label: str = ""
    part: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.decision not in KINDS:
            raise DataError(
                f"unknown decision '{self.decision}' about {self.path or 'a picture without a path'}",
                expected=f"one of {', '.join(KINDS)}",
                remedy=did_you_mean(self.decision, KINDS) or "correct it",
            )
        if not self.path or self.part not in ("", *PARTS):
            raise DataError(
                f"a decision to {self.decision} the picture '{self.path}' of the part '{self.part}'",
                expected="a path, and train, val, test or nothing as part",
                remedy="correct it",
            )


def read_decisions(path: str | Path) -> list[Decision]:
    """The decisions of a CSV, in its order; separated by commas, or by semicolons or tabs as spreadsheets write them.

    Raises:
        DataError: it cannot be read, lacks a column, or a line is no decision.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")  # not every file's name is text
        first = text.partition("\n")[0]
        delimiter = next((letter for letter in DELIMITERS if letter in first and "," not in first), ",")
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        columns = [name for name in reader.fieldnames or () if name]
        rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise _no_decisions(path, error.strerror or str(error)) from error
    except csv.Error as error:
        raise _no_decisions(path, str(error)) from error
    if missing := [name for name in ("path", "decision") if name not in columns]:
        raise _no_decisions(path, f"its first line has no column {' and no '.join(missing)}")
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise _no_decisions(path, f"its first line has the column {unknown[0]}")
    decisions = []
    for line, row in rows:
        if None in row:
            raise _no_decisions(path, f"line {line} has more values than the first line has columns")
        values = {name: row[name] or "" for name in columns}
        if not any(values.values()):
            continue  # as spreadsheets leave them
        values |= {name: values.get(name, "").strip() for name in ("part", "decision")}
        try:
            decisions.append(Decision(**values))
        except DataError as error:
            raise _no_decisions(path, f"line {line}: {error.problem}; expected is {error.expected}") from error
    return decisions


def write_decisions(path: str | Path, decisions: Iterable[Decision]) -> None:
    """Replaces a CSV by these decisions, sorted by part and path; `read_decisions` gives the same back.

    Raises:
        OutputError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(sorted(map(attrgetter(*COLUMNS), decisions)))
    write_atomically(Path(path), [text.getvalue().encode("utf-8", "surrogateescape")])


def tell_decisions(decisions: Iterable[Decision]) -> str:
    """How many there are of each kind, in words."""
    counts = Counter(decision.decision for decision in decisions)
    return ", ".join(f"{counts[kind]} to {kind}" for kind in KINDS if counts[kind]) or "none"


def _no_decisions(path: Path, reason: str) -> DataError:
    return DataError(
        f"cannot take decisions from {path}: {reason}",
        expected=f"a CSV with the columns {', '.join(COLUMNS)}, of which path and decision have to be there",
        remedy="check the path, or correct it there",
    )
