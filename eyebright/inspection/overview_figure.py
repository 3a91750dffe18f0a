"""A data set on one page: samples of each class, its mean picture, class counts, sizes, channels (lecture: L3.3)."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from eyebright.data.images import Pictures, Pixels
from eyebright.data.labels import has_label
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits
from eyebright.inspection.channel_values import choose_classes
from eyebright.inspection.confusion import shorten
from eyebright.inspection.overview import Overview
from eyebright.inspection.picture_facts import Facts
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE, RED, make_figure, tidy
from eyebright.random import generator

COLUMNS = 12  # of samples
CELL, GAP = 0.96, 0.06  # inches: a place in the grid, and what of it is left free
LEFT, ASIDE = 1.6, 0.14  # inches: room for names, and on either side of the mean pictures
WIDTH = LEFT + (COLUMNS + 1) * CELL + 2 * ASIDE
TITLE, PANELS = 0.45, 4.2  # inches: heights of the title and of what stands below the samples
FEWEST_ROWS = 6  # two classes have three rows each
LONGEST_NAME = 18
DETAIL = 160  # pixels: larger samples are made smaller
NAMED_BARS = 20
COLOURED_CLASSES = 5
FEW_VALUES = 64  # that occur at all: each has its mark
PALETTE = (BLUE, ORANGE, GREEN, RED, "#CC79A7")  # the last: Okabe and Ito's purple


def draw_overview(overview: Overview, splits: Splits, seed: int = 0) -> Figure:
    """Draws a data set: samples of the training part, and below them its counts, sizes and channels.

    Which pictures are shown, and of many classes which, is drawn at random by the seed. At the end of each row stands
    the mean of the class's pictures: what is sharp in it is alike in all of them.

    Args:
        overview: what `look_at` found.
        splits: the same parts, for the pictures themselves.
        seed: of the choice of pictures, the one that `look_at` was given.
    """
    shown = choose_classes(len(overview.classes), seed)
    most = max(overview.classes[label].counts["train"] for label in shown)
    rows = max(1, min(FEWEST_ROWS // len(shown), -(-most // COLUMNS)))
    tall = TITLE + len(shown) * rows * CELL
    figure = make_figure(WIDTH, tall + PANELS)
    figure.set_layout_engine("constrained", w_pad=0.12)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(tall, PANELS))[:, 0]
    _draw_samples(above, overview, splits.train, shown, rows, seed)
    counts, sizes, channels = below.subplots(1, 3, width_ratios=(5, 4, 4))
    _draw_counts(counts, overview)
    train = overview.facts["train"]
    if overview.parts["train"].sizes > 1:
        _draw_sizes(sizes, train, splits.classes)
    else:
        _draw_brightness(sizes, train, splits.classes)
    _draw_channels(channels, overview)
    return figure


def _draw_samples(
    figure: SubFigure, overview: Overview, train: Pictures, shown: list[int], rows: int, seed: int
) -> None:
    axes = figure.add_axes((0, 0, 1, 1))  # one for all, measured in inches: an axes for each takes seconds
    axes.set(xlim=(0, WIDTH), ylim=(TITLE + len(shown) * rows * CELL, 0))
    axes.set_axis_off()
    more = f", {len(shown)} of {len(overview.classes):,} classes" if len(shown) < len(overview.classes) else ""
    title = f"{PurePath(overview.source).name}: samples of train{more}"
    axes.text(ASIDE, TITLE / 2, title, fontsize=11, va="center", parse_math=False)
    mean_left = LEFT + COLUMNS * CELL + ASIDE
    values = overview.channel_values
    if values is not None:
        axes.text(mean_left + CELL / 2, TITLE / 2, "mean", fontsize=9, color=GREY, ha="center", va="center")
    for position, label in enumerate(shown):
        row, top = overview.classes[label], TITLE + position * rows * CELL
        name = f"{shorten(row.name, LONGEST_NAME)}\n{row.counts['train']:,}"
        axes.text(LEFT - ASIDE, top + rows * CELL / 2, name, fontsize=9, ha="right", va="center", parse_math=False)
        for place, pixels in enumerate(_choose(overview.facts["train"], train, label, rows * COLUMNS, seed)):
            down, right = divmod(place, COLUMNS)
            _place(axes, pixels, LEFT + right * CELL, top + down * CELL)
        if values is not None and row.name in values.mean_pictures:
            mean = np.rint(values.mean_pictures[row.name] * 255).astype(np.uint8)
            _place(axes, mean, mean_left, top + (rows - 1) * CELL / 2)


def _choose(facts: Facts, pictures: Pictures, label: int, count: int, seed: int) -> list[Pixels]:
    """Some of a class's pictures, none much larger than it is drawn."""
    members = np.flatnonzero(facts.readable & has_label(facts.labels, label))
    order = torch.randperm(len(members), generator=generator(seed, "samples", label)).numpy()
    chosen = []
    for index in members[order[:count]].tolist():
        pixels = pictures.read(index, (DETAIL, DETAIL))
        height, width = pixels.shape[:2]
        shrink = min(1.0, DETAIL / max(height, width))
        size = max(1, round(height * shrink)), max(1, round(width * shrink))
        chosen.append(Prepare(channels=3, resize=size).resize_picture(pixels))
    return chosen


def _place(axes: Axes, pixels: Pixels, left: float, top: float) -> None:
    room = CELL - GAP
    tall, wide = np.array(pixels.shape[:2]) * room / max(pixels.shape[:2])
    x, y = left + (CELL - wide) / 2, top + (CELL - tall) / 2
    axes.imshow(
        np.broadcast_to(pixels, (*pixels.shape[:2], 3)),
        interpolation="nearest",
        extent=(x, x + wide, y + tall, y),
        aspect="auto",
    )


def _draw_counts(axes: Axes, overview: Overview) -> None:
    parts, classes = list(overview.parts), overview.classes
    counts = {part: np.array([row.counts[part] for row in classes]) for part in parts}
    places = np.arange(len(classes))
    if len(classes) <= NAMED_BARS:
        before = np.zeros(len(classes))
        for part, color in zip(parts, PALETTE, strict=False):
            axes.barh(places, counts[part], left=before, color=color, height=0.75, label=part)
            before += counts[part]
        names = [shorten(row.name, LONGEST_NAME) for row in classes]
        axes.set_yticks(places, names, fontsize=9 if len(classes) <= 10 else 7, parse_math=False)
        axes.invert_yaxis()
        tidy(axes, "Pictures of each class", "pictures")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    else:
        order = np.argsort(-counts["train"], kind="stable")
        for part, color, line in zip(parts, PALETTE, ("-", "--", ":"), strict=False):
            axes.step(places, counts[part][order], line, where="mid", color=color, label=part, linewidth=1.8)
        axes.set_ylim(0, 1.1 * max(1, max(column.max() for column in counts.values())))
        largest, smallest = (shorten(classes[order[end]].name, LONGEST_NAME) for end in (0, -1))
        tidy(axes, "Pictures of each class", f"classes by count in train, {largest} to {smallest}", "pictures")
        axes.xaxis.label.set_parse_math(False)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9, ncols=len(parts), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)


def _draw_sizes(axes: Axes, train: Facts, classes: tuple[str, ...]) -> None:
    known = train.readable
    for members, color, name in _groups(train, classes):
        axes.scatter(
            train.width[members], train.height[members], s=14, color=color, alpha=0.5, label=name, linewidths=0
        )
    sides = np.concatenate([train.width[known], train.height[known]])
    if sides.max() > 8 * sides.min():
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:,.0f}")
            axis.set_minor_locator(NullLocator())
    axes.axline((sides.min(), sides.min()), (sides.max(), sides.max()), color=GREY, linewidth=0.8, linestyle=":")
    tidy(axes, "Sizes in train", "width, pixels", "height, pixels")
    _name_groups(axes, classes)


def _draw_brightness(axes: Axes, train: Facts, classes: tuple[str, ...]) -> None:
    edges = np.linspace(0, 1, 41).tolist()
    for members, color, name in _groups(train, classes):
        values = train.brightness[members]
        axes.hist(values, edges, histtype="step", color=color, label=name, linewidth=1.6)
    height, width = (int(column[train.readable].max(initial=0)) for column in (train.height, train.width))
    tidy(axes, "Brightness in train", f"mean of a picture, 0…1; each is {height}×{width} pixels", "pictures")
    axes.set_xlim(0, 1)
    _name_groups(axes, classes)


def _groups(train: Facts, classes: tuple[str, ...]) -> list[tuple[NDArray[np.bool_], str, str]]:
    """Readable pictures with a colour for each class where there are few classes, all together where there are more."""
    if len(classes) > COLOURED_CLASSES:
        return [(train.readable, BLUE, "")]
    rows = zip(range(len(classes)), PALETTE, classes, strict=False)
    return [
        (train.readable & has_label(train.labels, label), color, shorten(name, LONGEST_NAME))
        for label, color, name in rows
    ]


def _name_groups(axes: Axes, classes: tuple[str, ...]) -> None:
    if len(classes) <= COLOURED_CLASSES:
        legend = axes.legend(frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _draw_channels(axes: Axes, overview: Overview) -> None:
    values = overview.channel_values
    if values is None:
        axes.set_axis_off()
        return
    names = (("red", RED), ("green", GREEN), ("blue", BLUE)) if len(values.mean) == 3 else (("grey", GREY),)
    shares = values.histogram / values.histogram.sum(axis=1, keepdims=True)  # [C, 256]
    occurs = shares.any(axis=0)
    marker = "o" if occurs.sum() <= FEW_VALUES else ""
    for (name, color), row, mean, std in zip(names, shares, values.mean, values.std, strict=True):
        said = f"{name} {mean:.3f} ± {std:.3f}"
        places = np.flatnonzero(occurs) / 255
        axes.plot(places, row[occurs], color=color, linewidth=1.2, marker=marker, markersize=3, label=said)
    inside = shares[:, 1:-1][:, occurs[1:-1]]
    top = 1.6 * float(np.quantile(inside, 0.98)) if inside.size else 1.0  # black and white alone would hide the rest
    axes.set_ylim(0, top)
    ends = {"0": shares[:, 0].mean(), "1": shares[:, -1].mean()}
    high = [f"{share:.0%} at {value}" for value, share in ends.items() if share > top]
    beyond = f" (above the top: {', '.join(high)})" if high else ""
    tidy(axes, "Channels in train", f"value, 0…1{beyond}", "share of pixels")
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, fontsize=9, title="mean ± standard deviation", title_fontsize=8)
