"""Mean, standard deviation and distribution of a part's pixel values, with the error of measuring them on a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eyebright.data.ahead import ahead
from eyebright.data.images import Pictures
from eyebright.data.labels import class_counts, has_label
from eyebright.data.prepare import Prepare
from eyebright.inspection.picture_facts import Facts
from eyebright.inspection.pictures import sample
from eyebright.random import generator

SAMPLE = 5000  # pictures: enough for three decimals, and read in seconds
SIDE = 128  # pixels: what larger pictures, and pictures of different sizes, are resized to
PICTURED_CLASSES = 20  # that are shown by their pictures and their means

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelValues:
    """Pixel values, scaled to 0…1, of a part. Every picture counts equally.

    Attributes:
        pictures: how many were read.
        of: how many can be read; more than `pictures` where these are a sample.
        height, width: the size, in pixels, at which they were measured.
        resized: whether pictures were resized to that size. Resizing smooths: the standard deviation is a little
            smaller than at full size, as it is in training at such a size.
        mean, std: of each channel, over all pixels of all pictures read.
        mean_error, std_error: standard errors of these, from the spread between pictures; 0 where all were read.
        histogram: how often each of the values 0…255 occurs, int64 `[C, 256]`.
        mean_pictures: class → mean of its pictures, 0…1, float64 `[H, W, C]`; of the classes of `choose_classes`.
    """

    pictures: int
    of: int
    height: int
    width: int
    resized: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mean_error: tuple[float, ...]
    std_error: tuple[float, ...]
    histogram: NDArray[np.int64]
    mean_pictures: dict[str, Floats]


def measure_channels(
    pictures: Pictures,
    facts: Facts,
    *,
    seed: int = 0,
    largest_sample: int = SAMPLE,
    on_read: Callable[[], object] | None = None,
) -> ChannelValues | None:
    """Measures the pixel values of a part's pictures, or of a random sample; None where not one can be read.

    Pictures of one size of at most `SIDE`×`SIDE` pixels are taken as they are, others are resized to that as they would
    be in training. The figures are those of `channel_statistics` with the same `Prepare`, but that large JPEG files are
    decoded at a reduced size, which moves them by less than 0.002. Where every picture is grey there is one channel.

    Args:
        pictures: the part.
        facts: what `read_facts` said of it.
        seed: of the sample.
        largest_sample: with more pictures, so many are chosen.
        on_read: called for each picture that is read.
    """
    known = np.flatnonzero(facts.readable)
    if len(known) == 0:
        return None
    chosen = known
    if len(known) > largest_sample:
        order = torch.randperm(len(known), generator=generator(seed, "channel values")).numpy()
        chosen = np.sort(known[order[:largest_sample]])
    sizes = {(height, width) for height, width in zip(facts.height[known], facts.width[known], strict=True)}
    height, width = map(int, next(iter(sizes)))
    resized = len(sizes) > 1 or max(height, width) > SIDE
    if resized:
        height = width = SIDE
    channels = 1 if (facts.channels[known] == 1).all() else 3
    prepare = Prepare(channels=channels, resize=(height, width))

    sums = {label: np.zeros((height, width, channels)) for label in choose_classes(len(pictures.classes), seed)}
    counts = np.zeros((len(chosen), channels, 256), dtype=np.int32)
    read = ahead(lambda index: prepare.resize_picture(pictures.read(index, prepare.at_least)), chosen.tolist(), 2)
    for row, (index, pixels) in enumerate(zip(chosen.tolist(), read, strict=True)):
        for channel in range(channels):
            counts[row, channel] = np.bincount(pixels[..., channel].ravel(), minlength=256)
        for label in sums:
            if has_label(facts.labels[index : index + 1], label):
                sums[label] += pixels
        if on_read is not None:
            on_read()
    mean, std, mean_error, std_error = _moments(counts, len(known))
    members = class_counts(facts.labels[chosen], len(pictures.classes))
    return ChannelValues(
        pictures=len(chosen),
        of=len(known),
        height=height,
        width=width,
        resized=resized,
        mean=mean,
        std=std,
        mean_error=mean_error,
        std_error=std_error,
        histogram=counts.sum(axis=0, dtype=np.int64),
        mean_pictures={
            pictures.classes[label]: total / (255 * members[label]) for label, total in sums.items() if members[label]
        },
    )


def choose_classes(classes: int, seed: int = 0) -> list[int]:
    """Indices of the classes that are shown by their pictures: all, or `PICTURED_CLASSES` of them, drawn at random."""
    chosen: list[int] = sample(PICTURED_CLASSES, classes, seed).tolist()
    return chosen


def _moments(counts: NDArray[np.int32], of: int) -> tuple[tuple[float, ...], ...]:
    """Mean, standard deviation and their standard errors from each picture's histogram, int32 `[n, C, 256]`.

    Pictures, not pixels, were drawn at random, without replacement from `of`: the errors come from the spread between
    pictures, the standard deviation's by its first derivative (the delta method), and are smaller the larger the share
    that was read (Cochran, Sampling Techniques, §2.6).
    """
    values = np.arange(256) / 255
    pixels = counts[0, 0].sum()
    first, second = counts @ values / pixels, counts @ values**2 / pixels  # [n, C]
    mean = first.mean(axis=0)
    std = np.sqrt(np.maximum(second.mean(axis=0) - mean**2, 0))
    n = len(counts)
    shrink = np.sqrt((1 - n / of) / n)
    slope = (second - 2 * mean * first) / (2 * np.maximum(std, 1e-12))
    errors = (np.std(moved, axis=0, ddof=1) * shrink if n > 1 and n < of else 0 * mean for moved in (first, slope))
    return tuple(tuple(column.round(6).tolist()) for column in (mean, std, *errors))
