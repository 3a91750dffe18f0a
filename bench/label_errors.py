"""Wrong labels planted in real pictures: how many of the first suspects are wrong, and what leaving them out is worth.

Beside it in the same run: cleanlab's example pipeline, `cross_val_predict` of scikit-learn's logistic regression on raw
pixels and cleanlab's own ranking; and cleanlab's rankings of our predictions.

    python bench/label_errors.py --data tiny-imagenet-50.tar.xz --record records
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.rank import get_label_quality_scores
from common import write_record
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from eyebright.curation.by_watching import by_watching, recipe_for
from eyebright.curation.label_errors import find_label_errors
from eyebright.data.batches import keep_ready
from eyebright.data.images import Images, Pictures
from eyebright.data.prepare import Prepare
from eyebright.data.sources import load_parts
from eyebright.data.split import Splits
from eyebright.evaluation.evaluate import evaluate
from eyebright.training.fit import Fit

SHARE, FOLDS, SIDE = 0.05, 5, 32
METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def plant(labels: NDArray[np.int64], classes: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels of which 5 % are another class's, at random; and which those are."""
    chance = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[chance.permutation(len(labels))[: round(SHARE * len(labels))]] = True
    return np.where(wrong, (labels + chance.integers(1, classes, len(labels))) % classes, labels), wrong


def raw_pixels(pictures: Pictures) -> NDArray[np.float32]:
    """float32 `[N, 32 · 32 · 3]`, 0…1."""
    prepare = Prepare(resize=(SIDE, SIDE))
    rows = [prepare.resize_picture(pictures.read(index)).ravel() for index in range(len(pictures))]
    return np.stack(rows).astype(np.float32) / 255


def precision(order: NDArray[np.int64], wrong: NDArray[np.bool_]) -> float:
    """Of the first suspects, as many as labels are wrong: the share that are."""
    return float(wrong[order[: int(wrong.sum())]].mean())


def train(pictures: Pictures, val: Pictures, seed: int) -> dict[str, Any]:
    """Accuracy on validation, with its interval, of the network that `curate` watches, trained on these pictures."""
    fit = Fit(recipe_for(len(pictures)), Splits(pictures, None, val), seed=seed)
    for _ in fit:
        pass
    evaluation = evaluate(fit.classifier(), val)
    return {"accuracy": evaluation.top1, "interval": evaluation.top1_interval}


def measure(source: Path, seeds: int, trained: int) -> Iterator[dict[str, Any]]:
    parts = load_parts(source)
    pictures, val = (keep_ready(parts[name], Prepare(resize=(64, 64))) for name in ("train", "val"))
    assert isinstance(pictures, Images)
    classes, pixels = len(pictures.classes), raw_pixels(pictures)
    for seed in range(seeds):
        labels, wrong = plant(pictures.labels, classes, seed)
        planted = replace(pictures, labels=labels)
        started = time.perf_counter()
        found = by_watching(seed=seed)(planted, [], lambda: None)
        errors = find_label_errors(found, labels)
        row: dict[str, Any] = {
            "seed": seed, "planted": int(wrong.sum()), "agreement": float((found.argmax(1) == labels).mean()),
            "seconds": time.perf_counter() - started, "ours": precision(errors.order, wrong),
            "first_100": float(wrong[errors.order[:100]].mean()),
            "listed": len(errors.suspects), "listed_of_planted": float(wrong[errors.suspects].sum() / wrong.sum()),
        }  # fmt: skip
        for method in METHODS:
            scores = get_label_quality_scores(labels, found, method=method)
            row[f"cleanlab's {method} of our predictions"] = precision(np.argsort(scores, kind="stable"), wrong)
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scikit-learn: 100 steps are its usual number, and not always enough
            model = LogisticRegression()
            predicted = cross_val_predict(model, pixels, labels, cv=FOLDS, method="predict_proba")
        row["baseline_seconds"] = time.perf_counter() - started
        row["baseline_accuracy"] = float((predicted.argmax(1) == labels).mean())
        for method in METHODS:
            scores = get_label_quality_scores(labels, predicted, method=method)
            row[f"baseline, {method}"] = precision(np.argsort(scores, kind="stable"), wrong)
        row["baseline"] = max(row[f"baseline, {method}"] for method in METHODS)
        if seed < trained:
            left = np.sort(errors.order[int(wrong.sum()) :])
            row["validation"] = {
                "with the suspects": train(planted, val, seed),
                "without the suspects": train(planted.select(left), val, seed),
            }
        yield row


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, metavar="SOURCE")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--train", type=int, default=3, help="seeds with which a network is trained with and without")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    rows = []
    for row in measure(given.data, given.seeds, given.train):
        rows.append(row)
        Console().print_json(json.dumps(row))
    table = Table("seed", "ours", "baseline", "ratio", "first 100", "validation with, without suspects")
    for row in rows:
        table.add_row(
            str(row["seed"]), f"{row['ours']:.1%}", f"{row['baseline']:.1%}", f"{row['ours'] / row['baseline']:.2f}",
            f"{row['first_100']:.0%}",
            ", ".join(f"{one['accuracy']:.1%}" for one in row.get("validation", {}).values()),
        )  # fmt: skip
    Console().print(table)
    if given.record:
        write_record(given.record, "label-errors", {"share": SHARE, "folds": FOLDS, "rows": rows})


if __name__ == "__main__":
    main()
