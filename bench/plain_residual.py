"""Plain against residual networks (lecture 4; He et al. 2015, §4.2, fig. 6): does a deeper plain net *train* worse?

Depths 20 and 56, with and without shortcuts, several seeds each, the recipes of the lectures but for fewer epochs, the
rate divided by 10 after half and after three quarters of them. Trainings that are in the folder `--kept` already
are not repeated, so this can be stopped and called again.

    python bench/plain_residual.py --data cifar10-jpeg --record records
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import kept_trainings
import numpy as np
from common import dated, write_record
from kept_trainings import add_options, ask, count_steps, keep, make_fit, shortened
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eyebright.device import choose_plan
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE, RED, make_figure, save_figure, tidy

NETS = {"plain20": ORANGE, "plain56": RED, "resnet20": GREEN, "resnet56": BLUE}
POINTS = 100  # of a curve: each the mean loss of so many equal pieces of training


def train(net: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One training: the curve of its loss, and what it answers right in the end."""
    fit = make_fit(shortened(f"{net}-cifar10", given.epochs), seed, choose_plan(given.device), given)
    started, steps = time.perf_counter(), count_steps(fit)
    if steps < POINTS:
        raise SystemExit(f"{steps} steps are too few for a curve of {POINTS} points: ask for more pictures or epochs")
    losses, reports = kept_trainings.train(fit, f"{net}, seed {seed}")
    evaluation = ask(fit, given)
    return {
        "net": net, "seed": seed, "epochs": given.epochs, "pictures": len(fit.loader.pictures),
        "seconds": time.perf_counter() - started, "steps": steps,
        "curve": [float(piece.mean()) for piece in np.array_split(losses, POINTS)],
        "train_loss": [report.train_loss for report in reports],
        "train_accuracy": [report.train_accuracy for report in reports],
        "test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy,
    }  # fmt: skip


def trainings(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All of them, from the folder where they are kept or done now; the seeds in turn, so each round is whole."""
    for seed in range(given.seeds):
        for net in NETS:
            recipe = shortened(f"{net}-cifar10", given.epochs)
            about = (given.data, given.pictures, recipe.to_toml(), choose_plan(given.device).as_dict())
            yield keep(given.kept, f"{net}-{seed}", about, partial(train, net, seed, given))


def draw(runs: list[dict[str, Any]], given: argparse.Namespace) -> Figure:
    """The training loss of the four nets: the mean over seeds, and the band between the lowest and the highest."""
    figure = make_figure(9, 5)
    axes = figure.subplots()
    for net, color in NETS.items():
        curves = _curves(runs, net)
        epochs = (np.arange(POINTS) + 0.5) / POINTS * given.epochs
        name = f"{'plain' if net.startswith('plain') else 'residual'}, {net[-2:]} layers"
        axes.plot(epochs, curves.mean(0), color=color, label=name)
        axes.fill_between(epochs, curves.min(0), curves.max(0), color=color, alpha=0.2, linewidth=0)
    chance = math.log(10)
    axes.axhline(chance, color=GREY, linestyle="--", linewidth=1, label="guessing among ten classes")
    axes.set_ylim(0, 1.2 * chance)  # the first steps of a deep net may lie above
    axes.legend(frameon=False, ncols=2, loc="lower left")
    tidy(axes, f"Training loss, {given.seeds} seeds: mean, lowest and highest", "epochs", "cross-entropy")
    return figure


def _curves(runs: list[dict[str, Any]], net: str) -> NDArray[np.float64]:
    return np.array([run["curve"] for run in runs if run["net"] == net])


def verdict(runs: list[dict[str, Any]]) -> str:
    """Whether, in the last epoch, the deep plain net's training loss is higher than the shallow one's; and residual."""
    said = []
    for kind in ("plain", "resnet"):
        shallow, deep = ([run["train_loss"][-1] for run in runs if run["net"] == f"{kind}{d}"] for d in (20, 56))
        word = "higher" if min(deep) > max(shallow) else "lower" if max(deep) < min(shallow) else "not surely different"
        said.append(
            f"{'plain' if kind == 'plain' else 'residual'}: with 56 layers the training loss of the last epoch is "
            f"{word} ({np.mean(deep):.3f} against {np.mean(shallow):.3f} with 20)"
        )
    return "; ".join(said)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(options, epochs=8, seeds=3, kept="runs/plain-residual")
    given = options.parse_args()
    runs = list(trainings(given))
    table = Table("net", "training loss", "training accuracy", "test accuracy", title="last epoch, mean over seeds")
    for net in NETS:
        mine = [run for run in runs if run["net"] == net]
        losses = [run["train_loss"][-1] for run in mine]
        table.add_row(
            net, f"{np.mean(losses):.3f} ({min(losses):.3f}…{max(losses):.3f})",
            f"{np.mean([run['train_accuracy'][-1] for run in mine]):.1%}",
            f"{np.mean([run['test_accuracy'] for run in mine]):.1%}",
        )  # fmt: skip
    Console().print(table)
    Console().print(verdict(runs), highlight=False)
    if given.record:
        write_record(given.record, "plain-residual", {"device": given.device, "verdict": verdict(runs), "runs": runs})
        save_figure(dated(given.record, "plain-residual.svg"), draw(runs, given))


if __name__ == "__main__":
    main()
