"""Wrong answers to look at: the surest ones with five bars each, confused pairs, each class (lecture: L5.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures, Pixels
from eyebright.evaluation.evaluate import Evaluation, wilson_interval
from eyebright.inspection.confusion import shorten
from eyebright.inspection.finding import many
from eyebright.inspection.pictures import see
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE, RED, make_figure, tidy

COLUMNS = 4
BARS = 5  # classes of a picture
PAIRS, EXAMPLES = 6, 8
NAMED = 40  # classes that are drawn; of more, the worst and the best
LONGEST = 20  # letters of a class's name


@dataclass(frozen=True, eq=False)
class Mistake:
    """One wrong answer.

    Attributes:
        pixels: uint8 `[H, W, C]`: what the network saw, un-normalised.
        name: of the picture.
        true: name of its class.
        shares: (class, probability) of the answer and the most probable others, and last of the true one, if it is
            none of these.
    """

    pixels: Pixels
    name: str
    true: str
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class Confused:
    """A pair of classes.

    Attributes:
        true, answer: their names.
        count: pictures of the first that were taken for the second.
        of: pictures of the first.
        examples: uint8 `[H, W, C]` each, those that were answered most surely first.
    """

    true: str
    answer: str
    count: int
    of: int
    examples: tuple[Pixels, ...]


def surest_mistakes(
    classifier: Classifier, pictures: Pictures, evaluation: Evaluation, count: int = 12
) -> list[Mistake]:
    """The wrong answers of which the classifier was surest, the surest first.

    Args:
        classifier: which was evaluated.
        pictures: on which.
        evaluation: its answers.
        count: how many.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    found = []
    for index in _wrong(evaluation)[:count].tolist():
        shares, true = evaluation.probabilities[index], int(evaluation.labels[index])
        answer = int(evaluation.predictions[index])  # where a threshold decides it is not the most probable
        top = [answer, *(label for label in np.argsort(-shares, kind="stable").tolist() if label != answer)][:BARS]
        shown = top if true in top else [*top, true]
        bars = tuple((evaluation.classes[label], float(shares[label])) for label in shown)
        found.append(Mistake(see(classifier, pictures, index), pictures.name(index), evaluation.classes[true], bars))
    return found


def confused_pairs(
    classifier: Classifier, pictures: Pictures, evaluation: Evaluation, count: int = PAIRS
) -> list[Confused]:
    """The pairs of classes that were mistaken most often, with examples; the worst first.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    numbers = {name: label for label, name in enumerate(evaluation.classes)}
    wrong, found = _wrong(evaluation), []
    for true, answer, often in evaluation.most_confused(count):
        both = (evaluation.labels[wrong] == numbers[true]) & (evaluation.predictions[wrong] == numbers[answer])
        examples = tuple(see(classifier, pictures, index) for index in wrong[both][:EXAMPLES].tolist())
        found.append(Confused(true, answer, often, int((evaluation.labels == numbers[true]).sum()), examples))
    return found


def say_mistakes(evaluation: Evaluation) -> list[str]:
    """What there is to see, in sentences."""
    wrong = _wrong(evaluation)
    if len(wrong) == 0:
        return [f"all {evaluation.count:,} answers are right"]
    sure = evaluation.confidence[wrong]
    found = [
        f"{len(wrong):,} of {evaluation.count:,} answers are wrong; of {int((sure > 0.9).sum()):,} of these the "
        "network was more than 90% sure"
    ]
    others = evaluation.probabilities[wrong].copy()
    others[np.arange(len(wrong)), evaluation.predictions[wrong]] = -1
    own = evaluation.probabilities[wrong, evaluation.labels[wrong]]
    found.append(f"the true class was the second guess in {np.mean(own == others.max(axis=1)):.0%} of them")
    for true, answer, often in evaluation.most_confused(3):
        found.append(f"{true} was taken for {answer} {many(often, 'time')}")
    present = [row for row in evaluation.per_class if row.count]
    worst = min(present, key=lambda row: row.recall)
    found.append(f"worst recognised: {worst.name}, {worst.recall:.0%} of {worst.count:,}")
    return found


def draw_mistakes(mistakes: Sequence[Mistake]) -> Figure:
    """Draws each picture beside its five most probable classes as bars, the true one in another colour."""
    rows = max(1, -(-len(mistakes) // COLUMNS))
    figure = make_figure(4.0 * COLUMNS, 1.75 * rows)
    grid = figure.subplots(rows, 2 * COLUMNS, squeeze=False, width_ratios=(1, 1.25) * COLUMNS)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, mistake in enumerate(mistakes):
        row, column = divmod(place, COLUMNS)
        grid[row, 2 * column].imshow(mistake.pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
        grid[row, 2 * column].set_title(f"is {shorten(mistake.true, LONGEST)}", fontsize=8, color=GREEN)
        _draw_bars(grid[row, 2 * column + 1], mistake)
    return figure


def draw_pairs(pairs: Sequence[Confused]) -> Figure:
    """Draws a row of examples for each confused pair."""
    figure = make_figure(1.15 * EXAMPLES + 2.2, 1.25 * max(1, len(pairs)))
    grid = figure.subplots(max(1, len(pairs)), EXAMPLES, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, pair in zip(grid, pairs, strict=False):
        for axes, pixels in zip(row, pair.examples, strict=False):
            axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
        text = f"{shorten(pair.true, LONGEST)}\ntaken for\n{shorten(pair.answer, LONGEST)}\n{pair.count} of {pair.of}"
        row[0].text(-0.12, 0.5, text, transform=row[0].transAxes, fontsize=8, ha="right", va="center")
    return figure


def draw_classes(evaluation: Evaluation) -> Figure:
    """Draws the share of each class that is recognised, with its 95 % interval; of many the worst and the best."""
    rows = sorted((row for row in evaluation.per_class if row.count), key=lambda row: row.recall)
    left_out = max(0, len(rows) - NAMED)
    shown = rows if not left_out else [*rows[: NAMED * 3 // 4], *rows[-(NAMED // 4) :]]
    figure = make_figure(7.5, 1.2 + 0.22 * len(shown))
    axes = figure.subplots()
    places = np.arange(len(shown), dtype=np.float64)
    if left_out:
        places[NAMED * 3 // 4 :] += 1.5
    recalls = np.array([row.recall for row in shown])
    low, high = np.array([wilson_interval(round(row.recall * row.count), row.count) for row in shown]).T
    axes.barh(places, recalls, color=BLUE, alpha=0.75)
    axes.errorbar(
        recalls, places, xerr=(np.maximum(recalls - low, 0), np.maximum(high - recalls, 0)), fmt="none", color="black",
        linewidth=0.8,
    )  # fmt: skip
    axes.axvline(evaluation.top1, color=ORANGE, linewidth=1, linestyle="--")
    axes.set_yticks(places, [f"{shorten(row.name, LONGEST)} ({row.count:,})" for row in shown], fontsize=8)
    axes.set_ylim(places[-1] + 0.7, -0.7)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    title = "Recognised of each class (dashed: of all)"
    if left_out:
        title += f"; {left_out:,} classes between are left out"
    tidy(axes, title, "share of the class's pictures")
    return figure


def _draw_bars(axes: Axes, mistake: Mistake) -> None:
    names, shares = zip(*mistake.shares, strict=True)
    colours = [GREEN if name == mistake.true else RED if place == 0 else GREY for place, name in enumerate(names)]
    axes.barh(range(len(names)), shares, color=colours, height=0.75, alpha=0.8)
    for row, (name, share) in enumerate(mistake.shares):
        inside = share > 0.6
        axes.text(
            0.02 if inside else share + 0.02, row, f"{shorten(name, LONGEST)} {share:.0%}", va="center", fontsize=7,
            color="white" if inside else "black",
        )  # fmt: skip
    axes.set_xlim(0, 1.35)
    axes.set_ylim(5.7, -0.7)


def _wrong(evaluation: Evaluation) -> NDArray[np.int64]:
    """Indices of the wrong answers, the surest first."""
    wrong = np.flatnonzero(evaluation.predictions != evaluation.labels)
    order = np.argsort(-evaluation.confidence[wrong], kind="stable")
    return wrong[order]
