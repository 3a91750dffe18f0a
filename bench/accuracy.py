"""Accuracy does not pay for speed: lectures' recipes, shortened, by the plan of this machine and in plain float32.

Plain is float32 by torch's operators. Each seed is trained both ways, from the same first weights and in the same order
of pictures, and answers the test part; the interval is that of the mean of the differences (Student's t, 95 %).
Trainings that are in the folder `--kept` already are not repeated, so this can be stopped and called again.

    python bench/accuracy.py --data cifar10-jpeg --record records
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import kept_trainings
import numpy as np
from common import by_plan, write_record
from kept_trainings import add_options, ask, keep, make_fit, shortened
from rich.console import Console
from rich.table import Table
from scipy import stats

from eyebright.device import Plan, choose_plan

MARGIN = 0.01  # of accuracy: the interval has to lie within
RECIPES = ("alexnet-cifar10-64", "resnet20-cifar10")


def plans(device: str) -> dict[str, Plan]:
    """The plan of this machine, and plain float32."""
    return {
        "ours": choose_plan(device),
        "plain float32": replace(choose_plan(device, "float32"), kernels="torch"),
    }


def train(name: str, way: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One training, and what it answers right in the end."""
    fit = make_fit(shortened(name, given.epochs), seed, plans(given.device)[way], given)
    _, reports = kept_trainings.train(fit, f"{name}, {way}, seed {seed}")
    evaluation = ask(fit, given)
    return {"accuracy": evaluation.accuracy, "loss": evaluation.loss, "train_loss": reports[-1].train_loss}


def compare(ours: list[float], plain: list[float]) -> dict[str, Any]:
    """The mean difference, its interval, and whether that lies within the margin."""
    differences = np.array(ours) - np.array(plain)
    error = stats.sem(differences)
    mean = float(differences.mean())
    low, high = stats.t.interval(0.95, len(differences) - 1, mean, error) if error else (mean, mean)
    return {"difference": mean, "interval": [float(low), float(high)], "within": bool(low > -MARGIN and high < MARGIN)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(options, epochs=6, seeds=5, kept="runs/accuracy")
    options.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    given = options.parse_args()
    if given.seeds < 2:
        options.error("an interval needs two seeds at least")
    here = plans(given.device)
    if here["ours"] == here["plain float32"]:
        raise SystemExit("this machine's plan is plain float32: there is nothing to compare")
    table = Table("recipe", "ours", "plain float32", "difference, points", "95 % interval")
    for name in given.only:
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in here}
        for seed in range(given.seeds):
            for way, several in runs.items():
                about = (given.data, given.pictures, shortened(name, given.epochs).to_toml(), here[way].as_dict())
                several.append(keep(given.kept, f"{name}-{seed}", about, partial(train, name, way, seed, given)))
        accuracies = [[run["accuracy"] for run in several] for several in runs.values()]
        result = compare(*accuracies)
        low, high = result["interval"]
        table.add_row(
            name, *(f"{np.mean(several):.2%} ± {np.std(several):.2%}" for several in accuracies),
            f"{100 * result['difference']:+.2f}", f"{100 * low:+.2f}…{100 * high:+.2f}",
        )  # fmt: skip
        if given.record:
            facts = {"device": given.device, "recipe": name, "epochs": given.epochs, "pictures": given.pictures}
            facts |= {"plans": {way: plan.as_dict() for way, plan in here.items()}, "runs": runs}
            write_record(given.record, by_plan(f"accuracy-{name}-{given.device}", given.device), facts | result)
    Console().print(table)


if __name__ == "__main__":
    main()
