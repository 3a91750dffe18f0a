"""What is done to a source before it is cut: decisions about pictures are applied, unreadable ones left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eyebright.data.decisions import apply_decisions, read_decisions, tell_decisions
from eyebright.data.images import Pictures
from eyebright.data.unreadable import leave_out_unreadable


def amend(
    parts: dict[str, Pictures],
    *,
    skip_unreadable: bool = False,
    curation: str | Path | None = None,
    on_read: Callable[[], object] | None = None,
) -> tuple[dict[str, Pictures], tuple[str, ...]]:
    """The parts with decisions applied, and then without unreadable pictures; and what a report should say of that.

    Args:
        parts: pictures by part, as the source has them.
        skip_unreadable: whether pictures that cannot be read are left out; a DataWarning says which.
        curation: a file of decisions, see `data.decisions`.
        on_read: called for each picture that `skip_unreadable` reads, for a progress bar.

    Raises:
        DataError: the decisions are not about these pictures, or a class loses all of its own.
    """
    notes: list[str] = []
    if curation is not None:
        decisions = read_decisions(curation)
        parts = apply_decisions(parts, decisions, Path(curation).parent)
        notes.append(f"decisions of {curation}: {tell_decisions(decisions)}.")
    if skip_unreadable:
        parts, note = leave_out_unreadable(parts, on_read)
        notes += [f"{note}."] if note else []
    return parts, tuple(notes)
