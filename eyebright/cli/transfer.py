"""`eyebright transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eyebright.cli.options import Curation, Device, Json, Root, SkipUnreadable, make_console, print_json

if TYPE_CHECKING:
    from eyebright.transfer.heads import Kind
    from eyebright.transferring import Transferred


def command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Pictures: a name, folder, archive, list, or Hub id.")
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN|CLASSIFIER|NETWORK",
            help="A trained network: a run, a classifier file, or one with published weights (default: resnet18).",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Of a network named by --from: imagenet, or a file of weights.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder (default: runs/transfer-SOURCE).", show_default=False)
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="After which nothing more is begun.")] = 5.0,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pixels a side of pictures (default: the network's own, or more, if clearly better).",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="Try this head: prototypes, neighbours, linear, dense (default: all).", show_default=False),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            help="Tune so many of the last layers, or 'all', or 'none' (default: 2, 5, 10, all).", show_default=False
        ),
    ] = None,
    single_output: Annotated[
        bool, typer.Option("--single-output", help="Two classes as one sigmoid output, not two of a softmax.")
    ] = False,
    views: Annotated[int, typer.Option(min=0, help="Changed copies of each picture that heads learn from.")] = 2,
    false_rejection: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of known pictures it may call none of these; 0: it never does.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Of cuts, views, first weights, order, dropout.")] = 0,
    root: Root = None,
    skip_unreadable: SkipUnreadable = False,
    curation: Curation = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Make a classifier of few pictures and a trained network: tried in turn, chosen on validation, tested once."""
    from eyebright.transferring import transfer_from

    made = transfer_from(
        from_,
        data=source,
        weights=weights,
        out=out,
        minutes=minutes,
        size=size,
        heads=_heads(head),
        tune=_depths(tune),
        single_output=single_output,
        views=views,
        false_rejection=false_rejection or None,
        seed=seed,
        root=root,
        skip_unreadable=skip_unreadable,
        curation=curation,
        device=device,
    )
    if json:
        print_json({"path": str(made.path)} | made.as_dict())
        return
    _print_table(made)
    for line in made.sentences:
        typer.echo(line)
    typer.echo(f"figure: {made.folder.figure_path}")
    typer.echo(f"report: {made.folder.report_path}")
    typer.echo(f"next:   eyebright predict {made.path / 'classifier.safetensors'} PICTURE")


def _heads(given: list[str] | None) -> tuple[Kind, ...] | None:
    from eyebright.transfer.heads import KINDS

    if given is None:
        return None
    if unknown := [name for name in given if name not in KINDS]:
        raise typer.BadParameter(f"'{unknown[0]}' is not one of {', '.join(KINDS)}", param_hint="--head")
    return tuple(kind for kind in KINDS if kind in given)


def _depths(given: list[str] | None) -> tuple[int | None, ...] | None:
    if given is None:
        return None
    for text in given:
        if text not in ("all", "none") and not (text.isdecimal() and int(text) > 0):
            raise typer.BadParameter(f"'{text}' is neither a number of layers nor 'all' or 'none'", param_hint="--tune")
    return tuple(None if text == "all" else int(text) for text in given if text != "none")


def _print_table(made: Transferred) -> None:
    from rich.table import Table

    from eyebright.inspection.candidates import tabulate

    table = Table(
        "", "validation", "95 % interval", "against the first", "trained", "time", box=None, header_style="bold"
    )
    for row in tabulate([one.as_dict() for one in made.transfer.candidates], made.transfer.kept):
        name = f"{'→' if row.kept else ' '} {row.name}"
        table.add_row(name, row.accuracy, row.interval, row.beside, row.trained, row.time)
    make_console().print(table)
