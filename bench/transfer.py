"""Few pictures and a trained network: from scratch, heads on embeddings, the last N layers tuned, all of them.

Each way is judged over five seeds, in each on every picture of train and validation once, in five folds, by classifiers
that have not seen it. What is kept is chosen by that alone, made from all these pictures, and tested once.

    python bench/transfer.py --backbone runs/resnet18-tinyimagenet --data hymenoptera --size 96 --record records
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import dated, write_record
from rich.console import Console
from rich.table import Table

from eyebright.classifier import CLASSIFIER
from eyebright.data.sources import load_data
from eyebright.data.split import Splits, make_contract
from eyebright.device import choose_plan
from eyebright.evaluation.evaluate import Evaluation, compute_logits, evaluate
from eyebright.files import file_digest
from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, save_figure, tidy
from eyebright.models.create import create_model
from eyebright.training.fit import Fit
from eyebright.training.progress import Display
from eyebright.training.recipe import Recipe, make_recipe
from eyebright.transfer.choose import Search
from eyebright.transferring import open_backbone

SCRATCH = "from scratch"
EPOCHS = 60  # from scratch: four times what tuning gets


def scratch_recipe(search: Search) -> Recipe:
    """The same network, first weights by chance."""
    backbone = search.backbone
    return make_recipe(
        {
            "name": SCRATCH,
            "data": {"val_fraction": 0.0},
            "prepare": backbone.prepare.model_dump(mode="json", exclude_none=True),
            "augment": search.augment.model_dump(mode="json", exclude_none=True),
            "model": {"name": backbone.model.model_name},
            "training": {
                "epochs": EPOCHS, "batch_size": 32, "learning_rate": 0.03, "nesterov": True, "weight_decay": 5e-4,
                "schedule": "one_cycle", "label_smoothing": 0.1, "keep": "last", "observe_steps": 0,
            },
        }
    )  # fmt: skip


def train_scratch(search: Search, screen: Display) -> tuple[Evaluation, float]:
    """Judged as the other ways are; and the seconds of one training."""
    recipe, pictures = scratch_recipe(search), search.pictures
    logits = np.zeros((len(pictures), len(pictures.classes)), dtype=np.float32)
    seconds = []
    for number, (kept, held_out) in enumerate(search.cuts, start=1):
        fit = Fit(
            recipe, Splits(pictures.select(kept), None, pictures.select(held_out)), seed=search.seed,
            plan=choose_plan(search.backbone.plan.device),
        )  # fmt: skip
        tick = screen.begin(f"{SCRATCH}, seed {search.seed}, fold {number}", fit.loader.steps * EPOCHS)
        started = time.monotonic()
        for _ in fit.steps():
            tick()
        seconds.append(time.monotonic() - started)
        logits[held_out] = compute_logits(fit.classifier(), pictures.select(held_out))
    evaluation = Evaluation(logits, pictures.labels, pictures.classes)
    screen.say(f"{SCRATCH}: validation {evaluation.accuracy:.1%}, loss {evaluation.loss:.3f}")
    return evaluation, float(np.mean(seconds))


def judge(search: Search, path: Path, screen: Display) -> dict[str, Any]:
    """Which pictures each way has right with one seed; kept in a file."""
    if not path.exists():
        candidates, _ = search.judge()
        evaluation, seconds = train_scratch(search, screen)
        model = create_model(search.backbone.model.model_name, num_classes=len(search.splits.classes))
        count = sum(parameter.numel() for parameter in model.parameters())
        rows = [(SCRATCH, evaluation, seconds, count)]
        rows += [(one.name, one.evaluation, one.seconds, one.trained) for one in candidates]
        said = {
            name: {
                "right": (judged.predictions == judged.labels).tolist(), "loss": judged.loss, "seconds": spent,
                "trained": trained,
            }
            for name, judged, spent, trained in rows
        }  # fmt: skip
        path.write_text(json.dumps(said), encoding="utf-8")
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return made


def summarise(seeds: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each way's figures over the seeds; differences from scratch have intervals over the pictures."""
    first = np.array([one[SCRATCH]["right"] for one in seeds], dtype=float)  # [seeds, pictures]
    figures = {}
    for name in seeds[0]:
        right = np.array([one[name]["right"] for one in seeds], dtype=float)
        value, low, high = mean_interval(right.mean(axis=0))
        beside = mean_interval((right - first).mean(axis=0))
        figures[name] = {
            "val_accuracy": value, "interval": [low, high], "by_seed": right.mean(axis=1).tolist(),
            "beside_scratch": beside[0], "beside_scratch_interval": list(beside[1:]),
            "val_loss": float(np.mean([one[name]["loss"] for one in seeds])),
            "seconds": float(np.median([one[name]["seconds"] for one in seeds])),
            "trained": seeds[0][name]["trained"],
        }  # fmt: skip
    return figures


def mean_interval(values: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Mean over pictures, and its 95 % interval."""
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    mean = float(values.mean())
    return mean, mean - half, mean + half


def draw(figures: dict[str, dict[str, Any]], kept: str, test: float) -> Any:
    """Accuracy and time of each way."""
    figure = make_figure(10.5, 1.9 + 0.42 * len(figures))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for place, (name, one) in enumerate(figures.items()):
        colour = ORANGE if name == kept else GREY if name == SCRATCH else BLUE
        left.plot(one["interval"], [place, place], color=colour, linewidth=1.6)
        left.plot(one["by_seed"], [place] * len(one["by_seed"]), "o", color=colour, alpha=0.4, markersize=4)
        left.plot(one["val_accuracy"], place, "o", color=colour, markersize=7)
        left.annotate(
            f"{one['val_accuracy']:.1%}", (one["val_accuracy"], place), xytext=(0, 8), fontsize=8,
            textcoords="offset points", ha="center",
        )  # fmt: skip
        right.barh(place, one["seconds"], color=colour, height=0.5)
    left.plot(test, list(figures).index(kept), "D", color=GREY, markersize=7, markerfacecolor="none")
    left.set_yticks(range(len(figures)), list(figures))
    left.set_ylim(len(figures) - 0.4, -0.8)
    tidy(left, "Accuracy on pictures that were not learned from", "line: 95 % interval; diamond: the kept one on test")
    tidy(right, "Time to make one", "seconds")
    left.xaxis.set_major_formatter(lambda value, place: f"{value:.0%}")
    return figure


def weights_of(backbone: str) -> Path:
    """The file of a run's classifier, or the file itself."""
    path = Path(backbone)
    return path / CLASSIFIER if path.is_dir() else path


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--backbone", required=True)
    options.add_argument("--data", required=True)
    options.add_argument("--size", type=int)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--kept", type=Path, default=Path("transfer-kept"), help="folder for finished trainings")
    options.add_argument("--record", type=Path, help="folder to write the figures into")
    given = options.parse_args()
    splits = load_data(given.data)
    asked = [make_contract(splits).root, file_digest(weights_of(given.backbone)), given.size]
    folder = given.kept / hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    seeds, searches = [], []
    with Display(Console(stderr=True)) as screen:
        for seed in range(given.seeds):
            own = folder / str(seed)
            own.mkdir(parents=True, exist_ok=True)
            os.environ["EYEBRIGHT_CACHE"] = str(own / "cache")  # so that each seed embeds all pictures itself
            backbone = open_backbone(given.backbone, size=given.size)
            searches.append(Search(splits, backbone, own, seed, begin=screen.begin, say=screen.say))
            seeds.append(judge(searches[-1], own / "judged.json", screen))
        figures = summarise(seeds)
        kept = max((name for name in figures if name != SCRATCH), key=lambda name: figures[name]["val_accuracy"])
        candidates, examples = searches[0].judge()  # what was trained is found again
        made = searches[0].make(next(one for one in candidates if one.name == kept), candidates, examples)
        test = evaluate(made.classifier, splits.test)
    table = Table("", "validation", "95 % interval", "beside scratch", "loss", "trained", "seconds", box=None)
    for name, one in figures.items():
        low, high = one["interval"]
        least, most = one["beside_scratch_interval"]
        table.add_row(
            name, f"{one['val_accuracy']:.1%}", f"{low:.1%} to {high:.1%}",
            f"{one['beside_scratch']:+.1%} ({least:+.1%} to {most:+.1%})", f"{one['val_loss']:.3f}",
            f"{one['trained']:,}", f"{one['seconds']:.1f}",
        )  # fmt: skip
    Console(width=140).print(table)
    print(f"kept: {kept}; test: {test}")
    if given.record is not None:
        about = {"data": Path(given.data).name, "backbone": Path(given.backbone).name, "size": given.size}
        interval = list(test.top1_interval)
        tested = {"kept": kept, "test": {"top1": test.top1, "interval": interval, "count": test.count}}
        path = write_record(given.record, "transfer", about | {"ways": figures} | tested)
        save_figure(dated(given.record, "transfer.png"), draw(figures, kept, test.top1))
        print(path)


if __name__ == "__main__":
    main()
