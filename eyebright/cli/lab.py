"""`eyebright lab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyebright.cli.options import Json, Root, make_console, print_json


def command(
    name: Annotated[str | None, typer.Argument(help="An experiment (default: list them).", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option(help="SOURCE (default: the experiment's own).", show_default=False)
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="All pictures, whole recipes, more seeds: hours.")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each kind.", show_default=False)] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for figures, and finished trainings.")] = Path("lab"),
    root: Root = None,
    json: Json = False,
) -> None:
    """Do one of the lectures' experiments: train, draw what came of it, say what was found."""
    from eyebright import road
    from eyebright.files import make_folder
    from eyebright.inspection.style import save_figure
    from eyebright.lab.experiments import EXPERIMENTS

    if name is None:
        console = make_console()
        for known, experiment in EXPERIMENTS.items():
            console.print(f"{known:15} {experiment.about}", highlight=False, markup=False)
        return
    make_folder(out)
    result = road.experiment(name, data=data, root=root, full=full, seeds=seeds, changes=tuple(change or ()), out=out)
    paths = [out / f"{name}{ending}.png" for ending in result.figures]
    for path, figure in zip(paths, result.figures.values(), strict=True):
        save_figure(path, figure)
    if json:
        print_json({"experiment": name, "findings": result.sentences, "figures": list(map(str, paths))} | result.values)
        return
    for line in (*result.sentences, *(f"figure: {path}" for path in paths)):
        typer.echo(line)
