"""Proves that runs are exact and files are safe: `make prove` (about half an hour on two cores).

Each proof says what it tried and how often it held. With `--record records` figures, tables and a picture are kept
there; the exit code is 1 where anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# runs are copies of this process, and side by side: those of two threads must not wait for each other in a loop
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

from common import dated, write_record
from proofs import caches, damage, hostile, kills, pickles, power, runs
from rich.console import Console
from rich.progress import Progress

from eyebright.device import describe_machine

Rows = list[dict[str, Any]]
SIZES = {  # of each proof: (in full, in the tests)
    "kills": (200, 6), "kills while writing": (80, 4), "fresh runs": (20, 2), "power cuts": (1000, 60),
    "damaged files": (10_000, 400), "full disks": (30, 2), "caches": (50, 4),
}  # fmt: skip


def prove_all(folder: Path, small: bool, only: list[str]) -> dict[str, Rows]:
    """Carries the proofs out, with progress on standard error."""
    size = {name: sizes[small] for name, sizes in SIZES.items()}
    processes = min(2, os.cpu_count() or 1)
    planned = kills.plan_kills(size["kills"], size["kills while writing"])
    proofs: dict[str, tuple[int, Callable[[], Iterable[dict[str, Any]]]]] = {  # name → (rows to come, proof)
        "kills": (size["kills"], lambda: kills.prove_kills(folder, planned, processes)),
        "fresh runs": (size["fresh runs"], lambda: kills.prove_fresh(folder, size["fresh runs"], processes)),
        "workers": (2, lambda: kills.prove_workers(folder)),
        "power cuts": (size["power cuts"], lambda: power.prove_power_cuts(folder / "power", size["power cuts"])),
        "caches": (size["caches"], lambda: caches.prove_caches(folder / "caches", size["caches"], processes)),
        "damaged files": (1, lambda: damage.prove_damage(folder / "damage", size["damaged files"])),
        "hostile inputs": (len(hostile.INPUTS), lambda: hostile.prove_hostile(folder / "hostile")),
        "pickles": (50, lambda: pickles.prove_pickles(folder / "pickles", folder / "hostile" / "finished")),
        "full disks": (size["full disks"], lambda: power.prove_full_disk(folder / "full", size["full disks"])),
        "small disks": (4, lambda: power.prove_small_disk(folder / "small", [0.3, 0.9, 2, 3.5][: 1 if small else 4])),
    }
    with Progress(console=Console(stderr=True)) as progress:
        return {
            name: list(_counted(progress, name, count, prove))
            for name, (count, prove) in proofs.items()
            if not only or name in only
        }


def _counted(
    progress: Progress, name: str, count: int, prove: Callable[[], Iterable[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    task = progress.add_task(name, total=count)
    for row in prove():
        progress.advance(task)
        yield row
    progress.update(task, completed=count)


def failures(results: dict[str, Rows]) -> dict[str, Rows]:
    """The rows of each proof in which it did not hold."""
    holds: dict[str, Callable[[dict[str, Any]], bool]] = {
        "kills": lambda row: row["hit"] and not row["differences"],
        "fresh runs": lambda row: not row["differences"],
        "workers": lambda row: not row["different"],
        "power cuts": lambda row: row["problem"] is None,
        "damaged files": lambda row: (
            row["memory_mib"] < 200 if "memory_mib" in row else not (row["undetected"] or row["crashed"])
        ),
        "caches": lambda row: not (row["other"] or row["wrong"] or row["unfinished"]),
        "hostile inputs": lambda row: row["ok"],
        "pickles": lambda row: row["trap works"] and not row["executed"],
        "full disks": lambda row: row["ok"],
        "small disks": lambda row: row["ok"],
    }
    return {name: [row for row in rows if not holds[name](row)] for name, rows in results.items()}


def summarise(results: dict[str, Rows]) -> str:
    """What was tried and how often it held, as a Markdown table."""
    failed = failures(results)
    lines = ["| proof | tried | held | what was seen |", "|---|---|---|---|"]
    for name, rows in results.items():
        tried = sum(row.get("count", "memory_mib" not in row) for row in rows)
        bad = sum(row.get("undetected", 1) + row.get("crashed", 0) for row in failed[name])
        lines.append(f"| {name} | {tried:,} | {tried - bad:,} | {_seen(name, rows)} |")
    return "\n".join(lines)


def _seen(name: str, rows: Rows) -> str:
    if name == "kills":
        writing = sum(row["moment"] != "step" for row in rows)
        again = sum(row["step"] - row["checkpoint"] for row in rows)
        equal = sum(not row["differences"] for row in rows)
        return (
            f"{writing} while a checkpoint was written, {len(rows) - writing} at any step; {len(runs.VARIANTS)} "
            f"recipes; {sum(row['hit'] for row in rows)} hit an unfinished run; {equal} bit-equal in "
            f"weights, optimiser state, metrics, predictions; {again:,} steps were computed again"
        )
    if name == "power cuts":
        found, more = (sum(test(row) for row in rows) for test in (
            lambda row: row["restored"] == row["safe"], lambda row: row["restored"] > row["safe"],
        ))  # fmt: skip
        return f"{found:,} times the last checkpoint that was safe was found, {more} times a later one"
    if name == "damaged files":
        kinds = len({row["damage"] for row in rows[:-1]})
        memory = rows[-1]
        return f"{kinds} kinds of damage; at most {memory['memory_mib']:.0f} MiB beyond a whole file's reading"
    if name == "caches":
        hit, writing = (sum(map(test, rows)) for test in (lambda row: row["hit"], lambda row: row["moment"] != "any"))
        return f"{hit} of two processes that prepared the same pictures were killed, {writing} while writing a file"
    if name == "hostile inputs":
        return f"exit codes {dict(Counter(row['code'] for row in rows))}; the table is below"
    if name == "pickles":
        return f"{sum(row['trap works'] for row in rows)} traps work, {sum(row['executed'] for row in rows)} executed"
    if name in ("full disks", "small disks"):
        equal = sum(not row["differences"] for row in rows)
        return f"{sum(row['begun'] for row in rows)} in a run that had begun; with room again {equal} ended bit-equal"
    return f"{len({row.get('variant', row.get('data')) for row in rows})} recipes or data sets"


def draw_kills(rows: Rows, path: Path) -> None:
    """Where each kill fell: a row a recipe, how far the run was, and the checkpoint from which it went on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    names = list(runs.VARIANTS)
    colours = {"step": "#4c78a8"} | dict.fromkeys(["-".join(moment) for moment in kills.WRITING], "#e45756")
    for row in rows:
        y = len(names) - 1 - names.index(row["variant"]) + (row["seed"] % 7 - 3) / 12
        at, back = row["step"] / row["steps"], row["checkpoint"] / row["steps"]
        axes.plot([back, at], [y, y], color="#bbbbbb", linewidth=1, zorder=1)
        axes.scatter(at, y, s=12, color=colours[row["moment"]], zorder=2)
    axes.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
    axes.set_xlabel("share of the run's steps that were done when it was killed")
    for label, colour in (("at any step", "#4c78a8"), ("while a checkpoint was written", "#e45756")):
        axes.scatter([], [], s=12, color=colour, label=label)
    axes.plot([], [], color="#bbbbbb", label="computed again")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    equal = sum(not row["differences"] for row in rows)
    axes.set_title(f"{len(rows)} kills; resumed, {equal} of the runs ended with the same bits", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)


def write_proofs(folder: Path, results: dict[str, Rows], seconds: float) -> Path:
    """Keeps figures (JSON), tables (Markdown) and the picture; the Markdown file's path."""
    machine = describe_machine()
    kept = {name: rows for name, rows in results.items() if name != "power cuts"}
    write_record(folder, "proofs", {"seconds": seconds, "results": kept})
    text = [
        "# Proofs: runs that are killed, files that are damaged, inputs that are hostile",
        f"`make prove` on {machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"torch {machine['torch']}, two runs side by side, in {seconds / 60:.0f} minutes.",
        summarise(results),
    ]
    if "kills" in results:
        picture = dated(folder, "proofs-kills.png")
        draw_kills(results["kills"], picture)
        text.append(f"![kills]({picture.name})")
    if "hostile inputs" in results:
        text += ["## Hostile and broken inputs", "| input | exit code | error | left behind |\n|---|---|---|---|"]
        text[-1] += "".join(
            f"\n| {row['input']} | {row['code']} | {row['says'].removeprefix('error: ').replace('|', '¦')} "
            f"| {', '.join(row['left']) or 'nothing'} |"
            for row in results["hostile inputs"]
        )
    if "damaged files" in results:
        text += ["## Damaged files", "| file | damage | tried | not detected | crashed |\n|---|---|---|---|---|"]
        text[-1] += "".join(
            f"\n| {row['file']} | {row['damage']} | {row['count']} | {row['undetected']} | {row['crashed']} |"
            for row in results["damaged files"][:-1]
        )
    path = dated(folder, "proofs.md")
    path.write_text("\n\n".join(text) + "\n")
    return path


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--small", action="store_true", help="the size that the tests take")
    options.add_argument("--only", nargs="+", default=[], metavar="PROOF")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write figures, tables and a picture there")
    options.add_argument("--json", type=Path, metavar="FILE", help="write every result there")
    given = options.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="eyebright-proofs-") as name:
        os.environ["EYEBRIGHT_CACHE"] = f"{name}/cache"
        results = prove_all(Path(name).resolve(), given.small, given.only)
    if given.json:
        given.json.write_text(json.dumps(results))
    if given.record:
        print(f"record: {write_proofs(given.record, results, time.perf_counter() - started)}")
    print(summarise(results))
    failed = {name: rows for name, rows in failures(results).items() if rows}
    for name, rows in failed.items():
        print(f"\n{name} did not hold {len(rows)} times, for example:\n{json.dumps(rows[:3], indent=1)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
