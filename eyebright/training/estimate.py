"""How long training will take: said after the first steps, and how good that was, said at the end."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median

from eyebright.training.fit import Fit, Report, StepReport

SETTLING_STEPS = 2  # the first steps allocate memory, choose algorithms, compile: they say nothing of the rest
SPEAKS_AFTER_STEPS = 10
SPEAKS_AFTER_SECONDS = 10.0  # of steps after these
VALIDATION_SHARE = 1 / 3  # of a training step's time that a picture costs without the backward pass


class Estimate:
    """Foretells the time of a whole run from the reports so far.

    Attributes:
        first: seconds for the whole training as foretold from the first steps; None until there are enough.
        spent: seconds of training and validation so far.
    """

    def __init__(self, fit: Fit):
        self._fit = fit
        self._steps: list[float] = []  # seconds, each divided by its step's size
        self._after_epoch: float | None = None
        self._in_epoch = 0.0
        self._settled_seconds = 0.0
        self.spent = 0.0
        self.first: float | None = None

    def take(self, report: StepReport | Report) -> None:
        """Learns from one report."""
        if isinstance(report, StepReport):
            self._steps.append(report.seconds / self._size(report.step - 1))
            self._settled_seconds += report.seconds if self._settled() else 0.0
            self._in_epoch += report.seconds
            self.spent += report.seconds
        else:
            self._after_epoch = max(0.0, report.seconds - self._in_epoch)
            self.spent += self._after_epoch
            self._in_epoch = 0.0
        enough = len(self._steps) >= SPEAKS_AFTER_STEPS or self._settled_seconds >= SPEAKS_AFTER_SECONDS
        if self.first is None and enough and self._settled():
            self.first = self.spent + (self.remaining() or 0.0)

    def remaining(self) -> float | None:
        """Seconds from now to the end of the last epoch; None while nothing is known."""
        if not self._settled():
            return None
        step_seconds = median(self._settled()[-200:])
        fit, epochs = self._fit, self._fit.recipe.training.epochs
        after_epoch = self._after_epoch
        if after_epoch is None:
            images = len(fit.val) if fit.val else 0
            after_epoch = images * step_seconds / fit.loader.batch_size * VALIDATION_SHARE
        return self._steps_left() * step_seconds + (epochs - fit.epoch) * after_epoch

    def _steps_left(self) -> float:
        """Steps to the end, each counted by the area of its pictures."""
        fit, training = self._fit, self._fit.recipe.training
        total = training.epochs * fit.loader.steps
        changes = [0, *(math.ceil(begin * total) for begin, _ in training.sides), total]
        return sum(self._size(first) * max(0, last - max(first, fit.step)) for first, last in pairwise(changes))

    def _size(self, step: int) -> float:
        """The area that pictures have in a step, of the area that whole ones have."""
        return math.prod(self._fit.size_at(step, self._fit.size)) / math.prod(self._fit.size)

    def _settled(self) -> list[float]:
        return self._steps[SETTLING_STEPS:]


def in_words(seconds: float) -> str:
    """A duration as a person would say it.

    >>> in_words(42), in_words(754), in_words(9000)
    ('42 s', '13 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
