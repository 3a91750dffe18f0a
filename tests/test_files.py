import errno
import json
import os
import stat

import pytest

from eyebright import files
from eyebright.errors import OutputError, StoredFileError
from eyebright.files import (
    append_line,
    cache_folder,
    cut,
    file_digest,
    make_folder,
    read_json,
    remove,
    remove_unfinished,
    sync,
    write_atomically,
    write_json,
    write_text,
)


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("EYEBRIGHT_CACHE")
    assert cache_folder().name == "eyebright"


def failing(error):
    """Content of which the second piece cannot be had."""
    yield b"half"
    raise error


FAILURES = {
    "full disk": (OSError(28, "No space left on device"), OutputError),
    "bug": (ZeroDivisionError(), ZeroDivisionError),
    "Ctrl-C": (KeyboardInterrupt(), KeyboardInterrupt),
}


@pytest.mark.parametrize(("error", "raised"), FAILURES.values(), ids=FAILURES)
def test_a_failing_write_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, error, raised):
    path = tmp_path / "report.html"
    path.write_text("the old one")
    with pytest.raises(raised):
        write_atomically(path, failing(error))
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_first_write_leaves_nothing(tmp_path, refuses):
    with refuses(OutputError, "No space left on device"):
        write_atomically(tmp_path / "report.html", failing(FAILURES["full disk"][0]))
    assert not list(tmp_path.iterdir())


def test_the_new_content_stands_beside_the_old_until_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def content():
        yield b"new"
        (temporary,) = set(tmp_path.iterdir()) - {path}
        assert (temporary.read_text(), path.read_text()) == ("new", "old")
        yield b" and more"

    write_atomically(path, content())
    assert path.read_text() == "new and more"
    assert list(tmp_path.iterdir()) == [path]


def test_content_and_folder_are_synced_around_the_renaming(tmp_path, monkeypatch):
    path, synced = tmp_path / "a.txt", []
    fsync = os.fsync

    def record(descriptor):
        synced.append((os.path.isdir(f"/proc/self/fd/{descriptor}"), path.exists()))  # noqa: PTH112
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_text(path, "text")
    assert [exists for _, exists in synced] == [False, True]
    if os.path.exists("/proc/self/fd"):  # noqa: PTH110
        assert [is_folder for is_folder, _ in synced] == [False, True]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_written_file_has_the_rights_that_the_user_gives_to_new_files(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


def test_writing_leaves_the_rights_of_later_files_alone(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "text")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_folder_that_is_missing_is_an_output_error(tmp_path, refuses):
    with refuses(OutputError, "nowhere"):
        write_text(tmp_path / "nowhere" / "a.txt", "text")


def test_json_is_written_for_people_and_refuses_what_json_cannot_say(tmp_path):
    write_json(tmp_path / "a.json", {"name": "bée", "values": [1, 2.5, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text).items() > {"name": "bée", "values": [1, 2.5, None]}.items()
    assert "bée" in text and text.endswith("}\n") and text.count("\n") > 3
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


def test_folders_are_made_with_those_above_and_again(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_in_the_place_of_a_file_is_an_output_error(tmp_path, refuses):
    (tmp_path / "a").write_text("")
    with refuses(OutputError, "cannot write"):
        make_folder(tmp_path / "a" / "b")


def test_a_file_in_the_place_of_a_folder_is_an_output_error(tmp_path, refuses):
    (tmp_path / "a").write_text("")
    with refuses(OutputError, "is a file"):
        make_folder(tmp_path / "a")


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"name": "bée", "values": [1, 2.5, None, 1e-300], "inner": {"b": 1, "a": True}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", "test") == value


SPOILT = {
    "a digit": (lambda text: text.replace("0.5", "0.6"), "its checksum is wrong"),
    "a key more": (lambda text: text.replace("{", '{"x": 1,', 1), "its checksum is wrong"),
    "cut off": (lambda text: text[:20], "it is damaged"),
    "empty": (lambda text: "", "it is damaged"),
    "without checksum": (lambda text: '{"top1": 0.5}', "it is damaged: 'sha256'"),
    "a list": (lambda text: "[1]", "it is damaged"),
    "deep": (lambda text: "[" * 100_000, "it is damaged"),
}


@pytest.mark.parametrize(("spoil", "says"), SPOILT.values(), ids=SPOILT)
def test_json_that_was_changed_is_refused(tmp_path, spoil, says, refuses):
    path = tmp_path / "a.json"
    write_json(path, {"top1": 0.5})
    path.write_text(spoil(path.read_text()))
    with refuses(StoredFileError, f"as a list of figures: {says}"):
        read_json(path, "list of figures")


def test_json_that_is_too_large_is_not_read(tmp_path, monkeypatch, refuses):
    write_json(tmp_path / "a.json", {"text": "x" * 100})
    monkeypatch.setattr(files, "MAX_JSON", 100)
    with refuses(StoredFileError, "more than 0 MiB"):
        read_json(tmp_path / "a.json", "test")


def test_json_that_is_missing_is_refused(tmp_path, refuses):
    with refuses(StoredFileError, "No such file"):
        read_json(tmp_path / "a.json", "test")


def test_lines_are_added_whole_or_not_at_all(tmp_path, monkeypatch, refuses):
    path = tmp_path / "lines.jsonl"
    for line in ("one", "two"):
        append_line(path, line)
    sync(path)
    write = os.write

    def write_half_and_fail(descriptor, data):
        write(descriptor, data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write_half_and_fail)
    with refuses(OutputError, "No space left"):
        append_line(path, "three")
    assert path.read_text() == "one\ntwo\n"


def test_a_line_that_is_written_in_pieces_is_whole(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    append_line(tmp_path / "a", "a long line")
    write_text(tmp_path / "b", "a long text")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("a long line\n", "a long text")


def test_a_file_is_cut_and_removed(tmp_path, refuses):
    write_text(tmp_path / "a", "abcdef")
    cut(tmp_path / "a", 4)
    assert (tmp_path / "a").read_text() == "abcd"
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    assert not list(tmp_path.iterdir())
    with refuses(OutputError, "No such file"):
        cut(tmp_path / "a", 0)
    with refuses(OutputError, "No such file"):
        sync(tmp_path / "a")


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in (".a.json.1234abcd.part", ".lock", "a.part", "a.json"):
        (tmp_path / name).write_text("")
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "a.part", "a.json"}


def test_a_digest_is_of_the_beginning(tmp_path, refuses):
    write_text(tmp_path / "a", "abcdef")
    write_text(tmp_path / "b", "abc")
    assert file_digest(tmp_path / "a", 3) == file_digest(tmp_path / "b") == file_digest(tmp_path / "b", 3)
    assert file_digest(tmp_path / "a") != file_digest(tmp_path / "a", 3)
    with refuses(StoredFileError, "its last 1 bytes are missing"):
        file_digest(tmp_path / "b", 4)
    with refuses(StoredFileError, "No such file"):
        file_digest(tmp_path / "c")


@pytest.mark.parametrize(("code", "raises"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_synced_is_no_error_but_a_failing_disk_is(tmp_path, monkeypatch, code, raises):
    fsync = os.fsync

    def fail_for_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    if raises:
        with pytest.raises(OutputError):
            write_text(tmp_path / "a", "text")
    else:
        write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
