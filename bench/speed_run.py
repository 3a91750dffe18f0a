"""The speed run: seconds from pictures in memory to a trained classifier, beside the record recipe, in one run.

The record recipe is computed by torch's operators, as ordinary scripts have it (`airbench-cifar10@torch`), and by ours.

Everything of training counts: first weights, whitening, augmentation. Recipes take turns, each training is a process of
its own; the test part is opened after training. `--held-out` is for tuning: 5,000 pictures of the training part are
left out of training and stand for the test part.

    python bench/speed_run.py --data cifar10-jpeg --record records
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import by_plan, said_by, write_record
from kept_trainings import keep
from rich.console import Console
from rich.table import Table

from eyebright.data.batches import keep_ready
from eyebright.data.images import Pictures
from eyebright.data.prepare import Prepare
from eyebright.data.sources import load_parts
from eyebright.data.split import Splits
from eyebright.device import choose_plan
from eyebright.evaluation.evaluate import evaluate
from eyebright.training.fit import Fit
from eyebright.training.recipe import load_recipe

RECIPES = ["airbench-cifar10@torch", "airbench-cifar10", "speedrun-cifar10"]
HELD_OUT = 5000


def parts(data: str, held_out: bool) -> tuple[Pictures, Pictures]:
    """What is trained with, in memory, and what is answered in the end."""
    prepare = Prepare()  # as they are: what a recipe does to them counts
    found = load_parts(data)
    train = keep_ready(found["train"], prepare)
    if not held_out:
        return train, keep_ready(found["test"], prepare)
    order = np.random.default_rng(0).permutation(len(train))
    return train.select(np.sort(order[HELD_OUT:])), train.select(np.sort(order[:HELD_OUT]))


def run(given: argparse.Namespace) -> dict[str, float]:
    """One training and what came of it."""
    train, asked = parts(given.data, given.held_out)
    name, _, kernels = given.one.partition("@")
    recipe, plan = load_recipe(name, given.set), choose_plan(given.device)
    if kernels:  # and operation by operation, as in ordinary scripts
        plan = replace(plan, kernels=kernels, graphs=False)
    started = time.perf_counter()
    fit = Fit(recipe, Splits(train, None, asked), seed=given.seed, plan=plan)
    reports = list(fit)
    seconds = time.perf_counter() - started
    classifier = fit.classifier()
    plain, shifted = evaluate(classifier, asked), evaluate(classifier, asked, views="shifted")
    return {
        "seed": given.seed,
        "seconds": seconds,
        "accuracy": plain.accuracy,
        "accuracy_shifted": shifted.accuracy,
        "train_accuracy": reports[-1].train_accuracy,
    }


def kept_or_run(given: argparse.Namespace, name: str, seed: int) -> dict[str, float]:
    """One training in a process of its own, or what it gave before."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name, "--seed", str(seed)]
    if given.kept is None:
        return dict(said_by(command))
    recipe = load_recipe(name.partition("@")[0], given.set).to_toml()
    about = (recipe, choose_plan(given.device).as_dict(), Path(given.data).name, given.held_out)
    return keep(given.kept, f"{name}-{seed}", about, partial(said_by, command))


def summarise(runs: list[dict[str, float]]) -> dict[str, float]:
    """Median time, mean accuracies, and how far they spread."""
    several = {key: [one[key] for one in runs] for key in runs[0]}
    return {
        "seconds": statistics.median(several["seconds"]),
        "least_seconds": min(several["seconds"]),
        "most_seconds": max(several["seconds"]),
        **{key: statistics.mean(several[key]) for key in ("accuracy", "accuracy_shifted")},
        **{f"{key}_sd": statistics.pstdev(several[key]) for key in ("accuracy", "accuracy_shifted")},
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", required=True, help="CIFAR-10 in any form that `eyebright data` reads")
    options.add_argument("--recipes", nargs="+", default=RECIPES, help="the first is what others are beside")
    options.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 1, 5], help="trainings of each; the last one repeats"
    )
    options.add_argument("--held-out", action="store_true", help="keep off the test part")
    options.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the recipes")
    options.add_argument("--device", default="cpu")
    options.add_argument("--kept", type=Path, metavar="FOLDER", help="finished trainings are kept there, and found")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if wrong := [name for name in given.recipes if "@" in name and not name.endswith("@torch")]:
        options.error(f"{wrong[0]}: after @ stands whose operators compute: torch, or leave it out for ours")
    if given.one:
        print(json.dumps(run(given)))
        return
    seeds = [*given.seeds, *[given.seeds[-1]] * len(given.recipes)]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in given.recipes}
    for seed in range(max(seeds)):
        for name, most in zip(given.recipes, seeds, strict=False):
            if seed < most:
                runs[name].append(kept_or_run(given, name, seed))
                Console(stderr=True).print(name, runs[name][-1], highlight=False)
    show(runs, given)


def show(runs: dict[str, list[dict[str, float]]], given: argparse.Namespace) -> None:
    """The table, and the record."""
    table = Table("recipe", "runs", "seconds", "spread", "× the first", "accuracy", "shifted views")
    found: dict[str, Any] = {name: summarise(several) for name, several in runs.items()}
    first = found[given.recipes[0]]["seconds"]
    for name, row in found.items():
        row["times_first"] = row["seconds"] / first
        table.add_row(
            name, str(len(runs[name])), f"{row['seconds']:.0f}",
            f"{row['least_seconds']:.0f}…{row['most_seconds']:.0f}",
            f"{row['times_first']:.2f}", f"{row['accuracy']:.2%} ± {row['accuracy_sd']:.2%}",
            f"{row['accuracy_shifted']:.2%} ± {row['accuracy_shifted_sd']:.2%}",
        )  # fmt: skip
    Console().print(table)
    if given.record:
        record = {
            "device": given.device, "data": Path(given.data).name, "held_out": given.held_out, "changes": given.set,
            "recipes": found, "runs": runs,
        }  # fmt: skip
        name = f"speed-run-{'held-out-' * given.held_out}{given.device}"
        write_record(given.record, by_plan(name, given.device), record)


if __name__ == "__main__":
    main()
