"""Rules about how figures came about: whether they can be believed."""

from __future__ import annotations

from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.history import History
from eyebright.inspection.finding import many

WIDE = 0.05  # half of the 95 % interval of validation accuracy


def test_opened_often(history: History) -> Diagnosis | None:
    """The test part has been opened more than once: whoever looks at its figure and changes something chooses by it."""
    if len(history.openings) < 2:
        return None
    lines = [f"{opened['time'][:16].replace('T', ' ')}: {opened['purpose']}" for opened in history.openings]
    return Diagnosis(
        "test_opened_often", "warning", f"the test part has been opened {len(history.openings)} times",
        tuple(lines[:5]) + ((f"and {len(lines) - 5} more",) if len(lines) > 5 else ()),
        "each look at the test figure that leads to a choice makes it a little too good",
        "choose on validation; say how often test was opened beside the figure; a fresh test part ends the doubt",
    )  # fmt: skip


def validation_too_small(history: History) -> Diagnosis | None:
    """The 95 % interval of validation accuracy reaches more than 5 points to either side.

    Smaller differences between epochs, recipes or networks cannot be told.
    """
    if not history.validates or history.multi_label:
        return None
    accuracy = history.val_accuracy
    best = int(accuracy.argmax())
    low, high = history.val_interval(best + 1)
    if (high - low) / 2 <= WIDE:
        return None
    return Diagnosis(
        "validation_too_small", "warning", f"validation has only {many(history.val_count, 'picture')}",
        (
            f"its best accuracy, {accuracy[best]:.1%} in epoch {best + 1}, has the 95 % interval {low:.1%} to "
            f"{high:.1%}",
            f"all {len(accuracy)} epochs lie between {accuracy.min():.1%} and {accuracy.max():.1%}",
        ),
        "the best of many epochs by so few pictures is partly the luckiest",
        "data.val_fraction=0.2; or k-fold cross-validation: eyebright train RECIPE --folds 5",
        (best + 1, best + 1),
    )  # fmt: skip


def nothing_held_out(history: History) -> Diagnosis | None:
    """There is no validation part: overfitting cannot be seen, and nothing can be chosen."""
    if not history.epochs or history.validates:
        return None
    return Diagnosis(
        "nothing_held_out", "note", "there is no validation part",
        (f"all {sum(history.counts['train']):,} pictures but those of test are trained with",),
        "without pictures held out, only the test part tells learning from learning by heart",
        "data.val_fraction=0.1, unless the recipe is settled and every picture is needed",
    )  # fmt: skip
