"""Tables as sources: a CSV that lists pictures with their labels, and NumPy arrays in an .npz file."""

from __future__ import annotations

import csv
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eyebright.data.images import ImageFiles, Images, Labels, Pictures, Pixels
from eyebright.errors import DataError

PARTS = ("train", "val", "test")
SEPARATOR = re.compile("[;|]")  # between the labels of one picture
LARGEST = 16 * 2**30  # bytes that the arrays of one file may have
MOST_CLASSES = 2**20
NAMINGS = (  # of pictures and labels in an .npz; {} is the part
    ("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}_pixels", "{}_labels"), ("X_{}", "y_{}"),
)  # fmt: skip
UNPARTED = (("x", "y"), ("images", "labels"), ("pixels", "labels"), ("X", "y"))


@dataclass(frozen=True)
class _Row:
    path: Path
    labels: tuple[str, ...]
    group: str


def load_csv(path: Path) -> dict[str, Pictures]:
    """Pictures that a CSV lists: columns ``path`` and ``label``, and perhaps ``part`` and ``group``.

    The part is train, val or test; pictures of one group, for example of one patient, stay in one part. Paths are
    relative to the CSV's folder. Classes are in alphabetical order.

    Where a label is several, with ``;`` or ``|`` between them, or where the column is called ``labels``, each picture
    can have several; in a column ``labels`` it can have none.

    Raises:
        DataError: columns are missing, a row lacks something or names no file, or there are no rows.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            rows = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise _no_table(path, str(error)) from error
    labelled = "labels" if "labels" in columns else "label"
    if missing := [name for name in ("path", labelled) if name not in columns]:
        raise _no_table(path, f"its first line has no column {' and no '.join(missing)}")
    if not rows:
        raise _no_table(path, "it has a first line and no rows")
    several = labelled == "labels" or any(SEPARATOR.search(row["label"] or "") for row in rows)
    parts: dict[str, list[_Row]] = {}
    for number, row in enumerate(rows, start=2):
        place, text, part = row["path"], row[labelled], row.get("part") or "train"
        group = row["group"] if "group" in columns else "all"
        unlabelled = text is None if labelled == "labels" else not text
        if not place or unlabelled or not group or part not in PARTS or None in row:
            raise _no_table(path, f"line {number} is {','.join(str(value or '') for value in row.values())}")
        picture = path.parent / place
        if not picture.is_file():
            raise _no_table(path, f"line {number} names {place}, and there is no such file")
        names = tuple(name for piece in SEPARATOR.split(text) if (name := piece.strip())) if several else (text,)
        parts.setdefault(part, []).append(_Row(picture, names, group))
    classes = tuple(sorted({name for listed in parts.values() for row in listed for name in row.labels}))
    return {
        part: ImageFiles(
            tuple(row.path for row in parts[part]),
            _number(parts[part], classes, several),
            classes,
            tuple(row.group for row in parts[part]) if "group" in columns else None,
        )
        for part in PARTS
        if part in parts
    }


def _number(rows: list[_Row], classes: tuple[str, ...], several: bool) -> Labels:
    """Labels as numbers: int64 `[N]`, or `[N, K]` of 0 and 1 where each picture can have several."""
    numbers = {name: index for index, name in enumerate(classes)}
    if not several:
        return np.array([numbers[row.labels[0]] for row in rows], dtype=np.int64)
    table = np.zeros((len(rows), len(classes)), dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, [numbers[name] for name in row.labels]] = 1
    return table


def load_npz(path: Path) -> dict[str, Pictures]:
    """Pictures and labels as arrays of an .npz file: ``x_train, y_train, x_test, y_test`` and the like.

    Understood are also ``train_images, train_labels``, with ``val`` likewise, and ``x, y`` or ``images, labels`` for
    one part. Pictures are uint8 `[N, H, W]` or `[N, H, W, C]`, labels whole numbers `[N]` or `[N, 1]` or texts `[N]`.
    An array ``classes`` gives the names of numbered classes. Nothing is unpickled.

    Raises:
        DataError: arrays are missing, of another type or shape, or too large; or the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise _no_arrays(path, f"its arrays have {size / 2**30:.1f} GiB, more than {LARGEST / 2**30:.0f}")
        with np.load(path, allow_pickle=False) as loaded:
            arrays: dict[str, Any] = {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, MemoryError) as error:
        raise _no_arrays(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    found: dict[str, tuple[Any, Any]] = {}
    for part in PARTS:
        for pictures, labels in NAMINGS:
            if pictures.format(part) in arrays and labels.format(part) in arrays:
                found.setdefault(part, (arrays[pictures.format(part)], arrays[labels.format(part)]))
    if not found:
        pairs = [pair for pair in UNPARTED if pair[0] in arrays and pair[1] in arrays]
        if not pairs:
            raise _no_arrays(path, f"it has the arrays {', '.join(arrays) or 'none'}")
        found["train"] = (arrays[pairs[0][0]], arrays[pairs[0][1]])
    if "train" not in found:
        raise _no_arrays(path, f"it has the parts {', '.join(found)} and none called train")
    numbered, classes = _classes(path, [labels for _, labels in found.values()], arrays.get("classes"))
    return {
        part: Images(_pixels(path, part, pictures), labels, classes)
        for (part, (pictures, _)), labels in zip(found.items(), numbered, strict=True)
    }


def _classes(path: Path, given: list[Any], names: Any) -> tuple[list[Labels], tuple[str, ...]]:
    """Labels of all parts as numbers from 0, and the classes' names."""
    flat = [labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels for labels in given]
    kinds = {labels.dtype.kind for labels in flat}
    if any(labels.ndim != 1 for labels in flat) or not (kinds <= {"i", "u"} or kinds == {"U"}):
        shapes = ", ".join(f"{labels.dtype} {list(labels.shape)}" for labels in given)
        raise _no_arrays(path, f"its labels are {shapes}")
    if kinds == {"U"}:
        classes = tuple(sorted({str(label) for labels in flat for label in np.unique(labels)}))
        return [np.searchsorted(np.array(classes), labels).astype(np.int64) for labels in flat], classes
    largest = max((int(labels.max()) for labels in flat if labels.size), default=-1)
    smallest = min((int(labels.min()) for labels in flat if labels.size), default=0)
    count = largest + 1 if names is None else np.asarray(names).size
    if smallest < 0 or largest >= min(count, MOST_CLASSES):
        raise _no_arrays(path, f"its labels go from {smallest} to {largest}, for {count} classes")
    classes = tuple(map(str, range(count) if names is None else np.asarray(names).ravel()))
    return [labels.astype(np.int64) for labels in flat], classes


def _pixels(path: Path, part: str, pictures: Any) -> Pixels:
    shaped: Pixels = pictures[..., None] if pictures.ndim == 3 else pictures
    if shaped.dtype != np.uint8 or shaped.ndim != 4 or shaped.shape[3] not in (1, 3):
        raise _no_arrays(path, f"its pictures for {part} are {pictures.dtype} {list(pictures.shape)}")
    return shaped


def _no_table(path: Path, reason: str) -> DataError:
    return DataError(
        f"cannot take pictures from {path}: {reason}",
        expected="a CSV with the columns path and label (or labels), and perhaps part (train, val or test) and group",
        remedy="correct it there; paths are relative to the CSV's folder",
    )


def _no_arrays(path: Path, reason: str) -> DataError:
    return DataError(
        f"cannot take pictures from {path}: {reason}",
        expected="x_train and y_train, and perhaps x_val, y_val, x_test, y_test: uint8 [N, H, W(, C)] and labels [N]",
        remedy="save it with numpy.savez(path, x_train=…, y_train=…)",
    )
