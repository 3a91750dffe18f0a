"""Published files, fetched once from their canonical home and checked."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from eyebright.data.cache import lock, short_digest
from eyebright.errors import DownloadError, EyebrightError
from eyebright.files import CHUNK, UNFINISHED, make_folder, sync

PIECE = 2**14  # bytes that are taken from the network at a time: where it breaks off, an unfinished one is lost
PATIENCE_SECONDS = 30  # for an answer, and for the next bytes


def data_root(root: Path | str | None = None) -> Path:
    """Where published files are kept: `root`, else ``$EYEBRIGHT_DATA``, else the user's cache."""
    chosen = root or os.environ.get("EYEBRIGHT_DATA") or Path(platformdirs.user_cache_dir("eyebright")) / "data"
    return Path(chosen)


def fetch(url: str, checksum: str, folder: Path, name: str = "") -> Path:
    """Downloads one published file into `folder`, with progress, and checks it; found there, it is taken as it is.

    What came of a download that was cut off stays beside it with the ending .part. The next one goes on from there
    where the server allows it, and begins again where it does not or where the file has changed.

    Args:
        url: where it lives.
        checksum: ``"md5:…"`` or ``"sha256:…"`` and the digits that are known, the first of them at least; empty: none
            is known. Then every download begins again: nothing could tell whether two pieces belong together.
        folder: where it is put.
        name: under which it is put there; by default its own.

    Raises:
        DownloadError: no network, or what came is not the published file.
    """
    path = folder / (name or url.rsplit("/", 1)[1])
    if path.exists():
        return path
    make_folder(folder)
    part = path.with_name(path.name + UNFINISHED)
    try:
        with lock(f"fetching-{short_digest(str(path.resolve()))}"):
            if not path.exists():  # else another process has fetched it while this one waited
                _download(url, checksum, part)
                sync(part)
                part.replace(path)
    except EyebrightError:
        raise
    except Exception as error:  # requests, urllib3, OSError, ValueError (checksum): the reader needs the same advice
        raise DownloadError(
            f"could not fetch {url}: {first_line(error)}",
            expected=f"the published file{_in_words(checksum)}",
            remedy=f"try again, or fetch it on a machine with a network and put it here: {path}",
        ) from error
    return path


def matches(path: Path, checksum: str) -> bool:
    """Whether a file has this checksum, written as `fetch` takes it; one without digits matches all."""
    algorithm, _, digits = checksum.partition(":")
    if not digits:
        return True
    whole = hashlib.new(algorithm)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            whole.update(piece)
    return whole.hexdigest().startswith(digits)


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _download(url: str, checksum: str, part: Path) -> None:
    """Fills `part`, from where it ends, with the file; its checksum decides whether the pieces belong together.

    Raises:
        ValueError: what came, begun anew, has another checksum. It is removed.
    """
    known = bool(checksum.partition(":")[2])
    begun = part.stat().st_size if known and part.exists() else 0
    try:
        for start in (begun, 0) if begun else (0,):
            _receive(url, part, start)
            if matches(part, checksum):
                return
            part.unlink()
    except Exception:
        if part.exists() and not (known and part.stat().st_size):
            part.unlink()
        raise
    raise ValueError("what came has another checksum")


def _receive(url: str, part: Path, start: int) -> None:
    """Appends what the server has from byte `start` on; or, where it sends or has something else, begins again."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=PATIENCE_SECONDS) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:  # it was whole, or longer
            return
        response.raise_for_status()
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        mode = "ab" if start and response.status_code == requests.codes.partial_content and goes_on else "wb"
        length = int(response.headers.get("Content-Length") or 0)
        before = start if mode == "ab" else 0
        with part.open(mode) as file, _progress(part.stem, before, before + length) as advance:
            for piece in response.iter_content(PIECE):
                file.write(piece)
                advance(len(piece))


def _in_words(checksum: str) -> str:
    algorithm, _, digits = checksum.partition(":")
    known = {"md5": 32, "sha256": 64}.get(algorithm)
    if not digits or known is None:
        return ""
    name = {"md5": "MD5", "sha256": "SHA-256"}[algorithm]
    return f", with {name} {digits}" + ("" if len(digits) == known else "…")


@contextmanager
def _progress(name: str, begun: int, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a person's terminal, which the number of new bytes is told; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total or None, completed=begun)
        yield lambda count: bar.update(task, advance=count)
