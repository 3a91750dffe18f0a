"""Labels: one class for each picture, or several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eyebright.errors import DataError

Labels = NDArray[np.int64]  # [N], each an index into the classes; or [N, K] of 0 and 1: a picture can have several


def is_multi_label(labels: Labels) -> bool:
    """Whether a picture can have several labels, or none: `[N, K]` of 0 and 1 rather than `[N]`."""
    return labels.ndim == 2


def label_table(labels: Labels, classes: int) -> Labels:
    """Which picture has which label: int64 `[N, K]` of 0 and 1."""
    return labels if is_multi_label(labels) else np.eye(classes, dtype=np.int64)[labels]


def class_counts(labels: Labels, classes: int) -> Labels:
    """Pictures of each class, int64 `[K]`; a picture counts for each of its labels."""
    return labels.sum(axis=0) if is_multi_label(labels) else np.bincount(labels, minlength=classes)


def has_label(labels: Labels, label: int) -> NDArray[np.bool_]:
    """Which pictures have this label: bool `[N]`."""
    mask: NDArray[np.bool_] = labels[:, label] == 1 if is_multi_label(labels) else labels == label
    return mask


def label_text(label: np.int64 | Labels, classes: tuple[str, ...]) -> str:
    """One picture's label in words: its class, or all its classes; nothing where it has none."""
    if np.ndim(label) == 0:
        return classes[int(label)]
    return ", ".join(classes[place] for place in np.flatnonzero(label))


def members(labels: Labels, label: int) -> Labels:
    """Indices of the pictures that have this label, ascending."""
    return np.flatnonzero(has_label(labels, label))


def check_none_lost(before: Labels, after: Labels, classes: tuple[str, ...], part: str, cause: str) -> None:
    """Checks that every class that had pictures in a part still has some.

    Raises:
        DataError: one has lost them all; `cause` says by what.
    """
    counts = class_counts(before, len(classes)), class_counts(after, len(classes))
    if lost := [name for name, was, now in zip(classes, *counts, strict=True) if was and not now]:
        raise DataError(
            f"no picture of {', '.join(lost[:20])}{' …' if len(lost) > 20 else ''} is left in the {part} part: {cause}",
            expected="at least one picture of each class that the part had",
            remedy="add pictures of it, or take the class out of the data",
        )


def check_labels(labels: Labels, classes: tuple[str, ...], count: int) -> None:
    """Checks that labels are as many as pictures, and of these classes.

    Raises:
        DataError: they are not.
    """
    several = is_multi_label(labels)
    shape, largest = ((count, len(classes)), 1) if several else ((count,), len(classes) - 1)
    inside = labels.size == 0 or (labels.min() >= 0 and labels.max() <= largest)
    if labels.dtype != np.int64 or labels.shape != shape or not inside:
        span = f", from {labels.min()} to {labels.max()}" if labels.size else ""
        each = "0 or 1 for each class" if several else f"an index from 0 to {largest}"
        raise DataError(
            f"labels of {labels.dtype} with shape {list(labels.shape)}{span} "
            f"for {count} pictures of {len(classes)} classes",
            expected=f"int64 {list(shape)}, each {each}",
            remedy="give one label for each picture, counted from 0, or a row of 0 and 1 where it can have several",
        )
