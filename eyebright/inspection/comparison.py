"""Runs side by side: which is better on the same validation pictures, by how much, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from eyebright.errors import RunError
from eyebright.evaluation.evaluate import wilson_interval
from eyebright.evaluation.paired import LEVEL, Difference, adjust, compare_answers, compare_seeds
from eyebright.inspection.confusion import shorten
from eyebright.inspection.finding import many
from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, tidy


@dataclass(frozen=True, eq=False)
class Trained:
    """One run, or several that differ in their seeds only.

    Attributes:
        name: of the first of the runs.
        right: seed → which of the pictures are answered right, bool `[N]`.
    """

    name: str
    right: dict[int, NDArray[np.bool_]]

    @property
    def accuracies(self) -> dict[int, float]:
        """Seed → accuracy."""
        return {seed: float(rows.mean()) for seed, rows in self.right.items()}

    @property
    def accuracy(self) -> float:
        """The mean over seeds."""
        return float(np.mean(list(self.accuracies.values())))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several ways to train beside the best of them, or the one that was chosen before.

    Attributes:
        part: on which pictures: ``"val"`` or ``"test"``.
        count: how many.
        trained: the ways, the one that was chosen first, then the most accurate first.
        differences: of each other way, the best minus it; in their order.
        p_values: of these, corrected for there being several (Holm).
    """

    part: str
    count: int
    trained: tuple[Trained, ...]
    differences: tuple[Difference, ...]
    p_values: tuple[float, ...]

    @property
    def chosen(self) -> Trained:
        """What the others are set beside."""
        return self.trained[0]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; fractions are 0…1."""
        rows = []
        for place, one in enumerate(self.trained):
            row: dict[str, Any] = {"name": one.name, "accuracy": one.accuracy, "seeds": one.accuracies}
            if place:
                gap, p_value = self.differences[place - 1], self.p_values[place - 1]
                row["behind"] = {
                    "difference": gap.value, "interval": list(gap.interval), "p_value": gap.p_value,
                    "p_value_of_several": p_value, "only_best_right": gap.only_second, "only_it_right": gap.only_first,
                    "by": gap.by,
                }  # fmt: skip
            rows.append(row)
        return {"part": self.part, "pictures": self.count, "chosen": self.chosen.name, "runs": rows}


def compare_trained(trained: Sequence[Trained], part: str = "val", chosen: str | None = None) -> Comparison:
    """Sets the most accurate way to train beside each other one.

    Single runs are compared on the same pictures by McNemar's test: it says whether these two classifiers differ, not
    whether the ways to train them do. Where both have several seeds, their accuracies are compared: that says it.

    Args:
        trained: two or more, all on the same pictures.
        part: what these are of.
        chosen: name of the one that the others are set beside, where that has been chosen before.
    """
    order = sorted(trained, key=lambda one: (one.name != chosen, -one.accuracy))
    best = order[0]
    found = [_difference(other, best) for other in order[1:]]
    count = len(next(iter(best.right.values())))
    return Comparison(part, count, tuple(order), tuple(found), tuple(adjust([one.p_value for one in found])))


def check_same(names: Sequence[str], contents: Sequence[bytes], part: str) -> None:
    """Checks that runs were measured on the same pictures.

    Raises:
        RunError: they were not.
    """
    for name, content in zip(names, contents, strict=True):
        if content != contents[0]:
            raise RunError(
                f"{names[0]} and {name} have different {part} parts",
                expected="runs on the same pictures, in the same parts, with the same labels",
                remedy="train them with the same --data, data.split_seed and data.val_fraction",
            )


def say_comparison(comparison: Comparison) -> list[str]:
    """What there is to see, in sentences."""
    best, where = comparison.chosen, "validation" if comparison.part == "val" else "test"
    stands = "is best:" if best.accuracy >= max(one.accuracy for one in comparison.trained) else "is at"
    found = [
        f"on {many(comparison.count, f'{where} picture')} {best.name} {stands} {best.accuracy:.2%}"
        + (f", mean of {len(best.right)} seeds" if len(best.right) > 1 else "")
    ]
    for other, gap, p_value in zip(comparison.trained[1:], comparison.differences, comparison.p_values, strict=True):
        low, high = gap.interval
        text = (
            f"{other.name}, {other.accuracy:.2%}, is {100 * abs(gap.value):.2f} points "
            f"{'behind' if gap.value >= 0 else 'ahead'} "
            f"(95 % interval {100 * low:+.2f} to {100 * high:+.2f}, p = {p_value:.2g})"
        )
        if p_value >= LEVEL:
            text += ": no difference is shown"
        elif gap.by == "McNemar":
            text += (
                f": these two classifiers differ ({gap.only_second} pictures only {best.name} has right, "
                f"{gap.only_first} only {other.name}); whether the ways to train them do, only several seeds tell"
            )
        else:
            text += f": it is {'worse' if gap.value > 0 else 'better'}"
        found.append(text)
    return found


def draw_comparison(comparison: Comparison) -> Figure:
    """Draws each way's accuracy, a dot for a seed, and how far behind the best it is, with the 95 % interval."""
    rows = len(comparison.trained)
    figure = make_figure(11, 1.3 + 0.5 * rows)
    left, right = figure.subplots(1, 2, sharey=True)
    for place, one in enumerate(comparison.trained):
        values = list(one.accuracies.values())
        left.plot(values, [place] * len(values), "o", color=BLUE, alpha=0.6, markersize=5)
        if len(values) == 1:
            low, high = wilson_interval(round(values[0] * comparison.count), comparison.count)
            left.plot([low, high], [place, place], color=BLUE, linewidth=1.2)
        else:
            left.plot([one.accuracy] * 2, [place - 0.25, place + 0.25], color=BLUE, linewidth=2)
    for place, (gap, p_value) in enumerate(zip(comparison.differences, comparison.p_values, strict=True), 1):
        color = ORANGE if p_value < LEVEL else GREY
        right.plot([-end for end in gap.interval], [place, place], color=color, linewidth=1.6)
        right.plot(-gap.value, place, "o", color=color, markersize=6)
        right.annotate(f"p = {p_value:.2g}", (-gap.value, place), xytext=(0, 6), textcoords="offset points", fontsize=8)
    right.axvline(0, color=BLUE, linewidth=1)
    left.set_yticks(range(rows), [shorten(one.name, 28) for one in comparison.trained])
    left.set_ylim(rows - 0.5, -0.6)
    where = "validation" if comparison.part == "val" else "test"
    tidy(left, f"Accuracy on {where}", "dots: seeds; line: 95 % interval, or mean")
    tidy(right, f"Behind {shorten(comparison.chosen.name, 28)}", "difference, 95 % interval; grey: not shown")
    for axes in (left, right):
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def _difference(other: Trained, best: Trained) -> Difference:
    if len(other.right) > 1 and len(best.right) > 1:
        return compare_seeds(other.accuracies, best.accuracies)
    return compare_answers(next(iter(other.right.values())), next(iter(best.right.values())))
