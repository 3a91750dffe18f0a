"""What pictures are like, in numbers without names: for when no trained network is at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from eyebright.curation.appearance import JPEG_BLOCK, LUMA, as_colour, centre, measure_appearance
from eyebright.data.images import Pictures, Pixels
from eyebright.data.prepare import Prepare
from eyebright.random import generator

Matrix = NDArray[np.float64]

THUMBNAIL = Prepare(channels=3, resize=(32, 32))
FILTERS, FILTER_SIDE = 64, 5
POSITIVE = 0.05  # an answer above it counts as one; the filters have length 1, pixels are 0…1
AT_ONCE, PIXELS_AT_ONCE = 256, 2**21  # pictures, and pixels, that are kept in memory
DECIMALS = 4  # the order in which a batch is added up changes the digits after these


def describe_pictures(
    pictures: Pictures, indices: NDArray[np.int64], on_read: Callable[[], object] | None = None
) -> tuple[Matrix, Matrix, Matrix]:
    """Reads pictures once and describes each; few are in memory at a time.

    Args:
        pictures: of any sizes, grey or in colour.
        indices: which, and in which order.
        on_read: called after each picture that is read.

    Returns:
        The `STATISTICS` of the appearance, `[N, 16]`; frequencies, `[N, 63]`; answers of random filters, `[N, 192]`.

    Raises:
        PictureError: one cannot be read.
    """
    parts: list[tuple[Matrix, Matrix, Matrix]] = []
    order: list[int] = []
    for places, pixels in _batches(pictures, indices, on_read):
        order += places
        thumbnails = THUMBNAIL.resize_batch(torch.from_numpy(pixels)).numpy()
        parts.append((measure_appearance(pixels), measure_frequencies(pixels), answer_filters(thumbnails)))
    back = np.argsort(order)
    appearance, frequencies, answers = (np.concatenate(part).round(DECIMALS)[back] for part in zip(*parts, strict=True))
    return appearance, frequencies, answers


def measure_frequencies(pixels: Pixels) -> Matrix:
    """Mean size of every cosine but the constant one in 8×8 blocks of the centre, as a logarithm, `[N, 63]`."""
    from scipy.fft import dctn

    grey = as_colour(centre(pixels)).astype(np.float32) @ LUMA
    missing = ((0, 0), *((0, -side % JPEG_BLOCK) for side in grey.shape[1:]))
    grey = np.pad(grey, missing, "edge")
    count, height, width = grey.shape
    blocks = grey.reshape(count, height // JPEG_BLOCK, JPEG_BLOCK, width // JPEG_BLOCK, JPEG_BLOCK)
    cosines = np.abs(dctn(blocks, axes=(2, 4), norm="ortho")).mean((1, 3)).reshape(count, -1)[:, 1:]
    return np.asarray(np.log2(cosines + 0.2), np.float64)


def answer_filters(thumbnails: Pixels) -> Matrix:
    """Mean, share and largest of the positive answers of 64 random filters to uint8 `[N, 32, 32, 3]`, `[N, 192]`.

    The filters are always the same. Source: the share, Dempster, Petitjean, Webb, ROCKET, 2020, §3.2.
    """
    weights = torch.randn(FILTERS, 3, FILTER_SIDE, FILTER_SIDE, generator=generator(0, "drift", "filters"))
    weights -= weights.mean((2, 3), keepdim=True)
    weights /= weights.flatten(1).norm(dim=1)[:, None, None, None]
    batch = torch.from_numpy(thumbnails).permute(0, 3, 1, 2).float() / 255
    answers = functional.conv2d(batch, weights)  # [N, 64, 28, 28]
    positive = answers.relu()
    parts = (positive.mean((2, 3)), (answers > POSITIVE).float().mean((2, 3)), positive.amax((2, 3)))
    return torch.cat(parts, dim=1).double().numpy()


def _batches(
    pictures: Pictures, indices: NDArray[np.int64], on_read: Callable[[], object] | None
) -> Iterator[tuple[list[int], Pixels]]:
    """Pictures of one size at a time: their places in `indices` and their pixels `[N, H, W, C]`."""
    kept: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}
    count = size = 0
    for place, index in enumerate(indices.tolist()):
        picture = pictures.read(index)
        if on_read is not None:
            on_read()
        kept.setdefault(picture.shape, []).append((place, picture))
        count, size = count + 1, size + picture.shape[0] * picture.shape[1]
        if count == AT_ONCE or size > PIXELS_AT_ONCE or place == len(indices) - 1:
            for group in kept.values():
                places, pixels = zip(*group, strict=True)
                yield list(places), np.stack(pixels)
            kept, count, size = {}, 0, 0
