"""`eyebright curate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eyebright.cli.options import Curation as Curated
from eyebright.cli.options import Json, Root, SkipUnreadable, make_console, print_json

if TYPE_CHECKING:
    from eyebright.curation.curate import Curation
    from eyebright.curation.drift import Drift

LISTED = 10  # suspects of a kind on the terminal


def command(
    source: Annotated[str, typer.Argument(help="SOURCE: a name, folder, archive, list, or Hub id.")],
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Judge labels by this run's recipe, trained anew without each fold.", show_default=False
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="New pictures: are they of the same kind? Drift.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page, the list and figures.", show_default="curation/<name>")
    ] = None,
    folds: Annotated[
        int, typer.Option(min=2, help="Parts, each predicted by the others: where pictures are few, or with `--run`.")
    ] = 5,
    seed: Annotated[int, typer.Option(help="Of folds and features.")] = 0,
    root: Root = None,
    skip_unreadable: SkipUnreadable = False,
    curation: Curated = None,
    json: Json = False,
) -> None:
    """Find what is wrong with data: labels, duplicates, leaks, odd pictures, drift; the data are never touched."""
    from rich.console import Console

    from eyebright.curation.by_recipe import by_recipe
    from eyebright.curation.curate import curate
    from eyebright.curation.drift import find_drift
    from eyebright.curation.drift_figure import draw_drift
    from eyebright.curation.page import write_curation
    from eyebright.data.amend import amend
    from eyebright.data.decisions import read_decisions
    from eyebright.data.images import join_all
    from eyebright.data.sources import load_parts, load_pictures
    from eyebright.inspection.style import save_figure
    from eyebright.training.progress import Display
    from eyebright.transfer.folder import open_run

    name = Path(source).name if Path(source).name not in ("", "..") else Path(source).resolve().name
    folder = out or Path("curation") / re.sub(r"[^\w.-]+", "-", name)
    parts, notes = amend(load_parts(source, root=root), skip_unreadable=skip_unreadable, curation=curation)
    new = None if against is None else load_pictures(against, root=root)
    judge = None if run is None else open_run(run)
    predict = None if judge is None else by_recipe(judge.recipe, seed=seed)
    with Display(Console(stderr=True)) as screen:
        found = curate(parts, source=source, folds=folds, seed=seed, predict=predict, begin=screen.begin, notes=notes)
        if curation is not None:
            found = found.without(read_decisions(curation))
        write_curation(found, folder)
        drift = None
        if new is not None:
            old = join_all(parts)
            drift = find_drift(old, new, seed=seed, on_read=screen.begin("looking for drift", len(old) + len(new)))
            save_figure(folder / "drift.png", draw_drift(drift, old, new))
    if json:
        print_json(found.as_dict() | {"drift": drift and drift.as_dict(), "page": str(folder / "suspects.html")})
    else:
        _print(found, drift, folder)


def _print(found: Curation, drift: Drift | None, folder: Path) -> None:
    from rich.table import Table

    from eyebright.curation.suspects import KINDS

    console = make_console()
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    for kind, meaning in KINDS.items():
        listed = [one for one in found.suspects if one.kind == kind]
        if not listed:
            continue
        console.print(f"\n{len(listed):,} × {kind}: {meaning}", highlight=False, markup=False, style="bold")
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        for one in listed[:LISTED]:
            table.add_row(f"{one.part}: {one.path}", one.label, one.reason)
        console.print(table, markup=False)
        if len(listed) > LISTED:
            console.print(f"  … and {len(listed) - LISTED:,} more", highlight=False)
    if not found.suspects:
        console.print("Nothing was found.")
    if drift is not None:
        console.print(f"\n{drift}", highlight=False, markup=False)
    console.print(
        f"\nLook at them and decide: {folder / 'suspects.html'}", highlight=False, markup=False, soft_wrap=True
    )
