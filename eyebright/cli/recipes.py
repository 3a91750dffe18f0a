"""`eyebright recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

from eyebright.cli.options import Json, make_console, print_json


def command(
    name: Annotated[
        str | None, typer.Argument(help="A recipe; without one, all are listed.", show_default=False)
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="With everything it extends, and every default.")] = False,
    json: Json = False,
) -> None:
    """List the recipes, or print one, to be saved, changed and trained."""
    from eyebright.training.recipe import list_recipes, load_recipe, read_recipe_text

    if name is not None:
        if json:
            print_json(load_recipe(name).model_dump(mode="json", exclude_none=True))
        else:
            typer.echo(load_recipe(name).to_toml() if full else read_recipe_text(name), nl=False)
        return
    recipes = [load_recipe(name) for name in list_recipes()]
    if json:
        print_json([{"name": recipe.name, "about": recipe.about} for recipe in recipes])
        return
    from rich.table import Table

    table = Table("recipe", "data", "network", "epochs", "about", box=None, header_style="bold")
    for recipe in recipes:
        table.add_row(recipe.name, recipe.data.source, recipe.model.name, str(recipe.training.epochs), recipe.about)
    make_console().print(table)
