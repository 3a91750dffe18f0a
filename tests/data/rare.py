"""The smaller families of the zoo: GIF, BMP, WebP, PPM, and pictures that lie on their side."""

import struct

import numpy as np
from formats import bmp, bmp_rows, chunk, gif, gif_frame, pack, png, tiff
from jpegs import exif, jpeg, segment
from PIL import Image
from truths import COLORS, GREY, INDICES, RGB, SIXTEEN, SIZE, Animal, X, Y, by_pillow, over_white, where

UPRIGHT = {  # what EXIF says → how stored pixels are shown
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}
BLUE_FIRST = RGB[..., ::-1]


def gifs():
    shown = COLORS[INDICES]
    larger = np.full((24, 40, 3), 255, np.uint8)
    larger[3:23, 5:35] = shown
    some = {
        "colors for all": (lambda: gif(SIZE, [gif_frame(INDICES)], COLORS), shown),
        "colors of its own": (lambda: gif(SIZE, [gif_frame(INDICES, colors=COLORS)]), shown),
        "colors of its own before those for all": (
            lambda: gif(SIZE, [gif_frame(INDICES, colors=COLORS)], COLORS[::-1]), shown,
        ),
        "greys": (
            lambda: gif(SIZE, [gif_frame(INDICES)], np.arange(256, dtype=np.uint8).repeat(3)), INDICES[..., None],
        ),
        "transparent": (
            lambda: gif(SIZE, [gif_frame(INDICES, transparent=INDICES[3, 4])], COLORS),
            where(INDICES[3, 4] == INDICES, shown),
        ),
        "interlaced": (lambda: gif(SIZE, [gif_frame(INDICES, interlaced=True)], COLORS), shown),
        "several frames": (lambda: gif(SIZE, [gif_frame(INDICES), gif_frame(INDICES[::-1])], COLORS), shown),
        "a frame smaller than the screen": (lambda: gif((40, 24), [gif_frame(INDICES, (5, 3))], COLORS), larger),
        "a smaller frame before a background": (
            lambda: gif((40, 24), [gif_frame(INDICES, (5, 3))], COLORS, background=9), larger,
        ),
        "a smaller frame with colors of its own": (
            lambda: gif((40, 24), [gif_frame(INDICES, (5, 3), COLORS)]), larger,
        ),
        "a smaller frame, transparent": (
            lambda: gif((40, 24), [gif_frame(INDICES, (5, 3), transparent=255)], COLORS),
            where((larger == COLORS[255]).all(2), larger),
        ),
        "a frame larger than the screen": (lambda: gif((9, 9), [gif_frame(INDICES)], COLORS), shown),
    }  # fmt: skip
    return {name: Animal(make, pixels, 0, ".gif") for name, (make, pixels) in some.items()}


def bmps():
    palette = b"".join(bytes([*color[::-1], 0]) for color in COLORS)
    with_spare = np.dstack([BLUE_FIRST, 0 * GREY])
    five, six, red = (RGB >> 3).astype("<u2"), (RGB >> 2).astype("<u2"), struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    of_five = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2])[::-1]
    of_six = (five[..., 0] << 11 | six[..., 1] << 5 | five[..., 2])[::-1]
    runs = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in INDICES[::-1]) + b"\0\1"
    halves = b"".join(b"".join(bytes([1, value << 4]) for value in row) + b"\0\0" for row in SIXTEEN[::-1]) + b"\0\1"
    fours, ones = (b"".join(bmp_rows([pack(row, bits)]) for row in SIXTEEN[::-1] % 2**bits) for bits in (4, 1))
    some = {
        "from below": (lambda: bmp(bmp_rows([row.tobytes() for row in BLUE_FIRST[::-1]]), SIZE, 24), RGB, 0),
        "from above": (lambda: bmp(bmp_rows([row.tobytes() for row in BLUE_FIRST]), (30, -20), 24), RGB, 0),
        "32 bits": (lambda: bmp(with_spare[::-1].tobytes(), SIZE, 32), RGB, 0),
        "15 bits": (lambda: bmp(of_five.tobytes(), SIZE, 16), RGB, 8),
        "16 bits": (lambda: bmp(of_six.tobytes(), SIZE, 16, compression=3, masks=red), RGB, 8),
        "palette": (
            lambda: bmp(bmp_rows([row.tobytes() for row in INDICES[::-1]]), SIZE, 8, palette=palette),
            COLORS[INDICES], 0,
        ),
        "palette of 16": (lambda: bmp(fours, SIZE, 4, palette=palette[:64]), COLORS[SIXTEEN], 0),
        "palette of 2": (lambda: bmp(ones, SIZE, 1, palette=palette[:8]), COLORS[SIXTEEN % 2], 0),
        "runs of 8 bits": (lambda: bmp(runs, SIZE, 8, compression=1, palette=palette), COLORS[INDICES], 0),
        "runs of 4 bits": (lambda: bmp(halves, SIZE, 4, compression=2, palette=palette[:64]), COLORS[SIXTEEN], 0),
    }  # fmt: skip
    return {name: Animal(make, pixels, within, ".bmp") for name, (make, pixels, within) in some.items()}


def webps():
    alpha = np.broadcast_to(255 * (X > 9), X.shape).astype(np.uint8)
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
    soft = np.stack([100 + X + Y, 110 + X, 140 - Y], 2).astype(np.uint8)
    some = {
        "lossless": (lambda: by_pillow(RGB, "WEBP", lossless=True), RGB, 0),
        "lossy": (lambda: by_pillow(soft, "WEBP", quality=100), soft, 6),
        "alpha": (
            lambda: by_pillow(np.dstack([RGB, alpha]), "WEBP", lossless=True, exact=True), over_white(RGB, alpha), 0,
        ),
        "several frames": (lambda: by_pillow(RGB, "WEBP", lossless=True, **frames), RGB, 0),
    }  # fmt: skip
    return {name: Animal(make, pixels, within, ".webp") for name, (make, pixels, within) in some.items()}


def ppms():
    def of(*values):
        return np.array(values, dtype=np.uint8)

    some = {
        "binary": (lambda: b"P6\n# a remark\n30 20\n255\n" + RGB.tobytes(), RGB),
        "text": (lambda: b"P3 30 20 255\n" + " ".join(map(str, RGB.ravel())).encode(), RGB),
        "grey text": (lambda: b"P2 2 1 1000 500 1000", of([[128], [255]])),
        "grey of 16 bits": (lambda: b"P5 3 1 65535 " + struct.pack(">3H", 0, 32768, 65535), of([[0], [128], [255]])),
        "up to 1000": (lambda: b"P6 1 1 1000 " + struct.pack(">3H", 0, 500, 1000), of([[0, 128, 255]])),
        "up to 15": (lambda: b"P5 2 1 15 \x07\x0f", of([[119], [255]])),
        "1 bit": (lambda: b"P4 3 1 \xa0", of([[0], [255], [0]])),
        "1 bit as text": (lambda: b"P1 3 1 1 0 1", of([[0], [255], [0]])),
    }
    return {
        name: Animal(make, pixels if pixels.ndim == 3 else pixels[None], 0, ".ppm")
        for name, (make, pixels) in some.items()
    }


def turned():
    """Pictures with notes of how the camera was held, whole and damaged."""

    def note(number):
        return exif([(0x112, 3, struct.pack("<H", number))])

    def as_jpeg(content):
        return jpeg([GREY[..., 0]], SIZE, marks=segment(0xE1, content))

    some = {}
    for number, turn in UPRIGHT.items():
        grey, colors = turn(GREY), turn(RGB)
        some |= {
            f"JPEG {number}": Animal(lambda n=number: as_jpeg(note(n)), grey, 1, ".jpg"),
            f"PNG {number}": Animal(lambda n=number: png(RGB, 8, 2, chunk(b"eXIf", note(n)[6:])), colors),
            f"WebP {number}": Animal(
                lambda n=number: by_pillow(RGB, "WEBP", lossless=True, exif=note(n)[6:]), colors, 0, ".webp"
            ),
            f"TIFF {number}": Animal(
                lambda n=number: tiff(GREY.tobytes(), SIZE, [8], tags={274: (3, [n])}), grey, 0, ".tif"
            ),
        }
    side = (0x112, 3, struct.pack("<H", 6))
    damaged = {
        "a resolution that is text": ([side, (0x11A, 2, b"no")], 6),
        "a maker of fractions": ([side, (0x10F, 11, b"\xff\xff\xff\xff")], 6),
        "a list where there is one number": ([(0x112, 3, struct.pack("<2H", 6, 6))], 6),
        "a turn that does not exist": ([(0x112, 3, struct.pack("<H", 99))], 1),
        "a turn that is text": ([(0x112, 2, b"6\0")], 1),
    }
    for name, (entries, number) in damaged.items():
        some[f"JPEG, {name}"] = Animal(lambda e=entries: as_jpeg(exif(e)), UPRIGHT[number](GREY), 1, ".jpg")
    some["JPEG, EXIF cut off"] = Animal(lambda: as_jpeg(note(6)[:20]), GREY, 1, ".jpg")
    some["JPEG, EXIF that leads nowhere"] = Animal(lambda: as_jpeg(b"Exif\0\0II*\0\xff\xff\xff\xff"), GREY, 1, ".jpg")
    some["JPEG, EXIF that leads to itself"] = Animal(
        lambda: as_jpeg(exif([side, (0x8769, 4, struct.pack("<I", 8))])), UPRIGHT[6](GREY), 1, ".jpg"
    )
    return some
