import gzip
import io
import lzma
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from eyebright.data import archives, cache
from eyebright.data.archives import is_archive, unpack
from eyebright.errors import ArchiveError, OutputError

SUFFIXES = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2"]


@pytest.fixture
def files(noise):
    """Some files, one of them empty, one larger than a block."""
    sizes = {"cats/1.png": 700, "cats/2.png": 0, "dogs/a b ü.png": 512, "dogs/deep/er/3.png": 30_000}
    return {name: noise(size, seed=i).tobytes() for i, (name, size) in enumerate(sizes.items())}


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(refuses, own_cache):
    """`refused(path, "text")`: refuses the archive and leaves nothing behind, in the cache or beside it."""

    def check(path, match):
        outside = {p for p in path.parent.rglob("*") if own_cache not in p.parents}
        with refuses(ArchiveError, match) as raised:
            unpack(path)
        assert str(path) in raised.value.problem
        assert not list((own_cache / "archives").iterdir())
        assert {p for p in path.parent.rglob("*") if own_cache not in p.parents} == outside

    return check


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_becomes_a_folder_with_its_files(make_archive, files, own_cache, suffix):
    folder = unpack(make_archive(f"pets{suffix}", files))
    assert content(folder) == files
    assert own_cache in folder.parents and list(own_cache.rglob(".unpacking*")) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_is_unpacked_once(make_archive, files, monkeypatch, suffix):
    path = make_archive(f"pets{suffix}", files)
    folder = unpack(path)
    monkeypatch.setattr(archives, "_entries", None)
    assert unpack(path) == folder


def test_a_changed_archive_is_unpacked_again(make_archive, files):
    path = make_archive("pets.zip", files)
    first = unpack(path)
    make_archive("pets.zip", {"cats/1.png": b"other"})
    assert unpack(path) != first
    assert content(unpack(path)) == {"cats/1.png": b"other"}


def test_archives_of_one_name_in_two_places_are_two(make_archive, files, tmp_path):
    first = make_archive("pets.zip", files)
    (tmp_path / "other").mkdir()
    second = make_archive("other/pets.zip", {"cats/1.png": b"other"})
    assert content(unpack(first)) == files
    assert content(unpack(second)) == {"cats/1.png": b"other"}


@pytest.mark.parametrize("name", [f"PETS{suffix.upper()}" for suffix in SUFFIXES] + ["a.b.tar.gz"])
def test_archives_are_known_by_their_endings(name):
    assert is_archive(Path(name))


@pytest.mark.parametrize("name", ["zip", "a.rar", "a.gz", "a.zip.part", "a.jpg", "tar"])
def test_other_files_are_not_taken_for_archives(name):
    assert not is_archive(Path(name))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folders_and_what_macs_and_hidden_files_add_are_left_out(make_archive, suffix):
    unwanted = {"__MACOSX/cats/._1.png": b"x", "cats/.DS_Store": b"x", ".hidden": b"x"}
    folder = unpack(make_archive(f"pets{suffix}", {"cats/1.png": b"1", **unwanted}))
    assert content(folder) == {"cats/1.png": b"1"}


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_names_may_begin_with_the_folder_itself(make_archive, suffix):
    files = {"./cats/1.png": b"1", "./cats/./2.png": b"2"}
    assert content(unpack(make_archive(f"pets{suffix}", files))) == {"cats/1.png": b"1", "cats/2.png": b"2"}


def test_names_from_windows_become_folders(make_archive):
    assert content(unpack(make_archive("pets.tar", {"cats\\1.png": b"1"}))) == {"cats/1.png": b"1"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_empty_folders_are_no_entries(tmp_path, make_archive, kind):
    path = tmp_path / f"pets.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.mkdir("cats")
            archive.writestr("dogs/1.png", b"1")
    else:
        folder = tarfile.TarInfo("cats")
        folder.type = tarfile.DIRTYPE
        make_archive(path.name, {folder: b"", "dogs/1.png": b"1"})
    assert content(unpack(path)) == {"dogs/1.png": b"1"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_kept_in_every_form_of_tar(tmp_path, form):
    name = "/".join(["long" * 12] * 4) + "/1.png"
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        member = tarfile.TarInfo(name)
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    assert content(unpack(tmp_path / "a.tar")) == {name: b"abc"}


# what is refused: places


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "cats/../../evil.png",
        "cats/..",
        "/evil.png",
        "//evil.png",
        "///evil.png",
        "..\\evil.png",
        "\\evil.png",
        "\\\\server\\evil.png",
        "C:\\evil.png",
        "C:/evil.png",
        "c:evil.png",
        ".",
    ],
)
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_place_outside_the_folder_is_refused(make_archive, files, refused, name, suffix):
    refused(make_archive(f"pets{suffix}", {**files, name: b"evil"}), "would be written outside its folder")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_entry_without_a_name_is_refused(make_archive, refused, suffix):
    path = make_archive(f"pets{suffix}", {"?": b"x"} if suffix == ".zip" else {"": b"x"})
    if suffix == ".zip":  # zipfile does not write one either
        data = bytearray(path.read_bytes())
        for mark, length, name in ((b"PK\x01\x02", 28, 46), (b"PK\x03\x04", 26, 30)):
            start = data.index(mark)
            assert data[start + name : start + name + 1] == b"?"
            struct.pack_into("<H", data, start + length, 0)
            del data[start + name]
        end = data.index(b"PK\x05\x06")
        size, offset = struct.unpack_from("<II", data, end + 12)
        struct.pack_into("<II", data, end + 12, size - 1, offset - 1)
        path.write_bytes(data)
    refused(path, "the entry '' would be written outside its folder")


@pytest.mark.parametrize("slashes", ["", "/", "//"], ids=["one slash", "two", "three"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_absolute_place_is_never_written(make_archive, tmp_path, refused, slashes, suffix):
    refused(make_archive(f"pets{suffix}", {f"{slashes}{tmp_path}/evil.png": b"evil"}), "outside its folder")
    assert not (tmp_path / "evil.png").exists()


# what is refused: links and devices

TYPES = {
    "link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "unknown": b"Q",
}


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("target", ["cats/1.png", "/etc/passwd", "../../secret"])
def test_a_tar_with_anything_but_files_and_folders_is_refused(make_archive, files, refused, kind, target):
    member = tarfile.TarInfo("cats/evil.png")
    member.type, member.linkname = kind, target
    refused(make_archive("pets.tar", {**files, member: b""}), "'cats/evil.png' is a link or a device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_zip_with_anything_but_files_and_folders_is_refused(tmp_path, refused, kind):
    entry = zipfile.ZipInfo("cats/evil.png")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    refused(tmp_path / "pets.zip", "'cats/evil.png' is a link or a device")


# what is refused: sizes


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_than_the_limit_is_refused(make_archive, files, refused, monkeypatch, suffix):
    path = make_archive(f"pets{suffix}", files)
    total = sum(map(len, files.values()))
    monkeypatch.setattr(archives, "MAX_BYTES", total - 1)
    refused(path, "its content is larger than")
    monkeypatch.setattr(archives, "MAX_BYTES", total)
    assert content(unpack(path)) == files


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz"])
def test_an_archive_that_grows_too_much_is_refused(make_archive, refused, monkeypatch, suffix):
    path = make_archive(f"bomb{suffix}", {f"cats/{i}.png": bytes(100_000) for i in range(10)})
    size = path.stat().st_size
    assert 50 * size < 1_000_000
    monkeypatch.setattr(archives, "FREE_BYTES", 1000)
    monkeypatch.setattr(archives, "MAX_RATIO", 1_000_000 // size)
    refused(path, "for a file of this size")
    monkeypatch.setattr(archives, "MAX_RATIO", 1_000_000 // size + 1)
    assert len(content(unpack(path))) == 10


def test_a_small_archive_may_always_grow_to_a_gibibyte(make_archive):
    path = make_archive("empty.zip", {"cats/1.png": bytes(3_000_000)})
    assert path.stat().st_size * archives.MAX_RATIO < 3_000_000
    assert len(content(unpack(path))["cats/1.png"]) == 3_000_000


@pytest.mark.parametrize("hidden", ["cats/.1.png", "__MACOSX/1.png"])
def test_what_is_left_out_counts_too(make_archive, refused, monkeypatch, hidden):
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    refused(make_archive("bomb.zip", {hidden: bytes(2000)}), "its content is larger than")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_too_many_entries_are_refused(make_archive, refused, monkeypatch, suffix):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 4)
    refused(make_archive(f"a{suffix}", {f"{i}.png": b"" for i in range(5)}), "more than 4 entries")
    assert len(content(unpack(make_archive(f"b{suffix}", {f"{i}.png": b"" for i in range(4)})))) == 4


def with_sizes(path, claimed):
    """The zip at `path`, whose only entry now claims another size."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, claimed)
    struct.pack_into("<I", data, data.index(b"PK\x03\x04") + 22, claimed)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("claimed", [0, 10, 4999, 5001, 2**31])
def test_a_zip_that_lies_about_a_size_is_refused(make_archive, noise, refused, claimed):
    refused(
        with_sizes(make_archive("a.zip", {"1.png": noise(5000).tobytes()}), claimed),
        "unpacked|not as large as it says|larger than",
    )


@pytest.mark.parametrize("length", [0, 9, 11, 10_000])
def test_an_entry_that_yields_more_or_less_than_it_says_is_refused(make_archive, refused, monkeypatch, length):
    path = make_archive("a.zip", {"1.png": b""})
    monkeypatch.setattr(archives, "_entries", lambda _: iter([("1.png", 10, io.BytesIO(bytes(length)))]))
    refused(path, "'1.png' is not as large as it says")


def tar_header(name, size, kind=tarfile.REGTYPE):
    """A tar header; `size` may be negative."""
    member = tarfile.TarInfo(name)
    member.type = kind
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("size", [-1, -512, -513, -(2**40)])
def test_a_negative_size_is_refused(tmp_path, refused, size):
    first = tar_header("1.png", 3) + b"abc".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(first + tar_header("2.png", size) + bytes(1024))
    refused(tmp_path / "a.tar", "cannot be unpacked")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_note_before_an_entry_cannot_fill_the_memory(tmp_path, refused, kind):
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(tar_header("note", 2**40, kind) + bytes(2**20))
    refused(tmp_path / "a.tar.gz", "an entry of 1099511627776 bytes")


def note(kind, keyword, length):
    """A pax header of `kind` with one value of `length` characters."""
    rest = b" " + keyword.encode() + b"=" + b"x" * length + b"\n"
    record = b"%d" % (len(rest) + len(str(length + 100))) + rest
    assert int(record.split()[0]) == len(record)
    return tar_header("note", len(record), kind) + record.ljust(-(-len(record) // 512) * 512, b"\0")


def test_notes_before_many_entries_do_not_fill_the_memory(tmp_path):
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        for number in range(40):
            file.write(note(tarfile.XHDTYPE, "remark", 900_000) + tar_header(f"cats/{number}.png", 0))
        file.write(bytes(1024))
    tracemalloc.start()
    try:
        folder = unpack(tmp_path / "a.tar.gz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(content(folder)) == 40
    assert peak < 15e6  # all notes are 36 million bytes


def test_notes_for_all_entries_cannot_fill_the_memory(tmp_path, refused):
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        for number in range(10):
            file.write(note(tarfile.XGLTYPE, f"remark{number}", 200_000) + tar_header(f"cats/{number}.png", 0))
        file.write(bytes(1024))
    refused(tmp_path / "a.tar.gz", "notes for all entries of more than 1048576 bytes")


def test_a_note_for_all_entries_as_git_writes_it_is_no_obstacle(tmp_path):
    notes = note(tarfile.XGLTYPE, "comment", 140) * 2
    (tmp_path / "a.tar").write_bytes(notes + tar_header("cats/1.png", 0) + bytes(1024))
    assert content(unpack(tmp_path / "a.tar")) == {"cats/1.png": b""}


@pytest.mark.parametrize("size", ["-5", "-2", "-1"])
def test_a_negative_size_in_a_note_is_refused(tmp_path, refused, size):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("1.png")
        member.pax_headers = {"size": size}
        archive.addfile(member)
    refused(tmp_path / "a.tar", "cannot be unpacked|not as large as it says")


def test_much_after_the_end_mark_is_refused(make_archive, files, refused):
    path = make_archive("a.tar", files)
    with path.open("ab") as file:
        file.write(bytes(archives.MAX_TAIL))
    refused(path, "more stands after its end")


# what is refused: damage


def damaged(path, suffix, files, change, positions):
    """Unpacks the archive changed at each of these positions: how often it was refused; what was not is whole."""
    whole, refusals = path.read_bytes(), 0
    for number in positions:
        other = path.with_name(f"{number}{suffix}")
        other.write_bytes(change(whole, number))
        try:
            assert content(unpack(other)) == files, number
        except ArchiveError:
            refusals += 1
    return refusals


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_that_was_cut_off_anywhere_is_refused_or_whole(make_archive, files, own_cache, suffix):
    path = make_archive(f"pets{suffix}", files)
    whole = path.read_bytes()
    end = whole.index(bytes(1024), 1) if suffix == ".tar" else len(whole)  # a plain tar ends in padding
    positions = [*range(0, end, max(1, end // 60)), end - 1]
    refusals = damaged(path, suffix, files, lambda data, length: data[:length], positions)
    assert refusals == len(positions)
    assert not list((own_cache / "archives").iterdir())


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".tar"])
def test_a_flipped_bit_is_noticed_or_does_not_matter(make_archive, files, suffix):
    path = make_archive(f"pets{suffix}", files)

    def flip(data, position):
        return data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :]

    size = path.stat().st_size
    positions = range(0, size, size // 80)
    assert damaged(path, suffix, files, flip, positions) > 0.9 * len(positions)


def test_a_damaged_header_in_the_middle_of_a_tar_is_not_taken_for_its_end(make_archive, files, refused):
    path = make_archive("pets.tar", files)
    data = bytearray(path.read_bytes())
    data[data.index(b"dogs/deep") + 5] ^= 1
    path.write_bytes(data)
    refused(path, "damaged or cut off: bad checksum")


def test_a_tar_without_its_end_mark_is_refused(make_archive, files, refused):
    path = make_archive("pets.tar", files)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"dogs/deep")])
    refused(path, "damaged or cut off")


def test_a_gzipped_tar_is_compared_with_its_checksum(make_archive, files, refused):
    path = make_archive("pets.tar.gz", files)
    data = path.read_bytes()
    path.write_bytes(data[:-8] + bytes([data[-8] ^ 1]) + data[-7:])
    refused(path, "CRC check failed")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("data", [b"", b"PK", b"I am a text\n" * 90, b"\x1f\x8b"], ids=["empty", "zip", "text", "gzip"])
def test_what_is_no_archive_is_refused(tmp_path, refused, suffix, data):
    (tmp_path / f"a{suffix}").write_bytes(data)
    refused(tmp_path / f"a{suffix}", "cannot be unpacked")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused(tmp_path, noise, refused, suffix, seed):
    magic = {".zip": b"PK\x03\x04", ".tar.gz": b"\x1f\x8b\x08\0", ".tar.xz": b"\xfd7zXZ\0", ".tar.bz2": b"BZh9"}
    (tmp_path / f"a{suffix}").write_bytes(magic.get(suffix, b"") + noise(4000, seed=seed).tobytes())
    refused(tmp_path / f"a{suffix}", "cannot be unpacked")


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz", ".tar.bz2"])
def test_the_content_decides_how_a_tar_is_compressed(make_archive, files, tmp_path, suffix):
    path = make_archive(f"pets{suffix}", files)
    assert content(unpack(path.rename(tmp_path / "pets.tar"))) == files


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize(
    "names",
    [["a.png", "a.png"], ["a", "a/b.png"], ["a/b.png", "a"]],
    ids=["twice", "file then folder", "folder then file"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_in_one_place_are_the_archives_fault(tmp_path, refused, suffix, names):
    path = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
    else:
        with tarfile.open(path, "w") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name))
    refused(path, "cannot be unpacked")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_name_too_long_for_the_disk_is_the_archives_fault(make_archive, refused, suffix):
    refused(make_archive(f"a{suffix}", {"x" * 300 + ".png": b""}), "cannot be unpacked")


def test_an_encrypted_zip_is_refused(make_archive, refused):
    path = make_archive("a.zip", {"1.png": b"abc"})
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)
    refused(path, "encrypted")


# several at once, and disks


def test_of_two_at_once_both_get_the_whole_folder(make_archive, files, monkeypatch, own_cache):
    path, answers, unpackings = make_archive("pets.zip", files), [], []
    begun, write = threading.Event(), archives._write_entries

    def write_slowly(*arguments):
        begun.set()
        unpackings.append(arguments)
        time.sleep(0.2)  # the other one comes meanwhile
        write(*arguments)

    monkeypatch.setattr(archives, "_write_entries", write_slowly)
    threads = [threading.Thread(target=lambda: answers.append(unpack(path))) for _ in range(2)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert len(answers) == 2 and answers[0] == answers[1]
    assert content(answers[0]) == files
    assert len(unpackings) == 1
    assert list((own_cache / "archives").iterdir()) == [answers[0].parent]


TOGETHER = """
import pathlib, sys, time
from eyebright.data import archives
write = archives._write_entries
def write_slowly(*arguments):
    with open(sys.argv[2], "a") as log:
        log.write("unpacks\\n")
    time.sleep(0.5)
    write(*arguments)
archives._write_entries = write_slowly
print("ready", flush=True)
sys.stdin.readline()
print(archives.unpack(pathlib.Path(sys.argv[1])))
"""


def test_of_two_processes_at_once_one_unpacks_and_the_other_waits(make_archive, files, own_cache, tmp_path):
    path, log = make_archive("pets.zip", files), tmp_path / "log"
    arguments = [sys.executable, "-c", TOGETHER, str(path), str(log)]
    processes = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [Path(process.communicate()[0].strip()) for process in processes]
    assert answers[0] == answers[1]
    assert content(answers[0]) == files
    assert log.read_text() == "unpacks\n"
    assert list((own_cache / "archives").iterdir()) == [answers[0].parent]


KILLED = {
    "its first file half written": """
def write(entries, folder, *_):
    (folder / "half.png").write_bytes(b"half")
    die()
archives._write_entries = write
""",
    "without a manifest": "cache._write_manifest = die",
    "with a manifest": "cache.Path.rename = die",
}


@pytest.mark.parametrize("program", KILLED.values(), ids=KILLED)
def test_a_process_that_was_killed_while_unpacking_is_not_in_the_way(make_archive, files, own_cache, program):
    path = make_archive("pets.zip", files)
    program = f"""
import os, pathlib, signal
from eyebright.data import archives, cache
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
{program}
archives.unpack(pathlib.Path({str(path)!r}))
"""
    killed = subprocess.run([sys.executable, "-c", program])
    assert killed.returncode == -signal.SIGKILL
    assert len(list((own_cache / "archives").iterdir())) == 1  # what it left
    folder = unpack(path)
    assert content(folder) == files
    assert list((own_cache / "archives").iterdir()) == [folder.parent]


def lose(folder):
    next(path for path in folder.rglob("*.png")).unlink()


def cut_off(folder):
    path = next(path for path in folder.rglob("*.png"))
    path.write_bytes(path.read_bytes()[:-1])


def overwrite(folder):
    path = folder / "dogs" / "a b ü.png"
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, ns=(0, 0))


def rename(folder):
    (folder / "cats" / "1.png").rename(folder / "cats" / "1b.png")


def add(folder):
    (folder / "cats" / "more.png").write_bytes(b"more")


def lose_the_manifest(folder):
    (folder.parent / "manifest.safetensors").unlink()


def cut_off_the_manifest(folder):
    path = folder.parent / "manifest.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def change_the_manifest(folder):
    path = folder.parent / "manifest.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def overwrite_the_manifest(folder):
    (folder.parent / "manifest.safetensors").write_bytes(b"I am a text")


def replace_by_a_link(folder):
    path = next(path for path in folder.rglob("*.png"))
    path.rename(folder.parent / "elsewhere.png")
    path.symlink_to(folder.parent / "elsewhere.png")


def lose_all(folder):
    shutil.rmtree(folder)


def put_a_file_in_its_place(folder):
    shutil.rmtree(folder.parent)
    folder.parent.write_text("in the way")


def put_a_link_in_its_place(folder):
    elsewhere = folder.parent.rename(folder.parents[2] / "elsewhere")
    folder.parent.symlink_to(elsewhere)
    lose(folder)


def put_a_file_in_the_unfinished_ones_place(folder):
    lose(folder)
    folder.parent.with_name(f".unpacking-{folder.parent.name}").write_text("in the way")


SPOILT = [
    lose, lose_all, cut_off, overwrite, rename, add, replace_by_a_link, lose_the_manifest, cut_off_the_manifest,
    change_the_manifest, overwrite_the_manifest, put_a_file_in_its_place, put_a_link_in_its_place,
    put_a_file_in_the_unfinished_ones_place,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_folder_that_is_no_longer_as_it_was_unpacked_is_unpacked_again(make_archive, files, own_cache, spoil):
    path = make_archive("pets.zip", files)
    folder = unpack(path)
    spoil(folder)
    assert unpack(path) == folder
    assert content(folder) == files
    assert list((own_cache / "archives").iterdir()) == [folder.parent]
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["files", "manifest.safetensors"]


def test_a_folder_that_is_as_it_was_is_not_unpacked_again(make_archive, files, monkeypatch):
    path = make_archive("pets.zip", files)
    folder = unpack(path)
    monkeypatch.setattr(archives, "_write_entries", None)
    assert unpack(path) == folder


def test_an_archive_without_files_is_an_empty_folder_that_is_found_again(make_archive, monkeypatch):
    path = make_archive("empty.zip", {})
    folder = unpack(path)
    assert content(folder) == {}
    monkeypatch.setattr(archives, "_write_entries", None)
    assert unpack(path) == folder


def test_names_that_are_no_text_are_unpacked_once(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("café/1.png"))
    folder = unpack(tmp_path / "a.tar")
    assert [os.fsencode(entry.name) for entry in folder.iterdir()] == [b"caf\xe9"]
    monkeypatch.setattr(archives, "_write_entries", None)
    assert unpack(tmp_path / "a.tar") == folder


@pytest.mark.parametrize("letter", ["x", "é", "🌼"])
def test_an_archives_name_may_be_as_long_as_the_disk_allows(make_archive, files, letter):
    name = letter * (251 // len(letter.encode())) + ".zip"
    assert content(unpack(make_archive(name, files))) == files


def test_the_disk_has_all_files_before_the_folder_gets_its_name(make_archive, files, monkeypatch):
    order, sync, rename = [], os.sync, Path.rename
    monkeypatch.setattr(cache.os, "sync", lambda: (order.append("sync"), sync()))
    monkeypatch.setattr(cache.Path, "rename", lambda *paths: (order.append("rename"), rename(*paths))[1])
    unpack(make_archive("pets.zip", files))
    assert order == ["sync", "rename"]


def test_a_disk_without_locks_is_not_the_archives_fault(make_archive, files, monkeypatch, refuses):
    def fail(*_):
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(cache.FileLock, "acquire", fail)
    with refuses(OutputError, "cannot unpack .*: no locks here"):
        unpack(make_archive("pets.zip", files))


def test_a_damaged_folder_that_cannot_be_removed_is_not_the_archives_fault(make_archive, files, monkeypatch, refuses):
    path = make_archive("pets.zip", files)
    lose(unpack(path))

    def denied(place, ignore_errors=False):
        if not ignore_errors:
            raise FileExistsError(17, "File exists")  # which, of an entry, would be the archive's fault

    monkeypatch.setattr(cache.shutil, "rmtree", denied)
    with refuses(OutputError, "cannot unpack .*: File exists"):
        unpack(path)


def test_a_disk_that_is_full_is_not_the_archives_fault(make_archive, files, monkeypatch, own_cache, refuses):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_write_entries", full)
    with refuses(OutputError, "No space left") as raised:
        unpack(make_archive("pets.zip", files))
    assert "EYEBRIGHT_CACHE" in raised.value.remedy
    assert not list((own_cache / "archives").iterdir())


def test_a_cache_that_cannot_be_written_is_not_the_archives_fault(make_archive, files, monkeypatch, refuses):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache.Path, "mkdir", denied)
    with refuses(OutputError, "Permission denied"):
        unpack(make_archive("pets.zip", files))


def test_a_cache_whose_place_is_a_file_is_an_output_error(make_archive, files, tmp_path, monkeypatch, refuses):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "file"))
    with refuses(OutputError, "cannot write"):
        unpack(make_archive("pets.zip", files))


def test_an_interrupted_unpacking_leaves_nothing(make_archive, files, monkeypatch, own_cache):
    def interrupted(entries, folder, *_):
        (folder / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "_write_entries", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(make_archive("pets.zip", files))
    assert not list((own_cache / "archives").iterdir())


def test_an_unpacked_folder_has_the_rights_that_the_user_gives_to_new_folders(make_archive, files):
    before = os.umask(0o022)
    try:
        folder = unpack(make_archive("pets.zip", files))
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_the_real_archives_are_unpacked(shared_file):
    folder = unpack(shared_file("photos.zip"))
    assert len(list(folder.rglob("*.JPEG"))) == 200


def test_xz_is_read_by_its_blocks(make_archive, files, tmp_path):
    plain = make_archive("pets.tar", files).read_bytes()
    (tmp_path / "pets.tar.xz").write_bytes(lzma.compress(plain[:1000]) + lzma.compress(plain[1000:]))
    assert content(unpack(tmp_path / "pets.tar.xz")) == files


# a tar of tars


def test_the_tars_inside_an_archive_become_folders(make_archive, files):
    inner = {name: make_archive(f"{name}.tar", inside).read_bytes() for name, inside in (("a", files), ("b", {}))}
    outer = make_archive("all.tar", {"a.tar": inner["a"], "in/b.tar": inner["b"], "notes.txt": b"a note"})
    expected = {f"a/{name}": data for name, data in files.items()} | {"notes.txt": b"a note"}
    assert content(unpack(outer, nested=True)) == expected
    assert content(unpack(outer)) == {"a.tar": inner["a"], "in/b.tar": inner["b"], "notes.txt": b"a note"}


@pytest.mark.parametrize("entry", ["../evil.png", "../../evil.png", "x/../../evil.png"])
def test_a_place_outside_the_folder_is_refused_in_inner_tars_too(make_archive, refuses, own_cache, entry):
    outer = make_archive("all.tar", {"a.tar": make_archive("a.tar", {entry: b"x"}).read_bytes()})
    with refuses(ArchiveError, "would be written outside its folder"):
        unpack(outer, nested=True)
    assert not [path for path in own_cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_damaged_inner_tar_and_one_that_grows_too_much_are_refused(make_archive, files, refuses, monkeypatch):
    inner = make_archive("a.tar", files).read_bytes()
    with refuses(ArchiveError, "cannot be unpacked"):
        unpack(make_archive("cut.tar", {"a.tar": inner[: len(inner) // 2]}), nested=True)
    monkeypatch.setattr(archives, "MAX_BYTES", 30_000)
    with refuses(ArchiveError, "larger than"):
        unpack(make_archive("all.tar", {"a.tar": inner}), nested=True)
