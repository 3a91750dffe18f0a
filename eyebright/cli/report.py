"""`eyebright report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Device, Root


def command(
    run: Annotated[Path, typer.Argument(help="A finished run's folder, or a transfer's.")],
    root: Root = None,
    device: Device = "auto",
) -> None:
    """Evaluate a finished run, or a transfer, again and write its report anew."""
    from eyebright import road

    typer.echo(f"report: {road.report(run, root=root, device=device).report_path}")
