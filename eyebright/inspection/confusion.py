"""Which class is taken for which (lecture: L1.10)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from eyebright.evaluation.evaluate import Evaluation
from eyebright.inspection.style import make_figure

NAMED_CLASSES = 40  # with more, names would lie on top of each other
NUMBERED_CLASSES = 20
LONGEST_NAME = 18


def draw_confusion(evaluation: Evaluation) -> Figure:
    """Draws the confusion matrix: rows true classes, columns answers, colour the share of the row.

    Counts stand in the cells up to 20 classes, names at the edges up to 40; beyond that it is a picture, and the list
    of the most confused pairs says the rest.
    """
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(evaluation.classes)
    side = min(10.0, 2.2 + 0.52 * classes)
    figure = make_figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set_ylabel("true class")
    axes.set_xlabel("answer")
    if classes <= NAMED_CLASSES:
        names = [shorten(name, LONGEST_NAME) for name in evaluation.classes]
        size = 9 if classes <= NUMBERED_CLASSES else 7
        axes.set_yticks(range(classes), names, fontsize=size)
        axes.set_xticks(range(classes), names, fontsize=size, rotation=45, ha="right", rotation_mode="anchor")
    if classes <= NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.7)
    return figure


def shorten(name: str, longest: int) -> str:
    """A name that fits: its beginning and an ellipsis where it is too long.

    >>> shorten("n02123045_tabby", 10)
    'n02123045…'
    """
    return name if len(name) <= longest else name[: longest - 1] + "…"
