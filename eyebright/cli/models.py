"""`eyebright models`."""

from __future__ import annotations

from typing import Annotated

import typer

from eyebright.cli.options import Json, make_console, print_json


def command(
    name: Annotated[
        str | None, typer.Argument(help="A network; without one, all are listed.", show_default=False)
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Number of classes.", show_default=False)] = None,
    input_: Annotated[
        int | None,
        typer.Option("--input", min=1, help="Height and width of the pictures, in pixels.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List the networks, or show how one is built: layers, output shapes, parameters, multiply-adds."""
    from rich.table import Table

    from eyebright.inspection.summary import render, summarise
    from eyebright.models.catalog import CATALOG, create_model

    console = make_console()
    if name is None:
        rows = [
            {"name": entry.name, "year": entry.year, "summary": entry.summary, "paper": entry.paper}
            for entry in CATALOG.values()
        ]
        if json:
            print_json(rows)
            return
        table = Table("name", "year", "what it is", box=None, header_style="bold")
        for entry in CATALOG.values():
            table.add_row(entry.name, str(entry.year or ""), entry.summary)
        console.print(table)
        return
    summary = summarise(create_model(name, num_classes=classes, seed=0), input_)
    if json:
        print_json(summary.as_dict())
    else:
        console.print(render(summary))
