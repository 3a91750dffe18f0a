"""JPEG files written and taken apart by hand: any components, sampling, restarts and marks."""

import struct

import numpy as np

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
_ROWS, _COLUMNS = np.mgrid[:8, :8]
COSINES = np.cos((2 * _COLUMNS + 1) * _ROWS * np.pi / 16) * np.where(_ROWS == 0, np.sqrt(1 / 8), 1 / 2)
DC_CODES = {size: (size, 4) for size in range(12)}  # code and its length: all of one length, which is allowed
AC_SYMBOLS = [run << 4 | size for run in range(16) for size in range(11) if size or run in (0, 15)]
AC_CODES = {symbol: (place, 8) for place, symbol in enumerate(AC_SYMBOLS)}


def segment(mark, content):
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, mark, len(content) + 2) + content


def adobe(transform):
    """Adobe's mark: 0: the colors are stored as they are; 1: YCbCr; 2: YCCK."""
    return segment(0xEE, struct.pack(">5sHHHB", b"Adobe", 100, 0, 0, transform))


def jpeg(planes, size, sampling=None, marks=b"", restart=0, precision=8):
    """A baseline JPEG that loses nothing but roundings.

    Args:
        planes: one uint8 array `[h, w]` for each component, at its own size.
        size: (width, height).
        sampling: (horizontal, vertical) of each component; 1×1 without.
        marks: segments to put at its beginning.
        restart: a restart mark after so many units.
        precision: what the header claims.
    """
    sampling = sampling or [(1, 1)] * len(planes)
    h_max, v_max = (max(s[i] for s in sampling) for i in (0, 1))
    across, down = -(-size[0] // (8 * h_max)), -(-size[1] // (8 * v_max))
    blocks = [_blocks(p, across * h, down * v) for p, (h, v) in zip(planes, sampling, strict=True)]
    units = [
        [
            (i, blocks[i][y * v + dy, x * h + dx])
            for i, (h, v) in enumerate(sampling)
            for dy in range(v)
            for dx in range(h)
        ]
        for y in range(down)
        for x in range(across)
    ]
    step = restart or len(units)
    pieces = [_entropy_coded(units[i : i + step], len(planes)) for i in range(0, len(units), step)]
    body = pieces[0] + b"".join(bytes([0xFF, 0xD0 + i % 8]) + piece for i, piece in enumerate(pieces[1:]))
    frame = struct.pack(">BHHB", precision, size[1], size[0], len(planes))
    frame += b"".join(bytes([i + 1, h << 4 | v, 0]) for i, (h, v) in enumerate(sampling))
    scan = bytes([len(planes)]) + b"".join(bytes([i + 1, 0]) for i in range(len(planes))) + bytes([0, 63, 0])
    lengths = bytearray(16)
    lengths[3] = len(DC_CODES)
    dc = b"\0" + bytes(lengths) + bytes(DC_CODES)
    lengths[3], lengths[7] = 0, len(AC_CODES)
    ac = b"\x10" + bytes(lengths) + bytes(AC_SYMBOLS)
    interval = segment(0xDD, struct.pack(">H", restart)) if restart else b""
    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC0, frame) + segment(0xC4, dc) + segment(0xC4, ac)
    return b"\xff\xd8" + marks + tables + interval + segment(0xDA, scan) + body + b"\xff\xd9"


def _blocks(plane, across, down):
    """Coefficients `[down, across, 64]`, in zigzag order, of a plane whose last row and column are repeated."""
    height, width = plane.shape
    plane = np.pad(plane, ((0, 8 * down - height), (0, 8 * across - width)), "edge").astype(float) - 128
    squares = plane.reshape(down, 8, across, 8).swapaxes(1, 2)
    return np.rint(COSINES @ squares @ COSINES.T).astype(int).reshape(down, across, 64)[..., ZIGZAG]


def _entropy_coded(units, components):
    bits, before = [], [0] * components
    for unit in units:
        for component, block in unit:
            values = block.tolist()
            bits.append(_value(DC_CODES, 0, values[0] - before[component]))
            before[component] = values[0]
            last = max((i for i in range(1, 64) if values[i]), default=0)
            run = 0
            for value in values[1 : last + 1]:
                if value == 0:
                    run += 1
                    continue
                bits += [_code(AC_CODES[0xF0])] * (run // 16)
                bits.append(_value(AC_CODES, run % 16, value))
                run = 0
            if last < 63:
                bits.append(_code(AC_CODES[0]))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


def _code(code):
    return f"{code[0]:0{code[1]}b}"


def _value(codes, run, value):
    size = abs(value).bit_length()
    bits = f"{value if value > 0 else value + 2**size - 1:0{size}b}" if size else ""
    return _code(codes[run << 4 | size]) + bits


def exif(entries, thumbnail=b""):
    """The content of a segment of EXIF: `entries` of (tag, type, 4 or fewer bytes, or text), and a small picture."""
    table, more = struct.pack("<H", len(entries)), b""
    spare = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, value in sorted(entries):
        count = len(value) // {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 11: 4}[kind]
        packed = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", spare + len(more))
        table += struct.pack("<HHI", tag, kind, count) + packed
        more += value if len(value) > 4 else b""
    second = spare + len(more) if thumbnail else 0
    small = struct.pack("<HHHIIHHIII", 2, 0x201, 4, 1, second + 30, 0x202, 4, 1, len(thumbnail), 0) + thumbnail
    return b"Exif\0\0II*\0\x08\0\0\0" + table + struct.pack("<I", second) + more + (small if thumbnail else b"")


def with_marks(data, marks):
    """A JPEG with further segments at its beginning."""
    return data[:2] + marks + data[2:]


def to_ycc(pixels):
    """RGB `[H, W, 3]` as the three planes of JFIF."""
    red, green, blue = np.moveaxis(pixels.astype(float), 2, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = y, 128 + (blue - y) / 1.772, 128 + (red - y) / 1.402
    return [np.rint(plane).clip(0, 255).astype(np.uint8) for plane in planes]
