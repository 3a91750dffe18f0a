"""Archives of pictures, unpacked once into the cache, with limits on what a stranger's archive may do."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import IO, Any, Self

import numpy as np
import platformdirs
import torch
from filelock import FileLock
from torch import Tensor

from eyebright.errors import ArchiveError, OutputError, StoredFileError
from eyebright.files import make_folder
from eyebright.tensors import read_safetensors, write_safetensors

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")
MAX_ENTRIES = 5_000_000
MAX_BYTES = 500 * 2**30
FREE_BYTES = 2**30  # an archive may always grow to this size …
MAX_RATIO = 100  # … and beyond it to this many times its own: pictures are compressed already
MAX_NAME = 2**20  # bytes of a tar's long name or of the notes before an entry: tarfile reads them whole
MAX_TAIL = 2**20  # bytes after a tar's end mark, where padding stands
MANIFEST = "eyebright.manifest"

# what the operating system says when it is the archive that is wrong: a name twice, a name that is a file and a folder,
# a name too long; None comes from decompressors
ARCHIVE_FAULTS = (None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


def cache_folder() -> Path:
    """Where eyebright keeps what it can make again: ``$EYEBRIGHT_CACHE``, or the system's place for such things."""
    return Path(os.environ.get("EYEBRIGHT_CACHE") or platformdirs.user_cache_dir("eyebright"))


def is_archive(path: Path) -> bool:
    """Whether the file's name ends like an archive's that `unpack` reads."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path) -> Path:
    """The folder that holds an archive's files: unpacked now, or found in the cache from an earlier time.

    Args:
        path: a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2.

    Returns:
        A folder in the cache, named after the archive's place, size and time of change. One whose files are no longer
        as they were unpacked is unpacked again.

    Raises:
        ArchiveError: damaged, or with absolute or upward paths, links, devices, or an unreasonable size. Nothing of it
            is left behind.
    """
    details = path.stat()
    key = f"{path.resolve()}:{details.st_size}:{details.st_mtime_ns}"
    target = cache_folder() / "archives" / f"{path.stem}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
    if _is_whole(target):
        return target / "files"
    locks = cache_folder() / "locks"
    for folder in (target.parent, locks):
        make_folder(folder)
    limit = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * details.st_size))
    unfinished = target.with_name(f".unpacking-{target.name}")
    try:
        with FileLock(locks / f"{target.name}.lock"):
            if _is_whole(target):  # another process has unpacked it while this one waited
                return target / "files"
            for stale in (target, unfinished):  # damaged; or left by a process that was killed
                shutil.rmtree(stale, ignore_errors=True)
            try:
                (unfinished / "files").mkdir(parents=True)
                _write_entries(_entries(path), unfinished / "files", path, limit)
                _write_manifest(unfinished)
                unfinished.rename(target)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except (
        zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, RuntimeError,
    ) as error:  # fmt: skip
        raise _refused(path, f"it cannot be unpacked: {error}") from error
    except OSError as error:
        if error.errno in ARCHIVE_FAULTS:
            raise _refused(path, f"it cannot be unpacked: {error.strerror or error}") from error
        raise OutputError(
            f"cannot unpack {path} into {target.parent}: {error.strerror or error}",
            expected="room for the pictures on that disk, and leave to write there",
            remedy="free some room, or set EYEBRIGHT_CACHE to another folder",
        ) from error
    return target / "files"


def _write_manifest(folder: Path) -> None:
    """Keeps which files were unpacked, so that a later use can tell whether they are all there and as they were."""
    if hasattr(os, "sync"):
        os.sync()  # once for all files: one by one takes minutes
    found = _list_files(folder / "files")
    names = "\0".join(found).encode("utf-8", "surrogateescape")
    tensors = {"names": torch.from_numpy(np.frombuffer(bytearray(names), np.uint8)), "stamps": _stamps(found)}
    write_safetensors(folder / "manifest.safetensors", tensors, MANIFEST, {"format_version": 1})


def _is_whole(folder: Path) -> bool:
    """Whether an unpacked archive has all its files, with the sizes and times that they had."""
    try:
        tensors, _ = read_safetensors(folder / "manifest.safetensors", MANIFEST, newest_version=1)
        found = _list_files(folder / "files")
    except (StoredFileError, OSError):
        return False
    names = "\0".join(found).encode("utf-8", "surrogateescape")
    return tensors["names"].numpy().tobytes() == names and torch.equal(tensors["stamps"], _stamps(found))


def _stamps(found: dict[str, tuple[int, int]]) -> Tensor:
    return torch.tensor(list(found.values()), dtype=torch.int64)


def _list_files(folder: Path) -> dict[str, tuple[int, int]]:
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


def _entries(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of every regular file, in order."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _refused(path, f"the entry {entry.filename!r} is a link or a device")
                if not entry.filename.endswith("/"):  # is_dir() stumbles over an empty name
                    with archive.open(entry) as content:
                        yield entry.filename, entry.file_size, content
        return
    with _decompressed(path) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_TarEntry) as archive:
        for member in archive:
            if member.isdir():
                continue
            extracted = archive.extractfile(member) if member.isreg() else None
            if extracted is None:
                raise _refused(path, f"the entry {member.name!r} is a link or a device")
            yield member.name, member.size, extracted
        if len(stream.read(MAX_TAIL)) == MAX_TAIL:  # reading to the end also compares gzip's checksum
            raise _refused(path, "more stands after its end")


def _decompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(3)
    opener: Any = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open, b"BZ": bz2.open}.get(start[:2], open)
    stream: IO[bytes] = opener(path, "rb")
    return stream


class _TarEntry(tarfile.TarInfo):
    """An entry's header. Tarfile takes a damaged or missing one for the archive's end; here it is an error."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:  # the mark that the archive ends here
            raise
        except HeaderError as error:
            raise ReadError(f"damaged or cut off: {error}") from error

    def _proc_member(self, archive: tarfile.TarFile) -> Any:  # tarfile's place for what a subclass adds
        if self.size < 0 or (self.size > MAX_NAME and not self.isreg()):
            raise ReadError(f"an entry of {self.size} bytes and type {self.type!r}")
        return super()._proc_member(archive)  # type: ignore[misc]


def _write_entries(entries: Iterator[tuple[str, int, IO[bytes]]], folder: Path, path: Path, limit: int) -> None:
    total = 0
    made: set[Path] = set()
    for count, (name, size, content) in enumerate(entries, start=1):
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0] or "\0" in name:
            raise _refused(path, f"the entry {name!r} would be written outside its folder")
        total += size
        if count > MAX_ENTRIES:
            raise _refused(path, f"it has more than {MAX_ENTRIES:,} entries")
        if total > limit:
            raise _refused(path, f"its content is larger than {limit / 2**30:.0f} GiB, for a file of this size")
        if parts[0] == "__MACOSX" or parts[-1].startswith("."):
            continue
        target = folder.joinpath(*parts)
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        with target.open("xb") as file:
            written = 0
            while chunk := content.read(min(2**20, size + 1 - written)):
                written += len(chunk)
                if written > size:
                    break
                file.write(chunk)
        if written != size:
            raise _refused(path, f"the entry {name!r} is not as large as it says")


def _refused(path: Path, reason: str) -> ArchiveError:
    return ArchiveError(
        f"refused the archive {path}: {reason}",
        expected="a whole .zip or .tar(.gz/.xz/.bz2) of class folders with pictures, and nothing but files and folders",
        remedy="make or download the archive again, or unpack it yourself and give the folder",
    )
