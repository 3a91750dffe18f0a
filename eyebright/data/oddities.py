"""What the decoders would show wrongly, or take very long over: mended where it can be, else a reason to refuse."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

MAX_SCANNED = 2_000_000_000  # pixels of a JPEG times its scans: each scan goes over all of them; usual are 10 scans
SCAN_BYTES = 10  # of a scan without content
MAX_RUNS = 16_000_000  # pixels of a BMP in runs: its decoder takes about 0.1 µs for each, though a few bytes make them
MAX_REMARKS = 1000  # in a PPM of text: its decoder goes over all the rest for each
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)  # frames of a JPEG whose scans may add as little as a byte each
PHOTOMETRIC, BITS, SAMPLE_FORMAT = 262, 258, 339  # tags of TIFF
SEGMENT = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # not the restart marks, nor an escaped 255


def find_obstacle(picture: Image.Image, data: bytes) -> str | None:
    """Why an opened picture, not yet loaded, would not be shown right or soon; None where nothing is in the way."""
    if picture.mode == "F":
        return "its pixels are floating-point numbers, and nothing says which of them is white"
    if picture.format == "TIFF":
        return _find_samples(picture)
    if picture.format == "PNG":
        if picture.mode == "P" and picture.palette is None:
            return "its palette is missing"
        if isinstance(picture.info.get("transparency"), tuple) and _raw_mode(picture) == "RGB;16B":
            return "it marks a color of 16 bits a channel as transparent"
    width, height = picture.size
    codec = picture.tile[0].codec_name if getattr(picture, "tile", None) else ""  # type: ignore[attr-defined]
    if codec == "bmp_rle" and width * height > MAX_RUNS:
        return f"its {width}×{height} pixels are more than {MAX_RUNS:,}, as many as are decoded from runs"
    if codec == "ppm_plain" and data.count(b"#") > MAX_REMARKS:
        return f"it has more than {MAX_REMARKS:,} remarks between its numbers"
    if picture.format in ("JPEG", "MPO") and may_be_slow(data, width * height):
        scans = count_scans(data)
        if scans * width * height > MAX_SCANNED:
            return f"its {scans:,} scans of {width}×{height} pixels are more than is decoded"
    return None


def _find_samples(picture: Image.Image) -> str | None:
    """What is unusual in a TIFF's numbers."""
    tags = picture.tag_v2  # type: ignore[attr-defined]
    bits, formats = set(tags.get(BITS, (1,))), set(tags.get(SAMPLE_FORMAT, (1,)))
    if not bits <= {1, 2, 4, 8, 16}:
        return f"its numbers have {max(bits)} bits, and those of 1, 2, 4, 8 and 16 are read"
    if not formats <= {1, 4}:  # whole numbers from 0; undefined
        return "its numbers have a sign, and nothing says which of them is white"
    return None


def find_scans(data: bytes) -> tuple[int, bool]:
    """Where the first scan of a JPEG begins, all notes standing before it, and whether more scans may refine it."""
    place, progressive = 2, False
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker = data[place + 1]
        if marker == 0xDA:
            return place, progressive
        progressive |= marker in PROGRESSIVE
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return len(data), True


def may_be_slow(data: bytes, pixels: int) -> bool:
    """Whether a JPEG of so many pixels could have more scans than are decoded; nearly always told by its length."""
    return len(data) // SCAN_BYTES * pixels > MAX_SCANNED and data.count(b"\xff\xda") * pixels > MAX_SCANNED


def count_scans(data: bytes) -> int:
    """How many scans a JPEG has up to its end; those of a small picture inside a segment are not counted."""
    scans, place = 0, 2
    while (found := SEGMENT.search(data, place)) is not None and found[1] != b"\xd9":
        scans += found[1] == b"\xda"
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans


def scale_transparency(picture: Image.Image) -> None:
    """In a PNG of 2 or 4 bits, the transparent grey is counted as its pixels are stored: it is made one of 8 bits."""
    step = {"L;2": 85, "L;4": 17}.get(_raw_mode(picture))
    if picture.format == "PNG" and step is not None and isinstance(picture.info.get("transparency"), int):
        picture.info["transparency"] *= step


def is_white_0(picture: Image.Image) -> bool:
    """Whether a TIFF of 16 bits counts from white to black, which its decoder does not heed."""
    tags = getattr(picture, "tag_v2", {})
    return picture.mode.startswith("I;16") and tags.get(PHOTOMETRIC) == 0


def find_frame(picture: Image.Image) -> tuple[int, int, int, int] | None:
    """The part (left, top, right, bottom) of a GIF's screen that its first frame covers, before it is loaded."""
    return picture.tile[0].extents if picture.format == "GIF" and picture.tile else None  # type: ignore[attr-defined]


def whiten_outside(pixels: NDArray[np.uint8], frame: tuple[int, int, int, int]) -> None:
    """What the first frame of a GIF leaves free is transparent, as browsers show it: white here."""
    left, top, right, bottom = frame
    pixels[:top] = pixels[bottom:] = 255
    pixels[:, :left] = pixels[:, right:] = 255


def orientation(picture: Image.Image) -> int:
    """1 to 8 as EXIF counts them; 1 (upright) where there is none, or none that exists."""
    if picture.format == "GIF":  # has no EXIF
        return 1
    number = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return int(number) if number in range(2, 9) else 1


def turn_pixels(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels of a picture of this orientation, uint8 `[H, W, C]`, turned upright."""
    match orientation:
        case 2:
            turned = pixels[:, ::-1]
        case 3:
            turned = pixels[::-1, ::-1]
        case 4:
            turned = pixels[::-1]
        case 5:
            turned = pixels.swapaxes(0, 1)
        case 6:
            turned = np.rot90(pixels, -1)
        case 7:
            turned = pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            turned = np.rot90(pixels)
        case _:
            return pixels
    return np.ascontiguousarray(turned)


def _raw_mode(picture: Image.Image) -> str:
    """How the pixels of an opened picture are stored, as Pillow calls it."""
    tiles = getattr(picture, "tile", [])
    arguments = tiles[0].args if tiles else ""
    return arguments if isinstance(arguments, str) else ""
