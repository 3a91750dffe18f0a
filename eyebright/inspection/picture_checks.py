"""What can be wrong with the pictures of a data set: each check looks at the facts and gives findings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from eyebright.data.labels import label_text
from eyebright.inspection.finding import NAMED, Finding, listed, many
from eyebright.inspection.picture_facts import Facts

SMALL = 32  # pixels of the shorter side, below which a picture among larger ones is odd
SMALL_SHARE = 1 / 4  # of the middle shorter side
TINY = 16  # pixels: most networks are for larger pictures

Place = tuple[str, int]  # part and index


def find_unreadable(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Pictures that cannot be read, with the reasons."""
    for part, rows in facts.items():
        if rows.reasons:
            reasons = [f"{rows.names[index]} ({reason})" for index, reason in rows.reasons.items()]
            yield Finding(
                "unreadable",
                f"{many(len(reasons), 'picture')} of {part} cannot be read: {listed(reasons)}",
                "repair them, or take them out of the folder",
                len(reasons),
                tuple(rows.names[index] for index in rows.reasons)[:NAMED],
            )


def find_two_labels(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """The same picture, by its pixels, under two classes, wherever."""
    found = []
    for group in same_pictures(facts):
        first, *others = group
        other = next(
            (place for place in others if _label(facts, place, classes) != _label(facts, first, classes)), None
        )
        if other is not None:
            found.append((first, other))
    if found:
        (first, other), *_ = found
        yield Finding(
            "two_labels",
            f"{many(len(found), 'picture')} stand{'s' if len(found) == 1 else ''} under more than one class: "
            f"{_name(facts, first)} ({_label(facts, first, classes)}) is the same as "
            f"{_name(facts, other)} ({_label(facts, other, classes)})",
            "keep each under the right class only: no network can learn both",
            len(found),
            tuple(_name(facts, first) for first, _ in found[:NAMED]),
        )


def find_leakage(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """The same picture, by its pixels, in two parts."""
    pairs: dict[tuple[str, str], list[tuple[Place, Place]]] = {pair: [] for pair in combinations(facts, 2)}
    for group in same_pictures(facts):
        firsts: dict[str, Place] = {}
        for place in group:
            firsts.setdefault(place[0], place)
        for place in group:
            for part, first in firsts.items():
                if (part, place[0]) in pairs:
                    pairs[part, place[0]].append((first, place))
    for (earlier, later), found in pairs.items():
        if found:
            first, other = found[0]
            yield Finding(
                "leakage",
                f"{many(len(found), 'picture')} of {later} {'is' if len(found) == 1 else 'are'} also in {earlier}: "
                f"{_name(facts, other)} is the same as {_name(facts, first)}",
                f"remove them from {earlier}: figures measured on {later} would be too good",
                len(found),
                tuple(_name(facts, place) for _, place in found[:NAMED]),
            )


def find_copies(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """The same picture, by its pixels, more than once in one part under one class."""
    for part, rows in facts.items():
        found = []
        for group in same_pictures({part: rows}):
            firsts: dict[str, Place] = {}
            for place in group:
                first = firsts.setdefault(_label(facts, place, classes), place)
                if first != place:
                    found.append((first, place))
        if found:
            first, other = found[0]
            yield Finding(
                "copies",
                f"{many(len(found), 'picture')} of {part} {'is a copy' if len(found) == 1 else 'are copies'} of "
                f"{'another' if len(found) == 1 else 'others'} in it: {_name(facts, other)} is the same as "
                f"{_name(facts, first)}",
                "remove the copies: they count twice, in training as in every figure",
                len(found),
                tuple(_name(facts, place) for _, place in found[:NAMED]),
            )


def find_constant(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Pictures of one colour, which show nothing."""
    for part, rows in facts.items():
        names = _named(rows, rows.constant)
        if names:
            yield Finding(
                "constant",
                f"{many(len(names), 'picture')} of {part} {'is' if len(names) == 1 else 'are'} one colour throughout: "
                f"{listed(names)}",
                "take them out: they show nothing of their class",
                len(names),
                names[:NAMED],
            )


def find_small(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Pictures far smaller than the others, or a set of tiny ones."""
    shorter = {part: np.minimum(rows.height, rows.width) for part, rows in facts.items()}
    known = np.concatenate([shorter[part][rows.readable] for part, rows in facts.items()])
    if len(known) == 0:
        return
    middle = float(np.median(known))
    if middle < TINY:
        yield Finding(
            "small",
            f"the shorter side of the pictures is {middle:.0f} pixels: most networks here are for larger ones",
            "set `resize` in the recipe's [prepare], as lenet5-digits does",
            len(known),
        )
    for part, rows in facts.items():
        names = _named(rows, rows.readable & (shorter[part] < SMALL) & (shorter[part] <= SMALL_SHARE * middle))
        if names:
            yield Finding(
                "small",
                f"{many(len(names), 'picture')} of {part} {'has' if len(names) == 1 else 'have'} a side of fewer than "
                f"{SMALL} pixels, where others have {middle:.0f}: {listed(names)}",
                "look whether they are thumbnails or icons, and replace them or take them out",
                len(names),
                names[:NAMED],
            )


def find_grey(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Grey pictures among colour ones, and grey ones that are stored in three equal channels."""
    known = np.concatenate([rows.channels[rows.readable] for rows in facts.values()])
    grey = int((known == 1).sum())
    if 0 < grey < len(known):
        names = tuple(name for rows in facts.values() for name in _named(rows, rows.channels == 1))
        yield Finding(
            "mixed_channels",
            f"{grey:,} of {many(len(known), 'picture')} {'is' if grey == 1 else 'are'} grey, the others are in colour",
            "leave `channels` in [prepare] at 3: grey ones become colour by repetition; or set it to 1 if colour does "
            "not matter",
            grey,
            names[:NAMED],
        )
    train = facts["train"]
    if train.readable.any() and train.grey[train.readable].all() and (train.channels == 3).any():
        count = int((train.channels == 3).sum())
        yield Finding(
            "grey_stored_as_colour",
            f"{many(count, 'picture')} of train {'is' if count == 1 else 'are'} stored in colour, and none shows any",
            "set `channels = 1` in the recipe's [prepare]: the same accuracy for less work",
            count,
        )


def find_turned(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Pictures that are upright only for those who read their EXIF entry."""
    names = tuple(name for rows in facts.values() for name in _named(rows, rows.turned))
    if names:
        total = sum(int(rows.readable.sum()) for rows in facts.values())
        yield Finding(
            "turned",
            f"{len(names):,} of {many(total, 'picture')} {'is' if len(names) == 1 else 'are'} stored turned or "
            f"mirrored, with an EXIF entry that says so: {listed(names)}",
            "nothing here: they are read upright; but see that whatever feeds the trained network turns them too",
            len(names),
            names[:NAMED],
        )


def same_pictures(facts: dict[str, Facts]) -> list[list[Place]]:
    """Groups of places where the same picture stands, by its pixels; in order."""
    groups: dict[bytes, list[Place]] = {}
    for part, rows in facts.items():
        for index in np.flatnonzero(rows.readable).tolist():
            groups.setdefault(rows.digests[index], []).append((part, index))
    return [group for group in groups.values() if len(group) > 1]


def _named(rows: Facts, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(rows.names[index] for index in np.flatnonzero(chosen).tolist())


def _name(facts: dict[str, Facts], place: Place) -> str:
    return facts[place[0]].names[place[1]]


def _label(facts: dict[str, Facts], place: Place, classes: tuple[str, ...]) -> str:
    return label_text(facts[place[0]].labels[place[1]], classes)
