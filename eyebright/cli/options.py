"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

Root = Annotated[
    Path | None,
    typer.Option(
        envvar="EYEBRIGHT_DATA", help="Where published sets are looked for and fetched to.", show_default=False
    ),
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out pictures that cannot be read, and say which.")
]
Curation = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Apply decisions about pictures: to relabel, drop or add.", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Engine = Annotated[
    str,
    typer.Option(help="What computes the answers: auto, float32, bfloat16, compiled, openvino or openvino-int8."),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="Pictures that openvino-int8 is calibrated with (default: the run's training part).",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="Published weights of the network named: imagenet, cifar10.", show_default=False)
]
Views = Annotated[
    str, typer.Option(help="How each picture is shown: centre, 5-crops, 10-crops, shifted, dense, alexnet or vgg.")
]
Scales = Annotated[
    list[int] | None,
    typer.Option(
        "--scale", min=1, help="Shorter side, in pixels, to show pictures at; several are averaged.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def make_console() -> Console:
    """Standard output for tables: as wide as the terminal; in a file or a pipe wide enough to cut nothing."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=200)


def print_json(value: Any) -> None:
    """Prints a value as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


@contextmanager
def count_up(what: str, total: int | None) -> Iterator[Callable[[], object]]:
    """A bar on standard error, where that is a terminal, with the time left; gives what moves it on by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield partial(bar.advance, bar.add_task(what, total=total))
