"""`eyebright data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Json, Root, make_console, print_json


def command(
    source: Annotated[str, typer.Argument(help="SOURCE: a name, a folder of class folders, or an archive.")],
    figure: Annotated[
        Path | None, typer.Option(help="Write a picture of samples here (.png, .svg or .pdf).", show_default=False)
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE", help="Draw what this recipe's training makes of the pictures.", show_default=False
        ),
    ] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Look at data first: parts, classes with counts, a picture of samples."""
    from eyebright.data.sources import load_data

    if augment is not None and figure is None:
        raise typer.BadParameter("it says what --figure shows: give --figure FILE", param_hint="--augment")
    splits = load_data(source, root=root)
    parts = splits.parts()
    counts = {
        name: {part.classes[i]: int((part.labels == i).sum()) for i in range(len(part.classes))}
        for name, part in parts.items()
    }
    if figure is not None:
        from eyebright.inspection.pictures import draw_samples
        from eyebright.inspection.style import save_figure

        if augment is None:
            drawn = draw_samples(splits.train)
        else:
            from eyebright.inspection.augmentations import draw_augmentations
            from eyebright.training.recipe import load_recipe

            drawn = draw_augmentations(splits.train, load_recipe(augment))
        save_figure(figure, drawn)
    if json:
        print_json({"source": source, "classes": list(splits.classes), "counts": counts})
        return
    from rich.table import Table

    table = Table("class", *parts, box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in splits.classes:
        table.add_row(name, *(f"{counts[part][name]:,}" for part in parts))
    table.add_row("all", *(f"{len(part):,}" for part in parts.values()), style="bold")
    make_console().print(table)
