"""SOURCE → splits: a published set's name, a folder, an archive, a table, tars of samples, or an id of the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from eyebright.data.amend import amend
from eyebright.data.archives import is_archive, unpack
from eyebright.data.decode import SUFFIXES
from eyebright.data.downloads import data_root
from eyebright.data.groups import group_by_name
from eyebright.data.hub import PREFIX as HUB
from eyebright.data.hub import is_hub_id, load_hub
from eyebright.data.images import ImageFiles, Pictures, join_all
from eyebright.data.parquet import load_parquet, load_parquet_files
from eyebright.data.published import PUBLISHED
from eyebright.data.shards import PART_NAMES, expand_pattern, group_shards, is_pattern
from eyebright.data.split import VAL_FRACTION, Splits, make_splits
from eyebright.data.tables import load_csv, load_npz
from eyebright.data.webdataset import is_webdataset, load_webdataset
from eyebright.errors import DataError, did_you_mean

TABLES = {".csv": load_csv, ".npz": load_npz, ".parquet": load_parquet}


def load_data(
    source: str | Path,
    *,
    root: str | Path | None = None,
    val_fraction: float = VAL_FRACTION,
    test_fraction: float = 0.2,
    folds: int | None = None,
    fold: int | None = None,
    group_by: str | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    curation: str | Path | None = None,
    on_read: Callable[[], object] | None = None,
) -> Splits:
    """The three parts of a source of pictures.

    Args:
        source: the name of a published set (``"digits"``, ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"``,
            ``"cifar100"``, ``"tiny-imagenet"``, ``"imagenet"``), which never stands for other data; a folder of class
            folders, with or without train/val/test above them; a .zip or .tar(.gz/.xz) of one; a .csv or .parquet of
            paths and labels; an .npz of arrays; Parquet files with the pictures inside, or tars of samples
            (WebDataset), each as one file, a folder of them, or a pattern such as ``"train-{000..012}.tar"``; or a data
            set of the Hugging Face Hub, ``"hub:owner/name"`` or ``"owner/name"``.
        root: where published sets are looked for and fetched to (default: ``$EYEBRIGHT_DATA``, or the user's cache).
        val_fraction: share of the training part that becomes validation where the source has none; 0: none.
        test_fraction: share that becomes the test part where the source has none.
        folds: into how many folds validation goes round, instead of `val_fraction`; see `make_splits`.
        fold: which of them is validation, counted from 1.
        group_by: a regular expression whose first bracket, in the name of a picture, tells its group: pictures of one
            group stay in one part. A CSV may tell it in a column ``group`` instead.
        seed: of these cuts.
        skip_unreadable: whether pictures that cannot be read are left out; a DataWarning says which.
        curation: a file of decisions about pictures, see `data.decisions`; applied before anything is cut.
        on_read: called for each picture that `skip_unreadable` reads, for a progress bar.

    Raises:
        DataError: the source is missing or empty, has one class only, its parts do not agree, or the decisions are not
            about them.
        DownloadError: a published set or one of the Hub could not be fetched.

    >>> load_data("digits").test.labels.shape
    (360,)
    """
    parts, notes = amend(
        load_parts(source, root=root), skip_unreadable=skip_unreadable, curation=curation, on_read=on_read
    )
    if group_by is not None:
        parts = group_by_name(parts, group_by)
    splits = make_splits(
        parts,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        folds=folds,
        fold=fold,
        seed=seed,
        source=str(source),
    )
    return replace(splits, notes=notes)


def load_parts(source: str | Path, *, root: str | Path | None = None) -> dict[str, Pictures]:
    """The parts of a source as it has them, nothing cut: ``{"train": …}``, perhaps with ``"val"`` and ``"test"``."""
    with _as_data_error(source):
        name = str(source)
        if name in PUBLISHED:
            return PUBLISHED[name](data_root(root))
        if name.startswith(HUB):
            return load_hub(name.removeprefix(HUB))
        path = _expand(source)
        if path.is_dir():
            shards = find_shards(path)
            return _read_shards(shards, name) if shards else _read_folder(path, name)
        if path.is_file():
            return _read_file(path, name)
        if is_pattern(name):
            return _read_shards(expand_pattern(name), name)
        if _may_be_of_the_hub(path, name):
            return load_hub(name)
    names = ", ".join(PUBLISHED)
    raise DataError(
        f"there is no data at '{source}'",
        expected=f"one of the names {names}, a folder, archive or table that exists, or hub:owner/name",
        remedy=did_you_mean(name, PUBLISHED) or f"check the path; looked in {Path.cwd()}",
    )


def _read_file(path: Path, source: str) -> dict[str, Pictures]:
    if path.suffix.lower() in TABLES:
        return TABLES[path.suffix.lower()](path)
    if is_archive(path):
        unpacked = unpack(path)
        return load_webdataset({"train": [path]}) if is_webdataset(unpacked) else _read_folder(unpacked, source)
    raise DataError(
        f"{source} is a single file",
        expected="a folder of class folders, a .zip or .tar(.gz/.xz) of one, a .csv, a .parquet or an .npz",
        remedy="give the folder that holds the class folders",
    )


def _may_be_of_the_hub(path: Path, source: str) -> bool:
    """Whether what is no path may be an id. A missing file or folder of a folder that is there is a slip of the pen."""
    is_file = is_archive(path) or path.suffix.lower() in {*TABLES, *SUFFIXES}
    return is_hub_id(source) and not is_file and not path.parent.exists()


def load_pictures(source: str | Path, *, root: str | Path | None = None) -> Pictures:
    """All pictures of a source, one after the other; pictures that lie in no class folders are of the class ``""``.

    Raises:
        DataError: there are none, or the parts cannot be joined.
    """
    try:
        return join_all(load_parts(source, root=root))
    except DataError:
        with _as_data_error(source):
            paths = tuple(_find_loose(_expand(source)))
        if not paths:
            raise
    return ImageFiles(paths, np.zeros(len(paths), dtype=np.int64), ("",))


def _find_loose(path: Path) -> list[Path]:
    """The pictures in a folder or an archive, or a picture itself; none where a path is nothing of that."""
    if path.is_file() and not is_archive(path):
        return [path] if path.suffix.lower() in SUFFIXES else []
    return find_pictures(path if path.is_dir() else unpack(path)) if path.exists() else []


def find_pictures(folder: Path) -> list[Path]:
    """All pictures in a folder and below, by the endings of their names, sorted by path; hidden ones left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(map(_is_hidden, path.relative_to(folder).parts))
        and not path.is_dir()
    )


def gather_pictures(places: Iterable[str | Path]) -> list[Path]:
    """All picture files named by files, folders (with or without class folders) and archives, in order.

    Raises:
        DataError: a place does not exist, or has no pictures.
    """
    found: list[Path] = []
    for place in places:
        with _as_data_error(place):
            found += _gather(place)
    return found


def _gather(place: str | Path) -> list[Path]:
    path = _expand(place)
    if path.is_file() and not is_archive(path):
        return [path]
    if not path.exists():
        raise DataError(
            f"there is nothing at '{place}'",
            expected="a picture, a folder of pictures or an archive of them",
            remedy=f"check the path; looked in {Path.cwd()}",
        )
    pictures = find_pictures(path if path.is_dir() else unpack(path))
    if not pictures:
        raise DataError(
            f"there are no pictures in {place}",
            expected=f"files ending in {', '.join(sorted(SUFFIXES))}",
            remedy="check the path",
        )
    return pictures


@contextmanager
def _as_data_error(place: str | Path) -> Iterator[None]:
    """For what the operating system refuses: a folder that may not be read, a name too long."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot read {place}: {error.strerror or error}",
            expected="a folder, an archive or a picture that this user may read",
            remedy="check the path and the permissions",
        ) from error


def _expand(place: str | Path) -> Path:
    return Path(os.path.expanduser(place))  # noqa: PTH111 (Path's own raises where there is no such user)


def _read_folder(folder: Path, source: str) -> dict[str, Pictures]:
    subfolders = _subfolders(folder)
    while len(subfolders) == 1 and not find_part_folders(folder) and _subfolders(subfolders[0]):
        folder, subfolders = subfolders[0], _subfolders(subfolders[0])  # a wrapper, as archives often have
    part_folders = find_part_folders(folder)
    if not part_folders:
        return {"train": _read_part(folder, source, None)}
    if "train" not in part_folders:
        raise DataError(
            f"{source} has the parts {', '.join(part_folders)} and none called train",
            expected="a folder train with one folder a class, and perhaps val and test beside it",
            remedy="rename the folder with the training pictures to 'train'",
        )
    train = _read_part(part_folders.pop("train"), source, None)
    parts: dict[str, Pictures] = {"train": train}
    parts |= {name: _read_part(path, source, train.classes) for name, path in part_folders.items()}
    return parts


def find_shards(folder: Path) -> list[Path]:
    """The Parquet files in a folder or directly below it; else the tars in a folder without class folders."""
    tables = sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")])
    return tables or ([] if _subfolders(folder) else sorted(path for path in folder.glob("*.tar") if path.is_file()))


def _read_shards(files: list[Path], source: str) -> dict[str, Pictures]:
    """Several files of one data set, whose names say to which parts they belong."""
    above = Path(os.path.commonpath([path.parent for path in files]))
    by_name = {path.relative_to(above).as_posix(): path for path in files}
    parts = {part: [by_name[name] for name in names] for part, names in group_shards(by_name, source).items()}
    kinds = {path.suffix for path in files}
    if kinds == {".parquet"}:
        return load_parquet_files(parts)
    if kinds == {".tar"}:
        return load_webdataset(parts)
    raise DataError(
        f"{source} names files ending in {', '.join(sorted(kinds))}",
        expected="Parquet files alone, or tars of samples alone",
        remedy="narrow the pattern down, or give the folder that holds the class folders",
    )


def find_part_folders(folder: Path) -> dict[str, Path]:
    """The folders called train, val and test (or as in `PART_NAMES`) directly inside a folder."""
    inside = {path.name.lower(): path for path in _subfolders(folder)}
    return {part: inside[name] for part, names in PART_NAMES.items() for name in names if name in inside}


def _read_part(folder: Path, source: str, classes: tuple[str, ...] | None) -> ImageFiles:
    class_folders = _subfolders(folder)
    if not class_folders:
        loose = len(find_pictures(folder))
        raise DataError(
            f"{folder} has no class folders" + (f", but {loose} pictures" if loose else ""),
            expected="one folder a class, each with its pictures: cats/1.jpg, dogs/1.jpg",
            remedy="sort the pictures into folders named after what they show",
        )
    names = tuple(path.name for path in class_folders)
    if classes is None:
        classes = names
    elif unknown := [name for name in names if name not in classes]:
        raise DataError(
            f"{folder} has the classes {', '.join(unknown)}, which the training part does not have",
            expected=f"classes among {', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}",
            remedy="rename or remove these folders, or add their pictures to the training part",
        )
    paths: list[Path] = []
    labels: list[int] = []
    for class_folder in class_folders:
        pictures = find_pictures(class_folder)
        if not pictures:
            raise DataError(
                f"the class '{class_folder.name}' of {source} is empty: no pictures in {class_folder}",
                expected=f"files ending in {', '.join(sorted(SUFFIXES))}",
                remedy="add pictures to that folder or remove it",
            )
        paths += pictures
        labels += [classes.index(class_folder.name)] * len(pictures)
    return ImageFiles(tuple(paths), np.array(labels, dtype=np.int64), classes)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX", "__pycache__"))
