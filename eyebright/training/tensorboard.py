"""TensorBoard's event files, from reports. Needs the extra ``eyebright[track]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eyebright.errors import EyebrightError
from eyebright.training.fit import Report, StepReport


class TensorBoard:
    """Writes reports as scalars into a folder that ``tensorboard --logdir`` reads.

    Args:
        folder: where the event files go.
        step: what was written for later steps than this, before the run was interrupted, is no longer shown.

    Raises:
        EyebrightError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int = 0):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise EyebrightError(
                "TensorBoard is not installed",
                expected="the package tensorboard",
                remedy="pip install 'eyebright[track]', or leave --tensorboard out",
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def take(self, report: StepReport | Report) -> None:
        """Writes one report."""
        if isinstance(report, StepReport):
            values: dict[str, float | None] = {"step/loss": report.loss, "step/learning_rate": report.learning_rate}
        else:
            names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "images_per_second")
            values = {f"epoch/{name}": getattr(report, name) for name in names}
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, report.step)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
