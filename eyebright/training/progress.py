"""What a person sees while training goes on: a bar with speed and time left, a line for each epoch."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from eyebright.training.estimate import Estimate, in_words
from eyebright.training.fit import Fit, Report, StepReport


class Display:
    """Shows reports on a console: a moving bar on a terminal, lines otherwise.

    Args:
        console: where; a quiet one shows nothing.
    """

    def __init__(self, console: Console):
        self.console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[details]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._foretold = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints one line above the bar."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def count(self, description: str, total: int | None = None) -> None:
        """Begins a bar that `tick` or `reach` moves: for reading pictures, say. Without a total it only shows life."""
        self._replace(self._bar.add_task(description, total=total, details=""))

    def begin(self, description: str, total: int) -> Callable[[], object]:
        """Begins a bar; what comes back moves it on by one."""
        self.count(description, total or None)
        return self.tick

    def tick(self) -> None:
        """One more."""
        if self._task is not None:
            self._bar.advance(self._task)

    def reach(self, done: int) -> None:
        """So many are done."""
        if self._task is not None:
            self._bar.update(self._task, completed=done)

    def take(self, report: StepReport | Report, fit: Fit, estimate: Estimate) -> None:
        """Shows one report."""
        if isinstance(report, Report):
            left = estimate.remaining()
            ending = f", {in_words(left)} left" if left and not fit.finished else ""
            self.say(f"{_epoch_line(report, fit)}{ending}")
            return
        if report.step_in_epoch == 1 or self._task is None:
            self._replace(self._bar.add_task(f"epoch {report.epoch}", total=report.steps_per_epoch, details=""))
        if self._task is not None:
            left = estimate.remaining()
            details = f"loss {report.loss:.3f}  {report.images / report.seconds:,.0f} images/s"
            details += f"  {in_words(left)} left" if left else ""
            self._bar.update(self._task, completed=report.step_in_epoch, details=details)
        if estimate.first is not None and not self._foretold:
            self._foretold = True
            epochs = fit.recipe.training.epochs
            self.say(
                f"{epochs} {'epoch' if epochs == 1 else 'epochs'} will take about {in_words(estimate.first)} "
                f"(measured over the first {report.step} steps)"
            )

    def _replace(self, task: TaskID) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = task


def _epoch_line(report: Report, fit: Fit) -> str:
    line = (
        f"epoch {report.epoch:3d}/{fit.recipe.training.epochs}  "
        f"train loss {report.train_loss:.4f} accuracy {report.train_accuracy:6.2%}"
    )
    if report.val_loss is not None:
        mark = " (best)" if report.best else ""
        line += f"  validation loss {report.val_loss:.4f} accuracy {report.val_accuracy:6.2%}{mark}"
    return f"{line}  {report.images_per_second:,.0f} images/s, {in_words(report.seconds)}"
