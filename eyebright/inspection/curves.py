"""Loss, accuracy and learning rate over training (lectures: L1.8, L1.9, L3.11)."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, tidy


def draw_curves(metrics: list[dict[str, Any]]) -> Figure:
    """Draws a run's metrics: loss, accuracy, and learning rate, for each epoch.

    Args:
        metrics: the lines of ``metrics.jsonl``.
    """
    figure = make_figure(11, 3.4)
    loss, accuracy, rate = figure.subplots(1, 3, width_ratios=(4, 4, 2.5))
    epochs = [line["epoch"] for line in metrics]
    style = {"marker": "o" if len(epochs) <= 30 else "", "markersize": 3, "linewidth": 1.6}
    for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(epochs, [line[f"train_{key}"] for line in metrics], color=BLUE, label="train", **style)
        validation = [line[f"val_{key}"] for line in metrics]
        if any(value is not None for value in validation):
            axes.plot(epochs, validation, color=ORANGE, label="validation", **style)
    tidy(loss, "Loss", "epoch", "cross-entropy, nats")
    tidy(accuracy, "Accuracy", "epoch")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    _mark_best(accuracy, metrics)
    rate.step(epochs, [line["learning_rate"] for line in metrics], color=GREY, where="mid")
    tidy(rate, "Learning rate", "epoch")
    rate.set_yscale("log")
    for axes in (loss, accuracy, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.legend(frameon=False)
    return figure


def _mark_best(axes: Any, metrics: list[dict[str, Any]]) -> None:
    known = [line for line in metrics if line["val_accuracy"] is not None]
    if not known:
        return
    best = max(known, key=lambda line: line["val_accuracy"])
    axes.axvline(best["epoch"], color=ORANGE, linewidth=0.8, linestyle=":")
    axes.annotate(
        f"best {best['val_accuracy']:.1%}",
        (best["epoch"], axes.get_ylim()[0]),
        xytext=(-4 if best["epoch"] > known[-1]["epoch"] / 2 else 4, 4),
        textcoords="offset points",
        ha="right" if best["epoch"] > known[-1]["epoch"] / 2 else "left",
        color=GREY,
        fontsize=9,
    )
