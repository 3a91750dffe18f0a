"""A network as a tree for the terminal: its stages, what they are made of, what each sees and holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eyebright.inspection.describe import field_text, shape_text
from eyebright.inspection.diagram import Box, Diagram, Stage, Unit
from eyebright.inspection.summary import Summary

if TYPE_CHECKING:
    from rich.table import Table

BAR = 20  # characters of the longest bar


def render_tree(diagram: Diagram, summary: Summary) -> Table:
    """Stages with their units, output, receptive field, parameters and multiply-adds; below, the largest layers.

    Args:
        diagram: of a network.
        summary: of the same network at the same size.
    """
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    decimals = 1 if summary.multiply_adds >= 10_000_000 else 3
    table = Table(
        title=f"{diagram.model} for {shape_text(diagram.input_shape)}",
        caption="\n".join([*_largest(summary), *summary.notes]),
        caption_justify="left",
        box=SIMPLE,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("stage", overflow="fold")
    table.add_column("output", no_wrap=True)
    for column in ("sees", "parameters", *(["trained"] if summary.frozen else []), "share", "MMAC"):
        table.add_column(column, justify="right", no_wrap=True)

    def trained(part: Stage | Unit) -> list[str]:
        """How many of a stage's parameters are not frozen; a column that is there only where some are."""
        if not summary.frozen:
            return []
        if isinstance(part, Unit) or not part.parameters:
            return [""]
        return [f"{sum(layer.trainable for layer in summary.layers if layer.stage == part.name):,}"]

    def add(text: str, shape: tuple[int, ...], sees: str, part: Stage | Unit, style: str = "") -> None:
        table.add_row(
            text if style else escape(text),
            shape_text(shape),
            sees,
            f"{part.parameters:,}" if part.parameters else "",
            *trained(part),
            f"{part.parameters / summary.parameters:.1%}" if part.parameters else "",
            f"{part.multiply_adds / 1e6:,.{decimals}f}" if part.multiply_adds else "",
            style=style,
        )

    for stage in diagram.stages:
        add(stage.name, stage.output_shape, field_text(stage.receptive_field), stage, "bold")
        for index, unit in enumerate(stage.units):
            last = index == len(stage.units) - 1
            head, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
            alone = len(stage.units) == 1
            if unit.is_single:
                text = " · ".join(unit.boxes[0].lines)
                if alone:
                    table.add_row(escape(head + text))
                else:
                    add(head + text, unit.output_shape, field_text(unit.receptive_field), unit)
                continue
            if not alone:
                name = unit.path + (f"  × {unit.times}" if unit.times > 1 else "")
                add(head + name, unit.output_shape, field_text(unit.receptive_field), unit)
            for line in _branch_lines(unit):
                table.add_row(escape(("" if alone else rest) + line), style="dim")
    table.add_section()
    total = [f"{summary.parameters:,}", *([f"{summary.trainable:,}"] if summary.frozen else []), "100.0%"]
    table.add_row("total", "", "", *total, f"{summary.multiply_adds / 1e6:,.{decimals}f}", style="bold")
    return table


def _branch_lines(unit: Unit) -> Iterator[str]:
    """What each branch of a unit is, and how they are joined."""
    for row in unit.branches():
        yield "│ " + " → ".join(box.lines[0] for box in row)
    joins = [box for box in unit.boxes if box.kind == "join"]
    for join in joins:
        what = "add its own input" if _takes(join, unit.entry) else join.lines[0]
        yield "└ " + " · ".join([what, *join.lines[1:]])


def _takes(join: Box, entry: int) -> bool:
    return join.lines[0] == "add" and entry in join.inputs


def _largest(summary: Summary) -> Iterator[str]:
    layers = [layer for layer in summary.largest(5) if layer.parameters]
    if not layers:
        return
    yield "the layers that hold most:"
    width = max(len(layer.path) for layer in layers)
    for layer in layers:
        bar = "█" * max(1, round(BAR * layer.parameters / layers[0].parameters))
        yield f"  {layer.path:<{width}}  {bar:<{BAR}} {layer.parameters:>11,}  {layer.share:.1%}"
    yield ""
