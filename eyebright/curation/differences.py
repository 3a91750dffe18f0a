"""In what two sets of pictures differ: statistics of their appearance, and the shares of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyebright.curation.appearance import SHARE, STATISTICS, Statistic
from eyebright.curation.permutation import Deals, Matrix, p_value
from eyebright.data.images import Pictures
from eyebright.data.labels import is_multi_label

LEVEL = 0.01  # of pairs of sets from one source, this share is called different


@dataclass(frozen=True, eq=False)
class Difference:
    """In how far one statistic of the second set's pictures differs from the first's.

    Attributes:
        statistic: which.
        first, second: its value for every picture looked at, `[N]` each, in the statistic's unit.
        p_value: the share of random deals in which any statistic differs as much: it is corrected for their number.
    """

    statistic: Statistic
    first: Matrix = field(repr=False)
    second: Matrix = field(repr=False)
    p_value: float

    @property
    def shift(self) -> float:
        """Mean of the second less mean of the first, in standard deviations (Cohen's d)."""
        return float((self.second.mean() - self.first.mean()) / np.sqrt(np.mean(np.square(self._spreads))))

    @property
    def widening(self) -> float:
        """Logarithm of the second's standard deviation divided by the first's: above 0 where it varies more.

        0 for shares: where those rise, they always vary more.
        """
        if self.statistic.unit.startswith(SHARE):
            return 0.0
        first, second = self._spreads
        return float(np.log(second / first))

    @property
    def size(self) -> float:
        """The larger of shift and widening, without its sign."""
        return max(abs(self.shift), abs(self.widening))

    @property
    def words(self) -> str:
        """What the second set's pictures are: ``"darker"``, or ``"more varied in brightness"``."""
        if abs(self.shift) >= abs(self.widening):
            return self.statistic.more if self.shift > 0 else self.statistic.less
        return f"{'more' if self.widening > 0 else 'less'} varied in {self.statistic.name}"

    @property
    def _spreads(self) -> tuple[float, float]:
        first, second = (np.hypot(values.std(), self.statistic.resolution) for values in (self.first, self.second))
        return float(first), float(second)

    def as_dict(self) -> dict[str, Any]:
        """All figures as plain values, the statistic's as means."""
        means = {"first": float(self.first.mean()), "second": float(self.second.mean()), "unit": self.statistic.unit}
        figures = {"shift": self.shift, "widening": self.widening, "p_value": self.p_value}
        return {"name": self.statistic.name, "words": self.words} | means | figures

    def __str__(self) -> str:
        if abs(self.shift) >= abs(self.widening):
            return f"{self.words} by {abs(self.shift):.2f} standard deviations"
        return f"{self.words} by a factor of {np.exp(abs(self.widening)):.2f}"


@dataclass(frozen=True, eq=False)
class LabelShift:
    """How the shares of the classes differ; a thing apart from how pictures look.

    Attributes:
        classes: names of the first set's classes, then of those that only the second has.
        first, second: shares of all pictures of a set, `[K]` each, 0…1.
        p_value: of a permutation test of Pearson's chi-squared.
    """

    classes: tuple[str, ...]
    first: Matrix
    second: Matrix
    p_value: float

    @property
    def same(self) -> bool:
        """Whether no difference was found at `LEVEL`."""
        return self.p_value > LEVEL

    @property
    def distance(self) -> float:
        """Total variation: the share of labels that would have to change, 0…1."""
        return float(np.abs(self.first - self.second).sum() / 2)

    def as_dict(self) -> dict[str, Any]:
        """All figures as plain values; fractions 0…1."""
        shares = {"first": self.first.tolist(), "second": self.second.tolist()}
        figures = {"p_value": self.p_value, "same": self.same, "distance": self.distance}
        return figures | {"classes": list(self.classes)} | shares

    def __str__(self) -> str:
        if self.same:
            return f"No difference found between the shares of the classes (p = {self.p_value:.2g})."
        most = int(np.abs(self.second - self.first).argmax())
        return (
            f"The classes have other shares (p = {self.p_value:.2g}): {self.classes[most]} "
            f"{self.first[most]:.1%} in the first set, {self.second[most]:.1%} in the second."
        )


def find_differences(first: Matrix, second: Matrix, by_statistic: Matrix) -> tuple[Difference, ...]:
    """What differs: found differences first, larger ones first; statistics that never vary are left out.

    Args:
        first: the appearance of the first set's pictures, `[N, S]`.
        second: of the second's.
        by_statistic: how much each statistic differs, in truth and in each random deal, `[S, P + 1]`.

    Source of the correction: Westfall and Young, Resampling-Based Multiple Testing, 1993, §2.3.
    """
    largest = by_statistic.max(axis=0)
    differences = [
        Difference(statistic, first[:, i], second[:, i], p_value(largest, float(by_statistic[i, 0])))
        for i, statistic in enumerate(STATISTICS)
        if by_statistic[i].any()
    ]
    return tuple(sorted(differences, key=lambda difference: (difference.p_value > LEVEL, -difference.size)))


def compare_labels(
    sets: tuple[Pictures, Pictures], chosen: Sequence[NDArray[np.int64]], deals: Deals
) -> LabelShift | None:
    """How the shares of the classes differ; None for a single class, classes of one set alone, or several labels.

    Args:
        sets: the first and the second.
        chosen: which of their pictures are looked at.
        deals: of those pictures, `[N, P + 1]`.
    """
    classes = tuple(dict.fromkeys((*sets[0].classes, *sets[1].classes)))
    if len(classes) < 2 or not set(sets[0].classes) & set(sets[1].classes):
        return None
    if any(is_multi_label(one.labels) for one in sets):
        return None
    place = {name: i for i, name in enumerate(classes)}
    labels = [np.array([place[name] for name in one.classes])[one.labels] for one in sets]
    looked_at = np.concatenate([one[rows] for one, rows in zip(labels, chosen, strict=True)])
    one_hot = np.eye(len(classes))[looked_at]  # [N, K]
    totals = one_hot.sum(axis=0)
    expected = totals * len(chosen[0]) / len(looked_at)
    squares = (one_hot.T @ deals - expected[:, None]) ** 2
    chi_squared = (squares / np.maximum(totals, 1)[:, None]).sum(axis=0)  # but for a factor that all deals share
    shares = [np.bincount(one, minlength=len(classes)) / len(one) for one in labels]
    return LabelShift(classes, shares[0], shares[1], p_value(chi_squared))
