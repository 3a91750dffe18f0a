"""What it costs to look inside the network while it trains, and to have the doctor follow: as a share of training.

In one training, steps that were looked into stand beside those that were not; what the doctor does between the steps is
added.

    python bench/doctor_cost.py --cifar cifar10-jpeg/train --record records
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import by_plan, write_record
from rich.console import Console
from rich.table import Table
from training import CASES, gather

from eyebright.data.sources import load_parts
from eyebright.data.split import Splits, make_contract
from eyebright.device import choose_plan
from eyebright.doctor.examine import Watch
from eyebright.doctor.history import begin_history
from eyebright.training.fit import Fit, StepReport

SETTLING_STEPS = 3


def measure(name: str, folder: Path, device: str, looks: int) -> dict[str, Any]:
    """Seconds of steps that were looked into and of others, and of the doctor; their share of training."""
    pictures = load_parts(folder)["train"]
    recipe, splits = CASES[name].recipe(), Splits(pictures, None, pictures)
    fit, watch = Fit(recipe, splits, plan=choose_plan(device)), Watch(begin_history(recipe, make_contract(splits)))
    every = recipe.training.observe_steps
    seen: list[float] = []
    others: list[float] = []
    doctor, epochs = 0.0, 0
    for report in fit.steps():
        if isinstance(report, StepReport) and report.step > SETTLING_STEPS:
            (others if report.observation is None else seen).append(report.seconds)
        started = time.perf_counter()
        watch.take(report)
        doctor += time.perf_counter() - started
        epochs += not isinstance(report, StepReport)
        if len(seen) >= looks:
            break
    usual = statistics.median(others)
    looking = statistics.median(seen) - usual
    per_step = doctor / (len(seen) + len(others))
    return {
        "step": usual, "looking": looking, "every": every, "doctor_per_step": per_step, "epochs": epochs,
        "steps": len(seen) + len(others), "share": (looking / every + per_step) / usual,
    }  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cifar", type=Path, required=True, help="folder of class folders with CIFAR-10's pictures")
    options.add_argument("--only", nargs="+", choices=CASES, default=["resnet20", "alexnet-64"])
    options.add_argument("--looks", type=int, default=5, help="how often the network is looked into")
    options.add_argument("--device", default="cpu")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    table = Table("case", "step, ms", "looking inside, ms", "every, steps", "doctor, ms a step", "share of training")
    results = {}
    with tempfile.TemporaryDirectory() as place:
        folder = gather(given.cifar, Path(place) / "pictures")
        for name in given.only:
            row = results[name] = measure(name, folder, given.device, given.looks)
            table.add_row(
                CASES[name].about, f"{1e3 * row['step']:.1f}", f"{1e3 * row['looking']:.1f}", f"{row['every']}",
                f"{1e3 * row['doctor_per_step']:.3f}", f"{row['share']:.2%}",
            )  # fmt: skip
    Console().print(table)
    if given.record:
        name = by_plan(f"doctor-cost-{given.device}", given.device)
        write_record(given.record, name, {"device": given.device, "cases": results})


if __name__ == "__main__":
    main()
