"""What can be wrong with the classes of a data set: their counts, how parts share them, and shortcuts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from eyebright.data.labels import class_counts, has_label
from eyebright.inspection.finding import Finding, listed, many
from eyebright.inspection.picture_facts import Facts

FEW = 10  # pictures of a class in training
IMBALANCE = 3.0  # largest class / smallest class
SIGNIFICANT = 0.001
EXPECTED = 5  # pictures in a cell, from which on the chi-square distribution holds (Cochran 1954)
TELLING = 0.99  # chance that a picture of the class exceeds one of another class
SAME_INSIDE, SAME_OUTSIDE = 0.95, 0.05  # shares of a class and of all others that have its usual size or format
ENOUGH = 10  # pictures of a class, and of others: with fewer, chance alone sets them apart too often

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def find_missing(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Classes without a picture in a part."""
    for part, rows in facts.items():
        missing = tuple(name for name, count in zip(classes, _counts(rows, classes), strict=True) if count == 0)
        if missing:
            yield Finding(
                "missing_class",
                f"{part} has no pictures of {listed(missing)}",
                "add some"
                + (": a class cannot be learnt without" if part == "train" else ": its figures say nothing of them"),
                len(missing),
                classes=missing,
            )


def find_few(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Classes with hardly a picture to learn from."""
    counts = _counts(facts["train"], classes)
    few = np.flatnonzero((counts > 0) & (counts < FEW))
    if len(few):
        names = tuple(classes[label] for label in few.tolist())
        numbers = [f"{classes[label]} ({counts[label]})" for label in few.tolist()]
        yield Finding(
            "few_pictures",
            f"{many(len(few), 'class has', 'classes have')} fewer than {FEW} pictures in train: {listed(numbers)}",
            "add pictures, or leave the class out; transfer learning needs the fewest",
            len(few),
            classes=names,
        )


def find_imbalance(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Classes of very different counts in training."""
    counts = _counts(facts["train"], classes)
    present = np.flatnonzero(counts)
    if len(present) == 0:
        return
    largest, smallest = int(counts.argmax()), int(present[counts[present].argmin()])
    ratio = counts[largest] / counts[smallest]
    if ratio > IMBALANCE:
        yield Finding(
            "imbalance",
            f"the class {classes[largest]} has {ratio:.1f} times as many pictures in train as {classes[smallest]} "
            f"({counts[largest]:,} and {counts[smallest]:,})",
            "look at the figures of each class, not at accuracy alone; add pictures of the small classes",
            2,
            classes=(classes[largest], classes[smallest]),
        )


def find_differing_parts(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Parts whose shares of classes differ from those of training by more than chance."""
    train = _counts(facts["train"], classes)
    for part, rows in facts.items():
        other = _counts(rows, classes)
        if part == "train" or not train.sum() or not other.sum():
            continue
        probability = compare_shares(train, other)
        if probability < SIGNIFICANT:
            here, there = train / train.sum(), other / other.sum()
            most = int(np.abs(train * other.sum() - other * train.sum()).argmax())  # in whole numbers: ties are ties
            yield Finding(
                "differing_parts",
                f"{part} has other shares of the classes than train (chi-square test, p = {probability:.1g}); most of "
                f"all {classes[most]}: {here[most]:.1%} of train, {there[most]:.1%} of {part}",
                "if they should be alike, put the pictures together and let them be cut at random, stratified; if not, "
                "look at the figures of each class",
                1,
                classes=(classes[most],),
            )


def compare_shares(first: Counts, second: Counts) -> float:
    """Pearson's chi-square test that two parts draw their classes alike: the probability of so large a difference.

    Classes with fewer than `EXPECTED` pictures to be expected in either part are taken together.

    Args:
        first: pictures of each class in one part, int64 `[K]`.
        second: in the other.
    """
    table = np.stack([first, second]).astype(np.float64)
    share = table.sum(axis=1, keepdims=True) / table.sum()
    small = (table.sum(axis=0) * share).min(axis=0) < EXPECTED
    table = np.column_stack([table[:, ~small], table[:, small].sum(axis=1)])
    expected = table.sum(axis=0) * share
    filled = expected.min(axis=0) > 0
    statistic = ((table - expected)[:, filled] ** 2 / expected[:, filled]).sum()
    return float(chdtrc(filled.sum() - 1, statistic)) if filled.sum() > 1 else 1.0


def find_shortcuts(facts: dict[str, Facts], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Classes of the training part that can be told by size, format or brightness: a network would learn that."""
    train, known = facts["train"], facts["train"].readable
    labels = train.labels[known]
    height, width = train.height[known], train.width[known]
    reasons: dict[int, str] = {}
    for words, values in (
        (("darker", "brighter"), train.brightness[known]),
        (("smaller", "larger"), (height * width).astype(np.float64)),
        (("narrower", "wider"), width / height),
    ):
        for label, wins in enumerate(win_rates(values, labels, len(classes)).tolist()):
            if max(wins, 1 - wins) >= TELLING:
                reasons.setdefault(
                    label, f"pictures of {classes[label]} are {words[wins > 0.5]} than nearly all others"
                )
    for what, texts in (
        ("", [f"{w}×{h} pixels" for h, w in zip(height.tolist(), width.tolist(), strict=True)]),
        ("", [form for form, readable in zip(train.formats, known.tolist(), strict=True) if readable]),
        ("stored in ", [("grey", "colour")[count > 1] for count in train.channels[known].tolist()]),
    ):
        for label, text in usual_values(np.array(texts), labels, len(classes)).items():
            reasons.setdefault(label, f"pictures of {classes[label]} are {what}{text}, and others are not")
    if reasons:
        told = sorted(reasons)[: 1 if len(classes) == 2 else None]  # of two classes, one tells the other
        yield Finding(
            "shortcut",
            f"{many(len(told), 'class', 'classes')} can be told without looking at what is shown: "
            f"{listed([reasons[label] for label in told])}",
            "take or choose the pictures of all classes in the same way: a network learns the easiest difference",
            len(told),
            classes=tuple(classes[label] for label in told),
        )


def win_rates(values: Floats, labels: Counts, classes: int) -> Floats:
    """For each class, the chance that the value of one of its pictures exceeds that of one of another class.

    A tie counts half: this is the area under the ROC curve of telling the class by the value alone (Mann and Whitney
    1947). 0.5 where the class or the rest has fewer than `ENOUGH` pictures.
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    inside = class_counts(labels, classes)
    outside = len(labels) - inside
    sums = np.array([ranks[has_label(labels, label)].sum() for label in range(classes)])
    wins = sums - inside * (inside + 1) / 2
    enough = (inside >= ENOUGH) & (outside >= ENOUGH)
    rates: Floats = np.where(enough, wins / np.maximum(inside * outside, 1), 0.5)
    return rates


def usual_values(values: NDArray[np.str_], labels: Counts, classes: int) -> dict[int, str]:
    """Classes nearly all of whose pictures have one value that hardly a picture of another class has, with it."""
    kinds, places = np.unique(values, return_inverse=True)
    found = {}
    for label in range(classes):
        own = np.bincount(places[has_label(labels, label)], minlength=len(kinds))
        inside, outside = own.sum(), len(labels) - own.sum()
        if min(inside, outside) < ENOUGH:
            continue
        usual = int(own.argmax())
        elsewhere = (places == usual).sum() - own[usual]
        if own[usual] >= SAME_INSIDE * inside and elsewhere <= SAME_OUTSIDE * outside:
            found[label] = str(kinds[usual])
    return found


def _counts(rows: Facts, classes: tuple[str, ...]) -> Counts:
    return class_counts(rows.labels, len(classes))
