"""Bytes to pixels: the only place where a picture is opened."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from eyebright.errors import PictureError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
MAX_PIXELS = 89_478_485  # a quarter of a gibibyte in RGB: a larger picture is taken for a decompression bomb

# the limit above is an error of ours; Pillow's warning about the same would say it twice
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Header(NamedTuple):
    """What an encoded picture says of itself.

    Attributes:
        format: one of `FORMATS`, told from the content.
        turned: whether an EXIF entry says that it is stored turned or mirrored.
    """

    format: str
    turned: bool


def read_header(data: bytes) -> Header:
    """What a picture that `decode` takes says of itself; its pixels are not decoded."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        return Header(picture.format or "", picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9))


def decode_file(path: Path, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Reads and decodes one file; see `decode`.

    Raises:
        PictureError: the file cannot be read or is not a whole picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(str(path), error.strerror or str(error)) from error
    return decode(data, str(path), at_least)


def decode(data: bytes, name: str, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The pixels of an encoded picture, upright, 8 bits a channel.

    The format is told from the content, not from the name. Of several frames the first is taken. What is transparent is
    shown on white. A grey picture has 1 channel, every other one 3 (red, green, blue).

    Args:
        data: the encoded picture.
        name: what an error calls it.
        at_least: (height, width): a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as it is no smaller.

    Returns:
        uint8 `[H, W, C]`.

    Raises:
        PictureError: not a picture of a known format, damaged, cut off, or larger than `MAX_PIXELS`.
    """
    if not data:
        raise _unreadable(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise _unreadable(name, f"{width}×{height} pixels are more than {MAX_PIXELS:,}")
            if at_least is not None:
                picture.draft(None, at_least if _lies_on_its_side(picture) else at_least[::-1])
            upright = ImageOps.exif_transpose(picture)
            return to_channels(upright)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise _unreadable(name, f"its pixels are more than {MAX_PIXELS:,}: a decompression bomb") from error
    except UnidentifiedImageError as error:
        raise _unreadable(name, f"it is none of {', '.join(FORMATS)}; {_looks_like(data)}") from error
    except Exception as error:  # a decoder meets arbitrary bytes: whatever it raises means that it could not read them
        raise _unreadable(name, str(error) or type(error).__name__) from error


def to_channels(picture: Image.Image) -> NDArray[np.uint8]:
    """An opened picture's pixels, 8 bits a channel: uint8 `[H, W, 1]` where it is grey, else `[H, W, 3]`."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):  # 16 bits: 65535 is white
        deep = np.asarray(picture).astype(np.float64)
        return np.rint(deep.clip(0, 65535) / 257).astype(np.uint8)[..., None]
    if picture.has_transparency_data:
        on_white = Image.new("RGBA", picture.size, "white")
        on_white.alpha_composite(picture.convert("RGBA"))
        picture = on_white
    if picture.mode in ("1", "L"):
        return np.array(picture.convert("L"))[..., None]
    return np.array(picture.convert("RGB"))


def _lies_on_its_side(picture: Image.Image) -> bool:
    return bool(picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5)


def _looks_like(data: bytes) -> str:
    if data.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "it looks like a Python pickle"
    sample = data[:512]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in sample):
        return f"it looks like text: {sample[:40].decode('ascii')!r}"
    return f"it begins with the bytes {data[:8].hex(' ')}"


def _unreadable(name: str, reason: str) -> PictureError:
    return PictureError(
        f"cannot read the picture {name}: {reason}",
        expected=f"a whole picture in one of the formats {', '.join(FORMATS)}",
        remedy="repair the file, or take it out of the folder",
    )
