"""ImageNet and Tiny ImageNet in their published layouts: one is asked for and never fetched, the other is fetched."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from eyebright.data.archives import unpack
from eyebright.data.decode import SUFFIXES
from eyebright.data.downloads import fetch, first_line
from eyebright.data.images import ImageFiles, Pictures
from eyebright.errors import DataError

TINY_ARCHIVE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
DEVKIT_TAR = f"{DEVKIT}.tar.gz"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
KAGGLE_PICTURES = "ILSVRC/Data/CLS-LOC"
KAGGLE_LABELS = "LOC_val_solution.csv"


@cache
def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and synset identifiers of the 1000 classes of ILSVRC 2012, in order."""
    text = resources.files("eyebright.data").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    rows = [line.split(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return tuple(name for _, name in rows), tuple(wnid for wnid, _ in rows)


def load_imagenet(root: Path) -> dict[str, Pictures]:
    """ILSVRC 2012: 1,281,167 + 50,000 photographs of 1,000 classes, in the order of their synset identifiers.

    Its terms leave fetching it to whoever agreed to them. In the folder ``imagenet`` under the root may lie the
    published archives (unpacked once into the cache), the folders that they become, or those of the Kaggle challenge.

    Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 115, 2015.
    """
    folder = root / "imagenet"
    train = _find(folder, ("train", f"{KAGGLE_PICTURES}/train"), TRAIN_TAR, nested=True)
    val = _find(folder, ("val", f"{KAGGLE_PICTURES}/val"), VAL_TAR, nested=False)
    names, wnids = imagenet_classes()
    parts: dict[str, Pictures] = {"train": _of_folders({wnid: train / wnid for wnid in wnids}, names)}
    if (val / wnids[0]).is_dir():
        parts["val"] = _of_folders({wnid: val / wnid for wnid in wnids}, names)
    else:
        parts["val"] = _of_labels(_pictures(val), _validation_labels(folder), wnids, names)
    return parts


def load_tiny_imagenet(root: Path) -> dict[str, Pictures]:
    """Tiny ImageNet: 100,000 + 10,000 pictures of 200 classes, 64×64 colour; its test part has no labels.

    Source: Y. Le and X. Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS231n, 2015.
    """
    folder = _tiny_folder(root / "tiny-imagenet")
    wnids = sorted(_lines(folder / "wnids.txt"))
    names = _tiny_names(folder / "words.txt", wnids)
    rows = [line.split("\t") for line in _lines(folder / "val" / "val_annotations.txt")]
    labels = {row[0]: row[1] for row in rows if len(row) > 1}
    return {
        "train": _of_folders({wnid: folder / "train" / wnid / "images" for wnid in wnids}, names),
        "val": _of_labels(_pictures(folder / "val" / "images"), labels, wnids, names),
    }


def _tiny_folder(folder: Path) -> Path:
    """The folder with the file wnids.txt: this one, or the one inside that the archive makes."""
    name = TINY_ARCHIVE.rpartition("/")[2]
    inside = name.removesuffix(".zip")
    for candidate in (folder, folder / inside):
        if (candidate / "wnids.txt").exists():
            return candidate
    return unpack(fetch(TINY_ARCHIVE, f"md5:{TINY_MD5}", folder)) / inside


def _tiny_names(path: Path, wnids: Iterable[str]) -> tuple[str, ...]:
    """The first word of each synset; of alike ones all their words, and where these are alike too, the identifier."""
    rows = (line.partition("\t") for line in _lines(path))
    words = {wnid: text for wnid, _, text in rows}
    whole = [words.get(wnid, wnid) for wnid in wnids]
    first = [text.partition(",")[0] for text in whole]
    counted, counted_whole = Counter(first), Counter(whole)
    return tuple(
        short if counted[short] == 1 else text if counted_whole[text] == 1 else f"{text} ({wnid})"
        for short, text, wnid in zip(first, whole, wnids, strict=True)
    )


def _find(folder: Path, places: Iterable[str], archive: str, nested: bool) -> Path:
    for place in places:
        if (folder / place).is_dir():
            return folder / place
    if (folder / archive).exists():
        return unpack(folder / archive, nested=nested)
    raise DataError(
        f"ImageNet is not whole in {folder}: neither {' nor '.join(places)} nor {archive} is there",
        expected=f"{TRAIN_TAR}, {VAL_TAR} and {DEVKIT_TAR}, or the folders train and val with one folder a class",
        remedy=f"its terms forbid fetching it for you: get these files from image-net.org and put them into {folder}",
    )


def _validation_labels(folder: Path) -> dict[str, str]:
    """File name → synset identifier of the validation pictures, from the development kit or Kaggle's list."""
    if (folder / KAGGLE_LABELS).exists():
        return _kaggle_labels(folder / KAGGLE_LABELS)
    places = [folder / DEVKIT / "data", folder / "data"]
    if (folder / DEVKIT_TAR).exists():
        places.append(unpack(folder / DEVKIT_TAR) / DEVKIT / "data")
    for place in places:
        if (place / GROUND_TRUTH).exists():
            return _devkit_labels(place)
    raise DataError(
        f"nothing in {folder} says what the validation pictures show",
        expected=f"{DEVKIT_TAR}, or {KAGGLE_LABELS}, or validation pictures in one folder a class",
        remedy=f"get the development kit (2.5 MB) from image-net.org and put it into {folder}",
    )


def _kaggle_labels(path: Path) -> dict[str, str]:
    """Each row is a picture's name and, for each box in it, the synset and four numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row.get("ImageId"), (row.get("PredictionString") or "").split()) for row in csv.DictReader(file)]
    return {f"{name}.JPEG": boxes[0] for name, boxes in rows if boxes}


def _devkit_labels(folder: Path) -> dict[str, str]:
    """The ground truth has the class of one picture a line, as an ILSVRC id; meta.mat says which synset that is.

    These ids are not in the order of the synsets.
    """
    from scipy.io import loadmat

    meta = folder / "meta.mat"
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except Exception as error:  # a reader meets arbitrary bytes: whatever it raises means that they are no such file
        raise _damaged(meta, first_line(error)) from error
    truth = folder / GROUND_TRUTH
    try:
        return {
            f"ILSVRC2012_val_{number:08}.JPEG": wnids[int(line)] for number, line in enumerate(_lines(truth), start=1)
        }
    except (KeyError, ValueError) as error:
        raise _damaged(truth, f"it has the class {error}, which meta.mat does not") from error


def _of_folders(folders: dict[str, Path], names: tuple[str, ...]) -> ImageFiles:
    """The pictures of one folder a class, given in the order of the classes."""
    pictures = [_pictures(folder) for folder in folders.values()]
    if empty := [folder for folder, found in zip(folders.values(), pictures, strict=True) if not found]:
        raise _damaged(empty[0], f"of {len(folders)} folders, one a class, {len(empty)} are missing or empty")
    counts = [len(found) for found in pictures]
    paths = tuple(path for found in pictures for path in found)
    return ImageFiles(paths, np.repeat(np.arange(len(folders), dtype=np.int64), counts), names)


def _of_labels(paths: list[Path], labels: dict[str, str], wnids: Iterable[str], names: tuple[str, ...]) -> ImageFiles:
    """Pictures whose classes a list tells by their file names."""
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    found = [numbers.get(labels.get(path.name, "")) for path in paths]
    known = [number for number in found if number is not None]
    if not paths or len(known) < len(paths):
        example = f", for example {paths[found.index(None)]}" if paths else ""
        raise DataError(
            f"of {len(paths)} validation pictures, {len(paths) - len(known)} have no known class{example}",
            expected=f"validation pictures with the published names; the list of their classes has {len(labels):,}",
            remedy="put the published pictures and lists there, unchanged",
        )
    return ImageFiles(tuple(paths), np.array(known, dtype=np.int64), names)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, first_line(error)) from error


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"cannot take pictures from {path}: {reason}",
        expected="the published files of the data set, unchanged",
        remedy="put them there again; what was fetched can be deleted, so that it is fetched again",
    )
