import numpy as np
import pytest

from eyebright.data import shards
from eyebright.data.shards import expand_pattern, find_part, group_shards, is_pattern, number_labels
from eyebright.errors import DataError, DataWarning


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("default/validation/0000.parquet", "val"),
        ("Testing/a.tar", "test"),
        ("imagenet-VAL-000.tar", "val"),
        ("test-data/train-0.parquet", "train"),
        ("train/test/0.parquet", "test"),
        ("trained-000.tar", None),
        ("contest/a.tar", None),
        ("000.tar", None),
    ],
)
def test_a_file_belongs_to_the_part_that_the_nearest_word_names(name, part):
    assert find_part(name) == part


def test_files_are_grouped_by_part_in_order():
    names = ["test-0.tar", "train-1.tar", "train-0.tar", "data/validation-00000-of-00001.tar"]
    assert list(group_shards(names, "x").items()) == [
        ("train", ["train-0.tar", "train-1.tar"]),
        ("val", ["data/validation-00000-of-00001.tar"]),
        ("test", ["test-0.tar"]),
    ]


@pytest.mark.parametrize("names", [["b.tar", "a.tar"], ["test-1.tar", "test-0.tar"], ["a/val.tar"]])
def test_files_of_no_part_or_one_are_the_training_part(names):
    assert group_shards(names, "x") == {"train": sorted(names)}


def test_files_beside_named_parts_are_left_out_with_a_warning():
    with pytest.warns(DataWarning, match="x: 2 files of no part are left out, for example extra-0.tar"):
        assert group_shards(["train-0.tar", "extra-0.tar", "extra-1.tar"], "x") == {"train": ["train-0.tar"]}


@pytest.mark.parametrize(
    ("names", "series"),
    [
        (["a/train-0.tar", "b/train-0.tar", "test.tar"], "a/train or b/train"),
        (["train-0.tar", "train_small-0.tar", "test.tar"], "train or train_small"),
        (["a/train/0000.parquet", "b/train/0000.parquet", "b/test/0000.parquet"], "a/train/[*] or b/train/[*]"),
    ],
)
def test_two_series_for_one_part_are_refused(refuses, names, series):
    with refuses(DataError, f"the part train of x could be {series}"):
        group_shards(names, "x")


def test_parts_without_a_training_part_are_refused(refuses):
    with refuses(DataError, "x has the parts test, val and none called train"):
        group_shards(["test-0.tar", "val-0.tar"], "x")


# patterns


@pytest.fixture
def numbered(tmp_path):
    for name in [*(f"train-{i:03}.tar" for i in range(12)), "test-000.tar"]:
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("train-{000..011}.tar", range(12)),
        ("train-{003..004}.tar", (3, 4)),
        ("train-0{09..11}.tar", (9, 10, 11)),
        ("train-{0..0}0{1..2}.tar", (1, 2)),
        ("train-*.tar", range(12)),
        ("train-00?.tar", range(10)),
        ("train-00[2-4].tar", (2, 3, 4)),
    ],
)
def test_a_pattern_names_files_in_order(numbered, pattern, numbers):
    assert is_pattern(pattern)
    assert expand_pattern(str(numbered / pattern)) == [numbered / f"train-{i:03}.tar" for i in numbers]


def test_a_home_folder_is_found_in_a_pattern(numbered, monkeypatch):
    monkeypatch.setenv("HOME", str(numbered))
    assert expand_pattern("~/test-*.tar") == [numbered / "test-000.tar"]


@pytest.mark.parametrize("source", ["digits", "pets/train", "a.tar", "a{b}.tar", "hub:owner/name"])
def test_other_sources_are_no_patterns(source):
    assert not is_pattern(source)


def test_a_pattern_that_nothing_matches_is_refused(numbered, refuses):
    with refuses(DataError, r"val-\*.tar' does not name the files of a data set: there is no .*val-\*.tar"):
        expand_pattern(str(numbered / "val-*.tar"))


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("train-{010..012}.tar", "there is no .*train-012.tar"),
        ("train-{5..4}.tar", "its numbers count 0 files"),
        (f"train-{{0..{shards.MOST_FILES}}}.tar", "its numbers count 100,001 files"),
        ("train-{0..9999}-{0..9999}-{0..9999}.tar", "its numbers count 1,000,000,000,000 files"),
    ],
)
def test_a_count_whose_files_are_not_all_there_is_refused(numbered, pattern, reason):
    with pytest.raises(DataError, match=f"does not name the files of a data set: {reason}"):
        expand_pattern(str(numbered / pattern))


# labels


@pytest.mark.parametrize(
    ("labels", "names", "numbers", "classes"),
    [
        ({"train": [10, 2, 2], "test": [3]}, None, {"train": [2, 0, 0], "test": [1]}, ("2", "3", "10")),
        ({"train": ["b", "a"], "test": ["c"]}, None, {"train": [1, 0], "test": [2]}, ("a", "b", "c")),
        ({"train": [0, 2]}, ["x", "z", "y"], {"train": [0, 2]}, ("x", "z", "y")),
        ({"train": ["y", "x"]}, ["x", "z", "y"], {"train": [2, 0]}, ("x", "z", "y")),
    ],
)
def test_labels_become_numbers_from_0(labels, names, numbers, classes):
    found, found_classes = number_labels(labels, names)
    assert {part: own.tolist() for part, own in found.items()} == numbers and found_classes == classes
    assert all(own.dtype == np.int64 for own in found.values())


@pytest.mark.parametrize(
    ("labels", "names", "reason"),
    [
        ([1, "a"], None, "of the types int, str"),
        ([0.5], None, "of the types float"),
        ([True, False], None, "of the types bool"),
        ([], None, "of the types none"),
        ([0, 3, 5], ["a", "b", "c"], "it has the label 3, which is none of the 3 named classes"),
        ([-1, 0], ["a", "b"], "it has the label -1"),
        (["a", "z"], ["a", "b"], "it has the label z"),
        ([0, 1], ["a", "a"], "two of its classes have the same name"),
    ],
)
def test_labels_that_will_not_do(labels, names, reason):
    with pytest.raises(ValueError, match=reason):
        number_labels({"train": labels}, names)
