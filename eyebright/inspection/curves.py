"""Loss, accuracy and learning rate over training (lectures: L1.8, L1.9, L3.11)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

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


def draw_runs(runs: dict[str, list[list[dict[str, Any]]]]) -> Figure:
    """Draws several recipes in one figure: the mean over the runs of each, and their spread.

    Args:
        runs: name → the metrics of its runs, which differ in their seeds; one each will do.
    """
    import matplotlib

    figure = make_figure(13, 7)
    grid = figure.subplots(2, 3, width_ratios=(4, 4, 2.5))
    colours = matplotlib.colormaps["tab10"]
    panels = (
        (grid[0, 0], "train_loss", "Training loss", "cross-entropy, nats"),
        (grid[0, 1], "train_accuracy", "Training accuracy", ""),
        (grid[1, 0], "val_loss", "Validation loss", "cross-entropy, nats"),
        (grid[1, 1], "val_accuracy", "Validation accuracy", ""),
        (grid[0, 2], "learning_rate", "Learning rate", ""),
    )
    for number, (name, several) in enumerate(runs.items()):
        color = colours(number % 10)
        for axes, key, _, _ in panels:
            rows = _table(several, key)
            epochs = np.arange(1, rows.shape[1] + 1)
            if np.isnan(rows).all():
                continue
            axes.plot(epochs, np.nanmean(rows, axis=0), color=color, linewidth=1.6, label=_label(name, several))
            if len(several) > 1:
                spread = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
                axes.fill_between(epochs, *spread, color=color, alpha=0.2, linewidth=0)
        for epoch in divisions(several[0]):
            for axes, *_ in panels[:4]:
                axes.axvline(epoch, color=color, linewidth=0.7, linestyle=":")
    for axes, key, title, unit in panels:
        tidy(axes, title, "epoch", unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if key.endswith("accuracy"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    grid[0, 2].set_yscale("log")
    grid[1, 2].set_axis_off()
    grid[1, 2].legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, loc="upper left", fontsize=9)
    return figure


def divisions(metrics: list[dict[str, Any]]) -> list[float]:
    """Where a learning rate that stood was divided by two or more (lecture: L4.7), in epochs."""
    rates = [line["learning_rate"] for line in metrics]
    return [
        metrics[place]["epoch"] - 0.5
        for place in range(2, len(rates))
        if rates[place - 2] == rates[place - 1] >= 2 * rates[place]
    ]


def say_runs(runs: dict[str, list[list[dict[str, Any]]]]) -> list[str]:
    """What there is to see, in sentences."""
    found = []
    for name, several in runs.items():
        last = [metrics[-1] for metrics in several]
        text = (
            f"{name}: training loss {_mean(last, 'train_loss', '.4f')}, accuracy {_mean(last, 'train_accuracy', '.1%')}"
        )
        if last[0]["val_accuracy"] is not None:
            text += f"; validation loss {_mean(last, 'val_loss', '.4f')}, accuracy {_mean(last, 'val_accuracy', '.1%')}"
        found.append(f"{text}, after {len(several[0])} epochs")
    return found


def _mean(lines: list[dict[str, Any]], key: str, form: str) -> str:
    values = [line[key] for line in lines]
    text = format(float(np.mean(values)), form)
    return f"{text} ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else text


def _table(several: list[list[dict[str, Any]]], key: str) -> NDArray[np.float64]:
    """One figure of several runs, float64 `[runs, epochs]`, NaN where a run is shorter or has none."""
    longest = max(len(metrics) for metrics in several)
    rows = np.full((len(several), longest), np.nan)
    for row, metrics in zip(rows, several, strict=True):
        row[: len(metrics)] = [np.nan if line[key] is None else line[key] for line in metrics]
    return rows


def _label(name: str, several: list[list[dict[str, Any]]]) -> str:
    return f"{name} ({len(several)} runs)" if len(several) > 1 else name
