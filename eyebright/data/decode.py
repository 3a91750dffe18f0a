"""Bytes to pixels: the only place where a picture is opened.

Ordinary JPEGs are decoded by libjpeg-turbo through simplejpeg, everything else by Pillow. Both give the same pixels.
"""

from __future__ import annotations

import ctypes
import errno
import io
import logging
import os
import stat
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from eyebright.data.oddities import (
    find_frame,
    find_obstacle,
    find_scans,
    is_white_0,
    may_be_slow,
    orientation,
    scale_transparency,
    turn_pixels,
    whiten_outside,
)
from eyebright.data.strangers import Stranger, describe
from eyebright.errors import PictureError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
MAX_PIXELS = 89_478_485  # a quarter of a gibibyte in RGB: a larger picture is taken for a decompression bomb
MAX_BYTES = 2**30  # of a file: more than the pixels above take in 16 bits a channel, not compressed

PIECE = 2**20  # bytes that are read at a time where a file is not as long as was said
ENDLESS = "it is a pipe, a socket or a device"
# a pipe is not waited for, and line ends stay as they are
OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

JPEG_START = b"\xff\xd8\xff"
NOTES = (b"Exif\0\0", b"tiff:Orientation")  # of a camera; they may say that the picture lies on its side
REDUCTIONS = (8, 4, 2)  # in which a JPEG can be decoded in place of its full size, by both libraries and equally well

# the limit on pixels is an error of ours, and so is what cannot be decoded; what a decoder says on its own about notes
# that it passes over tells a user nothing: as a warning, as a line of a log, or (libtiff) straight to standard error
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(AttributeError, OSError):  # where Pillow's libtiff can be reached
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)  # type: ignore[attr-defined]


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
        return Header(picture.format or "", orientation(picture) > 1)


def decode_file(path: Path, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Reads and decodes one file; see `decode`.

    Raises:
        PictureError: the file cannot be read or is not a whole picture.
    """
    name = os.fspath(path)
    return decode(read_file(path, name), name, at_least)


def read_file(path: Path, name: str) -> bytes:
    """The bytes of a picture file.

    Args:
        path: the file.
        name: what an error calls it.

    Raises:
        PictureError: it cannot be read, is larger than `MAX_BYTES`, or is a pipe or a device, whose end never comes.
    """
    try:
        descriptor = os.open(path, OPEN)  # with these functions of `os` half the time of a Path's own
        try:
            details = os.fstat(descriptor)
            if not (stat.S_ISREG(details.st_mode) or stat.S_ISDIR(details.st_mode)):
                raise _unreadable(name, ENDLESS)
            if details.st_size > MAX_BYTES:
                raise _unreadable(name, f"its {details.st_size:,} bytes are more than {MAX_BYTES:,}")
            data = os.read(descriptor, details.st_size + 1)
            if len(data) == details.st_size:
                return data
            pieces = [data]  # it grows, or its disk gives it bit by bit
            while sum(map(len, pieces)) <= MAX_BYTES and (piece := os.read(descriptor, PIECE)):
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # the latter: a name that no file can have
        reason = ENDLESS if getattr(error, "errno", None) == errno.ENXIO else getattr(error, "strerror", None)
        raise _unreadable(name, reason or str(error)) from error


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
        scans, progressive = find_scans(data)
        if progressive and may_be_slow(data, width * height):
            return None
        turn = _read_orientation(data) if any(data.find(start, 0, scans) > 0 for start in NOTES) else 1
        smallest: dict[str, int] = {}
        if at_least is not None:
            wanted = at_least[::-1] if turn >= 5 else at_least
            fitting = min(height // wanted[0], width // wanted[1])
            reduction = next((number for number in REDUCTIONS if number <= fitting), 1)
            smallest = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "GRAY" if colors == "Gray" else "RGB", **smallest)
    except Exception:  # whatever a decoder raises on arbitrary bytes: Pillow will say what is wrong, or read it
        return None
    return turn_pixels(pixels, turn)


def _read_orientation(data: bytes) -> int:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        return orientation(picture)


def _decode_any(data: bytes, name: str, at_least: tuple[int, int] | None) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise _unreadable(name, f"{width}×{height} pixels are more than {MAX_PIXELS:,}")
            if obstacle := find_obstacle(picture, data):
                raise _unreadable(name, obstacle)
            if at_least is not None:
                picture.draft(None, at_least if orientation(picture) >= 5 else at_least[::-1])
            return _load(picture)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise _unreadable(name, f"its pixels are more than {MAX_PIXELS:,}: a decompression bomb") from error
    except UnidentifiedImageError as error:
        raise _strange(name, describe(data)) from error
    except MemoryError as error:
        raise _unreadable(name, "it takes more memory than there is") from error
    except OSError as error:
        raise _unreadable(name, str(error)) from error
    except Exception as error:  # a decoder meets arbitrary bytes: whatever it raises means that it could not read them
        if "MAX_TEXT" in str(error):
            raise _unreadable(name, "its texts or its color profile are larger than a mebibyte") from error
        raise _unreadable(name, f"it is damaged: {str(error) or type(error).__name__}") from error


def _load(picture: Image.Image) -> NDArray[np.uint8]:
    scale_transparency(picture)
    frame, inverted = find_frame(picture), is_white_0(picture)
    picture.load()
    pixels = turn_pixels(to_channels(picture), orientation(picture))
    if frame is not None:
        whiten_outside(pixels, frame)
    return 255 - pixels if inverted else pixels


def to_channels(picture: Image.Image) -> NDArray[np.uint8]:
    """An opened picture's pixels, 8 bits a channel: uint8 `[H, W, 1]` where it is grey, else `[H, W, 3]`."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):  # 16 bits: 65535 is white
        deep = np.asarray(picture).astype(np.float64)
        if (transparent := picture.info.get("transparency")) is not None:
            deep[deep == transparent] = 65535
        return np.rint(deep.clip(0, 65535) / 257).astype(np.uint8)[..., None]
    if picture.has_transparency_data:
        on_white = Image.new("RGBA", picture.size, "white")
        on_white.alpha_composite(picture.convert("RGBA"))
        picture = on_white
    if picture.mode in ("1", "L"):
        return np.array(picture.convert("L"))[..., None]
    return np.array(picture.convert("RGB"))


def _unreadable(name: str, reason: str) -> PictureError:
    name = printable(name)
    return PictureError(
        f"cannot read the picture {name}: {reason}",
        expected=f"a whole picture in one of the formats {', '.join(FORMATS)}",
        remedy="repair the file, or take it out of the folder; train, evaluate and data leave it out with "
        "--skip-unreadable",
    )


def _strange(name: str, stranger: Stranger) -> PictureError:
    name = printable(name)
    return PictureError(
        f"cannot read the picture {name}: it {stranger.reason}",
        expected=f"a whole picture in one of the formats {', '.join(FORMATS)}",
        remedy=f"{stranger.remedy}; train, evaluate and data leave it out with --skip-unreadable",
    )


def printable(name: str) -> str:
    """A name may hold line breaks, commands to a terminal and bytes that are no text: these are shown escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)
