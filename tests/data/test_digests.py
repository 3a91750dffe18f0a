import hashlib
import os
import sqlite3
import time

import numpy as np
import pytest

from eyebright.data import digests
from eyebright.data.decode import decode_file
from eyebright.data.digests import file_digests, pixel_digest
from eyebright.errors import PictureError

OLD = 1_700_000_000


@pytest.fixture
def pictures(tmp_path, noise, encode):
    """Twelve pictures that were made long ago."""
    paths = []
    for index in range(12):
        path = tmp_path / f"{index:02}.png"
        path.write_bytes(encode(noise(5, 4 + index % 3, 3, seed=index)))
        os.utime(path, (OLD, OLD))
        paths.append(path)
    return paths


@pytest.fixture
def decoded(monkeypatch):
    """The names of the pictures that are decoded from now on."""
    seen, decode = [], digests.decode

    def count(data, name, *more):
        seen.append(name)
        return decode(data, name, *more)

    monkeypatch.setattr(digests, "decode", count)
    return seen


def expected(paths):
    return (
        [hashlib.sha256(path.read_bytes()).digest() for path in paths],
        [pixel_digest(decode_file(path)) for path in paths],
    )


def as_lists(found):
    return tuple([row.tobytes() for row in rows] for rows in found)


def test_a_digest_of_pixels_is_of_shape_and_bytes(noise):
    pixels = noise(3, 4, 3)
    assert pixel_digest(pixels) == hashlib.sha256(b"(3, 4, 3)" + pixels.tobytes()).digest()
    assert pixel_digest(pixels) != pixel_digest(pixels.reshape(4, 3, 3))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_digests_are_of_bytes_and_pixels_in_order(pictures, workers):
    ticks = []
    found = file_digests(pictures, on_read=lambda: ticks.append(1), workers=workers)
    assert as_lists(found) == expected(pictures)
    assert [rows.shape for rows in found] == [(12, 32), (12, 32)]
    assert len(ticks) == 12


def test_no_files_have_no_digests():
    assert [rows.shape for rows in file_digests([])] == [(0, 32), (0, 32)]


def test_what_was_read_once_is_remembered(pictures, decoded):
    first, ticks = file_digests(pictures), []
    assert len(decoded) == 12
    again = file_digests(pictures[::-1], on_read=lambda: ticks.append(1))
    assert len(decoded) == 12
    assert len(ticks) == 12
    assert as_lists(again) == tuple(rows[::-1] for rows in as_lists(first))


def test_many_files_are_asked_for_in_several_questions(pictures, decoded, monkeypatch):
    monkeypatch.setattr(digests, "AT_ONCE", 5)
    monkeypatch.setattr(digests, "KEEP_EVERY", 2)
    for _ in range(2):
        assert as_lists(file_digests(pictures)) == expected(pictures)
    assert len(decoded) == 12


def change_content(path, encode, noise):
    path.write_bytes(encode(noise(5, 9, 3, seed=99)))
    os.utime(path, (OLD, OLD))


def change_time(path, encode, noise):
    os.utime(path, (OLD, OLD + 5))


@pytest.mark.parametrize("change", [change_content, change_time])
def test_a_file_of_another_size_or_time_is_read_again(pictures, decoded, change, encode, noise):
    file_digests(pictures)
    change(pictures[3], encode, noise)
    assert as_lists(file_digests(pictures)) == expected(pictures)
    assert decoded[12:] == [str(pictures[3])]
    file_digests(pictures)
    assert len(decoded) == 13


def test_a_file_that_was_changed_just_now_is_not_remembered(pictures, decoded):
    os.utime(pictures[0], (time.time(), time.time()))
    for _ in range(2):
        file_digests(pictures)
    assert decoded.count(str(pictures[0])) == 2
    assert len(decoded) == 13


def test_a_file_that_changes_while_it_is_read_is_not_remembered(pictures, monkeypatch, decoded):
    read = digests.Path.read_bytes

    def read_and_change(path):
        data = read(path)
        os.utime(path, (OLD, OLD + 7))
        return data

    monkeypatch.setattr(digests.Path, "read_bytes", read_and_change)
    file_digests(pictures[:1])
    monkeypatch.setattr(digests.Path, "read_bytes", read)
    file_digests(pictures[:1])
    assert len(decoded) == 2


def test_the_first_bad_picture_in_order_is_named_and_the_work_before_is_kept(pictures, decoded, refuses):
    for bad in (pictures[9], pictures[6]):
        bad.write_bytes(b"no picture")
    with refuses(PictureError, f"{pictures[6].name}: .* looks like text"):
        file_digests(pictures, workers=4)
    before = len(decoded)
    file_digests(pictures[:6])
    assert len(decoded) == before


def test_a_file_that_is_gone_is_a_picture_error(pictures, refuses):
    pictures[2].unlink()
    with refuses(PictureError, "02.png: No such file"):
        file_digests(pictures)


def test_a_remembered_file_that_is_gone_is_a_picture_error(pictures, refuses):
    file_digests(pictures)
    pictures[2].unlink()
    with refuses(PictureError, "02.png: No such file"):
        file_digests(pictures)


def memory(own_cache):
    return own_cache / "digests.sqlite"


def write_text(path):
    path.write_bytes(b"this is no database at all, it is a text" * 50)


def overwrite_its_middle(path):
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [write_text, overwrite_its_middle])
def test_a_damaged_memory_is_begun_again(pictures, decoded, own_cache, spoil):
    file_digests(pictures)
    spoil(memory(own_cache))
    for _ in range(3):
        assert as_lists(file_digests(pictures)) == expected(pictures)
    assert 24 <= len(decoded) <= 36  # read again once, or once more to find out; then remembered
    before = len(decoded)
    file_digests(pictures)
    assert len(decoded) == before


def test_a_damaged_row_is_not_believed(pictures, decoded, own_cache):
    file_digests(pictures)
    with sqlite3.connect(memory(own_cache)) as connection:
        changed = connection.execute(
            f"UPDATE digests_{digests.FORMULA} SET pixels = ? WHERE path = ?", (b"x" * 32, str(pictures[4]))
        )
    connection.close()
    assert changed.rowcount == 1
    assert as_lists(file_digests(pictures)) == expected(pictures)
    assert decoded[12:] == [str(pictures[4])]


def test_a_memory_that_another_process_holds_stops_nothing(pictures, own_cache, monkeypatch):
    file_digests(pictures[:2])
    connect = sqlite3.connect
    monkeypatch.setattr(digests.sqlite3, "connect", lambda path, timeout: connect(path, timeout=0))
    other = connect(memory(own_cache), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert as_lists(file_digests(pictures)) == expected(pictures)
    finally:
        other.close()
    assert memory(own_cache).exists()


def test_a_cache_that_cannot_be_written_stops_nothing(pictures, own_cache):
    own_cache.parent.mkdir(parents=True, exist_ok=True)
    own_cache.write_text("a file in the cache's place")
    assert as_lists(file_digests(pictures)) == expected(pictures)


def test_rows_are_arrays_of_their_own(pictures):
    for rows in file_digests(pictures):
        assert rows.dtype == np.uint8
        assert rows.flags.writeable
