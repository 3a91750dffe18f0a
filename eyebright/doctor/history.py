"""What the doctor's rules look at: everything that a run has written of itself, and what it answers now."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eyebright.data.labels import is_multi_label
from eyebright.data.split import Contract
from eyebright.doctor.answers import Answers
from eyebright.evaluation.evaluate import wilson_interval
from eyebright.models.create import create_model
from eyebright.training.observe import LayerState, Observation
from eyebright.training.recipe import Recipe
from eyebright.training.run import Run

Values = NDArray[np.float64]
AT_CHANCE = 0.05  # of the way from guessing to certainty: less is no learning


@dataclass(frozen=True, eq=False, repr=False)
class History:
    """A run as far as it has come.

    Attributes:
        recipe: how it is trained.
        classes: class names in order.
        counts: part → pictures of each class.
        epochs: the lines of ``metrics.jsonl``.
        steps: the lines of ``steps.jsonl``.
        observations: the lines of ``layers.jsonl``.
        finished: whether training is done.
        diverged: what ended it, where the loss was no longer a finite number; else empty.
        openings: how often the test part has been opened, and what for: ``{"time": …, "purpose": …}``.
        shared: (part, part) → names of pictures of the second that stand in the first, pixel for pixel.
        multi_label: whether a picture can have several labels.
        answers: what the network answers now; None while it trains.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    counts: dict[str, list[int]]
    epochs: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    observations: list[Observation]
    finished: bool = False
    diverged: str = ""
    openings: tuple[dict[str, str], ...] = ()
    shared: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    multi_label: bool = False
    answers: Answers | None = None

    def column(self, name: str) -> Values:
        """One figure of every epoch, float64 `[epochs]`; NaN where there is none."""
        return np.array([math.nan if line[name] is None else line[name] for line in self.epochs], dtype=np.float64)

    @cached_property
    def train_loss(self) -> Values:
        """Mean training loss of every epoch."""
        return self.column("train_loss")

    @cached_property
    def train_accuracy(self) -> Values:
        """Training accuracy of every epoch, as the pictures were met."""
        return self.column("train_accuracy")

    @cached_property
    def val_loss(self) -> Values:
        """Validation loss of every epoch."""
        return self.column("val_loss")

    @cached_property
    def val_accuracy(self) -> Values:
        """Validation accuracy of every epoch."""
        return self.column("val_accuracy")

    @cached_property
    def learning_rate(self) -> Values:
        """Learning rate at every epoch's end."""
        return self.column("learning_rate")

    @cached_property
    def step_loss(self) -> Values:
        """Loss of every step."""
        return np.array([line["loss"] for line in self.steps], dtype=np.float64)

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch."""
        if self.epochs:
            return int(self.epochs[0]["step"])
        return max(1, sum(self.counts["train"]) // self.recipe.training.batch_size)

    @property
    def validates(self) -> bool:
        """Whether there are epochs, and figures on validation for them."""
        return bool(self.epochs) and self.epochs[-1]["val_loss"] is not None

    def has_begun(self, epochs: int) -> bool:
        """Whether it is done, or so many epochs are, before which it is too early to judge."""
        return bool(self.epochs) and (self.finished or bool(self.diverged) or len(self.epochs) >= epochs)

    @property
    def val_count(self) -> int:
        """Pictures of validation."""
        return sum(self.counts.get("val", []))

    @cached_property
    def chance_accuracy(self) -> float:
        """Accuracy of always answering the largest class, or of guessing among all."""
        counts = np.array(self.counts["train"], dtype=np.float64)
        return float(max(counts.max() / counts.sum(), 1 / len(counts)))

    @cached_property
    def chance_loss(self) -> float:
        """Cross-entropy of answering each class as often as it is there: ln(classes) where all are as many."""
        shares = np.array(self.counts["train"], dtype=np.float64)
        shares = shares[shares > 0] / shares.sum()
        return float(-(shares * np.log(shares)).sum())

    @cached_property
    def least_loss(self) -> float:
        """The training loss of a network that is always right and sure: above 0 where labels are smoothed."""
        smoothing, classes = self.recipe.training.label_smoothing, len(self.classes)
        shares = np.full(classes, smoothing / classes)
        shares[0] += 1 - smoothing
        shares = shares[shares > 0]
        return abs(float((shares * np.log(shares)).sum()))  # not -0

    @property
    def val_at_chance(self) -> bool:
        """Whether validation, where there is one, has never lost 5 % less than guessing does."""
        return self.validates and bool(np.nanmin(self.val_loss) > (1 - AT_CHANCE) * self.chance_loss)

    def learnt(self, train_loss: float) -> float:
        """How far a training loss has come from guessing to being always right, 0…1; below 0: worse than guessing."""
        return (self.chance_loss - train_loss) / max(self.chance_loss - self.least_loss, 1e-9)

    def val_interval(self, epoch: int) -> tuple[float, float]:
        """The 95 % interval of validation accuracy at the end of an epoch, counted from 1."""
        return interval(self.val_accuracy[epoch - 1], self.val_count)

    @cached_property
    def layers(self) -> dict[str, nn.Module]:
        """The network's layers by name, without weights."""
        with torch.device("meta"):
            return dict(create_model(self.recipe.model.name, **self.recipe.model.options).named_modules())

    @property
    def has_batch_norm(self) -> bool:
        """Whether the network normalises by the batch."""
        return any(isinstance(layer, nn.BatchNorm2d) for layer in self.layers.values())

    @property
    def convolutions(self) -> frozenset[str]:
        """Names of its convolutions."""
        return frozenset(name for name, layer in self.layers.items() if isinstance(layer, nn.Conv2d))

    @cached_property
    def pictures_at_once(self) -> int:
        """Pictures that batch norm sees together: a batch, or a piece of one."""
        training = self.recipe.training
        return max(1, min(training.batch_size, sum(self.counts["train"])) // training.accumulate)

    @cached_property
    def update_ratios(self) -> Values:
        """Of each observation the median over the layers that move of how far a step moves them, float64 `[M]`."""
        rows = ([layer.update_ratio for layer in moving(seen.layers)] for seen in self.observations)
        return np.array([np.median(row) if row else 0.0 for row in rows], dtype=np.float64)


def moving(layers: Iterable[LayerState]) -> list[LayerState]:
    """The layers that are trained."""
    return [layer for layer in layers if layer.gradient_norm is not None]


def interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many pictures."""
    return wilson_interval(round(share * count), count)


def read_history(run: Run, answers: Answers | None = None) -> History:
    """Reads what a run has written.

    Args:
        run: finished or not.
        answers: what its network answers now.

    Raises:
        StoredFileError: a file of the run is damaged.
    """
    environment = run.environment
    return replace(
        begin_history(run.recipe, run.contract),
        epochs=run.metrics(),
        steps=run.steps(),
        observations=run.observations(),
        finished=run.finished,
        diverged=environment.get("diverged", ""),
        openings=tuple(environment["test_openings"]),
        answers=answers,
    )


def begin_history(recipe: Recipe, contract: Contract) -> History:
    """A run that has not made a step yet.

    Args:
        recipe: how it will be trained.
        contract: on which pictures.
    """
    shared = contract.shared()
    return History(
        recipe=recipe,
        classes=contract.classes,
        counts=contract.counts,
        epochs=[],
        steps=[],
        observations=[],
        shared={parts: [contract.names[parts[1]][place] for _, place in pairs] for parts, pairs in shared.items()},
        multi_label=is_multi_label(contract.labels["train"]),
    )
