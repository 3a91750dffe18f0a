"""Planted duplicates among real pictures, how many are found, and what else: `make record NAME=duplicates`.

``--data`` names folders or archives of pictures. Of each, 100 pictures a kind (a fifth of all, where there are fewer
than 500) are copied into a second part: stored again as JPEG of quality 50 to 80, resized by 10 % (down or up),
mirrored, cropped by 4 % on every side (half of them scaled back), 10 % brighter. All but the first are stored as JPEG
of quality 90. What is found beside the planted pairs is listed and drawn, to be judged by eye.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import dated, write_record
from PIL import Image

import eyebright as eb
from eyebright.curation.duplicates import NEAR, Duplicates, find_duplicates
from eyebright.curation.duplicates_figure import draw_duplicates
from eyebright.data.images import ImageFiles, Images
from eyebright.data.sources import gather_pictures
from eyebright.inspection.style import save_figure
from eyebright.random import derive

KINDS = ("stored again", "resized", "mirrored", "cropped", "brighter")


def read(folder: str) -> ImageFiles:
    """Every picture below a folder or in an archive, of the class that its folder names."""
    paths = tuple(sorted(gather_pictures([folder])))
    classes = tuple(sorted({path.parent.name for path in paths}))
    number = {name: label for label, name in enumerate(classes)}
    return ImageFiles(paths, np.array([number[path.parent.name] for path in paths], dtype=np.int64), classes)


def change(picture: Image.Image, kind: str, random: np.random.Generator) -> bytes:
    """A near duplicate as JPEG."""
    width, height = picture.size
    quality = 90
    if kind == "stored again":
        quality = int(random.integers(50, 81))
    elif kind == "resized":
        factor = random.choice([0.9, 1.1])
        picture = picture.resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    elif kind == "mirrored":
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif kind == "cropped":
        x, y = max(1, round(0.04 * width)), max(1, round(0.04 * height))
        picture = picture.crop((x, y, width - x, height - y))
        if random.random() < 0.5:
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    else:
        picture = Image.fromarray(np.rint(np.asarray(picture) * 1.1).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def plant(pictures: ImageFiles, folder: Path, seed: int) -> tuple[ImageFiles, np.ndarray]:
    """Near duplicates in a folder, kind after kind, and the index of each one's original."""
    random = np.random.default_rng(derive(seed, "plants"))
    each = min(500, len(pictures)) // len(KINDS)
    originals = random.permutation(len(pictures))[: each * len(KINDS)]
    paths = []
    for number, index in enumerate(originals):
        with Image.open(pictures.paths[index]) as opened:
            data = change(opened.convert("RGB"), KINDS[number // each], random)
        paths.append(folder / f"{number:03} {KINDS[number // each]}.jpg")
        paths[-1].write_bytes(data)
    return ImageFiles(tuple(paths), pictures.labels[originals], pictures.classes), originals


def judge(found: Duplicates, originals: np.ndarray) -> tuple[dict[str, float], set[tuple[int, int]], int]:
    """Recall of each kind, pairs of different originals, and the number of pairs that show such."""
    each = len(originals) // len(KINDS)
    hits: Counter[str] = Counter()
    others = []
    for pair in found.pairs:
        sides = ((pair.part_a, pair.index_a), (pair.part_b, pair.index_b))
        a, b = sorted(int(originals[index]) if part == "planted" else index for part, index in sides)
        if a != b:
            others.append((a, b))
        elif pair.part_a != pair.part_b:
            hits[KINDS[pair.index_b // each]] += 1
    return {kind: hits[kind] / each for kind in KINDS}, set(others), len(others)


def run(folder: str, seed: int, record: Path | None) -> dict[str, Any]:
    pictures = read(folder)
    parts = Path(folder).resolve().parts
    name = "-".join(parts[-2:] if parts[-1] in ("train", "val", "test") else parts[-1:]).partition(".")[0]
    with tempfile.TemporaryDirectory() as place:
        planted, originals = plant(pictures, Path(place), seed)
        find_duplicates({"real": pictures.select(range(min(2, len(pictures))))})  # what is slow the first time only
        started, started_cpu = time.perf_counter(), time.process_time()
        found = find_duplicates({"real": pictures, "planted": planted})
        seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    recall, others, count = judge(found, originals)
    names = [
        " and ".join(f"{pictures.paths[i].parent.name}/{pictures.paths[i].name}" for i in pair)
        for pair in sorted(others)
    ]
    row = {
        "data": name, "seed": seed, "pictures": len(pictures), "planted": len(planted), "pairs": len(found.pairs),
        "recall": float(np.mean(list(recall.values()))), "recall_by_kind": recall, "threshold": found.threshold,
        "pairs_of_other_pictures": count, "other_pictures": names,
        "seconds": round(seconds, 1), "processor_seconds": round(cpu, 1),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    if record and seed == 0:
        alone = find_duplicates({"real": pictures})
        save_figure(dated(record, f"duplicates-{name}.png"), draw_duplicates(alone, {"real": pictures}))
    return row


def digits() -> dict[str, Any]:
    """Pictures that are alike by nature, handwritten digits of 8×8: pairs found at 0.9, and at the raised threshold."""
    parts = eb.load_data("digits").parts()
    found = find_duplicates(parts)
    with patch("eyebright.curation.duplicates.choose_threshold", return_value=NEAR):
        unraised = len(find_duplicates(parts).pairs)
    counts = {"pictures": sum(found.counts.values()), "pairs": len(found.pairs), "pairs_unraised": unraised}
    return counts | {"threshold": found.threshold}


def peak_mebibytes() -> int:
    """The most memory that this process has held so far (Linux; what `resource` tells includes the parent's)."""
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024)


def scale(folder: str, count: int, queue: Any) -> None:
    """Time and memory for so many pictures in memory: each a quarter of one of the folder's."""
    torch.set_num_threads(1)
    pictures = read(folder)
    kept = -(-count // 4)
    quarters = np.empty((kept, 4, 32, 32, 3), dtype=np.uint8)
    chosen = np.random.default_rng(0).permutation(len(pictures))[:kept]
    for row, index in enumerate(chosen):
        whole = np.broadcast_to(pictures.read(index), (64, 64, 3))
        quarters[row] = whole.reshape(2, 32, 2, 32, 3).swapaxes(1, 2).reshape(4, 32, 32, 3)
    images = Images(quarters.reshape(-1, 32, 32, 3)[:count], np.zeros(count, dtype=np.int64), ("all",))
    before, started = peak_mebibytes(), time.process_time()
    pairs = len(find_duplicates({"train": images}).pairs)
    seconds, after = time.process_time() - started, peak_mebibytes()
    queue.put({"pictures": count, "processor_seconds": round(seconds, 1), "pairs": pairs,
               "mebibytes_before": before, "mebibytes_at_most": after})  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", nargs="+", default=[], help="folders or archives of pictures")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--scale", help="a folder of at least 25,000 pictures of 64×64: time and memory of N and 4 N")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write figures and pictures there")
    given = options.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"planted": [run(d, s, given.record) for d in given.data for s in range(given.seeds)]}
    figures["digits"] = digits()
    print(figures["digits"], flush=True)
    if given.scale:
        spawn = multiprocessing.get_context("spawn")
        figures["scale"] = []
        for count in (6250, 25_000, 100_000):
            queue = spawn.Queue()
            process = spawn.Process(target=scale, args=(given.scale, count, queue))
            process.start()
            figures["scale"].append(queue.get())
            process.join()
            print(figures["scale"][-1], flush=True)
    if given.record:
        write_record(given.record, "duplicates", figures)


if __name__ == "__main__":
    main()
