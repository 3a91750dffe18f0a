"""A run's curves with what the doctor found marked in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.history import History, interval
from eyebright.inspection.gradients import USUAL, draw_layers, gradient_lengths
from eyebright.inspection.style import BLUE, GREY, ORANGE, RED, make_figure, tidy

COLOURS = {"error": RED, "warning": ORANGE, "note": GREY}
LINES = 30  # findings' texts are broken at so many letters


def draw_findings(history: History, findings: Sequence[Diagnosis]) -> Figure:
    """Draws loss, accuracy and how far steps move the layers, and under each finding's epochs a bar with its name.

    Args:
        history: the run.
        findings: what was found in it.
    """
    shown = [finding for finding in findings if finding.epochs is not None]
    figure = make_figure(11, 3.6 + 0.28 * max(1, len(shown)))
    axes = figure.subplots(2, 3, height_ratios=(3.4, 0.28 * max(1, len(shown)) + 0.05), sharex="col")
    loss, accuracy, ratios = axes[0]
    epochs = np.arange(1, len(history.epochs) + 1)
    marker = "o" if len(epochs) <= 30 else ""
    for panel, name in ((loss, "loss"), (accuracy, "accuracy")):
        panel.plot(epochs, history.column(f"train_{name}"), color=BLUE, label="train", marker=marker, markersize=3)
        if history.validates:
            panel.plot(
                epochs, history.column(f"val_{name}"), color=ORANGE, label="validation", marker=marker, markersize=3
            )
    tidy(loss, "Loss", "", "cross-entropy, nats")
    tidy(accuracy, "Accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if not history.multi_label:
        loss.axhline(history.chance_loss, color=GREY, linestyle=":", linewidth=1, label="guessing")
        accuracy.axhline(history.chance_accuracy, color=GREY, linestyle=":", linewidth=1)
        if history.validates:
            bands = np.array([interval(share, history.val_count) for share in history.val_accuracy])
            accuracy.fill_between(epochs, *bands.T, color=ORANGE, alpha=0.2, linewidth=0)
    loss.legend(frameon=False, fontsize=8)
    _draw_ratios(ratios, history)
    for panel in axes[1]:
        _draw_bars(panel, shown)
    for panel in axes[1, 1:]:
        panel.set_yticks([])
    return figure


def _draw_ratios(axes: Axes, history: History) -> None:
    tidy(axes, "Steps, in lengths of the weights")
    if not history.observations:
        axes.text(0.5, 0.5, "not observed", transform=axes.transAxes, ha="center", color=GREY)
        return
    names, _, steps = gradient_lengths(history.observations)
    when = [seen.step / history.steps_per_epoch + 0.5 for seen in history.observations]
    draw_layers(axes, when, names, steps)
    axes.axhspan(*USUAL, color=GREY, alpha=0.15, linewidth=0)


def _draw_bars(axes: Axes, findings: Sequence[Diagnosis]) -> None:
    axes.spines[:].set_visible(False)
    axes.set_ylim(len(findings) or 1, 0)
    for row, finding in enumerate(findings):
        assert finding.epochs is not None
        first, last = finding.epochs
        axes.barh(
            row + 0.5, last - first + 0.8, left=first - 0.4, height=0.6, color=COLOURS[finding.severity], alpha=0.7
        )
    axes.set_yticks(
        [row + 0.5 for row in range(len(findings))],
        [finding.name.replace("_", " ") for finding in findings],
        fontsize=8,
    )
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
