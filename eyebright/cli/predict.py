"""`eyebright predict`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eyebright.cli.options import Calibrate, Device, Engine, Root, Scales, Weights, make_console, print_json
from eyebright.cli.options import Views as ViewsOption

if TYPE_CHECKING:
    from eyebright.classifier import Classifier, Prediction
    from eyebright.data.images import ImageFiles
    from eyebright.evaluation.views import Views


CHUNK = 64  # pictures between two moves of the bar


class Form(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def command(
    classifier: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CLASSIFIER|NETWORK", help="A run's folder, a classifier file, or a network with --weights."
        ),
    ],
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE|FOLDER|ARCHIVE...", help="What to classify.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each picture.")] = 5,
    form: Annotated[Form, typer.Option("--format", help="How to print the answers.")] = Form.TABLE,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    weights: Weights = None,
    views: ViewsOption = "centre",
    scales: Scales = None,
    device: Device = "auto",
    engine: Engine = "auto",
    calibrate: Calibrate = None,
    root: Root = None,
) -> None:
    """Classify pictures: files, folders (with or without class folders) and archives."""
    from eyebright.data.sources import gather_pictures
    from eyebright.device import choose_plan
    from eyebright.engines.build import INT8, check_engine
    from eyebright.engines.choose import use_engine
    from eyebright.evaluation.views import find_views
    from eyebright.road import calibration_pictures, open_classifier

    shown = find_views(views, tuple(scales or ()))
    if engine != "auto":
        check_engine(engine, choose_plan(device, training=False))  # before anything slow
    paths = gather_pictures(pictures)
    loaded = open_classifier(classifier, weights, device=device)
    if shown.crops != "dense" or engine != "auto":
        more = calibration_pictures(classifier, calibrate, root=root) if engine == INT8 else None
        loaded = use_engine(loaded, engine, pictures=_as_pictures(loaded, paths), calibrate=more, say=_say)
    predictions = _predict(loaded, paths, shown)
    if json or form is Form.JSON:
        print_json(
            [
                {
                    "picture": answer.name,
                    **({"answer": answer.best} if _answers(loaded) else {}),
                    **({"known": answer.known} if loaded.rejection is not None else {}),
                    **({"labels": [name for name, _ in answer.above()]} if loaded.multi_label else {}),
                    "top": [{"class": name, "probability": share} for name, share in answer.top(top)],
                }
                for answer in predictions
            ]
        )
    elif form is Form.CSV:
        _print_csv(predictions, top, loaded)
    else:
        _print_table(predictions, top, loaded)


def _predict(classifier: Classifier, paths: list[Path], views: Views) -> list[Prediction]:
    from rich.console import Console
    from rich.progress import track

    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    bar = track(chunks, "classifying", console=Console(stderr=True), transient=True, disable=len(chunks) == 1)
    return [prediction for chunk in bar for prediction in _predict_chunk(classifier, chunk, views)]


def _predict_chunk(classifier: Classifier, paths: list[Path], views: Views) -> list[Prediction]:
    from eyebright.classifier import Prediction
    from eyebright.evaluation.views import VIEWS, view_probabilities

    if views == VIEWS["centre"]:
        return classifier.predict(paths)
    rows = view_probabilities(classifier, _as_pictures(classifier, paths), views).tolist()
    known = [True] * len(paths)
    if classifier.rejection is not None:  # told by the centre
        known = [answer.known for answer in classifier.predict(paths)]
    return [
        Prediction(str(path), classifier.classes, tuple(row), familiar, classifier.thresholds)
        for path, row, familiar in zip(paths, rows, known, strict=True)
    ]


def _as_pictures(classifier: Classifier, paths: list[Path]) -> ImageFiles:
    import numpy as np

    from eyebright.data.images import ImageFiles

    return ImageFiles(tuple(paths), np.zeros(len(paths), dtype=np.int64), classifier.classes)


def _say(what: str) -> None:
    typer.echo(what, err=True)


def _print_csv(predictions: list[Prediction], top: int, classifier: Classifier) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    ranks = range(1, min(top, len(predictions[0].classes)) + 1)
    more = _more(classifier, ";")
    titles = [title for rank in ranks for title in (f"class_{rank}", f"probability_{rank}")]
    writer.writerow(["picture", *more, *titles])
    for answer in predictions:
        values = [value for name, share in answer.top(top) for value in (name, f"{share:.6f}")]
        writer.writerow([answer.name, *(say(answer) for say in more.values()), *values])


def _print_table(predictions: list[Prediction], top: int, classifier: Classifier) -> None:
    from rich.table import Table

    more = _more(classifier, ", ")
    table = Table("picture", *more, *(f"{rank}." for rank in range(1, top + 1)), box=None, header_style="bold")
    for answer in predictions:
        told = [say(answer) or "none" for say in more.values()]
        table.add_row(answer.name, *told, *(f"{name} {share:.1%}" for name, share in answer.top(top)))
    make_console().print(table)


def _more(classifier: Classifier, between: str) -> dict[str, Callable[[Prediction], str]]:
    """Columns beside the classes: what the classifier says more."""
    columns: dict[str, Callable[[Prediction], str]] = {}
    if _answers(classifier):
        columns["answer"] = lambda answer: answer.best
    if classifier.multi_label:
        columns["labels"] = lambda answer: between.join(name for name, _ in answer.above())
    return columns


def _answers(classifier: Classifier) -> bool:
    """Whether its answer can be another than the most probable class."""
    return not classifier.multi_label and (classifier.rejection is not None or classifier.thresholds is not None)
