"""Data sets in several files: which part each belongs to, by its name, and what their labels are called."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from eyebright.data.images import Labels
from eyebright.errors import DataError, DataWarning

PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
COUNT = re.compile(r"\{(\d+)\.\.(\d+)\}")
NUMBERING = re.compile(r"[-_.]?\d+(-of-\d+)?$")
MOST_FILES = 100_000


def find_part(name: str) -> str | None:
    """The part that a file belongs to: the first word of its name that names one, else of its folders, nearest first.

    >>> find_part("data/validation-00000-of-00002.parquet"), find_part("test/train-0.tar"), find_part("a/b.tar")
    ('val', 'train', None)
    """
    for piece in reversed(PurePosixPath(name.lower()).parts):
        for word in re.split("[^a-z]+", piece):
            for part, names in PART_NAMES.items():
                if word in names:
                    return part
    return None


def group_shards(names: Iterable[str], source: str) -> dict[str, list[str]]:
    """The files of each part; all of them are the training part where no name tells several parts apart.

    Args:
        names: of the files, with the folders that lie below the data's own.
        source: what errors call the data.

    Raises:
        DataError: a part could be one or the other of several, or there are parts and none is called train.
    """
    ordered = sorted(names)
    found: dict[str, list[str]] = {}
    for name in ordered:
        found.setdefault(find_part(name) or "", []).append(name)
    unnamed = found.pop("", [])
    if len(found) < 2 and not (found and unnamed):
        return {"train": ordered}
    if unnamed:
        warnings.warn(
            f"{source}: {len(unnamed)} files of no part are left out, for example {unnamed[0]}",
            DataWarning,
            stacklevel=2,
        )
    for part in [part for part in PART_NAMES if part in found]:
        series = sorted({_series(name) for name in found[part]})
        if len(series) > 1:
            raise DataError(
                f"the part {part} of {source} could be {' or '.join(series[:5])}",
                expected="one series of files for each part, as in train-00000-of-00002, train-00001-of-00002",
                remedy="name one of the folders or a pattern of files as the source, or put the others elsewhere",
            )
    if "train" not in found:
        raise DataError(
            f"{source} has the parts {', '.join(found)} and none called train",
            expected="files whose names begin with train, and perhaps val and test beside them",
            remedy="rename the files with the training pictures, or name those of one part as the source",
        )
    return {part: found[part] for part in PART_NAMES if part in found}


def _series(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent / (NUMBERING.sub("", path.name.partition(".")[0]) or "*")).as_posix()


def is_pattern(source: str) -> bool:
    """Whether a source looks like a pattern of several files."""
    return bool(COUNT.search(source) or re.search(r"[*?\[]", PurePosixPath(source).name))


def expand_pattern(pattern: str) -> list[Path]:
    """The files that a pattern names: ``{000..012}`` counts, and in a file's name ``*``, ``?`` and ``[]`` match.

    Raises:
        DataError: a file of a count is not there, nothing matches, or the count is too long.
    """
    total = math.prod(max(int(last) - int(first) + 1, 0) for first, last in COUNT.findall(pattern))
    if not 0 < total <= MOST_FILES:
        raise _no_files(pattern, f"its numbers count {total:,} files")
    paths: list[Path] = []
    for name in _count(pattern):
        path = Path(name).expanduser()
        matching = [path] if path.is_file() else sorted(path.parent.glob(path.name)) if path.name else []
        if not matching:
            raise _no_files(pattern, f"there is no {name}")
        paths += matching
    return paths


def _count(pattern: str) -> list[str]:
    found = COUNT.search(pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    before, after = pattern[: found.start()], pattern[found.end() :]
    numbers = range(int(first), int(last) + 1)
    return [name for number in numbers for name in _count(f"{before}{number:0{len(first)}}{after}")]


def _no_files(pattern: str, reason: str) -> DataError:
    return DataError(
        f"'{pattern}' does not name the files of a data set: {reason}",
        expected="a pattern such as train-*.tar, or two numbers with .. in braces, of files that are all there",
        remedy="check the path and the numbers",
    )


def number_labels(
    labels: dict[str, Sequence[Any]], names: Sequence[str] | None
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Labels of all parts as indices, and the class names in order.

    Args:
        labels: part → whole numbers or texts.
        names: of the classes in order, where they are known; else numbers keep their order and texts are sorted.

    Raises:
        ValueError: labels are of several or other types, or not among the names.
    """
    occurring = {label for own in labels.values() for label in own}
    kinds = {type(label) for label in occurring}
    if kinds not in ({int}, {str}):
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise ValueError(f"its labels are of the types {found}, not all whole numbers or all texts")
    if names is None:
        ordered = sorted(occurring)
        classes, numbers = tuple(map(str, ordered)), {label: number for number, label in enumerate(ordered)}
    else:
        classes = tuple(names)
        numbers = {i if kinds == {int} else name: i for i, name in enumerate(classes)}
        if unknown := sorted(occurring - numbers.keys()):
            raise ValueError(f"it has the label {unknown[0]}, which is none of the {len(classes)} named classes")
        if len(set(classes)) < len(classes):
            raise ValueError("two of its classes have the same name")
    return {part: np.array([numbers[label] for label in own], dtype=np.int64) for part, own in labels.items()}, classes
