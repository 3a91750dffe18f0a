"""Trainings that take long: what they are asked for with, how they are done, and a folder where each is kept."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from eyebright.data.batches import keep_ready
from eyebright.data.sources import load_parts
from eyebright.data.split import Splits
from eyebright.device import Plan
from eyebright.evaluation.evaluate import Evaluation, evaluate
from eyebright.files import write_atomically
from eyebright.training.fit import Fit, Report, StepReport
from eyebright.training.recipe import Recipe, load_recipe


def add_options(options: argparse.ArgumentParser, epochs: int, seeds: int, kept: str) -> None:
    """What such trainings are asked for with."""
    options.add_argument("--data", required=True, help="CIFAR-10 in any form that `eyebright data` reads")
    options.add_argument("--epochs", type=int, default=epochs)
    options.add_argument("--pictures", type=int, help="so many of the training part; default: all")
    options.add_argument("--seeds", type=int, default=seeds)
    options.add_argument("--device", default="cpu")
    options.add_argument("--kept", type=Path, default=Path(kept), help="folder of finished trainings")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")


def make_fit(recipe: Recipe, seed: int, plan: Plan, given: argparse.Namespace) -> Fit:
    """A training on as many pictures as were asked for; the test part is there to be answered."""
    parts = load_parts(given.data)
    pictures = keep_ready(parts["train"], recipe.prepare)
    if given.pictures is not None:
        order = np.random.default_rng(0).permutation(len(pictures))[: given.pictures]
        pictures = pictures.select(np.sort(order))
    return Fit(recipe, Splits(pictures, None, parts["test"]), seed=seed, plan=plan)


def count_steps(fit: Fit) -> int:
    """Of the whole training."""
    return fit.loader.steps * fit.recipe.training.epochs


def train(fit: Fit, about: str) -> tuple[list[float], list[Report]]:
    """(the loss of each step, a report of each epoch), with a bar that says how far it is."""
    losses, reports = [], []
    for report in track(fit.steps(), about, count_steps(fit), console=Console(stderr=True)):
        if isinstance(report, StepReport):
            losses.append(report.loss)
        else:
            reports.append(report)
    return losses, reports


def ask(fit: Fit, given: argparse.Namespace) -> Evaluation:
    """How it answers the test part."""
    return evaluate(fit.classifier(), keep_ready(load_parts(given.data)["test"], fit.prepare))


def shortened(name: str, epochs: int) -> Recipe:
    """A recipe of a lecture in fewer epochs; where its rate falls, after half and after three quarters of them.

    Also one whose rate falls when validation stands still: there is no validation here.
    """
    changes = [f"training.epochs={epochs}"]
    if load_recipe(name).training.schedule in ("multi_step", "plateau"):
        milestones = [max(1, epochs // 2), max(2, math.ceil(epochs * 3 / 4))]
        changes += ['training.schedule="multi_step"', f"training.milestones={milestones}"]
    return load_recipe(name, changes)


def keep(folder: Path, name: str, about: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, from a file where it was kept before under this name and with all that `about` says."""
    place = folder / f"{name}-{hashlib.blake2b(repr(about).encode(), digest_size=6).hexdigest()}.json"
    if not place.exists():
        made = json.dumps(make())
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, [made.encode()])
    kept: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return kept
