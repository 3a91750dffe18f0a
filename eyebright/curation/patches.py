"""Pictures as numbers without any trained network: how well small patches of them fit patches drawn at random.

Patches are made equally bright and strong and freed of their correlations; some of them, drawn at random, become the
filters. Each filter's answers, positive and negative ones apart, are averaged over the four quarters of a picture, and
over the picture and its mirror image. A linear classifier on these numbers comes close to a small network that was
trained, in a fraction of its time, and the numbers cannot have learnt a wrong label.

Source:
    Coates, Ng, Lee: An Analysis of Single-Layer Networks in Unsupervised Feature Learning, AISTATS 2011; Coates, Ng:
    Learning Feature Representations with K-means, 2012, §3 (whitening) and §5 (random patches, soft threshold).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from eyebright.data.ahead import ahead
from eyebright.data.images import Pictures
from eyebright.data.prepare import Prepare
from eyebright.random import generator

SIDE = 48  # pixels to which pictures are made
PATCH = 6  # pixels: side of a patch
STRIDE = 2  # pixels between patches of one picture
FILTERS = 800
THRESHOLD = 0.25  # below which a filter's answer counts as none
SAMPLE = 20_000  # patches that whitening and filters are learnt from
CONTRAST = 10.0  # added to the variance of a patch, of values 0…255: an even patch is not blown up
EVENNESS = 0.1  # added to the variance of each direction before whitening
BATCH = 32
PREPARE = Prepare(resize=(SIDE, SIDE))

Matrix = NDArray[np.float32]


class Filters(NamedTuple):
    """What makes patches into answers.

    Attributes:
        mean: float32 `[D]`, of patches made equally bright and strong; D = 3 · 6 · 6.
        weight: float32 `[D, filters]`, whitening included.
    """

    mean: Tensor
    weight: Tensor


def patch_features(
    pictures: Pictures, *, filters: int = FILTERS, seed: int = 0, on_read: Callable[[], object] | None = None
) -> Matrix:
    """Numbers that tell pictures apart, float32 `[N, 8 · filters]`; the same pictures and seed give the same.

    Args:
        pictures: in memory or on disk.
        filters: patches that pictures are compared with.
        seed: of the patches' choice.
        on_read: called once for each picture, for a progress bar.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    count = len(pictures)

    def read(start: int) -> Tensor:
        some = range(start, min(start + BATCH, count))
        return torch.stack([torch.from_numpy(PREPARE.resize_picture(pictures.read(i, PREPARE.at_least))) for i in some])

    small = torch.empty(count, SIDE, SIDE, 3, dtype=torch.uint8)
    done = 0
    for some in ahead(read, range(0, count, BATCH), 2):
        small[done : done + len(some)] = some
        done += len(some)
        for _ in range(len(some) if on_read is not None else 0):
            on_read()  # type: ignore[misc]
    chosen = learn_filters(small, filters, generator(seed, "patches"))
    answers = torch.empty(count, 8 * filters)
    for start in range(0, count, BATCH):
        batch = small[start : start + BATCH]
        answers[start : start + BATCH] = (answer(batch, chosen) + answer(batch.flip(2), chosen)) / 2
    return answers.numpy()


def learn_filters(pixels: Tensor, filters: int, random: Generator) -> Filters:
    """Draws patches of pictures, uint8 `[N, H, W, 3]`, and makes filters of some of them."""
    picture = torch.randint(len(pixels), (SAMPLE,), generator=random)
    top, left = torch.randint(SIDE - PATCH + 1, (2, SAMPLE), generator=random)
    step = torch.arange(PATCH)
    rows, columns = (top[:, None] + step)[:, :, None], (left[:, None] + step)[:, None, :]
    patches = _even_out(pixels[picture[:, None, None], rows, columns].permute(0, 3, 1, 2).flatten(1).float())
    mean = patches.mean(0)
    values, directions = torch.linalg.eigh((patches - mean).T.double() @ (patches - mean).double() / SAMPLE)
    whitening = (directions * (values + EVENNESS).rsqrt() @ directions.T).float()
    white = (patches - mean) @ whitening
    drawn = white[torch.randperm(SAMPLE, generator=random)[:filters]]
    return Filters(mean, whitening @ F.normalize(drawn, dim=1).T)


def answer(pixels: Tensor, filters: Filters) -> Tensor:
    """The filters' answers, uint8 `[N, 48, 48, 3]` → float32 `[N, 8 · filters]`."""
    windows = pixels.float().unfold(1, PATCH, STRIDE).unfold(2, PATCH, STRIDE)  # [N, rows, columns, 3, 6, 6]
    patches = windows.flatten(3).flatten(1, 2)  # [N, places, D]
    answers = (_even_out(patches) - filters.mean) @ filters.weight  # [N, places, filters]
    quarters = _quarters((SIDE - PATCH) // STRIDE + 1)
    both = [quarters @ F.relu(sign * answers - THRESHOLD) for sign in (1, -1)]  # [N, 4, filters] each
    return torch.cat(both, dim=2).flatten(1)


def _quarters(side: int) -> Tensor:
    """Means over the quarters of a map of side² places, `[4, side²]`."""
    halves = torch.zeros(2, side)
    halves[0, : side // 2], halves[1, side // 2 :] = 1 / (side // 2), 1 / (side - side // 2)
    return torch.einsum("ai,bj->abij", halves, halves).reshape(4, side * side)


def _even_out(patches: Tensor) -> Tensor:
    """Takes brightness and contrast away: `[…, D]`."""
    centred = patches - patches.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + CONTRAST).sqrt()
