"""How figures look: colours that colour-blind readers can tell apart, and one way to turn a figure into bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eyebright.errors import OutputError
from eyebright.files import write_atomically

FORMS = ("svg", "png", "pdf")
NAMED = 24  # layers whose names stand on an axis, at most

# Okabe and Ito, Color Universal Design, 2008
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"


def make_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure, in inches, whose parts keep out of each other's way."""
    return Figure(figsize=(width, height), layout="constrained", **options)


def tidy(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Title, names of the axes, a light grid, no box."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def name_layers(axes: Axes, names: Sequence[str]) -> None:
    """The layers' names along the x axis, where their numbers stand, or some of them where they are many."""
    places = range(0, len(names), max(1, -(-len(names) // NAMED)))
    axes.set_xticks(
        list(places), [names[place] for place in places], fontsize=7, rotation=60, ha="right", rotation_mode="anchor"
    )
    axes.set_xlabel("layer, from the pictures on")


def encode(figure: Figure, form: str = "svg", dots_per_inch: int = 100) -> bytes:
    """A figure as SVG, PNG or PDF."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    with rc_context({"svg.hashsalt": "eyebright"}):  # the same figure gives the same bytes
        figure.savefig(buffer, format=form, dpi=dots_per_inch, metadata=metadata)
    return buffer.getvalue()


def check_form(path: Path) -> str:
    """The form that the end of a file's name asks for, one of `FORMS`.

    Raises:
        OutputError: the name ends otherwise.
    """
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMS:
        raise OutputError(
            f"cannot draw into {path}",
            expected=f"a name that ends in .{', .'.join(FORMS)}",
            remedy=f"name it {path.with_suffix('.svg')}",
        )
    return form


def save_figure(path: Path, figure: Figure) -> None:
    """Writes a figure as SVG, PNG or PDF, by the end of its name.

    Raises:
        OutputError: the name ends otherwise, or it cannot be written.
    """
    form = check_form(path)
    write_atomically(path, [encode(figure, form, dots_per_inch=130)])
