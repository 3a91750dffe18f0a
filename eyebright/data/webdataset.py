"""Tars of samples, as WebDataset writes them: ``key.jpg`` beside ``key.cls``, in one tar or many.

Source: A. Aizman, G. Maltby, T. Breuel, High Performance I/O for Large Scale Deep Learning, 2019 (arXiv 2001.01858).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eyebright.data.archives import unpack
from eyebright.data.cache import list_files
from eyebright.data.decode import SUFFIXES
from eyebright.data.downloads import first_line
from eyebright.data.images import ImageFiles, Pictures
from eyebright.data.shards import PART_NAMES, number_labels
from eyebright.errors import DataError

LABELS = ("cls", "json", "txt")  # endings of the files that tell a sample's class, the first one there counts
KEYS = ("label", "cls")  # of the class in a .json
CLASSES = "classes.txt"
MOST_DIGITS = 18  # of a number; more are a text

Samples = dict[str, dict[str, str]]  # key → ending → file


def is_webdataset(folder: Path) -> bool:
    """Whether an unpacked tar holds samples: pictures with a .cls, or with a .json or .txt and no class folders."""
    samples = _find_samples(folder)
    pictures = {key: sample for key, sample in samples.items() if _pictures(sample)}
    if any("cls" in sample for sample in pictures.values()):
        return True
    folders = {key.rpartition("/")[0] for key in pictures}
    return len(folders) == 1 and any(sample.keys() & set(LABELS) for sample in pictures.values())


def load_webdataset(shards: dict[str, list[Path]]) -> dict[str, Pictures]:
    """Pictures of tars of samples, unpacked once into the cache.

    The files of a sample have one name up to the first dot. Its class, a number or a text, stands in its .cls, under
    ``label`` or ``cls`` in its .json, or in its .txt. A file classes.txt in the first tar or beside it has the names of
    the classes in order, one a line.

    Args:
        shards: part → tars.

    Raises:
        ArchiveError: a tar is damaged or refused.
        DataError: a tar has no pictures, or a sample has two or no class; labels do not fit the names.
    """
    paths: dict[str, list[Path]] = {}
    labels: dict[str, list[int | str]] = {}
    for part, tars in shards.items():
        for tar in tars:
            folder = unpack(tar)
            samples = {key: sample for key, sample in sorted(_find_samples(folder).items()) if _pictures(sample)}
            if not samples:
                raise _refused(tar, "it has no pictures")
            for key, sample in samples.items():
                pictures = _pictures(sample)
                if len(pictures) > 1:
                    raise _refused(tar, f"the sample {key} has the pictures {' and '.join(pictures)}")
                paths.setdefault(part, []).append(folder / pictures[0])
                labels.setdefault(part, []).append(_read_label(tar, folder, key, sample))
    first = next(iter(shards.values()))[0]
    try:
        numbers, classes = number_labels({part: labels[part] for part in PART_NAMES if part in labels}, _names(first))
    except ValueError as error:
        raise _refused(first, str(error)) from error
    return {part: ImageFiles(tuple(paths[part]), numbers[part], classes) for part in numbers}


def _find_samples(folder: Path) -> Samples:
    samples: Samples = {}
    for path in list_files(folder):
        above, slash, name = path.rpartition("/")
        key, _, ending = name.partition(".")
        samples.setdefault(above + slash + key, {})[ending.lower()] = path
    return samples


def _pictures(sample: dict[str, str]) -> list[str]:
    return [path for ending, path in sample.items() if f".{ending}" in SUFFIXES]


def _read_label(tar: Path, folder: Path, key: str, sample: dict[str, str]) -> int | str:
    ending = next((ending for ending in LABELS if ending in sample), None)
    if ending is None:
        raise _refused(tar, f"the sample {key} has none of {', '.join(LABELS)}")
    try:
        text = (folder / sample[ending]).read_text(encoding="utf-8").strip()
        label: Any = text
        if ending == "json":
            value = json.loads(text)
            label = next(value[name] for name in KEYS if name in value)
    except (ValueError, TypeError, StopIteration, RecursionError) as error:
        raise _refused(tar, f"{sample[ending]} tells no class: {first_line(error)}") from error
    if isinstance(label, str) and label.isdecimal() and len(label) <= MOST_DIGITS:
        return int(label)
    if type(label) not in (int, str) or label == "":
        raise _refused(tar, f"{sample[ending]} tells the class {label!r}")
    whole: int | str = label
    return whole


def _names(tar: Path) -> list[str] | None:
    """The names of the classes, where a list of them is in the tar or beside it."""
    for path in (unpack(tar) / CLASSES, tar.parent / CLASSES):
        if path.is_file():
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return None


def _refused(tar: Path, reason: str) -> DataError:
    return DataError(
        f"cannot take pictures from {tar}: {reason}",
        expected="a tar of samples: each a picture key.jpg and its class in key.cls, key.json (label) or key.txt",
        remedy="make or download it again",
    )
