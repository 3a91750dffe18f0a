"""Makes performance.md from the newest records of each measurement. `make docs` calls it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent.parent / "records"
PAGE = Path(__file__).with_name("performance.md")


def newest(name: str) -> list[tuple[str, dict[str, Any]]]:
    """(file's name, content) of the newest records whose names fit, one of each kind."""
    kinds = {path.name[len("2026-01-01-") :]: path for path in sorted(RECORDS.glob(f"????-??-??-{name}.json"))}
    return [(path.name, json.loads(path.read_text(encoding="utf-8"))) for path in kinds.values()]


def machine(record: dict[str, Any]) -> str:
    """One line on where it was measured."""
    here = record["machine"]
    what = here.get("gpu") if record.get("device", "cpu") != "cpu" else f"{here['cores']} cores of {here['processor']}"
    units = "with" if here["multiplies_bfloat16"] else "without"
    peaks = record.get("matrix_peak", {})
    told = ", ".join(f"{name} {peak / 1e12:.2f} TFLOP/s" for name, peak in peaks.items())
    return f"{what} ({units} units for bfloat16), torch {here['torch']}" + (
        f"; matrix products: {told}" if told else ""
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed_rows(name: str, ways: dict[str, dict[str, float]]) -> Iterable[list[str]]:
    """Rows of one network: way, pictures a second with their spread, ratio, share of the peak."""
    for place, (way, row) in enumerate(ways.items()):
        yield [
            name if place == 0 else "", way, f"{row['images_per_second']:.1f}", f"{row['least']:.1f}…{row['most']:.1f}",
            f"**{row['times_stock']:.2f}**", f"{row['share_of_peak']:.0%}",
        ]  # fmt: skip


def render() -> str:
    """The page."""
    head = ("network", "way", "pictures/s", "spread", "× stock", "of the peak")
    text = [
        "# Performance",
        "<!-- made by docs/make_performance.py from records/: measure anew, `make record NAME=…`; then `make docs` -->",
        "Every figure is measured beside the script that any PyTorch user writes, in one run, way after way and round "
        "after round; the median counts. The peak is what one large matrix product reaches on the same machine.",
        "## Training",
        "`bench/training.py`: the data pipeline is included. Stock is Pillow in a `DataLoader` with two workers, NCHW, "
        "eager.",
    ]
    for file, record in newest("training-*"):
        rows = [row for case in record["cases"].values() for row in speed_rows(case["about"], case["ways"])]
        text += [f"{machine(record)} (`records/{file}`):", table(head, rows)]
    text += ["## Prediction", "`bench/prediction.py`: pictures in memory, normalisation included."]
    for file, record in newest("prediction-*"):
        rows = [row for name, case in record["networks"].items() for row in speed_rows(name, case["ways"])]
        text += [f"{machine(record)} (`records/{file}`):", table(head, rows)]
    text += [
        "## Loading",
        "`bench/loading.py`: pictures to batches of uint8, beside Pillow in a `DataLoader` with two workers.",
    ]
    for file, record in newest("loading"):
        names = list(next(iter(record["sets"].values()))["rates"])
        rows = [
            [way, *(f"{one['rates'][way]['times_usual']:.1f}" for one in record["sets"].values())]
            for way in names
            if way != "usual"
        ]
        heads = ["× the usual loader", *(f"{name}, {one['side']}²" for name, one in record["sets"].items())]
        text += [f"{machine(record)} (`records/{file}`):", table(heads, rows)]
    return "\n\n".join(text) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
