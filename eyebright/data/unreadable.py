"""Pictures that cannot be read: left out, and named."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from eyebright.data.decode import printable
from eyebright.data.digests import try_digests
from eyebright.data.images import ImageFiles, Pictures, names_below
from eyebright.data.labels import check_none_lost
from eyebright.errors import DataWarning, PictureError

MOST_NAMED = 20


def leave_out_unreadable(
    parts: Mapping[str, Pictures], on_read: Callable[[], object] | None = None
) -> tuple[dict[str, Pictures], str | None]:
    """The same parts without the files that cannot be read; a DataWarning says which, and why.

    Every file is decoded; what that gives is remembered, see `data.digests`.

    Args:
        parts: pictures by part.
        on_read: called for each file, for a progress bar.

    Returns:
        The parts, and what the warning says; None where every picture can be read.

    Raises:
        DataError: a class loses all its pictures of a part.
    """
    left: dict[str, Pictures] = {}
    named: list[str] = []
    names = names_below(parts)
    for part, pictures in parts.items():
        left[part] = pictures
        reasons = _find_reasons(pictures, on_read)
        if reasons:
            left[part] = pictures.select([index for index in range(len(pictures)) if index not in reasons])
            check_none_lost(pictures.labels, left[part].labels, pictures.classes, part, "none of them can be read")
        named += [f"{printable(names[part][index])} ({reason})" for index, reason in reasons.items()]
    if not named:
        return left, None
    more = [f"and {len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else []
    text = (
        f"{len(named)} of {sum(map(len, parts.values()))} pictures are left out because they cannot be read: "
        f"{'; '.join(named[:MOST_NAMED] + more)}"
    )
    warnings.warn(text, DataWarning, stacklevel=2)
    return left, text


def _find_reasons(pictures: Pictures, on_read: Callable[[], object] | None) -> dict[int, str]:
    """Why which pictures cannot be read, by their indices in order."""
    if not isinstance(pictures, ImageFiles):
        return {}
    found = enumerate(try_digests(pictures.paths, on_read=on_read))
    return {index: _reason(error, pictures.paths[index]) for index, error in found if isinstance(error, PictureError)}


def _reason(error: PictureError, path: Path) -> str:
    return error.problem.rpartition(f"{printable(str(path))}: ")[2]
