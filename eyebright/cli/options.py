"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
import os
import sys
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
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Weights = Annotated[
    str | None, typer.Option(help="Published weights of the network named: imagenet, cifar10.", show_default=False)
]
Views = Annotated[
    str, typer.Option(help="How each picture is shown: centre, 5-crops, 10-crops, dense, alexnet or vgg.")
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
