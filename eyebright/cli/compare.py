"""`eyebright compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Device, Json, Root, print_json


def command(
    runs: Annotated[list[Path], typer.Argument(help="Runs' folders, two or more, trained on the same pictures.")],
    final: Annotated[
        bool, typer.Option("--final", help="Say what test says, too; each run notes that it was opened.")
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw accuracies and differences.", show_default=False)
    ] = None,
    root: Root = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Say which run is best on validation, by how much, and whether that could be chance."""
    from eyebright import road
    from eyebright.inspection.comparison import draw_comparison, say_comparison
    from eyebright.inspection.style import check_form, save_figure

    if figure is not None:
        check_form(figure)  # before anything slow
    found = road.compare(runs, final=final, root=root, device=device)
    if figure is not None:
        save_figure(figure, draw_comparison(found[0]))
    if json:
        print_json({comparison.part: comparison.as_dict() for comparison in found})
        return
    for comparison in found:
        for line in say_comparison(comparison):
            typer.echo(line)
    if not final:
        typer.echo("chosen on validation; what test says of it: --final")
