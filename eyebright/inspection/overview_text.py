"""An overview of a data set as text for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from eyebright.inspection.finding import many
from eyebright.inspection.overview import ClassOverview, Overview, PartOverview, Span

LISTED_CLASSES = 60  # with more, the largest and the smallest are shown
EXTREMES = 10
COLOURS = ("red", "green", "blue")
MEGABYTE = 1e6

Row = tuple[str, Callable[[PartOverview], str]]

ROWS: tuple[Row, ...] = (
    ("pictures", lambda part: f"{part.pictures:,}"),
    ("unreadable", lambda part: f"{part.unreadable:,}" if part.unreadable else "none"),
    ("largest / smallest class", lambda part: "" if part.imbalance is None else f"{part.imbalance:.2f}"),
    ("height, pixels", lambda part: _span(part.height, ",.0f")),
    ("width, pixels", lambda part: _span(part.width, ",.0f")),
    ("width / height", lambda part: _span(part.aspect, ".2f")),
    ("megapixels", lambda part: _span(part.megapixels, ".2g")),
    ("different sizes", lambda part: f"{part.sizes:,}"),
    ("on disk", lambda part: "in memory" if part.file_bytes is None else f"{part.file_bytes / MEGABYTE:,.1f} MB"),
    ("format", lambda part: _counts(part.formats)),
    ("stored as", lambda part: _counts(part.channels)),
    ("always the most frequent class", lambda part: f"{part.majority:.1%} right"),
    ("chance", lambda part: f"{part.chance:.1%} right"),
)


def render(overview: Overview) -> Group:
    """The overview as tables, the warnings last, so that they stand above the prompt."""
    title = f"{overview.source}: {many(len(overview.classes), 'class', 'classes')}"
    head = Text(title, style="bold")
    tables = [_parts(overview), _classes(overview), *_values(overview)]
    blocks: list[RenderableType] = [head, *tables]
    return Group(*(Padding(block, (0, 0, 1, 0)) for block in blocks), _warnings(overview))


def _parts(overview: Overview) -> Group:
    table = _table("part", *overview.parts)
    for name, say in ROWS:
        table.add_row(name, *(say(part) for part in overview.parts.values()))
    return _with_note(table, "smallest · median · largest. The last two rows are what a classifier has to beat.")


def _classes(overview: Overview) -> Group:
    sized = overview.parts["train"].sizes > 1
    table = _table("class", *overview.parts, "of train", *(["median size"] if sized else []), "brightness")
    rows = overview.classes
    note = "Brightness is the mean over the pixels of the training part, 0…1."
    if len(rows) > LISTED_CLASSES:
        rows = tuple(sorted(rows, key=lambda row: -row.counts["train"]))
        note = f"The {EXTREMES} largest and the {EXTREMES} smallest in train; --json has all. {note}"

    def add(some: tuple[ClassOverview, ...]) -> None:
        for row in some:
            counts = (f"{row.counts[part]:,}" for part in overview.parts)
            size = "" if row.height is None or row.width is None else f"{row.height:,.0f}×{row.width:,.0f}"
            brightness = "" if row.brightness is None else f"{row.brightness:.2f}"
            share = f"{row.shares['train']:.1%}"
            table.add_row(Text(row.name), *counts, share, *([size] if sized else []), brightness)

    if len(rows) <= LISTED_CLASSES:
        add(rows)
    else:
        add(rows[:EXTREMES])
        table.add_row("…")
        add(rows[-EXTREMES:])
    table.add_row("all", *(f"{part.pictures:,}" for part in overview.parts.values()), style="bold")
    return _with_note(table, note)


def _values(overview: Overview) -> Iterator[Group]:
    values = overview.channel_values
    if values is None:
        return
    table = _table("channel, 0…1", "mean", "std")
    names = COLOURS if len(values.mean) == 3 else ("grey",)
    sampled = values.pictures < values.of
    for name, mean, std, mean_error, std_error in zip(
        names, values.mean, values.std, values.mean_error, values.std_error, strict=True
    ):
        if sampled:
            table.add_row(name, f"{mean:.4f} ± {mean_error:.4f}", f"{std:.4f} ± {std_error:.4f}")
        else:
            table.add_row(name, f"{mean:.4f}", f"{std:.4f}")
    which = (
        f"a random sample of {values.pictures:,} of the {values.of:,} training pictures (± one standard error)"
        if sampled
        else f"all {values.of:,} training pictures"
    )
    size = f"{'resized to ' if values.resized else ''}{values.height}×{values.width} pixels"
    yield _with_note(table, f"Over every pixel of {which}, {size}.")


def _warnings(overview: Overview) -> Text:
    text = Text("" if overview.warnings else "Nothing to warn of.")
    for number, finding in enumerate(overview.warnings):
        text.append("\n" if number else "")
        text.append("warning: ", style="bold yellow")
        text.append(finding.problem)
        text.append(f"\n  to do: {finding.remedy}")
    return text


def _with_note(table: Table, note: str) -> Group:
    return Group(table, Text(note, style="italic"))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _span(span: Span | None, form: str) -> str:
    if span is None:
        return ""
    numbers = [f"{value:{form}}" for value in (span.min, span.median, span.max)]
    return numbers[0] if span.min == span.max else " · ".join(numbers)


def _counts(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
