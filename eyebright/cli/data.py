"""`eyebright data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Curation, Json, Root, SkipUnreadable, count_up, make_console, print_json


def command(
    source: Annotated[str, typer.Argument(help="SOURCE: a name, folder, archive, list, or Hub id.")],
    figure: Annotated[
        Path | None,
        typer.Option(
            help="Draw samples, class counts, sizes and channels here (.png, .svg or .pdf).", show_default=False
        ),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE", help="Draw what this recipe's training makes of the pictures.", show_default=False
        ),
    ] = None,
    root: Root = None,
    skip_unreadable: SkipUnreadable = False,
    curation: Curation = None,
    json: Json = False,
) -> None:
    """Look at data first: parts, classes, sizes, channels, what must be beaten, and what may be wrong.

    Pictures that cannot be read are named among what is wrong; with --skip-unreadable the data are shown without them,
    as they are trained on.
    """
    from eyebright.data.sources import load_data
    from eyebright.inspection.overview import count_readings, look_at
    from eyebright.inspection.style import check_form

    if augment is not None and figure is None:
        raise typer.BadParameter("it says what --figure shows: give --figure FILE", param_hint="--augment")
    if figure is not None:
        check_form(figure)  # before the reading, which may be long
    with count_up("finding", None) as on_read:
        splits = load_data(source, root=root, skip_unreadable=skip_unreadable, curation=curation, on_read=on_read)
    with count_up("reading", count_readings(splits)) as on_read:
        overview = look_at(splits, on_read=on_read)
    if figure is not None:
        from eyebright.inspection.overview_figure import draw_overview
        from eyebright.inspection.style import save_figure

        if augment is None:
            drawn = draw_overview(overview, splits)
        else:
            from eyebright.inspection.augmentations import draw_augmentations
            from eyebright.training.recipe import load_recipe

            drawn = draw_augmentations(splits.train, load_recipe(augment))
        save_figure(figure, drawn)
    if json:
        print_json(overview.as_dict())
    else:
        from eyebright.inspection.overview_text import render

        make_console().print(render(overview))
