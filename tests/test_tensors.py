import hashlib
import json
import os
import pickle
import signal
import struct
import zipfile

import pytest
import torch

from eyebright.errors import OutputError, StoredFileError
from eyebright.tensors import MAX_HEADER, NO_CHECKSUM, START, read_safetensors, write_safetensors

KIND = "eyebright.classifier"
HEADER = {"format_version": 1, "classes": ["ant", "bée"], "metrics": {"top1": 0.75}}
READ = {"classes": ["ant", "bée"], "metrics": {"top1": 0.75}}


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


def test_safetensors_come_back_bit_for_bit(stored):
    read, header = read_safetensors(stored, KIND, 1)
    assert header == READ
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
    with pytest.raises(StoredFileError):  # the metadata's order is left to chance there
        read_safetensors(path, KIND, 1)


def test_two_swapped_values_are_noticed(stored, refuses):
    whole = bytearray(stored.read_bytes())
    whole[-4:-2], whole[-2:] = whole[-2:], whole[-4:-2]
    stored.write_bytes(whole)
    with refuses(StoredFileError, "its checksum is wrong"):
        read_safetensors(stored, KIND, 1)


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
    with refuses(StoredFileError, "it is none, or damaged" if old_text_form else "pickle can run any program"):
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


def with_table(table, content=b""):
    """A file with this table and the checksum that belongs to it."""
    table = {"__metadata__": {"sha256": NO_CHECKSUM.decode()} | table.get("__metadata__", {})} | {
        name: entry for name, entry in table.items() if name != "__metadata__"
    }
    text = json.dumps(table, separators=(",", ":")).encode()
    whole = struct.pack("<Q", len(text)) + text + content
    return whole.replace(NO_CHECKSUM, hashlib.sha256(whole).hexdigest().encode(), 1)


def with_header(header):
    return with_table({"__metadata__": {KIND: header if isinstance(header, str) else json.dumps(header)}})


def behind_length(text):
    return struct.pack("<Q", len(text)) + text


WRONG_FILES = {
    "empty": (b"", "it is empty"),
    "too short for a length": (b"abc", "it is cut off after 3 bytes"),
    "text": (b"hello, I am a text that is long enough", "it begins with the bytes 68 65 6c 6c 6f"),
    "length beyond the limit": (struct.pack("<Q", MAX_HEADER + 1) + START, "its header has 4,194,305 bytes, more than"),
    "length of everything": (struct.pack("<Q", 2**63) + START, "bytes, more than"),
    "length beyond the file": (struct.pack("<Q", 200) + START, "its header alone has 200 bytes, the file 35"),
    "length too small": (struct.pack("<Q", 40) + START + b"x" * 100, "it gives its header 40 bytes"),
    "header is no JSON": (behind_length(b"{nothing}"), "does not begin with a checksum"),
    "another program's": (behind_length(b'{"__metadata__": {"format": "pt"}}'), "another program's safetensors file"),
    "wrong checksum": (behind_length(START + b"0" * 80), "its checksum is wrong"),
    "nothing of ours": (with_table({}), "it is a file of nothing"),
    "header is a number": (with_header("1"), "its header has no format version"),
    "header is no JSON of ours": (with_header("{nothing"), "its header is not as it should be"),
    "header is deep": (with_header("[" * 100_000), "its header is not as it should be"),
    "no version": (with_header({}), "its header has no format version"),
    "version is text": (with_header({"format_version": "1"}), "its header has no format version"),
    "tensor without its bytes": (
        with_table({"__metadata__": {KIND: '{"format_version": 1}'},
                    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        "its tensors are not as its header says",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_that_is_something_else_is_refused_with_the_reason(tmp_path, content, reason, refuses):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with refuses(StoredFileError, reason) as raised:
        read_safetensors(path, KIND, 1)
    assert f"cannot read {path} as a classifier" in str(raised.value)


def test_weights_of_another_kind_are_refused(stored, refuses):
    with refuses(StoredFileError, "as a checkpoint: it is a classifier"):
        read_safetensors(stored, "eyebright.checkpoint", 1)


def test_a_missing_file_is_refused(tmp_path, refuses):
    with refuses(StoredFileError, "No such file"):
        read_safetensors(tmp_path / "a.safetensors", KIND, 1)


def test_a_folder_is_refused(tmp_path, refuses):
    with refuses(StoredFileError, "Is a directory"):
        read_safetensors(tmp_path, KIND, 1)


@pytest.mark.parametrize("version", [2, 99])
def test_a_version_that_is_not_known_asks_for_an_update(tmp_path, version):
    write_safetensors(tmp_path / "a.safetensors", tensors(), KIND, HEADER | {"format_version": version})
    with pytest.raises(StoredFileError, match=f"format version {version}") as raised:
        read_safetensors(tmp_path / "a.safetensors", KIND, 1)
    assert raised.value.remedy == "update eyebright"


def test_an_older_version_is_read(stored):
    assert read_safetensors(stored, KIND, 3)[1] == READ


def test_other_programs_can_read_the_file(stored):
    from safetensors.torch import load_file

    loaded = load_file(stored)
    assert all(torch.equal(loaded[name], value) for name, value in tensors().items())


def test_the_checksum_is_that_of_the_file_with_zeros_in_its_place(stored):
    whole = stored.read_bytes()
    begin = 8 + len(START)
    checksum = whole[begin : begin + 64]
    assert hashlib.sha256(whole.replace(checksum, NO_CHECKSUM)).hexdigest().encode() == checksum
