"""Two processes that prepare the same pictures at once, one of which is killed: the cache is right, or made again."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eyebright.data import prepared
from eyebright.data.images import ImageFiles
from eyebright.data.prepare import Prepare
from eyebright.data.prepared import prepare_files
from eyebright.data.sources import load_parts
from proofs import disk, runs
from proofs.disk import Operation

PREPARE = Prepare(resize=48, crop=40)
SHARD_BYTES = 40_000  # so that there are some 20 files
MOMENTS = (
    ("write", "before"), ("write", "halfway"), ("write", "after"),
    ("fsync", "before"), ("replace", "before"), ("replace", "after"),
)  # fmt: skip


def prove_caches(folder: Path, count: int, processes: int) -> Iterator[dict[str, Any]]:
    """Makes so many caches, each by two processes at once, of which one is killed; yields what came of each.

    Half of the kills fall on a chosen moment of writing a file, half on any time between two files.
    """
    photographs = runs.make_photographs(folder / "photographs")
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(_kill, [(folder, photographs, seed) for seed in range(count)])


def _build(cache: Path, photographs: Path) -> None:
    torch.set_num_threads(1)
    os.environ["EYEBRIGHT_CACHE"] = str(cache)
    prepared.SHARD_BYTES = SHARD_BYTES
    if prepare_files(_pictures(photographs), PREPARE) is None:
        raise RuntimeError("nothing was kept")


def _build_until(cache: Path, photographs: Path, moment: tuple[str, str], number: int) -> None:
    def chosen(operation: Operation) -> bool:
        return (operation.what, operation.moment) == moment and operation.path.suffix in (".part", ".safetensors")

    with disk.installed(disk.kill_at(number, chosen)):
        _build(cache, photographs)


def _pictures(photographs: Path) -> ImageFiles:
    pictures = load_parts(photographs)["train"]
    assert isinstance(pictures, ImageFiles)
    return pictures


def _kill_after(child: int, cache: Path, files: int, chance: random.Random) -> None:
    """Kills a process a moment after so many files of a cache are there, if it has not ended before."""
    while _is_running(child):
        if sum(1 for _ in cache.rglob("*.safetensors")) >= files:
            time.sleep(chance.uniform(0, 0.005))
            os.kill(child, signal.SIGKILL)
            return
        time.sleep(0.0005)


def _is_running(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _kill(job: tuple[Path, Path, int]) -> dict[str, Any]:
    folder, photographs, seed = job
    chance = random.Random(seed)
    cache = folder / f"cache-{seed}"
    moment = MOMENTS[seed // 2 % len(MOMENTS)] if seed % 2 else None
    one, other = (cache.with_name(f"{cache.name}-{name}.log") for name in ("one", "other"))
    if moment is not None:
        killed = runs.start(partial(_build_until, cache, photographs, moment, chance.randrange(6)), one)
    else:
        killed = runs.start(partial(_build, cache, photographs), one)
    while not (cache / "prepared").exists() and _is_running(killed):  # so that it is the one to write
        time.sleep(0.0005)
    left = runs.start(partial(_build, cache, photographs), other)
    if moment is None:
        _kill_after(killed, cache, chance.randrange(8), chance)
    first, second = runs.wait(killed), runs.wait(left)
    wrong, unfinished = _check(cache, photographs)
    if second == 0 and not wrong and not unfinished:
        shutil.rmtree(cache)
    return {
        "seed": seed, "moment": "-".join(moment or ("any",)), "hit": first == -signal.SIGKILL,
        "other": second, "says": other.read_text()[-500:], "wrong": wrong, "unfinished": unfinished,
    }  # fmt: skip


def _check(cache: Path, photographs: Path) -> tuple[list[str], list[str]]:
    """Pictures whose prepared pixels are not those that a file gives, and files that were left half written."""
    before = os.environ.get("EYEBRIGHT_CACHE")
    os.environ["EYEBRIGHT_CACHE"] = str(cache)
    pictures = _pictures(photographs)
    found = prepare_files(pictures, PREPARE)
    if before is not None:
        os.environ["EYEBRIGHT_CACHE"] = before
    assert found is not None
    wrong = [
        pictures.name(index)
        for index in range(len(pictures))
        if not np.array_equal(
            PREPARE.resize_picture(found.read(index)), PREPARE.resize_picture(pictures.read(index, PREPARE.at_least))
        )
    ]
    return wrong, [str(path) for path in cache.rglob("*.part")]
