"""From command to report: three epochs of three lectures' recipes by `eyebright train`, beside the stock script.

Both read the same JPEG files, train on the same pictures and answer the test part in the end; ours also writes
checkpoints and the report. Both start with nothing decoded. The ways take turns.

    python bench/commands.py --data cifar10-jpeg --record records
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import by_plan, said_by, write_record
from rich.console import Console
from rich.table import Table
from training import CASES, gather

from eyebright.device import choose_plan

EPOCHS = 3


@dataclass(frozen=True)
class Command:
    """A recipe and its changes, what the stock script needs to do the same, and on how many pictures."""

    recipe: str
    changes: tuple[str, ...] = ()
    stock: tuple[str, ...] = ()
    pictures: int | None = None


COMMANDS = {  # by the name of their case in training.py
    "alexnet-64": Command(
        "alexnet-cifar10-64", changes=('training.schedule="constant"',)  # without validation nothing stands still
    ),
    "alexnet-224": Command(
        "alexnet-cifar10-224", changes=("prepare.mean=[0.5]", "prepare.std=[0.5]"), pictures=5000  # as stock has it
    ),
    "resnet20": Command("resnet20-cifar10", stock=("--padding", "4", "--rate", "0.1", "--decay", "1e-4")),
}  # fmt: skip


def timed(command: list[str], folder: Path) -> tuple[float, Any]:
    """(seconds from the command to its end, what it said), with an empty cache."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        started = time.perf_counter()
        said = said_by(command, os.environ | {"EYEBRIGHT_CACHE": cache})
        return time.perf_counter() - started, said


def ours(name: str, data: Path, folder: Path, device: str) -> dict[str, float]:
    """`eyebright train`, and what its run says of itself."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [sys.executable, "-m", "eyebright.cli.main", "train", COMMANDS[name].recipe, "--data", str(data)]
    for change in (f"training.epochs={EPOCHS}", "data.val_fraction=0", *COMMANDS[name].changes):
        command += ["--set", change]
    seconds, said = timed([*command, "--out", str(run), "--device", device, "--json"], folder)
    return {"seconds": seconds, "accuracy": said["evaluation"]["top1"]}


def stock(name: str, data: Path, folder: Path, device: str, *options: str) -> dict[str, float]:
    """The stock script."""
    limits = ("--epochs", str(EPOCHS), "--test", str(data / "test"), "--device", device)
    seconds, said = timed(CASES[name].stock(data / "train", *COMMANDS[name].stock, *limits, *options), folder)
    return {"seconds": seconds, "accuracy": said["accuracy"]}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder with train and test, class folders of JPEGs")
    options.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", default="cpu")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    table = Table("case", "way", "seconds", "spread", "× stock", "test accuracy")
    with tempfile.TemporaryDirectory() as place:
        for name in given.only:
            data, folder, about = Path(place, name, "data"), Path(place, name), CASES[name].about
            gather(given.data / "train", data / "train", COMMANDS[name].pictures)
            gather(given.data / "test", data / "test")
            runs: dict[str, list[dict[str, float]]] = {}
            for _ in range(given.rounds):
                said = {"stock float32": stock(name, data, folder, given.device)}
                if choose_plan(given.device).number_format == "bfloat16":
                    half = ("--bfloat16", "--channels-last")
                    said["stock bfloat16"] = stock(name, data, folder, given.device, *half)
                said["ours"] = ours(name, data, folder, given.device)
                for way, answer in said.items():
                    runs.setdefault(way, []).append(answer)
                    Console(stderr=True).print(f"{name}: {way} {answer}", highlight=False)
            first = [run["seconds"] for run in runs["stock float32"]]
            case: dict[str, Any] = {"about": about, "runs": runs, "ways": {}}
            for way, several in runs.items():
                seconds = [run["seconds"] for run in several]
                row = {
                    "seconds": statistics.median(seconds), "least": min(seconds), "most": max(seconds),
                    "times_stock": statistics.median(one / other for one, other in zip(seconds, first, strict=True)),
                    "accuracy": statistics.mean(run["accuracy"] for run in several),
                }  # fmt: skip
                case["ways"][way] = row
                table.add_row(
                    about if way == "stock float32" else "", way, f"{row['seconds']:.0f}",
                    f"{row['least']:.0f}…{row['most']:.0f}", f"{row['times_stock']:.2f}", f"{row['accuracy']:.1%}",
                )  # fmt: skip
            if given.record:  # each case when it ends: a round takes half an hour
                record = {"device": given.device, "epochs": EPOCHS, "cases": {name: case}}
                write_record(given.record, by_plan(f"commands-{name}-{given.device}", given.device), record)
    Console().print(table)


if __name__ == "__main__":
    main()
