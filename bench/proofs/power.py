"""After a power cut at any moment, and on a disk that fills up at any moment, a whole checkpoint is there."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eyebright as eb
from eyebright.training.checkpoint import Checkpoint, list_checkpoints, load_newest
from eyebright.training.run import Run
from proofs import disk, runs
from proofs.disk import Operation

VARIANT = "Adam, one cycle, each step"


def prove_power_cuts(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """Cuts the power at so many operations of a run, evenly spread; yields what was found afterwards.

    What must be there is the last checkpoint whose writing had returned, or a later one, and the lines before it.
    """
    variant = runs.VARIANTS[VARIANT]
    path = folder / "run"
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = disk.PowerCut(path.parent)
    chance = random.Random(0)
    cuts: list[tuple[int, str, dict[Path, bytes | None]]] = []
    operations = safe = 0
    every = _count_operations(variant, folder / "counted") / count

    def on(operation: Operation) -> None:
        nonlocal operations, safe
        cut(operation)
        operations += 1
        if operation.what == "fsync" and operation.path.name == "checkpoints" and operation.moment == "after":
            safe = max(int(p.stem.removeprefix("step-")) for p in list_checkpoints(operation.path))
        if operations >= every * (len(cuts) + 1):
            cuts.append((safe, f"{operation.what}-{operation.moment}", cut.survivors(chance)))

    with disk.installed(on):
        runs.train(variant, path, folder)
    recipe, splits = Run.open(path).recipe, eb.load_data("digits")
    for number, (safe, moment, found) in enumerate(cuts):
        after = folder / "after"
        shutil.rmtree(after, ignore_errors=True)
        for place, content in found.items():
            if content is None:
                (after / place).mkdir(parents=True)
            else:
                (after / place).write_bytes(content)
        run = Run(after / "run")
        result: dict[str, Any] = {"cut": number, "moment": moment, "safe": safe, "restored": 0, "problem": None}
        if run.exists:
            try:
                fit = eb.Fit(recipe, splits, seed=0)
                assert run.recipe == recipe
                run.restore(fit)
                result["restored"] = fit.step
                steps, epochs = ([line[key] for line in lines] for key, lines in (
                    ("step", run.steps()), ("epoch", run.metrics()),
                ))  # fmt: skip
                if steps != list(range(1, fit.step + 1)) or epochs != list(range(1, fit.epoch + 1)):
                    result["problem"] = f"lines are missing or too many: steps {steps}, epochs {epochs}"
            except eb.EyebrightError as error:
                result["problem"] = error.problem
        if result["restored"] < safe:
            result["problem"] = result["problem"] or f"step {safe} was safe"
        yield result


def _count_operations(variant: runs.Variant, path: Path) -> int:
    count = 0

    def on(operation: Operation) -> None:
        nonlocal count
        count += 1

    with disk.installed(on):
        runs.train(variant, path, path)
    return count


def prove_full_disk(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """The disk is full from the n-th operation of a run on; yields what was said, and what the run became with room."""
    variant = runs.VARIANTS[VARIANT]
    folder.mkdir(parents=True, exist_ok=True)
    reference = folder / "reference"
    writes = 0

    def counting(operation: Operation) -> None:
        nonlocal writes
        writes += operation.what in ("open", "write", "fsync", "mkdir") and operation.moment != "after"

    with disk.installed(counting):
        runs.train(variant, reference, folder)
    for number in range(count):
        path, log = folder / f"full-{number}", folder / f"full-{number}.log"
        at = round(writes * (number + 0.5) / count)

        def until_full(path: Path = path, at: int = at) -> None:
            with disk.installed(disk.full_at(at)):
                runs.train(variant, path, folder)

        code = runs.wait(runs.start(until_full, log))
        yield _after_full(path, log, code, reference, variant, f"operation {at} of {writes}")


def prove_small_disk(folder: Path, mebibytes: list[float]) -> Iterator[dict[str, Any]]:
    """The same on real file systems of these sizes; nothing where this user may not mount one."""
    variant = runs.VARIANTS[VARIANT]
    folder.mkdir(parents=True, exist_ok=True)
    reference = folder / "reference"
    for size in mebibytes:
        place = folder / f"disk-{size:g}"
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={round(size * 2**20)}", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True).returncode != 0:
            return
        try:
            if not reference.exists():
                runs.train(variant, reference, folder)
            log = folder / f"disk-{size:g}.log"
            code = runs.wait(runs.start(lambda place=place: runs.train(variant, place / "run", folder), log))
            subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True, capture_output=True)
            yield _after_full(place / "run", log, code, reference, variant, f"{size:g} MiB")
        finally:
            subprocess.run(["umount", str(place)], check=True)


def _after_full(path: Path, log: Path, code: int, reference: Path, variant: runs.Variant, where: str) -> dict[str, Any]:
    said = log.read_text()
    run = Run(path)
    result: dict[str, Any] = {"where": where, "code": code, "said": said.splitlines()[0] if said else ""}
    result["begun"] = run.exists
    loaded = [found for _, found in load_newest(path / "checkpoints") if isinstance(found, Checkpoint)]
    result["step"] = loaded[0].state.values["step"] if loaded else 0
    damaged = [name for name, problem in run.check().items() if problem] if run.exists else []
    result["damaged"] = [name for name in damaged if not name.endswith(".jsonl")]
    left = [p.name for p in path.rglob("*.part")] if path.exists() else []
    problem = runs.finish(path, variant, path, log)
    result["differences"] = [problem] if problem else runs.differences(reference, path)
    clear = code == 1 and "error: cannot write" in said and "No space left" in said and "Traceback" not in said
    result["ok"] = clear and not result["damaged"] and not left and not result["differences"]
    return result
