"""Training speed, data pipeline included: pictures a second beside the script that any PyTorch user writes.

Each way is a process of its own; the ways take turns, and the median of the rounds counts. Beside pictures a second
stand the arithmetic that they mean (three times the forward pass) and the share of what matrix products alone reach.

    python bench/training.py --cifar cifar10-jpeg/train --photos photos --record records
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import by_plan, said_by, write_record
from rich.console import Console
from rich.table import Table

from eyebright.data.sources import load_parts
from eyebright.data.split import Splits
from eyebright.device import choose_plan
from eyebright.inspection.summary import summarise
from eyebright.models.create import create_model
from eyebright.training.fit import Fit, StepReport
from eyebright.training.recipe import Recipe, make_recipe

MOST_PICTURES = 5000
SETTLING_STEPS = 2
BENCH = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One row of the table: which network on pictures of which size, how."""

    about: str
    model: str
    resize: int
    crop: int
    batch: int
    optimizer: str
    source: str = "cifar"
    flip: bool = False

    def recipe(self) -> Recipe:
        """What we train; the stock script's settings, to the letter."""
        augment: dict[str, Any] = {"horizontal_flip": 0.5} if self.flip else {}
        augment |= {"random_crop": True} if self.crop != self.resize else {}
        rates: dict[str, Any] = {"learning_rate": 1e-4}
        if self.optimizer == "sgd":
            rates = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "decay_all": True}
        return make_recipe(
            {
                "prepare": {"resize": [self.resize] * 2, "crop": self.crop, "mean": [0.5], "std": [0.5]},
                "augment": augment,
                "model": {"name": self.model},
                "training": {"epochs": 1000, "batch_size": self.batch, "optimizer": self.optimizer} | rates,
            }
        )

    def stock(self, folder: Path, *options: str) -> list[str]:
        """The command that trains the same in the usual way."""
        return [
            sys.executable, str(BENCH / "stock.py"), str(folder), "--model", self.model, "--resize", str(self.resize),
            "--crop", str(self.crop), "--batch", str(self.batch), "--optimizer", self.optimizer,
            *(["--flip"] if self.flip else []), *options,
        ]  # fmt: skip


CASES = {
    "alexnet-224": Case("AlexNet, 224, Adam (lecture 2)", "alexnet", 224, 224, 512, "adam"),
    "alexnet-64": Case("AlexNet, 64, SGD (lecture 1)", "alexnet", 70, 64, 256, "sgd"),
    "resnet20": Case("ResNet-20, CIFAR-10 (lecture 4)", "resnet20_cifar", 32, 32, 128, "sgd", flip=True),
    "resnet18-224": Case("ResNet-18, 224", "resnet18", 224, 224, 32, "sgd", "photos", flip=True),
    "resnet50-224": Case("ResNet-50, 224", "resnet50", 224, 224, 32, "sgd", "photos", flip=True),
}


def ours(case: Case, folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """Trains with the product's own loop; the first steps are not counted."""
    pictures = load_parts(folder)["train"]
    started = time.perf_counter()
    plan = choose_plan(given.device, execution=given.execution)
    fit = Fit(case.recipe(), Splits(pictures, None, pictures), plan=plan)
    ready = time.perf_counter() - started
    counted, spent = 0, 0.0
    for report in fit.steps():
        if isinstance(report, StepReport) and report.step > SETTLING_STEPS and report.images == case.batch:
            counted += 1
            spent += report.seconds
            if spent >= given.seconds or counted >= given.most:
                break
    return {"images_per_second": counted * case.batch / spent, "steps": counted, "seconds_to_get_ready": ready}


def matrix_peak(number_format: str, device: str) -> float:
    """Operations a second of one large matrix product, the best of five."""
    size = 2048 if device == "cpu" else 8192
    one, other = (torch.randn(size, size, device=device, dtype=getattr(torch, number_format)) for _ in range(2))
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1 if device == "cpu" else 20):
            one @ other
        if device != "cpu":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 * (1 if device == "cpu" else 20) / (time.perf_counter() - started))
    return best


def measure(name: str, folder: Path, device: str, rounds: int, seconds: float, most: int) -> Iterator[tuple[str, Any]]:
    """(way, what its process said), way by way and round by round."""
    limits = ["--device", device, "--seconds", str(seconds), "--most", str(most)]
    case = CASES[name]
    ways = {
        "stock float32": case.stock(folder, *limits),
        "stock bfloat16": case.stock(folder, "--bfloat16", "--channels-last", *limits),
        "ours": [sys.executable, __file__, "--one", name, "--folder", str(folder), *limits],
    }
    if device != "cpu":
        ways |= {f"ours, {how}": [*ways["ours"], "--execution", how] for how in ("plain", "compiled")}
    if choose_plan(device).number_format == "float32":  # emulated, it takes many times as long
        del ways["stock bfloat16"]
    for _ in range(rounds):
        for way, command in ways.items():
            yield way, said_by(command)


def summarise_case(case: Case, said: dict[str, list[dict[str, float]]], peaks: dict[str, float]) -> dict[str, Any]:
    """Medians, spreads, ratios to stock float32, and the share of the machine's matrix products."""
    with torch.device("meta"):
        model = create_model(case.model)
    operations = 6 * summarise(model, case.crop).multiply_adds  # two for each multiply-add, three passes
    stock = [one["images_per_second"] for one in said["stock float32"]]
    rows = {}
    for way, runs in said.items():
        rates = [one["images_per_second"] for one in runs]
        median = statistics.median(rates)
        rows[way] = {
            "images_per_second": median,
            "least": min(rates),
            "most": max(rates),
            "times_stock": statistics.median(own / theirs for own, theirs in zip(rates, stock, strict=True)),
            "teraflops": median * operations / 1e12,
            "share_of_peak": median * operations / max(peaks.values()),
        }
    return {"about": case.about, "batch": case.batch, "operations_per_image": operations, "ways": rows, "runs": said}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cifar", type=Path, help="folder of class folders of 32×32 JPEGs: a training part")
    options.add_argument("--photos", type=Path, help="folder of class folders of photographs")
    options.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--most", type=int, default=1000, help="steps of a run")
    options.add_argument("--device", default="cpu")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--execution", default="auto", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(ours(CASES[given.one], given.folder, given)))
        return
    peaks = {name: matrix_peak(name, given.device) for name in ("float32", "bfloat16")}
    table = Table("case", "way", "images/s", "spread", "× stock", "TFLOP/s", "of the peak")
    results = {}
    with tempfile.TemporaryDirectory() as links:
        for name in given.only:
            case = CASES[name]
            folder = gather(given.cifar if case.source == "cifar" else given.photos, Path(links) / name, MOST_PICTURES)
            said: dict[str, list[dict[str, float]]] = {}
            for way, answer in measure(name, folder, given.device, given.rounds, given.seconds, given.most):
                said.setdefault(way, []).append(answer)
                Console(stderr=True).print(f"{name}: {way} {answer['images_per_second']:.1f} images/s", highlight=False)
            results[name] = summarise_case(case, said, peaks)
            for way, row in results[name]["ways"].items():
                table.add_row(
                    case.about if way == "stock float32" else "", way, f"{row['images_per_second']:.1f}",
                    f"{row['least']:.1f}…{row['most']:.1f}", f"{row['times_stock']:.2f}", f"{row['teraflops']:.2f}",
                    f"{row['share_of_peak']:.0%}",
                )  # fmt: skip
    Console().print(table)
    if given.record:
        record = {"device": given.device, "matrix_peak": peaks, "cases": results}
        write_record(given.record, by_plan(f"training-{given.device}", given.device), record)


def gather(source: Path, folder: Path, most: int | None = None) -> Path:
    """A folder of class folders with links to a source's pictures, at most so many of them, for both sides alike."""
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for path in paths[:: -(-len(paths) // most)] if most else paths:
        label = path.parent.name if path.parent != source else path.stem
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / path.name).symlink_to(path.resolve())
    return folder


if __name__ == "__main__":
    main()
