"""How often `find_drift` is wrong: false alarms between random halves, and from which strength on it finds a change.

``python bench/drift.py --source cifar10-jpeg.tar.xz --record records`` takes the test part of the source: its halves
against each other, and against copies of the other half that are blurred, noisy, brighter, redder, saved again as JPEG,
made smaller and large again, or lack cats. The two sides never have a picture in common.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import dated, write_record
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest, kstest

from eyebright.curation.descriptors import describe_pictures
from eyebright.curation.differences import LEVEL, compare_labels, find_differences
from eyebright.curation.drift import compare, find_drift
from eyebright.curation.permutation import Matrix, deal_labels, p_value
from eyebright.data.images import Images, Pixels
from eyebright.data.sources import load_parts
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE, make_figure, save_figure, tidy

SIZES = {100: 60, 500: 30, 5000: 6}  # pictures a side: comparisons
COLOURS = dict(zip(SIZES, (ORANGE, GREEN, BLUE), strict=True))
Described = tuple[Matrix, ...]


def as_pixels(values: NDArray[Any]) -> Pixels:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def add_noise(pixels: Pixels, deviation: float) -> Pixels:
    return as_pixels(pixels + np.random.default_rng(0).normal(0, deviation, pixels.shape))


def save_as_jpeg(pixels: Pixels, quality: float) -> Pixels:
    def saved(picture: Pixels) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=int(quality))
        return np.asarray(Image.open(file))

    return np.stack([saved(picture) for picture in pixels])


def shrink(pixels: Pixels, side: float) -> Pixels:
    def back_and_forth(picture: Pixels) -> Pixels:
        small = Image.fromarray(picture).resize((int(side), int(side)), Image.Resampling.BILINEAR)
        return np.asarray(small.resize(picture.shape[1::-1], Image.Resampling.BILINEAR))

    return np.stack([back_and_forth(picture) for picture in pixels])


CHANGES: dict[str, tuple[str, Callable[[Pixels, float], Pixels], tuple[float, ...]]] = {
    "blurred": ("pixels (σ)", lambda p, s: as_pixels(gaussian_filter(p.astype(np.float32), (0, s, s, 0))),
                (0.3, 0.4, 0.5, 0.7, 1.0)),
    "noisy": ("grey steps (σ)", add_noise, (0.25, 0.5, 1, 2, 4)),
    "brighter": ("grey steps", lambda p, s: as_pixels(p.astype(np.float32) + s), (1, 2, 4, 8, 16)),
    "redder, less blue": ("%", lambda p, s: as_pixels(p * np.array([1 + s / 100, 1, 1 - s / 100])), (1, 2, 4, 8, 16)),
    "saved again as JPEG": ("quality", save_as_jpeg, (95, 90, 80, 60, 40)),
    "made smaller, and large again": ("pixels a side", shrink, (31, 30, 28, 24, 16)),
}  # fmt: skip
FEWER_CATS = (0.1, 0.25, 0.5, 1.0)


def rows(described: Described, places: NDArray[np.int64]) -> Described:
    return tuple(family[places] for family in described)


def draw_sides(count: int, size: int, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = random.permutation(count)
    return order[:size], order[size : 2 * size]


def find(first: Described, second: Described, seed: int) -> tuple[float, str]:
    """The p-value of one comparison, and the largest difference in words."""
    deals = deal_labels(len(first[0]), len(second[0]), seed)
    by_statistic, _, statistic = compare([np.concatenate(pair) for pair in zip(first, second, strict=True)], deals)
    largest = find_differences(first[0], second[0], by_statistic)[0]
    return p_value(statistic), largest.words if largest.p_value <= LEVEL else "nothing with a name"


def false_alarms(described: Described, halves: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    values = []
    for half in range(halves):
        one, other = draw_sides(len(described[0]), len(described[0]) // 2, random)
        values.append(find(rows(described, one), rows(described, other), half)[0])
        if half % 100 == 99:
            print(f"{half + 1} halves: {np.mean(np.array(values) <= 0.05):.1%} at most 0.05", flush=True)
    figures: dict[str, Any] = {"p_values": values, "uniform": float(kstest(values, "uniform").pvalue)}
    for level in (0.01, 0.05):
        count = sum(value <= level for value in values)
        interval = binomtest(count, halves).proportion_ci(0.95, method="exact")
        figures[f"at_{level}"] = {"count": count, "of": halves, "interval": [interval.low, interval.high]}
    return figures


def measure_power(clean: Described, changed: Described) -> dict[str, Any]:
    random, figures = np.random.default_rng(1), {}
    for size, comparisons in SIZES.items():
        found = []
        for seed in range(comparisons):
            one, other = draw_sides(len(clean[0]), size, random)
            found.append(find(rows(clean, one), rows(changed, other), seed))
        named = [words for value, words in found if value <= LEVEL]
        most = max(set(named), key=named.count) if named else ""
        power = float(np.mean([value <= LEVEL for value, _ in found]))
        figures[str(size)] = {"found": power, "of": comparisons, "words": most, "so_named": named.count(most)}
    return figures


def measure_label_shift(described: Described, pictures: Images, gone: float) -> Any:
    """How often the shares of the classes, and the pictures, are found to differ where a share of the cats is gone."""
    random = np.random.default_rng(2)
    cats = pictures.labels == pictures.classes.index("cat")
    figures = {}
    for size, comparisons in SIZES.items():
        found = []
        for seed in range(comparisons):
            one, other = draw_sides(len(pictures), size, random)
            other = other[~cats[other] | (random.random(len(other)) >= gone)]
            deals = deal_labels(len(one), len(other), seed)
            shift = compare_labels((pictures, pictures), (one, other), deals)
            assert shift is not None
            found.append((shift.p_value <= LEVEL, find(rows(described, one), rows(described, other), seed)[0] <= LEVEL))
        shares = np.mean(found, axis=0).tolist()
        figures[str(size)] = {"labels_found": shares[0], "pictures_found": shares[1], "of": comparisons}
    return figures


def draw(figures: dict[str, Any], path: Path) -> None:
    figure = make_figure(15, 7)
    panels = figure.subplots(2, 4).ravel()
    values = np.sort(figures["false_alarms"]["p_values"])
    expected = (np.arange(len(values)) + 0.5) / len(values)
    panels[0].plot([0, 1], [0, 1], color=GREY, linewidth=1)
    panels[0].plot(expected, values, ".", color=BLUE)
    tidy(panels[0], f"{len(values):,} pairs of random halves", "quantile of the uniform distribution", "p-value")
    for axes, (change, by_strength) in zip(panels[1:], figures["power"].items(), strict=False):
        tidy(axes, change, CHANGES[change][0], "share found")
        for size in SIZES:
            shares = [by_size[str(size)]["found"] for by_size in by_strength.values()]
            axes.plot(list(by_strength), shares, "o-", color=COLOURS[size], label=f"{size:,} a side")
    tidy(panels[7], "cats gone (dashed: the pictures)", "% of cats", "share found")
    for size in SIZES:
        for what, style in (("labels_found", "o-"), ("pictures_found", "o--")):
            shares = [by_size[str(size)][what] for by_size in figures["fewer_cats"].values()]
            panels[7].plot([f"{100 * gone:.0f}" for gone in FEWER_CATS], shares, style, color=COLOURS[size])
    for axes in panels[1:]:
        axes.set_ylim(-0.04, 1.04)
    panels[1].legend(frameon=False, loc="lower right")
    save_figure(path, figure)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--source", required=True, help="a source of pictures of one size, with a test part")
    options.add_argument("--halves", type=int, default=1000, help="pairs of random halves")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write figures and a picture there")
    given = options.parse_args()

    torch.set_num_threads(1)
    files = load_parts(given.source)["test"]
    pictures = Images(np.stack([files.read(i) for i in range(len(files))]), files.labels, files.classes)
    everything = np.arange(len(pictures))
    halves = [pictures.select(everything[start::2]) for start in (0, 1)]
    started = time.process_time()
    print(find_drift(*halves), flush=True)
    figures: dict[str, Any] = {"level": LEVEL, "seconds_of_find_drift": time.process_time() - started}
    print(f"{len(pictures) // 2} against as many took {figures['seconds_of_find_drift']:.1f} s", flush=True)
    clean = describe_pictures(pictures, everything)
    figures["false_alarms"] = false_alarms(clean, given.halves)
    figures["fewer_cats"] = {str(gone): measure_label_shift(clean, pictures, gone) for gone in FEWER_CATS}
    print(json.dumps(figures["fewer_cats"]), flush=True)
    figures["power"] = {}
    for change, (_, function, strengths) in CHANGES.items():
        by_strength = figures["power"][change] = {}
        for strength in strengths:
            changed = Images(function(pictures.pixels, strength), pictures.labels, pictures.classes)
            by_strength[f"{strength:g}"] = measure_power(clean, describe_pictures(changed, everything))
            print(change, strength, by_strength[f"{strength:g}"], flush=True)
    if given.record:
        draw(figures, dated(given.record, "drift.png"))
        write_record(given.record, "drift", figures)


if __name__ == "__main__":
    main()
