"""`eyebright doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Device, Json, Root, make_console, print_json

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


def command(
    run: Annotated[Path, typer.Argument(help="A run's folder; it may still be training.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Look only at what the run has written, not at its pictures.")
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curves with the findings marked.", show_default=False)
    ] = None,
    root: Root = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Say what is wrong with a run, by what one sees it, why it is so and what to do."""
    from eyebright import road
    from eyebright.doctor.examine import RULES
    from eyebright.inspection.style import check_form, save_figure

    if figure is not None:
        check_form(figure)  # before anything slow
    history, found = road.diagnose(run, root=root, device=device, quick=quick)
    if figure is not None:
        from eyebright.doctor.figure import draw_findings

        save_figure(figure, draw_findings(history, found))
    if json:
        print_json({"run": str(run), "rules": len(RULES), "findings": [finding.as_dict() for finding in found]})
        return
    from rich.text import Text

    console = make_console()
    for finding in found:
        first, *rest = str(finding).splitlines()
        console.print(Text(first, STYLES[finding.severity]), soft_wrap=True)
        for line in rest:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        console.print()
    if not found:
        console.print(f"{len(RULES)} rules find nothing wrong with {run}", highlight=False, markup=False)
