"""Pictures whose pixels are known without a decoder, and how they change: the truths of the zoo."""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image


class Animal(NamedTuple):
    """A picture that is read: its bytes, its file's ending, its pixels, and how far from them it may be."""

    make: Callable[[], bytes]
    pixels: np.ndarray  # uint8 [H, W, C]
    within: int = 0
    ending: str = ".png"


Y, X = np.mgrid[:20, :30]
SIZE = (30, 20)
RGB = np.stack([X * 8, Y * 12, 255 - X * 4 - Y * 5], 2).astype(np.uint8)
GREY = RGB[..., :1]
WIDE = (X * 2000 + Y * 300).astype(np.uint16)  # 16 bits
WIDE_RGB = np.stack([WIDE, WIDE[::-1], 65535 - WIDE], 2)
WIDE_GREY = np.rint(WIDE / 257).astype(np.uint8)[..., None]
INDICES = ((7 * X + Y) % 256).astype(np.uint8)
COLORS = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2], 1).astype(np.uint8)
SIXTEEN = (INDICES % 16).astype(np.uint8)
INKS = np.dstack([RGB // 2, RGB[..., 0] // 3]).astype(np.uint8)
SMOOTH = np.stack([60 + 2 * X + Y, np.broadcast_to(100 + X // 2, X.shape), 150 - Y], 2).astype(np.uint8)  # Y, Cb, Cr


def in_three(grey):
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)


def of_inks(inks):
    """Cyan, magenta, yellow and black as colors: each takes its share of the light."""
    light = 255 - inks.astype(float)
    return np.rint(light[..., :3] * light[..., 3:] / 255).astype(np.uint8)


def of_ycc(ycc):
    y, blue, red = np.moveaxis(ycc.astype(float), 2, 0) - np.array([0, 128, 128])[:, None, None]
    colors = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], 2)
    return np.rint(colors.clip(0, 255)).astype(np.uint8)


def over_white(pixels, alpha):
    share = alpha.reshape(*alpha.shape[:2], 1) / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def where(mask, pixels):
    """White where the mask is set."""
    return np.where(mask[..., None], 255, pixels).astype(np.uint8)


def by_pillow(pixels, kind, **options):
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def planes(pixels):
    return list(np.moveaxis(pixels, 2, 0))
