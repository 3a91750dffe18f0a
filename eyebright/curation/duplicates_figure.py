"""Duplicates as a picture: pairs side by side, those first that do the most harm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from eyebright.curation.duplicates import Duplicates, Pair
from eyebright.data.images import Pictures
from eyebright.inspection.confusion import shorten
from eyebright.inspection.style import BLUE, GREY, ORANGE, RED

COLUMNS = 4
LONGEST_NAME, LONGEST_CLASS = 22, 18
CELL, CAPTION, PICTURE = (3.2, 2.2), 0.52, 1.5  # inches: width and height of a pair's place, heights in it
HEADING, EMPTY = 0.35, 1.2  # inches


def draw_duplicates(duplicates: Duplicates, pictures: Mapping[str, Pictures], most: int = 40) -> Figure:
    """Draws pairs side by side, each with its kind and similarity, and the parts, names and classes of both pictures.

    First come pairs across parts of different classes, then others across parts, then others of different classes;
    among these the more similar come first.

    Args:
        duplicates: what `find_duplicates` found.
        pictures: what it was given.
        most: pairs to draw; the heading says how many there are.
    """
    chosen = rank_pairs(duplicates)[:most]
    rows = -(-len(chosen) // COLUMNS)
    width, height = COLUMNS * CELL[0], HEADING + max(EMPTY, rows * CELL[1])
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all, measured in inches: an axes for each takes seconds
    axes.text(0.15, HEADING / 2, _heading(duplicates, len(chosen)), fontsize=10, va="center")
    for number, pair in enumerate(chosen):
        row, column = divmod(number, COLUMNS)
        left, top = column * CELL[0], HEADING + row * CELL[1]
        kind = pair.kind if pair.kind != "near" else f"near, {pair.similarity:.3f}"
        warnings = [text for text, holds in _warnings(pair) if holds]
        color = RED if len(warnings) == 2 else ORANGE if pair.is_across else BLUE if warnings else GREY
        axes.text(left + 0.15, top + 0.1, "; ".join([kind, *warnings]), fontsize=8, color=color, va="center")
        sides = ((pair.part_a, pair.index_a, pair.class_a), (pair.part_b, pair.index_b, pair.class_b))
        for side, (part, index, class_name) in enumerate(sides):
            centre = left + (side + 0.5) * CELL[0] / 2
            name = Path(pictures[part].name(index)).name
            caption = f"{part}: {_shorten_front(name)}\n{shorten(class_name, LONGEST_CLASS)}"
            axes.text(centre, top + CAPTION - 0.05, caption, fontsize=6.5, ha="center", va="bottom")
            pixels = pictures[part].read(index)
            tall, wide = (length * (PICTURE - 0.05) / max(pixels.shape[:2]) for length in pixels.shape[:2])
            place = (centre - wide / 2, centre + wide / 2, top + CAPTION + tall, top + CAPTION)
            axes.imshow(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=255,
                        interpolation="nearest", extent=place)  # fmt: skip
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.set_axis_off()
    return figure


def rank_pairs(duplicates: Duplicates) -> list[Pair]:
    """Pairs in the order of the harm that they do: see `draw_duplicates`."""
    return sorted(duplicates.pairs, key=lambda pair: (not pair.is_across, not pair.is_contradiction, -pair.similarity))


def _warnings(pair: Pair) -> tuple[tuple[str, bool], ...]:
    return ("in two parts", pair.is_across), ("different classes", pair.is_contradiction)


def _heading(duplicates: Duplicates, drawn: int) -> str:
    found, pictures = len(duplicates.pairs), sum(duplicates.counts.values())
    if not found:
        return f"no duplicates among {pictures:,} pictures"
    text = (
        f"{found:,} pairs of duplicates among {pictures:,} pictures: {len(duplicates.across_parts()):,} across parts, "
    )
    text += f"{len(duplicates.contradictions()):,} of different classes"
    return text if drawn == found else f"{text}; the first {drawn}"


def _shorten_front(name: str) -> str:
    """A file's name that fits: its end, which tells pictures apart."""
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]
