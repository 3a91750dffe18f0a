import json

import numpy as np
import pytest

from eyebright.data.sources import load_data, load_parts
from eyebright.errors import ArchiveError, DataError


@pytest.fixture
def picture(noise, encode):
    """`picture(5)`: an encoded picture of its own."""
    return lambda seed: encode(noise(5, 4, 3, seed=seed), "JPEG")


@pytest.fixture
def shard(make_archive, picture):
    """`shard("a.tar", [3, 0, 1])`: a tar of samples with these labels; `tell` makes a label's ending and content."""

    def make(name, labels, tell=lambda label: ("cls", str(label)), first=0, more=None):
        files = dict(more or {})
        for number, label in enumerate(labels, start=first):
            ending, text = tell(label)
            files[f"{number:05}.jpg"] = picture(number)
            files[f"{number:05}.{ending}"] = text.encode()
        return make_archive(name, files)

    return make


WAYS = {
    "cls": lambda label: ("cls", f"{label}\n"),
    "json label": lambda label: ("json", json.dumps({"label": label, "size": [1, 2]})),
    "json cls": lambda label: ("JSON", json.dumps({"cls": str(label)})),
    "txt": lambda label: ("txt", str(label)),
}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("tell", WAYS.values(), ids=WAYS)
def test_every_way_of_telling_a_class(shard, picture, tell, suffix):
    train = load_parts(shard(f"a{suffix}", [10, 2, 7, 2], tell))["train"]
    assert train.classes == ("2", "7", "10") and train.labels.tolist() == [2, 0, 1, 0]
    assert train.labels.dtype == np.int64
    assert [path.read_bytes() for path in train.paths] == [picture(i) for i in range(4)]


@pytest.mark.parametrize("tell", WAYS.values(), ids=WAYS)
def test_classes_may_be_told_by_name(shard, tell):
    train = load_parts(shard("a.tar", ["dog", "Käse, alt", "dog"], tell))["train"]
    assert train.classes == ("Käse, alt", "dog") and train.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("inside", [True, False])
def test_a_list_of_classes_names_them(shard, tmp_path, inside):
    text = b"owl\n\ncat\r\ndog\n"
    path = shard("a.tar", [2, 0, 2], more={"classes.txt": text} if inside else None)
    if not inside:
        (tmp_path / "classes.txt").write_bytes(text)
    train = load_parts(path)["train"]
    assert train.classes == ("owl", "cat", "dog") and train.labels.tolist() == [2, 0, 2]


def test_keys_may_have_folders_and_other_files_beside_them(make_archive, picture):
    files = {}
    for i, key in enumerate(["b/1", "a/1", "a/2"]):
        files |= {f"{key}.jpg": picture(i), f"{key}.cls": f"{i}".encode(), f"{key}.seg.png": b"x", f"{key}.json": b"x"}
    train = load_parts(make_archive("a.tar", files | {"a/notes.md": b"x"}))["train"]
    assert [path.read_bytes() for path in train.paths] == [picture(1), picture(2), picture(0)]
    assert train.labels.tolist() == [1, 2, 0]


def test_class_folders_with_notes_beside_the_pictures_stay_class_folders(make_archive, picture):
    files = {f"{name}/{i}.jpg": picture(i) for name in ("cats", "dogs") for i in range(2)}
    notes = {
        f"{name}/{i}.{ending}": b"a note" for name in ("cats", "dogs") for i in range(2) for ending in ("txt", "json")
    }
    assert load_parts(make_archive("a.tar", files | notes))["train"].classes == ("cats", "dogs")


def several(shard, where=""):
    shard(f"{where}pets-train-000.tar", [0, 1, 2])
    shard(f"{where}pets-train-001.tar", [2, 1], first=3)
    shard(f"{where}pets-val-000.tar", [2, 2], first=5)


@pytest.mark.parametrize("source", ["shards", "shards/pets-*.tar", "shards/pets-*-00[01].tar"])
def test_several_tars_have_the_parts_that_their_names_say(shard, tmp_path, picture, source):
    (tmp_path / "shards").mkdir()
    several(shard, "shards/")
    parts = load_parts(str(tmp_path / source))
    assert {name: part.labels.tolist() for name, part in parts.items()} == {"train": [0, 1, 2, 2, 1], "val": [2, 2]}
    assert parts["train"].classes == parts["val"].classes == ("0", "1", "2")
    assert [path.read_bytes() for path in parts["train"].paths] == [picture(i) for i in range(5)]
    assert len(load_data(str(tmp_path / source), val_fraction=0).test) == 2


def test_a_count_of_tars_is_one_part_where_it_names_one(shard, tmp_path):
    several(shard)
    parts = load_parts(str(tmp_path / "pets-train-{000..001}.tar"))
    assert {name: len(part) for name, part in parts.items()} == {"train": 5}


@pytest.mark.parametrize(
    ("labels", "more", "says"),
    [
        ([0, 1], {"x.jpg": b"x"}, "the sample x has none of cls, json, txt"),
        ([0, 1], {"x.jpg": b"x", "x.png": b"x", "x.cls": b"1"}, "the sample x has the pictures x.jpg and x.png"),
        ([0, 1], {"x.jpg": b"x", "x.json": b"[1"}, "x.json tells no class"),
        ([0, 1], {"x.jpg": b"x", "x.json": b"3"}, "x.json tells no class"),
        ([0, 1], {"x.jpg": b"x", "x.json": b'{"size": 3}'}, "x.json tells no class"),
        ([0, 1], {"x.jpg": b"x", "x.json": b"[" * 100_000}, "x.json tells no class"),
        ([0, 1], {"x.jpg": b"x", "x.json": b'{"label": [1, 0]}'}, r"x.json tells the class \[1, 0\]"),
        ([0, 1], {"x.jpg": b"x", "x.cls": b"\xff"}, "x.cls tells no class"),
        ([0, 1], {"x.jpg": b"x", "x.cls": b" "}, "x.cls tells the class ''"),
        ([0, 1], {"x.jpg": b"x", "x.cls": b"dog"}, "its labels are of the types int, str"),
        ([0, 1], {"x.jpg": b"x", "x.cls": b"9" * 5000}, "its labels are of the types int, str"),
        ([0, 1], {"classes.txt": b"\xff"}, "'utf-8' codec can't decode"),
        ([0, 2], {"classes.txt": b"a\nb\n"}, "it has the label 2, which is none of the 2 named classes"),
    ],
)
def test_samples_that_will_not_do(shard, refuses, labels, more, says):
    with refuses(DataError, f"cannot take pictures from .*a.tar: {says}"):
        load_parts(shard("a.tar", labels, more=more))


def test_a_tar_without_pictures_among_several_is_named(shard, make_archive, tmp_path, refuses):
    (tmp_path / "shards").mkdir()
    several(shard, "shards/")
    make_archive("shards/pets-train-002.tar", {"notes.txt": b"x"})
    with refuses(DataError, "pets-train-002.tar: it has no pictures"):
        load_parts(tmp_path / "shards")


def test_tars_are_unpacked_by_the_safe_unpacker(shard, refuses, tmp_path):
    (tmp_path / "shards").mkdir()
    several(shard, "shards/")
    shard("shards/pets-train-002.tar", [0], more={"../../evil.cls": b"0"})
    with refuses(ArchiveError, "would be written outside its folder"):
        load_parts(tmp_path / "shards")
    assert not (tmp_path / "evil.cls").exists()
