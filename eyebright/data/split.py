"""Train, validation and test parts, and the contract that says exactly which pictures are in which."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyebright.data.images import ImageFiles, Labels, Pictures
from eyebright.errors import DataError, PictureError
from eyebright.files import write_atomically, write_json
from eyebright.random import generator

PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set, with the same classes in the same order.

    Attributes:
        train: what is learnt from.
        val: what choices are made on; None where none was cut: then nothing is chosen.
        test: what the final figure is measured on, once.
        source: where they came from, as the user named it.
    """

    train: Pictures
    val: Pictures | None
    test: Pictures
    source: str = "arrays"

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


def make_splits(
    parts: dict[str, Pictures],
    *,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    source: str = "arrays",
) -> Splits:
    """Three parts from those given.

    Three given parts are taken as they are. Of two, the second, whether it is called val or test, is the **test** part,
    and validation is cut from train. Of one, both are cut. Cuts are stratified: every class keeps its share.

    Args:
        parts: ``"train"`` and perhaps ``"val"`` and ``"test"``.
        val_fraction: share of the training pictures that becomes validation; 0: none, then the last weights are kept.
        test_fraction: share that becomes the test part where only one part is given.
        seed: of the cuts. It belongs to the data, not to the run: runs of different seeds compare on the same pictures.
        source: what the user called the data.

    Raises:
        DataError: a part is missing or has a single class, parts differ in their classes, or a fraction leaves a
            class without pictures.
    """
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
        kept, cut = _cut(train, test_fraction, seed, "test")
        train, test = train.select(kept), train.select(cut)
    if val is None and val_fraction > 0:
        kept, cut = _cut(train, val_fraction, seed, "validation")
        train, val = train.select(kept), train.select(cut)
    return Splits(train, val, test, source)


def stratified_cut(labels: Labels, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts a fraction of every class off, at random.

    The number cut off is ``round(fraction · N)``; it is shared out over the classes in proportion, the remainders going
    to the classes with the largest fractional parts.

    Returns:
        Indices kept and indices cut off, both ascending.
    """
    counts = np.bincount(labels)
    exact = counts * fraction
    take = np.floor(exact).astype(np.int64)
    remainder = round(len(labels) * fraction) - int(take.sum())
    by_fraction = np.argsort(-(exact - take), kind="stable")
    take[by_fraction[:remainder]] += 1
    random = generator(seed, "split", len(labels))
    cut = np.zeros(len(labels), dtype=bool)
    for label, number in enumerate(take.tolist()):
        members = np.flatnonzero(labels == label)
        cut[members[torch.randperm(len(members), generator=random).numpy()[:number]]] = True
    return np.flatnonzero(~cut), np.flatnonzero(cut)


def picture_digests(pictures: Pictures) -> NDArray[np.uint8]:
    """The SHA-256 of every picture, uint8 `[N, 32]`: of the encoded bytes for files, of shape and pixels for arrays."""
    digests = np.empty((len(pictures), 32), dtype=np.uint8)
    for index in range(len(pictures)):
        if isinstance(pictures, ImageFiles):
            content = _read_bytes(pictures.paths[index])
        else:
            pixels = pictures.read(index)
            content = str(pixels.shape).encode() + pixels.tobytes()
        digests[index] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
    return digests


@dataclass(frozen=True, eq=False)
class Contract:
    """Which pictures, of which classes, are in which part.

    Attributes:
        classes: class names in order.
        digests: part → SHA-256 of each picture, uint8 `[N, 32]`.
        labels: part → int64 `[N]`.
        source: what the user called the data.
    """

    classes: tuple[str, ...]
    digests: dict[str, NDArray[np.uint8]]
    labels: dict[str, Labels]
    source: str

    @property
    def root(self) -> str:
        """One digest of everything: equal if and only if classes, pictures, labels, parts and order are."""
        whole = hashlib.sha256("\0".join(self.classes).encode())
        for part in PARTS:
            if part in self.digests:
                whole.update(part.encode() + self.digests[part].tobytes() + self.labels[part].tobytes())
        return whole.hexdigest()

    def shared(self) -> dict[tuple[str, str], list[tuple[int, int]]]:
        """The same picture in two parts: (part, part) → pairs of indices."""
        found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        names = [part for part in PARTS if part in self.digests]
        seen: dict[bytes, tuple[str, int]] = {}
        for part in names:
            for index, digest in enumerate(self.digests[part]):
                first = seen.setdefault(digest.tobytes(), (part, index))
                if first[0] != part:
                    found.setdefault((first[0], part), []).append((first[1], index))
        return found

    def save(self, folder: Path) -> None:
        """Writes ``split.json`` (for people) and ``split.npz`` (every picture's digest and label)."""
        arrays: dict[str, NDArray[Any]] = {f"{part}_digests": digests for part, digests in self.digests.items()}
        arrays |= {f"{part}_labels": labels for part, labels in self.labels.items()}

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]

        write_atomically(folder / "split.npz", write)
        write_json(
            folder / "split.json",
            {
                "source": self.source,
                "classes": list(self.classes),
                "root_sha256": self.root,
                "counts": {
                    part: np.bincount(labels, minlength=len(self.classes)).tolist()
                    for part, labels in self.labels.items()
                },
            },
        )


def make_contract(splits: Splits) -> Contract:
    """Hashes every picture of every part."""
    parts = splits.parts()
    digests = {name: picture_digests(part) for name, part in parts.items()}
    return Contract(splits.classes, digests, {name: part.labels for name, part in parts.items()}, splits.source)


def _cut(pictures: Pictures, fraction: float, seed: int, purpose: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    kept, cut = stratified_cut(pictures.labels, fraction, seed)
    counts = np.bincount(pictures.labels[kept], minlength=len(pictures.classes))
    if len(cut) == 0 or (counts == 0).any():
        smallest = pictures.classes[int(np.bincount(pictures.labels, minlength=len(counts)).argmin())]
        raise DataError(
            f"{len(pictures)} pictures do not suffice to cut {fraction:.0%} off for {purpose}",
            expected=f"at least one picture in either part; the smallest class is '{smallest}'",
            remedy="add pictures, or set another fraction in the recipe's [data]",
        )
    return kept, cut


def _first(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:20]) + (" …" if len(classes) > 20 else "")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PictureError(
            f"cannot read {path}: {error.strerror or error}",
            expected="a file that this user may read",
            remedy="check the path and the permissions",
        ) from error
