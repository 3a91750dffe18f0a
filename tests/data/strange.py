"""What is called a picture and is none that can be read: bytes, and a piece of the reason to refuse them."""

import gzip
import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
from formats import bmp, chunk, gif, gif_frame, png, tiff
from jpegs import jpeg, segment, to_ycc
from truths import GREY, INDICES, RGB, SIZE, WIDE, WIDE_RGB, by_pillow


def box(kind, brands):
    """The beginning of the files that are made of boxes: HEIC, AVIF, videos."""
    content = b"ftyp" + b"\0\0\0\0".join([brands[0], b"".join(brands[1:])])
    return struct.pack(">I", len(content) + 4) + content + kind + bytes(100)


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jpg", b"a")
    return file.getvalue()


def cut(make, share):
    data = make()
    return data[: int(len(data) * share)]


def webp_of_size(width, height):
    data = by_pillow(RGB, "WEBP", lossless=True)
    return data[:21] + struct.pack("<I", (width - 1) | (height - 1) << 14) + data[25:]


def scanned(side, scans):
    """A progressive JPEG whose scans are nearly empty, and go over all its pixels each."""
    one_code = bytes([1, *[0] * 15])
    blocks = (-(-side // 8)) ** 2
    bits = "01" + "1" * 13  # a run of 2¹⁴ − 1 + 2¹⁴ blocks without anything
    bits *= -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    empty = segment(0xDA, b"\1\1\0\1\x3f\0") + int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return (
        b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
        + segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
        + segment(0xC4, b"\0" + one_code + b"\0") + segment(0xC4, b"\x10" + one_code + b"\xe0")
        + segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8)) + empty * scans + b"\xff\xd9"
    )  # fmt: skip


def whole():
    return jpeg(to_ycc(RGB), SIZE)


def whole_png():
    return png(RGB, 8, 2)


TRANSPARENT = chunk(b"tRNS", struct.pack(">3H", *WIDE_RGB[0, 0].tolist()))
FLOATS = (WIDE / 65535).astype("<f4").tobytes()
CUT = "truncated|Truncated|header is damaged|could not create decoder|begins with the bytes 52 49 46 46"
TEXTS = "its texts or its color profile are larger"
BEGINS = "begins as a {} does, but its header is damaged"

REFUSED = {  # name → (ending, make, a piece of the reason)
    "nothing": (".jpg", lambda: b"", "the file is empty"),
    "a text": (".jpg", lambda: b"not a picture", "looks like text: 'not a picture'"),
    "a web page": (".jpg", lambda: b"\n<!DOCTYPE html><html><svg ></svg></html>", "is a web page"),
    "an SVG": (".png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
    "an SVG with a head": (".png", lambda: b"<?xml version='1.0'?>\n<!-- a -->\n<svg width='1'/>", "is an SVG drawing"),
    "a pickle": (".jpg", lambda: pickle.dumps([1]), "looks like a Python pickle"),
    "a zip": (".jpg", zipped, "is a zip archive"),
    "a gzip": (".jpg", lambda: gzip.compress(b"a"), "is an archive or a compressed file"),
    "a PDF": (".jpg", lambda: b"%PDF-1.7\n%\xe2\xe3", "is a PDF page"),
    "a pointer of Git LFS": (".jpg", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "zeros": (".jpg", lambda: bytes(5000), "begins with zeros only"),
    "noise": (".jpg", lambda: bytes(range(200, 250)), "begins with the bytes c8 c9"),
    "HEIC": (".jpg", lambda: box(b"meta", [b"heic", b"mif1", b"heic"]), "is a HEIC picture, as phones take them"),
    "HEIC by its other name": (".jpg", lambda: box(b"meta", [b"mif1", b"mif1", b"heic"]), "is a HEIC picture"),
    "AVIF": (".jpg", lambda: box(b"meta", [b"avif", b"mif1"]), "is an AVIF picture"),
    "AVIF by its other name": (".jpg", lambda: box(b"meta", [b"mif1", b"mif1", b"avif"]), "is an AVIF picture"),
    "AVIF as Pillow writes it": (".png", lambda: by_pillow(RGB, "AVIF"), "is an AVIF picture"),
    "a video": (".jpg", lambda: box(b"moov", [b"isom", b"mp42"]), "is a video"),
    "JPEG 2000": (".jpg", lambda: by_pillow(RGB, "JPEG2000"), "is a JPEG 2000 picture"),
    "JPEG 2000 without boxes": (".jpg", lambda: by_pillow(RGB, "JPEG2000", no_jp2=True), "is a JPEG 2000 picture"),
    "JPEG XL": (".jpg", lambda: b"\xff\x0a\xfa\x1f\x01", "is a JPEG XL picture"),
    "PSD": (".jpg", lambda: b"8BPS\0\1" + bytes(40), "is a Photoshop picture"),
    "ICO": (".png", lambda: by_pillow(RGB, "ICO", sizes=[(16, 16)]), "is an icon"),
    "PAM": (".ppm", lambda: b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n\1\2\3", "is a PAM picture"),
    "a camera's raw picture": (".jpg", lambda: box(b"moov", [b"crx ", b"isom"]), "is a camera's raw picture"),
    "an old video": (".jpg", lambda: b"RIFF\xff\0\0\0AVI LIST", "is a video"),
    "DICOM": (".jpg", lambda: bytes(128) + b"DICM\2\0", "is a medical picture"),
    "GIMP": (".jpg", lambda: b"gimp xcf v011\0", "is a GIMP picture"),
    "JPEG XR": (".jpg", lambda: b"II\xbc\1\x20\0\0\0", "is a JPEG XR picture"),
    "PostScript": (".jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0", "is a PostScript drawing"),
    "Radiance": (".jpg", lambda: b"#?RADIANCE\n", "is a picture of another format"),
    "an array": (".png", lambda: b"\x93NUMPY\1\0v\0", "is a file of arrays"),
    "garbage before a JPEG": (".jpg", lambda: b"\0\1\2\3" + whole(), "begins with the bytes 00 01 02 03"),
    "JPEG of 12 bits": (".jpg", lambda: jpeg(to_ycc(RGB), SIZE, precision=12), "is a JPEG of 12 bits a channel"),
    "JPEG without an end mark": (".jpg", lambda: whole()[:-2], "image file is truncated"),
    "JPEG without losses": (".jpg", lambda: whole().replace(b"\xff\xc0", b"\xff\xc3"), "broken data stream"),
    "JPEG of no width": (".jpg", lambda: whole().replace(b"\0\x14\0\x1e\3", b"\0\x14\0\0\3"), BEGINS.format("JPEG")),
    "JPEG of many scans": (".jpg", lambda: scanned(9000, 60), "its 61 scans of 9000×9000 pixels"),
    "JPEG of 65,500×65,500": (".jpg", lambda: scanned(65_500, 1), "decompression bomb"),
    "PNG of no width": (".png", lambda: png(GREY, size=(0, 20)), BEGINS.format("PNG")),
    "PNG of 60,000×60,000": (".png", lambda: png(GREY, size=(60_000, 60_000)), "decompression bomb"),
    "PNG of 9,500×9,500": (".png", lambda: png(GREY, size=(9_500, 9_500)), "9500×9500 pixels are more than"),
    "PNG with a wrong checksum": (".png", lambda: whole_png()[:30] + b"\0\0" + whole_png()[32:], BEGINS.format("PNG")),
    "PNG without its palette": (".png", lambda: png(INDICES, 8, 3), "its palette is missing"),
    "PNG with a text that swells": (
        ".png", lambda: png(RGB, 8, 2, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))), TEXTS,
    ),
    "PNG with many texts": (
        ".png", lambda: png(RGB, 8, 2, chunk(b"tEXt", b"a\0" + bytes(2**20)) * 65), TEXTS,
    ),
    "PNG with a profile that swells": (
        ".png", lambda: png(RGB, 8, 2, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26)))), TEXTS,
    ),
    "PNG of 16 bits with a transparent color": (
        ".png", lambda: png(WIDE_RGB, 16, 2, TRANSPARENT), "a color of 16 bits a channel as transparent",
    ),
    "GIF of 65,535×65,535": (".gif", lambda: gif((65_535, 65_535), [gif_frame(INDICES)]), "decompression bomb"),
    "GIF with a frame far outside": (".gif", lambda: gif(SIZE, [gif_frame(INDICES, (65_000, 65_000))]), "bomb"),
    "GIF without a frame": (".gif", lambda: gif(SIZE, []), BEGINS.format("GIF")),
    "TIFF of 2³¹×2³¹": (".tif", lambda: tiff(GREY.tobytes(), (2**31, 2**31), [8]), "decompression bomb"),
    "TIFF of 90,000×90,000": (".tif", lambda: tiff(GREY.tobytes(), (90_000, 90_000), [8]), "decompression bomb"),
    "TIFF of 32 bits": (".tif", lambda: tiff(WIDE.astype("<u4").tobytes(), SIZE, [32]), "its numbers have 32 bits"),
    "TIFF of 12 bits": (".tif", lambda: tiff(bytes(900), SIZE, [12]), "its numbers have 12 bits"),
    "TIFF of signed numbers": (".tif", lambda: tiff(GREY.tobytes(), SIZE, [8], tags={339: (3, [2])}), "have a sign"),
    "TIFF of fractions": (".tif", lambda: tiff(FLOATS, SIZE, [32], tags={339: (3, [3])}), "floating-point numbers"),
    "TIFF of long fractions": (
        ".tif", lambda: tiff(bytes(4800), SIZE, [64], tags={339: (3, [3])}), BEGINS.format("TIFF"),
    ),
    "TIFF without a table": (".tif", lambda: b"II*\0\xff\xff\xff\xff", BEGINS.format("TIFF")),
    "WebP of 16,383×16,383": (".webp", lambda: webp_of_size(16_383, 16_383), "decompression bomb"),
    "BMP of 2³⁰×2³⁰": (".bmp", lambda: bmp(bytes(100), (2**30, 2**30), 24), "decompression bomb"),
    "BMP of 9,000×9,000 in runs": (
        ".bmp", lambda: bmp(bytes(100), (9000, 9000), 8, compression=1, palette=bytes(1024)),
        "its 9000×9000 pixels are more than 16,000,000, as many as are decoded from runs",
    ),
    "PPM of many remarks": (".ppm", lambda: b"P1 1000 1000 " + b"1#\n" * 1_000_000, "more than 1,000 remarks"),
    "BMP of no width": (".bmp", lambda: bmp(bytes(100), (0, 10), 24), BEGINS.format("BMP")),
    "PPM of 10⁹×10⁹": (".ppm", lambda: b"P6 1000000000 1000000000 255 abc", "decompression bomb"),
    "PPM of fractions": (".ppm", lambda: b"Pf\n2 1\n-1.0\n" + bytes(8), "floating-point numbers"),
    "PPM of letters": (".ppm", lambda: b"P3 1 1 255 1 x 3", "it is damaged: invalid literal"),
    "TIFF of 200 channels": (".tif", lambda: tiff(bytes(200), (1, 1), [8] * 200, 2), BEGINS.format("TIFF")),
    "TIFF of damaged LZW": (".tif", lambda: tiff(GREY.tobytes(), SIZE, [8], tags={259: (3, [5])}), "decoder error"),
    "PPM of no width": (".ppm", lambda: b"P6 0 5 255 abc", BEGINS.format("PPM")),
    **{
        f"{kind} at {share:.0%}": (ending, lambda make=make, share=share: cut(make, share), CUT)
        for kind, ending, make in [
            ("JPEG", ".jpg", whole),
            ("PNG", ".png", whole_png),
            ("GIF", ".gif", lambda: gif(SIZE, [gif_frame(INDICES)], np.zeros((256, 3), np.uint8))),
            ("TIFF", ".tif", lambda: by_pillow(RGB, "TIFF", compression="tiff_lzw")),
            ("WebP", ".webp", lambda: by_pillow(RGB, "WEBP", lossless=True)),
            ("BMP", ".bmp", lambda: by_pillow(RGB, "BMP")),
            ("PPM", ".ppm", lambda: by_pillow(RGB, "PPM")),
        ]
        for share in (0.1, 0.5, 0.98)
    },
}  # fmt: skip
