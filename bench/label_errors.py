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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from eyebright.curation.label_errors import find_label_errors
from eyebright.curation.out_of_fold import predict_out_of_fold
from eyebright.curation.patches import patch_features
from eyebright.data.cuts import make_folds
from eyebright.data.images import Images, Pictures, join_all
from eyebright.data.prepare import Prepare
from eyebright.data.sources import load_parts
from eyebright.device import describe_machine
from eyebright.evaluation.evaluate import wilson_interval

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


def accuracies(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    val: NDArray[np.float32],
    truth: NDArray[np.int64],
    penalty: float,
) -> dict[str, Any]:
    """Accuracy, with its interval, on validation of ridge regression on patch features."""
    x, y = torch.from_numpy(train), torch.nn.functional.one_hot(torch.from_numpy(labels)).float()
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    x = (x - mean) / std
    y = y - y.mean(0)
    weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)
    right = int((((torch.from_numpy(val) - mean) / std @ weights).argmax(1).numpy() == truth).sum())
    return {"accuracy": right / len(truth), "interval": wilson_interval(right, len(truth))}


def measure(source: Path, seeds: int) -> Iterator[dict[str, Any]]:
    parts = load_parts(source)
    train, val = parts["train"], parts["val"]
    classes = len(train.classes)
    started = time.perf_counter()
    both = patch_features(join_all({"train": train, "val": val}))
    features, seen_by_val = both[: len(train)], both[len(train) :]
    seconds = time.perf_counter() - started
    pixels = raw_pixels(train)
    for seed in range(seeds):
        labels, wrong = plant(train.labels, classes, seed)
        relabelled = Images(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, train.classes)
        started = time.perf_counter()
        found = predict_out_of_fold(features, labels, make_folds(relabelled, FOLDS, seed), classes)
        errors = find_label_errors(found.probabilities, labels)
        row: dict[str, Any] = {
            "seed": seed, "planted": int(wrong.sum()), "accuracy": found.accuracy, "seconds_of_features": seconds,
            "seconds": time.perf_counter() - started, "ours": precision(errors.order, wrong),
            "first_100": float(wrong[errors.order[:100]].mean()), "flagged": int(errors.flagged.sum()),
        }  # fmt: skip
        for method in METHODS:
            scores = get_label_quality_scores(labels, found.probabilities, method=method)
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
        left = np.sort(errors.order[int(wrong.sum()) :])
        chosen = {"with the suspects": np.arange(len(labels)), "without the suspects": left}
        chosen["without the wrong labels"] = np.flatnonzero(~wrong)
        row["validation"] = {
            name: accuracies(features[rows], labels[rows], seen_by_val, val.labels, found.penalty)
            for name, rows in chosen.items()
        }
        yield row


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, metavar="SOURCE")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    rows = []
    for row in measure(given.data, given.seeds):
        rows.append(row)
        Console().print_json(json.dumps(row))
    table = Table("seed", "ours", "baseline", "ratio", "of the first 100", "accuracy out of fold")
    for row in rows:
        table.add_row(
            str(row["seed"]), f"{row['ours']:.1%}", f"{row['baseline']:.1%}", f"{row['ours'] / row['baseline']:.2f}",
            f"{row['first_100']:.0%}", f"{row['accuracy']:.1%}, baseline {row['baseline_accuracy']:.1%}",
        )  # fmt: skip
    Console().print(table)
    if given.record:
        record = {"machine": describe_machine(), "share": SHARE, "folds": FOLDS, "rows": rows}
        path = given.record / f"{datetime.now(UTC):%Y-%m-%d}-label-errors.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
