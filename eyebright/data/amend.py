"""What is done to a source before it is cut: decisions about pictures are applied, unreadable ones left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eyebright.data.decisions import Decision, read_decisions, tell_decisions
from eyebright.data.decode import decode_file
from eyebright.data.images import ImageFiles, Images, Pictures, names_below
from eyebright.data.labels import check_none_lost, is_multi_label
from eyebright.data.tables import SEPARATOR
from eyebright.data.unreadable import leave_out_unreadable
from eyebright.errors import DataError, did_you_mean


def amend(
    parts: dict[str, Pictures],
    *,
    skip_unreadable: bool = False,
    curation: str | Path | None = None,
    on_read: Callable[[], object] | None = None,
) -> tuple[dict[str, Pictures], tuple[str, ...]]:
    """The parts with decisions applied, and then without unreadable pictures; and what a report should say of that.

    Args:
        parts: pictures by part, as the source has them.
        skip_unreadable: whether pictures that cannot be read are left out; a DataWarning says which.
        curation: a file of decisions, see `data.decisions`.
        on_read: called for each picture that `skip_unreadable` reads, for a progress bar.

    Raises:
        DataError: the decisions are not about these pictures, or a class loses all of its own.
    """
    notes: list[str] = []
    if curation is not None:
        decisions = read_decisions(curation)
        parts = apply_decisions(parts, decisions, Path(curation).parent)
        notes.append(f"decisions of {curation}: {tell_decisions(decisions)}.")
    if skip_unreadable:
        parts, note = leave_out_unreadable(parts, on_read)
        notes += [f"{note}."] if note else []
    return parts, tuple(notes)


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
