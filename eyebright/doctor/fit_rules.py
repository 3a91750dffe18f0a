"""Rules about how training and validation go together: overfitting, underfitting, double descent."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from eyebright.data.augment import Augment
from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.history import History, Values
from eyebright.doctor.learning_rules import worse_than_baseline

GAP = 0.10  # training minus validation accuracy
WIDE = 0.20  # a gap that needs no further sign
TURNED = 1.10  # times its least that validation loss has become
FITTED = 0.4  # of the way from guessing to certainty: less is underfitting, where nothing moves any more
CLOSE = 0.03  # between training and validation accuracy
STILL = 0.03  # share of the loss by which the last third of training lowered it
SMOOTH, SHARE = 5, 15  # epochs whose median stands for the middle one: five, or a fifteenth of all
MUCH_DROPOUT = 0.5  # the share that is dropped
HIDDEN = 0.15  # of the way from guessing to certainty, between training with dropout and validation without
HUMP = 0.02  # of validation error, at least
LASTS = 3  # epochs that a hump lasts, at least
DEVIATIONS = 3.0  # standard errors of a difference
JUMPS = 8.0  # usual jumps from epoch to epoch, divided by the root of the epochs that are smoothed over


def overfitting(history: History) -> Diagnosis | None:
    """The network learns the training pictures by heart (lecture: L1.9).

    Training accuracy is more than 10 points above validation accuracy, and above its 95 % interval by 5, and either
    the validation loss has risen by a tenth from its least, or the gap is above 20 points. 100 % on training with
    validation in agreement is none (L3.9).
    """
    if not history.validates or history.multi_label:
        return None
    train, val = float(history.train_accuracy[-1]), float(history.val_accuracy[-1])
    loss = history.val_loss
    least = int(np.nanargmin(loss))
    turned = loss[-1] > TURNED * loss[least] and least < len(loss) - 1
    apart = train - val > GAP and train - history.val_interval(len(loss))[1] > GAP / 2
    if not apart or not (turned or train - val > WIDE) or history.val_at_chance:
        return None
    gaps = history.train_accuracy - history.val_accuracy
    begin = int(np.flatnonzero(gaps <= GAP)[-1]) + 2 if np.any(gaps <= GAP) else 1
    evidence = [f"in epoch {len(loss)} training accuracy is {train:.1%}, validation {val:.1%}: {train - val:.1%} apart"]
    if turned:
        evidence.append(f"validation loss was least in epoch {least + 1}, {loss[least]:.4f}; now it is {loss[-1]:.4f}")
    if begin <= len(loss):
        evidence.append(f"since epoch {begin} they are more than {GAP:.0%} apart")
    return Diagnosis(
        "overfitting", "warning", "the network learns the training pictures by heart", tuple(evidence),
        "it has enough weights to tell every training picture apart, and too few pictures to be kept from it",
        _remedies(history), (min(begin, len(loss)), len(loss)),
    )  # fmt: skip


def underfitting(history: History) -> Diagnosis | None:
    """The network does worse than a linear classifier on patches.

    Or training loss stands (less than 3 % lower over the last third of the epochs) at less than 0.4 of the way to
    certainty, with validation within 3 points of training.
    """
    if not history.validates or history.multi_label or history.val_at_chance:
        return None
    worse, loss = worse_than_baseline(history), history.train_loss
    train, val = float(history.train_accuracy[-1]), float(history.val_accuracy[-1])
    third = max(1, len(loss) // 3)
    stands = len(loss) >= 6 and loss[-1] > (1 - STILL) * loss[-1 - third] and history.learnt(float(loss[-1])) < FITTED
    if worse is None and not (stands and train - val < CLOSE):
        return None
    if worse is not None and train - val > GAP:
        return None  # it has learnt the training pictures: that is another fault
    evidence = [worse] if worse is not None else []
    evidence.append(f"training accuracy is {train:.1%}, validation {val:.1%} in epoch {len(loss)}")
    if stands:
        evidence.append(f"training loss fell from {loss[-1 - third]:.4f} to {loss[-1]:.4f} in the last {third} epochs")
    return Diagnosis(
        "underfitting", "warning", "the network does not even fit the training pictures", tuple(evidence),
        "it is too small or held back too much for these pictures, or was trained too briefly",
        "train longer, take a larger network, or less dropout, weight decay and augmentation",
        (max(1, len(loss) - third), len(loss)),
    )  # fmt: skip


def dropout_too_strong(history: History) -> Diagnosis | None:
    """Dropout hides more than the network can do without.

    Nothing is augmented, half or more is dropped somewhere, and the least training loss, with dropout, is further from
    certainty than the least validation loss, without, by 0.15 of the way from guessing.
    """
    if not history.validates or history.multi_label or history.recipe.augment != Augment():
        return None
    shares = [layer.p for layer in history.layers.values() if isinstance(layer, nn.Dropout | nn.Dropout2d)]
    if max(shares, default=0.0) < MUCH_DROPOUT:
        return None
    train, val = float(history.train_loss.min()), float(np.nanmin(history.val_loss))
    hidden = history.learnt(val) - history.learnt(train)
    if hidden < HIDDEN:
        return None
    return Diagnosis(
        "dropout_too_strong", "warning", "dropout is so strong that the network hardly learns through it",
        (
            f"up to {max(shares):.0%} is dropped",
            f"the least training loss is {train:.4f}, with dropout; the least validation loss {val:.4f}, without; "
            f"guessing loses {history.chance_loss:.4f}",
        ),
        "what is dropped in a step cannot be learnt in it; the more is dropped, the more steps it takes",
        "less dropout (model.dropout, model.channel_dropout), or more epochs",
        (1, len(history.epochs)),
    )  # fmt: skip


def double_descent(history: History) -> Diagnosis | None:
    """Validation error fell, rose, and fell again: epoch-wise double descent (lecture: L1.9).

    Training loss kept falling meanwhile and the learning rate was not lowered. The hump is in the median of five
    epochs (of a fifteenth of all, in long runs), more than 2 points high on both sides, more than three standard
    errors and clearly more than what epochs usually jump by, and lasts three epochs. While validation error has
    risen so far and not fallen again, a note says that it may (Nakkiran et al. 2020, §7).
    """
    if not history.validates or history.multi_label or len(history.epochs) < 2 * SMOOTH:
        return None
    error = smooth(1 - history.val_accuracy)
    high, about = least_hump(history, error), f"median of {_window(len(error))} epochs"
    hump = find_hump(error, high)
    if hump is not None:
        first, top, last = hump
        loss, rate = history.train_loss, history.learning_rate
        if not loss[last] < loss[top] < loss[first] or rate[last] < 0.7 * rate[top]:
            return None
        return Diagnosis(
            "double_descent", "warning", "validation error fell, rose and fell again: epoch-wise double descent",
            (
                f"validation error ({about}): {error[first]:.1%} about epoch {first + 1}, "
                f"{error[top]:.1%} about epoch {top + 1}, {error[last]:.1%} about epoch {last + 1}",
                f"training loss fell all the while: {loss[first]:.4f}, {loss[top]:.4f}, {loss[last]:.4f}",
                f"training accuracy at the top of the hump: {history.train_accuracy[top]:.1%}",
            ),
            "where the network has just enough room to fit every training picture, wrong labels included, there is "
            "one way "
            "to do it, and a rugged one; beyond, smoother ones are found",
            "do not stop at the first minimum; more weight decay or augmentation flattens the hump; wrong labels "
            "raise it: "
            "eyebright curate",
            (first + 1, last + 1),
        )  # fmt: skip
    first = int(error.argmin())
    now = len(error) - 1
    risen = error[now] - error[first]
    fitting = history.train_loss[now] < 0.9 * history.train_loss[first] and history.train_accuracy[now] < 0.98
    if history.finished or risen <= high or now - first < LASTS or not fitting:
        return None
    return Diagnosis(
        "double_descent", "note", "validation error is rising; it may fall again: double descent",
        (
            f"validation error ({about}) was {error[first]:.1%} about epoch {first + 1}, now "
            f"{error[now]:.1%}; training loss fell from {history.train_loss[first]:.4f} to "
            f"{history.train_loss[now]:.4f}",
            f"training accuracy is {history.train_accuracy[now]:.1%}: the hump's top lies about where it reaches 100 %",
        ),
        "this is overfitting, or the first half of epoch-wise double descent; only going on tells",
        "do not stop yet if time allows; the best weights so far are kept either way",
        (first + 1, now + 1),
    )  # fmt: skip


def smooth(values: Values) -> Values:
    """The median of five neighbours, of more in long curves, of fewer at their ends."""
    reach = _window(len(values)) // 2
    return np.array([np.median(values[max(0, place - reach) : place + reach + 1]) for place in range(len(values))])


def find_hump(error: Values, high: float, lasts: int = LASTS) -> tuple[int, int, int] | None:
    """The highest hump of a curve: where it begins, its top and where it ends; None where none is high enough.

    Args:
        error: smoothed, `[epochs]`, say.
        high: how much the top must be above the least before it and the least after it.
        lasts: how many places of it must be in its upper half.
    """
    best: tuple[float, tuple[int, int, int]] | None = None
    for top in range(1, len(error) - 1):
        first, last = int(error[:top].argmin()), top + 1 + int(error[top + 1 :].argmin())
        height = float(min(error[top] - error[first], error[top] - error[last]))
        upper = int((error[first : last + 1] > error[top] - height / 2).sum())
        if height > high and upper >= lasts and (best is None or height > best[0]):
            best = height, (first, top, last)
    return best and best[1]


def least_hump(history: History, error: Values) -> float:
    """How high a hump must be to be no chance: above 2 points, sampling error and what epochs usually jump by."""
    middle = float(np.median(error))
    standard_error = math.sqrt(2 * middle * (1 - middle) / max(history.val_count, 1))
    jumps = float(np.median(np.abs(np.diff(1 - history.val_accuracy)))) / math.sqrt(_window(len(error)))
    return max(HUMP, DEVIATIONS * standard_error, JUMPS * jumps)


def _window(epochs: int) -> int:
    return max(SMOOTH, epochs // SHARE)


def _remedies(history: History) -> str:
    augment, training = history.recipe.augment, history.recipe.training
    found = []
    if not augment.crops:
        found.append("random crops and flips ([augment] random_crop, horizontal_flip)")
    if not augment.mixup and not augment.cutmix:
        found.append("mixup or CutMix")
    found.append("colour and rotation, where they keep the label true")
    if training.weight_decay == 0:
        found.append("weight decay (training.weight_decay=5e-4)")
    found.append("more dropout, a smaller network, more pictures")
    return "; ".join(found)
