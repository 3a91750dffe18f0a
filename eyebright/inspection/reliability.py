"""Whether answers are right as often as they are sure; and which pictures a classifier takes for none of its classes.

Source:
    Guo et al.: On Calibration of Modern Neural Networks, ICML 2017, figure 1.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from eyebright.evaluation.evaluate import Evaluation, wilson_interval
from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, tidy

HISTOGRAM_BINS = 40


def draw_reliability(
    evaluation: Evaluation, scores: NDArray[np.float32] | None = None, threshold: float | None = None
) -> Figure:
    """Draws how many answers are right in each bin of confidence, and beside it scores of strangeness.

    Args:
        evaluation: answers to a labelled set.
        scores: how strange each picture is to the classifier, `[N]`; None: they are not drawn.
        threshold: above which it is none of the classes.
    """
    if scores is None or threshold is None:
        figure = make_figure(5.2, 3.8)
        _draw_bins(figure.subplots(), evaluation)
        return figure
    figure = make_figure(10.5, 3.8)
    left, right = figure.subplots(1, 2)
    _draw_bins(left, evaluation)
    edges = np.linspace(min(scores.min(), threshold), max(scores.max(), threshold), HISTOGRAM_BINS + 1)
    correct = evaluation.predictions == evaluation.labels
    groups = [scores[correct], scores[~correct]]
    right.hist(groups, edges, stacked=True, color=[BLUE, ORANGE], label=["answered right", "answered wrong"])
    right.axvline(threshold, color=GREY, linewidth=1.2)
    share = float((scores > threshold).mean())
    right.annotate(
        f"none of these: {share:.1%}", (threshold, right.get_ylim()[1]), xytext=(4, -10), textcoords="offset points",
        fontsize=8, color=GREY,
    )  # fmt: skip
    right.legend(frameon=False, fontsize=8)
    tidy(right, "How strange pictures are to it", "score of the rejection", "pictures")
    return figure


def say_reliability(evaluation: Evaluation) -> list[str]:
    """How sure answers are, how many are right, and whether that is more than chance."""
    confidence, right, _ = evaluation.reliability.sum(axis=1) / evaluation.count
    low, high = evaluation.accuracy_interval
    if low <= confidence <= high:
        much = f"on the whole as sure as right, as far as {evaluation.count} pictures can tell"
    else:
        much = "on the whole too sure" if confidence > right else "on the whole not sure enough"
    return [
        f"answers are {confidence:.1%} sure on average, and {right:.1%} are right; calibration error "
        f"{evaluation.calibration_error:.1%}: {much}"
    ]


def _draw_bins(axes: Axes, evaluation: Evaluation) -> None:
    confidence, right, count = evaluation.reliability
    there = count > 0
    sure, share = confidence[there] / count[there], right[there] / count[there]
    spans = [wilson_interval(int(r), int(n)) for r, n in zip(right[there], count[there], strict=True)]
    for place, (low, high) in zip(sure, spans, strict=True):
        axes.plot([place, place], [low, high], color=BLUE, linewidth=1.2, alpha=0.6)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=":")
    axes.scatter(sure, share, s=14 + 160 * count[there] / count.sum(), color=BLUE, linewidths=0)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    tidy(axes, "How often answers are right", "how sure they are", "share that is right")
