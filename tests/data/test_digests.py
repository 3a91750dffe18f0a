import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

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


@pytest.mark.parametrize(("files", "size", "most"), [(1, 2**18, 4), (64, 1, 4), (2, 2**18, 8)])
def test_ticks_come_from_the_caller_and_few_files_are_in_flight(pictures, decoded, monkeypatch, files, size, most):
    """One piece ready, two in work, one waiting; a piece ends with a file that is large."""
    monkeypatch.setattr(digests, "PIECE_FILES", files)
    monkeypatch.setattr(digests, "PIECE_BYTES", size)
    ahead, threads = [], set()

    def tick():
        time.sleep(0.02)  # the others could run ahead meanwhile
        ahead.append(len(decoded) - len(ahead))
        threads.add(threading.current_thread())

    file_digests(pictures, on_read=tick, workers=2)
    assert len(ahead) == 12
    assert max(ahead) <= most
    assert threads == {threading.current_thread()}


def test_no_files_have_no_digests():
    assert [rows.shape for rows in file_digests([])] == [(0, 32), (0, 32)]


def test_what_was_read_once_is_remembered(pictures, decoded):
    first, ticks = file_digests(pictures), []
    assert len(decoded) == 12
    again = file_digests(pictures[::-1], on_read=lambda: ticks.append(1))
    assert len(decoded) == 12
    assert len(ticks) == 12
    assert as_lists(again) == tuple(rows[::-1] for rows in as_lists(first))


def test_a_file_may_come_twice_and_under_several_names(pictures, decoded, tmp_path, monkeypatch):
    (tmp_path / "link.png").symlink_to(pictures[1])
    monkeypatch.chdir(tmp_path)
    names = [
        pictures[1],
        pictures[1],
        Path("01.png"),
        tmp_path / "link.png",
        tmp_path / ".." / tmp_path.name / "01.png",
    ]
    for _ in range(2):
        assert as_lists(file_digests(names)) == expected(names)
    before = len(decoded)
    file_digests([pictures[1]])
    assert len(decoded) == before


def test_a_name_that_is_no_text_is_remembered(pictures, decoded):
    path = Path(os.fsdecode(os.fsencode(pictures[0].parent) + b"/caf\xe9.png"))
    try:
        pictures[0].rename(path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for _ in range(2):
        assert as_lists(file_digests([path])) == expected([path])
    assert len(decoded) == 1


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_link_that_leads_elsewhere_now_is_followed(tmp_path, noise, encode, what):
    for seed, place in enumerate(("first", "second")):
        (tmp_path / place).mkdir()
        path = tmp_path / place / "1.bmp"
        path.write_bytes(encode(noise(5, 4, 3, seed=seed), "BMP"))
        os.utime(path, (OLD, OLD))  # both have the same size and time
    link, name = (tmp_path / "now", "1.bmp") if what == "folder" else (tmp_path / "now.bmp", "")
    found = []
    for place in ("first", "second", "first"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / place / ("" if name else "1.bmp"))
        assert as_lists(file_digests([link / name])) == expected([link / name])
        found.append(file_digests([link / name])[0].tobytes())
    assert found[0] == found[2] != found[1]


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
    read = digests.read_file

    def read_and_change(path, name):
        data = read(path, name)
        os.utime(path, (OLD, OLD + 7))
        return data

    monkeypatch.setattr(digests, "read_file", read_and_change)
    file_digests(pictures[:1])
    monkeypatch.setattr(digests, "read_file", read)
    file_digests(pictures[:1])
    assert len(decoded) == 2


def test_a_file_that_was_fresh_when_its_reading_began_is_not_remembered(pictures, decoded, monkeypatch):
    now, read = [OLD * 10**9 + 10**9], digests.read_file

    def read_slowly(path, name):
        now[0] += 10**11
        return read(path, name)

    monkeypatch.setattr(digests.time, "time_ns", lambda: now[0])
    monkeypatch.setattr(digests, "read_file", read_slowly)
    file_digests(pictures[:1])
    file_digests(pictures[:1])
    assert len(decoded) == 2
    file_digests(pictures[:1])
    assert len(decoded) == 2


def test_a_file_from_the_future_is_not_remembered(pictures, decoded):
    os.utime(pictures[0], (2 * time.time(), 2 * time.time()))
    for _ in range(2):
        file_digests(pictures[:1])
    assert len(decoded) == 2


def test_a_time_that_fits_no_column_stops_nothing(pictures, monkeypatch):
    monkeypatch.setattr(digests, "_stamp", lambda place: (10, -(10**19)))
    assert as_lists(file_digests(pictures)) == expected(pictures)


@pytest.mark.parametrize("later", ["damaged", "gone"])
def test_the_first_bad_picture_in_order_is_named_though_a_later_one_fails_sooner(pictures, monkeypatch, refuses, later):
    monkeypatch.setattr(digests, "PIECE_FILES", 1)
    failed, read, decode = threading.Event(), digests._read, digests.decode
    pictures[4].write_bytes(b"no picture")
    if later == "gone":
        pictures[5].unlink()
    else:
        pictures[5].write_bytes(b"no picture")

    def note(file):
        try:
            return read(file)
        finally:
            if file.path == pictures[5]:
                failed.set()

    def wait(data, name):
        if name == str(pictures[4]):
            assert failed.wait(10)
        return decode(data, name)

    monkeypatch.setattr(digests, "_read", note)
    monkeypatch.setattr(digests, "decode", wait)
    with refuses(PictureError, pictures[4].name):
        file_digests(pictures)


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


def test_an_interruption_keeps_the_work_and_leaves_no_threads(pictures, decoded):
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        file_digests(pictures, on_read=tick)
    assert raised.tb is not None  # while somebody holds its frames
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("eyebright-ahead")]
    before = len(decoded)
    file_digests(pictures[:7])
    assert len(decoded) == before


RUN = """
import os, pathlib, signal, sys
from eyebright.data import digests
digests.KEEP_EVERY = int(sys.argv[1])
kill_at, ticks = int(sys.argv[2]), []
def tick():
    ticks.append(1)
    if len(ticks) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.readline()
encoded, pixels = digests.file_digests([pathlib.Path(name) for name in sys.argv[3:]], on_read=tick)
print(encoded.tobytes().hex(), pixels.tobytes().hex())
"""


def start(pictures, keep_every, kill_at=0):
    arguments = [sys.executable, "-c", RUN, str(keep_every), str(kill_at), *map(str, pictures)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_process_that_is_killed_keeps_what_it_has_written(pictures, decoded):
    process = start(pictures, keep_every=3, kill_at=8)
    process.communicate("go\n")
    assert process.returncode == -signal.SIGKILL
    assert as_lists(file_digests(pictures)) == expected(pictures)
    assert sorted(decoded) == sorted(map(str, pictures[6:]))


def test_two_processes_at_once_both_get_all_and_remember_all(pictures, decoded):
    processes = [start(pictures, keep_every=1) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    assert answers == [" ".join(b"".join(rows).hex() for rows in expected(pictures)) + "\n"] * 2
    assert as_lists(file_digests(pictures)) == expected(pictures)
    assert not decoded


def memory(own_cache):
    return own_cache / "digests.sqlite"


def write_text(path):
    path.write_bytes(b"this is no database at all, it is a text" * 50)


def overwrite_its_middle(path):
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:5000])


def change_with(*commands):
    def change(path):
        connection = sqlite3.connect(path)
        for command in commands:
            connection.execute(command.format(table=f"digests_{digests.FORMULA}"))
        connection.commit()
        connection.close()

    return change


SPOILT = {
    "a text": write_text,
    "overwritten": overwrite_its_middle,
    "cut off": cut_off,
    "other columns": change_with("DROP TABLE {table}", "CREATE TABLE {table} (name TEXT, digest TEXT)"),
    "no text": change_with("UPDATE {table} SET size = CAST(x'ff' AS TEXT)"),
    "nothing": change_with("UPDATE {table} SET encoded = NULL, checksum = NULL"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_memory_is_begun_again_at_once(pictures, decoded, own_cache, spoil):
    file_digests(pictures)
    spoil(memory(own_cache))
    for _ in range(3):
        assert as_lists(file_digests(pictures)) == expected(pictures)
    assert len(decoded) == 24


def test_a_memory_that_is_damaged_while_it_is_used_stops_nothing(pictures, decoded, own_cache, monkeypatch):
    monkeypatch.setattr(digests, "KEEP_EVERY", 2)
    monkeypatch.setattr(digests, "AT_ONCE", 4)
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 6:
            write_text(memory(own_cache))

    assert as_lists(file_digests(pictures, on_read=tick)) == expected(pictures)
    for _ in range(2):
        assert as_lists(file_digests(pictures)) == expected(pictures)
    before = len(decoded)
    file_digests(pictures)
    assert len(decoded) == before


def test_a_damaged_memory_that_cannot_be_removed_stops_nothing(pictures, own_cache, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    write_text(memory(own_cache))
    monkeypatch.setattr(digests.Path, "unlink", denied)
    assert as_lists(file_digests(pictures)) == expected(pictures)
    assert memory(own_cache).read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize("column", ["encoded", "pixels", "checksum", "size"])
@pytest.mark.parametrize("value", ["randomblob(32)", "CAST(x'ff' AS TEXT)", "NULL"], ids=["bytes", "text", "nothing"])
def test_a_damaged_row_is_not_believed(pictures, decoded, own_cache, column, value):
    file_digests(pictures)
    with sqlite3.connect(memory(own_cache)) as connection:
        changed = connection.execute(
            f"UPDATE digests_{digests.FORMULA} SET {column} = {value} WHERE path = ?", (os.fsencode(pictures[4]),)
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


def test_a_formula_of_another_number_is_another_memory(pictures, decoded, monkeypatch):
    file_digests(pictures)
    monkeypatch.setattr(digests, "FORMULA", digests.FORMULA + 1)
    file_digests(pictures)
    assert len(decoded) == 24


def test_a_changed_file_has_one_row(pictures, own_cache):
    file_digests(pictures)
    os.utime(pictures[0], (OLD, OLD + 5))
    file_digests(pictures)
    connection = sqlite3.connect(memory(own_cache))
    rows = connection.execute(f"SELECT count(*), count(DISTINCT path) FROM digests_{digests.FORMULA}").fetchone()
    connection.close()
    assert rows == (12, 12)


def test_writing_goes_on_when_another_process_has_finished(pictures, decoded, own_cache, monkeypatch):
    monkeypatch.setattr(digests, "PATIENCE_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(digests, "KEEP_EVERY", 2)
    file_digests([])
    other, ticks = sqlite3.connect(memory(own_cache), isolation_level=None), []
    other.execute("BEGIN IMMEDIATE")

    def tick():
        ticks.append(1)
        if len(ticks) == 6:
            other.close()

    assert as_lists(file_digests(pictures, on_read=tick)) == expected(pictures)
    file_digests(pictures)
    assert sorted(decoded[12:]) == sorted(map(str, pictures[:6]))


def test_a_memory_that_cannot_be_written_is_read(pictures, decoded, own_cache, monkeypatch):
    file_digests(pictures[:6])
    connect = sqlite3.connect
    monkeypatch.setattr(digests.sqlite3, "connect", lambda path, timeout: connect(f"file:{path}?mode=ro", uri=True))
    monkeypatch.setattr(digests, "AT_ONCE", 2)
    monkeypatch.setattr(digests, "KEEP_EVERY", 1)
    assert as_lists(file_digests(pictures[::-1])) == tuple(rows[::-1] for rows in expected(pictures))
    assert len(decoded) == 12
    assert memory(own_cache).exists()


def test_a_cache_that_cannot_be_written_stops_nothing(pictures, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file in the cache's place")
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "file"))
    assert as_lists(file_digests(pictures)) == expected(pictures)


def test_rows_are_arrays_of_their_own(pictures):
    for rows in file_digests(pictures):
        assert rows.dtype == np.uint8
        assert rows.flags.writeable
