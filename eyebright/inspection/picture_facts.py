"""What can be said of every picture of a part without a network: one reading, a few numbers kept of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eyebright.data.ahead import ahead
from eyebright.data.decode import decode, read_header
from eyebright.data.digests import pixel_digest
from eyebright.data.images import ImageFiles, Labels, Pictures, Pixels
from eyebright.errors import PictureError

CONSTANT_WITHIN = 3  # levels of 255 that a JPEG may add to a picture of one colour
IN_MEMORY = "array"  # the format of pictures that are no files

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]


class _Row(NamedTuple):
    readable: bool = False
    height: int = 0
    width: int = 0
    channels: int = 0
    format: str = ""
    file_bytes: int = 0
    turned: bool = False
    brightness: float = 0.0
    constant: bool = False
    grey: bool = False
    digest: bytes = bytes(32)
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Facts:
    """A part's pictures, a row for each; where one cannot be read, zeros.

    Attributes:
        names: what a person would call each picture.
        labels: int64 `[N]`.
        readable: whether it could be read, bool `[N]`.
        height, width: in pixels, upright, int64 `[N]`.
        channels: 1 or 3, int64 `[N]`.
        formats: by content, for example ``"JPEG"``; ``"array"`` in memory.
        file_bytes: of the encoded file, int64 `[N]`; 0 in memory.
        turned: stored turned or mirrored, with an EXIF entry that says so, bool `[N]`.
        brightness: mean over all pixels and channels, 0…1, float64 `[N]`.
        constant: nearly one colour throughout, bool `[N]`.
        grey: shows no colour, however it is stored, bool `[N]`.
        digests: SHA-256 of the pixels, `[N]`.
        reasons: why each unreadable one cannot be read, by its index.
    """

    names: tuple[str, ...]
    labels: Labels
    readable: Flags
    height: Whole
    width: Whole
    channels: Whole
    formats: tuple[str, ...]
    file_bytes: Whole
    turned: Flags
    brightness: NDArray[np.float64]
    constant: Flags
    grey: Flags
    digests: tuple[bytes, ...]
    reasons: dict[int, str]

    def __len__(self) -> int:
        return len(self.labels)


def read_facts(
    pictures: Pictures, folder: Path | None = None, on_read: Callable[[], object] | None = None, workers: int = 2
) -> Facts:
    """Reads every picture once, at full size, and keeps a few numbers of each; no more than a few are in memory.

    A picture that cannot be read is noted with its reason and stops nothing.

    Args:
        pictures: on disk or in memory.
        folder: what names of files are shortened by.
        on_read: called for each picture, for a progress bar.
        workers: threads that read and decode.
    """
    rows = []
    with closing(ahead(partial(_read, pictures), range(len(pictures)), workers)) as read:
        for row in read:
            rows.append(row)
            if on_read is not None:
                on_read()

    def column(name: str) -> list[Any]:
        return [getattr(row, name) for row in rows]

    return Facts(
        names=tuple(_name(pictures, index, folder) for index in range(len(pictures))),
        labels=pictures.labels,
        readable=np.array(column("readable"), dtype=bool),
        height=np.array(column("height"), dtype=np.int64),
        width=np.array(column("width"), dtype=np.int64),
        channels=np.array(column("channels"), dtype=np.int64),
        formats=tuple(column("format")),
        file_bytes=np.array(column("file_bytes"), dtype=np.int64),
        turned=np.array(column("turned"), dtype=bool),
        brightness=np.array(column("brightness"), dtype=np.float64),
        constant=np.array(column("constant"), dtype=bool),
        grey=np.array(column("grey"), dtype=bool),
        digests=tuple(column("digest")),
        reasons={index: row.reason for index, row in enumerate(rows) if row.reason},
    )


def common_folder(parts: Iterable[Pictures]) -> Path | None:
    """The folder that all files of all parts are in; None where there is none, as of pictures in memory."""
    folders = {path.parent for part in parts if isinstance(part, ImageFiles) for path in part.paths}
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # no files, or absolute and relative paths in one list
        return None


def _name(pictures: Pictures, index: int, folder: Path | None) -> str:
    if isinstance(pictures, ImageFiles) and folder is not None:
        return pictures.paths[index].relative_to(folder).as_posix()
    return pictures.name(index)


def _read(pictures: Pictures, index: int) -> _Row:
    if not isinstance(pictures, ImageFiles):
        return _describe(pictures.read(index), IN_MEMORY, 0, False)
    path = pictures.paths[index]
    try:
        data = path.read_bytes()
        pixels = decode(data, str(path))
    except OSError as error:
        return _Row(reason=error.strerror or str(error))
    except PictureError as error:
        return _Row(reason=error.problem.removeprefix(f"cannot read the picture {path}: "))
    header = read_header(data)
    return _describe(pixels, header.format, len(data), header.turned)


def _describe(pixels: Pixels, form: str, size: int, turned: bool) -> _Row:
    height, width, channels = pixels.shape
    first = pixels[0].astype(np.int64)
    constant = _is_constant(first) and _is_constant(pixels.reshape(-1, channels).astype(np.int64))
    grey = channels == 1 or (_is_grey(first) and _is_grey(pixels))  # the first row alone settles most pictures
    brightness = float(pixels.mean()) / 255
    digest = pixel_digest(pixels)
    return _Row(True, height, width, channels, form, size, turned, brightness, constant, grey, digest)


def _is_constant(pixels: Whole) -> bool:
    return bool(np.ptp(pixels, axis=0).max() <= CONSTANT_WITHIN)


def _is_grey(pixels: NDArray[np.int64] | Pixels) -> bool:
    return bool((pixels[..., :1] == pixels).all())
