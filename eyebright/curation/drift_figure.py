"""A picture of drift: the test, what differs most, and pictures of both sets."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyebright.curation.differences import LEVEL, Difference
from eyebright.curation.drift import Drift
from eyebright.data.images import Pictures
from eyebright.inspection.style import BLUE, GREY, ORANGE, RED, make_figure, tidy

SHOWN = 12  # pictures in a row
HISTOGRAMS, BINS = 3, 40
LINE = 120  # characters of the title in a line


def draw_drift(drift: Drift, first: Pictures, second: Pictures) -> Figure:
    """Draws the test against random deals, the largest differences, examples, and the second set's oddest pictures.

    Args:
        drift: what `find_drift` has found.
        first: the first set, as it was given to `find_drift`.
        second: the second set.

    Raises:
        PictureError: a picture cannot be read any more.
    """
    figure = make_figure(13, 8.2)
    figure.suptitle("\n".join(textwrap.wrap(drift.verdict, LINE)), x=0.01, ha="left", fontsize=13)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.15), squeeze=False)[:, 0]
    panels = above.subplots(1, 1 + HISTOGRAMS)
    _draw_test(panels[0], drift)
    shown = drift.differences[:HISTOGRAMS]
    for axes, difference in zip(panels[1:], shown, strict=False):
        _draw_difference(axes, difference)
    for axes in panels[1 + len(shown) :]:
        axes.set_axis_off()
    grid = below.subplots(3, SHOWN)
    rows = (
        ("first set", first, drift.first_indices),
        ("second set", second, drift.second_indices),
        ("of the second,\nleast like\nthe first", second, drift.unlike),
    )
    for places, (name, pictures, indices) in zip(grid, rows, strict=True):
        _draw_pictures(places, name, pictures, indices[:SHOWN])
    for axes, distance in zip(grid[2], drift.distances, strict=False):
        axes.set_xlabel(f"{distance:.1f}× as far", fontsize=8)
    return figure


def _draw_test(axes: Axes, drift: Drift) -> None:
    """The statistic of every random deal and that of the truth, which may lie far to the right."""
    deals = drift.statistic[1:]
    scale = float(deals.std()) or 1.0
    true, deals = float(drift.statistic[0] - deals.mean()) / scale, (deals - deals.mean()) / scale
    end = 1.6 * max(float(deals.max()), 1.0)
    axes.hist(deals, bins=BINS, color=GREY, alpha=0.7, label=f"{len(deals)} random deals")
    axes.axvline(min(true, end), color=RED, linewidth=2, label="these two sets")
    if true > end:
        axes.annotate(
            f"{true:,.0f} →", (end, 0.5), xycoords=("data", "axes fraction"), xytext=(-4, 0),
            textcoords="offset points", ha="right", color=RED,
        )  # fmt: skip
    tidy(
        axes,
        f"these two sets among random deals\np = {drift.p_value:.2g}",
        "how different (standard deviations of deals)",
        "deals",
    )
    axes.title.set_fontsize(10)
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_difference(axes: Axes, difference: Difference) -> None:
    both = np.concatenate([difference.first, difference.second])
    low, high = np.quantile(both, (0.002, 0.998))
    if low == high:
        low, high = both.min(), both.max()
    edges = np.linspace(low, high, BINS + 1).tolist()
    for values, color, name in ((difference.first, BLUE, "first"), (difference.second, ORANGE, "second")):
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values.clip(low, high), edges, weights=weights, color=color, alpha=0.55, label=name)
    p = f"p = {difference.p_value:.2g}"
    found = difference.p_value <= LEVEL
    says = f"{difference.words}\n{p}" if found else f"{difference.statistic.name}\nno difference found, {p}"
    tidy(axes, says, textwrap.fill(difference.statistic.unit, 34), "% of pictures")
    axes.title.set_fontsize(10)
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_pictures(places: NDArray[np.object_], name: str, pictures: Pictures, indices: NDArray[np.int64]) -> None:
    for axes, index in zip(places, indices.tolist(), strict=False):
        axes.imshow(pictures.read(index).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for axes in places:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set(color=GREY, linewidth=0.5, visible=axes.has_data())
    places[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
