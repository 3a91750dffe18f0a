"""A recipe's [augment]: what training adds to pictures, and in which order.

The functions themselves stand in geometry.py, colour.py, randaugment.py, covering.py and mixing.py: each takes a whole
batch of uint8 `[N, H, W, C]` and draws its random numbers on the CPU from the generator it is given, so a batch is
augmented in the same way on every device.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from eyebright.data.colour import blur, color_jitter
from eyebright.data.covering import cutout, erase
from eyebright.data.geometry import (
    PaddingMode,
    alternating_flip,
    horizontal_flip,
    perspective,
    random_crop,
    random_resized_crop,
    rotate,
)
from eyebright.data.mixing import Mixture, cutmix, mixup
from eyebright.data.prepare import Prepare
from eyebright.data.randaugment import MAGNITUDES, rand_augment


def _ascending(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"the least first: [{values[1]:g}, {values[0]:g}]")
    return values


Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]

# keys that mean something only together with another one
_BELONGS_TO = {
    "padding": "random_crop",
    "padding_mode": "padding",
    "perspective_probability": "perspective",
    "blur_probability": "blur",
    "erasing_area": "erasing",
    "erasing_aspect": "erasing",
    "erasing_fill": "erasing",
}
_EXCLUDE_EACH_OTHER = (("random_crop", "random_resized_crop"), ("horizontal_flip", "alternating_flip"))


class Augment(BaseModel):
    """A recipe's ``[augment]``: which changes are made to training pictures, in this order.

    Attributes:
        random_crop: cut Prepare's `crop` out of a random place rather than out of the centre.
        padding: pixels added on every side before that cut (He et al. 2015 §4.2 take 4 for CIFAR-10).
        padding_mode: ``"black"``, or ``"reflect"``: the picture goes on as in a mirror.
        random_resized_crop: instead, cut out a piece of random shape whose area is such a share of the picture's,
            ``[0.08, 1.0]`` in the paper, and bring it to Prepare's size (Szegedy et al. 2015 §6).
        horizontal_flip: probability that a picture is mirrored left to right. Not for sets where that changes the
            meaning, such as digits.
        alternating_flip: instead, mirror each picture in every second epoch (Jordan 2024).
        rotation: largest angle, in degrees, to either side.
        perspective: farthest that each corner is drawn inwards, as a share of half the side.
        perspective_probability: that a picture is so changed.
        brightness, contrast, saturation: each factor is drawn from 1 - value to 1 + value.
        hue: largest turn of the colour circle to either side, as a fraction of a full turn.
        blur: least and largest standard deviation, in pixels, of a Gaussian.
        blur_probability: that a picture is blurred.
        rand_augment: ``[operations, magnitude]``: so many of fourteen changes to each picture, of a magnitude from 0 to
            30 (Cubuk et al. 2020 take ``[2, 9]`` for a ResNet-50 on ImageNet).
        cutout: side, in pixels, of a square of the mean colour at a random place (DeVries and Taylor 2017).
        erasing: probability that a rectangle is covered (Zhong et al. 2020).
        erasing_area: least and largest share of the picture's area.
        erasing_aspect: least and largest width for a height of 1.
        erasing_fill: ``"noise"``: random bytes; ``"mean"``: the mean colour.
        mixup: alpha of mixup (Zhang et al. 2018): pictures, and their labels, are blended in pairs; 0: they are not.
        cutmix: alpha of CutMix (Yun et al. 2019): a rectangle comes from another picture; 0: it does not. Where both
            are set, each batch has the one or the other, half of them each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    random_crop: bool = False
    padding: Annotated[int, Field(ge=0)] = 0
    padding_mode: PaddingMode = "black"
    random_resized_crop: Shares | None = None
    horizontal_flip: Probability = 0.0
    alternating_flip: bool = False
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    perspective: Annotated[float, Field(ge=0, le=0.6)] = 0.0
    perspective_probability: Probability = 0.5
    brightness: Probability = 0.0
    contrast: Probability = 0.0
    saturation: Probability = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    blur: Range | None = None
    blur_probability: Probability = 0.5
    rand_augment: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0, le=MAGNITUDES)]] | None = None
    cutout: Annotated[int, Field(ge=0)] = 0
    erasing: Probability = 0.0
    erasing_area: Shares = (0.02, 0.33)
    erasing_aspect: Range = (0.3, 3.3)
    erasing_fill: Literal["noise", "mean"] = "noise"
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _fits_together(self) -> Augment:
        for key, other in _BELONGS_TO.items():
            if getattr(self, key) != type(self).model_fields[key].default and not getattr(self, other):
                raise ValueError(f"{key} means nothing without {other}: leave it out, or set {other}")
        for key, other in _EXCLUDE_EACH_OTHER:
            if getattr(self, key) and getattr(self, other):
                raise ValueError(f"{key} and {other} exclude each other: leave one of them out")
        return self

    @property
    def crops(self) -> bool:
        """Whether a random crop stands in the place of the centre crop."""
        return self.random_crop or self.random_resized_crop is not None

    def crop_batch(self, pixels: Tensor | list[Tensor], generator: Generator, prepare: Prepare) -> Tensor:
        """The step that stands in the place of the centre crop: pictures of any sizes → one batch of one size.

        Args:
            pixels: uint8 `[N, H, W, C]`, or a list of N pictures `[H, W, C]` of different sizes.
            generator: where the crops' places come from.
            prepare: says the size, and is the centre crop where there is no random one.
        """
        size = prepare.output_size
        if size is not None and self.random_crop:
            return random_crop(pixels, generator, size, self.padding, self.padding_mode)
        if size is not None and self.random_resized_crop is not None:
            return random_resized_crop(pixels, generator, size, self.random_resized_crop, prepare.interpolation)
        return prepare.crop_batch(pixels if isinstance(pixels, Tensor) else torch.stack(pixels))

    def change_batch(
        self,
        pixels: Tensor,
        generator: Generator,
        prepare: Prepare,
        *,
        seed: int,
        epoch: int,
        indices: NDArray[np.int64],
    ) -> Tensor:
        """Everything after the crop that leaves labels alone, on pictures of one size.

        Args:
            pixels: uint8 `[N, H, W, C]`.
            generator: where the random numbers come from.
            prepare: says the mean colour.
            seed: of `alternating_flip`'s hash.
            epoch: counted from 0.
            indices: int64 `[N]`: which pictures these are.
        """
        if self.horizontal_flip:
            pixels = horizontal_flip(pixels, generator, self.horizontal_flip)
        if self.alternating_flip:
            pixels = alternating_flip(pixels, seed, epoch, indices)
        if self.rotation:
            pixels = rotate(pixels, generator, self.rotation)
        if self.perspective:
            pixels = perspective(pixels, generator, self.perspective, self.perspective_probability)
        if self.brightness or self.contrast or self.saturation or self.hue:
            pixels = color_jitter(pixels, generator, self.brightness, self.contrast, self.saturation, self.hue)
        if self.blur is not None:
            pixels = blur(pixels, generator, self.blur, self.blur_probability)
        if self.rand_augment is not None:
            pixels = rand_augment(pixels, generator, *self.rand_augment)
        if self.cutout:
            pixels = cutout(pixels, generator, self.cutout, prepare.mean)
        if self.erasing:
            color = prepare.mean if self.erasing_fill == "mean" else None
            pixels = erase(pixels, generator, self.erasing, self.erasing_area, self.erasing_aspect, color)
        return pixels

    def mix_batch(self, pixels: Tensor, generator: Generator) -> Mixture | None:
        """The last step: mixes the pictures of a batch with each other; None where the recipe has no mixing."""
        if self.mixup and (not self.cutmix or torch.rand((), generator=generator) < 0.5):
            return mixup(pixels, generator, self.mixup)
        return cutmix(pixels, generator, self.cutmix) if self.cutmix else None
