"""A warning about data: what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NAMED = 20  # pictures of one finding that are named in full


@dataclass(frozen=True)
class Finding:
    """One thing to look into before training.

    Attributes:
        kind: a word for programs, for example ``"leakage"``.
        problem: what is wrong, in one sentence.
        remedy: what to do.
        count: how many pictures or classes it is about.
        pictures: the first `NAMED` of them by name, where it is about pictures.
        classes: their names, where it is about classes.
    """

    kind: str
    problem: str
    remedy: str
    count: int
    pictures: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def many(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> many(1, "picture"), many(2500, "picture"), many(2, "class", "classes")
    ('1 picture', '2,500 pictures', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(items: Sequence[str], most: int = 3) -> str:
    """The first few of some items, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more:,} more" if more > 0 else "")
