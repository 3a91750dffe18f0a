"""Data sets of the Hugging Face Hub, as far as they are Parquet files. Needs the extra ``eyebright[hub]``."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Any

from eyebright.data.downloads import first_line
from eyebright.data.images import Pictures
from eyebright.data.parquet import load_parquet_files
from eyebright.data.shards import group_shards
from eyebright.errors import DataError, DownloadError

PREFIX = "hub:"
CONVERTED = "refs/convert/parquet"  # where the Hub keeps what it made itself of data sets in other forms
PARTIAL = "partial-"  # how the folders there begin of which it made only the first gigabytes
ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_hub_id(source: str) -> bool:
    """Whether a source has the form ``owner/name``."""
    return ID.fullmatch(source) is not None


def load_hub(name: str) -> dict[str, Pictures]:
    """The pictures of a data set of the Hugging Face Hub.

    Its Parquet files are fetched into the Hub's own cache, once. Their names say which part they are of. Where it has
    none, those are taken that the Hub made of it.

    Args:
        name: ``owner/name``; or ``owner/name/folder`` to choose one of several series of files.

    Raises:
        DataError: huggingface_hub or pyarrow is not installed, or the files will not do.
        DownloadError: there is no such data set, it asks for leave, it has no Parquet files, or there is no network and
            no copy from an earlier time.
    """
    owner, _, rest = name.partition("/")
    own, _, folder = rest.partition("/")
    repository = f"{owner}/{own}".strip("/")
    for revision in (None, CONVERTED):
        files = _list_files(repository, revision, f"{folder}/" if folder else "")
        if files:
            break
    else:
        raise _not_fetched(name, "it has no Parquet files" + (f" in {folder}" if folder else ""))
    if any(PARTIAL in file for file in files):
        raise _not_fetched(name, "the Hub made Parquet files of its first gigabytes only")
    parts = group_shards(files, f"{PREFIX}{name}")
    chosen = [glob.escape(file) for names in parts.values() for file in names]
    place = _snapshot(repository, revision, chosen, local_files_only=False)
    return load_parquet_files({part: [place / file for file in names] for part, names in parts.items()})


def _list_files(repository: str, revision: str | None, start: str) -> list[str]:
    """The Parquet files of a data set: none where there is no such revision; without a network earlier ones."""
    library = _library()
    try:
        # the library's own list of files tries again for half a minute where there is no network
        siblings = library.HfApi().repo_info(repository, repo_type="dataset", revision=revision).siblings
        names = [sibling.rfilename for sibling in siblings or []]
    except library.errors.RevisionNotFoundError:
        return []
    except Exception as error:  # of several libraries: of the network, of HTTP, of the Hub
        try:
            place = _snapshot(repository, revision, [f"{glob.escape(start)}*.parquet"], local_files_only=True)
        except DownloadError:
            raise _not_fetched(repository, first_line(error)) from error
        names = [path.relative_to(place).as_posix() for path in place.rglob("*.parquet")]
    return sorted(name for name in names if name.endswith(".parquet") and name.startswith(start))


def _snapshot(repository: str, revision: str | None, patterns: list[str], *, local_files_only: bool) -> Path:
    download = _library().HfApi().snapshot_download
    try:
        place = download(
            repository,
            repo_type="dataset",
            revision=revision,
            allow_patterns=patterns,
            local_files_only=local_files_only,
        )
    except Exception as error:  # as above
        raise _not_fetched(repository, first_line(error)) from error
    return Path(place)


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise DataError(
            "data sets of the Hugging Face Hub cannot be fetched: huggingface_hub is not installed",
            expected="the packages of the extra eyebright[hub], or the path of a folder that is there",
            remedy="pip install 'eyebright[hub]', or check the path",
        ) from error
    return huggingface_hub


def _not_fetched(name: str, reason: str) -> DownloadError:
    return DownloadError(
        f"could not fetch the data set {name} from the Hugging Face Hub: {reason}",
        expected="the id owner/name of a data set there that may be read, with Parquet files, and a network",
        remedy=f"check the id; or, where a folder was meant, the path, which is not there from {Path.cwd()}",
    )
