"""Folders of files in the cache, made once from a file of the user's and found there again."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from eyebright.errors import OutputError, StoredFileError
from eyebright.files import cache_folder, make_folder
from eyebright.tensors import read_safetensors, write_safetensors

MAX_STEM = 50  # characters of a file's name in its folder's: with all else no more than the 255 bytes of a name
MANIFEST = "eyebright.manifest"
UNUSED_DAYS = 30  # after which what can be made again is removed


def lock(name: str) -> FileLock:
    """The lock of this name, for all processes of this machine that share the cache.

    Raises:
        OutputError: the cache cannot be written.
    """
    # Locks have a folder of their own and stay there: whoever removed one could take it from under a process that waits
    # for it, and a third process would then hold another lock of the same name.
    folder = cache_folder() / "locks"
    make_folder(folder)
    return FileLock(folder / f"{name}.lock")


def note_use(folder: Path) -> None:
    """Says that a folder of the cache is of use today."""
    with suppress(OSError):  # it may not be there yet
        os.utime(folder)


def remove_unused(folders: Iterable[Path]) -> None:
    """Removes those folders of the cache that have not been of use for 30 days, each whole or not at all."""
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for old in folders:
        with suppress(OSError):
            if old.stat().st_mtime < oldest:
                with tempfile.TemporaryDirectory(prefix=".", dir=old.parent) as grave:
                    old.rename(Path(grave, old.name))


def short_digest(text: str) -> str:
    """16 hexadecimal digits that stand for a text or path."""
    return hashlib.blake2b(os.fsencode(text), digest_size=8).hexdigest()


def make_once(path: Path, kind: str, write: Callable[[Path], None]) -> Path:
    """The folder with the files that were made of one file: made now, or found in the cache from an earlier time.

    Args:
        path: the file.
        kind: the folder in the cache for files made in this way.
        write: fills the empty folder that it is given.

    Returns:
        A folder in the cache, named after the file's place, size and time of change. One whose files are no longer as
        they were made is made again.

    Raises:
        OutputError: the cache cannot be written, or the disk is full. Nothing is left behind; so it is when `write`
            raises.
    """
    details = path.stat()
    digest = short_digest(f"{path.resolve()}:{details.st_size}:{details.st_mtime_ns}")
    target = cache_folder() / kind / f"{path.stem[:MAX_STEM]}-{digest}"
    if _is_whole(target):
        return target / "files"
    make_folder(target.parent)
    try:
        with lock(target.name):
            if not _is_whole(target):  # else another process has made it while this one waited
                _make_anew(target, write)
    except (OSError, NotImplementedError) as failure:  # the latter where a disk knows no locks
        error = failure if isinstance(failure, OSError) else OSError(*failure.args)
        raise OutputError(
            f"cannot unpack {path} into {target.parent}: {error.strerror or error}",
            expected="room for the pictures on that disk, and leave to write there",
            remedy="free some room, or set EYEBRIGHT_CACHE to another folder",
        ) from failure
    return target / "files"


def _make_anew(target: Path, write: Callable[[Path], None]) -> None:
    """Makes the folder `target` with all files and their manifest, or leaves nothing there."""
    unfinished = target.with_name(f".unpacking-{target.name}")
    for stale in (target, unfinished):  # damaged; or left by a process that was killed: the lock's holder has it alone
        _remove(stale)
    try:
        (unfinished / "files").mkdir(parents=True)
        write(unfinished / "files")
        _write_manifest(unfinished)
        unfinished.rename(target)  # files and manifest at once: neither ever stands there without the other
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_manifest(folder: Path) -> None:
    """Keeps which files were made, so that a later use can tell whether they are all there and as they were."""
    # One sync of everything, before the rename: of 60,000 files one by one it takes minutes. Where a system only begins
    # it here, a power cut may leave files cut off, which the manifest's sizes tell, or full of zeros, which the split
    # contract's digests tell.
    if hasattr(os, "sync"):
        os.sync()
    found = list_files(folder / "files")
    names = np.frombuffer(bytearray(_names(found)), np.uint8)
    tensors = {"names": torch.from_numpy(names), "stamps": _stamps(found)}
    write_safetensors(folder / "manifest.safetensors", tensors, MANIFEST, {"format_version": 1})


def _is_whole(folder: Path) -> bool:
    """Whether such a folder has all its files, and no others, with the sizes and times that they had."""
    try:
        tensors, _ = read_safetensors(folder / "manifest.safetensors", MANIFEST, newest_version=1)
        found = list_files(folder / "files")
    except (StoredFileError, OSError):
        return False
    return tensors["names"].numpy().tobytes() == _names(found) and torch.equal(tensors["stamps"], _stamps(found))


def _names(found: dict[str, tuple[int, int]]) -> bytes:
    return os.fsencode("\0".join(found))


def _stamps(found: dict[str, tuple[int, int]]) -> Tensor:
    return torch.tensor(list(found.values()), dtype=torch.int64)


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Relative path → size and time of change of every file in a folder and below, sorted."""
    found = {}
    waiting = [(str(folder), "")]
    while waiting:
        path, prefix = waiting.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    details = entry.stat(follow_symlinks=False)
                    found[prefix + entry.name] = details.st_size, details.st_mtime_ns
    return dict(sorted(found.items()))
