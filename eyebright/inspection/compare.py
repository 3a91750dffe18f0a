"""Two networks side by side, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING

from eyebright.inspection.describe import shape_text
from eyebright.inspection.summary import Layer, Summary

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 2  # alike layers at each end of a run of alike ones that are shown


@dataclass(frozen=True)
class Row:
    """A layer of the one network beside its counterpart in the other.

    Attributes:
        left, right: the layers; None where there is no counterpart.
        alike: whether both have the same type, settings and output.
    """

    left: Layer | None
    right: Layer | None
    alike: bool


def compare(left: Summary, right: Summary) -> list[Row]:
    """Aligns the layers of two networks: equal ones beside each other, in the order of both.

    Layers are equal that have the same type, the same settings and the same output; names do not count.
    """
    first, second = (
        [(layer.kind, layer.settings, layer.output_shape) for layer in summary.layers] for summary in (left, right)
    )
    rows = []
    for tag, i, j, k, m in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        pairs = zip_longest(left.layers[i:j], right.layers[k:m])
        rows += [Row(one, other, tag == "equal") for one, other in pairs]
    return rows


def render_comparison(left: Summary, right: Summary) -> Table:
    """The comparison as a table for the terminal: what differs stands out, long runs of alike layers are folded."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for summary in (left, right):
        table.add_column(f"{summary.model} for {shape_text(summary.input_shape)}", overflow="fold")
        table.add_column("output", no_wrap=True)
        table.add_column("parameters", justify="right", no_wrap=True)
    for row in _folded(compare(left, right)):
        if isinstance(row, int):
            table.add_row(f"… {row} alike", "", "", f"… {row} alike", style="dim")
            continue
        cells = [escape(cell) for layer in (row.left, row.right) for cell in _cells(layer)]
        table.add_row(*cells, style="dim" if row.alike else "bold")
    table.add_section()
    for both in (left, right):
        totals = (f"{len(both.layers)} layers", f"{both.multiply_adds / 1e6:,.1f} MMAC", f"{both.parameters:,}")
        cells = [*cells, *totals] if both is right else [*totals]
    table.add_row(*cells, style="bold")
    return table


def comparison_as_dict(left: Summary, right: Summary) -> dict[str, object]:
    """The same as plain data for JSON: totals of both, and the rows that differ."""
    rows = compare(left, right)
    return {
        side.model: {"parameters": side.parameters, "multiply_adds": side.multiply_adds, "layers": len(side.layers)}
        for side in (left, right)
    } | {
        "alike": sum(row.alike for row in rows),
        "different": [
            [None if layer is None else {"path": layer.path, "layer": _text(layer)} for layer in (row.left, row.right)]
            for row in rows
            if not row.alike
        ],
    }


def _folded(rows: list[Row]) -> Iterator[Row | int]:
    """Rows, and in the place of long runs of alike ones their number."""
    start = 0
    while start < len(rows):
        stop = start
        while stop < len(rows) and rows[stop].alike:
            stop += 1
        if stop - start > 2 * SHOWN + 1:
            yield from rows[start : start + SHOWN]
            yield stop - start - 2 * SHOWN
            yield from rows[stop - SHOWN : stop]
        else:
            yield from rows[start:stop]
        if stop < len(rows):
            yield rows[stop]
        start = stop + 1


def _cells(layer: Layer | None) -> tuple[str, str, str]:
    if layer is None:
        return "", "", ""
    return _text(layer), shape_text(layer.output_shape), f"{layer.parameters:,}" if layer.parameters else ""


def _text(layer: Layer) -> str:
    return f"{layer.kind} {layer.settings}".strip()
