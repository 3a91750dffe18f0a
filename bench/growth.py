"""How the cost of training grows, with pictures, batch size and threads; and whether the time foretold comes true.

ResNet-20 at 32×32. Every training is a process of its own; the second epoch counts. The foretold time is that of whole
trainings of different kinds, as `eyebright train` prints it.

    python bench/growth.py --data cifar10-jpeg --record records
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import by_plan, said_by, write_record
from rich.console import Console
from rich.table import Table

from eyebright.data.batches import keep_ready
from eyebright.data.images import Pictures
from eyebright.data.sources import load_parts
from eyebright.data.split import Splits, make_splits
from eyebright.device import choose_plan
from eyebright.training.estimate import Estimate
from eyebright.training.fit import Fit, Report
from eyebright.training.recipe import load_recipe

PICTURES, BATCH = 5000, 128
GROWTH = {"pictures": (PICTURES, 2 * PICTURES, 4 * PICTURES), "batch": (32, BATCH, 512), "threads": (1, 2)}
FORETOLD: list[tuple[str, list[str], int]] = [
    ("resnet20-cifar10", ["training.epochs=3"], 10_000),
    ("resnet20-cifar10", ["training.epochs=10", "training.batch_size=32"], 2_000),
    ("alexnet-cifar10-64", ["training.epochs=2"], 10_000),
    ("cnn-cifar10", ["training.epochs=5"], 20_000),
    ("speedrun-cifar10", [], 10_000),
]


def evenly(pictures: Pictures, count: int) -> Pictures:
    """So many of them, from all over."""
    return pictures.select(np.arange(count) * len(pictures) // count)


def epoch_seconds(given: argparse.Namespace, pictures: int, batch: int, threads: int) -> float:
    """Seconds of the second epoch."""
    recipe = load_recipe("resnet20-cifar10", ["training.epochs=2", f"training.batch_size={batch}"])
    train = evenly(keep_ready(load_parts(given.data)["train"], recipe.prepare), pictures)
    fit = Fit(recipe, Splits(train, None, train), plan=choose_plan(given.device, threads=threads))
    return list(fit)[1].seconds


def foretell(given: argparse.Namespace, name: str, changes: list[str], pictures: int) -> tuple[float, float]:
    """(seconds foretold after the first steps, seconds taken)."""
    recipe = load_recipe(name, changes)
    parts = load_parts(given.data)
    train = evenly(keep_ready(parts["train"], recipe.prepare), pictures)
    fit = Fit(recipe, make_splits({"train": train, "test": parts["test"]}), plan=choose_plan(given.device))
    estimate = Estimate(fit)
    for report in fit.steps():
        estimate.take(report)
    assert estimate.first is not None and isinstance(report, Report)
    return estimate.first, estimate.spent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", required=True, help="CIFAR-10 in any form that `eyebright data` reads")
    options.add_argument("--device", default="cpu")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    options.add_argument("--one", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        asked = json.loads(given.one)
        print(json.dumps(foretell(given, *asked) if isinstance(asked, list) else epoch_seconds(given, **asked)))
        return
    record: dict[str, Any] = {"device": given.device, "growth": {}, "foretold": []}
    table = Table("what grows", "to", "seconds for an epoch", "× the first")
    for what, values in GROWTH.items():
        rows = record["growth"][what] = []
        for value in values:
            asked = {"pictures": 2 * PICTURES, "batch": BATCH, "threads": torch.get_num_threads(), what: value}
            rows.append(asked | {"seconds": [_apart(given, asked) for _ in range(given.rounds)]})
            first, middle = (statistics.median(row["seconds"]) for row in (rows[0], rows[-1]))
            table.add_row(what, f"{value:,}", f"{middle:.1f}", f"{middle / first:.2f}")
    Console().print(table)
    table = Table("training", "foretold", "taken", "difference")
    for name, changes, pictures in FORETOLD:
        foretold, taken = _apart(given, [name, changes, pictures])
        record["foretold"].append(
            {"recipe": name, "changes": changes, "pictures": pictures, "foretold": foretold, "taken": taken}
        )
        table.add_row(
            " ".join([name, *changes, f"{pictures:,} pictures"]), f"{foretold:.0f} s", f"{taken:.0f} s",
            f"{foretold / taken - 1:+.0%}",
        )  # fmt: skip
    Console().print(table)
    if given.record:
        write_record(given.record, by_plan(f"growth-{given.device}", given.device), record)


def _apart(given: argparse.Namespace, asked: Any) -> Any:
    """What a process of its own says."""
    command = [sys.executable, __file__, "--data", given.data, "--device", given.device, "--one", json.dumps(asked)]
    return said_by(command)


if __name__ == "__main__":
    main()
