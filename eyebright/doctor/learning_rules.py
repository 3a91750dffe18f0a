"""Rules about whether a network learns at all, and how fast: chance level and the learning rate."""

from __future__ import annotations

import numpy as np

from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.history import AT_CHANCE, History, Values, interval, moving

POOR = 0.3  # of that way: less is a poor result
EARLY = 3  # epochs before which a run that goes on is not judged
WINDOW = 5  # epochs over which the training loss should fall (lecture: L1.8)
FALL = 0.002  # of the loss: less counts as no fall
HIGH_RATIO = 0.3  # of a layer's length: a step that moves it so far forgets what it knew
LOW_RATIO = 1e-3  # of a layer's length, at the highest: slower than this little happens within a training
GROWTH = 10.0  # times that weights have become longer
SPIKE = 3.0  # times the loss of guessing
AHEAD = 20  # last steps in which a loss that runs away shows
RUNAWAY = 100.0  # times the usual gradient
ANNEALED = 0.05  # of the highest learning rate: below, a loss that stands is no wonder
CERTAIN = 0.9  # of the way from guessing to certainty: above, there is little left to fall


def diverged(history: History) -> Diagnosis | None:
    """The loss is no longer a finite number. Training stopped there; the weights of the last checkpoint are whole."""
    if not history.diverged:
        return None
    return Diagnosis(
        "diverged", "error", "training ended because the loss was no longer a finite number",
        (history.diverged, *_losses_before(history)),
        "steps so long that they overshoot make the loss larger, the next gradient too, and so on until the numbers "
        "end",
        "lower training.learning_rate (try a tenth), add training.warmup_epochs, or training.clip_norm = 1.0",
        _last_epoch(history),
    )  # fmt: skip


def nan_ahead(history: History) -> Diagnosis | None:
    """The loss, or a gradient, runs away.

    The last 20 steps lost more than three times what guessing loses and five times what was usual before, or the last
    gradients seen are a hundred times the usual ones. Only while it trains.
    """
    if history.finished or history.diverged or history.multi_label:
        return None
    evidence = []
    loss = history.step_loss
    if len(loss) >= 2 * AHEAD:
        last, before = float(np.median(loss[-AHEAD:])), float(np.median(loss[:-AHEAD]))
        if last > SPIKE * history.chance_loss and last > 5 * before:
            evidence.append(f"the last {AHEAD} steps had a loss of {last:.3g}; before, {before:.3g} was usual")
    gradients = [max((x.gradient_norm or 0.0 for x in seen.layers), default=0.0) for seen in history.observations]
    if len(gradients) >= 4 and gradients[-1] > RUNAWAY * max(float(np.median(gradients[:-1])), 1e-12):
        usual = float(np.median(gradients[:-1]))
        evidence.append(f"the longest gradient is {gradients[-1]:.3g}; {usual:.3g} was usual")
    if not evidence:
        return None
    return Diagnosis(
        "nan_ahead", "error", "the loss is running away: it will soon be no number", tuple(evidence),
        "steps are so long that each makes the loss larger",
        "stop; lower training.learning_rate (try a tenth) or add training.clip_norm = 1.0, and begin again",
        _last_epoch(history),
    )  # fmt: skip


def chance_level(history: History) -> Diagnosis | None:
    """The network answers no better than guessing (lecture: L2.8).

    The 95 % interval of its accuracy (validation; without that, training) holds what guessing gives, and its best loss
    is within 5 % of guessing's, or above.
    """
    if not history.has_begun(EARLY) or history.multi_label:
        return None
    if history.validates:
        what, count, loss = "validation", history.val_count, float(np.nanmin(history.val_loss))
        best = int(np.nanargmax(history.val_accuracy)) + 1
        accuracy = float(history.val_accuracy[best - 1])
    else:
        what, count, loss = "training", sum(history.counts["train"]), float(np.nanmin(history.train_loss))
        best = int(np.nanargmax(history.train_accuracy)) + 1
        accuracy = float(history.train_accuracy[best - 1])
    low, high = interval(float((history.val_accuracy if history.validates else history.train_accuracy)[-1]), count)
    chance = history.chance_accuracy
    if (not low <= chance <= high and accuracy > chance) or loss < (1 - AT_CHANCE) * history.chance_loss:
        return None
    evidence = [
        f"{what} accuracy is {low:.1%} to {high:.1%} (95 % interval) after {len(history.epochs)} epochs; guessing "
        f"gives {chance:.1%}",
        f"the least {what} loss is {loss:.4f}; guessing loses {history.chance_loss:.4f}"
        + (f", ln({len(history.classes)})" if abs(history.chance_loss - np.log(len(history.classes))) < 0.005 else ""),
    ]
    if history.answers and history.answers.baseline_accuracy is not None:
        share = history.answers.baseline_accuracy
        evidence.append(f"a linear classifier on patches reaches {share:.1%} on pictures that it has not seen")
    return Diagnosis(
        "chance_level", "error", "the network answers no better than guessing", tuple(evidence),
        "it has not begun to learn: the learning rate does not suit it, its signals die on the way, it was trained too "
        "briefly, or labels say nothing about the pictures",
        "see the other findings first; then try a tenth and ten times the learning rate on a few hundred pictures: a "
        "network that works learns those by heart",
        (1, len(history.epochs)),
    )  # fmt: skip


def learning_rate_too_high(history: History) -> Diagnosis | None:
    """Steps are too long.

    The outcome is poor (less than 0.3 of the way from guessing to certainty, worse than a linear classifier on patches,
    or diverged), and one of these shows: steps that move a layer by more than 0.3 of its length, weights that grew
    tenfold, a loss that rose above three times what guessing loses, a training loss that ends a fifth above its least
    at a rate that did not rise.
    """
    if history.multi_label or not history.steps or not (history.diverged or history.has_begun(EARLY)):
        return None
    signs, loss = [], history.step_loss
    if len(history.update_ratios) and (peak := float(history.update_ratios.max())) > HIGH_RATIO:
        step = history.observations[int(history.update_ratios.argmax())].step
        signs.append(f"step {step} moved half of the layers by more than {peak:.0%} of their length")
    if (growth := _growth(history)) > GROWTH:
        signs.append(f"half of the layers have weights more than {growth:.0f} times as long as after the first step")
    if loss.max() > SPIKE * history.chance_loss and loss[0] < 1.5 * history.chance_loss:
        signs.append(f"the loss went from {loss[0]:.3g} up to {loss.max():.3g} in step {int(loss.argmax()) + 1}")
    if (rise := _rise(history)) is not None:
        signs.append(rise)
    poor = _poor(history)
    if not signs or poor is None:
        return None
    return Diagnosis(
        "learning_rate_too_high", "error", "the learning rate is too high", (*signs, poor),
        "each step overshoots: what one batch taught the next one undoes, and weights grow",
        f"try training.learning_rate={history.recipe.training.learning_rate / 10:g}, a tenth; "
        "or training.warmup_epochs=1 where only the first steps fail",
        _last_epoch(history) and (1, max(1, len(history.epochs))),
    )  # fmt: skip


def learning_rate_too_low(history: History) -> Diagnosis | None:
    """Steps are too short.

    None that was seen moved half of the trained layers by a thousandth of their length; the training loss never rose by
    more than a hundredth, but has come less than 0.3 of the way from guessing to certainty.
    """
    if not history.has_begun(EARLY) or history.multi_label or not len(history.update_ratios):
        return None
    peak, loss = float(history.update_ratios.max()), history.train_loss
    steady = bool(np.all(loss[1:] <= loss[:-1] * 1.01))
    if peak >= LOW_RATIO or not steady or history.learnt(loss[-1]) >= POOR:
        return None
    return Diagnosis(
        "learning_rate_too_low", "error", "the learning rate is too low",
        (
            f"no step that was seen moved half of the layers by more than {peak:.2g} of their length; 0.001 to 0.01 "
            "are usual",
            f"the training loss went from {loss[0]:.4f} to {loss[-1]:.4f} in {len(loss)} epochs; guessing loses "
            f"{history.chance_loss:.4f}",
        ),
        "the weights hardly move, so the network stays what it was at the beginning",
        f"try training.learning_rate={history.recipe.training.learning_rate * 10:g}, ten times as high",
        (1, len(loss)),
    )  # fmt: skip


def loss_not_falling(history: History) -> Diagnosis | None:
    """The training loss has not fallen over five epochs, at a rate above a twentieth of its highest (lecture: L1.8).

    The network has learnt less than 0.3 of the way to certainty.
    """
    stands = _stands(history)
    if stands is None or history.learnt(float(history.train_loss.min())) >= POOR:
        return None
    return Diagnosis(
        "loss_not_falling", "error", f"the training loss has not fallen for {WINDOW} epochs", (stands,),
        "the learning rate is too high, the network too small for the task, or something is wrong with the data",
        "lower the learning rate by ten; if that changes nothing, look at the data: eyebright data, eyebright curate",
        (len(history.epochs) - WINDOW, len(history.epochs)),
    )  # fmt: skip


def plateau(history: History) -> Diagnosis | None:
    """The training loss stands where a lower learning rate would help.

    The network has learnt something, then the training loss has not fallen over five epochs at a rate above a
    twentieth of its highest.
    """
    stands = _stands(history)
    if stands is None or history.learnt(float(history.train_loss.min())) < POOR:
        return None
    return Diagnosis(
        "plateau", "warning", "the training loss stands still: a lower learning rate would help", (stands,),
        "steps of this length jump across the valley that they should go down into",
        'divide the rate: training.schedule="cosine", or "multi_step" with a milestone at epoch '
        f"{max(1, len(history.epochs) - WINDOW)}",
        (len(history.epochs) - WINDOW, len(history.epochs)),
    )  # fmt: skip


def _stands(history: History) -> str | None:
    """In words that the training loss of the last epochs is no lower than before, unless nothing is left to learn."""
    loss, rate = history.train_loss, history.learning_rate
    if len(loss) <= WINDOW or history.multi_label or history.learnt(float(loss.min())) > CERTAIN:
        return None
    before, last = float(loss[:-WINDOW].min()), float(loss[-WINDOW:].min())
    if last <= (1 - FALL) * before or rate[-1] < ANNEALED * rate.max():
        return None
    return (
        f"least training loss up to epoch {len(loss) - WINDOW}: {before:.4f}; since then: {last:.4f}, at a learning "
        f"rate of {rate[-1]:g}"
    )


def _poor(history: History) -> str | None:
    """In words how poor the outcome is; None where it is not."""
    if history.diverged:
        return history.diverged
    if not history.epochs:
        return None
    learnt = history.learnt(float(history.train_loss[-1]))
    if learnt < POOR:
        return (
            f"the training loss is {history.train_loss[-1]:.4f} in the end; guessing loses {history.chance_loss:.4f}, "
            f"certainty {history.least_loss:.4f}"
        )
    return worse_than_baseline(history)


def worse_than_baseline(history: History) -> str | None:
    """In words that a linear classifier on patches does better; None where it does not, or was not asked."""
    if history.answers is None or history.answers.baseline_accuracy is None or not history.validates:
        return None
    best, share = float(np.nanmax(history.val_accuracy)), history.answers.baseline_accuracy
    if interval(best, history.val_count)[1] >= interval(share, history.answers.baseline_count)[0]:
        return None
    return f"a linear classifier on patches reaches {share:.1%}, the network at best {best:.1%}"


def _growth(history: History) -> float:
    """How many times as long the weights are as after the first step, in the median over layers."""
    if len(history.observations) < 2:
        return 1.0
    first, last = (moving(history.observations[place].layers) for place in (0, -1))
    before = {layer.name: layer.weight_norm for layer in first}
    ratios = [layer.weight_norm / before[layer.name] for layer in last if before.get(layer.name)]
    return float(np.median(ratios)) if ratios else 1.0


def _rise(history: History) -> str | None:
    """In words that the training loss rose to a fifth above its least, while the rate did not."""
    loss: Values = history.train_loss
    if len(loss) < 3:
        return None
    least = int(loss.argmin())
    if loss[-1] < 1.2 * loss[least] or history.learning_rate[-1] > 1.01 * history.learning_rate[least]:
        return None
    if history.learnt(float(loss[least])) > CERTAIN:  # a small number is easily a fifth larger
        return None
    return f"the training loss rose from {loss[least]:.4f} in epoch {least + 1} to {loss[-1]:.4f}"


def _losses_before(history: History) -> tuple[str, ...]:
    last = history.step_loss[-5:]
    return (f"the last losses before: {', '.join(f'{value:.3g}' for value in last)}",) if len(last) else ()


def _last_epoch(history: History) -> tuple[int, int] | None:
    epoch = history.steps[-1]["epoch"] if history.steps else 0
    return (epoch, epoch) if epoch else None
