"""Pictures damaged at random, thousands of them: each is read or refused, soon and in little memory.

`make bench NAME=mutated_pictures` takes about a minute; with `--record records` the figures are kept there. The exit
code is 1 where a picture crashed the decoder, took more than 2 seconds of a processor, or let a library speak.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "data"))

import PIL
from common import write_record
from mutate import run
from PIL import features

MOST_SECONDS = 2


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=20_000)
    options.add_argument("--first", type=int, default=0, help="number of the first; each number is one picture")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there, as JSON")
    given = options.parse_args()
    started = time.perf_counter()
    found = run(given.count, given.first)
    libraries = {name: features.version(name) for name in ("jpg", "libtiff", "zlib", "webp")}
    figures = found | {
        "seconds": round(time.perf_counter() - started, 1),
        "pillow": PIL.__version__,
        "libraries": libraries,
    }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    if given.record:
        write_record(given.record, "mutated-pictures", figures)
    sys.exit(bool(found["crashes"] or found["said"] or found["slowest"]["cpu_seconds"] > MOST_SECONDS))


if __name__ == "__main__":
    main()
