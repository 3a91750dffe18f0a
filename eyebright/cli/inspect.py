"""`eyebright inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from eyebright.cli.options import Json, Root, print_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

What = Literal["filters", "gradients", "shift"]
Seen = tuple["Figure", dict[str, Any], list[str]]  # what to draw, for JSON, and in sentences


def command(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    what: Annotated[
        What,
        typer.Argument(
            help="filters: kernels before training, after it, what changed. gradients: of each layer over training. "
            "shift: how the inputs of each layer moved.",
            show_default=False,
        ),
    ],
    layer: Annotated[
        str | None, typer.Option(help="filters: which convolution (default: the first).", show_default=False)
    ] = None,
    kernel: Annotated[
        int | None,
        typer.Option(help="filters: show this kernel's slices (default: who moved farthest).", show_default=False),
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="shift: another run below it.", show_default=False)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to draw, .png, .svg or .pdf (default: in the run).", show_default=False
        ),
    ] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Look into a run's network: draw what there is to see, and say it."""
    from eyebright.files import make_folder
    from eyebright.inspection.style import check_form, save_figure

    look: dict[What, Callable[[], Seen]] = {
        "filters": lambda: _filters(run, layer, kernel, root),
        "gradients": lambda: _gradients(run),
        "shift": lambda: _shift(run, beside or []),
    }
    path = figure
    if path is None:
        path = run / "inspection" / f"{'-'.join([what, *([layer] if layer else [])])}.png"
    check_form(path)  # before anything slow
    drawing, values, sentences = look[what]()
    if figure is None:
        make_folder(path.parent)
    save_figure(path, drawing)
    if json:
        print_json(values | {"figure": str(path)})
        return
    for sentence in sentences:
        typer.echo(sentence)
    typer.echo(f"figure: {path}")


def _filters(run: Path, layer: str | None, kernel: int | None, root: Path | None) -> Seen:
    from eyebright import road
    from eyebright.inspection.filters import draw_filters

    filters = road.inspect_filters(run, layer, root=root)
    return draw_filters(filters, kernel), filters.as_dict(), filters.findings()


def _gradients(run: Path) -> Seen:
    from eyebright import road
    from eyebright.inspection.gradients import draw_gradients, say_gradients

    seen = road.read_observations(run)
    sentences = say_gradients(seen)
    return draw_gradients(seen), {"observations": [one.as_dict() for one in seen], "findings": sentences}, sentences


def _shift(run: Path, beside: list[Path]) -> Seen:
    from eyebright import road
    from eyebright.inspection.shift import draw_shift, measure_shift, say_shift

    runs = {path.name: measure_shift(road.read_observations(path)) for path in (run, *beside)}
    sentences = [f"{name}: {line}" for name, shifts in runs.items() for line in say_shift(shifts)]
    values = {
        name: [{"layer": one.layer, "drift": one.drift, "widening": one.widening} for one in shifts]
        for name, shifts in runs.items()
    }
    return draw_shift(runs), {"runs": values, "findings": sentences}, sentences
