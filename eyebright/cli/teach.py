"""`eyebright teach`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Device, Json, print_json

TAUGHT = "taught.safetensors"  # beside a transfer's own classifier, which its figures are of


def command(
    classifier: Annotated[
        Path, typer.Argument(metavar="CLASSIFIER", help="A classifier, or the folder, that `eyebright transfer` made.")
    ],
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE|FOLDER|ARCHIVE...", help="What it shall learn.")],
    label: Annotated[str, typer.Option(help="The class that they are of.")],
    new_class: Annotated[bool, typer.Option("--new-class", help="It may be one that is not known yet.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the taught one goes (default: FOLDER/taught.safetensors; a file is replaced).",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Teach a classifier that `transfer` made more pictures, or correct their labels: at once, forgetting nothing."""
    from eyebright.data.sources import gather_pictures
    from eyebright.road import open_classifier
    from eyebright.transfer.teaching import teach

    paths = gather_pictures(pictures)
    taught_before = classifier / TAUGHT
    before = open_classifier(taught_before if taught_before.is_file() else classifier, device=device)
    target = out or (taught_before if classifier.is_dir() else classifier)
    taught = teach(before, paths, label, new_class=new_class)
    taught.classifier.save(target)
    right = [sum(answer.best == label for answer in one.predict(paths)) for one in (before, taught.classifier)]
    if json:
        print_json(
            {
                "classifier": str(target),
                "added": taught.added,
                "corrected": taught.corrected,
                "known": taught.known,
                "classes_added": list(taught.classes_added),
                "right_before": right[0],
                "right_after": right[1],
                "seconds": taught.seconds,
            }
        )
        return
    for name in taught.classes_added:
        typer.echo(f"new class: {name}")
    typer.echo(
        f"{taught.added} new, {taught.corrected} corrected, {taught.known} known already; "
        f"recognised as {label}: {right[0]} of {len(paths)} before, {right[1]} now; "
        f"{1000 * taught.seconds:,.0f} ms → {target}"
    )
