"""What a file seems to be that is not read as a picture, for the message that refuses it: told by its first bytes."""

from __future__ import annotations

import re
from typing import NamedTuple

REPAIR = "repair the file, or take it out of the folder"
CONVERT = "convert it to JPEG or PNG, or take it out of the folder"
FETCH = "fetch it again, or take it out of the folder"
TAKE_OUT = "take it out of the folder"
ENOUGH = 1024  # bytes that are looked at


class Stranger(NamedTuple):
    """What a file is, as a part of a sentence that begins with "it", and what to do about it."""

    reason: str
    remedy: str


# patterns of the first bytes; the first that fits counts
KNOWN = tuple(
    (re.compile(pattern, re.DOTALL), Stranger(reason, remedy))
    for pattern, reason, remedy in (
        (rb"....ftyp.{0,24}avi[fs]", "is an AVIF picture", CONVERT),
        (rb"....ftyp(hei|hev|mif1|msf1)", "is a HEIC picture, as phones take them", CONVERT),
        (rb"....ftypcrx ", "is a camera's raw picture", CONVERT),
        (rb"....ftyp", "is a video", TAKE_OUT),
        (rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51", "is a JPEG 2000 picture", CONVERT),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "is a JPEG XL picture", CONVERT),
        (rb"II\xbc\x01", "is a JPEG XR picture", CONVERT),
        (rb"8BPS", "is a Photoshop picture (PSD)", CONVERT),
        (rb"\0\0\x01\0[^\0]", "is an icon (ICO)", CONVERT),
        (rb"gimp xcf", "is a GIMP picture (XCF)", CONVERT),
        (rb"P7\n", "is a PAM picture", CONVERT),
        (rb"DDS |v/1\x01|#\?RADIANCE|qoif|icns", "is a picture of another format (DDS, EXR, HDR, QOI, ICNS)", CONVERT),
        (rb".{128}DICM", "is a medical picture (DICOM)", CONVERT),
        (rb"%PDF", "is a PDF page", CONVERT),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "is a PostScript drawing", CONVERT),
        (
            rb"(\xef\xbb\xbf)?\s*(?i:<!doctype html|<html|<head|<body)",
            "is a web page, as a failed download leaves",
            FETCH,
        ),
        (rb"(\xef\xbb\xbf)?\s*(<[?!].*)?<svg[\s>]", "is an SVG drawing", CONVERT),
        (rb"version https://git-lfs", "is a pointer of Git LFS, not the picture itself", "run: git lfs pull"),
        (rb"PK\x03\x04", "is a zip archive, or what is stored as one: a document, saved weights", TAKE_OUT),
        (rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "is an archive or a compressed file", TAKE_OUT),
        (rb"\x80[\x02-\x05]", "looks like a Python pickle", TAKE_OUT),
        (rb"\x93NUMPY|\x89HDF", "is a file of arrays (NumPy, HDF5)", TAKE_OUT),
        (rb"RIFF....AVI |\x1aE\xdf\xa3", "is a video", TAKE_OUT),
    )
)
BEGINNINGS = {  # of the formats that are read
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "BMP": rb"BM.{4}\0{4}",
    "PPM": rb"P[1-6fF][\s#]",
}
FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..(.)", re.DOTALL)


def describe(data: bytes) -> Stranger:
    """What a file is whose bytes the decoders did not know, and what to do about it."""
    start = data[:ENOUGH]
    for kind, beginning in BEGINNINGS.items():
        if re.match(beginning, start, re.DOTALL):
            frame = FRAME.search(data) if kind == "JPEG" else None
            if frame and (bits := frame[1][0]) in (12, 16):
                return Stranger(f"is a JPEG of {bits} bits a channel, and only those of 8 are read", CONVERT)
            return Stranger(
                f"begins as a {kind} does, but its header is damaged, or of a kind that is not read", REPAIR
            )
    for pattern, stranger in KNOWN:
        if pattern.match(start):
            return stranger
    sample = start[:512]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in sample):
        return Stranger(f"looks like text: {sample[:40].decode('ascii')!r}", REPAIR)
    if not any(start):
        return Stranger("begins with zeros only, as a copy does that was not finished", FETCH)
    return Stranger(f"begins with the bytes {data[:8].hex(' ')}", REPAIR)
