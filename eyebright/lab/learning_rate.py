"""The learning-rate range test: the rate grows from step to step, and the loss says where it is too low and too high.

Source:
    Smith: Cyclical Learning Rates for Training Neural Networks, WACV 2017, §3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyebright.errors import TrainingDivergedError
from eyebright.inspection.style import BLUE, GREY, ORANGE, RED, make_figure, tidy
from eyebright.training.fit import Fit, StepReport

LOW, HIGH = 1e-6, 10.0
STEPS = 200
SMOOTHING = 0.9  # of the exponential average of the loss, corrected for its beginning
GIVES_UP = 4.0  # times the first loss: from here on it only grows


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What was seen.

    Attributes:
        rates: float64 `[T]`: the learning rate of each step.
        losses: float64 `[T]`: the loss before that step.
        diverged: whether the loss was no longer a finite number in the end.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    diverged: bool

    @property
    def smooth(self) -> NDArray[np.float64]:
        """The losses' exponential average, `[T]`."""
        average, found = 0.0, []
        for number, loss in enumerate(self.losses, 1):
            average = SMOOTHING * average + (1 - SMOOTHING) * float(loss)
            found.append(average / (1 - SMOOTHING**number))
        return np.array(found)

    @property
    def too_high(self) -> float | None:
        """The rate from which on the loss rises above where it began; None where none was so high."""
        smooth = self.smooth
        least = int(smooth.argmin())
        above = np.flatnonzero(smooth[least:] > max(smooth[0], 1.05 * smooth[least]))
        return float(self.rates[least + above[0]]) if len(above) else None

    @property
    def steepest(self) -> float:
        """The rate at which the loss falls fastest, for equal ratios of the rate."""
        smooth, width = self.smooth, max(1, len(self.losses) // 20)
        until = max(width + 1, int(smooth.argmin()) + 1)
        fall = smooth[: until - width] - smooth[width:until]
        return float(self.rates[int(fall.argmax()) + width // 2])

    @property
    def suggested(self) -> float:
        """A tenth of the rate at which the loss is least: still falling, with room above."""
        return float(self.rates[int(self.smooth.argmin())]) / 10


def range_test(
    fit: Fit, *, low: float = LOW, high: float = HIGH, steps: int = STEPS, on_step: Callable[[], object] = lambda: None
) -> RangeTest:
    """Trains with a rate that grows from `low` to `high`; then all is as it was: weights, optimiser, step.

    Args:
        fit: which has not begun, or has.
        low: the first rate.
        high: the last one; the test ends before where the loss is four times the first one.
        steps: how many; fewer where the recipe's epochs have fewer.
        on_step: called after each.
    """
    before = fit.state()
    steps = max(2, min(steps, fit.loader.steps * fit.recipe.training.epochs - fit.step))
    rates = np.geomspace(low, high, steps)
    seen: list[float] = []
    first = fit.step
    fit.rate = lambda step: float(rates[min(step - first, steps - 1)])
    diverged = False
    try:
        for report in fit.steps():
            if not isinstance(report, StepReport):
                continue
            seen.append(report.loss)
            on_step()
            if len(seen) >= steps or report.loss > GIVES_UP * seen[0]:
                break
    except TrainingDivergedError:
        diverged = True
    finally:
        fit.rate = None
        fit.load_state(before)
    return RangeTest(rates[: len(seen)], np.array(seen), diverged)


def say_range(found: RangeTest, used: float) -> list[str]:
    """What there is to see, in sentences; `used` is the recipe's own rate."""
    said = [
        f"the loss falls fastest at a rate of {found.steepest:.2g}; try {found.suggested:.2g} (a tenth of where it is "
        f"least); the recipe has {used:g}"
    ]
    if found.too_high is not None:
        said.append(f"from {found.too_high:.2g} on the loss is higher than in the beginning: too high")
    if found.too_high is not None and used > found.too_high:
        said.append("the recipe's rate is above that: it will not train, unless it is warmed up")
    return said


def draw_range(found: RangeTest, used: float) -> Figure:
    """Draws the loss against the rate, with what is suggested, what is used and what is too high."""
    figure = make_figure(8, 4.2)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, color=BLUE, alpha=0.3, linewidth=1)
    axes.plot(found.rates, found.smooth, color=BLUE, linewidth=1.8)
    marks = [(found.suggested, ORANGE, "suggested"), (used, GREY, "the recipe's")]
    if found.too_high is not None:
        marks.append((found.too_high, RED, "too high"))
    for rate, color, label in marks:
        axes.axvline(rate, color=color, linestyle="--", linewidth=1.2, label=f"{label}: {rate:.2g}")
    axes.set_xscale("log")
    smooth = found.smooth
    axes.set_ylim(min(found.losses.min(), smooth.min()) * 0.9, 1.6 * smooth[0])
    tidy(axes, "Learning-rate range test", "learning rate", "loss of a step, nats")
    axes.legend(frameon=False, fontsize=9)
    return figure
