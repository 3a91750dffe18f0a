"""A stand-in for the module `os` as `eyebright.files` sees it: it lists the file operations, and spoils one of them."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eyebright import files

CHANGING = ("open", "write", "fsync", "replace", "unlink", "truncate", "ftruncate", "mkdir")


@dataclass(frozen=True)
class Operation:
    """One thing done to the disk.

    Attributes:
        what: the function of `os`: one of `CHANGING`.
        path: what it was done to (of "replace": what was put there).
        moment: "before", "halfway" (half of a write is done) or "after".
        source: of "replace": what was renamed.
    """

    what: str
    path: Path
    moment: str = "before"
    source: Path | None = None


class Disk:
    """Passes everything on to `os`, and calls `on` before and after each operation that changes something."""

    def __init__(self, on: Callable[[Operation], None]):
        self._on = on
        self._paths: dict[int, Path] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if not flags & os.O_CREAT:
            descriptor = os.open(path, flags, mode)
        else:
            descriptor = self._do(Operation("open", Path(path)), os.open, path, flags, mode)
        self._paths[descriptor] = Path(path)
        return descriptor

    def close(self, descriptor: int) -> None:
        del self._paths[descriptor]
        os.close(descriptor)

    def write(self, descriptor: int, data: memoryview) -> int:
        path = self._paths[descriptor]
        self._on(Operation("write", path))
        half = os.write(descriptor, data[: (len(data) + 1) // 2])
        self._on(Operation("write", path, "halfway"))
        half += os.write(descriptor, data[half:])
        self._on(Operation("write", path, "after"))
        return half

    def fsync(self, descriptor: int) -> None:
        self._do(Operation("fsync", self._paths[descriptor]), os.fsync, descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self._do(Operation("replace", Path(target), source=Path(source)), os.replace, source, target)

    def unlink(self, path: Path) -> None:
        self._do(Operation("unlink", Path(path)), os.unlink, path)

    def truncate(self, path: Path, length: int) -> None:
        self._do(Operation("truncate", Path(path)), os.truncate, path, length)

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._do(Operation("ftruncate", self._paths[descriptor]), os.ftruncate, descriptor, length)

    def mkdir(self, path: Path) -> None:
        self._do(Operation("mkdir", Path(path)), os.mkdir, path)

    def _do(self, operation: Operation, function: Callable[..., Any], *arguments: Any) -> Any:
        self._on(operation)
        result = function(*arguments)
        self._on(replace(operation, moment="after"))
        return result


@contextmanager
def installed(on: Callable[[Operation], None]) -> Iterator[None]:
    """Within the block `eyebright.files` works through a `Disk`."""
    before, files.os = files.os, Disk(on)
    try:
        yield
    finally:
        files.os = before


def kill_at(number: int, chosen: Callable[[Operation], bool]) -> Callable[[Operation], None]:
    """Kills this process, as `kill -9` does, at the `number`-th (from 0) of the chosen operations."""
    left = number

    def on(operation: Operation) -> None:
        nonlocal left
        if chosen(operation):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    return on


def full_at(number: int, code: int = errno.ENOSPC) -> Callable[[Operation], None]:
    """From the `number`-th (from 0) operation on nothing can be written: the disk is full. Removing still works.

    With ``code=errno.EROFS`` it is read-only.
    """
    left = number

    def on(operation: Operation) -> None:
        nonlocal left
        if operation.what in ("open", "write", "fsync", "mkdir") and operation.moment != "after":
            if left <= 0:
                raise OSError(code, os.strerror(code))
            left -= 1

    return on


@dataclass
class _Content:
    """A file's bytes, as written and as they were when last synced."""

    written: bytes = b""
    synced: bytes = b""


@dataclass(frozen=True)
class _Renaming:
    """A change of names: afterwards `path` is `content` (None: a folder), or nothing; and `source` is nothing."""

    path: Path
    content: _Content | None
    removed: bool = False
    source: Path | None = None

    def apply(self, names: dict[Path, _Content | None]) -> None:
        if self.source is not None:
            names.pop(self.source, None)
        if self.removed:
            names.pop(self.path, None)
        else:
            names[self.path] = self.content


class PowerCut:
    """Remembers what a disk may forget: what was written and not synced.

    Contents are safe once their file is synced; names (creation, renaming, removal) once their folder is. `survivors`
    gives what may be found after a power cut at the present moment. Only what happens below `root` is followed.
    """

    def __init__(self, root: Path):
        self.root = root
        self._names: dict[Path, _Content | None] = {}  # as every process sees them
        self._safe: dict[Path, _Content | None] = {}
        self._waiting: list[_Renaming] = []  # since their folder was synced

    def __call__(self, operation: Operation) -> None:
        path, what, moment = operation.path, operation.what, operation.moment
        if self.root not in path.parents and path != self.root:
            return
        if what in ("write", "ftruncate", "truncate") and moment != "before":
            self._content(path).written = path.read_bytes()
        elif moment != "after":
            return
        elif what == "open" and path not in self._names:
            self._rename(_Renaming(path, _Content()))
        elif what == "mkdir":
            self._rename(_Renaming(path, None))
        elif what == "replace":
            assert operation.source is not None
            self._rename(_Renaming(path, self._names[operation.source], source=operation.source))
        elif what == "unlink":
            self._rename(_Renaming(path, None, removed=True))
        elif what == "fsync" and path.is_dir():
            for change in self._waiting:
                if change.path.parent == path:
                    change.apply(self._safe)
            self._waiting = [change for change in self._waiting if change.path.parent != path]
        elif what == "fsync":
            self._content(path).synced = self._content(path).written

    def survivors(self, chance: random.Random) -> dict[Path, bytes | None]:
        """One of the states that may be found: path below the root → content, None for a folder.

        Of the names that wait for their folder's sync each change is kept or lost at random; of content that was not
        synced comes nothing, all, a part, or zeros in its place.
        """
        names = dict(self._safe)
        for change in self._waiting:
            if chance.random() < 0.5:
                change.apply(names)
        return {
            path.relative_to(self.root): None if content is None else _torn(content, chance)
            for path, content in sorted(names.items())
            if all(folder in names for folder in path.parents if self.root in folder.parents)
        }

    def _rename(self, change: _Renaming) -> None:
        change.apply(self._names)
        self._waiting.append(change)

    def _content(self, path: Path) -> _Content:
        content = self._names[path]
        assert content is not None
        return content


def _torn(content: _Content, chance: random.Random) -> bytes:
    synced, written = content.synced, content.written
    if synced.startswith(written):
        return chance.choice([synced, written])
    kept = synced if written.startswith(synced) else b""
    new = written[len(kept) :]
    part = chance.randint(0, len(new))
    return kept + chance.choice([b"", new, new[:part], bytes(len(new)), new[:part] + bytes(len(new) - part)])
