"""Small forms of pictures, and which pairs of them are alike enough to be looked at."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyebright.data.images import Pixels
from eyebright.data.prepare import Prepare

SIDE = 32  # of a small form, in pixels
CELL = 4  # pixels of the small form whose colour is averaged
FREQUENCIES = 8  # below which a cosine transform's coefficients describe a picture
LEAST_CONTRAST = 2.0  # standard deviation in grey levels: what has less shows nothing to be recognised by
CANDIDATE = 0.75  # least likeness of a pair that is looked at
NEIGHBOURS = 8  # most pictures that one is compared with for its own sake

_SHRINK = Prepare(channels=3, resize=(SIDE, SIDE))
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Small(NamedTuple):
    """Small forms of N pictures.

    Attributes:
        grey: uint8 `[N, 32, 32]`.
        chroma: blue minus grey and red minus grey, float16 `[N, 8, 8, 2]`.
    """

    grey: Tensor
    chroma: Tensor


class Descriptors(NamedTuple):
    """Low frequencies of N pictures, of length 1 together; zero for a picture with hardly any contrast.

    Mirroring a picture left-right changes the sign of `odd` and nothing else.

    Attributes:
        even: horizontal frequencies 0, 2, …, float32 `[N, E]`.
        odd: horizontal frequencies 1, 3, …, float32 `[N, O]`.
    """

    even: Tensor
    odd: Tensor


class Candidates(NamedTuple):
    """Pairs of pictures to look at.

    Attributes:
        first, second: indices, int64 `[P]`.
        mirrored: whether the mirror image fits better, bool `[P]`.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mirrored: NDArray[np.bool_]


def shrink(picture: Pixels) -> tuple[Tensor, Tensor]:
    """The small form of one picture, uint8 `[H, W, C]` of any size: see `Small`; its aspect is not kept."""
    pixels = torch.from_numpy(_SHRINK.resize_picture(picture)).float()  # [32, 32, 3]
    grey = pixels @ torch.tensor(_LUMA)
    cells = pixels.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL, 3).mean(dim=(1, 3))  # [8, 8, 3]
    luma = cells @ torch.tensor(_LUMA)
    chroma = torch.stack([cells[..., 2] - luma, cells[..., 0] - luma], dim=-1)
    return grey.round().to(torch.uint8), chroma.half()


def describe(grey: Tensor) -> Descriptors:
    """Descriptors of small forms, uint8 `[N, 32, 32]`.

    They are the coefficients of the discrete cosine transform of type II whose frequency is below 8, without the mean,
    times the square root of the frequency: in photographs low frequencies are strong, and tell little apart.
    """
    frequency = torch.arange(FREQUENCIES, dtype=torch.float32)
    place = (torch.arange(SIDE) + 0.5) * (math.pi / SIDE)
    cosines = torch.cos(frequency[:, None] * place) * torch.where(frequency[:, None] == 0, 0.5**0.5, 1.0)
    radius = torch.hypot(frequency[:, None], frequency)
    weight = torch.where(radius < FREQUENCIES, radius.sqrt(), 0.0)  # [vertical, horizontal]; 0 for the mean
    found = [_describe_batch(batch, cosines, weight) for batch in torch.split(grey, 4096)]
    even, odd = weight[:, 0::2].flatten() > 0, weight[:, 1::2].flatten() > 0
    whole = torch.cat(found)  # [N, 8, 8]
    return Descriptors(whole[:, :, 0::2].flatten(1)[:, even], whole[:, :, 1::2].flatten(1)[:, odd])


def _describe_batch(grey: Tensor, cosines: Tensor, weight: Tensor) -> Tensor:
    planes = grey.float()
    coefficients = cosines @ planes @ cosines.T * weight
    length = coefficients.flatten(1).norm(dim=1)
    contrast = (planes - planes.mean(dim=(1, 2), keepdim=True)).square().mean(dim=(1, 2)).sqrt()
    known = contrast >= LEAST_CONTRAST
    return coefficients * torch.where(known & (length > 0), 1 / length, 0.0)[:, None, None]


def find_candidates(descriptors: Descriptors, block: int = 512) -> Candidates:
    """Pairs of different pictures of one set that are among the other's `find_neighbours`: each once, the lower first.

    Args:
        descriptors: of N pictures.
        block: see `find_neighbours`.
    """
    found = find_neighbours(descriptors, descriptors, NEIGHBOURS + 1, block)  # one of them is the picture itself
    low, high = np.minimum(found.first, found.second), np.maximum(found.first, found.second)
    different = np.flatnonzero(low < high)
    _, once = np.unique((low * len(descriptors.even) + high)[different], return_index=True)
    return Candidates(low[different][once], high[different][once], found.mirrored[different][once])


def find_neighbours(
    ones: Descriptors, others: Descriptors, neighbours: int = NEIGHBOURS, block: int = 512
) -> Candidates:
    """For each of N pictures those of M others that are most alike, mirrored or not.

    Likeness is the cosine of the angle between descriptors. Memory grows with N + M, not with their product.

    Args:
        ones: of N pictures.
        others: of M pictures.
        neighbours: most others for each; all of them have a likeness of at least `CANDIDATE`.
        block: pictures that are compared with as many others at a time.

    Returns:
        Pairs in the order of `ones`, of falling likeness.
    """
    found = [Candidates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_))]
    for start in range(0, len(ones.even), block):
        rows = slice(start, start + block)
        blocks = [_alike(ones, others, rows, slice(i, i + block)) for i in range(0, len(others.even), block)]
        if blocks:
            row, column, likeness, mirrored = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
            order = np.lexsort((column, -likeness, row))
            row = row[order]
            kept = np.arange(len(row)) - np.searchsorted(row, row) < neighbours
            found.append(Candidates(row[kept], column[order][kept], mirrored[order][kept]))
    return Candidates(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _alike(
    ones: Descriptors, others: Descriptors, rows: slice, columns: slice
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Of one block: row, column, likeness and whether mirrored, of the pairs that are alike."""
    odd = ones.odd[rows] @ others.odd[columns].T
    likeness = torch.addmm(odd.abs(), ones.even[rows], others.even[columns].T)
    row, column = torch.nonzero(likeness >= CANDIDATE).unbind(dim=1)
    mirrored, values = odd[row, column] < 0, likeness[row, column]
    return (row + rows.start).numpy(), (column + columns.start).numpy(), values.numpy(), mirrored.numpy()
