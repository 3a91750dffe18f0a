"""Makes performance.md from the newest records of each measurement. `make docs` calls it."""

from __future__ import annotations

import json
import statistics
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


def speed_run() -> Iterable[str]:
    """The speed run beside the record recipe."""
    for file, record in newest("speed-run-*"):
        rows = [
            [
                name, str(len(record["runs"][name])), f"{row['seconds']:.0f}",
                f"{row['least_seconds']:.0f}…{row['most_seconds']:.0f}", f"**{row['times_first']:.2f}**",
                f"{row['accuracy']:.2%}", f"{row['accuracy_shifted']:.2%}",
            ]
            for name, row in record["recipes"].items()
        ]  # fmt: skip
        head = ("recipe", "trainings", "seconds", "spread", "× the first", "accuracy", "with shifted views")
        about = "; 5,000 pictures of the training part stand for the test part" if record["held_out"] else ""
        yield f"{machine(record)}{about} (`records/{file}`):"
        yield table(head, rows)


def commands() -> Iterable[str]:
    """Whole commands."""
    for file, record in newest("commands-*"):
        rows = [
            [
                case["about"] if place == 0 else "", way, f"{row['seconds']:.0f}",
                f"{row['least']:.0f}…{row['most']:.0f}", f"**{row['times_stock']:.2f}**", f"{row['accuracy']:.1%}",
            ]
            for case in record["cases"].values()
            for place, (way, row) in enumerate(case["ways"].items())
        ]  # fmt: skip
        yield f"{machine(record)}, {record['epochs']} epochs (`records/{file}`):"
        yield table(("recipe", "way", "seconds", "spread", "× stock", "test accuracy"), rows)


def accuracy() -> Iterable[str]:
    """What is answered right after training our way, and in plain float32."""
    for file, record in newest("accuracy-*"):
        right = {way: [run["accuracy"] for run in runs] for way, runs in record["runs"].items()}
        low, high = record["interval"]
        row = [
            record["recipe"], str(record["epochs"]), str(len(right["ours"])),
            *(f"{statistics.mean(each):.2%} ± {statistics.pstdev(each):.2%}" for each in right.values()),
            f"{100 * record['difference']:+.2f}", f"{100 * low:+.2f}…{100 * high:+.2f}",
        ]  # fmt: skip
        yield f"{machine(record)} (`records/{file}`):"
        head = ("recipe", "epochs", "seeds", "ours", "plain float32", "difference, points", "95 % interval of its mean")
        yield table(head, [row])


def kernels() -> Iterable[str]:
    """Our kernels beside torch's operators."""
    for file, record in newest("kernels*"):
        rows = []
        for about, case in record["cases"].items():
            theirs, own = (statistics.median(case["seconds"][name]) * 1e3 for name in ("torch", "eyebright"))
            spread = f"{case['least']:.2f}…{case['most']:.2f}"
            rows.append([about, f"{theirs:.2f}", f"{own:.2f}", f"**{case['ratio']:.2f}**", spread])
        yield f"{machine(record)}, {record['plan']['number_format']} (`records/{file}`):"
        yield table(("what", "torch, ms", "ours, ms", "× torch", "spread"), rows)


def step_profile() -> Iterable[str]:
    """Where a training step goes."""
    for file, record in newest("step-profile*"):
        spent = record["milliseconds"]
        kinds = list(next(iter(spent.values())))
        rows = [[kind, *(f"{of[kind] / sum(of.values()):.0%}" for of in spent.values())] for kind in kinds]
        rows.append(["milliseconds", *(f"{sum(of.values()):.0f}" for of in spent.values())])
        yield f"{machine(record)}, {record['plan']['number_format']} (`records/{file}`):"
        yield table(("share of a step", *spent), rows)


def growth() -> Iterable[str]:
    """Seconds for an epoch against what grows; times foretold and taken."""
    for file, record in newest("growth-*"):
        rows = []
        for what, settings in record["growth"].items():
            medians = [statistics.median(one["seconds"]) for one in settings]
            for place, (one, seconds) in enumerate(zip(settings, medians, strict=True)):
                rows.append(
                    [what if place == 0 else "", f"{one[what]:,}", f"{seconds:.1f}", f"{seconds / medians[0]:.2f}"]
                )
        yield f"{machine(record)} (`records/{file}`):"
        yield table(("what grows", "to", "seconds for an epoch", "× the first"), rows)
        told = [
            [
                " ".join([one["recipe"], *one["changes"]]), f"{one['pictures']:,}", f"{one['foretold']:.0f} s",
                f"{one['taken']:.0f} s", f"{one['foretold'] / one['taken'] - 1:+.0%}",
            ]
            for one in record["foretold"]
        ]  # fmt: skip
        yield table(("training", "pictures", "foretold after ten steps", "taken", "difference"), told)


def render() -> str:
    """The page."""
    head = ("network", "way", "pictures/s", "spread", "× stock", "of the peak")
    text = [
        "# Performance",
        "<!-- made by docs/make_performance.py from records/: measure anew, `make record NAME=…`; then `make docs` -->",
        "Every figure is measured beside the script that any PyTorch user writes, in one run, way after way and round "
        "after round; the median counts. The peak is what one large matrix product reaches on the same machine; "
        "convolutions that take fewer multiplications count as if they took all, so a share may pass 100 %.",
        "## Training",
        "`bench/training.py`: the data pipeline is included. Stock is Pillow in a `DataLoader` with two workers, NCHW, "
        "eager.",
    ]
    for file, record in newest("training-*"):
        rows = [row for case in record["cases"].values() for row in speed_rows(case["about"], case["ways"])]
        text += [f"{machine(record)} (`records/{file}`):", table(head, rows)]
    sections = (
        (
            "Kernels",
            "`bench/kernels.py`: operations forwards and backwards, and training steps without their data, by torch's "
            "operators and by ours, in turns.",
            kernels(),
        ),
        (
            "Where a step goes",
            "`bench/step_profile.py`: training steps without their data, by our plan.",
            step_profile(),
        ),
        ("The speed run", "`bench/speed_run.py`: from pictures in memory to a trained classifier.", speed_run()),
        ("From command to report", "`bench/commands.py`: `eyebright train` beside the stock script.", commands()),
        (
            "Accuracy beside float32",
            "`bench/accuracy.py`: recipes shortened; the same first weights and order of pictures both ways; the test "
            "part's answers after the last epoch.",
            accuracy(),
        ),
        (
            "How cost grows",
            "`bench/growth.py`: ResNet-20 at 32×32. What does not grow: 10,000 pictures, batches of 128, all threads.",
            growth(),
        ),
    )
    for title, about, parts in sections:
        if told := list(parts):
            text += [f"## {title}", about, *told]
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
