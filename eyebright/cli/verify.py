"""`eyebright verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Json, print_json


def command(
    path: Annotated[
        Path, typer.Argument(metavar="RUN|CLASSIFIER", help="A run's or a transfer's folder, or a classifier file.")
    ],
    json: Json = False,
) -> None:
    """Check that every file of a run or a transfer, or a classifier file, is whole and unchanged."""
    from eyebright import road

    found = road.verify(path)
    if json:
        print_json(found)
    else:
        for name, problem in found.items():
            typer.echo(f"whole    {name}" if problem is None else f"damaged  {name}: {problem}")
    if any(found.values()):
        raise typer.Exit(1)
