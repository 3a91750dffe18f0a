"""What augmentation does to the values of pixels: colours and sharpness; of whole batches, on any device.

Every function takes and gives uint8 `[N, H, W, C]`. Random numbers are drawn on the CPU from the generator given.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from eyebright.data.prepare import to_bytes


def color_jitter(
    pixels: Tensor,
    generator: Generator,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Tensor:
    """Changes brightness, contrast (about the picture's mean grey), saturation and hue, in this order.

    Factors are drawn for each picture from 1 - value to 1 + value, the turn of the hue from -hue to hue of a full
    circle (a rotation about the grey axis of the YIQ colour space). Saturation and hue leave grey pictures as they are.
    """
    count, channels = len(pixels), pixels.shape[3]
    draws = (torch.rand(4, count, generator=generator) * 2 - 1).to(pixels.device)
    brighter, stronger, fuller = (
        (1 + draw * value)[:, None, None, None]
        for draw, value in zip(draws, (brightness, contrast, saturation), strict=False)
    )
    values = pixels.float() * brighter
    luma = _luma(values) if channels == 3 else values
    mean_grey = luma.mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64).float()  # the same with any threads
    values = (values - mean_grey) * stronger + mean_grey
    if channels == 3:
        values = _turn_hue(values, draws[3] * hue * 2 * math.pi)
        luma = _luma(values)
        values = (values - luma) * fuller + luma
    return to_bytes(values)


def blur(pixels: Tensor, generator: Generator, sigma: tuple[float, float], probability: float = 1.0) -> Tensor:
    """Blurs pictures with a Gaussian; beyond the edge, its pixels go on.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        generator: a CPU generator.
        sigma: least and largest standard deviation of the Gaussian, in pixels; it reaches three times the largest.
        probability: that a picture is blurred at all.
    """
    chosen, place = torch.rand(2, len(pixels), generator=generator)
    which = (chosen < probability).nonzero()[:, 0]
    if len(which) == 0:
        return pixels
    width = (sigma[0] + place[which] * (sigma[1] - sigma[0]))[:, None]
    reach = math.ceil(3 * sigma[1])
    weights = (torch.arange(-reach, reach + 1) / width).square().div(-2).exp()  # [n, 2 * reach + 1]
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(pixels.device)
    which = which.to(pixels.device)
    planes = pixels[which].permute(0, 3, 1, 2).float().contiguous()  # [n, C, H, W]
    for dim, sides in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        size, padded = planes.shape[dim], functional.pad(planes, sides, mode="replicate")
        planes = torch.zeros_like(planes)
        for shift, weight in enumerate(weights.unbind(1)):
            planes.addcmul_(padded.narrow(dim, shift, size), weight[:, None, None, None])
    blurred = pixels.clone()
    blurred[which] = to_bytes(planes.permute(0, 2, 3, 1))
    return blurred


def _luma(values: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=values.device)
    return (values * weights).sum(dim=3, keepdim=True)


def _turn_hue(values: Tensor, angle: Tensor) -> Tensor:
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    cos, sin = angle.cos().cpu(), angle.sin().cpu()
    turn = torch.zeros(len(angle), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, -sin, sin, cos
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq  # [N, 3, 3]
    return torch.einsum("nij,nhwj->nhwi", matrix.to(values.device), values)
