import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from eyebright.data.images import ImageFiles, Images
from eyebright.data.split import KIND, Contract, Splits, make_contract, make_splits, picture_digests
from eyebright.errors import DataError, PictureError, StoredFileError
from eyebright.files import read_json
from eyebright.tensors import write_safetensors

CLASSES = ("ant", "bee", "cat")


def labels(*values):
    return np.array(values, dtype=np.int64)


@pytest.fixture
def images(noise):
    """`images(20, 3)`: 20 pictures of 3 classes in turn, no two alike."""

    def make(count, classes=3, seed=0):
        return Images(noise(count, 4, 5, 3, seed=seed), np.arange(count, dtype=np.int64) % classes, CLASSES[:classes])

    return make


# three parts


def test_three_given_parts_are_taken_as_they_are(images):
    parts = {"train": images(9), "val": images(6, seed=1), "test": images(3, seed=2)}
    splits = make_splits(parts, source="mine")
    assert (splits.train, splits.val, splits.test) == tuple(parts.values())
    assert splits.source == "mine" and splits.classes == CLASSES
    assert splits.parts() == parts


@pytest.mark.parametrize("second", ["val", "test"])
def test_of_two_given_parts_the_second_is_the_test_part(images, second):
    other = images(6, seed=1)
    splits = make_splits({"train": images(30), second: other})
    assert splits.test is other and (len(splits.train), len(splits.val)) == (27, 3)


def test_of_one_given_part_test_is_cut_first_and_validation_from_the_rest(images):
    everything = images(60)
    splits = make_splits({"train": everything}, val_fraction=0.25, test_fraction=0.2)
    assert [len(part) for part in splits.parts().values()] == [36, 12, 12]
    names = [part.name(i) for part in splits.parts().values() for i in range(len(part))]
    assert sorted(names) == sorted(everything.name(i) for i in range(60))
    for part in splits.parts().values():
        assert np.bincount(part.labels).tolist() == [len(part) // 3] * 3


def test_the_test_part_does_not_depend_on_the_validation_fraction(images):
    tests = [make_splits({"train": images(60)}, val_fraction=share).test.names for share in (0, 0.1, 0.5)]
    assert tests[0] == tests[1] == tests[2]


def test_without_a_fraction_there_is_no_validation_part(images):
    splits = make_splits({"train": images(30)}, val_fraction=0)
    assert splits.val is None and list(splits.parts()) == ["train", "test"]


@pytest.mark.parametrize(
    ("count", "fractions", "purpose"),
    [
        (3, {"val_fraction": 0}, "test"),
        (9, {"val_fraction": 0, "test_fraction": 0.01}, "test"),
        (9, {"test_fraction": 0}, "test"),
        (9, {"val_fraction": 0.9}, "validation"),
        (9, {"val_fraction": 0.01}, "validation"),
    ],
    ids=str,
)
def test_too_few_pictures_to_cut_are_refused(images, refuses, count, fractions, purpose):
    with refuses(DataError, f"pictures do not suffice to cut .* off for {purpose}") as raised:
        make_splits({"train": images(count)}, **fractions)
    assert "the smallest class is '" in raised.value.expected


def test_the_smallest_class_is_named(noise, refuses):
    few = Images(noise(8, 4, 5, 3), labels(0, 0, 0, 0, 0, 2, 2, 1), CLASSES)
    with refuses(DataError, "8 pictures do not suffice to cut 80% off for test") as raised:
        make_splits({"train": few}, test_fraction=0.8)
    assert "'bee'" in raised.value.expected


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["val_fraction", "test_fraction"])
def test_a_fraction_that_is_none_is_refused(images, refuses, name, fraction):
    with refuses(DataError, f"{name} is {fraction}"):
        make_splits({"train": images(30)}, **{name: fraction})


@pytest.mark.parametrize("names", [["test"], ["val", "test"], []])
def test_parts_without_a_training_part_are_refused(images, refuses, names):
    with refuses(DataError, f"has the parts {', '.join(names) or 'none'}"):
        make_splits(dict.fromkeys(names, images(9)))


@pytest.mark.parametrize("names", [("bee", "ant", "cat"), ("ant", "bee"), ("ant", "bee", "cat", "dog")], ids=str)
@pytest.mark.parametrize("part", ["val", "test"])
def test_parts_whose_classes_differ_are_refused(images, refuses, part, names):
    other = replace(images(6, seed=1), labels=labels(0, 1, 0, 1, 0, 1), classes=names)
    with refuses(DataError, f"the part {part} of arrays has the classes {', '.join(names)}\n") as raised:
        make_splits({"train": images(9), "val": images(6), "test": images(6)} | {part: other})
    assert "ant, bee, cat" in raised.value.expected


def test_a_single_class_is_refused(images, refuses):
    with refuses(DataError, "arrays has one class only: ant"):
        make_splits({"train": images(9, classes=1)})


# folds


def names(*parts):
    return [part.name(i) for part in parts for i in range(len(part))]


@pytest.mark.parametrize("given", [["train"], ["train", "val"], ["train", "test"]])
def test_every_picture_that_is_not_test_is_validation_once(images, given):
    parts = {
        name: replace(images(20, seed=i), names=tuple(f"{name} {j}" for j in range(20))) for i, name in enumerate(given)
    }
    splits = [make_splits(parts, folds=4, fold=fold) for fold in (1, 2, 3, 4)]
    assert len({split.test.names for split in splits}) == 1
    rest = sorted(set(names(*parts.values())) - set(splits[0].test.names))
    assert sorted(names(*(split.val for split in splits))) == rest
    for split in splits:
        assert sorted(names(split.train, split.val)) == rest


def test_a_given_validation_part_takes_part_in_the_folds(images, picture_folder):
    from eyebright.data.sources import load_data

    parts = {"train": images(20), "val": images(10, seed=1), "test": images(6, seed=2)}
    splits = [make_splits(parts, folds=3, fold=fold) for fold in (1, 2, 3)]
    assert [[len(part) for part in split.parts().values()] for split in splits] == [[20, 10, 6]] * 3
    found = np.concatenate([split.val.pixels for split in splits])
    given_pixels = np.concatenate([parts["train"].pixels, parts["val"].pixels])
    assert np.array_equal(np.unique(found, axis=0), np.unique(given_pixels, axis=0))
    folder = picture_folder({f"{part}/{name}": 4 for part in ("train", "val", "test") for name in ("cats", "dogs")})
    splits = [load_data(folder, folds=2, fold=fold) for fold in (1, 2)]
    assert len({path for split in splits for path in split.val.paths}) == 16
    assert {path.parent.parent.name for split in splits for path in split.val.paths} == {"train", "val"}


@pytest.mark.parametrize(
    "options",
    [
        {"folds": 5},
        {"fold": 1},
        {"folds": 5, "fold": 0},
        {"folds": 5, "fold": 6},
        {"folds": 5, "fold": 1, "val_fraction": 0.2},
        {"folds": 5, "fold": 1, "val_fraction": 0},
    ],
    ids=str,
)
def test_folds_that_do_not_fit_are_refused(images, refuses, options):
    with refuses(DataError, "folds = .*, fold = .*, val_fraction = ") as raised:
        make_splits({"train": images(60)}, **options)
    assert "val_fraction excludes them" in raised.value.expected


def test_a_single_fold_is_refused(images, refuses):
    with refuses(DataError, "1 folds"):
        make_splits({"train": images(60)}, folds=1, fold=1)


# the contract


@pytest.fixture
def splits(images):
    return Splits(images(9), images(6, seed=1), images(6, seed=2), "mine")


def test_the_digest_of_an_array_is_of_its_shape_and_pixels(images):
    pictures = images(3)
    digests, pixels = picture_digests(pictures)
    assert np.array_equal(digests, pixels)
    for index, digest in enumerate(digests):
        twin = hashlib.sha256(b"(4, 5, 3)" + bytes(pictures.pixels[index].ravel().tolist())).digest()
        assert digest.tobytes() == twin


def test_the_digests_of_a_file_are_of_its_bytes_and_of_its_pixels(tmp_path, noise, encode):
    pixels = [noise(4, 5, 3, seed=i) for i in range(3)]
    data = [encode(pixels[i], "PNG") for i in range(3)]
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(data[i])
    files = ImageFiles(tuple(sorted(tmp_path.iterdir())), labels(0, 1, 2), CLASSES)
    seen = []
    of_bytes, of_pixels = picture_digests(files, lambda: seen.append(1))
    assert [digest.tobytes() for digest in of_bytes] == [hashlib.sha256(content).digest() for content in data]
    in_memory = Images(np.stack(pixels), labels(0, 1, 2), CLASSES)
    assert np.array_equal(of_pixels, picture_digests(in_memory)[1])
    assert len(seen) == 3


def test_pictures_of_the_same_bytes_and_other_shapes_differ(noise):
    pixels = noise(1, 4, 6, 1)
    digests = [
        picture_digests(Images(pixels.reshape(shape), labels(0), CLASSES))[0].tobytes()
        for shape in [(1, 4, 6, 1), (1, 6, 4, 1), (1, 8, 1, 3), (1, 2, 4, 3)]
    ]
    assert len(set(digests)) == 4


def test_the_order_in_memory_does_not_change_a_digest(images):
    pictures = images(3)
    twin = replace(pictures, pixels=np.asfortranarray(pictures.pixels))
    assert np.array_equal(picture_digests(twin), picture_digests(pictures))


def test_a_file_that_is_gone_is_a_picture_error(tmp_path, refuses):
    with refuses(PictureError, "gone.png"):
        picture_digests(ImageFiles((tmp_path / "gone.png",), labels(0), CLASSES))


def test_the_root_is_the_same_for_the_same_data(splits, images):
    again = Splits(images(9), images(6, seed=1), images(6, seed=2), "by another name")
    assert make_contract(splits).root == make_contract(again).root
    assert len(make_contract(splits).root) == 64


def change_a_pixel(splits):
    pixels = splits.val.pixels.copy()
    pixels[5, 3, 4, 2] ^= 1
    return replace(splits, val=replace(splits.val, pixels=pixels))


def swap_two(splits):
    return replace(splits, train=splits.train.select([1, 0, *range(2, 9)]))


def change_a_label(splits):
    return replace(splits, test=replace(splits.test, labels=labels(1, 1, 2, 0, 1, 2)))


def rename_a_class(splits):
    return Splits(*(replace(part, classes=("ant", "bee", "cow")) for part in splits.parts().values()))


def order_of_classes(splits):
    return Splits(*(replace(part, classes=("bee", "ant", "cat")) for part in splits.parts().values()))


def exchange_two_parts(splits):
    return replace(splits, val=splits.test, test=splits.val)


def leave_one_out(splits):
    return replace(splits, test=splits.test.select(range(5)))


def one_twice(splits):
    return replace(splits, test=splits.test.select([0, 0, *range(1, 6)]))


def move_one_to_another_part(splits):
    everything = Images(
        np.concatenate([splits.train.pixels, splits.val.pixels]),
        np.concatenate([splits.train.labels, splits.val.labels]),
        CLASSES,
    )
    return replace(splits, train=everything.select(range(10)), val=everything.select(range(10, 15)))


def no_validation(splits):
    return replace(splits, val=None)


CHANGES = [
    change_a_pixel,
    swap_two,
    change_a_label,
    rename_a_class,
    order_of_classes,
    exchange_two_parts,
    leave_one_out,
    one_twice,
    move_one_to_another_part,
    no_validation,
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_the_data_changes_the_root(splits, change):
    assert make_contract(change(splits)).root != make_contract(splits).root


def test_every_single_pixel_counts(images):
    picture = images(2)
    roots = set()
    for position in range(picture.pixels.size):
        pixels = picture.pixels.copy()
        pixels.ravel()[position] ^= 1
        roots.add(make_contract(Splits(replace(picture, pixels=pixels), None, images(2, seed=1))).root)
    roots.add(make_contract(Splits(picture, None, images(2, seed=1))).root)
    assert len(roots) == picture.pixels.size + 1


def test_no_picture_is_shared_by_parts_that_are_apart(splits):
    assert make_contract(splits).shared() == {}


def test_the_same_picture_in_two_parts_is_found(splits, images):
    leaking = images(6, seed=2).pixels
    leaking[4] = splits.train.pixels[7]
    leaking[1] = splits.val.pixels[3]
    leaking[2] = splits.val.pixels[3]
    contract = make_contract(replace(splits, test=replace(splits.test, pixels=leaking)))
    assert contract.shared() == {("train", "test"): [(7, 4)], ("val", "test"): [(3, 1), (3, 2)]}


def test_the_same_picture_twice_in_one_part_is_not_shared(splits):
    assert make_contract(replace(splits, train=splits.train.select([0, 0, 1]))).shared() == {}


def test_the_same_file_under_two_names_is_found(picture_folder):
    from eyebright.data.sources import load_data

    folder = picture_folder({"train/cats": 9, "train/dogs": 9, "test/cats": 2, "test/dogs": 2})
    (folder / "test" / "dogs" / "1.png").write_bytes((folder / "train" / "cats" / "4.png").read_bytes())
    contract = make_contract(load_data(folder, val_fraction=0))
    assert contract.shared() == {("train", "test"): [(4, 3)]}


def test_both_files_of_the_contract_are_written(splits, tmp_path):
    contract = make_contract(splits)
    contract.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["split.json", "split.safetensors"]
    assert read_json(tmp_path / "split.json", "split contract") == {
        "source": "mine",
        "classes": ["ant", "bee", "cat"],
        "root_sha256": contract.root,
        "counts": {"train": [3, 3, 3], "val": [2, 2, 2], "test": [2, 2, 2]},
    }
    loaded = Contract.load(tmp_path)
    assert (loaded.classes, loaded.source, loaded.root) == (CLASSES, "mine", contract.root)
    assert loaded.names == contract.names
    for part, pictures in splits.parts().items():
        assert np.array_equal(loaded.digests[part], picture_digests(pictures)[0])
        assert np.array_equal(loaded.pixels[part], picture_digests(pictures)[1])
        assert np.array_equal(loaded.labels[part], pictures.labels)


def flip_a_bit(folder):
    data = bytearray((folder / "split.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "split.safetensors").write_bytes(data)


def take_another_ones(folder):
    contract = Contract.load(folder)
    other = replace(contract, classes=("ant", "bee", "cow"))
    text = (folder / "split.json").read_bytes()
    other.save(folder)
    (folder / "split.json").write_bytes(text)


def lose_a_tensor(folder):
    write_safetensors(folder / "split.safetensors", {"train.labels": torch.zeros(1)}, KIND, {"format_version": 1})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (flip_a_bit, "its checksum is wrong"),
        (take_another_ones, "split.json beside it has another root digest"),
        (lose_a_tensor, "its parts do not fit together"),
        (lambda folder: (folder / "split.json").unlink(), "No such file"),
    ],
)
def test_a_contract_that_was_changed_is_refused(splits, tmp_path, spoil, says, refuses):
    make_contract(splits).save(tmp_path)
    spoil(tmp_path)
    with refuses(StoredFileError, f"as a split contract: .*{says}"):
        Contract.load(tmp_path)


def test_the_same_data_have_no_changes(splits, tmp_path):
    make_contract(splits).save(tmp_path)
    assert Contract.load(tmp_path).changes(make_contract(splits)) == []


WORDS = {
    change_a_pixel: ["1 pictures of the val part have changed (for example picture 5)"],
    swap_two: ["the pictures stand in another order"],
    change_a_label: ["1 pictures of the test part have changed (for example picture 0)"],
    rename_a_class: ["the classes were ant, bee, cat; now they are ant, bee, cow"],
    leave_one_out: ["1 pictures of the test part are gone (for example picture 5)"],
    no_validation: ["6 pictures of the val part are gone (for example picture 0)"],
}


@pytest.mark.parametrize(("change", "words"), WORDS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_has_changed_is_said(splits, change, words):
    assert make_contract(splits).changes(make_contract(change(splits))) == words


def test_changed_gone_and_new_files_are_named(picture_folder, noise, encode):
    from eyebright.data.sources import load_data

    folder = picture_folder({"train/cats": 9, "train/dogs": 9, "test/cats": 2, "test/dogs": 2})
    before = make_contract(load_data(folder, val_fraction=0))
    (folder / "test" / "dogs" / "1.png").write_bytes(encode(noise(8, 6, 3, seed=77)))
    (folder / "train" / "cats" / "4.png").unlink()
    (folder / "train" / "cats" / "x.png").write_bytes(encode(noise(8, 6, 3, seed=78)))
    assert before.changes(make_contract(load_data(folder, val_fraction=0))) == [
        "1 pictures of the train part are gone (for example train/cats/4.png)",
        "1 pictures of the train part are new (for example train/cats/x.png)",
        "1 pictures of the test part have changed (for example test/dogs/1.png)",
    ]


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_names_that_are_no_text_are_kept(picture_folder, tmp_path):
    from eyebright.data.sources import load_data

    folder = picture_folder({"cats": 9, "dogs": 9})
    (folder / "cats" / "4.png").rename(folder / "cats" / os.fsdecode(b"4\xff.png"))
    contract = make_contract(load_data(folder))
    contract.save(tmp_path)
    assert Contract.load(tmp_path).names == contract.names
    assert any(os.fsencode(name).endswith(b"\xff.png") for names in contract.names.values() for name in names)


def test_a_folder_that_was_moved_has_no_changes(picture_folder):
    from eyebright.data.sources import load_data

    folder = picture_folder({"cats": 9, "dogs": 9})
    before = make_contract(load_data(folder))
    assert before.names["train"][0].startswith("cats/")
    folder = folder.rename(folder.with_name("elsewhere"))
    assert before.changes(make_contract(load_data(folder))) == []


def test_the_same_pixels_in_other_bytes_are_the_same_picture(picture_folder):
    from eyebright.data.sources import load_data

    folder = picture_folder({"train/cats": 9, "train/dogs": 9, "test/cats": 2, "test/dogs": 2})
    with Image.open(folder / "train" / "cats" / "4.png") as picture:
        picture.save(folder / "test" / "dogs" / "1.bmp")
    contract = make_contract(load_data(folder, val_fraction=0))
    assert contract.shared() == {("train", "test"): [(4, 3)]}
    assert not np.array_equal(contract.digests["train"][4], contract.digests["test"][3])


def test_several_labels_are_part_of_the_contract(images, tmp_path):
    several = replace(images(6), labels=np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 0, 0]]))
    splits = Splits(several, None, several.select([0, 1]))
    contract = make_contract(splits)
    contract.save(tmp_path)
    loaded = Contract.load(tmp_path)
    assert loaded.root == contract.root and np.array_equal(loaded.labels["train"], several.labels)
    assert loaded.counts == {"train": [3, 4, 2], "test": [1, 2, 0]}
    other = several.labels.copy()
    other[2, 2] = 1
    changed = make_contract(replace(splits, train=replace(several, labels=other)))
    assert loaded.changes(changed) == ["1 pictures of the train part have changed (for example picture 2)"]


def test_a_class_without_pictures_is_counted_as_none(images, tmp_path):
    few = images(9).select([0, 1])
    make_contract(Splits(images(9), None, few)).save(tmp_path)
    assert json.loads((tmp_path / "split.json").read_text())["counts"] == {"train": [3, 3, 3], "test": [1, 1, 0]}
