"""Augmentation that mixes pictures, and so their labels; of whole batches, on any device.

Every function takes uint8 `[N, H, W, C]` and gives a `Mixture`. Random numbers are drawn on the CPU from the generator
given. As in both papers' own code, one share is drawn for a whole batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from eyebright.data.prepare import to_bytes


@dataclass(frozen=True)
class Mixture:
    """Pictures mixed with others of their batch.

    Attributes:
        pixels: uint8 `[N, H, W, C]`.
        partners: int64 `[N]` on the CPU: which picture of the batch each was mixed with.
        share: how much of each is its own, 0…1; the rest is its partner's. So it is with the labels.
    """

    pixels: Tensor
    partners: Tensor
    share: float


def mixup(pixels: Tensor, generator: Generator, alpha: float) -> Mixture:
    """Lays each picture over another one of the batch, both of them translucent.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        generator: a CPU generator.
        alpha: of the distribution Beta(alpha, alpha) of the share: with 1 all are equally frequent; with less, most lie
            close to 0 or 1; with more, close to a half.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018.
    """
    share, partners = _draw_share(generator, alpha), _draw_partners(len(pixels), generator)
    mixed = pixels * share + pixels[partners.to(pixels.device)] * (1 - share)
    return Mixture(to_bytes(mixed), partners, share)


def cutmix(pixels: Tensor, generator: Generator, alpha: float) -> Mixture:
    """Puts a rectangle of another picture of the batch into each picture, at the place that it had there.

    The rectangle has the shape of the pictures, and one place for the whole batch; part of it may lie outside. The
    share of what is left is then counted out exactly.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        generator: a CPU generator.
        alpha: of the distribution Beta(alpha, alpha) of the share that is left, as in `mixup`.

    Source: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, 2019.
    """
    side = math.sqrt(1 - _draw_share(generator, alpha))
    partners = _draw_partners(len(pixels), generator)
    top, bottom, left, right = (
        min(max(0, round((centre + sign * side / 2) * length)), length)
        for centre, length in zip(torch.rand(2, generator=generator).tolist(), pixels.shape[1:3], strict=True)
        for sign in (-1, 1)
    )
    mixed = pixels.clone()
    mixed[:, top:bottom, left:right] = pixels[partners.to(pixels.device), top:bottom, left:right]
    covered = (bottom - top) * (right - left) / (pixels.shape[1] * pixels.shape[2])
    return Mixture(mixed, partners, 1 - covered)


def _draw_share(generator: Generator, alpha: float) -> float:
    """A number from Beta(alpha, alpha): the inverse of its distribution function, at an even one."""
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, torch.rand((), generator=generator, dtype=torch.float64).item()))


def _draw_partners(count: int, generator: Generator) -> Tensor:
    return torch.randperm(count, generator=generator)
