"""Parquet tables as sources: of paths and labels, or with the pictures inside, as Hugging Face keeps them.

Needs the extra ``eyebright[hub]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eyebright.data.archives import size_limit
from eyebright.data.cache import make_once
from eyebright.data.downloads import first_line
from eyebright.data.images import ImageFiles, Pictures
from eyebright.data.shards import PART_NAMES, number_labels
from eyebright.errors import DataError

PICTURES = ("image", "img", "picture", "path")
LABELS = ("label", "labels", "fine_label", "class")
PARTS = ("part", "split")
KEPT_SECRET = -1  # the label of every picture of a part whose labels are not published
AT_ONCE = 32  # pictures in memory while a table is unpacked
BUFFER = 2**20  # bytes of the file that are read ahead: else whole groups of rows are
SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp", b"BM": ".bmp"}


@dataclass(frozen=True)
class _Columns:
    picture: str
    label: str
    part: str | None
    inside: bool  # the pictures themselves, not their paths
    classes: tuple[str, ...] | None


def load_parquet(path: Path) -> dict[str, Pictures]:
    """The pictures of one Parquet file; see `load_parquet_files`."""
    return load_parquet_files({"train": [path]})


def load_parquet_files(shards: dict[str, list[Path]]) -> dict[str, Pictures]:
    """Pictures of Parquet files: a column of encoded pictures or of paths, and one of labels.

    Encoded pictures are a struct of ``bytes`` and ``path``, or bytes; they are unpacked once into the cache. Paths are
    relative to the file's folder. Columns are known by Hugging Face's notes in the file, or by their names: image, img,
    picture or path; label, labels, fine_label or class. A column part or split (train, val or test) goes before what
    the file's name says. Numbered classes have the names in these notes, or their numbers. A part whose labels are all
    −1, which stands for labels that are kept secret, is left out.

    Args:
        shards: part → files.

    Raises:
        DataError: pyarrow is not installed; a file is damaged, or lacks columns; labels, pictures or parts are wrong.
    """
    paths: dict[str, list[Path]] = {}
    labels: dict[str, list[Any]] = {}
    classes: tuple[str, ...] | None = None
    for number, (part, path) in enumerate((part, path) for part, files in shards.items() for path in files):
        columns, read_labels, read_parts = _read(path)
        if number and columns.classes != classes:
            raise _refused(path, "it has other classes than the files before it")
        classes = columns.classes
        pictures = _unpack(path, columns.picture) if columns.inside else _find(path, columns.picture)
        for row, (picture, label) in enumerate(zip(pictures, read_labels, strict=True)):
            own = read_parts[row] if read_parts else part
            paths.setdefault(own, []).append(picture)
            labels.setdefault(own, []).append(label)
    last = next(reversed(shards.values()))[-1]
    for part in [part for part in paths if classes and set(labels[part]) == {KEPT_SECRET}]:
        del paths[part], labels[part]
    if "train" not in paths:
        raise _refused(last, f"with labels it has the parts {', '.join(paths) or 'none'}, and none called train")
    try:
        numbers, names = number_labels({part: labels[part] for part in PART_NAMES if part in labels}, classes)
    except ValueError as error:
        raise _refused(last, str(error)) from error
    return {part: ImageFiles(tuple(paths[part]), numbers[part], names) for part in numbers}


def _read(path: Path) -> tuple[_Columns, list[Any], list[str]]:
    """Which columns count, the labels, and the part of each row where a column says so."""
    parquet = _library()
    try:
        with parquet.ParquetFile(path) as file:
            columns = _choose(file.schema_arrow)
            read = [name for name in (columns.label, columns.part) if name]
            table = file.read(columns=read)
        values = table.column(columns.label).to_pylist()
        parts = [] if columns.part is None else [_part(name) for name in table.column(columns.part).to_pylist()]
    except (_arrow_error(), OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise _refused(path, first_line(error)) from error
    if not values:
        raise _refused(path, "it has no rows")
    if None in values:
        raise _refused(path, f"row {values.index(None)} has no label")
    return columns, values, parts


def _choose(schema: Any) -> _Columns:
    """The columns that count, by the notes in the file or by name."""
    notes = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = {
        name: feature for name, feature in notes.get("info", {}).get("features", {}).items() if name in schema.names
    }
    kinds = {name: feature.get("_type") for name, feature in features.items() if isinstance(feature, dict)}
    picture = _one_of(schema.names, [name for name, kind in kinds.items() if kind == "Image"], PICTURES)
    label = _one_of(schema.names, [name for name, kind in kinds.items() if kind == "ClassLabel"], LABELS)
    part = next((name for name in PARTS if name in schema.names), None)
    classes = features[label].get("names") if label in kinds else None
    kind = str(schema.field(picture).type)
    inside = kind in ("binary", "large_binary") or (kind.startswith("struct<") and "bytes: " in kind)
    if not inside and kind not in ("string", "large_string"):
        raise ValueError(f"its column {picture} is of the type {kind}, neither pictures nor paths")
    return _Columns(picture, label, part, inside, None if classes is None else tuple(map(str, classes)))


def _one_of(names: Sequence[str], noted: list[str], usual: Sequence[str]) -> str:
    candidates = noted or [name for name in names if name in usual]
    chosen = next((name for name in usual if name in candidates), candidates[0] if len(candidates) == 1 else None)
    if chosen is None:
        raise ValueError(
            f"it has the columns {', '.join(names)}, and none of them is {' or '.join(noted or usual)} alone"
        )
    return chosen


def _part(name: Any) -> str:
    found = next((part for part, names in PART_NAMES.items() if str(name or "train").lower() in names), None)
    if found is None:
        raise ValueError(f"it has the part {name!r}, which is none of {', '.join(PART_NAMES)}")
    return found


def _find(path: Path, column: str) -> list[Path]:
    """The files that a column of paths names."""
    places = _library().read_table(path, columns=[column]).column(column).to_pylist()
    pictures = [path.parent / (place or "") for place in places]
    for row, picture in enumerate(pictures):
        if not picture.is_file():
            raise _refused(path, f"row {row} names {places[row] or 'nothing'}, and there is no such file")
    return pictures


def _unpack(path: Path, column: str) -> list[Path]:
    """The encoded pictures of a column as files, in order: unpacked now, or found in the cache."""
    folder = make_once(path, "tables", lambda folder: _write_pictures(path, column, folder))
    return sorted(folder.iterdir())


def _write_pictures(path: Path, column: str, folder: Path) -> None:
    total, limit = 0, size_limit(path)
    for row, data in enumerate(_encoded(path, column)):
        total += len(data or b"")
        if not data:
            raise _refused(path, f"row {row} has no picture in it")
        if total > limit:
            raise _refused(path, f"its pictures are larger than {limit / 2**30:.0f} GiB, for a file of this size")
        with (folder / f"{row:08}{SUFFIXES.get(data[:2], '')}").open("xb") as file:
            file.write(data)


def _encoded(path: Path, column: str) -> Iterator[bytes | None]:
    try:
        with _library().ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(AT_ONCE, columns=[column]):
                for value in batch.column(0):
                    row = value.as_py()
                    yield row["bytes"] if isinstance(row, dict) else row
    except (_arrow_error(), OSError, ValueError) as error:
        raise _refused(path, first_line(error)) from error


def _library() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            "Parquet files cannot be read: pyarrow is not installed",
            expected="the packages of the extra eyebright[hub]",
            remedy="pip install 'eyebright[hub]'",
        ) from error
    return parquet


def _arrow_error() -> Any:
    from pyarrow import ArrowException

    return ArrowException


def _refused(path: Path, reason: str) -> DataError:
    return DataError(
        f"cannot take pictures from {path}: {reason}",
        expected="a whole Parquet file with a column image (encoded) or path, and a column label",
        remedy="make or download it again; `datasets` writes such files, and pandas tables of paths and labels",
    )
