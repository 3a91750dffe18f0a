"""PNG, TIFF, GIF and BMP files written byte by byte: what Pillow cannot write, and truths that do not come from it."""

import struct
import zlib

import numpy as np

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
TIFF_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I"}  # byte, text, short, long, fraction (two longs)


def chunk(name, content=b""):
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples, bits=8, color=0, before=b"", interlaced=False, size=None):
    """A PNG of samples `[H, W]` or `[H, W, C]`; color as in its header: 0 grey, 2 RGB, 3 palette, 4 LA, 6 RGBA.

    `before`: chunks before the pixels. `size`: another (width, height) for the header to claim.
    """
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", *(size or (width, height)), bits, color, 0, 0, interlaced)
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [samples]
    pixels = b"".join(b"\0" + pack(row, bits) for part in parts if part.size for row in part)
    pixels = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + pixels + chunk(b"IEND")


def pack(row, bits):
    """A row's samples as bytes, the highest bit first."""
    if bits == 16:
        return row.astype(">u2").tobytes()
    places = (row.reshape(-1, 1).astype(np.uint16) >> np.arange(bits)[::-1]) & 1
    return np.packbits(places.astype(np.uint8)).tobytes()


def tiff(pixels, size, bits, photometric=1, tags=(), order="<"):
    """A TIFF of one strip. `size`: (width, height); `bits`: of each sample; `tags`: {number: (type, values)}.

    With tags of tiles the strip is left out.
    """
    entries = {
        256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, bits), 259: (3, [1]), 262: (3, [photometric]),
        273: (4, [8]), 277: (3, [len(bits)]), 278: (4, [size[1]]), 279: (4, [len(pixels)]), **dict(tags),
    }  # fmt: skip
    if 324 in entries:
        del entries[273], entries[278], entries[279]
    pixels += b"\0" * (len(pixels) % 2)
    begin = 8 + len(pixels)
    spare = begin + 2 + 12 * len(entries) + 4
    table, more = struct.pack(order + "H", len(entries)), b""
    for number, (kind, values) in sorted(entries.items()):
        packed = values if kind == 2 else struct.pack(f"{order}{len(values)}{TIFF_TYPES[kind]}", *values)
        count = len(values) // 2 if kind == 5 else len(values)
        table += struct.pack(order + "HHI", number, kind, count)
        table += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", spare + len(more))
        more += packed if len(packed) > 4 else b""
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, begin)
    return start + pixels + table + bytes(4) + more


def gif(screen, frames, colors=None, background=0):
    """A GIF: `screen` (width, height), `frames` as made by `gif_frame`, `colors` uint8 `[256, 3]` for all frames."""
    flags = 0xF7 if colors is not None else 0x70
    head = struct.pack("<6sHHBBB", b"GIF89a", *screen, flags, background, 0)
    return head + (b"" if colors is None else colors.tobytes()) + b"".join(frames) + b";"


def gif_frame(indices, at=(0, 0), colors=None, transparent=None, interlaced=False):
    """A frame of uint8 `[H, W]`, at (x, y) of the screen, perhaps with colors `[256, 3]` of its own."""
    height, width = indices.shape
    if interlaced:
        indices = np.concatenate([indices[0::8], indices[4::8], indices[2::4], indices[1::2]])
    control = b"" if transparent is None else struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 1, 0, transparent, 0)
    flags = (0x87 if colors is not None else 0) | (0x40 if interlaced else 0)
    head = struct.pack("<BHHHHB", 0x2C, *at, width, height, flags) + (b"" if colors is None else colors.tobytes())
    bits = bits_used = 0
    for place, index in enumerate(indices.ravel().tolist()):
        for code in (256, index) if place % 250 == 0 else (index,):  # cleared before codes grow to 10 bits
            bits |= code << bits_used
            bits_used += 9
    bits |= 257 << bits_used
    data = bits.to_bytes((bits_used + 9 + 7) // 8, "little")
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    return control + head + b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def bmp(pixels, size, bits, *, compression=0, palette=b"", masks=b""):
    """A BMP; `pixels`: its rows, from below; `size`: (width, height); with a height below 0 from above."""
    start = 14 + 40 + len(masks) + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression, len(pixels), 2835, 2835, len(palette) // 4, 0)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + masks + palette + pixels


def bmp_rows(rows):
    """Rows of bytes, each filled up to a multiple of 4."""
    return b"".join(row + bytes(-len(row) % 4) for row in rows)
