"""Pictures for the lab: numbers in a grid, and which values a normalisation averages over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from eyebright.inspection.style import BLUE, make_figure

Point = tuple[float, float]
SIDE = 4  # values along each edge of the drawn cube
NORMALISATIONS = ("batch", "layer", "instance", "group")
ABOUT = {
    "batch": "one channel of all samples",
    "layer": "all channels of one sample",
    "instance": "one channel of one sample",
    "group": "a group of channels of one sample",
}


def draw_numbers(grids: Sequence[tuple[str, ArrayLike]], form: str = "{:g}") -> Figure:
    """Draws small maps side by side with their numbers: title and `[H, W]` of each."""
    arrays = [(title, np.asarray(values, np.float64)) for title, values in grids]
    widths = [max(1.6, 0.42 * values.shape[1]) for _, values in arrays]
    figure = make_figure(sum(widths) + 0.5 * len(widths), 0.9 + 0.42 * max(len(values) for _, values in arrays))
    panels = np.atleast_1d(figure.subplots(1, len(arrays), width_ratios=widths))
    for axes, (title, values) in zip(panels, arrays, strict=True):
        most = float(np.abs(values).max()) or 1.0
        axes.imshow(values, cmap="RdBu_r", vmin=-1.6 * most, vmax=1.6 * most)
        for (row, column), value in np.ndenumerate(values):
            axes.text(column, row, form.format(value), ha="center", va="center", fontsize=8)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, labels=[])
        axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, labels=[])
        axes.grid(color="#999999", linewidth=0.6)
        axes.tick_params(length=0)
    return figure


def draw_axes() -> Figure:
    """Draws over which values each normalisation takes its mean: a cube of samples, channels and pixels (L4.3).

    Source of the form: Wu and He, Group Normalization, arXiv 1803.08494, figure 2.
    """
    figure = make_figure(13.5, 4.4)
    panels = figure.subplots(1, len(NORMALISATIONS))
    for axes, name in zip(panels, NORMALISATIONS, strict=True):
        for sample in range(SIDE):
            for channel in range(SIDE):
                for pixel in range(SIDE):
                    _draw_cell(axes, sample, channel, pixel, _is_averaged(name, sample, channel))
        axes.set_title(f"{name} norm", fontsize=12, fontweight="bold")
        axes.text(0.5, -0.1, ABOUT[name], transform=axes.transAxes, ha="center", va="top", fontsize=10)
        axes.text(-0.2, SIDE / 2, "pixels H×W", rotation=90, ha="right", va="center", fontsize=9)
        axes.text(SIDE / 2, -0.4, "channels C", ha="center", va="center", fontsize=9)
        axes.text(*_depth_label(), "samples N", rotation=33, ha="center", va="center", fontsize=9)
        axes.set_aspect("equal")
        axes.axis("off")
    return figure


def _is_averaged(name: str, sample: int, channel: int) -> bool:
    """Whether a value is among those averaged over for the first channel of the first sample; pixels always are."""
    return {
        "batch": channel == 0,
        "layer": sample == 0,
        "instance": sample == 0 and channel == 0,
        "group": sample == 0 and channel < SIDE // 2,
    }[name]


def _corner(channel: float, sample: float, pixel: float) -> Point:
    """Where a corner of the cube is drawn: channels to the right, samples to the back, pixels upwards."""
    return channel + 0.55 * sample, pixel + 0.36 * sample


def _depth_label() -> Point:
    x, y = _corner(SIDE, SIDE / 2, 0)
    return x + 0.4, y - 0.35


def _draw_cell(axes: Axes, sample: int, channel: int, pixel: int, filled: bool) -> None:
    """Draws those faces of a value that are on the cube's surface: front, right and top."""
    color = BLUE if filled else "white"
    faces = []
    if sample == 0:
        faces.append([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)])
    if channel == SIDE - 1:
        faces.append([(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)])
    if pixel == SIDE - 1:
        faces.append([(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)])
    for face in faces:
        points = [_corner(channel + c, sample + s, pixel + p) for c, s, p in face]
        axes.fill(*zip(*points, strict=True), facecolor=color, edgecolor="#555555", linewidth=0.7, alpha=0.75)
