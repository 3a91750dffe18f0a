"""What training adds to pictures: functions (batch, generator) → batch, on whole batches, on any device.

Every function draws its random numbers on the CPU from the generator it is given, so a batch is augmented in the same
way on every device. Pictures are uint8 `[N, H, W, C]` before and after.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor
from torch.nn import functional

from eyebright.data.prepare import Prepare, pad_to

Probability = Annotated[float, Field(ge=0, le=1)]


class Augment(BaseModel):
    """A recipe's ``[augment]``: which changes are made to training pictures, in this order.

    Attributes:
        random_crop: cut Prepare's `crop` out of a random place rather than out of the centre.
        padding: pixels of black added on every side before that cut (He et al. 2015 §4.2 take 4 for CIFAR-10).
        horizontal_flip: probability that a picture is mirrored left to right. Not for sets where that changes the
            meaning, such as digits.
        rotation: largest angle, in degrees, to either side.
        brightness, contrast, saturation: each factor is drawn from 1 - value to 1 + value.
        hue: largest turn of the colour circle to either side, as a fraction of a full turn.
        cutout: side, in pixels, of a square of the mean colour at a random place (DeVries and Taylor 2017).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    random_crop: bool = False
    padding: Annotated[int, Field(ge=0)] = 0
    horizontal_flip: Probability = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    brightness: Probability = 0.0
    contrast: Probability = 0.0
    saturation: Probability = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    cutout: Annotated[int, Field(ge=0)] = 0

    def crop_batch(self, pixels: Tensor | list[Tensor], generator: Generator, prepare: Prepare) -> Tensor:
        """The step that stands in the place of the centre crop: pictures of any sizes → one batch of one size.

        Args:
            pixels: uint8 `[N, H, W, C]`, or a list of N pictures `[H, W, C]` of different sizes.
            generator: where the crops' places come from.
            prepare: says the size, and is the centre crop where `random_crop` is off.
        """
        if not self.random_crop or prepare.output_size is None:
            return prepare.crop_batch(pixels if isinstance(pixels, Tensor) else torch.stack(pixels))
        size = prepare.output_size
        if isinstance(pixels, Tensor):
            return random_crop(pixels, generator, size, self.padding)
        places = torch.rand(len(pixels), 2, generator=generator)
        return torch.cat(
            [_crop_at(picture[None], places[i : i + 1], size, self.padding) for i, picture in enumerate(pixels)]
        )

    def change_batch(self, pixels: Tensor, generator: Generator, prepare: Prepare) -> Tensor:
        """Everything after the crop, on pictures of one size."""
        if self.horizontal_flip:
            pixels = horizontal_flip(pixels, generator, self.horizontal_flip)
        if self.rotation:
            pixels = rotate(pixels, generator, self.rotation)
        if self.brightness or self.contrast or self.saturation or self.hue:
            pixels = color_jitter(pixels, generator, self.brightness, self.contrast, self.saturation, self.hue)
        if self.cutout:
            pixels = cutout(pixels, generator, self.cutout, prepare.mean)
        return pixels


def random_crop(pixels: Tensor, generator: Generator, size: tuple[int, int], padding: int = 0) -> Tensor:
    """Cuts a piece of `size` (height, width) out of a random place of each picture.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        generator: a CPU generator.
        size: height and width of the piece, in pixels; where a picture is smaller, black is added all round first.
        padding: pixels of black added on every side before.
    """
    return _crop_at(pixels, torch.rand(len(pixels), 2, generator=generator), size, padding)


def horizontal_flip(pixels: Tensor, generator: Generator, probability: float = 0.5) -> Tensor:
    """Mirrors each picture left to right with this probability."""
    mirrored = torch.rand(len(pixels), generator=generator) < probability
    mirrored = mirrored.to(pixels.device)[:, None, None, None]
    return torch.where(mirrored, pixels.flip(2), pixels)


def rotate(pixels: Tensor, generator: Generator, degrees: float) -> Tensor:
    """Turns each picture about its centre by an angle drawn from -degrees…degrees; what was outside is black."""
    count, height, width, _ = pixels.shape
    angle = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(count)
    # affine_grid counts both axes from -1 to 1, so a turn of a picture that is not square needs the aspect
    rows = [cos, -sin * height / width, zero, sin * width / height, cos, zero]
    matrix = torch.stack(rows, dim=1).view(count, 2, 3).to(pixels.device)
    planes = pixels.permute(0, 3, 1, 2).float()  # [N, C, H, W]
    grid = functional.affine_grid(matrix, list(planes.shape), align_corners=False)
    turned = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return _to_bytes(turned.permute(0, 2, 3, 1))


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
    mean_grey = luma.mean(dim=(1, 2, 3), keepdim=True)
    values = (values - mean_grey) * stronger + mean_grey
    if channels == 3:
        values = _turn_hue(values, draws[3] * hue * 2 * math.pi)
        luma = _luma(values)
        values = (values - luma) * fuller + luma
    return _to_bytes(values)


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
    centre = torch.rand(count, 2, generator=generator).to(pixels.device)
    top = (centre[:, 0] * height).floor() - side // 2
    left = (centre[:, 1] * width).floor() - side // 2
    rows = torch.arange(height, device=pixels.device) - top[:, None]  # [N, H]
    columns = torch.arange(width, device=pixels.device) - left[:, None]  # [N, W]
    covered = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    fill = _to_bytes(255 * torch.tensor(color, device=pixels.device))
    return torch.where(covered[..., None], fill, pixels)


def _crop_at(pixels: Tensor, places: Tensor, size: tuple[int, int], padding: int) -> Tensor:
    height, width = size
    if padding:
        pixels = functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    pixels = pad_to(pixels, height, width)
    room = torch.tensor([pixels.shape[1] - height + 1, pixels.shape[2] - width + 1])
    top, left = (places * room).long().to(pixels.device).unbind(1)
    windows = pixels.unfold(1, height, 1).unfold(2, width, 1)  # a view: [N, places, places, C, h, w]
    chosen = windows[torch.arange(len(pixels), device=pixels.device), top, left]  # [N, C, h, w]
    return chosen.permute(0, 2, 3, 1)


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


def _to_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
