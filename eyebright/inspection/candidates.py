"""What was tried on a trained network, side by side: a figure, and sentences."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation
from eyebright.evaluation.paired import Difference
from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, tidy
from eyebright.training.estimate import in_words
from eyebright.transfer.choose import Transfer


def say_transfer(transfer: Transfer, test: AnyEvaluation) -> list[str]:
    """What was kept, by what, and what it is worth."""
    best = transfer.best
    how = f"in {transfer.folds} folds" if transfer.folds > 1 else "on validation"
    said = [
        f"kept: {best.name}, {_share(best.evaluation)} of {best.evaluation.count} pictures judged {how}; "
        f"it was chosen among {len(transfer.candidates)}, so this is a little too good",
    ]
    others = [one for one in transfer.candidates if one.difference is not None]
    if best.difference is not None:
        said.append(f"against {transfer.candidates[0].name}: {_signed(best.difference)}")
    elif others:
        nearest = max(others, key=lambda one: one.evaluation.accuracy)
        assert nearest.difference is not None
        said.append(f"the next, {nearest.name}: {_signed(nearest.difference)}")
    said += [f"not tried: {left}" for left in transfer.left_out]
    said.append(f"test, opened once: {test}")
    return said + transfer.calibration.sentences() + transfer.receipt.sentences()


def draw_transfer(transfer: Transfer, test: AnyEvaluation) -> Figure:
    """Draws each candidate's accuracy with its interval, and the seconds that it took."""
    rows = len(transfer.candidates)
    figure = make_figure(10.5, 1.9 + 0.42 * rows)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for place, one in enumerate(transfer.candidates):
        colour = ORANGE if one.name == transfer.kept else BLUE
        if isinstance(one.evaluation, Evaluation):
            left.plot(one.evaluation.top1_interval, [place, place], color=colour, linewidth=1.6)
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


def _share(evaluation: AnyEvaluation) -> str:
    if not isinstance(evaluation, Evaluation):
        return f"{evaluation.accuracy:.1%}"
    low, high = evaluation.top1_interval
    return f"{evaluation.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%})"


def _signed(difference: Difference) -> str:
    low, high = difference.interval
    return f"{difference.value:+.1%} (95 % interval {low:+.1%} to {high:+.1%})"
