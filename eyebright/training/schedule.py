"""Schedules of the learning rate: functions of the position in training, and the one that has a memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eyebright.training.recipe import TrainingSection

ONE_CYCLE_PEAK = 0.3  # share of training at which the highest rate is reached
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 250_000  # shares of the highest rate


def learning_rate_factor(training: TrainingSection, epochs_done: float) -> float:
    """What the recipe's learning rate is multiplied with at a position in training.

    Args:
        training: names the schedule and its durations.
        epochs_done: position, in epochs from the start; the middle of a step stands for the step.

    Returns:
        A factor from 0 to 1. For ``"plateau"`` it is the warm-up's only; `Plateau` has the rest.

    Sources: cosine: Loshchilov and Hutter, SGDR, 2017, eq. 5 without restarts. One cycle: Smith and Topin,
    Super-Convergence, 2018, with cosine flanks and a constant momentum.
    """
    if epochs_done < training.warmup_epochs:
        return epochs_done / training.warmup_epochs
    share = (epochs_done - training.warmup_epochs) / (training.epochs - training.warmup_epochs)
    match training.schedule:
        case "step":
            return training.factor ** (int(epochs_done) // training.step_epochs)
        case "multi_step":
            return training.factor ** sum(epochs_done >= milestone for milestone in training.milestones)
        case "cosine":
            return (1 + math.cos(math.pi * share)) / 2
        case "linear":
            return 1 - share
        case "one_cycle":
            return _one_cycle(share)
        case "constant" | "plateau":
            return 1.0


def _one_cycle(share: float) -> float:
    if share < ONE_CYCLE_PEAK:
        return _cosine_between(ONE_CYCLE_START, 1.0, share / ONE_CYCLE_PEAK)
    return _cosine_between(1.0, ONE_CYCLE_END, (share - ONE_CYCLE_PEAK) / (1 - ONE_CYCLE_PEAK))


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def side_at(training: TrainingSection, epochs_done: float) -> int | None:
    """Pixels to which the shorter side of training pictures is shrunk at a position in training; None: they are not."""
    share = epochs_done / training.epochs
    return next((side for begin, side in reversed(training.sides) if share >= begin), None)


@dataclass
class Plateau:
    """Lowers the learning rate when a figure has stopped improving.

    Attributes:
        factor: what the learning rate is multiplied with now.
        best: the best figure so far, larger being better; None before the first.
        stale_epochs: epochs since it last improved, or since the rate was last lowered.
    """

    factor: float = 1.0
    best: float | None = None
    stale_epochs: int = 0

    def update(self, figure: float, training: TrainingSection) -> None:
        """Takes an epoch's figure, larger being better."""
        if self.best is None or figure > self.best:
            self.best, self.stale_epochs = figure, 0
            return
        self.stale_epochs += 1
        if self.stale_epochs > training.patience_epochs:
            self.factor, self.stale_epochs = self.factor * training.factor, 0
