"""Published files, fetched once from their canonical home and checked."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import platformdirs

from eyebright.errors import DownloadError
from eyebright.files import CHUNK, make_folder


def data_root(root: Path | str | None = None) -> Path:
    """Where published files are kept: `root`, else ``$EYEBRIGHT_DATA``, else the user's cache."""
    chosen = root or os.environ.get("EYEBRIGHT_DATA") or Path(platformdirs.user_cache_dir("eyebright")) / "data"
    return Path(chosen)


def fetch(url: str, checksum: str, folder: Path, name: str = "") -> Path:
    """Downloads one published file into `folder`, with progress, and checks it; found there, it is taken as it is.

    Args:
        url: where it lives.
        checksum: ``"md5:…"`` or ``"sha256:…"`` and the digits that are known, the first of them at least; empty: none
            is known.
        folder: where it is put.
        name: under which it is put there; by default its own.

    Raises:
        DownloadError: no network, or what came is not the published file. Nothing half-fetched is left behind.
    """
    path = folder / (name or url.rsplit("/", 1)[1])
    if path.exists():
        return path
    import pooch

    make_folder(folder)
    pooch.get_logger().setLevel("ERROR")
    download = _downloader(path.name)

    def checked(address: str, output: str, caller: Any) -> None:
        download(address, output, caller)
        if not matches(Path(output), checksum):
            raise ValueError("what came has another checksum")

    try:
        pooch.retrieve(url, None, path.name, folder, downloader=checked)
    except Exception as error:  # requests, urllib3, OSError, ValueError (checksum): the reader needs the same advice
        raise DownloadError(
            f"could not fetch {url}: {first_line(error)}",
            expected=f"the published file{_in_words(checksum)}",
            remedy=f"fetch it on a machine with a network and put it here: {path}",
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


def _in_words(checksum: str) -> str:
    algorithm, _, digits = checksum.partition(":")
    known = {"md5": 32, "sha256": 64}.get(algorithm)
    if not digits or known is None:
        return ""
    name = {"md5": "MD5", "sha256": "SHA-256"}[algorithm]
    return f", with {name} {digits}" + ("" if len(digits) == known else "…")


def _downloader(name: str) -> Any:
    import pooch

    if not sys.stderr.isatty():
        return pooch.HTTPDownloader()
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    class Bar:
        """What pooch expects of a progress bar, drawn by rich."""

        def __init__(self) -> None:
            self.total = 0
            columns = (TextColumn(name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            self.progress = Progress(*columns, console=Console(stderr=True))
            self.task = self.progress.add_task(name, total=None)
            self.progress.start()

        def update(self, count: int) -> None:
            self.progress.update(self.task, total=self.total or None, advance=count)

        def reset(self) -> None:
            self.progress.reset(self.task)

        def close(self) -> None:
            self.progress.stop()

    return pooch.HTTPDownloader(progressbar=Bar())
