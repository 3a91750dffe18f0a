"""Files that are replaced whole or not at all, whatever happens meanwhile, and JSON that knows its own checksum.

Everything that a run leaves behind is written here. A file is written beside its place, synced, and renamed over it;
then its folder is synced. So after a kill, a full disk or a power cut there stands the old file or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from eyebright.errors import OutputError, StoredFileError

Buffer = bytes | memoryview
CHUNK = 4 * 2**20  # bytes that are written or hashed at a time
MAX_JSON = 64 * 2**20  # bytes: a larger JSON file is none of ours
UNFINISHED = ".part"  # how the name of a file ends that is still being written
BINARY = getattr(os, "O_BINARY", 0)  # Windows would change line ends


def cache_folder() -> Path:
    """Where eyebright keeps what it can make again: ``$EYEBRIGHT_CACHE``, or the system's place for such things."""
    return Path(os.environ.get("EYEBRIGHT_CACHE") or platformdirs.user_cache_dir("eyebright"))


def write_atomically(path: Path, content: Iterable[Buffer]) -> None:
    """Replaces a file by the joined pieces of `content`.

    Raises:
        OutputError: the folder cannot be written or is gone, or the disk is full. What stood at `path` is still there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    with as_output_error(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
        try:
            try:
                for piece in content:
                    _write(descriptor, piece)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file by `text`, in UTF-8."""
    write_atomically(path, [text.encode()])


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces a JSON file by `value`, indented for people to read, with its checksum under the key ``sha256``."""
    signed = value | {"sha256": _checksum(value)}
    write_text(path, json.dumps(signed, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
        StoredFileError: missing, damaged, or changed since. `what` says what it should be.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"more than {MAX_JSON // 2**20} MiB")
        value = json.loads(path.read_text(encoding="utf-8"))
        checksum = value.pop("sha256")
    except OSError as error:
        raise not_a(path, what, error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise not_a(path, what, f"it is damaged: {str(error) or type(error).__name__}") from error
    if _checksum(value) != checksum:
        raise not_a(path, what, "its checksum is wrong: it is damaged, or was changed by hand")
    whole: dict[str, Any] = value
    return whole


def append_line(path: Path, line: str) -> None:
    """Adds a line to a text file, the whole line or nothing; `sync` makes it last.

    Raises:
        OutputError: it cannot be written; the lines before are untouched.
    """
    with as_output_error(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | BINARY, 0o666)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write(descriptor, f"{line}\n".encode())
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)


def sync(path: Path) -> None:
    """Makes what was appended to a file, and its name, outlast a power cut.

    Raises:
        OutputError: it is gone, or the disk is full.
    """
    with as_output_error(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_folder(path.parent)


def cut(path: Path, length: int) -> None:
    """Takes a file's end away: afterwards it has `length` bytes."""
    with as_output_error(path):
        os.truncate(path, length)


def remove(path: Path) -> None:
    """Removes a file, if it is there."""
    with as_output_error(path), suppress(FileNotFoundError):
        os.unlink(path)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, to last.

    Raises:
        OutputError: it cannot be made.
    """
    with as_output_error(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(folder)
            _sync_folder(folder.parent)
        if not path.is_dir():
            raise NotADirectoryError(f"{path} is a file")


def remove_unfinished(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left in a folder."""
    for path in folder.glob(f".*.{'[0-9a-f]' * 8}{UNFINISHED}"):
        remove(path)


def file_digest(path: Path, length: int | None = None) -> str:
    """The SHA-256 of a file, or of its first `length` bytes, in hexadecimal.

    Raises:
        StoredFileError: it cannot be read, or is shorter than that.
    """
    whole = hashlib.sha256()
    left = length
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK if left is None else min(CHUNK, left)):
                whole.update(piece)
                if left is not None:
                    left -= len(piece)
    except OSError as error:
        raise not_a(path, "file of a run or a transfer", error.strerror or str(error)) from error
    if left:
        raise not_a(path, "file of a run or a transfer", f"its last {left:,} bytes are missing")
    return whole.hexdigest()


def not_a(path: Path, what: str, reason: str) -> StoredFileError:
    """The error for a file that is not what it should be."""
    return StoredFileError(
        f"cannot read {path} as a {what}: {reason}",
        expected=f"a whole {what} that eyebright wrote",
        remedy="check the path; if the file was copied, copy it again; a run folder with checkpoints can be resumed",
    )


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Within the block, what the operating system refuses is an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}",
            expected="a folder that is there and that this user may write to, on a disk with room left",
            remedy="choose another place with `--out`, or free some room; what was there before is untouched",
        ) from error


def _write(descriptor: int, piece: Buffer) -> None:
    left = memoryview(piece).cast("B")
    while left:
        left = left[os.write(descriptor, left[:CHUNK]) :]


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows keeps names without being asked, and opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _checksum(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
