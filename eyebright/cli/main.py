"""The command `eyebright`."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

from eyebright import __version__
from eyebright.cli import (
    calibrate,
    compare,
    curate,
    data,
    doctor,
    evaluate,
    inspect,
    lab,
    models,
    predict,
    recipes,
    report,
    teach,
    train,
    transfer,
    verify,
)
from eyebright.errors import EyebrightError, EyebrightWarning

app = typer.Typer(
    name="eyebright",
    help="Trains, explains and ships image classifiers built on the classic convolutional networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    train, transfer, teach, calibrate, evaluate, predict, models, data, curate, recipes, report, inspect, doctor,
    compare, lab, verify,
):  # fmt: skip
    app.command(command.__name__.rpartition(".")[2])(command.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eyebright {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any, **others: Any
) -> None:
    """What we warn of is said as plainly as an error; others' warnings keep the place where they arose."""
    if issubclass(category, EyebrightWarning):
        print(f"warning: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno), file=sys.stderr, end="")


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 the user's input is at fault, 2 wrong usage, 130 interrupted."""
    warnings.showwarning = _show_warning
    try:
        app()
    except EyebrightError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, as `head` does: nothing is wrong


if __name__ == "__main__":
    main()
