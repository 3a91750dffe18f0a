"""From decoded pixels to what a network takes: the one path of training, evaluation, prediction and serving."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional

from eyebright.data.images import Pictures, Pixels
from eyebright.errors import DataError

Side = Annotated[int, Field(ge=1, le=8192)]
Size = Side | tuple[Side, Side]


class Prepare(BaseModel):
    """Resize → crop → scale → normalise, always the same for the same pixels.

    It is saved with the weights, so a classifier can never be served with another preprocessing than it was trained
    with.

    Attributes:
        channels: 1 (grey) or 3 (colour); grey pictures become colour by repetition, colour ones grey by their luma
            (ITU-R BT.601).
        resize: ``[height, width]`` in pixels: exactly that size; one number: the shorter side, the aspect kept; absent:
            not resized.
        interpolation: ``"bilinear"`` or ``"bicubic"``, of resizing; both antialiased.
        crop: side, or ``[height, width]``, of the piece cut from the centre (in training the recipe's augmentation may
            stand here instead); where the picture is smaller, black is added all round. Absent: nothing is cut.
        mean, std: a number for each channel, of pixels scaled to 0…1: ``(pixel / 255 - mean) / std``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    channels: Literal[1, 3] = 3
    resize: Size | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop: Size | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> Prepare:
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(f"{name} needs 1 number or {self.channels}, not {len(getattr(self, name))}")
        return self

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of prepared pictures, in pixels; None where it depends on the picture."""
        if self.crop is not None:
            return _as_pair(self.crop)
        return self.resize if isinstance(self.resize, tuple) else None

    @property
    def at_least(self) -> tuple[int, int] | None:
        """The detail (height, width), in pixels, that a decoder has to keep; None: all of it."""
        return None if self.resize is None else _as_pair(self.resize)

    def resize_picture(self, picture: Pixels) -> Pixels:
        """The first half: channels and size of one picture, uint8 `[H, W, C]` → uint8 `[H', W', channels]`."""
        own = picture if picture.flags.writeable and picture.flags.c_contiguous else picture.copy(order="C")
        resized: Pixels = self.resize_batch(torch.from_numpy(own)[None])[0].numpy()  # torch takes no other views
        return resized.copy() if np.may_share_memory(resized, picture) else resized

    def compact_picture(self, picture: Pixels) -> Pixels:
        """What is worth keeping of one picture, uint8 `[H, W, channels]`: resized, or as it is where that is smaller.

        `resize_picture` gives the same for it as for the whole picture.
        """
        height, width = self.resized_size(*picture.shape[:2])
        if picture.shape[0] * picture.shape[1] > height * width:
            return self.resize_picture(picture)
        compact: Pixels = self.convert_channels(torch.from_numpy(picture.copy(order="C"))).numpy()
        return compact

    def resize_batch(self, pixels: Tensor) -> Tensor:
        """The first half for pictures of one size, uint8 `[N, H, W, C]` on the CPU; equal to one at a time, bitwise."""
        pixels = self.convert_channels(pixels)
        size = self.resized_size(pixels.shape[1], pixels.shape[2])
        if size == pixels.shape[1:3]:
            return pixels
        planes = pixels.permute(0, 3, 1, 2)  # [N, C, H, W], channels last in memory
        resized = functional.interpolate(planes, size=size, mode=self.interpolation, antialias=True)
        return resized.permute(0, 2, 3, 1).contiguous()

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """The size after `resize` and before `crop` of a picture of this height and width, in pixels."""
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        shorter = min(height, width)
        return height * self.resize // shorter, width * self.resize // shorter

    def crop_batch(self, pixels: Tensor) -> Tensor:
        """Cuts the centre out of pictures, uint8 `[N, H, W, C]` → `[N, h, w, C]`."""
        if self.crop is None:
            return pixels
        height, width = _as_pair(self.crop)
        pixels = pad_to(pixels, height, width)
        top, left = middle(pixels.shape[1] - height), middle(pixels.shape[2] - width)
        return pixels[:, top : top + height, left : left + width]

    def normalise(self, pixels: Tensor) -> Tensor:
        """The second half, on any device: uint8 `[N, H, W, C]` → float32 `[N, C, H, W]`, channels last in memory."""
        scale = torch.tensor([1 / (255 * s) for s in self._per_channel(self.std)], device=pixels.device)
        shift = torch.tensor(
            [-m / s for m, s in zip(self._per_channel(self.mean), self._per_channel(self.std), strict=True)],
            device=pixels.device,
        )
        values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        rows = values.view(-1, values.shape[2] * values.shape[3])  # three at a time take three times as long
        torch.addcmul(shift.repeat(values.shape[2]), rows, scale.repeat(values.shape[2]), out=rows)
        return values.permute(0, 3, 1, 2)

    def unnormalise(self, batch: Tensor) -> Tensor:
        """The inverse of `normalise`: float `[N, C, H, W]` → the uint8 `[N, H, W, C]` that it came from, exactly."""
        mean = torch.tensor(self._per_channel(self.mean), device=batch.device)
        std = torch.tensor(self._per_channel(self.std), device=batch.device)
        unit = batch.permute(0, 2, 3, 1).float() * std + mean
        return to_bytes(unit * 255)

    def __call__(self, picture: Pixels) -> Tensor:
        """One decoded picture, uint8 `[H, W, C]` → float32 `[1, C, h, w]`."""
        return self.normalise(self.pixels(picture)[None])

    def pixels(self, picture: Pixels) -> Tensor:
        """One decoded picture, uint8 `[H, W, C]`, as the network sees it but for normalisation: uint8 `[h, w, C]`."""
        return self.crop_batch(torch.from_numpy(self.resize_picture(picture))[None])[0]

    def _per_channel(self, values: tuple[float, ...]) -> list[float]:
        return list(values) * (self.channels if len(values) == 1 else 1)

    def convert_channels(self, pixels: Tensor) -> Tensor:
        """Grey to colour or colour to grey, uint8 `[…, C]` → uint8 `[…, channels]`."""
        if pixels.shape[-1] == self.channels:
            return pixels
        if self.channels == 3:
            return pixels.expand(*pixels.shape[:-1], 3).contiguous()
        red, green, blue = pixels.to(torch.int32).unbind(-1)
        luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16  # 0.299, 0.587, 0.114 in 1/65536
        return luma.to(torch.uint8)[..., None]


def middle(room: int) -> int:
    """Where a crop in the middle begins, with so many pixels to spare; a half goes to the even side, as in libraries.

    >>> [middle(room) for room in (32, 43, 41)]
    [16, 22, 20]
    """
    return round(room / 2)


def to_bytes(values: Tensor) -> Tensor:
    """Rounds values of 0…255 to uint8; what lies beyond becomes 0 or 255."""
    return values.round().clamp(0, 255).to(torch.uint8)


def pad_to(pixels: Tensor, height: int, width: int) -> Tensor:
    """Adds black all round so that pictures, uint8 `[N, H, W, C]`, are at least this size; larger ones stay."""
    missing_height, missing_width = max(0, height - pixels.shape[1]), max(0, width - pixels.shape[2])
    if not missing_height and not missing_width:
        return pixels
    top, left = missing_height // 2, missing_width // 2
    return functional.pad(pixels, (0, 0, left, missing_width - left, top, missing_height - top))


def channel_statistics(pictures: Pictures, prepare: Prepare) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels of all pictures, of values scaled to 0…1.

    These are the numbers that stand in tutorials as "CIFAR-10's mean and std": computed here from the pictures
    themselves, after resizing and before cropping.

    Raises:
        DataError: a channel is constant, so it cannot be scaled to a standard deviation of 1.
    """
    counts = np.zeros((prepare.channels, 256), dtype=np.int64)
    for index in range(len(pictures)):
        pixels = prepare.resize_picture(pictures.read(index, prepare.at_least))
        for channel in range(prepare.channels):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = (counts @ values) / total
    std = np.sqrt(np.maximum((counts @ values**2) / total - mean**2, 0))
    if not (std > 0).all():
        raise DataError(
            "every picture has the same value everywhere in one of its channels",
            expected="pictures that differ, so that their standard deviation is above 0",
            remedy="look at the pictures with `eyebright data`, or give `mean` and `std` in the recipe",
        )
    return tuple(mean.round(6).tolist()), tuple(std.round(6).tolist())


def _as_pair(size: Size) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)
