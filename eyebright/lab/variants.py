"""Trainings that differ in one thing: made, kept, and told apart over seeds."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eyebright import __version__
from eyebright.data.split import Splits, make_contract
from eyebright.errors import TrainingDivergedError
from eyebright.files import file_digest, make_folder, write_atomically
from eyebright.inspection.curves import draw_runs
from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, tidy
from eyebright.tensors import read_safetensors, write_safetensors
from eyebright.training.fit import Fit, Report, State, StepReport
from eyebright.training.recipe import Recipe, load_recipe
from eyebright.training.run import METRICS

Metrics = list[dict[str, Any]]  # a line an epoch, as in metrics.jsonl
Begin = Callable[[str, int], Callable[[], object]]  # what is done, in how many steps → moves the bar on
Look = Callable[[Fit], Any]  # what is to be seen in a network in training, as plain values

KIND, FORMAT_VERSION = "eyebright.unfinished", 1
MADE = "made"  # the tensor of an unfinished training that holds what came of it so far, as JSON
SAVED_EVERY = 30.0  # seconds, about, after which an unfinished training is kept


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        name: of it.
        changes: of the recipe: ``"model.dropout=0.5"``.
    """

    name: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of one variant.

    Attributes:
        name: of the variant.
        runs: seed → its metrics, of the epochs that were done.
        seen: seed → what was looked for, every `observe_steps` steps.
        diverged: the seeds with which the loss was no longer a finite number, which ended the training.
    """

    name: str
    runs: dict[int, Metrics]
    seen: dict[int, list[Any]]
    diverged: frozenset[int] = frozenset()

    def last(self, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """A figure of the last epoch, float64 `[seeds]`; of trainings that diverged, NaN."""
        return np.array(
            [math.nan if seed in self.diverged else lines[-1][key] for seed, lines in self.runs.items()],
            dtype=np.float64,
        )

    @property
    def gaps(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Training minus validation accuracy in the last epoch, float64 `[seeds]`."""
        return self.last("train_accuracy") - self.last("val_accuracy")


def train_variants(
    base: Recipe,
    variants: Sequence[Variant],
    splits: Splits,
    *,
    seeds: int,
    kept: Path,
    begin: Begin = lambda what, total: lambda: None,
    look: Look | None = None,
) -> list[Outcome]:
    """Trains every variant with every seed.

    What is in the folder `kept` already is not trained again; a training that was broken off goes on where it was kept
    last, to the same end.

    Args:
        base: what all have in common.
        variants: what differs.
        splits: the same for all; validation is needed.
        seeds: how many, from 0 on.
        kept: where finished trainings are kept.
        begin: called with what is trained next and how many steps it has.
        look: called with the Fit at each step in which training is observed; a function that has a name, by which kept
            trainings are told apart.

    Raises:
        RecipeError: a change does not fit the recipe, or the recipe the data.
        OutputError: the folder cannot be written.
    """
    make_folder(kept)
    recipes = [load_recipe(base, variant.changes) for variant in variants]  # all, before anything slow
    pictures = make_contract(splits).root
    outcomes = []
    for row, (variant, recipe) in enumerate(zip(variants, recipes, strict=True)):
        runs, seen, diverged = {}, {}, set()
        for seed in range(seeds):
            about = f"{row * seeds + seed + 1} of {len(recipes) * seeds}: {variant.name}, seed {seed}"
            path = kept / f"{_name(recipe, seed, pictures, look)}.json"
            if not path.exists():
                _train(recipe, splits, seed, path, partial(begin, about), look)
            made = json.loads(path.read_text(encoding="utf-8"))
            runs[seed], seen[seed] = made["metrics"], made["seen"]
            if made["diverged"]:
                diverged.add(seed)
        outcomes.append(Outcome(variant.name, runs, seen, frozenset(diverged)))
    return outcomes


def _name(recipe: Recipe, seed: int, pictures: str, look: Look | None) -> str:
    """Of the file that a training is kept in: another one for whatever could make it another training."""
    plan = recipe.plan()
    weights = recipe.model.weights
    digest = file_digest(Path(weights)) if weights is not None and Path(weights).is_file() else None
    what = [__version__, recipe.to_toml(), digest, seed, plan.as_dict(), look and look.__qualname__, pictures]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _train(
    recipe: Recipe,
    splits: Splits,
    seed: int,
    path: Path,
    begin: Callable[[int], Callable[[], object]],
    look: Look | None,
) -> None:
    """Trains, or goes on where it was broken off, and writes what came of it."""
    fit = Fit(recipe, splits, seed=seed, plan=recipe.plan())
    unfinished = path.with_suffix(".safetensors")
    made: dict[str, Any] = {"metrics": [], "seen": [], "diverged": False}
    if unfinished.exists():
        tensors, header = read_safetensors(unfinished, KIND, FORMAT_VERSION)
        made = json.loads(tensors.pop(MADE).numpy().tobytes())
        fit.load_state(State(tensors, header["state"]))
    tick = begin(fit.loader.steps * recipe.training.epochs - fit.step)
    saved = time.monotonic()
    try:
        for report in fit.steps():
            if isinstance(report, StepReport):
                tick()
                if look is not None and report.observation is not None:
                    made["seen"].append(look(fit))
            elif isinstance(report, Report):
                made["metrics"].append({key: getattr(report, key) for key in METRICS})
                if time.monotonic() - saved >= SAVED_EVERY:
                    state = fit.state()
                    seen = torch.frombuffer(bytearray(json.dumps(made).encode()), dtype=torch.uint8)
                    header = {"format_version": FORMAT_VERSION, "state": state.values}
                    write_safetensors(unfinished, state.tensors | {MADE: seen}, KIND, header)
                    saved = time.monotonic()
    except TrainingDivergedError:  # that is an outcome, too
        made["diverged"] = True
    write_atomically(path, [json.dumps(made).encode()])
    unfinished.unlink(missing_ok=True)


def say_outcomes(outcomes: Sequence[Outcome]) -> list[str]:
    """Each variant's accuracy and gap in sentences, the best on validation first."""
    order = sorted(outcomes, key=lambda one: -np.nan_to_num(one.last("val_accuracy"), nan=-1).mean())
    return [
        f"{one.name}: validation {spread(one.last('val_accuracy'))}, training {spread(one.last('train_accuracy'))}, "
        f"gap {spread(one.gaps)}"
        for one in order
    ]


def plain(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
    """Values for JSON, which has none for what is no number."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def spread(values: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """Mean and ends of some shares, in per cent.

    >>> spread(np.array([0.5, 0.6]))
    '55.0% (50.0 to 60.0)'
    """
    if np.isnan(values).any():
        return f"no number in {int(np.isnan(values).sum())} of {len(values)}"
    mean = f"{values.mean():.1%}"
    return mean if len(values) == 1 else f"{mean} ({100 * values.min():.1f} to {100 * values.max():.1f})"


def draw_outcomes(outcomes: Sequence[Outcome]) -> Figure:
    """Draws the curves of all variants of which an epoch was done, each with the spread over its seeds."""
    curves = {one.name: [lines for lines in one.runs.values() if lines] for one in outcomes}
    return draw_runs({name: runs for name, runs in curves.items() if runs})


def draw_gaps(outcomes: Sequence[Outcome], title: str) -> Figure:
    """Draws training and validation accuracy of each variant, a dot for a seed, and the gap between them."""
    figure = make_figure(9, 1.3 + 0.48 * len(outcomes))
    axes = figure.subplots()
    for row, one in enumerate(outcomes):
        train, val = one.last("train_accuracy"), one.last("val_accuracy")
        if not np.isnan(val).all():
            axes.plot([np.nanmean(val), np.nanmean(train)], [row, row], color=GREY, linewidth=4, alpha=0.35)
        axes.plot(train, [row] * len(train), "o", color=BLUE, label="training" if row == 0 else None)
        axes.plot(val, [row] * len(val), "o", color=ORANGE, label="validation" if row == 0 else None)
    axes.set_yticks(range(len(outcomes)), [one.name for one in outcomes])
    axes.set_ylim(len(outcomes) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    tidy(axes, title, "accuracy in the last epoch")
    axes.legend(frameon=False, fontsize=8)
    return figure
