"""`eyebright train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyebright.cli.options import Curation, Device, Json, Root, SkipUnreadable, print_json

if TYPE_CHECKING:
    from eyebright.crossvalidation import CrossValidation
    from eyebright.training.run import Run


def command(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's name (see `eyebright recipes`) or TOML file.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="SOURCE: a name, folder, archive, list, or Hub id.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder (default: runs/<recipe>).", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of initialisation, order, augmentation, dropout (default: 0).", show_default=False),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: training.epochs=3", show_default=False),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Begin with published weights (imagenet), or with those of a run or a file.", show_default=False
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Cross-validate: a run for each of so many folds.", show_default=False),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with an interrupted run (or its folds), exactly.", show_default=False),
    ] = None,
    root: Root = None,
    skip_unreadable: SkipUnreadable = False,
    curation: Curation = None,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Threads that prepare batches; only the speed depends on it.", show_default=False),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard's event files.")] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Resume although this machine computes differently.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a classifier: recipe and pictures in; classifier, metrics and report out.

    Interrupted (Ctrl-C), it can be resumed exactly.
    """
    if (recipe is None) == (resume is None):
        raise typer.BadParameter("give a recipe, or --resume RUN", param_hint="RECIPE")
    of_begin = {"--data": data, "--out": out, "--set": set_, "--weights": weights, "--seed": seed, "--folds": folds}
    of_begin |= {"--skip-unreadable": skip_unreadable or None, "--curation": curation}
    of_begin |= {"--device": None if device == "auto" else device}
    if resume is not None and (given := [option for option, value in of_begin.items() if value not in (None, [])]):
        raise typer.BadParameter("a run is resumed as it was begun: leave it out", param_hint=given[0])
    if resume is None and accept_differences:
        raise typer.BadParameter("it is about resuming: give --resume RUN", param_hint="--accept-differences")
    from eyebright import crossvalidation, road

    common: Any = {"root": root, "workers": workers, "tensorboard": tensorboard}
    done: Run | CrossValidation
    try:
        if resume is not None:
            go_on = crossvalidation.resume_folds if crossvalidation.holds_folds(resume) else road.resume
            done = go_on(resume, accept_differences=accept_differences, **common)
        else:
            assert recipe is not None
            changes = [*(set_ or ()), *([f"model.weights={weights!r}"] if weights else [])]
            common |= {"data": data, "out": out, "seed": seed or 0, "changes": changes, "device": device}
            common |= {"skip_unreadable": skip_unreadable, "curation": curation}
            if folds is None:
                done = road.train(recipe, **common)
            else:
                done = crossvalidation.cross_validate(recipe, folds, **common)
    except road.Interrupted as interrupt:
        typer.echo(str(interrupt), err=True)
        raise typer.Exit(130) from None
    if isinstance(done, crossvalidation.CrossValidation):
        if json:
            print_json(done.as_dict())
        else:
            typer.echo(f"{done}\nruns:   {done.path}")
    elif json:
        print_json({"run": str(done.path), "report": str(done.report_path), "evaluation": done.evaluation})
    else:
        typer.echo(f"report: {done.report_path}")
        typer.echo(f"next:   eyebright predict {done.path} PICTURE")
