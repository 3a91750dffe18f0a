"""Augmentation that covers a piece of each picture; of whole batches, on any device.

Every function takes and gives uint8 `[N, H, W, C]`. Random numbers are drawn on the CPU from the generator given.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from eyebright.data.geometry import draw_pieces
from eyebright.data.prepare import to_bytes


def cutout(pixels: Tensor, generator: Generator, side: int, color: tuple[float, ...] = (0.5,)) -> Tensor:
    """Covers a square at a random place of each picture; its centre is anywhere, so part of it may lie outside.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        generator: a CPU generator.
        side: of the square, in pixels.
        color: of the square, 0…1, one number or one for each channel.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.
    """
    count, height, width, _ = pixels.shape
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([height, width])
    corner = centre.floor().long() - side // 2
    pieces = torch.cat([corner, torch.full_like(corner, side)], dim=1)
    return _paint(pixels, _within(pieces.to(pixels.device), height, width), color)


def erase(
    pixels: Tensor,
    generator: Generator,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.33),
    aspect: tuple[float, float] = (0.3, 3.3),
    color: tuple[float, ...] | None = None,
) -> Tensor:
    """Covers a rectangle at a random place within a picture.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        generator: a CPU generator.
        probability: that a picture is covered at all.
        area: least and largest share of the picture's area.
        aspect: least and largest width for a height of 1.
        color: of the rectangle, 0…1, one number or one for each channel; None: a random byte for each of its values.

    Source: Zhong et al., Random Erasing Data Augmentation, 2020, algorithm 1; the aspect is drawn evenly in the
    logarithm, so that flat and tall pieces are equally frequent.
    """
    count, height, width, channels = pixels.shape
    erased = torch.rand(count, generator=generator) < probability
    pieces = draw_pieces(torch.tensor([[height, width]]).expand(count, 2), generator, area, aspect)
    pieces = pieces * erased[:, None]  # a piece of no size covers nothing
    covered = _within(pieces.to(pixels.device), height, width)
    if color is not None:
        return _paint(pixels, covered, color)
    count = int(pieces[:, 2:].prod(dim=1).sum())
    noise = torch.randint(256, (count * channels,), generator=generator, dtype=torch.uint8)
    return pixels.masked_scatter(covered[..., None], noise.to(pixels.device))


def _within(pieces: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie within the pieces `[N, 4]` (top, left, height, width): bool `[N, H, W]`."""
    top, left, tall, wide = pieces[:, :, None].unbind(1)
    rows = torch.arange(height, device=pieces.device) - top  # [N, H]
    columns = torch.arange(width, device=pieces.device) - left  # [N, W]
    return ((rows >= 0) & (rows < tall))[:, :, None] & ((columns >= 0) & (columns < wide))[:, None, :]


def _paint(pixels: Tensor, covered: Tensor, color: tuple[float, ...]) -> Tensor:
    fill = to_bytes(255 * torch.tensor(color, device=pixels.device))
    return torch.where(covered[..., None], fill, pixels)
