"""What picture files contain, as digests: computed once for each file and remembered."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from eyebright.data.ahead import ahead
from eyebright.data.decode import decode, read_file
from eyebright.errors import PictureError
from eyebright.files import cache_folder

FORMULA = 2  # counts the ways in which decoding or digesting has changed
AT_ONCE = 500  # files that are looked up in one question
PIECE_FILES, PIECE_BYTES = 16, 2**18  # that a thread reads before it hands them over: with a large one it ends
KEEP_EVERY = 1000  # new digests that are kept at a time: an interruption loses no more
SETTLED_NS = 2 * 10**9  # a file changed less than this ago could change again and keep its time
PATIENCE_SECONDS = 5, 0.1  # how long to wait for another process: once, and after that was in vain
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last: a table of another form
COLUMNS = "path, size, changed, encoded, pixels"

T = TypeVar("T")
Stamp = tuple[int, int]  # size, time of change in nanoseconds
Row = tuple[bytes, int, int, bytes, bytes]  # COLUMNS


class Digests(NamedTuple):
    """Of one picture: SHA-256 of the encoded bytes, and of the decoded pixels."""

    encoded: bytes
    pixels: bytes


class _File(NamedTuple):
    path: Path  # as it was given: what errors call it
    place: str  # where it is, whatever links lead there
    stamp: Stamp | None  # None: it cannot be found


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """The SHA-256 of a picture's shape and pixels, uint8 `[H, W, C]`, 32 bytes."""
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()


def file_digests(
    paths: Sequence[Path], *, on_read: Callable[[], object] | None = None, workers: int = 2
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The SHA-256 of every file's bytes and of its decoded pixels at full size.

    They are remembered by path, size and time of change: a second call reads nothing but those.

    Args:
        paths: picture files.
        on_read: called once for each file, for a progress bar.
        workers: threads that read and decode.

    Returns:
        Of the bytes and of the pixels: uint8 `[N, 32]` each, in the order of `paths`.

    Raises:
        PictureError: the first file in order that cannot be read or decoded.
    """
    found: list[Digests] = []
    with closing(try_digests(paths, on_read=on_read, workers=workers)) as each:
        for digests in each:
            if isinstance(digests, PictureError):
                raise digests
            found.append(digests)
    encoded, pixels = (b"".join(column) for column in zip(*found, strict=True)) if found else (b"", b"")
    return _as_rows(encoded), _as_rows(pixels)


def try_digests(
    paths: Sequence[Path], *, on_read: Callable[[], object] | None = None, workers: int = 2
) -> Generator[Digests | PictureError, None, None]:
    """As `file_digests`, one file after the other; in place of its digests the error, where a file cannot be read."""
    folders: dict[str, str] = {}
    with closing(_Memory(cache_folder() / "digests.sqlite")) as memory:
        for start in range(0, len(paths), AT_ONCE):
            files = [_look_at(path, folders) for path in paths[start : start + AT_ONCE]]
            known = memory.find(files)
            missing = [file for file in files if file.place not in known]
            with closing(_read_all(missing, workers, memory)) as read:
                for file in files:
                    digests = known[file.place] if file.place in known else next(read)
                    if on_read is not None:
                        on_read()
                    yield digests


def _as_rows(digests: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(digests, np.uint8).reshape(-1, 32).copy()


def _look_at(path: Path, folders: dict[str, str]) -> _File:
    """Where a file is, and its size and time; `folders` keeps which were resolved: for each file it would take long."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    place = os.path.join(folders[folder], name)  # noqa: PTH118 (twice as fast as a Path)
    try:
        details = os.lstat(place)
        if stat.S_ISLNK(details.st_mode):
            place = os.path.realpath(place)
            details = os.stat(place)  # noqa: PTH116
    except OSError:  # reading it will say why
        return _File(path, place, None)
    return _File(path, place, (details.st_size, details.st_mtime_ns))


def _read_all(files: Sequence[_File], workers: int, memory: _Memory) -> Generator[Digests | PictureError, None, None]:
    """Reads files in order, a few ahead, and has the memory keep what it may."""
    with closing(ahead(_try_read_piece, _in_pieces(files), workers)) as read:
        for piece in read:
            for file, found in piece:
                if isinstance(found, PictureError):
                    yield found
                    continue
                digests, stamp = found
                if stamp is not None:
                    memory.keep(file, stamp, digests)
                yield digests


def _in_pieces(files: Sequence[_File]) -> Iterator[list[_File]]:
    """Files one after the other, so many together that handing them to a thread and back costs little."""
    piece: list[_File] = []
    size = 0
    for file in files:
        piece.append(file)
        size += file.stamp[0] if file.stamp else 0
        if len(piece) == PIECE_FILES or size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _try_read_piece(files: list[_File]) -> list[tuple[_File, tuple[Digests, Stamp | None] | PictureError]]:
    return [(file, _try_read(file)) for file in files]


def _try_read(file: _File) -> tuple[Digests, Stamp | None] | PictureError:
    try:
        return _read(file)
    except PictureError as error:
        return error


def _read(file: _File) -> tuple[Digests, Stamp | None]:
    """One file's digests; and its size and time of change where these will tell a later change."""
    place = Path(file.place)
    begun = time.time_ns()  # before reading: a change while a slow disk reads must not look long past
    try:
        before = _stamp(place)
        data = read_file(place, str(file.path))
        after = _stamp(place)
    except OSError as error:
        path = file.path
        raise PictureError(
            f"cannot read {path}: {error.strerror or error}",
            expected="a file that this user may read",
            remedy="check the path and the permissions",
        ) from error
    digests = Digests(hashlib.sha256(data).digest(), pixel_digest(decode(data, str(file.path))))
    settled = before == after and begun - after[1] > SETTLED_NS
    return digests, after if settled else None


def _stamp(place: Path) -> Stamp:
    details = place.stat()
    return details.st_size, details.st_mtime_ns


class _Memory:
    """Digests by path, size and time of change, in an SQLite file. Whatever is wrong with it, it stops nothing.

    Paths are kept as bytes: not every file's name is text.
    """

    def __init__(self, path: Path):
        self._path = path
        self._new: list[Row] = []
        self._connection: sqlite3.Connection | None = None
        self._begun_again = False
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def find(self, files: Sequence[_File]) -> dict[str, Digests]:
        """What is known of these files as they are now, by their places."""
        by_place = {os.fsencode(file.place): file for file in files}
        question = f"SELECT {COLUMNS}, checksum FROM digests_{FORMULA} WHERE path IN ({','.join('?' * len(by_place))})"
        rows: list[Any] = self._try(lambda memory: memory.execute(question, list(by_place)).fetchall(), [])
        known = {}
        for *row, checksum in rows:
            place, size, changed, encoded, pixels = row
            if checksum == _checksum(row) and by_place[place].stamp == (size, changed):
                known[by_place[place].place] = Digests(encoded, pixels)
        return known

    def keep(self, file: _File, stamp: Stamp, digests: Digests) -> None:
        """Keeps a file's digests, in a while."""
        self._new.append((os.fsencode(file.place), *stamp, *digests))
        if len(self._new) >= KEEP_EVERY:
            self._write()

    def close(self) -> None:
        """Keeps what has not been kept yet."""
        self._write()
        self._close()

    def _write(self) -> None:
        rows, self._new = [(*row, _checksum(row)) for row in self._new], []
        if rows:
            command = f"INSERT OR REPLACE INTO digests_{FORMULA} ({COLUMNS}, checksum) VALUES (?, ?, ?, ?, ?, ?)"
            self._try(lambda memory: memory.executemany(command, rows), None)

    def _try(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Does something in one transaction, in a new file where this one is damaged; or goes on without."""
        while self._connection is not None:
            try:
                with self._connection:
                    return work(self._connection)
            except OverflowError:  # a time before the year 1678
                break
            except sqlite3.Error as error:
                if not _is_damage(error):
                    self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * PATIENCE_SECONDS[1])}")
                    break
                self._begin_again()
        return otherwise

    def _open(self) -> None:
        try:
            self._connection = sqlite3.connect(self._path, timeout=PATIENCE_SECONDS[0])
            self._connection.text_factory = bytes  # a damaged row may hold text that is none
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS digests_{FORMULA} (path BLOB PRIMARY KEY, size INTEGER, changed INTEGER, "
                "encoded BLOB, pixels BLOB, checksum BLOB) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            if _is_damage(error):
                self._begin_again()
            else:
                self._close()

    def _begin_again(self) -> None:
        """Removes a damaged file; once: if the next one is no better, it goes without."""
        self._close()
        if self._begun_again:
            return
        self._begun_again = True
        with suppress(OSError):
            self._path.with_name(f"{self._path.name}-journal").unlink(missing_ok=True)  # it is about the damaged file
            self._path.unlink(missing_ok=True)
        self._open()

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF in DAMAGED  # the low byte: the kind of error


def _checksum(row: Sequence[object]) -> bytes:
    return hashlib.blake2b(repr(tuple(row)).encode(), digest_size=8).digest()
