"""From command to report: three epochs of three lectures' recipes by `eyebright train`, beside the stock script.

Both read the same JPEG files, train on the same number of pictures and answer the test part in the end; ours also
validates, writes checkpoints and the report. Both start with nothing decoded. The ways take turns.

    python bench/commands.py --data cifar10-jpeg --record records
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from training import BENCH

from eyebright.device import choose_plan, describe_machine

EPOCHS = 3
SET = [f"training.epochs={EPOCHS}", "data.val_fraction=0"]


@dataclass(frozen=True)
class Case:
    """A recipe, the stock script's options that mean the same, and on how many pictures."""

    about: str
    recipe: str
    stock: str
    pictures: int | None = None
    changes: tuple[str, ...] = ()


CASES = {
    "alexnet-64": Case(
        "AlexNet, 64, SGD (lecture 1)",
        "alexnet-cifar10-64",
        "--model alexnet --resize 70 --crop 64 --batch 256 --optimizer sgd",
        changes=('training.schedule="constant"',),  # without validation nothing stands still
    ),
    "alexnet-224": Case(
        "AlexNet, 224, Adam (lecture 2), 5,000 pictures",
        "alexnet-cifar10-224",
        "--model alexnet --resize 224 --batch 512 --optimizer adam",
        pictures=5000,
    ),
    "resnet20": Case(
        "ResNet-20, CIFAR-10 (lecture 4)",
        "resnet20-cifar10",
        "--model resnet20_cifar --resize 32 --padding 4 --batch 128 --optimizer sgd --rate 0.1 --decay 1e-4 --flip",
        changes=('training.schedule="constant"',),
    ),
}


def gather(data: Path, folder: Path, most: int | None) -> Path:
    """A folder with a train and a test part: links to the source's pictures, of the training part at most so many."""
    for part in ("train", "test"):
        paths = sorted((data / part).rglob("*.jpg"))
        for path in paths[:: -(-len(paths) // most)] if most and part == "train" else paths:
            place = folder / part / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
    return folder


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """(seconds from the command to its end, what it said), with an empty cache."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        started = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"EYEBRIGHT_CACHE": cache}
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    return seconds, done.stdout


def ours(case: Case, data: Path, folder: Path, device: str) -> dict[str, float]:
    """`eyebright train`, and what its run says of itself."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [sys.executable, "-m", "eyebright.cli.main", "train", case.recipe, "--data", str(data), "--json"]
    for change in (*SET, *case.changes):
        command += ["--set", change]
    seconds, said = timed([*command, "--out", str(run), "--device", device], folder)
    return {"seconds": seconds, "accuracy": json.loads(said)["evaluation"]["top1"]}


def stock(case: Case, data: Path, folder: Path, device: str, *options: str) -> dict[str, float]:
    """The stock script."""
    command = [sys.executable, str(BENCH / "stock.py"), str(data / "train"), *case.stock.split()]
    seconds, said = timed(
        [*command, "--epochs", str(EPOCHS), "--test", str(data / "test"), "--device", device, *options], folder
    )
    return {"seconds": seconds, "accuracy": json.loads(said.splitlines()[-1])["accuracy"]}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder with train and test, class folders of JPEGs")
    options.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", default="cpu")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    table = Table("case", "way", "seconds", "spread", "× stock", "test accuracy")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in given.only:
            case, folder = CASES[name], Path(place, name)
            data = gather(given.data, folder / "data", case.pictures)
            runs: dict[str, list[dict[str, float]]] = {}
            for _ in range(given.rounds):
                said = {"stock float32": stock(case, data, folder, given.device)}
                if choose_plan(given.device).number_format == "bfloat16":
                    half = ("--bfloat16", "--channels-last")
                    said["stock bfloat16"] = stock(case, data, folder, given.device, *half)
                said["ours"] = ours(case, data, folder, given.device)
                for way, answer in said.items():
                    runs.setdefault(way, []).append(answer)
                    Console(stderr=True).print(f"{name}: {way} {answer}", highlight=False)
            first = [run["seconds"] for run in runs["stock float32"]]
            results[name] = {"about": case.about, "runs": runs, "ways": {}}
            for way, several in runs.items():
                seconds = [run["seconds"] for run in several]
                row = {
                    "seconds": statistics.median(seconds), "least": min(seconds), "most": max(seconds),
                    "times_stock": statistics.median(one / other for one, other in zip(seconds, first, strict=True)),
                    "accuracy": statistics.mean(run["accuracy"] for run in several),
                }  # fmt: skip
                results[name]["ways"][way] = row
                table.add_row(
                    case.about if way == "stock float32" else "", way, f"{row['seconds']:.0f}",
                    f"{row['least']:.0f}…{row['most']:.0f}", f"{row['times_stock']:.2f}", f"{row['accuracy']:.1%}",
                )  # fmt: skip
    Console().print(table)
    if given.record:
        record = {"machine": describe_machine(), "device": given.device, "epochs": EPOCHS, "cases": results}
        path = given.record / f"{datetime.now(UTC):%Y-%m-%d}-commands-{given.device}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
