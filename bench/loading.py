"""Pictures to batches: how many a second, beside the loader that any PyTorch user writes.

That loader decodes with Pillow, resizes, and is a `torch.utils.data.DataLoader` with two workers. Ours is timed in the
same run, round by round: decoding as it goes, the second pass from the cache, and the first pass of a later run. The
limit is what the JPEG decoder does in two threads when nothing is read, resized or collected.

    python bench/loading.py --data photos.zip hymenoptera.zip tiny-imagenet-50.tar.xz --record records
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from common import dated, said_by, write_record
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from eyebright.data.ahead import ahead
from eyebright.data.batches import Loader, keep_ready
from eyebright.data.images import ImageFiles
from eyebright.data.prepare import Prepare
from eyebright.data.prepared import prepare_files
from eyebright.data.sources import gather_pictures
from eyebright.device import choose_plan

SIDES = {"photos": 224, "hymenoptera": 224, "tiny-imagenet-50": 64}
BATCH, WORKERS, ROUNDS = 32, 2, 5
PLAN = choose_plan("cpu", "float32")


class AsUsual(Dataset[torch.Tensor]):
    """What stands in tutorials, with uint8 in the place of float32."""

    def __init__(self, paths: list[Path], side: int):
        self.paths, self.side = paths, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as file:
            picture = file.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def seconds(batches: Callable[[], Iterable[torch.Tensor]], count: int) -> tuple[float, float]:
    """By the clock, and of the processor: of all threads, and of processes that have ended."""
    started, busy = time.perf_counter(), processor_seconds()
    seen = sum(len(batch) for batch in batches())
    assert seen == count, (seen, count)
    return time.perf_counter() - started, processor_seconds() - busy


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(paths: list[Path], side: int) -> dict[str, Any]:
    """Seconds of each way, round by round."""
    pictures = ImageFiles(tuple(paths), np.zeros(len(paths), dtype=np.int64), ("any",))
    prepare = Prepare(resize=(side, side))
    encoded = [data for data in (path.read_bytes() for path in paths) if data.startswith(b"\xff\xd8\xff")]
    usual = AsUsual(paths, side)

    def decode_alone(start: int) -> torch.Tensor:
        for data in encoded[start : start + BATCH]:
            simplejpeg.decode_jpeg(data, "RGB" if simplejpeg.decode_jpeg_header(data)[2] != "Gray" else "GRAY")
        return torch.empty(len(encoded[start : start + BATCH]))

    prepared = prepare_files(pictures, prepare)
    assert prepared is not None
    ways: dict[str, Callable[[], Iterable[torch.Tensor]]] = {
        "usual": lambda: DataLoader(usual, BATCH, num_workers=WORKERS),
        "ours": lambda: Loader(pictures, prepare, PLAN, BATCH, workers=WORKERS).pixels(),
        "ours, one worker": lambda: Loader(pictures, prepare, PLAN, BATCH, workers=1).pixels(),
        "second pass, mapped": lambda: Loader(prepared, prepare, PLAN, BATCH, workers=WORKERS).pixels(),
        "second pass, in memory": lambda: Loader(kept, prepare, PLAN, BATCH).pixels(),
        "first pass of a later run": lambda: Loader(keep_ready(pictures, prepare), prepare, PLAN, BATCH).pixels(),
    }
    kept = keep_ready(pictures, prepare)
    times: dict[str, list[float]] = {name: [] for name in (*ways, "decoder alone")}
    busy: dict[str, list[float]] = {name: [] for name in times}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            clock, processor = seconds(way, len(paths))
            times[name].append(clock)
            busy[name].append(processor)
        with closing(ahead(decode_alone, range(0, len(encoded), BATCH), WORKERS)) as decoded:
            share = len(paths) / len(encoded)
            clock, processor = seconds(lambda: decoded, len(encoded))
            times["decoder alone"].append(clock * share)
            busy["decoder alone"].append(processor * share)
    return {"pictures": len(paths), "side": side, "seconds": times, "processor_seconds": busy}


def summarise(measured: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of each way: pictures a second and core, and how many times those of the usual loader (median round, worst).

    By the clock, a core counts whether it is busy or not; `times_usual_busy` compares the time that cores were busy.
    """
    rates, usual, busy = {}, measured["seconds"]["usual"], measured["processor_seconds"]
    for name, times in measured["seconds"].items():
        ratios = [theirs / own for theirs, own in zip(usual, times, strict=True)]
        rates[name] = {
            "per_second_and_core": measured["pictures"] / statistics.median(times) / WORKERS,
            "times_usual": statistics.median(ratios),
            "least_times_usual": min(ratios),
            "times_usual_busy": statistics.median(
                theirs / own for theirs, own in zip(busy["usual"], busy[name], strict=True)
            ),
        }
    return rates


def memory(folder: Path, times: int, mapped: bool) -> dict[str, float]:
    """High-water marks, in MiB, of a process that goes twice through so many copies of a folder's pictures."""
    command = [sys.executable, __file__, "--measure-memory", str(folder), str(times), str(int(mapped))]
    marks: dict[str, float] = said_by(command)
    return marks


def measure_memory(folder: Path, times: int, mapped: bool) -> None:
    """What `memory` starts: copies differ in a remark, so that each is a picture of its own."""
    marks = {"own": 0.0, "mapped": 0.0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            for name, key in (("own", "RssAnon"), ("mapped", "RssFile")):
                marks[name] = max(marks[name], int(status[key].split()[0]) / 1024)

    with tempfile.TemporaryDirectory() as name:
        paths = []
        for copy in range(times):
            for index, path in enumerate(sorted(folder.iterdir())):
                data, remark = path.read_bytes(), str(copy).encode()
                paths.append(Path(name) / f"{copy}-{index}.jpg")
                paths[-1].write_bytes(data[:2] + b"\xff\xfe" + (len(remark) + 2).to_bytes(2, "big") + remark + data[2:])
        os.environ["EYEBRIGHT_CACHE"] = f"{name}/cache"
        pictures = ImageFiles(tuple(paths), np.zeros(len(paths), dtype=np.int64), ("any",))
        prepare = Prepare(resize=(224, 224))
        watcher = threading.Thread(target=watch)
        watcher.start()
        chosen = prepare_files(pictures, prepare) if mapped else pictures
        assert chosen is not None
        for epoch in range(2):
            for batch in Loader(chosen, prepare, PLAN, BATCH, shuffle=True).pixels(epoch):
                batch.sum()
        stop.set()
        watcher.join()
    print(json.dumps(marks))


def draw(results: dict[str, Any], path: Path) -> None:
    """A row a way: how many times the usual loader's pictures a second, for each set."""
    from matplotlib.figure import Figure

    names = [name for name in next(iter(results.values()))["rates"] if name != "usual"]
    figure = Figure(figsize=(9, 1.6 + 0.8 * len(names)), layout="constrained")
    axes = figure.subplots()
    colours = ("#0072B2", "#E69F00", "#009E73")
    for place, (source, colour) in enumerate(zip(results, colours, strict=False)):
        ratios = [results[source]["rates"][name]["times_usual"] for name in names]
        heights = np.arange(len(names)) + (place - 1) * 0.26
        axes.barh(heights, ratios, height=0.24, color=colour, label=f"{source}, {results[source]['side']}²")
        for height, ratio in zip(heights, ratios, strict=True):
            axes.text(ratio * 1.04, height, f"{ratio:.1f}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="#888888", linewidth=1)
    axes.set_xlabel("pictures a second, as a multiple of Pillow in a DataLoader with two workers")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", nargs="+", type=Path, metavar="SOURCE", default=[])
    options.add_argument("--most", type=int, default=5000, help="pictures of a set that are loaded")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write figures and a picture there")
    options.add_argument("--measure-memory", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure_memory:
        measure_memory(Path(given.measure_memory[0]), int(given.measure_memory[1]), given.measure_memory[2] == "1")
        return
    results: dict[str, Any] = {}
    marks: dict[str, Any] = {}
    console = Console()
    with tempfile.TemporaryDirectory(prefix="eyebright-loading-") as cache:
        os.environ["EYEBRIGHT_CACHE"] = cache
        for source in given.data:
            name = source.name.partition(".")[0]
            paths = [path for path in gather_pictures([source]) if path.suffix.lower() != ".gif"]
            paths = paths[:: -(-len(paths) // given.most)]
            results[name] = measure(paths, SIDES.get(name, 224))
            results[name]["rates"] = summarise(results[name])
            table = Table(
                "way", "pictures/s and core", "× usual", "at least", "× busy", title=f"{name}: {len(paths)} pictures"
            )
            for way, rate in results[name]["rates"].items():
                table.add_row(
                    way, f"{rate['per_second_and_core']:,.0f}", f"{rate['times_usual']:.2f}",
                    f"{rate['least_times_usual']:.2f}", f"{rate['times_usual_busy']:.2f}",
                )  # fmt: skip
            console.print(table)
            if name == "photos":
                for mapped in (False, True):
                    kind = "mapped" if mapped else "streamed"
                    marks[kind] = {times: memory(paths[0].parent, times, mapped) for times in (1, 2, 4)}
                console.print_json(json.dumps(marks))
    if given.record:
        record = {"batch": BATCH, "workers": WORKERS, "sets": results, "memory_mib": marks}
        write_record(given.record, "loading", record)
        draw(results, dated(given.record, "loading.png"))


if __name__ == "__main__":
    main()
