import json
import os
import pickle
import signal
import struct
import zipfile

import pytest
import torch

from eyebright.errors import OutputError, StoredFileError
from eyebright.files import (
    MAX_HEADER,
    make_folder,
    read_safetensors,
    write_atomically,
    write_json,
    write_safetensors,
    write_text,
)

KIND = "eyebright.classifier"
HEADER = {"format_version": 1, "classes": ["ant", "bée"], "metrics": {"top1": 0.75}}


def tensors():
    random = torch.Generator().manual_seed(0)
    return {
        "model.weight": torch.randn(4, 3, generator=random),
        "model.bias": torch.randn(4, generator=random).to(torch.bfloat16),
        "model.steps": torch.tensor(7),
        "model.none": torch.empty(0, 3),
    }


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "classifier.safetensors"
    write_safetensors(path, tensors(), KIND, HEADER)
    return path


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def failing_writes():
    def half(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    def bug(path):
        path.write_text("half")
        raise ZeroDivisionError

    def interrupted(path):
        path.write_text("half")
        raise KeyboardInterrupt

    return {
        "full disk": (half, OutputError),
        "bug": (bug, ZeroDivisionError),
        "Ctrl-C": (interrupted, KeyboardInterrupt),
    }


@pytest.mark.parametrize(("write", "raised"), failing_writes().values(), ids=failing_writes())
def test_a_failing_write_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, write, raised):
    path = tmp_path / "report.html"
    path.write_text("the old one")
    with pytest.raises(raised):
        write_atomically(path, write)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_first_write_leaves_nothing(tmp_path):
    with pytest.raises(OutputError):
        write_atomically(tmp_path / "report.html", failing_writes()["full disk"][0])
    assert not list(tmp_path.iterdir())


def test_the_new_content_stands_beside_the_old_until_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    seen = []

    def write(temporary):
        temporary.write_text("new")
        seen.append((temporary.parent, temporary != path, path.read_text()))

    write_atomically(path, write)
    assert seen == [(tmp_path, True, "old")]
    assert path.read_text() == "new"
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
    assert json.loads(text) == {"name": "bée", "values": [1, 2.5, None]}
    assert "bée" in text and text.endswith("}\n") and text.count("\n") > 3
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


def test_folders_are_made_with_those_above_and_again(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_in_the_place_of_a_file_is_an_output_error(tmp_path, refuses):
    (tmp_path / "a").write_text("")
    with refuses(OutputError, "cannot write"):
        make_folder(tmp_path / "a" / "b")


def test_safetensors_come_back_bit_for_bit(stored):
    read, header = read_safetensors(stored, KIND, 1)
    assert header == HEADER
    assert read.keys() == tensors().keys()
    for name, value in tensors().items():
        assert read[name].dtype == value.dtype and torch.equal(read[name], value), name


def test_special_floats_keep_their_bits(tmp_path):
    values = torch.tensor([float("nan"), -0.0, float("inf"), 1e-45])
    write_safetensors(tmp_path / "a.safetensors", {"a": values}, KIND, HEADER)
    read, _ = read_safetensors(tmp_path / "a.safetensors", KIND, 1)
    assert torch.equal(read["a"].view(torch.int32), values.view(torch.int32))


@pytest.mark.parametrize(
    "view",
    [lambda x: x.t(), lambda x: x[:, 1:], lambda x: x[::2], lambda x: x.requires_grad_()],
    ids=["transposed", "part", "every second", "with gradient"],
)
def test_views_are_stored_as_what_they_show(tmp_path, view):
    value = view(torch.arange(12.0).view(4, 3))
    write_safetensors(tmp_path / "a.safetensors", {"a": value}, KIND, HEADER)
    assert torch.equal(read_safetensors(tmp_path / "a.safetensors", KIND, 1)[0]["a"], value.detach())


def test_channels_last_weights_are_stored_by_their_values(tmp_path):
    value = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    write_safetensors(tmp_path / "a.safetensors", {"a": value}, KIND, HEADER)
    assert torch.equal(read_safetensors(tmp_path / "a.safetensors", KIND, 1)[0]["a"], value)


def test_a_header_with_numbers_as_keys_can_be_read_again(tmp_path):
    counts = {number: number for number in range(12)}  # as numbers 2 comes before 10, as text after it
    write_safetensors(tmp_path / "a.safetensors", tensors(), KIND, HEADER | {"counts": counts})
    _, header = read_safetensors(tmp_path / "a.safetensors", KIND, 1)
    assert header["counts"] == {str(number): number for number in range(12)}


def test_a_header_of_a_thousand_classes_is_read(tmp_path):
    classes = [f"n{number:08}, a kind of animal" for number in range(1000)]
    write_safetensors(tmp_path / "a.safetensors", tensors(), KIND, HEADER | {"classes": classes})
    assert read_safetensors(tmp_path / "a.safetensors", KIND, 1)[1]["classes"] == classes


def test_the_given_header_is_not_changed(tmp_path):
    header = dict(HEADER)
    write_safetensors(tmp_path / "a.safetensors", tensors(), KIND, header)
    assert header == HEADER


def test_weights_that_do_not_fit_are_an_output_error_and_the_old_file_stays(stored, refuses):
    resource = pytest.importorskip("resource")
    before, limits = stored.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with refuses(OutputError, "cannot write"):
            write_safetensors(stored, {"a": torch.zeros(10_000)}, KIND, HEADER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert stored.read_bytes() == before
    assert list(stored.parent.iterdir()) == [stored]


def test_a_flipped_bit_in_any_byte_of_the_header_and_many_of_the_weights_is_noticed(stored):
    whole = stored.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    for position in [*range(8 + length), *range(8 + length, len(whole), 3)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        stored.write_bytes(damaged)
        with pytest.raises(StoredFileError):
            read_safetensors(stored, KIND, 1)


def test_a_file_that_was_cut_off_anywhere_is_noticed(stored):
    whole = stored.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        stored.write_bytes(whole[:length])
        with pytest.raises(StoredFileError):
            read_safetensors(stored, KIND, 1)


def test_weights_that_changed_places_are_noticed(tmp_path, refuses):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": torch.ones(3), "b": torch.zeros(3)}, KIND, HEADER)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({"a": torch.zeros(3), "b": torch.ones(3)}, path, metadata)
    with refuses(StoredFileError, "checksum is wrong"):
        read_safetensors(path, KIND, 1)


def pickles(trap):
    """Every form that a pickle comes in."""
    return {f"protocol {number}": pickle.dumps(trap, number) for number in range(6)}


@pytest.mark.parametrize("form", [*(f"protocol {number}" for number in range(6)), "torch.save", "old torch.save"])
def test_a_pickle_with_another_name_is_refused_and_never_unpickled(tmp_path, form, refuses):
    trap = Trap(tmp_path / "sprung")
    path = tmp_path / "weights.safetensors"
    if form.startswith("protocol"):
        path.write_bytes(pickles(trap)[form])
    else:
        torch.save(trap, path, _use_new_zipfile_serialization=form == "torch.save")
    old_text_form = form in ("protocol 0", "protocol 1")
    with refuses(StoredFileError, "header" if old_text_form else "pickle can run any program"):
        read_safetensors(path, KIND, 1)
    assert not (tmp_path / "sprung").exists()


def test_the_trap_of_these_tests_would_spring(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").is_dir()


def test_a_zip_is_refused(tmp_path, refuses):
    with zipfile.ZipFile(tmp_path / "a.safetensors", "w") as archive:
        archive.writestr("a", "a")
    with refuses(StoredFileError, "zip, which eyebright never opens"):
        read_safetensors(tmp_path / "a.safetensors", KIND, 1)


def with_header(header):
    return struct.pack("<Q", len(header)) + header


WRONG_FILES = {
    "empty": (b"", "it is empty"),
    "text": (b"hello, I am a text that is long enough", "not an eyebright header"),
    "too short for a length": (b"abc", "not an eyebright header"),
    "length beyond the file": (struct.pack("<Q", 2**63) + b"{}", "not an eyebright header"),
    "length beyond the limit": (struct.pack("<Q", MAX_HEADER + 1), "not an eyebright header"),
    "length beyond the file by one": (struct.pack("<Q", 3) + b"{}", "not an eyebright header"),
    "header is no JSON": (with_header(b"{nothing}"), "not an eyebright header"),
    "header is a list": (with_header(b"[]"), "not an eyebright header"),
    "header is deep": (with_header(b"[" * 100_000), "not an eyebright header"),
    "header is not UTF-8": (with_header(b'{"\xff": 1}'), "not an eyebright header"),
    "no metadata": (with_header(b"{}"), "not an eyebright header"),
    "metadata of somebody else": (with_header(b'{"__metadata__": {"format": "pt"}}'), "not an eyebright header"),
    "inner header is a number": (with_header(json.dumps({"__metadata__": {KIND: "1"}}).encode()), "not an eyebright"),
    "no version": (with_header(json.dumps({"__metadata__": {KIND: "{}"}}).encode()), "not an eyebright header"),
}


@pytest.mark.parametrize(("content", "reason"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_that_is_something_else_is_refused_with_the_reason(tmp_path, content, reason, refuses):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with refuses(StoredFileError, reason) as raised:
        read_safetensors(path, KIND, 1)
    assert f"cannot read {path} as a classifier" in str(raised.value)


def test_weights_of_another_kind_are_refused(stored, refuses):
    with refuses(StoredFileError, "as a checkpoint: its header is not an eyebright header"):
        read_safetensors(stored, "eyebright.checkpoint", 1)


def test_a_missing_file_is_refused(tmp_path, refuses):
    with refuses(StoredFileError, "there is no such file"):
        read_safetensors(tmp_path / "a.safetensors", KIND, 1)


def test_a_folder_is_refused(tmp_path, refuses):
    with refuses(StoredFileError, "there is no such file"):
        read_safetensors(tmp_path, KIND, 1)


@pytest.mark.parametrize("version", [2, 99, "1", 1.5, None])
def test_a_version_that_is_not_known_asks_for_an_update(tmp_path, version):
    write_safetensors(tmp_path / "a.safetensors", tensors(), KIND, HEADER | {"format_version": version})
    with pytest.raises(StoredFileError, match=f"format version {version}") as raised:
        read_safetensors(tmp_path / "a.safetensors", KIND, 1)
    assert raised.value.remedy == "update eyebright"


def test_an_older_version_is_read(stored):
    assert read_safetensors(stored, KIND, 3)[1]["format_version"] == 1
