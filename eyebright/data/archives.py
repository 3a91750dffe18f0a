"""Archives of pictures, unpacked once into the cache, with limits on what a stranger's archive may do."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import IO, Any, Self

from eyebright.data.cache import make_once
from eyebright.errors import ArchiveError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")
MAX_ENTRIES = 5_000_000
MAX_BYTES = 500 * 2**30
FREE_BYTES = 2**30  # an archive may always grow to this size …
MAX_RATIO = 100  # … and beyond it to this many times its own: pictures are compressed already
MAX_NAME = 2**20  # bytes of a tar's long name or of the notes before an entry: tarfile reads them whole
MAX_TAIL = 2**20  # bytes after a tar's end mark, where padding stands

# what the operating system says when it is the archive that is wrong: a name twice, a name that is a file and a folder,
# a name too long; None comes from decompressors
ARCHIVE_FAULTS = (None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


def is_archive(path: Path) -> bool:
    """Whether the file's name ends like an archive's that `unpack` reads."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, *, nested: bool = False) -> Path:
    """The folder that holds an archive's files: unpacked now, or found in the cache from an earlier time.

    Args:
        path: a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2.
        nested: the archive holds plain tars, and each becomes a folder of its own name.

    Returns:
        A folder in the cache, named after the archive's place, size and time of change. One whose files are no longer
        as they were unpacked is unpacked again.

    Raises:
        ArchiveError: damaged, or with absolute or upward paths, links, devices, or an unreasonable size. Nothing of it
            is left behind.
        OutputError: the cache cannot be written, or the disk is full.
    """
    limit = size_limit(path)
    kind = "archives of archives" if nested else "archives"
    return make_once(path, kind, lambda folder: _write_files(path, folder, limit, nested))


def size_limit(path: Path) -> int:
    """How many bytes may come out of a file that packs others."""
    return min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * path.stat().st_size))


def _write_files(path: Path, folder: Path, limit: int, nested: bool) -> None:
    try:
        entries = _entries(path)
        _write_entries(_expanded(entries, path) if nested else entries, folder, path, limit)
    except (
        zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, RuntimeError,
    ) as error:  # fmt: skip
        raise _refused(path, f"it cannot be unpacked: {error}") from error
    except OSError as error:
        if error.errno not in ARCHIVE_FAULTS:
            raise
        raise _refused(path, f"it cannot be unpacked: {error.strerror or error}") from error


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
    with _decompressed(path) as stream:
        yield from _tar_entries(stream, path)


def _tar_entries(stream: IO[bytes], path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_TarEntry) as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # else every entry's header and notes stay in memory
            if member.isdir():
                continue
            extracted = archive.extractfile(member) if member.isreg() else None
            if extracted is None:
                raise _refused(path, f"the entry {member.name!r} is a link or a device")
            yield member.name, member.size, extracted
        if len(stream.read(MAX_TAIL)) == MAX_TAIL:  # reading to the end also compares gzip's checksum
            raise _refused(path, "more stands after its end")


def _expanded(entries: Iterator[tuple[str, int, IO[bytes]]], path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """The same, and in the place of every tar the files inside it."""
    for name, size, content in entries:
        if not name.endswith(".tar"):
            yield name, size, content
            continue
        for inner, inner_size, inner_content in _tar_entries(content, path):
            yield f"{name.removesuffix('.tar')}/{inner}", inner_size, inner_content


def _decompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(3)
    opener: Any = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open, b"BZ": bz2.open}.get(start[:2], open)
    stream: IO[bytes] = opener(path, "rb")
    return stream


class _TarEntry(tarfile.TarInfo):
    """An entry's header. Tarfile takes a damaged or missing one for the archive's end; here it is an error.

    It also reads notes before an entry (long names, pax headers) whole, whatever their size; here they have a limit.
    """

    # These two are passed by every header in all versions of tarfile. `frombuf`, which is documented, is not: newer
    # ones go round it.

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
        if self.type == tarfile.XGLTYPE and len(repr(archive.pax_headers)) > MAX_NAME:  # these are kept to the end
            raise ReadError(f"notes for all entries of more than {MAX_NAME} bytes")
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
