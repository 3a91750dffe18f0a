"""RandAugment: a few of fourteen changes, drawn for each picture, all of one magnitude; on any device.

Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced Search Space, 2020. The fourteen and
their ranges are the paper's, as libraries have them, with magnitudes from 0 to 30. What comes from outside a picture is
black.

========================================= ==================================== ==================
operation                                 at the magnitude 30                  to either side
========================================= ==================================== ==================
identity, autocontrast, equalize          (the same at every magnitude)
rotate                                    30 degrees                           yes
shear_x, shear_y                          0.3 pixels a pixel                   yes
translate_x, translate_y                  150 / 331 of the side                yes
brightness, color, contrast, sharpness    0.9 more or less                     yes
posterize                                 4 of 8 bits                          no
solarize                                  every value turned over              no
========================================= ==================================== ==================
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from eyebright.data.geometry import move, turn_by
from eyebright.data.prepare import Prepare, to_bytes

MAGNITUDES = 30
_GREY = Prepare(channels=1)


def rand_augment(pixels: Tensor, generator: Generator, operations: int = 2, magnitude: int = 9) -> Tensor:
    """Makes so many changes to each picture, each drawn evenly from `OPERATIONS`.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        generator: a CPU generator.
        operations: changes to each picture, one after the other; the same one may come again.
        magnitude: of every change, 0…30; whether it goes to the one side or the other is drawn.
    """
    for _ in range(operations):
        drawn = torch.randint(len(OPERATIONS), (len(pixels),), generator=generator)
        sides = 2 * torch.randint(2, (len(pixels),), generator=generator) - 1
        changed = torch.empty_like(pixels)
        for number, operation in enumerate(OPERATIONS.values()):
            members = (drawn == number).nonzero()[:, 0]
            if len(members) > 0:
                which = members.to(pixels.device)
                changed[which] = operation(pixels[which], sides[members] * (magnitude / MAGNITUDES))
        pixels = changed
    return pixels


def _identity(pixels: Tensor, level: Tensor) -> Tensor:
    return pixels


def _autocontrast(pixels: Tensor, level: Tensor) -> Tensor:
    """Stretches each channel to 0…255; one of a single value stays."""
    low, high = pixels.amin(dim=(1, 2), keepdim=True).int(), pixels.amax(dim=(1, 2), keepdim=True).int()
    stretched = (pixels.int() - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, stretched.to(torch.uint8), pixels)


def _equalize(pixels: Tensor, level: Tensor) -> Tensor:
    """Makes all values of each channel about equally frequent, as Pillow does it."""
    count, height, width, channels = pixels.shape
    values = pixels.permute(0, 3, 1, 2).reshape(count * channels, height * width).long()
    histogram = torch.zeros(len(values), 256, dtype=torch.int64, device=pixels.device)
    histogram.scatter_add_(1, values, torch.ones_like(values))
    brightest = values.amax(dim=1, keepdim=True)
    step = (height * width - histogram.gather(1, brightest)) // 255
    below = histogram.cumsum(dim=1) - histogram
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    equal = torch.where(step > 0, table.gather(1, values), values)
    return equal.view(count, channels, height, width).permute(0, 2, 3, 1).to(torch.uint8)


def _rotate(pixels: Tensor, level: Tensor) -> Tensor:
    return move(pixels, turn_by(level * math.radians(30)))


def _shear_x(pixels: Tensor, level: Tensor) -> Tensor:
    return move(pixels, _identity_and(level * 0.3, 0, 1))


def _shear_y(pixels: Tensor, level: Tensor) -> Tensor:
    return move(pixels, _identity_and(level * 0.3, 1, 0))


def _translate_x(pixels: Tensor, level: Tensor) -> Tensor:
    return move(pixels, _identity_and(level * pixels.shape[2] * 150 / 331, 0, 2))


def _translate_y(pixels: Tensor, level: Tensor) -> Tensor:
    return move(pixels, _identity_and(level * pixels.shape[1] * 150 / 331, 1, 2))


def _brightness(pixels: Tensor, level: Tensor) -> Tensor:
    return _away_from(torch.zeros((), device=pixels.device), pixels, level)


def _color(pixels: Tensor, level: Tensor) -> Tensor:
    return _away_from(_grey(pixels), pixels, level)


def _contrast(pixels: Tensor, level: Tensor) -> Tensor:
    total = _grey(pixels).long().sum(dim=(1, 2, 3), keepdim=True)  # a sum of whole numbers: the same in every order
    return _away_from((total / (pixels.shape[1] * pixels.shape[2])).round(), pixels, level)


def _sharpness(pixels: Tensor, level: Tensor) -> Tensor:
    """Away from, or towards, the mean of 3×3 pixels with the middle one counted five times; the edge stays."""
    if min(pixels.shape[1:3]) < 3:
        return pixels
    values = pixels.int()
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    nine = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    smooth = pixels.float()
    smooth[:, 1:-1, 1:-1] = ((nine + 4 * values[:, 1:-1, 1:-1]) / 13).round()
    return _away_from(smooth, pixels, level)


def _posterize(pixels: Tensor, level: Tensor) -> Tensor:
    dropped = (level.abs() * 4).round().to(torch.uint8).to(pixels.device)[:, None, None, None]
    return pixels >> dropped << dropped


def _solarize(pixels: Tensor, level: Tensor) -> Tensor:
    threshold = (255 * (1 - level.abs())).to(pixels.device)[:, None, None, None]
    return torch.where(pixels >= threshold, 255 - pixels, pixels)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": _identity,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _color,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
"""The changes by name: functions (pixels uint8 `[n, H, W, C]`, level float32 `[n]` on the CPU, -1…1) → pixels."""


def _identity_and(values: Tensor, row: int, column: int) -> Tensor:
    """The matrices for `move` that leave everything where it is but for one number."""
    matrix = torch.eye(2, 3).repeat(len(values), 1, 1)
    matrix[:, row, column] = values
    return matrix


def _away_from(plain: Tensor, pixels: Tensor, level: Tensor) -> Tensor:
    """Moves pixels away from a plainer picture, or towards it, by 0.9 of their distance at most."""
    factor = (1 + 0.9 * level).to(pixels.device)[:, None, None, None]
    return to_bytes(plain + (pixels.float() - plain) * factor)


def _grey(pixels: Tensor) -> Tensor:
    return _GREY.convert_channels(pixels)
