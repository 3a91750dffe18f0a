"""A network drawn: all layers with their shapes, pools included, repeated blocks folded (lectures: L3.6, L5.11)."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from eyebright.inspection.describe import field_text, shape_text
from eyebright.inspection.diagram import Box, Diagram, Stage, Unit
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE

COLORS = {"convolution": BLUE, "pool": GREEN, "dense": ORANGE, "join": GREY, "other": GREY}
LINE = 0.15  # inches from one line of text to the next
BOX_WIDTH, GAP, MARGIN = 1.75, 0.22, 0.25  # inches
TITLE, HEADING = 0.55, 0.45  # inches above the units of a stage, and above all stages
FONT = 6.5  # points


def draw_graph(diagram: Diagram) -> Figure:
    """Draws a network: its stages as numbered panels, one below the other in columns; in each, data flow downwards.

    Blocks that are alike and follow one another are drawn once, with their number.
    """
    panels = [_Panel(number, stage) for number, stage in enumerate(diagram.stages, start=1)]
    columns = _in_columns(panels)
    parameters = sum(stage.parameters for stage in diagram.stages)
    multiply_adds = sum(stage.multiply_adds for stage in diagram.stages)
    title = f"{diagram.model} for {shape_text(diagram.input_shape)}"
    facts = (
        f"{parameters:,} parameters · {multiply_adds / 1e6:,.1f} million multiply-adds · /2: stride 2 · sees: pixels"
    )
    width, height = _size(columns)
    width = max(width, 0.075 * len(facts))
    figure = Figure(figsize=(width, height + HEADING))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height + HEADING, 0)
    axes.axis("off")
    axes.text(MARGIN, 0.3, title, fontsize=12, fontweight="bold")
    axes.text(MARGIN, 0.5, facts, fontsize=8, color="#444444")
    left = MARGIN
    for column in columns:
        top = HEADING + MARGIN
        for panel in column:
            panel.draw(axes, left, top)
            top += panel.height + MARGIN
        left += max(panel.width for panel in column) + MARGIN
    return figure


def _in_columns(panels: list[_Panel]) -> list[list[_Panel]]:
    """Panels in columns of a height that wastes least, on a page a half wider than high."""
    tallest = max(panel.height for panel in panels)
    total = sum(panel.height + MARGIN for panel in panels)
    steps = (tallest + (total - tallest) * step / 40 for step in range(41))

    def waste(columns: list[list[_Panel]]) -> float:
        width, height = _size(columns)
        return max(width, 1.5 * height) * max(height, width / 1.5)

    return min((_filled(panels, limit) for limit in steps), key=waste)


def _filled(panels: list[_Panel], limit: float) -> list[list[_Panel]]:
    columns: list[list[_Panel]] = [[]]
    for panel in panels:
        if columns[-1] and sum(p.height + MARGIN for p in [*columns[-1], panel]) - MARGIN > limit + 1e-9:
            columns.append([])
        columns[-1].append(panel)
    return columns


def _size(columns: list[list[_Panel]]) -> tuple[float, float]:
    """Width and height of a page, in inches."""
    width = sum(max(panel.width for panel in column) + MARGIN for column in columns) + MARGIN
    return width, max(sum(panel.height + MARGIN for panel in column) for column in columns) + MARGIN


@dataclass(frozen=True)
class _Placed:
    """A box of a unit with its place: column and rank from 0, and how many columns it is wide."""

    box: Box
    column: float
    rank: int
    columns: int = 1


class _Drawing:
    """A unit laid out: ranks by the longest way from its beginning, a column for each branch."""

    def __init__(self, unit: Unit):
        self.unit = unit
        branches = unit.branches()
        numbers = {box.number for box in unit.boxes}
        ranks: dict[int, int] = {}
        for box in unit.boxes:
            ranks[box.number] = max((ranks[source] + 1 for source in box.inputs if source in numbers), default=0)
        ends = {row[-1].number: [other for other in branches if row[-1].number in other[0].inputs] for row in branches}
        columns: dict[int, float] = {}
        leaves = [row for row in branches if not ends[row[-1].number]]
        for index, row in enumerate(leaves):
            columns[row[0].number] = index
        for row in reversed(branches):
            if forks := ends[row[-1].number]:
                columns[row[0].number] = sum(columns[fork[0].number] for fork in forks) / len(forks)
        self.skips = [box for box in unit.boxes if box.kind == "join" and unit.entry in box.inputs]
        self.columns = len(leaves) + (1 if self.skips else 0)
        self.placed: dict[int, _Placed] = {}
        for row in branches:
            for box in row:
                self.placed[box.number] = _Placed(box, columns[row[0].number], ranks[box.number])
        for box in unit.boxes:
            if box.kind == "join":
                self.placed[box.number] = _Placed(box, 0, ranks[box.number], self.columns)
        self.ranks = max(ranks.values()) + 1
        self.heights = [
            max(_box_height(placed.box) for placed in self.placed.values() if placed.rank == rank)
            for rank in range(self.ranks)
        ]
        self.frame = 0.0 if unit.is_single else 0.12
        self.width = self.columns * BOX_WIDTH + (self.columns - 1) * GAP + 2 * self.frame
        self.height = sum(self.heights) + (self.ranks - 1) * GAP + 2 * self.frame

    def draw(self, axes: Axes, left: float, top: float) -> None:
        """Draws the unit with its upper left corner there."""
        if self.frame:
            style = {"facecolor": "#f4f4f4", "edgecolor": "#bbbbbb", "linewidth": 0.8}
            axes.add_patch(_rounded(left, top, self.width, self.height, **style))
            if self.unit.times > 1:
                axes.text(
                    left + self.width + 0.05, top + self.height / 2, f"× {self.unit.times}", fontsize=10,
                    fontweight="bold", va="center", ha="left",
                )  # fmt: skip
        tops = [top + self.frame + sum(self.heights[:rank]) + rank * GAP for rank in range(self.ranks)]

        def centre(placed: _Placed) -> float:
            across = placed.columns * BOX_WIDTH + (placed.columns - 1) * GAP
            return left + self.frame + placed.column * (BOX_WIDTH + GAP) + across / 2

        for placed in self.placed.values():
            for source in placed.box.inputs:
                before = self.placed.get(source)
                if before is not None:
                    x = centre(before)
                    end = x if placed.columns > 1 else centre(placed)
                    _arrow(axes, x, tops[before.rank] + _box_height(before.box), end, tops[placed.rank])
                elif self.frame:
                    last = left + self.frame + (self.columns - 0.5) * BOX_WIDTH + (self.columns - 1) * GAP
                    x = last if placed.box in self.skips else centre(placed)
                    _arrow(axes, x, top, x, tops[placed.rank])
                    if placed.box in self.skips:
                        middle = (top + tops[placed.rank]) / 2
                        axes.text(x + 0.06, middle, "shortcut", fontsize=FONT, color=GREY, va="center")
        for placed in self.placed.values():
            across = placed.columns * BOX_WIDTH + (placed.columns - 1) * GAP
            _draw_box(axes, placed.box, centre(placed) - across / 2, tops[placed.rank], across)


class _Panel:
    """A stage laid out: its title, and its units one below the other."""

    def __init__(self, number: int, stage: Stage):
        self.number, self.stage = number, stage
        self.drawings = [_Drawing(unit) for unit in stage.units]
        badge = 0.4 if any(unit.times > 1 for unit in stage.units) else 0.0
        self.inner = max(drawing.width for drawing in self.drawings)
        self.width = self.inner + 2 * 0.12 + badge
        self.height = TITLE + sum(drawing.height + GAP for drawing in self.drawings) + 0.1

    def draw(self, axes: Axes, left: float, top: float) -> None:
        """Draws the stage with its upper left corner there."""
        axes.add_patch(_rounded(left, top, self.width, self.height, facecolor="white", edgecolor="#555555"))
        stage = self.stage
        axes.text(left + 0.12, top + 0.2, f"{self.number} · {stage.name}", fontsize=9, fontweight="bold")
        facts = f"{shape_text(stage.output_shape)} · sees {field_text(stage.receptive_field)}"
        axes.text(left + 0.12, top + 0.34, facts, fontsize=FONT, color="#444444")
        if stage.parameters:
            axes.text(left + 0.12, top + 0.46, f"{stage.parameters:,} parameters", fontsize=FONT, color="#444444")
        middle, y = left + 0.12 + self.inner / 2, top + TITLE
        for index, drawing in enumerate(self.drawings):
            drawing.draw(axes, middle - drawing.width / 2, y)
            if index < len(self.drawings) - 1:
                _arrow(axes, middle, y + drawing.height, middle, y + drawing.height + GAP)
            y += drawing.height + GAP


def _box_height(box: Box) -> float:
    return (len(box.lines) + 1) * LINE + 0.08


def _draw_box(axes: Axes, box: Box, left: float, top: float, width: float) -> None:
    color = COLORS[box.kind]
    height = _box_height(box)
    axes.add_patch(_rounded(left, top, width, height, facecolor=f"{color}22", edgecolor=color, linewidth=0.9))
    for index, line in enumerate(box.lines):
        weight = "bold" if index == 0 else "normal"
        y = top + LINE * (index + 0.75)
        axes.text(left + width / 2, y, line, fontsize=FONT, fontweight=weight, ha="center", va="center")
    y = top + LINE * (len(box.lines) + 0.75)
    axes.text(
        left + width / 2, y, shape_text(box.output_shape), fontsize=FONT, ha="center", va="center", color="#333333",
        fontstyle="italic",
    )  # fmt: skip


def _rounded(left: float, top: float, width: float, height: float, **style: object) -> FancyBboxPatch:
    return FancyBboxPatch((left, top), width, height, boxstyle="round,pad=0,rounding_size=0.06", **style)  # type: ignore[arg-type]


def _arrow(axes: Axes, x: float, y: float, to_x: float, to_y: float) -> None:
    axes.add_patch(
        FancyArrowPatch((x, y), (to_x, to_y), arrowstyle="-|>", mutation_scale=6, linewidth=0.7, color="#444444",
                        shrinkA=0, shrinkB=0)
    )  # fmt: skip
