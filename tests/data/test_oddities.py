import io

import numpy as np
import pytest
from PIL import Image

from eyebright.data.oddities import find_scans


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("note", [b"", b"\xff\xda a mark inside a note"])
def test_the_first_scan_begins_after_all_notes(progressive, note, landscape):
    data = jpeg(landscape(24, 32), progressive=progressive, comment=note, exif=b"Exif\0\0\xff\xda")
    place, more = find_scans(data)
    assert data[place : place + 2] == b"\xff\xda" and more is progressive
    assert data.count(b"\xff\xda", 0, place) == 1 + bool(note)  # those inside the notes


def test_bytes_that_fill_up_before_a_mark_are_passed_over(landscape):
    data = jpeg(landscape(8, 8))
    place, _ = find_scans(data)
    filled = data[:place] + b"\xff" * 5 + data[place:]
    assert find_scans(filled) == (place + 5, False)


@pytest.mark.parametrize("length", [0, 2, 3, 20, 100])
def test_a_jpeg_that_ends_before_its_scan_may_have_any(length, landscape):
    data = jpeg(landscape(8, 8))[:length]
    assert find_scans(data) == (length, True)


def test_any_bytes_end_the_search():
    random = np.random.default_rng(0)
    for _ in range(200):
        data = b"\xff\xd8" + random.choice([0xFF, 0xC2, 0xDA, 0, 2], 30).astype(np.uint8).tobytes()
        place, _ = find_scans(data)
        assert place == len(data) or data[place : place + 2] == b"\xff\xda"
