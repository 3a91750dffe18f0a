"""`eyebright models`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from eyebright.cli.options import Device, Json, Root, make_console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from eyebright.inspection.standing import Standing

T = TypeVar("T")


def command(
    name: Annotated[
        str | None, typer.Argument(help="A network; without one, all are listed.", show_default=False)
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Number of classes.", show_default=False)
    ] = None,
    input_: Annotated[
        int | None,
        typer.Option(
            "--input", min=1, max=8192, help="Height and width of the pictures, in pixels.", show_default=False
        ),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer with all its settings.")] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="What would not be trained: a stage, a prefix, a glob ('*'), positions ([:10]); !PATTERN frees again.",
            show_default=False,
        ),
    ] = None,
    graph: Annotated[
        Path | None, typer.Option(help="Draw the network here (.svg, .png or .pdf).", show_default=False)
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="NAME", help="Lay another network beside it.", show_default=False)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            help="Draw accuracy against operations, parameters and speed here, and write the figures as .csv beside.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Which published weights --figure shows (default: imagenet).", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Measure accuracy for --figure on this SOURCE (default: as published).", show_default=False),
    ] = None,
    speed: Annotated[
        bool | None, typer.Option(help="Measure speed for --figure on this machine (default: yes).", show_default=False)
    ] = None,
    root: Root = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """List the networks, or show how one is built: stages, shapes, what each sees, parameters, multiply-adds."""
    of_one = {
        "--classes": classes, "--input": input_, "--layers": layers, "--freeze": freeze, "--graph": graph,
        "--compare": compare,
    }  # fmt: skip
    of_figure = {"--weights": weights, "--data": data, "--speed": speed}
    if layers and (graph is not None or compare is not None or json):
        raise typer.BadParameter(
            "it is for the table of one network alone: leave the others out", param_hint="--layers"
        )
    if figure is None and (given := [option for option, value in of_figure.items() if value is not None]):
        raise typer.BadParameter("it says what --figure shows: give --figure FILE", param_hint=given[0])
    if name is None and (given := [option for option, value in of_one.items() if value]):
        raise typer.BadParameter("it is about one network: name it", param_hint=given[0])
    if figure is not None and name is not None:
        raise typer.BadParameter("it shows all networks: name none", param_hint="--figure")
    if figure is not None:
        _draw_standings(figure, weights or "imagenet", data, speed is not False, root, device, json)
    elif name is None:
        _list(json)
    else:
        _show(name, classes, input_, layers, tuple(freeze or ()), graph, compare, json)


def _show(
    name: str,
    classes: int | None,
    input_size: int | None,
    layers: bool,
    patterns: tuple[str, ...],
    graph: Path | None,
    other: str | None,
    json: bool,
) -> None:
    import torch

    from eyebright.inspection.compare import comparison_as_dict, render_comparison
    from eyebright.inspection.diagram import make_diagram
    from eyebright.inspection.graph import draw_graph
    from eyebright.inspection.style import save_figure
    from eyebright.inspection.summary import render, summarise
    from eyebright.inspection.tree import render_tree
    from eyebright.layers.freezing import freeze
    from eyebright.models.create import create_model

    with torch.device("meta"):
        model = create_model(name, num_classes=classes)
        freeze(model, patterns)
        second = None if other is None else create_model(other, num_classes=classes)
    summary = summarise(model, input_size)
    if graph is not None:
        save_figure(graph, draw_graph(make_diagram(model, input_size)))
        typer.echo(f"drawn: {graph}", err=json or other is not None)
    if second is not None:
        beside = summarise(second, input_size)
        if json:
            print_json(comparison_as_dict(summary, beside))
        else:
            make_console().print(render_comparison(summary, beside))
    elif json:
        print_json(summary.as_dict())
    elif graph is None:
        make_console().print(render(summary) if layers else render_tree(make_diagram(model, input_size), summary))
        _print_weights(name)


def _print_weights(name: str) -> None:
    from eyebright.models.catalog import CATALOG
    from eyebright.models.published import WEIGHTS

    entry = CATALOG[name]
    if entry.paper:
        typer.echo(f"paper: {entry.paper}")
    for title, known in WEIGHTS.get(name, {}).items():
        top5 = f" / {known.top5:.2%}" if known.top5 else ""
        typer.echo(f"weights: --weights {title}: {known.top1:.2%}{top5}, {known.licence}, {known.origin}")


def _list(json: bool) -> None:
    from dataclasses import asdict

    from eyebright.inspection.standing import find_standing
    from eyebright.models.catalog import CATALOG

    rows = [(entry, find_standing(entry.name)) for entry in _with_progress(list(CATALOG.values()), "counting")]
    if json:
        about = ({"name": entry.name, "summary": entry.summary, "paper": entry.paper} for entry, _ in rows)
        print_json([names | asdict(row) for names, (_, row) in zip(about, rows, strict=True)])
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("name", "year"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters", "MMAC", "input"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("top-1 / top-5 of weights, %", no_wrap=True)
    for column in ("licence", "paper"):
        table.add_column(column, no_wrap=True)
    for entry, row in rows:
        _add_row(table, row, (entry.paper or "").partition(":")[0])
    make_console().print(table)


def _add_row(table: Table, row: Standing, authors: str) -> None:
    accuracy = ""
    if row.top1 is not None:
        accuracy = f"{100 * row.top1:.2f}" + (f" / {100 * row.top5:.2f}" if row.top5 else "") + f" {row.weights}"
    table.add_row(
        row.model, str(row.year or ""), f"{row.parameters:,}", f"{row.multiply_adds / 1e6:,.1f}", str(row.input_size),
        accuracy, row.licence, authors,
    )  # fmt: skip


def _draw_standings(
    path: Path, weights: str, data: str | None, speed: bool, root: Path | None, device: str, json: bool
) -> None:
    from dataclasses import asdict

    from eyebright.device import choose_plan
    from eyebright.errors import ModelError
    from eyebright.inspection.standing import (
        draw_standings,
        find_standing,
        measure_accuracy,
        measure_speed,
        save_standings,
        with_weights,
    )
    from eyebright.road import pictures_of

    names = with_weights(weights)
    if not names:
        raise ModelError(
            f"no network has published weights called '{weights}'",
            expected="imagenet, imagenet-v2 or cifar10",
            remedy="see the list of `eyebright models`",
        )
    plan = choose_plan(device, training=False)
    rows = [find_standing(name, weights) for name in names]
    if data is not None:
        pictures = pictures_of(data, root=root)
        rows = [measure_accuracy(row, pictures, device) for row in _with_progress(rows, "measuring accuracy")]
    if speed:
        rows = [measure_speed(row, plan) for row in _with_progress(rows, "measuring speed")]
    about = f"{weights}, as published" if data is None else f"measured on {data}"
    beside = save_standings(path, draw_standings(rows, about, plan if speed else None), rows)
    if json:
        print_json([asdict(row) for row in rows])
    else:
        typer.echo(f"drawn: {path}\nfigures: {beside}")


def _with_progress(items: list[T], what: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, console=Console(stderr=True), transient=True)
