"""None of these: a network trained on eight of CIFAR-10's classes meets the two others, digits, noise and photographs.

For each of several pairs of classes that are left out: the area under the ROC curve of strangers against the test
pictures of the eight, and the share of strangers rejected where 5 % of the known are to be, by each score; maximum
softmax is the baseline. Thresholds and temperature come from validation, the score from classes of the eight that are
left out in turn. Also the calibration error on test, before and after.

    python bench/rejection.py --data cifar10-jpeg --mnist mnist --photos hymenoptera --record records
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import dated, write_record
from rich.console import Console
from rich.table import Table

from eyebright import road
from eyebright.classifier import Classifier
from eyebright.data.images import Images, Pictures, join_all
from eyebright.data.prepare import Prepare
from eyebright.data.sources import load_parts
from eyebright.evaluation.embeddings import Embedder
from eyebright.evaluation.evaluate import Evaluation
from eyebright.files import make_folder
from eyebright.inspection.pictures import sample
from eyebright.inspection.style import BLUE, GREY, make_figure, save_figure, tidy
from eyebright.layers.rejection import SCORES
from eyebright.training.run import Run
from eyebright.transfer.rejecting import (
    MOST,
    RATE,
    Seen,
    choose_score,
    find_threshold,
    fit_temperature,
    look,
    make_rejection,
    measure_strangeness,
    seen_by,
)

PAIRS = (("dog", "truck"), ("airplane", "frog"), ("deer", "ship"))
CHANGES = ("training.epochs=6", "training.skip_easy=[0.5, 0.6]", "training.observe_steps=0")
BASELINE = "max_softmax"
SMALL = Prepare(resize=32, crop=32)  # photographs at the size that the network knows


def fewer_classes(data: Path, left_out: tuple[str, ...], folder: Path) -> Path:
    """The same pictures without some classes, by links."""
    for part in ("train", "test"):
        make_folder(folder / part)
        for found in sorted((data / part).iterdir()):
            link = folder / part / found.name
            if found.is_dir() and found.name not in left_out and not link.exists():
                link.symlink_to(found.resolve())
    return folder


def strangers(given: argparse.Namespace, left_out: tuple[str, ...]) -> dict[str, Pictures]:
    """Pictures of none of the classes."""
    test = load_parts(given.data)["test"]
    chosen = np.flatnonzero(np.isin(test.labels, [test.classes.index(name) for name in left_out]))
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (2000, 32, 32, 3), dtype=np.uint8)
    photos = join_all(load_parts(given.photos))
    small = np.stack([SMALL.pixels(photos.read(index, (32, 32))).numpy() for index in range(len(photos))])
    digits = load_parts("mnist", root=given.mnist.parent)["test"]
    return {
        f"{' and '.join(left_out)}": test.select(chosen),
        "MNIST": digits.select(sample(2000, len(digits), 0)),
        "noise": of_none(noise),
        "ants and bees": of_none(small),
    }


def of_none(pixels: Any) -> Images:
    """Pictures whose class does not matter."""
    return Images(pixels, np.zeros(len(pixels), dtype=np.int64), ("none",))


def see(classifier: Classifier, pictures: Pictures) -> Seen:
    """Embeddings and logits of pictures whose classes are not the classifier's."""
    return seen_by(classifier, Embedder(classifier)(pictures), np.zeros(len(pictures), dtype=np.int64))


def measure(given: argparse.Namespace, left_out: tuple[str, ...]) -> dict[str, Any]:
    """Trains, calibrates, and meets strangers."""
    from sklearn.metrics import roc_auc_score

    name = "-".join(left_out)
    source = fewer_classes(given.data, left_out, given.kept / f"without-{name}")
    changes = (*CHANGES, *given.set)
    path = given.kept / f"run-{name}-{hashlib.sha256(repr((given.recipe, changes)).encode()).hexdigest()[:8]}"
    run = (
        Run.open(path)
        if (path / "report.html").exists()
        else road.train(given.recipe, data=source, changes=changes, out=path)
    )
    classifier = run.classifier()
    parts = road.load_own_parts(path)
    few = parts["train"].select(sample(min(MOST, len(parts["train"])), len(parts["train"]), 0))
    learned, val, test = (look(classifier, part) for part in (few, parts["val"], parts["test"]))
    told = measure_strangeness(learned, val)
    chosen, _ = choose_score([told])
    temperature = fit_temperature(val.logits, val.labels)
    errors = [
        Evaluation((test.logits / factor).astype(np.float32), test.labels, classifier.classes).calibration_error
        for factor in (1.0, temperature)
    ]
    figures: dict[str, dict[str, Any]] = {}
    outside = {about: see(classifier, pictures) for about, pictures in strangers(given, left_out).items()}
    for score in SCORES:
        threshold = find_threshold(told.scores[score], RATE)
        rejection = make_rejection(score, learned, threshold, RATE)

        def scores(seen: Seen, rejection: Any = rejection) -> Any:
            return rejection(torch.from_numpy(seen.logits), torch.from_numpy(seen.embeddings)).numpy()

        known = scores(test)
        figures[score] = {"known rejected": float((known > threshold).mean())}
        for about, seen in outside.items():
            strange = scores(seen)
            both = np.concatenate([known, strange])
            auroc = float(roc_auc_score(np.arange(len(both)) >= len(known), both))
            figures[score][about] = {"auroc": auroc, "rejected": float((strange > threshold).mean())}
    top1 = Evaluation(test.logits, test.labels, classifier.classes).top1
    return {
        "left_out": list(left_out), "test_accuracy": top1, "temperature": temperature, "calibration_error": errors,
        "chosen": chosen, "auroc_of_left_out_in_turn": told.auroc, "scores": figures,
    }  # fmt: skip


def draw(found: list[dict[str, Any]]) -> Any:
    """AUROC by score, for each kind of stranger; dots: pairs."""
    kinds = ["the two classes left out", "MNIST", "noise", "ants and bees"]
    figure = make_figure(12, 3.6)
    for axes, place, kind in zip(figure.subplots(1, 4, sharey=True), range(4), kinds, strict=True):
        for row, score in enumerate(SCORES):
            values = [list(one["scores"][score].values())[1 + place]["auroc"] for one in found]
            colour = GREY if score == BASELINE else BLUE
            axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.5, markersize=5)
            axes.plot(np.mean(values), row, "|", color=colour, markersize=18, markeredgewidth=2.5)
        axes.set_yticks(range(len(SCORES)), [score.replace("_", " ") for score in SCORES])
        axes.set_ylim(len(SCORES) - 0.5, -0.5)
        tidy(axes, kind, "AUROC; line: mean")
    return figure


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="CIFAR-10 as a folder with train and test")
    options.add_argument("--mnist", type=Path, required=True)
    options.add_argument("--photos", required=True)
    options.add_argument("--recipe", default="airbench-cifar10")
    options.add_argument("--set", nargs="*", default=[])
    options.add_argument("--pairs", type=int, default=len(PAIRS))
    options.add_argument("--kept", type=Path, default=Path("rejection-kept"))
    options.add_argument("--record", type=Path, help="folder to write the figures into")
    given = options.parse_args()
    found = [measure(given, pair) for pair in PAIRS[: given.pairs]]
    table = Table("left out", "score", "known", "unseen classes", "MNIST", "noise", "ants and bees", box=None)
    for one in found:
        for score, figures in one["scores"].items():
            known, *others = figures.values()
            mark = "→ " if score == one["chosen"] else "  "
            cells = [f"{other['auroc']:.3f} {other['rejected']:4.0%}" for other in others]
            table.add_row(" and ".join(one["left_out"]), mark + score, f"{known:.1%}", *cells)
    Console(width=130).print(table)
    for one in found:
        before, after = one["calibration_error"]
        print(
            f"without {' and '.join(one['left_out'])}: top-1 {one['test_accuracy']:.1%}; calibration error on test "
            f"{before:.1%} → {after:.1%} (temperature {one['temperature']:.2f}); "
            + ", ".join(f"{score} {value:.3f}" for score, value in one["auroc_of_left_out_in_turn"].items())
        )
    if given.record is not None:
        print(write_record(given.record, "rejection", {"recipe": given.recipe, "rate": RATE, "pairs": found}))
        save_figure(dated(given.record, "rejection.png"), draw(found))


if __name__ == "__main__":
    main()
