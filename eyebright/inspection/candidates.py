"""What was tried on a trained network, side by side: a figure, a table, and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eyebright.evaluation.multi_label import AnyEvaluation
from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, tidy
from eyebright.training.estimate import in_words
from eyebright.transfer.choose import Transfer
from eyebright.transfer.sizes import name_size


@dataclass(frozen=True)
class Row:
    """A candidate, in words.

    Attributes:
        name: of the way.
        kept: whether it is the one that was kept.
        accuracy, interval: on validation.
        beside: how much better than the first candidate, with its interval; empty for that one.
        loss: on validation.
        trained: parameters that are learned.
        time: to make one.
        setting: what was chosen for it, or its epochs.
    """

    name: str
    kept: bool
    accuracy: str
    interval: str
    beside: str
    loss: str
    trained: str
    time: str
    setting: str


def tabulate(candidates: Sequence[Mapping[str, Any]], kept: str) -> list[Row]:
    """A table of candidates, each given as `Candidate.as_dict` tells it."""
    return [
        Row(
            one["name"], one["name"] == kept, f"{one['val_accuracy']:.1%}", _span(one["val_interval"]),
            f"{one['difference']:+.1%} ({_span(one['difference_interval'], '+')})" if "difference" in one else "",
            f"{one['val_loss']:.3f}", f"{one['trained']:,}", in_words(one["seconds"]), one["setting"],
        )
        for one in candidates
    ]  # fmt: skip


def say_transfer(transfer: Transfer) -> list[str]:
    """What was kept, by what, and how it compares."""
    best, first = transfer.best, transfer.candidates[0]
    rows = {row.name: row for row in tabulate([one.as_dict() for one in transfer.candidates], best.name)}
    how = f"in {transfer.folds} folds" if transfer.folds > 1 else "on validation"
    chosen = f"; it was chosen among {len(rows)}, so this is a little too good" if len(rows) > 1 else ""
    said = [
        f"kept: {best.name}, {rows[best.name].accuracy} (95 % interval {rows[best.name].interval}) of "
        f"{best.evaluation.count} pictures judged {how}{chosen}",
        *_say_sizes(transfer),
    ]
    others = [one for one in transfer.candidates if one.difference is not None]
    if best.difference is not None:
        said.append(f"against {first.name}: {rows[best.name].beside}, 95 % interval in brackets")
    elif others:
        nearest = max(others, key=lambda one: one.evaluation.accuracy)
        said.append(f"the next, {nearest.name}: {rows[nearest.name].beside}, 95 % interval in brackets")
    return [*said, *(f"not tried: {left}" for left in transfer.left_out)]


def draw_transfer(transfer: Transfer, test: AnyEvaluation) -> Figure:
    """Draws each candidate's accuracy with its interval, and the seconds that it took."""
    rows = len(transfer.candidates)
    figure = make_figure(10.5, 1.9 + 0.42 * rows)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for place, one in enumerate(transfer.candidates):
        colour = ORANGE if one.name == transfer.kept else BLUE
        left.plot(one.evaluation.accuracy_interval, [place, place], color=colour, linewidth=1.6)
        left.plot(one.evaluation.accuracy, place, "o", color=colour, markersize=7)
        left.annotate(
            f"{one.evaluation.accuracy:.1%}", (one.evaluation.accuracy, place), xytext=(0, 7), fontsize=8,
            textcoords="offset points", ha="center",
        )  # fmt: skip
        right.barh(place, one.seconds, color=colour, height=0.5)
        right.annotate(
            in_words(one.seconds), (one.seconds, place), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=8, annotation_clip=False,
        )  # fmt: skip
    kept = next(place for place, one in enumerate(transfer.candidates) if one.name == transfer.kept)
    left.plot(test.accuracy, kept, "D", color=GREY, markersize=6, markerfacecolor="none")
    left.annotate(
        f"test {test.accuracy:.1%}", (test.accuracy, kept), xytext=(0, -14), textcoords="offset points", fontsize=8,
        color=GREY, ha="center",
    )  # fmt: skip
    left.set_yticks(range(rows), [one.name for one in transfer.candidates])
    left.set_ylim(rows - 0.4, -0.7)
    judged = f"each picture judged once, in {transfer.folds} folds" if transfer.folds > 1 else "on validation"
    tidy(left, f"Accuracy, {judged}", "line: 95 % interval; orange: kept")
    tidy(right, "Time to make one", "seconds")
    left.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.margins(x=0.3)
    return figure


def _say_sizes(transfer: Transfer) -> list[str]:
    if len(transfer.sizes) < 2:
        return []
    tried = ", ".join(f"{one.name} ({one.accuracy:.1%})" for one in transfer.sizes)
    return [f"pictures are shown at {name_size(transfer.classifier.prepare)}; a linear head tried {tried}"]


def _span(interval: Sequence[float], sign: str = "") -> str:
    low, high = interval
    return f"{low:{sign}.1%} to {high:{sign}.1%}"
