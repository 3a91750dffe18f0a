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
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import numpy as np

from eyebright.data.decode import decode_file
from eyebright.data.images import ImageFiles, Images, Pictures, names_below
from eyebright.data.labels import check_none_lost, is_multi_label
from eyebright.data.tables import SEPARATOR
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


def apply_decisions(
    parts: Mapping[str, Pictures], decisions: Sequence[Decision], folder: str | Path
) -> dict[str, Pictures]:
    """The parts as they are after these decisions; pictures that are added stand at the end of their part.

    Where a picture's part is not that of the decision, its path decides: parts may have been cut since.

    Args:
        parts: pictures by part.
        decisions: about them; those to keep a picture change nothing, but have to be about one that is there.
        folder: what paths of pictures to add are relative to.

    Raises:
        DataError: a decision names a picture that is not there, an unknown class, or a part that it does not stand in;
            two contradict each other; a picture to add is missing, there already, or of another size; or a class loses
            all its pictures of a part.
        PictureError: a picture to add to pictures in memory cannot be read.
    """
    chosen = _choose(parts, decisions)
    added = _choose_added(parts, decisions, Path(folder))
    changed: dict[str, Pictures] = {}
    for part, pictures in parts.items():
        after = _change(pictures, chosen.get(part, {}))
        if part in added:
            after = _add(after, added[part])
        check_none_lost(pictures.labels, after.labels, pictures.classes, part, "decisions dropped or relabelled them")
        changed[part] = after
    return changed


def _choose(parts: Mapping[str, Pictures], decisions: Sequence[Decision]) -> dict[str, dict[int, Decision]]:
    """Part → index → what was decided about that picture."""
    about = [decision for decision in decisions if decision.decision != "add"]
    wanted = {decision.path for decision in about}
    places: dict[str, dict[str, list[int]]] = {path: {} for path in wanted}
    for part, names in names_below(parts).items():
        for index, name in enumerate(names):
            if name in wanted:
                places[name].setdefault(part, []).append(index)
    if stale := sorted(path for path, found in places.items() if not found):
        raise DataError(
            f"{len(stale)} decisions are about pictures that are not in the data: "
            f"{', '.join(stale[:5])}{' …' if len(stale) > 5 else ''}",
            expected="paths below the data's folder, as the split contract has them",
            remedy="correct these paths, or take the lines out",
        )
    chosen: dict[str, dict[int, Decision]] = {}
    for decision in about:
        found = places[decision.path]
        part = decision.part if decision.part in found else next(iter(found))
        if part != decision.part and len(found) > 1:
            raise DataError(
                f"the picture {decision.path} stands in the parts {', '.join(found)}, "
                f"and the decision to {decision.decision} it names {decision.part or 'none'}",
                expected="one of these parts",
                remedy="write it into the column part",
            )
        for index in found[part]:
            own = replace(decision, part=part)
            _check_alike(chosen.setdefault(part, {}).setdefault(index, own), own)
    return chosen


def _choose_added(
    parts: Mapping[str, Pictures], decisions: Sequence[Decision], folder: Path
) -> dict[str, dict[Path, Decision]]:
    """Part → file → the decision to add it."""
    chosen: dict[Path, Decision] = {}
    for decision in decisions:
        if decision.decision != "add":
            continue
        added = replace(decision, part=decision.part or "train")
        path = _absolute(folder / added.path)
        if added.part not in parts:
            raise DataError(
                f"{added.path} is to be added to the part {added.part}, which the data do not have",
                expected=f"one of {', '.join(parts)}",
                remedy="name another part, or none: then it is train",
            )
        if not path.is_file():
            raise DataError(
                f"there is no file {path}, which is to be added",
                expected=f"a picture; its path is relative to {folder}",
                remedy="correct the path, or take the line out",
            )
        _check_alike(chosen.setdefault(path, added), added)
    listed = [part.paths for part in parts.values() if isinstance(part, ImageFiles) and chosen]
    if known := sorted(chosen.keys() & {_absolute(path) for paths in listed for path in paths}):
        raise DataError(
            f"{known[0]} is to be added and is in the data already",
            expected="a picture that the data lack",
            remedy="take the line out, or relabel the picture",
        )
    added_to: dict[str, dict[Path, Decision]] = {}
    for path, added in chosen.items():
        added_to.setdefault(added.part, {})[path] = added
    return added_to


def _check_alike(one: Decision, other: Decision) -> None:
    if (one.decision, one.label, one.part) != (other.decision, other.label, other.part):
        raise DataError(
            f"two decisions about {one.path} contradict each other: {_in_words(one)}, and {_in_words(other)}",
            expected="one decision about a picture",
            remedy="take one of the two lines out",
        )


def _in_words(decision: Decision) -> str:
    return " ".join(filter(None, (decision.decision, decision.label, decision.part and f"({decision.part})")))


def _change(pictures: Pictures, chosen: Mapping[int, Decision]) -> Pictures:
    relabelled = [index for index, decision in chosen.items() if decision.decision == "relabel"]
    dropped = {index for index, decision in chosen.items() if decision.decision == "drop"}
    if relabelled:
        assert isinstance(pictures, Images | ImageFiles)
        labels = pictures.labels.copy()
        for index in relabelled:
            labels[index] = _label(chosen[index], pictures)
        pictures = replace(pictures, labels=labels)
    return pictures.select([i for i in range(len(pictures)) if i not in dropped]) if dropped else pictures


def _label(decision: Decision, pictures: Pictures) -> np.ndarray[tuple[int], np.dtype[np.int64]] | int:
    """The label as `pictures.labels` has it: an index, or `[K]` of 0 and 1."""
    several = is_multi_label(pictures.labels)
    names = [name.strip() for name in SEPARATOR.split(decision.label)] if several else [decision.label]
    named = [name for name in names if name or not several]
    if unknown := [name for name in named if name not in pictures.classes]:
        raise DataError(
            f"the decision to {decision.decision} {decision.path} names the class '{unknown[0]}', "
            "which the data do not have",
            expected=f"one of {', '.join(pictures.classes[:20])}{' …' if len(pictures.classes) > 20 else ''}",
            remedy=did_you_mean(unknown[0], pictures.classes) or "correct the label",
        )
    indices = [pictures.classes.index(name) for name in named]
    if not several:
        return indices[0]
    row = np.zeros(len(pictures.classes), dtype=np.int64)
    row[indices] = 1
    return row


def _add(pictures: Pictures, added: Mapping[Path, Decision]) -> Pictures:
    """With more pictures, each a group of its own where there are groups."""
    assert isinstance(pictures, Images | ImageFiles)
    new = np.array([_label(decision, pictures) for decision in added.values()], dtype=np.int64)
    labels = np.concatenate([pictures.labels, new])
    own = tuple(decision.path for decision in added.values())
    groups = None if pictures.groups is None else pictures.groups + own
    if isinstance(pictures, ImageFiles):
        paths = tuple(added)
        if not all(path.is_absolute() for path in pictures.paths):
            paths = tuple(Path(os.path.relpath(path)) for path in added)
        return replace(pictures, paths=pictures.paths + paths, labels=labels, groups=groups)
    read = [decode_file(path) for path in added]
    for path, picture in zip(added, read, strict=True):
        if picture.shape != pictures.pixels.shape[1:]:
            raise DataError(
                f"{path}, which is to be added, has height, width and channels {list(picture.shape)}",
                expected=f"{list(pictures.pixels.shape[1:])}, as the data in memory have",
                remedy="bring it to that size first",
            )
    names = tuple(pictures.name(index) for index in range(len(pictures))) + own
    return Images(np.concatenate([pictures.pixels, read]), labels, pictures.classes, names, groups)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links stay as they are)


def _no_decisions(path: Path, reason: str) -> DataError:
    return DataError(
        f"cannot take decisions from {path}: {reason}",
        expected=f"a CSV with the columns {', '.join(COLUMNS)}, of which path and decision have to be there",
        remedy="check the path, or correct it there",
    )
