"""Bytes to pixels: the only place where a picture is opened.

Ordinary JPEGs are decoded by libjpeg-turbo through simplejpeg, everything else by Pillow. Both give the same pixels.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from eyebright.errors import PictureError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
MAX_PIXELS = 89_478_485  # a quarter of a gibibyte in RGB: a larger picture is taken for a decompression bomb

JPEG_START = b"\xff\xd8\xff"
NOTES = (b"Exif\0\0", b"tiff:Orientation")  # of a camera; they may say that the picture lies on its side
REDUCTIONS = (8, 4, 2)  # in which a JPEG can be decoded in place of its full size, by both libraries and equally well

UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {  # orientation → how to turn it
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}

# the limit above is an error of ours; Pillow's warning about the same would say it twice
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode_file(path: Path, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Reads and decodes one file; see `decode`.

    Raises:
        PictureError: the file cannot be read or is not a whole picture.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb", buffering=0) as file:  # noqa: PTH123 (half the time of `Path.read_bytes`)
            data = file.readall()
    except OSError as error:
        raise _unreadable(name, error.strerror or str(error)) from error
    return decode(data, name, at_least)


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
    pixels = _decode_plain_jpeg(data, at_least)
    return _decode_any(data, name, at_least) if pixels is None else pixels


def _decode_plain_jpeg(data: bytes, at_least: tuple[int, int] | None) -> NDArray[np.uint8] | None:
    """The pixels of a grey or colour JPEG that is whole; None: what this is has to be looked at more closely."""
    if not data.startswith(JPEG_START):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in ("Gray", "YCbCr") or width * height > MAX_PIXELS:
            return None
        orientation = _read_orientation(data) if any(start in data for start in NOTES) else 1
        smallest: dict[str, int] = {}
        if at_least is not None:
            wanted = at_least[::-1] if orientation >= 5 else at_least
            fitting = min(height // wanted[0], width // wanted[1])
            reduction = next((number for number in REDUCTIONS if number <= fitting), 1)
            smallest = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "GRAY" if colors == "Gray" else "RGB", **smallest)
    except Exception:  # whatever a decoder raises on arbitrary bytes: Pillow will say what is wrong, or read it
        return None
    return np.ascontiguousarray(UPRIGHT[orientation](pixels)) if orientation in UPRIGHT else pixels


def _read_orientation(data: bytes) -> int:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))


def _decode_any(data: bytes, name: str, at_least: tuple[int, int] | None) -> NDArray[np.uint8]:
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
