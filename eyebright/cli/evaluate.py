"""`eyebright evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eyebright.cli.options import (
    Calibrate,
    Curation,
    Device,
    Engine,
    Json,
    Root,
    Scales,
    SkipUnreadable,
    Views,
    Weights,
    make_console,
    print_json,
)

if TYPE_CHECKING:
    from eyebright.evaluation.evaluate import Evaluation
    from eyebright.evaluation.multi_label import MultiLabelEvaluation


def command(
    classifier: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CLASSIFIER|NETWORK",
            help="A run's or a transfer's folder, a classifier file, or a network with --weights.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="SOURCE (default: the data that the run was trained on).", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Which part: train, val or test.")] = "test",
    weights: Weights = None,
    views: Views = "centre",
    scales: Scales = None,
    root: Root = None,
    skip_unreadable: SkipUnreadable = False,
    curation: Curation = None,
    device: Device = "auto",
    engine: Engine = "auto",
    calibrate: Calibrate = None,
    json: Json = False,
) -> None:
    """Measure how good a classifier is: accuracy with its interval, loss, confusion, each class."""
    from eyebright import road
    from eyebright.evaluation.views import find_views

    shown = find_views(views, tuple(scales or ()))
    evaluation = road.evaluate_source(
        classifier,
        data=data,
        part=split,
        root=root,
        device=device,
        views=shown,
        weights=weights,
        skip_unreadable=skip_unreadable,
        curation=curation,
        engine=engine,
        calibrate=calibrate,
    )
    if json:
        print_json(evaluation.as_dict())
        return
    from eyebright.evaluation.multi_label import MultiLabelEvaluation

    make_console().print(f"{evaluation}, answered by {evaluation.engine}", highlight=False)
    if isinstance(evaluation, MultiLabelEvaluation):
        _print_labels(evaluation)
    else:
        _print_classes(evaluation)


def _print_classes(evaluation: Evaluation) -> None:
    from rich.table import Table

    console = make_console()
    console.print(f"calibration error {evaluation.calibration_error:.2%}", highlight=False)
    table = Table("class", "pictures", "precision", "recall", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in evaluation.per_class:
        table.add_row(row.name, str(row.count), f"{row.precision:.1%}", f"{row.recall:.1%}")
    console.print(table)
    if confused := evaluation.most_confused(5):
        console.print("most confused:", highlight=False)
        for true, answer, count in confused:
            console.print(f"  {true} taken for {answer}: {count} times", highlight=False, markup=False)


def _print_labels(evaluation: MultiLabelEvaluation) -> None:
    from rich.table import Table

    titles = ("label", "pictures", "precision", "recall", "F1", "average precision", "ROC AUC")
    table = Table(*titles, box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in evaluation.per_class:
        shares = (row.precision, row.recall, row.f1, row.average_precision, row.roc_auc)
        table.add_row(row.name, str(row.count), *("–" if share is None else f"{share:.1%}" for share in shares))
    for name, mean in (("micro mean", evaluation.micro), ("macro mean", evaluation.macro)):
        table.add_row(name, "", f"{mean.precision:.1%}", f"{mean.recall:.1%}", f"{mean.f1:.1%}")
    make_console().print(table)
