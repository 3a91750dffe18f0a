"""What picture files contain, as digests: computed once for each file and remembered."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eyebright.data.archives import cache_folder
from eyebright.data.decode import decode
from eyebright.errors import PictureError

FORMULA = 1  # counts the ways in which decoding or digesting has changed
AT_ONCE = 500  # files that are looked up in one question
KEEP_EVERY = 1000  # new digests that are kept at a time: an interruption loses no more
SETTLED_NS = 2 * 10**9  # a file changed less than this ago could change again and keep its time

Row = tuple[str, int, int, bytes, bytes]  # path, size, time of change, digest of bytes, digest of pixels


class Digests(NamedTuple):
    """Of one picture: SHA-256 of the encoded bytes, and of the decoded pixels."""

    encoded: bytes
    pixels: bytes


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
    with closing(_Memory(cache_folder() / "digests.sqlite")) as memory:
        found: list[Digests] = []
        for start in range(0, len(paths), AT_ONCE):
            some = paths[start : start + AT_ONCE]
            known = memory.find(some)
            missing = [path for path in some if path not in known]
            read = _read_all(missing, workers, memory)
            for path in some:
                found.append(known[path] if path in known else next(read))
                if on_read is not None:
                    on_read()
    encoded, pixels = (b"".join(column) for column in zip(*found, strict=True)) if found else (b"", b"")
    return _as_rows(encoded), _as_rows(pixels)


def _as_rows(digests: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(digests, np.uint8).reshape(-1, 32).copy()


def _read_all(paths: Sequence[Path], workers: int, memory: _Memory) -> Iterator[Digests]:
    """Reads files in order, a few ahead, and has the memory keep what it may."""
    with ThreadPoolExecutor(workers, thread_name_prefix="eyebright-digests") as pool:
        waiting: deque[tuple[Path, Future[tuple[Digests, tuple[int, int] | None]]]] = deque()
        upcoming = iter(paths)
        try:
            while True:
                while len(waiting) <= workers and (path := next(upcoming, None)) is not None:
                    waiting.append((path, pool.submit(_read, path)))
                if not waiting:
                    return
                path, future = waiting.popleft()
                digests, stamp = future.result()
                if stamp is not None:
                    memory.keep(path, stamp, digests)
                yield digests
        finally:
            for _, future in waiting:
                future.cancel()


def _read(path: Path) -> tuple[Digests, tuple[int, int] | None]:
    """One file's digests; and its size and time of change where these will tell a later change."""
    try:
        before = _stamp(path)
        data = path.read_bytes()
        after = _stamp(path)
    except OSError as error:
        raise PictureError(
            f"cannot read {path}: {error.strerror or error}",
            expected="a file that this user may read",
            remedy="check the path and the permissions",
        ) from error
    digests = Digests(hashlib.sha256(data).digest(), pixel_digest(decode(data, str(path))))
    settled = before == after and time.time_ns() - after[1] > SETTLED_NS
    return digests, after if settled else None


def _stamp(path: Path) -> tuple[int, int]:
    details = path.stat()
    return details.st_size, details.st_mtime_ns


class _Memory:
    """Digests by path, size and time of change, in an SQLite file. Whatever is wrong with it, it stops nothing."""

    def __init__(self, path: Path):
        self._path = path
        self._new: list[Row] = []
        self._connection: sqlite3.Connection | None = None
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # a damaged file is removed by the first attempt
            try:
                self._connection = sqlite3.connect(path, timeout=5)
                self._connection.execute(
                    f"CREATE TABLE IF NOT EXISTS digests_{FORMULA} (path TEXT PRIMARY KEY, size INTEGER, "
                    "changed INTEGER, encoded BLOB, pixels BLOB, checksum BLOB) WITHOUT ROWID"
                )
                return
            except sqlite3.Error as error:
                self._give_up(error)

    def find(self, paths: Sequence[Path]) -> dict[Path, Digests]:
        """What is known of these files as they are now."""
        if self._connection is None:
            return {}
        by_name = {os.path.abspath(path): path for path in paths}  # noqa: PTH100 (resolving links takes long)
        question = f"SELECT * FROM digests_{FORMULA} WHERE path IN ({','.join('?' * len(by_name))})"
        try:
            rows = self._connection.execute(question, list(by_name)).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return {}
        known = {}
        for *row, checksum in rows:
            name, size, changed, encoded, pixels = row
            with suppress(OSError):
                path = by_name[name]
                if checksum == _checksum(row) and _stamp(path) == (size, changed):
                    known[path] = Digests(encoded, pixels)
        return known

    def keep(self, path: Path, stamp: tuple[int, int], digests: Digests) -> None:
        """Keeps a file's digests, in a while."""
        self._new.append((os.path.abspath(path), *stamp, *digests))  # noqa: PTH100
        if len(self._new) >= KEEP_EVERY:
            self._write()

    def close(self) -> None:
        """Keeps what has not been kept yet."""
        self._write()
        self._give_up()

    def _write(self) -> None:
        rows, self._new = self._new, []
        if self._connection is None or not rows:
            return
        command = f"INSERT OR REPLACE INTO digests_{FORMULA} VALUES (?, ?, ?, ?, ?, ?)"
        try:
            with self._connection:
                self._connection.executemany(command, [(*row, _checksum(row)) for row in rows])
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: sqlite3.Error | None = None) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None
        if error is not None and not isinstance(error, sqlite3.OperationalError):  # damaged: begun again next time
            with suppress(OSError):
                self._path.unlink()


def _checksum(row: Sequence[object]) -> bytes:
    return hashlib.blake2b(repr(tuple(row)).encode(), digest_size=8).digest()
