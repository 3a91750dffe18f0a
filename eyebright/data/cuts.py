"""Cuts: which pictures go to which part or fold, stratified and seeded; pictures of one group stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from eyebright.data.images import Pictures
from eyebright.data.labels import Labels, class_counts, is_multi_label, label_table
from eyebright.errors import DataError
from eyebright.random import generator

Indices = NDArray[np.int64]

TIE = 1e-3  # weight of a part's whole size beside its share of each class: it decides where those are equal


def cut_off(pictures: Pictures, fraction: float, seed: int, purpose: str) -> tuple[Indices, Indices]:
    """Cuts a fraction of the pictures off, at random and stratified; whole groups where there are some.

    Pictures with several labels are dealt out one by one, see `deal`.

    Args:
        pictures: to be cut.
        fraction: of the pictures to cut off.
        seed: of the cut.
        purpose: what they are cut off for, for the errors.

    Returns:
        Indices kept and indices cut off, both ascending.

    Raises:
        DataError: a class would stay without pictures, or has a single group.
    """
    if pictures.groups is None and not is_multi_label(pictures.labels):
        kept, cut = stratified_cut(pictures.labels, fraction, seed)
    else:
        part = _deal_groups(pictures, (1 - fraction, fraction), seed, f"cut {fraction:.0%} off for {purpose}")
        kept, cut = np.flatnonzero(part == 0), np.flatnonzero(part == 1)
    if len(cut) == 0 or _lacks_a_class(pictures, kept):
        raise DataError(
            f"{_count(pictures)} do not suffice to cut {fraction:.0%} off for {purpose}",
            expected=f"at least one picture in either part; the smallest class is '{_smallest(pictures)}'",
            remedy="add pictures, or set another fraction in the recipe's [data]",
        )
    return kept, cut


def make_folds(pictures: Pictures, folds: int, seed: int) -> list[tuple[Indices, Indices]]:
    """Divides pictures into folds for cross-validation, at random and stratified; whole groups where there are some.

    Without groups, where a picture has one label, folds differ by one picture at most, in all and in each class; the
    others are dealt out, see `deal`.

    Args:
        pictures: to be divided.
        folds: how many, at least 2.
        seed: of the division.

    Returns:
        For each fold the indices of the pictures to train on and of those to validate on, both ascending. Every picture
        is validated on exactly once.

    Raises:
        DataError: fewer than 2 folds; a fold would be empty, or hold all pictures of a class; a class has a single
            group.

    Source: Stone, Cross-validatory choice and assessment of statistical predictions, 1974.
    """
    if folds < 2:
        raise DataError(
            f"{folds} folds",
            expected="at least 2: one to validate on, the others to train on",
            remedy="give another number; 5 and 10 are usual",
        )
    if pictures.groups is None and not is_multi_label(pictures.labels):
        fold = _deal_pictures(pictures.labels, folds, seed)
    else:
        fold = _deal_groups(pictures, (1 / folds,) * folds, seed, f"make {folds} folds")
    found = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(folds)]
    if any(len(val) == 0 or _lacks_a_class(pictures, train) for train, val in found):
        raise DataError(
            f"{_count(pictures)} do not suffice for {folds} folds",
            expected="at least one picture in each fold, and outside of each fold at least one of each class; "
            f"the smallest class is '{_smallest(pictures)}'",
            remedy="add pictures, or make fewer folds",
        )
    return found


def stratified_cut(labels: Labels, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Cuts a fraction of every class off, at random.

    The number cut off is ``round(fraction · N)``; it is shared out over the classes in proportion, the remainders going
    to the classes with the largest fractional parts.

    Returns:
        Indices kept and indices cut off, both ascending.
    """
    counts = np.bincount(labels)
    exact = counts * fraction
    take = np.floor(exact).astype(np.int64)
    remainder = round(len(labels) * fraction) - int(take.sum())
    by_fraction = np.argsort(-(exact - take), kind="stable")
    take[by_fraction[:remainder]] += 1
    random = generator(seed, "split", len(labels))
    cut = np.zeros(len(labels), dtype=bool)
    for label, number in enumerate(take.tolist()):
        members = np.flatnonzero(labels == label)
        cut[members[torch.randperm(len(members), generator=random).numpy()[:number]]] = True
    return np.flatnonzero(~cut), np.flatnonzero(cut)


def deal(counts: Labels, sizes: Labels, shares: Sequence[float], seed: int) -> Indices:
    """Deals items out to parts, so that each part gets close to its share of every class.

    Greedy: the item that holds the largest share of any class comes first, among equals in random order. Each goes to
    where the parts' squared distances from their shares, divided by these, grow least (χ²); but where no more items of
    a class are left than parts that have none of it, to one of those.

    Args:
        counts: pictures of each class in each item, int64 `[G, K]`.
        sizes: pictures in each item, at least 1, int64 `[G]`.
        shares: of each part; they add up to 1.
        seed: of the order among equals.

    Returns:
        The part of each item, int64 `[G]`.

    Source: Sechidis et al., On the Stratification of Multi-label Data, 2011, §3: the rarest first, to where it lacks.
    """
    held = np.concatenate([counts, sizes[:, None]], axis=1)  # the last: of any class or none
    weight = 1 / np.maximum(held.sum(axis=0), 1)
    weight[-1] *= TIE
    order = torch.randperm(len(held), generator=generator(seed, "deal", len(held), len(shares))).numpy()
    order = order[np.argsort(-(held * weight).max(axis=1)[order], kind="stable")]
    share = np.array(shares)
    lacking = np.outer(share, held.sum(axis=0))
    without = np.ones(lacking.shape, dtype=bool)
    left = (held > 0).sum(axis=0)
    part = np.empty(len(held), dtype=np.int64)
    for item in order.tolist():
        own = held[item] > 0
        gain = ((2 * lacking - held[item]) * held[item] * weight**2).sum(axis=1) / share
        urgent = own & (left <= without.sum(axis=0))
        if (needy := without[:, urgent].any(axis=1)).any():
            gain[~needy] = -np.inf
        best = int(gain.argmax())
        part[item] = best
        lacking[best] -= held[item]
        without[best] &= ~own
        left -= own
    return part


def _deal_pictures(labels: Labels, folds: int, seed: int) -> Indices:
    """The fold of each picture: each class in random order, dealt out in turn where the class before ended."""
    shuffled = torch.randperm(len(labels), generator=generator(seed, "folds", folds)).numpy()
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[by_class] = np.arange(len(labels)) % folds
    return fold


def _deal_groups(pictures: Pictures, shares: Sequence[float], seed: int, purpose: str) -> Indices:
    """The part of each picture, where those of one group go to the same part; without groups each is one of its own."""
    table = label_table(pictures.labels, len(pictures.classes))
    if pictures.groups is None:
        return deal(table, np.ones(len(table), dtype=np.int64), shares, seed)
    names, group, sizes = np.unique(np.array(pictures.groups), return_inverse=True, return_counts=True)
    counts = np.zeros((len(names), len(pictures.classes)), dtype=np.int64)
    np.add.at(counts, group, table)
    single = np.flatnonzero((counts > 0).sum(axis=0) == 1)
    if len(single):
        alone = int(single[0])
        raise DataError(
            f"cannot {purpose}: all pictures of the class '{pictures.classes[alone]}' are in one group, "
            f"'{names[counts[:, alone].argmax()]}'",
            expected="at least two groups of each class, since a group stays on one side",
            remedy="add pictures of other groups, or leave the groups out (the column group, or group_by)",
        )
    return deal(counts, sizes, shares, seed)[group]


def _lacks_a_class(pictures: Pictures, indices: Indices) -> bool:
    return bool((class_counts(pictures.labels[indices], len(pictures.classes)) == 0).any())


def _smallest(pictures: Pictures) -> str:
    return pictures.classes[int(class_counts(pictures.labels, len(pictures.classes)).argmin())]


def _count(pictures: Pictures) -> str:
    groups = "" if pictures.groups is None else f" in {len(set(pictures.groups))} groups"
    return f"{len(pictures)} pictures{groups}"
