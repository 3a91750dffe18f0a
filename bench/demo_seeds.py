"""The demo's accuracy over seeds: `make bench NAME=demo_seeds`; `make record NAME=demo_seeds` keeps the figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev

from common import write_record

import eyebright as eb


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--recipe", default="lenet5-digits")
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there, as JSON")
    given = options.parse_args()

    recipe = eb.load_recipe(given.recipe)
    splits = eb.load_data(recipe.data.source)
    accuracies = []
    for seed in range(given.seeds):
        fit = eb.Fit(recipe, splits, seed=seed)
        seconds = sum(report.seconds for report in fit)
        accuracies.append(eb.evaluate(fit.classifier(), splits.test).top1)
        print(f"seed {seed}: test accuracy {accuracies[-1]:.4f}, {seconds:.1f} s", flush=True)
    print(f"mean {mean(accuracies):.4f}, standard deviation {stdev(accuracies):.4f}, lowest {min(accuracies):.4f}")
    if given.record:
        write_record(given.record, "demo-seeds", {"recipe": given.recipe, "test_accuracies": accuracies})


if __name__ == "__main__":
    main()
