"""`eyebright calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Device, Json, Root, print_json


def command(
    classifier: Annotated[Path, typer.Argument(metavar="RUN|CLASSIFIER", help="A run's folder, or a classifier file.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="SOURCE with train, and val that was not learned from (default: the run's).", show_default=False
        ),
    ] = None,
    false_rejection: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of known pictures it may call none of these; 0: it never does.")
    ] = 0.05,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The classifier file to write (default: calibrated.safetensors beside it).", show_default=False
        ),
    ] = None,
    root: Root = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Make probabilities mean what they say, and have the classifier tell what is none of its classes."""
    from eyebright.transferring import calibrate_from

    target, found = calibrate_from(
        classifier, data=data, out=out, false_rejection=false_rejection or None, root=root, device=device
    )
    if json:
        print_json({"classifier": str(target)} | found.as_dict())
        return
    for line in found.sentences():
        typer.echo(line)
    typer.echo(f"next:   eyebright predict {target} PICTURE")
