"""Labelled pictures: `Images` in memory, `ImageFiles` on disk. The loader makes batches of either."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eyebright.data.decode import decode_file
from eyebright.data.labels import Labels as Labels
from eyebright.data.labels import check_labels
from eyebright.errors import DataError

Pixels = NDArray[np.uint8]


class Pictures(Protocol):
    """What `Images` and `ImageFiles` have in common.

    Attributes:
        labels: int64 `[N]`: indices into `classes`; or, where a picture can have several, `[N, K]` of 0 and 1.
        classes: class names in order.
        groups: `[N]` what each picture is of, for example a patient: pictures of one group stay in one part; or None.
    """

    @property
    def labels(self) -> Labels: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def groups(self) -> tuple[str, ...] | None: ...  # noqa: D102
    def __len__(self) -> int: ...
    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Pixels:
        """One picture, uint8 `[H, W, C]`; `at_least` (height, width) allows a decoder to stop at that detail."""

    def name(self, index: int) -> str:
        """What a person would call this picture: its path, or its number."""

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> Pictures:
        """The pictures at these indices, in this order."""


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures of one size in memory.

    Attributes:
        pixels: uint8 `[N, H, W, C]` with 1 or 3 channels.
        labels: int64 `[N]`, or `[N, K]` where a picture can have several.
        classes: class names in order.
        names: `[N]` names of the pictures; without them they are called by their number.
        groups: `[N]` what each picture is of, see `Pictures`; or None.
    """

    pixels: Pixels
    labels: Labels
    classes: tuple[str, ...]
    names: tuple[str, ...] | None = field(default=None, repr=False)
    groups: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] not in (1, 3):
            raise DataError(
                f"an array of {self.pixels.dtype} with shape {list(self.pixels.shape)}",
                expected="pixels as uint8 [N, H, W, C] with 1 or 3 channels, 0 to 255",
                remedy="scale to 0…255, convert with .astype('uint8'), and put channels last",
            )
        check_labels(self.labels, self.classes, len(self.pixels))
        _check_groups(self.groups, len(self.pixels))

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Pixels:
        """One picture, uint8 `[H, W, C]`."""
        picture: Pixels = self.pixels[index]
        return picture

    def name(self, index: int) -> str:
        """The picture's name, or its number."""
        return self.names[index] if self.names else f"picture {index}"

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> Images:
        """The pictures at these indices, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        names = tuple(self.name(i) for i in chosen.tolist())
        groups = _choose(self.groups, chosen)
        return Images(self.pixels[chosen], self.labels[chosen], self.classes, names, groups)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Pictures on disk, decoded when they are read.

    Attributes:
        paths: `[N]` files.
        labels: int64 `[N]`, or `[N, K]` where a picture can have several.
        classes: class names in order.
        groups: `[N]` what each picture is of, see `Pictures`; or None.
    """

    paths: tuple[Path, ...] = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_labels(self.labels, self.classes, len(self.paths))
        _check_groups(self.groups, len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Pixels:
        """One picture, uint8 `[H, W, C]`.

        Raises:
            PictureError: it cannot be decoded.
        """
        return decode_file(self.paths[index], at_least)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> ImageFiles:
        """The pictures at these indices, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        paths, groups = tuple(self.paths[i] for i in chosen), _choose(self.groups, chosen)
        return ImageFiles(paths, self.labels[chosen], self.classes, groups)


def blank_pictures(labels: Labels, classes: tuple[str, ...], groups: tuple[str, ...] | None = None) -> Images:
    """Pictures of one black pixel, for cuts: these go by labels and groups alone."""
    return Images(np.zeros((len(labels), 1, 1, 1), dtype=np.uint8), labels, classes, None, groups)


def join(first: Pictures, second: Pictures) -> Pictures:
    """The pictures of both, one after the other; both in memory, or both on disk.

    Raises:
        DataError: they differ in their classes, in the size of pictures in memory, or one is in memory and one on disk.
    """
    alike = first.classes == second.classes and first.labels.ndim == second.labels.ndim
    groups = None if first.groups is None or second.groups is None else first.groups + second.groups
    if alike and isinstance(first, ImageFiles) and isinstance(second, ImageFiles):
        labels = np.concatenate([first.labels, second.labels])
        return ImageFiles(first.paths + second.paths, labels, first.classes, groups)
    if isinstance(first, Images) and isinstance(second, Images):
        alike &= first.pixels.shape[1:] == second.pixels.shape[1:]
    if alike and isinstance(first, Images) and isinstance(second, Images):
        labels = np.concatenate([first.labels, second.labels])
        names = None if first.names is None or second.names is None else first.names + second.names
        return Images(np.concatenate([first.pixels, second.pixels]), labels, first.classes, names, groups)
    raise DataError(
        f"{_describe(first)} cannot be joined with {_describe(second)}",
        expected="the same classes, and pictures of one size in memory, or pictures on disk",
        remedy="bring them into one form first",
    )


def join_all(parts: Mapping[str, Pictures]) -> Pictures:
    """The pictures of all parts, one after the other; see `join`."""
    return reduce(join, parts.values())


def names_below(parts: Mapping[str, Pictures]) -> dict[str, tuple[str, ...]]:
    """What a person would call each picture: of files the path below the folder that all parts are in, or a number."""
    folders = {path.absolute().parent for part in parts.values() if isinstance(part, ImageFiles) for path in part.paths}
    folder = Path(os.path.commonpath(folders)) if folders else Path()
    return {name: _names(part, folder) for name, part in parts.items()}


def _names(pictures: Pictures, folder: Path) -> tuple[str, ...]:
    if isinstance(pictures, ImageFiles):
        return tuple(path.absolute().relative_to(folder).as_posix() for path in pictures.paths)
    return tuple(pictures.name(index) for index in range(len(pictures)))


def _describe(pictures: Pictures) -> str:
    if isinstance(pictures, Images):
        return (
            f"{len(pictures)} pictures of {len(pictures.classes)} classes and shape {list(pictures.pixels.shape[1:])}"
        )
    return f"{len(pictures)} pictures of {len(pictures.classes)} classes on disk"


def _choose(values: tuple[str, ...] | None, indices: NDArray[np.int64]) -> tuple[str, ...] | None:
    return None if values is None else tuple(values[i] for i in indices.tolist())


def _check_groups(groups: tuple[str, ...] | None, count: int) -> None:
    if groups is not None and len(groups) != count:
        raise DataError(
            f"{len(groups)} groups for {count} pictures",
            expected="one name for each picture, or no groups at all",
            remedy="give the group that each picture belongs to, in the order of the pictures",
        )
