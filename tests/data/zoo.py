"""Odd pictures, made anew each time, and the pixels that they must be read as; those to refuse stand in strange.py."""

import struct

import numpy as np
from formats import chunk, pack, png, tiff
from jpegs import adobe, exif, jpeg, segment, to_ycc
from PIL import Image
from rare import bmps, gifs, ppms, turned, webps
from truths import (
    COLORS,
    GREY,
    INDICES,
    INKS,
    RGB,
    SIXTEEN,
    SIZE,
    SMOOTH,
    WIDE,
    WIDE_GREY,
    WIDE_RGB,
    Animal,
    X,
    by_pillow,
    in_three,
    of_inks,
    of_ycc,
    over_white,
    planes,
    where,
)


def sampled(across, down):
    """A JPEG whose colors are stored for blocks of so many pixels."""
    y, blue, red = planes(SMOOTH)
    padded = [np.pad(p, ((0, -20 % down), (0, -30 % across)), "edge") for p in (blue, red)]
    small = [np.rint(p.reshape(len(p) // down, down, -1, across).mean((1, 3))).astype(np.uint8) for p in padded]
    return jpeg([y, *small], SIZE, [(across, down), (1, 1), (1, 1)])


def rgb_tiff(**options):
    return by_pillow(RGB, "TIFF", **options)


def tiled_tiff():
    """Four tiles of 16×16, the right and the lower ones filled up."""
    padded = np.pad(RGB, ((0, 12), (0, 2), (0, 0)))
    tiles = b"".join(padded[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16))
    places = {322: (3, [16]), 323: (3, [16]), 324: (4, [8 + 768 * i for i in range(4)]), 325: (4, [768] * 4)}
    return tiff(tiles, SIZE, [8] * 3, 2, places)


def pngs():
    def transparent(*values):
        return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))

    palette = chunk(b"PLTE", COLORS.tobytes())
    alpha = (X * 8).astype(np.uint8)
    some = {
        "grey": Animal(lambda: png(GREY), GREY),
        "palette": Animal(lambda: png(INDICES, 8, 3, palette), COLORS[INDICES]),
        "palette of 16": Animal(lambda: png(SIXTEEN, 4, 3, chunk(b"PLTE", COLORS[:16].tobytes())), COLORS[SIXTEEN]),
        "palette, transparent in part": Animal(
            lambda: png(INDICES, 8, 3, palette + chunk(b"tRNS", bytes(range(256)))),
            over_white(COLORS[INDICES], INDICES), 1,
        ),
        "grey with alpha": Animal(lambda: png(np.dstack([GREY, alpha]), 8, 4), over_white(in_three(GREY), alpha), 1),
        "alpha": Animal(lambda: png(np.dstack([RGB, alpha]), 8, 6), over_white(RGB, alpha), 1),
        "alpha of 0": Animal(lambda: png(np.dstack([RGB, 0 * alpha]), 8, 6), np.full_like(RGB, 255)),
        "16 bits": Animal(lambda: png(WIDE, 16), WIDE_GREY),
        "16 bits, one transparent": Animal(
            lambda: png(WIDE, 16, before=transparent(WIDE[3, 4])), where(WIDE[3, 4] == WIDE, WIDE_GREY)
        ),
        "16 bits, colors": Animal(lambda: png(WIDE_RGB, 16, 2), np.rint(WIDE_RGB / 257).astype(np.uint8), 1),
        "16 bits, alpha": Animal(
            lambda: png(np.dstack([WIDE_RGB, 257 * alpha.astype(int)]), 16, 6), over_white(WIDE_RGB / 257, alpha), 2
        ),
        "one color transparent": Animal(
            lambda: png(RGB, 8, 2, transparent(*RGB[5, 6])), where((RGB[5, 6] == RGB).all(2), RGB)
        ),
        "interlaced": Animal(lambda: png(RGB, 8, 2, interlaced=True), RGB),
        "interlaced, 1 bit": Animal(lambda: png(SIXTEEN % 2, 1, interlaced=True), (SIXTEEN % 2 * 255)[..., None]),
        "called .jpg": Animal(lambda: png(RGB, 8, 2), RGB, 0, ".jpg"),
        "odd resolution": Animal(lambda: png(RGB, 8, 2, chunk(b"pHYs", struct.pack(">IIB", 1, 2**31, 7))), RGB),
        "a text of 2 MB": Animal(lambda: png(RGB, 8, 2, chunk(b"tEXt", b"a\0" + b"x" * 2**21)), RGB),
        "1×1": Animal(lambda: png(RGB[:1, :1], 8, 2), RGB[:1, :1]),
        "10000×1": Animal(lambda: png(np.resize(GREY, (1, 10_000))), np.resize(GREY, (1, 10_000, 1))),
        "1×10000": Animal(lambda: png(np.resize(GREY, (10_000, 1))), np.resize(GREY, (10_000, 1, 1))),
        "several frames": Animal(
            lambda: by_pillow(RGB, "PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)]), RGB
        ),
    }  # fmt: skip
    for bits in (1, 2, 4):
        values = SIXTEEN % 2**bits
        greys = (values * (255 // (2**bits - 1)))[..., None]
        some[f"{bits} bits"] = Animal(lambda values=values, bits=bits: png(values, bits), greys)
        some[f"{bits} bits, one transparent"] = Animal(
            lambda values=values, bits=bits: png(values, bits, before=transparent(1)),
            where(values == 1, in_three(greys)),
        )
    return some


def jpegs():
    def plain(**options):
        return jpeg(to_ycc(RGB), SIZE, **options)

    def made_by_pillow(**options):
        return by_pillow(of_ycc(SMOOTH), "JPEG", quality=100, subsampling=0, **options)

    cover = segment(0xE1, exif([(0x10F, 2, b"x" * 50)], thumbnail=jpeg([GREY[:8, :8, 0]], (8, 8))))
    profile = b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([i + 1, 40]) + bytes(60_000)) for i in range(40))
    inverted = planes(255 - INKS)
    smooth = of_ycc(SMOOTH)
    some = {
        "grey": (lambda: jpeg([GREY[..., 0]], SIZE), GREY, 1),
        "4:4:4": (plain, RGB, 3),
        "4:2:0": (lambda: sampled(2, 2), smooth, 4),
        "4:2:2": (lambda: sampled(2, 1), smooth, 4),
        "4:4:0": (lambda: sampled(1, 2), smooth, 4),
        "4:1:1": (lambda: sampled(4, 1), smooth, 5),
        "4:1:0": (lambda: sampled(4, 2), smooth, 5),
        "sampled 3×1": (lambda: sampled(3, 1), smooth, 5),
        "colors as they are (Adobe)": (lambda: jpeg(planes(RGB), SIZE, marks=adobe(0)), RGB, 1),
        "inks, inverted (Adobe)": (lambda: jpeg(inverted, SIZE, marks=adobe(0)), of_inks(INKS), 2),
        "inks without a mark, inverted as browsers take them": (lambda: jpeg(inverted, SIZE), of_inks(INKS), 2),
        "YCCK": (lambda: jpeg([*to_ycc(INKS[..., :3]), inverted[3]], SIZE, marks=adobe(2)), of_inks(INKS), 4),
        "restart marks": (lambda: plain(restart=1), RGB, 3),
        "progressive": (lambda: made_by_pillow(progressive=True), smooth, 4),
        "a picture inside its EXIF": (lambda: plain(marks=cover), RGB, 3),
        "a color profile of 2.4 MB": (lambda: plain(marks=profile), RGB, 3),
        "odd resolution": (lambda: plain(marks=segment(0xE0, b"JFIF\0\1\1\1\0\0\xff\xff\0\0")), RGB, 3),
        "garbage after its end": (lambda: plain() + b"\xff\xda" * 500 + bytes(range(256)), RGB, 3),
        "two glued": (lambda: plain() + jpeg([GREY[..., 0]], SIZE), RGB, 3),
        "two glued, as phones do (MPO)": (
            lambda: by_pillow(smooth, "MPO", quality=100, subsampling=0, save_all=True,
                              append_images=[Image.new("RGB", (30, 20))]), smooth, 4,
        ),
        "fill bytes before marks": (lambda: plain().replace(b"\xff\xc4", b"\xff\xff\xff\xc4"), RGB, 3),
    }  # fmt: skip
    return {name: Animal(make, pixels, within, ".jpg") for name, (make, pixels, within) in some.items()}


def tiffs():
    deep = WIDE.astype("<u2").tobytes()
    colors = {320: (3, (COLORS.T.astype(int) * 257).ravel().tolist())}
    planar = {284: (3, [2]), 273: (4, [8, 608, 1208]), 279: (4, [600] * 3)}
    neutral = np.dstack([GREY, np.zeros((20, 30, 2), np.uint8)])
    lightness = (GREY / 255 * 100 + 16) / 116
    linear = np.where(lightness > 6 / 29, lightness**3, 3 * (6 / 29) ** 2 * (lightness - 4 / 29))
    of_lab = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear) * 255
    compressed = {"LZW": "tiff_lzw", "deflate": "tiff_adobe_deflate", "packed bits": "packbits", "LZMA": "lzma"}
    some = {
        "16 bits": (lambda: tiff(deep, SIZE, [16]), WIDE_GREY),
        "16 bits, high byte first": (
            lambda: tiff(WIDE.astype(">u2").tobytes(), SIZE, [16], order=">"), WIDE_GREY,
        ),
        "16 bits, white is 0": (lambda: tiff(deep, SIZE, [16], 0), 255 - WIDE_GREY),
        "16 bits, colors": (
            lambda: tiff(WIDE_RGB.astype("<u2").tobytes(), SIZE, [16] * 3, 2),
            np.rint(WIDE_RGB / 257).astype(np.uint8), 1,
        ),
        "white is 0": (lambda: tiff(GREY.tobytes(), SIZE, [8], 0), 255 - GREY),
        "1 bit": (
            lambda: tiff(b"".join(pack(row, 1) for row in SIXTEEN % 2), SIZE, [1]), (SIXTEEN % 2 * 255)[..., None],
        ),
        "palette": (lambda: tiff(INDICES.tobytes(), SIZE, [8], 3, colors), COLORS[INDICES]),
        "plane by plane": (lambda: tiff(np.moveaxis(RGB, 2, 0).tobytes(), SIZE, [8] * 3, 2, planar), RGB),
        "inks": (lambda: tiff(INKS.tobytes(), SIZE, [8] * 4, 5), of_inks(INKS), 1),
        "YCbCr": (lambda: tiff(SMOOTH.tobytes(), SIZE, [8] * 3, 6, {530: (3, [1, 1])}), of_ycc(SMOOTH), 2),
        "LAB": (lambda: tiff(neutral.tobytes(), SIZE, [8] * 3, 8), in_three(np.rint(of_lab).astype(np.uint8)), 2),
        "alpha of 0": (
            lambda: tiff(np.dstack([RGB, 0 * GREY]).tobytes(), SIZE, [8] * 4, 2, {338: (3, [2])}),
            np.full_like(RGB, 255),
        ),
        "a fourth channel without a meaning": (
            lambda: tiff(np.dstack([RGB, 0 * GREY]).tobytes(), SIZE, [8] * 4, 2, {338: (3, [0])}), RGB,
        ),
        "tiled": (tiled_tiff, RGB),
        "JPEG inside": (lambda: by_pillow(GREY, "TIFF", compression="jpeg", quality=100), GREY, 2),
        "several pages": (lambda: rgb_tiff(save_all=True, append_images=[Image.fromarray(255 - RGB)]), RGB),
        "64-bit offsets": (lambda: rgb_tiff(big_tiff=True), RGB),
        "resolution of 0/0": (lambda: tiff(GREY.tobytes(), SIZE, [8], 1, {282: (5, [0, 0]), 283: (5, [0, 0])}), GREY),
        **{name: (lambda kind=kind: rgb_tiff(compression=kind), RGB) for name, kind in compressed.items()},
    }  # fmt: skip
    return {name: Animal(make, pixels, *within, ending=".tif") for name, (make, pixels, *within) in some.items()}


READ = {
    f"{kind}: {name}": animal
    for kind, family in {
        "PNG": pngs, "JPEG": jpegs, "TIFF": tiffs, "GIF": gifs, "BMP": bmps, "WebP": webps, "PPM": ppms,
        "turned": turned,
    }.items()
    for name, animal in family().items()
}  # fmt: skip
