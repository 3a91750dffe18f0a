"""Class names that look like mistakes of sorting pictures into folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from eyebright.data.decode import SUFFIXES
from eyebright.data.labels import class_counts
from eyebright.inspection.finding import Finding, listed, many
from eyebright.inspection.picture_facts import Facts

LEFT_OVER = re.compile(
    r"(new|untitled) ?folder.*|neuer ordner.*|(copy|kopie) (of|von) .*|.*[ _-]+(copy|kopie)|.*\(\d+\)"
    r"|te?mp|misc|unsorted|images?|pictures?|photos?|imgs?|data(set)?|training|val(idation)?|test(ing)?|classes|labels",
    re.IGNORECASE,
)
SINGLES = 5  # classes of one picture each, from which on they look like files


def find_odd_names(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Names that differ by case, spaces or a plural s alone, with spaces at their ends, or of folders left over."""
    spaced = tuple(name for name in classes if name != " ".join(name.split()))
    if spaced:
        yield Finding(
            "class_names",
            f"{many(len(spaced), 'class name')} {'has' if len(spaced) == 1 else 'have'} spaces that are hard to see: "
            f"{listed([repr(name) for name in spaced])}",
            "rename the folders: whoever types the name leaves these spaces out",
            len(spaced),
            classes=spaced,
        )
    for group in alike(classes):
        yield Finding(
            "class_names",
            f"the classes {' and '.join(map(repr, group))} have almost the same name",
            "if they mean the same, put their pictures into one folder",
            len(group),
            classes=group,
        )
    odd = tuple(
        name
        for name in classes
        if LEFT_OVER.fullmatch(name.strip()) or PurePath(name).suffix.lower() in SUFFIXES | {".zip", ".tar", ".gz"}
    )
    if odd:
        yield Finding(
            "class_names",
            f"{many(len(odd), 'class name')} {'looks' if len(odd) == 1 else 'look'} like no class: "
            f"{listed([repr(name) for name in odd])}",
            "name each folder after what its pictures show, and take others out",
            len(odd),
            classes=odd,
        )
    counts = sum(class_counts(rows.labels, len(classes)) for rows in facts.values())
    single = tuple(name for name, count in zip(classes, np.atleast_1d(counts).tolist(), strict=True) if count == 1)
    if len(single) >= SINGLES and len(single) > len(classes) / 2:
        yield Finding(
            "class_names",
            f"{len(single):,} of {many(len(classes), 'class', 'classes')} have a single picture: {listed(single)}",
            "give the class as label, not the name of the file",
            len(single),
            classes=single,
        )


def alike(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Groups of names that differ by case, by spaces, hyphens and underscores, or by an s at the end alone.

    >>> alike(("cat", "Cat ", "dogs", "hot dog", "dog", "hot_dog"))
    [('cat', 'Cat '), ('dogs', 'dog'), ('hot dog', 'hot_dog')]
    """
    keys = {name: re.sub(r"[\s_-]+", " ", name.strip()).casefold() for name in names}
    groups: dict[str, list[str]] = {}
    for name, key in keys.items():
        singular = key[:-1] if key.endswith("s") and key[:-1] in keys.values() else key
        groups.setdefault(singular.replace(" ", ""), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
