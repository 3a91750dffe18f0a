"""Whether one classifier is better than another: tests and intervals on the same pictures, and over seeds.

Source:
    McNemar: Note on the sampling error of the difference between correlated proportions, Psychometrika 12, 1947;
    Dietterich: Approximate statistical tests for comparing supervised classification learning algorithms, Neural
    Computation 10, 1998, §3; Newcombe: Improved confidence intervals for the difference between binomial proportions
    based on paired data, Statistics in Medicine 17, 1998, method 10; Holm, Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eyebright.evaluation.evaluate import wilson_interval

LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """How much more often the second of two classifiers is right than the first.

    Attributes:
        value: difference of the accuracies, second minus first.
        interval: its 95 % interval.
        p_value: how probable so large a difference, either way, is between two that are equally good.
        only_first, only_second: pictures that the one has right and the other has not; over seeds: None.
        by: ``"McNemar"``: on the same pictures; ``"seeds"``: over trainings, paired by their seeds where these agree.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    only_first: int | None
    only_second: int | None
    by: str


def compare_answers(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Difference:
    """Compares two classifiers on the same pictures: McNemar's exact test, Newcombe's interval.

    Args:
        first: which pictures the first has right, `[N]`.
        second: likewise.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    apart = only_first + only_second
    p_value = float(binomtest(only_first, apart).pvalue) if apart else 1.0
    counts = int((first & second).sum()), only_first, only_second, int((~first & ~second).sum())
    value = (only_second - only_first) / len(first)
    low, high = newcombe_interval(*counts)
    return Difference(value, (-high, -low), p_value, only_first, only_second, "McNemar")


def newcombe_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of (share right of the first) − (share right of the second), on the same pictures.

    Args:
        both: pictures that both have right.
        only_first: that only the first has.
        only_second: that only the second has.
        neither: that none has.
    """
    count = both + only_first + only_second + neither
    one, other = (both + only_first) / count, (both + only_second) / count
    (low, high), (least, most) = (
        wilson_interval(both + only_first, count), wilson_interval(both + only_second, count),
    )  # fmt: skip
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    product = both * neither - only_first * only_second
    if product > 0:
        phi = max(product - count / 2, 0) / math.sqrt(margins)  # corrected for continuity
    else:
        phi = product / math.sqrt(margins) if margins else 0.0
    below = (one - low) ** 2 - 2 * phi * (one - low) * (most - other) + (most - other) ** 2
    above = (high - one) ** 2 - 2 * phi * (high - one) * (other - least) + (other - least) ** 2
    difference = one - other
    return max(-1.0, difference - math.sqrt(max(below, 0.0))), min(1.0, difference + math.sqrt(max(above, 0.0)))


def compare_seeds(first: dict[int, float], second: dict[int, float]) -> Difference:
    """Compares two ways to train over several trainings each: Student's t where seeds are the same, else Welch's.

    Args:
        first: seed → accuracy; two at least.
        second: likewise.
    """
    from scipy import stats

    if first.keys() == second.keys():
        differences = np.array([second[seed] - first[seed] for seed in first])
        value, error = float(differences.mean()), float(stats.sem(differences))
        freedom = float(len(differences) - 1)
    else:
        one, other = np.array(list(first.values())), np.array(list(second.values()))
        value = float(other.mean() - one.mean())
        squares = [rows.var(ddof=1) / len(rows) for rows in (one, other)]
        error = math.sqrt(sum(squares))
        parts = sum(square**2 / (len(rows) - 1) for square, rows in zip(squares, (one, other), strict=True))
        freedom = sum(squares) ** 2 / parts if parts else float(len(one) + len(other) - 2)
    if error == 0:
        return Difference(value, (value, value), 1.0 if value == 0 else 0.0, None, None, "seeds")
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(value) / error, freedom))
    return Difference(value, (value - reach, value + reach), p_value, None, None, "seeds")


def adjust(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: what remains of several p-values when one asks whether any of them is chance."""
    order = np.argsort(p_values, kind="stable").tolist()
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted
