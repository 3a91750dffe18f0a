"""Train, validation and test parts, and the contract that says exactly which pictures are in which."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyebright.data.cuts import cut_off, make_folds
from eyebright.data.digests import file_digests, pixel_digest
from eyebright.data.images import ImageFiles, Pictures, join, names_below
from eyebright.data.labels import Labels, class_counts
from eyebright.errors import DataError
from eyebright.files import not_a, read_json, write_json
from eyebright.tensors import read_safetensors, write_safetensors

PARTS = ("train", "val", "test")
FORMAT_VERSION = 1
KIND = "eyebright.split contract"
ARRAYS = ("digests", "pixels", "labels", "names")
VAL_FRACTION = 0.1  # where nothing is said

Digests = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set, with the same classes in the same order.

    Attributes:
        train: what is learnt from.
        val: what choices are made on; None where none was cut: then nothing is chosen.
        test: what the final figure is measured on, once.
        source: where they came from, as the user named it.
        notes: what a report should say of them: which pictures were left out, say.
    """

    train: Pictures
    val: Pictures | None
    test: Pictures
    source: str = "arrays"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, part in self.parts().items():
            if part.classes != self.classes:
                raise DataError(
                    f"the part {name} of {self.source} has the classes {_first(part.classes)}",
                    expected=f"those of the training part in the same order: {_first(self.classes)}",
                    remedy="give every part the same class names, and labels that are indices into them",
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""
        return self.train.classes

    def parts(self) -> dict[str, Pictures]:
        """The parts that there are, by name."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in found.items() if part is not None}

    def shared_groups(self) -> dict[tuple[str, str], list[str]]:
        """Groups that stand in two parts: (part, part) → their names in order. Only given parts can have them."""
        names = {part: set(pictures.groups or ()) for part, pictures in self.parts().items()}
        pairs = {(one, other): sorted(names[one] & names[other]) for one, other in combinations(names, 2)}
        return {parts: shared for parts, shared in pairs.items() if shared}


def make_splits(
    parts: dict[str, Pictures],
    *,
    val_fraction: float = VAL_FRACTION,
    test_fraction: float = 0.2,
    folds: int | None = None,
    fold: int | None = None,
    seed: int = 0,
    source: str = "arrays",
) -> Splits:
    """Three parts from those given.

    Three given parts are taken as they are. Of two, the second, whether it is called val or test, is the **test** part,
    and validation is cut from train. Of one, both are cut. Cuts are stratified: every class keeps its share. Pictures
    of one group stay on one side.

    With `folds`, what is not test is divided into as many, a given validation part included: one of them is validation,
    the others are train.

    Args:
        parts: ``"train"`` and perhaps ``"val"`` and ``"test"``.
        val_fraction: share of the training pictures that becomes validation; 0: none, then the last weights are kept.
        test_fraction: share that becomes the test part where only one part is given.
        folds: into how many validation goes round; instead of `val_fraction`.
        fold: which of them is validation, counted from 1.
        seed: of the cuts. It belongs to the data, not to the run: runs of different seeds compare on the same pictures.
        source: what the user called the data.

    Raises:
        DataError: a part is missing or has a single class, parts differ in their classes, a fraction or fold leaves a
            class without pictures, or a class has a single group.
    """
    _check_folds(folds, fold, val_fraction)
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise DataError(
                f"{name} is {fraction}",
                expected="a share of the pictures, from 0 to less than 1",
                remedy="set it so, in the recipe's [data] or in the call",
            )
    train, val, test = (parts.get(name) for name in PARTS)
    if train is None:
        raise DataError(
            f"{source} has the parts {', '.join(parts) or 'none'}",
            expected="a part called train, and perhaps val and test",
            remedy="rename the folder with the training pictures to 'train'",
        )
    if len(train.classes) < 2:
        raise DataError(
            f"{source} has one class only: {', '.join(train.classes)}",
            expected="at least two classes: a classifier has to choose",
            remedy="add a folder of pictures of something else",
        )
    if test is None:
        test, val = val, None
    if test is None:
        kept, cut = cut_off(train, test_fraction, seed, "test")
        train, test = train.select(kept), train.select(cut)
    if folds is not None and fold is not None:
        whole = train if val is None else join(train, val)
        kept, cut = make_folds(whole, folds, seed)[fold - 1]
        train, val = whole.select(kept), whole.select(cut)
    elif val is None and val_fraction > 0:
        kept, cut = cut_off(train, val_fraction, seed, "validation")
        train, val = train.select(kept), train.select(cut)
    return Splits(train, val, test, source)


def picture_digests(pictures: Pictures, on_read: Callable[[], object] | None = None) -> tuple[Digests, Digests]:
    """What every picture contains, as SHA-256: of the encoded bytes (of files), and of the decoded pixels.

    Two files with equal bytes have equal pixels; a copy with other metadata has equal pixels only. What was computed
    of a file is remembered by its path, size and time of change.

    Args:
        pictures: on disk or in memory; pictures in memory have their pixels' digest in both places.
        on_read: called for each picture, for a progress bar.

    Returns:
        uint8 `[N, 32]`, twice.

    Raises:
        PictureError: a file cannot be read or decoded.
    """
    if isinstance(pictures, ImageFiles):
        return file_digests(pictures.paths, on_read=on_read)
    digests = np.empty((len(pictures), 32), dtype=np.uint8)
    for index in range(len(pictures)):
        digests[index] = np.frombuffer(pixel_digest(pictures.read(index)), np.uint8)
        if on_read is not None:
            on_read()
    return digests, digests


@dataclass(frozen=True, eq=False)
class Contract:
    """Which pictures, of which classes, are in which part.

    Attributes:
        classes: class names in order.
        digests: part → SHA-256 of each picture's bytes (of pictures in memory: pixels), uint8 `[N, 32]`.
        pixels: part → SHA-256 of each picture's pixels, uint8 `[N, 32]`.
        labels: part → int64 `[N]`, or `[N, K]` where a picture can have several.
        names: part → what a person would call each picture: the path below the data's folder, or a number.
        source: what the user called the data.
    """

    classes: tuple[str, ...]
    digests: dict[str, Digests]
    pixels: dict[str, Digests]
    labels: dict[str, Labels]
    names: dict[str, tuple[str, ...]]
    source: str

    @property
    def root(self) -> str:
        """One digest of everything: equal if and only if classes, pictures, labels, parts and order are."""
        whole = hashlib.sha256("\0".join(self.classes).encode())
        for part in PARTS:
            if part in self.digests:
                whole.update(part.encode() + self.digests[part].tobytes() + self.labels[part].tobytes())
        return whole.hexdigest()

    @property
    def counts(self) -> dict[str, list[int]]:
        """Part → pictures of each class."""
        return {part: class_counts(labels, len(self.classes)).tolist() for part, labels in self.labels.items()}

    def shared(self) -> dict[tuple[str, str], list[tuple[int, int]]]:
        """The same picture, by its pixels, in two parts: (part, part) → pairs of indices."""
        found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        seen: dict[bytes, tuple[str, int]] = {}
        for part in self.pixels:
            for index, digest in enumerate(self.pixels[part]):
                first = seen.setdefault(digest.tobytes(), (part, index))
                if first[0] != part:
                    found.setdefault((first[0], part), []).append((first[1], index))
        return found

    def which_stand_in(self, parts: Collection[str], pictures: Pictures) -> list[int]:
        """Which of other pictures stand in these parts, by their pixels: their indices, in order.

        Raises:
            PictureError: a file cannot be read or decoded.
        """
        known = {digest.tobytes() for part in parts if part in self.pixels for digest in self.pixels[part]}
        _, pixels = picture_digests(pictures)
        return [index for index, digest in enumerate(pixels) if digest.tobytes() in known]

    def changes(self, now: Contract) -> list[str]:
        """What is different in the contract of the same source made later, in words; nothing where roots are equal."""
        if now.root == self.root:
            return []
        if now.classes != self.classes:
            return [f"the classes were {_first(self.classes)}; now they are {_first(now.classes)}"]
        found = []
        for part in PARTS:
            before, after = self._contents(part), now._contents(part)
            gone, new = list((before - after).elements()), list((after - before).elements())
            was, is_now = {name: rest for name, *rest in gone}, {name: rest for name, *rest in new}
            changed = sorted(was.keys() & is_now.keys())
            for what, names in (
                ("have changed", changed),
                ("are gone", sorted(was.keys() - is_now.keys())),
                ("are new", sorted(is_now.keys() - was.keys())),
            ):
                if names:
                    found.append(f"{len(names)} pictures of the {part} part {what} (for example {names[0]})")
        return found or ["the pictures stand in another order"]

    def save(self, folder: Path) -> None:
        """Writes ``split.safetensors`` (every picture's digests, label and name) and ``split.json`` (for people)."""
        tensors: dict[str, Tensor] = {}
        for part in self.digests:
            names = np.frombuffer(os.fsencode("\0".join(self.names[part])), np.uint8)
            arrays: tuple[NDArray[Any], ...] = (self.digests[part], self.pixels[part], self.labels[part], names)
            rows = zip(ARRAYS, arrays, strict=True)
            tensors |= {f"{part}.{name}": torch.from_numpy(array.copy()) for name, array in rows}
        header = {"format_version": FORMAT_VERSION, "classes": list(self.classes), "source": self.source}
        write_safetensors(folder / "split.safetensors", tensors, KIND, header)
        facts = {"source": self.source, "classes": list(self.classes), "root_sha256": self.root, "counts": self.counts}
        write_json(folder / "split.json", facts)

    @classmethod
    def load(cls, folder: Path) -> Contract:
        """Reads what `save` wrote.

        Raises:
            StoredFileError: one of the two files is damaged, or they do not belong together.
        """
        path = folder / "split.safetensors"
        tensors, header = read_safetensors(path, KIND, FORMAT_VERSION)
        try:
            parts = [part for part in PARTS if f"{part}.labels" in tensors]
            digests, pixels, labels, texts = (
                {part: tensors[f"{part}.{name}"].numpy() for part in parts} for name in ARRAYS
            )
            names = {
                part: tuple(os.fsdecode(text.tobytes()).split("\0"))[: len(labels[part])]
                for part, text in texts.items()
            }
            contract = cls(tuple(header["classes"]), digests, pixels, labels, names, str(header["source"]))
            root = contract.root
        except (KeyError, TypeError, ValueError) as error:
            raise not_a(path, "split contract", f"its parts do not fit together: {error}") from error
        if read_json(folder / "split.json", "split contract").get("root_sha256") != root:
            raise not_a(path, "split contract", "split.json beside it has another root digest")
        return contract

    def _contents(self, part: str) -> Counter[tuple[str, bytes, bytes]]:
        if part not in self.digests:
            return Counter()
        rows = zip(self.names[part], self.digests[part], self.labels[part], strict=True)
        return Counter((name, digest.tobytes(), label.tobytes()) for name, digest, label in rows)


def make_contract(splits: Splits, on_read: Callable[[], object] | None = None) -> Contract:
    """Reads every picture of every part.

    Args:
        splits: the parts.
        on_read: called for each picture, for a progress bar.

    Raises:
        PictureError: a picture cannot be read or decoded.
    """
    parts = splits.parts()
    read = {name: picture_digests(part, on_read) for name, part in parts.items()}
    return Contract(
        splits.classes,
        {name: digests for name, (digests, _) in read.items()},
        {name: pixels for name, (_, pixels) in read.items()},
        {name: part.labels for name, part in parts.items()},
        names_below(parts),
        splits.source,
    )


def _check_folds(folds: int | None, fold: int | None, val_fraction: float) -> None:
    if (folds, fold) == (None, None):
        return
    if folds is None or fold is None or not 1 <= fold <= folds or val_fraction != VAL_FRACTION:
        values = {"folds": folds, "fold": fold}.items()
        given = ", ".join(f"{name} = {'not given' if value is None else value}" for name, value in values)
        raise DataError(
            f"{given}, val_fraction = {val_fraction}",
            expected="both folds and fold, which is counted from 1; val_fraction excludes them",
            remedy="give folds = 5, fold = 1 … 5, and leave val_fraction out",
        )


def _first(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:20]) + (" …" if len(classes) > 20 else "")
