"""How pictures look, in numbers that have a name: brightness, contrast, sharpness, noise, colour, size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eyebright.data.images import Pixels

Values = NDArray[np.float32]

DETAIL_SIDE = 256  # pixels: how much of a large picture's centre is looked at, at full detail
VIEW_SIDE = 256  # pixels: as what a large picture is looked at as a whole
JPEG_BLOCK = 8  # pixels
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
FLOOR = 0.1  # grey steps: added before a logarithm


@dataclass(frozen=True)
class Statistic:
    """One number of a picture.

    Attributes:
        name: what it is called.
        less, more: what pictures are that have less, or more, of it than others.
        unit: of the number.
        resolution: differences below it mean nothing, in the unit.
    """

    name: str
    less: str
    more: str
    unit: str
    resolution: float


STEPS, LOG, SHARE = "grey steps", "log₂", "share of"
STATISTICS = (
    Statistic("brightness", "darker", "brighter", STEPS, 1),
    Statistic("contrast", "lower in contrast", "higher in contrast", STEPS, 1),
    Statistic("sharpness", "blurrier", "sharper", "how much of an edge lies between two neighbours", 0.005),
    Statistic("noise", "less noisy", "noisier", f"{LOG} of {STEPS}, in the quietest quarter", 0.02),
    Statistic("saturation", "paler", "more colourful", STEPS, 1),
    Statistic("red against green", "greener", "redder", STEPS, 1),
    Statistic("blue against yellow", "yellower", "bluer", STEPS, 1),
    Statistic("pure black", "with less pure black", "with more pure black", f"{SHARE} pixels", 0.001),
    Statistic("pure white", "with less pure white", "with more pure white", f"{SHARE} pixels", 0.001),
    Statistic("line direction", "richer in level lines", "richer in upright lines", f"{LOG} upright / level", 0.02),
    Statistic("top against bottom", "lighter below", "lighter above", STEPS, 1),
    Statistic("middle against edge", "darker in the middle", "lighter in the middle", STEPS, 1),
    Statistic("JPEG blocks", "with fainter JPEG blocks", "with stronger JPEG blocks", f"{LOG} of edges / others", 0.02),
    Statistic("picture size", "smaller", "larger", f"{LOG} of pixels a side", 0.02),
    Statistic("aspect", "taller", "wider", f"{LOG} of width / height", 0.02),
    Statistic("grey pictures", "more often in colour", "more often grey", f"{SHARE} pictures", 0.01),
)


def measure_appearance(pixels: Pixels) -> NDArray[np.float64]:
    """The `STATISTICS` of pictures of one size, `[N, S]`.

    Args:
        pixels: uint8 `[N, H, W, C]` with 1 or 3 channels. Colours and brightness are those of the whole picture, of
            which rows and columns are left out where it is large; sharpness, noise and JPEG blocks those of its centre,
            with every pixel.

    Source: of the noise, the operator of Immerkær, Fast Noise Variance Estimation, 1996, taken where it answers least.
    """
    count, height, width, channels = pixels.shape
    stride = -(-max(height, width) // VIEW_SIDE)
    colour = as_colour(pixels[:, ::stride, ::stride]).astype(np.float32)
    grey = colour @ LUMA
    detail = as_colour(centre(pixels)).astype(np.float32) @ LUMA
    red, green, blue = (colour[..., channel].mean((1, 2)) for channel in range(3))
    range_of_colour = colour.max(3) - colour.min(3)
    half = grey.shape[1] // 2
    across, down = np.abs(np.diff(detail, axis=2)), np.abs(np.diff(detail, axis=1))
    columns = (
        grey.mean((1, 2)),
        grey.std((1, 2)),
        _edge_steepness(detail),
        np.log2(_quiet_noise(detail) + FLOOR),
        range_of_colour.mean((1, 2)),
        red - green,
        blue - (red + green) / 2,
        (grey <= 3).mean((1, 2)),
        (grey >= 252).mean((1, 2)),
        np.log2((_mean(across) + FLOOR) / (_mean(down) + FLOOR)),
        _mean(grey[:, :half]) - _mean(grey[:, grey.shape[1] - half :]),
        _middle_mean(grey) - grey.mean((1, 2)),
        _block_edges(across, down),
        np.full(count, np.log2(height * width) / 2),
        np.full(count, np.log2(width / height)),
        (range_of_colour.max((1, 2)) == 0) | (channels == 1),
    )
    return np.stack(columns, axis=1).astype(np.float64)


def as_colour(pixels: Pixels) -> Pixels:
    """Pictures `[N, H, W, C]` with 3 channels: grey ones by repetition."""
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def centre(pixels: Pixels) -> Pixels:
    """The centre of pictures `[N, H, W, C]`, at most `DETAIL_SIDE` pixels a side, cut where JPEG cuts its blocks."""
    height, width = pixels.shape[1:3]
    top, left = (max(0, side - DETAIL_SIDE) // 2 // JPEG_BLOCK * JPEG_BLOCK for side in (height, width))
    return pixels[:, top : top + DETAIL_SIDE, left : left + DETAIL_SIDE]


def _mean(values: Values) -> Values:
    """The mean of each picture's `[N, H, W]`; 0 where it has no pixels."""
    if values[0].size == 0:
        return np.zeros(len(values), np.float32)
    return np.asarray(values.mean((1, 2)))


def _middle_mean(grey: Values) -> Values:
    height, width = grey.shape[1:]
    return np.asarray(grey[:, height // 4 : height - height // 4, width // 4 : width - width // 4].mean((1, 2)))


def _edge_steepness(grey: Values) -> Values:
    """How much of the steepest tenth of all steps over two pixels lies in one of the two: 1: hard edges, 0.5: ramps.

    It does not depend on the contrast, and little on noise, which is weaker than those edges.
    """
    singles, doubles = [], []
    for rows in (grey, grey.transpose(0, 2, 1)):
        steps = np.diff(rows, axis=2)
        before, after = steps[:, :, :-1], steps[:, :, 1:]
        singles.append(np.maximum(np.abs(before), np.abs(after)).reshape(len(grey), -1))
        doubles.append(np.abs(before + after).reshape(len(grey), -1))
    single, double = np.concatenate(singles, axis=1), np.concatenate(doubles, axis=1)
    if double.shape[1] == 0:
        return np.zeros(len(grey), np.float32)
    first = int(0.9 * double.shape[1])
    steepest = np.argpartition(double, first, axis=1)[:, first:]
    one, two = (np.take_along_axis(values, steepest, axis=1).mean(axis=1) for values in (single, double))
    return np.asarray((one + FLOOR) / (two + FLOOR))


def _quiet_noise(grey: Values) -> Values:
    """Mean answer of Immerkær's operator over the quarter of the places where it is least, in grey steps."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), "edge")
    rows = padded[:, :-2] - 2 * padded[:, 1:-1] + padded[:, 2:]
    answers = np.abs(rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]).reshape(len(grey), -1)
    quarter = -(-answers.shape[1] // 4)
    return np.asarray(np.partition(answers, quarter - 1, axis=1)[:, :quarter].mean(axis=1) / 6)


def _block_edges(across: Values, down: Values) -> Values:
    """Steps over the edges of JPEG's blocks against all steps; 0 where a picture is smaller than two blocks."""
    over_edges = across[:, :, JPEG_BLOCK - 1 :: JPEG_BLOCK], down[:, JPEG_BLOCK - 1 :: JPEG_BLOCK]
    if over_edges[0][0].size == 0 or over_edges[1][0].size == 0:
        return np.zeros(len(across), np.float32)
    edges, others = _mean(over_edges[0]) + _mean(over_edges[1]), _mean(across) + _mean(down)
    return np.asarray(np.log2((edges + 2 * FLOOR) / (others + 2 * FLOOR)))
