"""Pictures unlike all others: in what they show, or in how they are taken: too dark, too blurred, of an odd size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eyebright.curation.appearance import STATISTICS
from eyebright.curation.out_of_fold import shorten, standardise

FARTHEST = 5.0  # robust standard deviations from the median, from which on a picture is called odd
SMALL = 0.01  # differences between distances, as a share of the mean distance, that mean nothing
DIRECTIONS = 64  # principal ones, in which distances are measured
NEIGHBOURS = 10
BLOCK = 1024  # pictures whose distances to all others are computed at a time
LOOKED_AT = {  # statistic → what is odd: less of it, more of it
    "brightness": ("too dark", "too bright"),
    "contrast": ("hardly any contrast", ""),
    "sharpness": ("blurred", ""),
    "noise": ("", "noisy"),
    "picture size": ("small", "large"),
    "aspect": ("tall and narrow", "wide and low"),
}

Values = NDArray[np.float64]

# what ends at 0 or 255 is spread out there: else no picture, however black, would be far from others that vary much
SPREAD_OUT: dict[str, Callable[[Values], Values]] = {
    "brightness": lambda grey: np.log2((grey + 1) / (256 - grey)),
    "contrast": lambda grey: np.log2(grey + 1),
}


@dataclass(frozen=True)
class Oddity:
    """In what a picture is odd.

    Attributes:
        index: of the picture.
        what: for example ``"too dark"``, ``"unlike all others"``.
        deviation: from the median of all pictures, in robust standard deviations; 0 or more.
    """

    index: int
    what: str
    deviation: float


def find_odd_looks(appearance: Values) -> list[Oddity]:
    """Pictures far from the others in brightness, contrast, sharpness, noise, size or aspect, the farthest first.

    Args:
        appearance: the `STATISTICS`, `[N, S]`, see `measure_appearance`.
    """
    found = []
    for column, statistic in enumerate(STATISTICS):
        less, more = LOOKED_AT.get(statistic.name, ("", ""))
        spread_out = SPREAD_OUT.get(statistic.name, np.asarray)
        values, median = appearance[:, column], float(np.median(appearance[:, column]))
        step = float(spread_out(np.array(median + statistic.resolution)) - spread_out(np.array(median)))
        deviations = robust_deviations(spread_out(values), step)
        for sign, what in ((-1, less), (1, more)):
            if what:
                far = np.flatnonzero(sign * deviations > FARTHEST)
                found += [Oddity(index, what, float(abs(deviations[index]))) for index in far.tolist()]
    return sorted(found, key=lambda oddity: (-oddity.deviation, oddity.index))


def find_outliers(features: NDArray[np.float32]) -> list[Oddity]:
    """Pictures that are far from even the pictures most like them, the farthest first.

    The distance is the mean of that to the ten nearest others, along the principal directions of the features.

    Args:
        features: `[N, D]`.

    Source:
        Ramaswamy, Rastogi, Shim: Efficient Algorithms for Mining Outliers from Large Data Sets, 2000.
    """
    distances = neighbour_distances(features)
    deviations = robust_deviations(distances, SMALL * float(distances.mean()))
    far = np.flatnonzero(deviations > FARTHEST)
    return [
        Oddity(index, "unlike all others", float(deviations[index]))
        for index in far[np.argsort(-deviations[far])].tolist()
    ]


def neighbour_distances(features: NDArray[np.float32]) -> Values:
    """The mean distance of each picture to its ten nearest others, `[N]`; 0 where there are no others."""
    x = shorten(standardise(features))
    neighbours = min(NEIGHBOURS, len(x) - 1)
    if neighbours < 1:
        return np.zeros(len(x))
    _, directions = torch.linalg.eigh(x.T @ x)
    x = x @ directions[:, -DIRECTIONS:]
    squares = x.square().sum(1)
    means = []
    for start in range(0, len(x), BLOCK):
        own = x[start : start + BLOCK]
        apart = (squares[start : start + BLOCK, None] + squares - 2 * own @ x.T).clamp(min=0)
        apart[torch.arange(len(own)), torch.arange(start, start + len(own))] = torch.inf
        means.append(apart.topk(neighbours, largest=False).values.sqrt().mean(1))
    return torch.cat(means).double().numpy()


def robust_deviations(values: Values, resolution: float) -> Values:
    """How far each value lies from the median, in standard deviations estimated by the quartiles, `[N]`.

    Where more than half of the values are the same, `resolution` counts as a deviation: smaller differences are none.
    """
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    scale = max((high - low) / 1.349, resolution, np.finfo(np.float64).tiny)  # 1.349: of a normal distribution
    deviations: Values = (values - median) / scale
    return deviations
