"""Small pictures of all formats, damaged at random: what the decoder makes of each, in a process that may die of it.

`python mutate.py FIRST COUNT FILE` is that process: it writes a line a picture, its number before it is decoded.
"""

import faulthandler
import json
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from zoo import READ

from eyebright.data.decode import MAX_PIXELS, decode
from eyebright.errors import PictureError

SEEDS = (
    "PNG: grey", "PNG: palette, transparent in part", "PNG: alpha", "PNG: 16 bits", "PNG: 16 bits, colors",
    "PNG: interlaced", "PNG: 2 bits, one transparent", "PNG: several frames", "PNG: odd resolution",
    "JPEG: grey", "JPEG: 4:4:4", "JPEG: 4:2:0", "JPEG: YCCK", "JPEG: restart marks", "JPEG: progressive",
    "JPEG: a picture inside its EXIF", "JPEG: two glued, as phones do (MPO)", "turned: JPEG 6",
    "TIFF: 16 bits", "TIFF: palette", "TIFF: tiled", "TIFF: LZW", "TIFF: deflate", "TIFF: packed bits",
    "TIFF: JPEG inside", "TIFF: LAB", "TIFF: several pages", "TIFF: plane by plane", "turned: TIFF 8",
    "GIF: colors for all", "GIF: interlaced", "GIF: several frames", "GIF: a smaller frame, transparent",
    "BMP: from below", "BMP: runs of 8 bits", "BMP: runs of 4 bits", "BMP: 16 bits",
    "WebP: lossless", "WebP: lossy", "WebP: alpha", "WebP: several frames", "turned: WebP 6",
    "PPM: binary", "PPM: text", "PPM: grey of 16 bits", "PPM: 1 bit as text",
)  # fmt: skip
NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    127,
    128,
    255,
    256,
    8191,
    9000,
    32_767,
    32_768,
    65_535,
    2**24,
    2**31 - 1,
    2**32 - 1,
)
MEMORY = 4 * 2**30  # bytes of addresses that a picture may take beyond those of the process
PATIENCE_SECONDS = 60  # after that the process is ended: a picture hangs


def flip(data, chance, _):
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def overwrite(data, chance, _):
    data[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 254, 255))


def cut(data, chance, _):
    del data[chance.randrange(len(data)) :]


def lose(data, chance, _):
    begin = chance.randrange(len(data))
    del data[begin : begin + chance.choice((1, 2, 4, 100))]


def insert(data, chance, _):
    begin = chance.randrange(len(data))
    data[begin:begin] = bytes([chance.choice((0, 255, chance.randrange(256)))]) * chance.choice((1, 2, 4, 300, 5000))


def double(data, chance, _):
    begin = chance.randrange(len(data))
    data[begin:begin] = data[begin : begin + chance.choice((4, 64, 1000))] * chance.choice((1, 2, 50))


def splice(data, chance, other):
    """The beginning of one picture and the end of another, mostly of another format."""
    data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]


def renumber(data, chance, _):
    """A number of the header becomes another, in either order of bytes."""
    kind = chance.choice(("B", "<H", ">H", "<I", ">I"))
    size = struct.calcsize(kind)
    begin = chance.randrange(max(1, min(len(data), 200) - size))
    data[begin : begin + size] = struct.pack(kind, chance.choice(NUMBERS) % 256**size)


def resize(data, chance, _):
    """The header claims another width, height, or both, wherever in it they stand."""
    for side in chance.choice(((30,), (20,), (30, 20), (30, 20))):
        kinds = ["<H", ">H", "<I", ">I"]
        chance.shuffle(kinds)
        other = chance.choice((0, 1, side - 1, side + 1, 300, 3000, 9000))
        old_and_new = [(struct.pack(kind, side), struct.pack(kind, other)) for kind in kinds]
        for old, new in ((f"{side} ".encode(), f"{other} ".encode()), *old_and_new):
            if (place := data.find(old, 0, 300)) >= 0:
                data[place : place + len(old)] = new
                break


MUTATIONS = {f.__name__: f for f in (flip, overwrite, cut, lose, insert, double, splice, renumber, resize)}
WHOLE = {}


def mutate(number):
    """The damaged picture of this number: the format that it was, what was done to it, its bytes."""
    if not WHOLE:
        WHOLE.update((name, READ[name].make()) for name in SEEDS)
    chance = Random(number)
    name = chance.choice(SEEDS)
    data, done = bytearray(WHOLE[name]), []
    for _ in range(chance.choice((1, 1, 2, 4))):
        kind = chance.choice(("renumber", *MUTATIONS))
        MUTATIONS[kind](data, chance, WHOLE[chance.choice(SEEDS)])
        done.append(kind)
        data = data or bytearray(b"\0")
    if name.startswith("PNG") and chance.random() < 0.8:  # else its checksums stop nearly every change
        data = correct_checksums(data)
        done.append("right checksums")
    return name, done, bytes(data)


def correct_checksums(data):
    """A PNG whose chunks have the checksums of what is in them, as far as there are chunks."""
    place = 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return data


def meet(data, number):
    """What the decoder makes of one: "read", "refused: …" or "crashed: …"."""
    try:
        pixels = decode(data, "a picture", (8, 8) if number % 2 else None)
    except PictureError as error:
        reason = error.problem.partition(": ")[2].partition(" (")[0].partition("'")[0]
        return "refused: " + re.sub(r"[0-9][0-9a-f,]*|\b[0-9a-f]{2}\b", "#", reason)
    except Exception as error:
        return f"crashed: {error!r}"
    height, width, channels = pixels.shape
    right = pixels.dtype == np.uint8 and channels in (1, 3) and 0 < height * width <= MAX_PIXELS
    return "read" if right else f"crashed: pixels of {pixels.dtype} {pixels.shape}"


def meet_all(first, count, path):
    """In a process of its own: meets so many, within limits of memory and time."""
    mutate(first)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    base = memory("VmRSS")
    with path.open("a", buffering=1) as file:
        for number in range(first, first + count):
            name, done, data = mutate(number)
            file.write(f"{number}\n")
            faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)
            begun = time.process_time()
            outcome = meet(data, number)
            seconds = time.process_time() - begun
            faulthandler.cancel_dump_traceback_later()
            file.write(json.dumps([number, name, done, outcome, seconds, memory("VmHWM") - base]) + "\n")


def memory(what):
    """Bytes that this process holds (VmRSS), or has held at the most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what))


def run(count, first=0):
    """Meets so many pictures and sums up: outcomes by format, crashes, the slowest, the most memory, what was said."""
    rows, crashes, said = [], [], ""
    end, next_one = first + count, first
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "met.jsonl"
        while next_one < end:
            path.write_text("")
            command = [sys.executable, __file__, str(next_one), str(end - next_one), str(path)]
            child = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            rows += [line for line in lines if isinstance(line, list)]
            said += child.stdout + child.stderr if child.returncode == 0 else ""
            last = lines[-1] if lines else None
            if child.returncode == 0:
                break
            if not isinstance(last, int):
                raise RuntimeError(f"the process ended with {child.returncode}: {child.stderr[-2000:]}")
            crashes.append({"number": last, "how": f"ended with {child.returncode}", "said": child.stderr[-2000:]})
            next_one = last + 1
    crashes += [{"number": row[0], "how": row[3]} for row in rows if row[3].startswith("crashed")]
    return sum_up(rows) | {"count": count, "first": first, "crashes": crashes, "said": said[-2000:]}


def sum_up(rows):
    """The outcomes of many as counts."""
    formats, reasons, mutations = {}, Counter(), Counter()
    for _, name, done, outcome, _, _ in rows:
        formats.setdefault(name.split(":")[0], Counter())[outcome.partition(":")[0]] += 1
        reasons[outcome] += 1
        mutations.update(set(done))
    slowest = max(rows, key=lambda row: row[4])
    return {
        "met": len(rows),
        "outcomes": dict(Counter(row[3].partition(":")[0] for row in rows)),
        "by_format": {name: dict(counts) for name, counts in sorted(formats.items())},
        "by_reason": dict(reasons.most_common(40)),
        "mutations": dict(mutations.most_common()),
        "slowest": {"number": slowest[0], "picture": slowest[1], "outcome": slowest[3], "cpu_seconds": slowest[4]},
        "memory_mib": max(row[5] for row in rows) / 2**20,
    }


if __name__ == "__main__":
    meet_all(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
