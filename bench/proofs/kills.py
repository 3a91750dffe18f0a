"""Runs that are killed and resumed end as the same runs left alone; so do runs that are begun anew."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eyebright.training.run import Run
from proofs import disk, runs
from proofs.disk import Operation

WRITING = (  # of a checkpoint: the moments between which it may be killed
    ("write", "before"), ("write", "halfway"), ("write", "after"),
    ("fsync", "before"), ("fsync", "after"),
    ("replace", "before"), ("replace", "after"),
)  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """One kill that is to be survived.

    Attributes:
        variant: name of the recipe's variant.
        moment: of writing a checkpoint, one of `WRITING`; None: at any step.
        seed: chooses which of these moments, or which step.
        at_epoch: whether it is a checkpoint that ends an epoch, the one place where two of the same step meet.
    """

    variant: str
    moment: tuple[str, str] | None
    seed: int
    at_epoch: bool = False


def plan_kills(count: int, writing: int) -> list[Kill]:
    """So many kills, `writing` of them while a checkpoint is written, spread evenly over variants and moments."""
    names = list(runs.VARIANTS)
    kills = []
    for index in range(count):
        moment = WRITING[index % len(WRITING)] if index < writing else None
        kills.append(Kill(names[index % len(names)], moment, index, at_epoch=index % 3 == 0))
    return kills


def prove_kills(folder: Path, kills: list[Kill], processes: int) -> Iterator[dict[str, Any]]:
    """Makes every variant once without disturbance, then kills and resumes; yields what came of each kill."""
    photographs = runs.make_photographs(folder / "photographs")
    used = [name for name in runs.VARIANTS if name in {kill.variant for kill in kills}]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        list(pool.imap_unordered(_make_reference, [(folder, name, photographs) for name in used]))
        yield from pool.imap_unordered(_kill, [(folder, kill, photographs) for kill in kills])


def prove_fresh(folder: Path, count: int, processes: int) -> Iterator[dict[str, Any]]:
    """Begins runs anew with the same seed; yields in what each differs from the first of its kind."""
    photographs = runs.make_photographs(folder / "photographs")
    names = list(runs.VARIANTS)
    used = names[:count]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        list(pool.imap_unordered(_make_reference, [(folder, name, photographs) for name in used]))
        jobs = [(folder, used[index % len(used)], photographs, index) for index in range(count)]
        yield from pool.imap_unordered(_begin_anew, jobs)


def _reference(folder: Path, name: str) -> Path:
    return folder / f"reference-{list(runs.VARIANTS).index(name)}"


def _make_reference(job: tuple[Path, str, Path]) -> None:
    """The run left alone; beside it, how often each moment of writing a checkpoint came."""
    folder, name, photographs = job
    path = _reference(folder, name)
    counted = path.with_suffix(".json")
    if counted.exists():
        return

    def run() -> None:
        counts = dict.fromkeys(map("-".join, WRITING), 0)

        def count(operation: Operation) -> None:
            if _writes_checkpoint(operation) and (key := f"{operation.what}-{operation.moment}") in counts:
                counts[key] += 1

        with disk.installed(count):
            runs.train(runs.VARIANTS[name], path, photographs)
        runs.save(counted, counts)

    code = runs.wait(runs.start(run, log := path.with_suffix(".log")))
    if code != 0:
        raise RuntimeError(f"the run left alone ended with {code}: {log.read_text()}")


def _kill(job: tuple[Path, Kill, Path]) -> dict[str, Any]:
    folder, kill, photographs = job
    variant, reference = runs.VARIANTS[kill.variant], _reference(folder, kill.variant)
    chance = random.Random(kill.seed)
    path = folder / f"kill-{kill.seed}"
    log = path.with_suffix(".log")
    result: dict[str, Any] = {"variant": kill.variant, "moment": "-".join(kill.moment or ("step",)), "seed": kill.seed}
    if kill.moment is not None:
        counts = json.loads(reference.with_suffix(".json").read_text())
        number = _choose(counts["-".join(kill.moment)], counts["replace-after"], reference, kill.at_epoch, chance)
        code = runs.wait(runs.start(lambda: _train_until(variant, path, photographs, kill, number), log))
    else:
        child = runs.start(lambda: runs.train(variant, path, photographs), log)
        runs.kill_after_step(child, path, chance.randrange(1, runs.count_steps(reference)), chance)
        code = runs.wait(child)
    run = Run(path)
    result["hit"] = code == -signal.SIGKILL and run.exists and not run.finished
    result["step"] = runs.count_steps(path)
    result["steps"] = runs.count_steps(reference)
    checkpoints = sorted((path / "checkpoints").glob("step-*.safetensors"))
    result["checkpoint"] = int(checkpoints[-1].stem.removeprefix("step-")) if checkpoints else 0
    problem = runs.finish(path, variant, photographs, log)
    result["differences"] = [problem] if problem else runs.differences(reference, path)
    if not result["differences"]:
        _remove(path)
    return result


def _choose(moments: int, checkpoints: int, reference: Path, at_epoch: bool, chance: random.Random) -> int:
    """The number of one of the moments of writing checkpoints."""
    if not at_epoch:
        return chance.randrange(moments)
    epochs, each = len(Run(reference).metrics()), moments // checkpoints
    last = checkpoints // epochs * chance.randint(1, epochs) - 1  # the last checkpoint of an epoch
    return last * each + chance.randrange(each)


def _train_until(variant: runs.Variant, path: Path, photographs: Path, kill: Kill, number: int) -> None:
    def chosen(operation: Operation) -> bool:
        return _writes_checkpoint(operation) and (operation.what, operation.moment) == kill.moment

    with disk.installed(disk.kill_at(number, chosen)):
        runs.train(variant, path, photographs)


def _writes_checkpoint(operation: Operation) -> bool:
    return "checkpoints" in (operation.path.name, operation.path.parent.name)


def _begin_anew(job: tuple[Path, str, Path, int]) -> dict[str, Any]:
    folder, name, photographs, index = job
    path = folder / f"fresh-{index}"
    problem = runs.finish(path, runs.VARIANTS[name], photographs, path.with_suffix(".log"))
    found = [problem] if problem else runs.differences(_reference(folder, name), path)
    if not found:
        _remove(path)
    return {"variant": name, "differences": found}


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path)
    path.with_suffix(".log").unlink()


def prove_workers(folder: Path, counts: tuple[int, ...] = (0, 1, 2, 4)) -> list[dict[str, Any]]:
    """The batches of two epochs with so many workers; for each data set, in what they differ from those without any."""
    import eyebright as eb
    from eyebright.data.augment import Augment
    from eyebright.data.batches import Loader
    from eyebright.data.prepare import Prepare

    photographs = eb.load_data(runs.make_photographs(folder / "photographs")).train
    augment = Augment(random_crop=True, padding=2, horizontal_flip=0.5, rotation=15, brightness=0.3)
    sets = {
        "digits, in memory": (eb.load_data("digits").train, Prepare(channels=1, resize=(32, 32), crop=28)),
        "photographs, streamed": (photographs, Prepare(resize=40, crop=32)),
    }
    results = []
    for name, (pictures, prepare) in sets.items():
        made: dict[int, list[bytes]] = {}
        for workers in counts:
            loader = Loader(
                pictures, prepare, eb.choose_plan("cpu"), 16, augment=augment, shuffle=True, seed=3, workers=workers
            )
            made[workers] = [
                batch.inputs.numpy().tobytes() + batch.labels.numpy().tobytes() + np.asarray(batch.indices).tobytes()
                for epoch in (0, 1)
                for batch in loader.batches(epoch)
            ]
        different = [workers for workers in counts if made[workers] != made[counts[0]]]
        results.append({"data": name, "workers": list(counts), "batches": len(made[0]), "different": different})
    return results
