"""Convolutions with a stride as convolutions without one: squares of pixels become channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def fold_pixels(x: Tensor, stride: int, padding: int, sides: Sequence[int], number_format: torch.dtype) -> Tensor:
    """Squares of `stride` × `stride` pixels side by side in one place, with zeros around: `[N, stride² C, *sides]`.

    Args:
        x: maps `[N, C, H, W]`, the channels of a pixel side by side in memory, as in what is returned; stride² C is to
            be a multiple of eight.
        stride: the side of a square.
        padding: zeros above and to the left; below and to the right there are as many as the sides ask for, or pixels
            are left out.
        sides: how many squares one below the other, and side by side.
        number_format: of what is returned.
    """
    images, channels, height, width = x.shape
    high, wide = (stride * side for side in sides)
    rows, columns = min(height, high - padding), min(width, wide - padding)
    around = torch.empty((images, high, wide, channels), dtype=number_format, device=x.device)
    for part in (
        around[:, :padding], around[:, padding + rows :], around[:, :, :padding], around[:, :, padding + columns :]
    ):  # fmt: skip
        part.zero_()
    inside = around[:, padding : padding + rows, padding : padding + columns]
    inside.copy_(x[..., :rows, :columns].permute(0, 2, 3, 1))
    lines = around.view(images, sides[0], stride, sides[1], stride * channels)
    lines = lines.view(torch.int64).transpose(2, 3).contiguous().view(number_format)  # copied eight bytes at a time
    return lines.view(images, *sides, stride**2 * channels).permute(0, 3, 1, 2)


def fold_weights(weight: Tensor, stride: int) -> Tensor:
    """Weights `[K, C, taps, taps]` for folded pixels: `[K, stride² C, side, side]`, those that lack being zero."""
    maps, channels, taps, _ = weight.shape
    side = -(-taps // stride)
    wide = F.pad(weight, (0, side * stride - taps) * 2).view(maps, channels, side, stride, side, stride)
    folded = wide.permute(0, 3, 5, 1, 2, 4).reshape(maps, stride**2 * channels, side, side)
    return folded.contiguous(memory_format=torch.channels_last)
