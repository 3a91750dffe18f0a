import json
import sys

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from eyebright.data import archives
from eyebright.data.sources import load_data, load_parts
from eyebright.data.split import make_contract
from eyebright.errors import DataError, OutputError

CLASSES = ["owl", "cat", "dog"]  # not sorted: their order is theirs


def noted(table, **features):
    """The table with Hugging Face's notes about its columns."""
    notes = {"info": {"features": features}}
    return table.replace_schema_metadata({"huggingface": json.dumps(notes), "other": "x"})


CLASS_LABEL = {"names": CLASSES, "_type": "ClassLabel"}


@pytest.fixture
def picture(noise, encode):
    """`picture(5)`: an encoded picture of its own; every third is a JPEG."""
    return lambda seed: encode(noise(5, 4, 3, seed=seed), "JPEG" if seed % 3 == 0 else "PNG")


@pytest.fixture
def hugging_face(tmp_path, picture):
    """`hugging_face("a.parquet", first=0, count=12)`: a table as the library `datasets` writes it."""

    def make(name, first=0, count=12, labels=None, features=True, column="image"):
        rows = range(first, first + count)
        pictures = [{"bytes": picture(i), "path": f"{i}.png"} for i in rows]
        labels = [i % 3 for i in rows] if labels is None else labels
        table = pyarrow.table({"id": list(rows), column: pictures, "label": labels})
        if features:
            table = noted(table, label=CLASS_LABEL, gone=CLASS_LABEL, **{column: {"_type": "Image"}})
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, tmp_path / name, row_group_size=5)
        return tmp_path / name

    return make


# pictures inside


@pytest.mark.parametrize("column", ["image", "img", "photo of the thing"])
def test_pictures_inside_a_table_are_the_ones_that_were_put_there(hugging_face, picture, column):
    train = load_parts(hugging_face("a.parquet", count=100, column=column))["train"]
    assert train.classes == tuple(CLASSES)
    assert train.labels.tolist() == [i % 3 for i in range(100)] and train.labels.dtype == np.int64
    assert [path.read_bytes() for path in train.paths] == [picture(i) for i in range(100)]
    assert [path.suffix for path in train.paths[:4]] == [".jpg", ".png", ".png", ".jpg"]


def test_pictures_are_unpacked_once_and_again_when_the_table_changes(hugging_face, picture, monkeypatch):
    path = hugging_face("a.parquet")
    first = load_parts(path)["train"]
    with monkeypatch.context() as patch:
        patch.setattr("eyebright.data.parquet._write_pictures", None)
        assert load_parts(path)["train"].paths == first.paths
    second = load_parts(hugging_face("a.parquet", first=50))["train"]
    assert second.paths[0] != first.paths[0] and second.paths[0].read_bytes() == picture(50)


def test_plain_bytes_and_usual_names_do_without_notes(tmp_path, picture):
    table = pyarrow.table({"img": [picture(i) for i in range(6)], "label": ["b", "a", "c"] * 2})
    parquet.write_table(table, tmp_path / "a.parquet")
    train = load_parts(tmp_path / "a.parquet")["train"]
    assert train.classes == ("a", "b", "c") and train.labels.tolist() == [1, 0, 2] * 2
    assert train.paths[4].read_bytes() == picture(4)


def test_texts_in_a_dictionary_are_labels(tmp_path, picture):
    labels = pyarrow.array(["b", "a"] * 3).dictionary_encode()
    parquet.write_table(
        pyarrow.table({"image": [picture(i) for i in range(6)], "label": labels}), tmp_path / "a.parquet"
    )
    assert load_parts(tmp_path / "a.parquet")["train"].labels.tolist() == [1, 0] * 3


def test_of_fine_and_coarse_classes_the_fine_count(tmp_path, picture):
    columns = {"img": [picture(i) for i in range(4)], "coarse_label": [0] * 4, "fine_label": [0, 1, 2, 0]}
    coarse = {"names": ["animal"], "_type": "ClassLabel"}
    table = noted(pyarrow.table(columns), img={"_type": "Image"}, coarse_label=coarse, fine_label=CLASS_LABEL)
    parquet.write_table(table, tmp_path / "a.parquet")
    assert load_parts(tmp_path / "a.parquet")["train"].labels.tolist() == [0, 1, 2, 0]


def test_the_split_contract_covers_pictures_of_a_table(hugging_face):
    path = hugging_face("a.parquet", count=60)
    first, again = (make_contract(load_data(path)) for _ in range(2))
    assert first.root == again.root and not first.shared()


def test_a_folder_of_tables_has_the_parts_that_their_names_say(hugging_face, picture):
    folder = hugging_face("set/data/train-00000-of-00002.parquet").parents[1]
    hugging_face("set/data/train-00001-of-00002.parquet", first=12)
    hugging_face("set/data/validation-00000-of-00001.parquet", first=24, count=6)
    parts = load_parts(folder)
    assert {name: len(part) for name, part in parts.items()} == {"train": 24, "val": 6}
    assert [path.read_bytes() for path in parts["train"].paths] == [picture(i) for i in range(24)]
    assert parts["val"].labels.tolist() == [0, 1, 2] * 2 and parts["val"].classes == tuple(CLASSES)
    assert [path.read_bytes() for path in parts["val"].paths] == [picture(24 + i) for i in range(6)]
    assert load_parts(folder / "data")["val"].paths == parts["val"].paths
    only = load_parts(str(folder / "data" / "train-0000[01]*.parquet"))
    assert list(only) == ["train"] and only["train"].paths == parts["train"].paths


def test_a_column_of_parts_goes_before_the_files_name(tmp_path, picture):
    parts = ["train", "validation", None, "Test", "train", "test"]
    columns = {"image": [picture(i) for i in range(6)], "label": [0, 1, 2, 0, 1, 2], "split": parts}
    parquet.write_table(pyarrow.table(columns), tmp_path / "test.parquet")
    found = load_parts(tmp_path / "test.parquet")
    assert {name: part.labels.tolist() for name, part in found.items()} == {
        "train": [0, 2, 1],
        "val": [1],
        "test": [0, 2],
    }
    assert found["test"].paths[1].read_bytes() == picture(5)


def test_a_part_whose_labels_are_kept_secret_is_left_out(hugging_face, tmp_path, refuses):
    hugging_face("set/train-0.parquet")
    hugging_face("set/test-0.parquet", labels=[-1] * 12)
    assert list(load_parts(tmp_path / "set")) == ["train"]
    with refuses(DataError, "with labels it has the parts none"):
        load_parts(tmp_path / "set" / "test-0.parquet")


def test_some_secret_labels_in_a_part_are_refused(hugging_face, refuses):
    with refuses(DataError, "it has the label -1, which is none of the 3 named classes"):
        load_parts(hugging_face("a.parquet", labels=[0, 1, -1] * 4))


def test_other_classes_in_another_file_are_refused(hugging_face, tmp_path, refuses):
    hugging_face("set/train-0.parquet")
    hugging_face("set/test-0.parquet", features=False)
    with refuses(DataError, "test-0.parquet: it has other classes than the files before it"):
        load_parts(tmp_path / "set")


# paths


def test_a_table_of_paths_is_as_the_csv_of_the_same(picture_folder):
    folder = picture_folder({"cats": 3, "dogs": 3})
    places = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    labels, parts = [place.partition("/")[0] for place in places], ["train", "train", "test"] * 2
    lines = [",".join(row) for row in zip(places, labels, parts, strict=True)]
    (folder / "list.csv").write_text("\n".join(["path,label,part", *lines]))
    table = pyarrow.table({"path": places, "label": labels, "part": parts})
    parquet.write_table(table, folder / "list.parquet")
    of_csv, of_parquet = load_parts(folder / "list.csv"), load_parts(folder / "list.parquet")
    assert list(of_csv) == list(of_parquet) == ["train", "test"]
    for name, part in of_csv.items():
        assert part.paths == of_parquet[name].paths and part.classes == of_parquet[name].classes
        assert part.labels.tolist() == of_parquet[name].labels.tolist()


# what is refused


def spoilt(picture):
    pictures = [picture(i) for i in range(3)]
    return {
        "it has the columns a, label, and none of them is image or img": {"a": pictures, "label": [0, 1, 2]},
        "it has the columns image, a, and none of them is label": {"image": pictures, "a": [0, 1, 2]},
        "its column image is of the type int64": {"image": [1, 2, 3], "label": [0, 1, 2]},
        "its column image is of the type struct<a: int64>": {"image": [{"a": 1}] * 3, "label": [0, 1, 2]},
        "row 1 has no label": {"image": pictures, "label": [0, None, 2]},
        "its labels are of the types float": {"image": pictures, "label": [0.0, 1.0, 2.0]},
        "row 2 has no picture in it": {"image": [*pictures[:2], None], "label": [0, 1, 2]},
        "row 0 has no picture in it": {"image": [{"bytes": None, "path": "a.png"}] * 3, "label": [0, 1, 2]},
        "row 1 names nothing": {"path": [sys.executable, None, "b"], "label": [0, 1, 2]},
        "row 0 names a.png, and there is no such file": {"path": ["a.png"] * 3, "label": [0, 1, 2]},
        "it has the part 'extra', which is none of train, val, test": {
            "image": pictures, "label": [0, 1, 2], "part": ["extra"] * 3,
        },
        "with labels it has the parts val, and none called train": {
            "image": pictures, "label": [0, 1, 2], "part": ["val"] * 3,
        },
        "it has no rows": {"image": pyarrow.array([], pyarrow.binary()), "label": pyarrow.array([], pyarrow.int64())},
    }  # fmt: skip


@pytest.mark.parametrize("says", spoilt(lambda _: b""))
def test_tables_that_will_not_do(tmp_path, picture, refuses, says):
    parquet.write_table(pyarrow.table(spoilt(picture)[says]), tmp_path / "a.parquet")
    with refuses(DataError, "cannot take pictures from .*a.parquet: ") as raised:
        load_parts(tmp_path / "a.parquet")
    assert says in raised.value.problem


@pytest.mark.parametrize("notes", ["", "[1]", '{"info": 3}', '{"info": {"features": [1]}}', "[" * 100_000])
def test_notes_that_are_none_are_refused(hugging_face, refuses, notes):
    path = hugging_face("a.parquet")
    parquet.write_table(parquet.read_table(path).replace_schema_metadata({"huggingface": notes}), path)
    with refuses(DataError, "cannot take pictures from"):
        load_parts(path)


def test_two_columns_of_pictures_are_not_chosen_from(tmp_path, picture, refuses):
    columns = {"left": [picture(0)], "right": [picture(1)], "label": [0]}
    table = noted(pyarrow.table(columns), left={"_type": "Image"}, right={"_type": "Image"})
    parquet.write_table(table, tmp_path / "a.parquet")
    with refuses(DataError, "none of them is left or right alone"):
        load_parts(tmp_path / "a.parquet")


def test_pictures_beyond_the_limit_are_refused_and_not_kept(hugging_face, refuses, monkeypatch, own_cache):
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    with refuses(DataError, "its pictures are larger than 0 GiB"):
        load_parts(hugging_face("a.parquet"))
    assert not list((own_cache / "tables").iterdir())


def test_every_damage_to_a_table_is_a_data_error_or_does_not_matter(hugging_face, own_cache):
    path = hugging_face("a.parquet")
    good = path.read_bytes()
    outcomes = set()
    for position in [*range(0, len(good), len(good) // 60), *range(len(good) - 12, len(good))]:
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            load_parts(path)
            outcomes.add("pictures")
        except DataError as error:
            assert "cannot take pictures from" in error.problem
            outcomes.add("refused")
    for length in (0, 4, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(DataError, match="cannot take pictures from"):
            load_parts(path)
    assert outcomes == {"pictures", "refused"} and not list(own_cache.rglob(".unpacking*"))


def test_a_disk_that_is_full_is_not_the_tables_fault(hugging_face, monkeypatch, refuses, own_cache):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eyebright.data.parquet._write_pictures", full)
    with refuses(OutputError, "cannot unpack .*a.parquet .*No space left"):
        load_parts(hugging_face("a.parquet"))
    assert not list((own_cache / "tables").iterdir())


def test_without_pyarrow_the_reader_learns_what_to_install(hugging_face, monkeypatch, refuses):
    path = hugging_face("a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with refuses(DataError, "pyarrow is not installed") as raised:
        load_parts(path)
    assert raised.value.remedy == "pip install 'eyebright[hub]'"


def test_files_of_several_kinds_are_refused(hugging_face, picture_folder, refuses):
    path = hugging_face("pictures/a-0.parquet")
    (path.parent / "a-1.csv").write_text("path,label")
    with refuses(DataError, r"a-\* names files ending in .csv, .parquet"):
        load_parts(str(path.parent / "a-*"))
