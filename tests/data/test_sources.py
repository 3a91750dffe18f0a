from pathlib import Path

import numpy as np
import pytest

from eyebright.data.images import ImageFiles, Images
from eyebright.data.sources import (
    find_part_folders,
    find_pictures,
    gather_pictures,
    load_data,
    load_parts,
    load_pictures,
)
from eyebright.errors import ArchiveError, DataError, PictureError


def paths_of(pictures, folder):
    return [path.relative_to(folder).as_posix() for path in pictures.paths]


def zipped(make_archive, folder, name="pictures.zip"):
    files = {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    return make_archive(name, files)


# a folder


def test_a_folder_of_class_folders_is_one_part(picture_folder):
    folder = picture_folder({"dogs": 2, "cats": 3})
    parts = load_parts(folder)
    assert list(parts) == ["train"] and isinstance(parts["train"], ImageFiles)
    train = parts["train"]
    assert train.classes == ("cats", "dogs")
    assert paths_of(train, folder) == ["cats/0.png", "cats/1.png", "cats/2.png", "dogs/0.png", "dogs/1.png"]
    assert train.labels.tolist() == [0, 0, 0, 1, 1] and train.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["train", "val", "test"], ["train", "val", "test"]),
        (["training", "valid", "testing"], ["train", "val", "test"]),
        (["Train", "VALIDATION", "Test"], ["train", "val", "test"]),
        (["train", "test"], ["train", "test"]),
        (["train", "val"], ["train", "val"]),
        (["train"], ["train"]),
    ],
    ids=str,
)
def test_parts_are_known_by_their_names(picture_folder, folders, names):
    folder = picture_folder({f"{name}/{kind}": 2 for name in folders for kind in ("cats", "dogs")})
    parts = load_parts(folder)
    assert list(parts) == names
    for part in parts.values():
        assert part.classes == ("cats", "dogs") and part.labels.tolist() == [0, 0, 1, 1]


def test_each_part_has_the_pictures_of_its_own_folder(picture_folder):
    folder = picture_folder({f"{part}/{kind}": 1 for part in ("train", "val", "test") for kind in ("cats", "dogs")})
    for name, part in load_parts(folder).items():
        assert paths_of(part, folder) == [f"{name}/cats/0.png", f"{name}/dogs/0.png"]


@pytest.mark.parametrize("wrapper", ["", "wrapper/", "wrapper/in/wrapper/"])
@pytest.mark.parametrize("inside", [("cats", "dogs"), ("train/cats", "train/dogs", "test/cats")])
def test_a_folder_around_the_folders_is_looked_through(picture_folder, wrapper, inside):
    folder = picture_folder({wrapper + name: 2 for name in inside})
    assert load_parts(folder)["train"].classes == ("cats", "dogs")


def test_folders_inside_a_class_folder_belong_to_the_class(picture_folder):
    folder = picture_folder({"cats/black/old": 1, "dogs": 1})
    assert paths_of(load_parts(folder)["train"], folder) == ["cats/black/old/0.png", "dogs/0.png"]


def test_the_source_is_remembered_as_the_user_named_it(picture_folder, monkeypatch):
    folder = picture_folder({"cats": 10, "dogs": 10})
    monkeypatch.chdir(folder.parent)
    assert load_data("pictures").source == "pictures"


def test_a_home_folder_is_found(picture_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(picture_folder({"cats": 1, "dogs": 1}).parent))
    assert len(load_parts("~/pictures")["train"]) == 2


HIDDEN = [
    "cats/.hidden.png",
    "cats/.ipynb_checkpoints/0.png",
    ".git/0.png",
    "__MACOSX/cats/0.png",
    "cats/__MACOSX/0.png",
]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_is_hidden_is_no_picture_and_no_class(picture_folder, hidden):
    folder = picture_folder({"cats": 1, "dogs": 1})
    (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
    (folder / hidden).write_bytes((folder / "cats" / "0.png").read_bytes())
    train = load_parts(folder)["train"]
    assert train.classes == ("cats", "dogs") and paths_of(train, folder) == ["cats/0.png", "dogs/0.png"]


@pytest.mark.parametrize("above", [".cache/pictures", "__MACOSX/pictures"])
def test_a_folder_below_a_hidden_one_is_read_when_it_is_named(picture_folder, above):
    folder = picture_folder({"cats": 1, "dogs": 1}, name=above)
    assert len(load_parts(folder)["train"]) == 2


def test_other_files_are_not_pictures(picture_folder):
    folder = picture_folder({"cats": 1, "dogs": 1})
    (folder / "cats" / "notes.txt").write_text("a note")
    (folder / "README.md").write_text("a page")
    assert len(load_parts(folder)["train"]) == 2


def test_a_folder_called_like_a_picture_is_no_picture(picture_folder):
    folder = picture_folder({"cats/album.jpg": 1, "dogs": 1})
    assert paths_of(load_parts(folder)["train"], folder) == ["cats/album.jpg/0.png", "dogs/0.png"]


def test_a_link_that_leads_nowhere_is_not_left_out_in_silence(picture_folder, refuses):
    folder = picture_folder({"cats": 1, "dogs": 1})
    (folder / "cats" / "1.png").symlink_to(folder / "gone.png")
    train = load_parts(folder)["train"]
    with refuses(PictureError, "1.png: No such file"):
        train.read(1)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.PnG", "a.b.tiff", "a.pgm"])
def test_pictures_are_known_by_their_endings_whatever_the_case(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert find_pictures(tmp_path) == [tmp_path / name]


def test_parts_are_found_below_a_folder_alone(picture_folder):
    folder = picture_folder({"train/cats": 1, "Valid/cats": 1})
    assert find_part_folders(folder) == {"train": folder / "train", "val": folder / "Valid"}
    assert find_part_folders(folder / "train") == {}


# one, two, three parts


def counts(splits):
    return {name: len(part) for name, part in splits.parts().items()}


def test_one_part_is_cut_in_three(picture_folder):
    assert counts(load_data(picture_folder({"cats": 10, "dogs": 10}))) == {"train": 14, "val": 2, "test": 4}


@pytest.mark.parametrize("second", ["val", "test"])
def test_of_two_parts_the_second_is_the_test_part(picture_folder, second):
    folder = picture_folder({"train/cats": 10, "train/dogs": 10, f"{second}/cats": 3, f"{second}/dogs": 4})
    splits = load_data(folder)
    assert counts(splits) == {"train": 18, "val": 2, "test": 7}
    assert paths_of(splits.test, folder)[0] == f"{second}/cats/0.png"


def test_three_parts_are_taken_as_they_are(picture_folder):
    folder = picture_folder({f"{part}/{kind}": 2 for part in ("train", "val", "test") for kind in ("cats", "dogs")})
    assert counts(load_data(folder)) == {"train": 4, "val": 4, "test": 4}


def test_without_a_fraction_nothing_is_cut_for_validation(picture_folder):
    assert load_data(picture_folder({"cats": 10, "dogs": 10}), val_fraction=0).val is None


def test_seed_and_fractions_reach_the_cut(picture_folder):
    folder = picture_folder({"cats": 20, "dogs": 20})
    first, again, other = (load_data(folder, seed=seed) for seed in (0, 0, 1))
    assert first.test.paths == again.test.paths != other.test.paths
    assert counts(load_data(folder, val_fraction=0.5, test_fraction=0.5)) == {"train": 10, "val": 10, "test": 20}


# archives and names


def test_an_archive_holds_what_its_folder_held(picture_folder, make_archive):
    folder = picture_folder({"train/cats": 2, "train/dogs": 2, "test/cats": 1})
    of_folder, of_archive = load_parts(folder), load_parts(zipped(make_archive, folder))
    assert list(of_folder) == list(of_archive)
    for name, part in of_folder.items():
        assert of_archive[name].classes == part.classes
        assert of_archive[name].labels.tolist() == part.labels.tolist()
        assert all(np.array_equal(of_archive[name].read(i), part.read(i)) for i in range(len(part)))


def test_a_refused_archive_says_so(make_archive, refuses):
    with refuses(ArchiveError, "outside its folder"):
        load_data(make_archive("evil.zip", {"../evil.png": b"x"}))


def test_a_name_stands_for_the_published_set_whatever_lies_beside(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_parts("digits")["train"], Images)
    assert counts(load_data("digits")) == {"train": 1293, "val": 144, "test": 360}


def test_a_published_set_is_looked_for_under_the_root(shared_file):
    assert len(load_parts("mnist", root=shared_file("mnist").parent)["test"]) == 10_000


def test_real_folders_of_photographs_are_read(shared_file):
    parts = load_parts(shared_file("hymenoptera.zip"))
    assert {name: (len(part), part.classes) for name, part in parts.items()} == {
        "train": (245, ("ants", "bees")),  # 244 photographs and a GIF
        "val": (153, ("ants", "bees")),
    }
    assert parts["train"].read(0).shape[2] == 3


# what is refused


@pytest.mark.parametrize(
    ("given", "meant"), [("cifar-10", "cifar10"), ("digit", "digits"), ("MNIST", "mnist"), ("minst", "mnist")]
)
def test_an_unknown_name_names_the_nearest(given, meant, refuses, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with refuses(DataError, f"no data at '{given}'") as raised:
        load_data(given)
    assert raised.value.remedy == f"did you mean '{meant}'?"


def test_a_name_like_no_other_says_where_was_looked(refuses, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with refuses(DataError, "no data at 'pets/in/zzz'") as raised:
        load_data("pets/in/zzz")
    assert (
        str(tmp_path) in raised.value.remedy
        and "digits, mnist, fashion-mnist, cifar10, cifar100, tiny-imagenet, imagenet" in raised.value.expected
    )


def load_one(place):
    return load_data(place)


def gather_one(place):
    return gather_pictures([place])


@pytest.mark.parametrize("read", [load_one, gather_one])
def test_the_home_of_nobody_is_a_place_that_is_not_there(read, refuses):
    with refuses(DataError, "at '~nobody-of-this-name/pets'"):
        read("~nobody-of-this-name/pets")


@pytest.mark.parametrize("read", [load_one, gather_one])
def test_a_name_too_long_for_the_disk_is_refused(read, refuses):
    with refuses(DataError, "cannot read xxx.*: File name too long"):
        read("x" * 5000)


@pytest.mark.parametrize(("read", "asked"), [(load_one, "iterdir"), (gather_one, "rglob")])
def test_a_folder_that_may_not_be_read_is_refused(picture_folder, monkeypatch, refuses, read, asked):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    folder = picture_folder({"cats": 1, "dogs": 1})
    monkeypatch.setattr(Path, asked, denied)
    with refuses(DataError, f"cannot read {folder}: Permission denied"):
        read(folder)


def test_a_single_picture_is_no_source(picture_folder, refuses):
    path = picture_folder({"cats": 1}) / "cats" / "0.png"
    with refuses(DataError, "is a single file"):
        load_data(path)


def test_an_empty_folder_is_refused(tmp_path, refuses):
    with refuses(DataError, r"has no class folders\n"):
        load_data(tmp_path)


def test_loose_pictures_are_counted_in_the_refusal(picture_folder, refuses):
    with refuses(DataError, "has no class folders, but 3 pictures"):
        load_data(picture_folder({".": 3}))


def test_loose_pictures_of_a_part_are_refused(picture_folder, refuses):
    with refuses(DataError, "test has no class folders, but 2 pictures"):
        load_data(picture_folder({"train/cats": 1, "train/dogs": 1, "test": 2}))


def test_an_empty_class_is_refused_by_name(picture_folder, refuses):
    with refuses(DataError, "the class 'birds' of .* is empty"):
        load_data(picture_folder({"cats": 1, "dogs": 1, "birds": 0}))


def test_a_class_of_text_files_is_empty(picture_folder, refuses):
    folder = picture_folder({"cats": 1, "dogs": 1, "notes": 0})
    (folder / "notes" / "a.txt").write_text("")
    with refuses(DataError, "the class 'notes' of .* is empty"):
        load_data(folder)


def test_a_single_class_is_refused(picture_folder, refuses):
    with refuses(DataError, "one class only: cats"):
        load_data(picture_folder({"train/cats": 10, "test/cats": 3}))


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_class_that_training_does_not_have_is_refused(picture_folder, refuses, part):
    folder = picture_folder({"train/cats": 1, "train/dogs": 1, f"{part}/cats": 1, f"{part}/birds": 1})
    with refuses(DataError, f"{part} has the classes birds, which the training part does not have"):
        load_data(folder)


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_class_may_be_missing_from_another_part_and_labels_still_fit(picture_folder, part):
    folder = picture_folder({"train/ants": 1, "train/bees": 1, "train/cats": 1, f"{part}/cats": 2, f"{part}/ants": 1})
    other = load_parts(folder)[part]
    assert other.classes == ("ants", "bees", "cats") and other.labels.tolist() == [0, 2, 2]


def test_parts_without_a_training_part_are_refused(picture_folder, refuses):
    with refuses(DataError, "has the parts val, test and none called train"):
        load_data(picture_folder({"val/cats": 1, "test/cats": 1}))


def test_a_damaged_picture_is_no_matter_until_it_is_read(picture_folder):
    folder = picture_folder({"cats": 1, "dogs": 1})
    (folder / "cats" / "0.png").write_text("no picture")
    assert len(load_parts(folder)["train"]) == 2


# pictures without classes


def test_pictures_are_gathered_from_files_folders_and_archives_in_order(picture_folder, make_archive):
    folder = picture_folder({"b": 1, "a": 2})
    single = folder / "b" / "0.png"
    gathered = gather_pictures([single, str(folder), zipped(make_archive, folder)])
    assert gathered[0] == single
    assert [path.relative_to(folder).as_posix() for path in gathered[1:4]] == ["a/0.png", "a/1.png", "b/0.png"]
    assert [path.read_bytes() for path in gathered[4:]] == [path.read_bytes() for path in gathered[1:4]]
    assert [path.name for path in gathered[4:]] == ["0.png", "1.png", "0.png"]


def test_a_named_file_is_gathered_whatever_its_ending(tmp_path):
    (tmp_path / "photo").write_bytes(b"")
    assert gather_pictures([tmp_path / "photo"]) == [tmp_path / "photo"]


def test_nothing_is_gathered_from_nothing():
    assert gather_pictures([]) == []


@pytest.mark.parametrize(
    ("place", "reason"), [("missing", "there is nothing at"), ("empty", "there are no pictures in")]
)
def test_a_place_without_pictures_is_refused(tmp_path, refuses, place, reason):
    (tmp_path / "empty").mkdir()
    with refuses(DataError, reason):
        gather_pictures([tmp_path / place])


def test_an_archive_without_pictures_is_refused(make_archive, refuses):
    with refuses(DataError, "there are no pictures in .*notes.zip"):
        gather_pictures([make_archive("notes.zip", {"a.txt": b"a note"})])


def test_all_pictures_of_a_source_stand_one_after_the_other(picture_folder):
    root = picture_folder({"train/cats": 2, "train/dogs": 1, "test/cats": 1, "test/dogs": 2})
    pictures = load_pictures(root)
    assert paths_of(pictures, root) == [
        *("train/cats/0.png", "train/cats/1.png", "train/dogs/0.png"),
        *("test/cats/0.png", "test/dogs/0.png", "test/dogs/1.png"),
    ]
    assert pictures.labels.tolist() == [0, 0, 1, 0, 1, 1] and pictures.classes == ("cats", "dogs")


def test_pictures_in_no_class_folders_have_the_class_without_a_name(picture_folder, make_archive):
    root = picture_folder({"": 3})
    zipped_too = make_archive("loose.zip", {path.name: path.read_bytes() for path in sorted(root.iterdir())})
    for source in (root, zipped_too):
        pictures = load_pictures(source)
        assert [path.name for path in pictures.paths] == ["0.png", "1.png", "2.png"]
        assert pictures.classes == ("",) and pictures.labels.tolist() == [0, 0, 0]
    assert load_pictures(root / "1.png").paths == (root / "1.png",)


@pytest.mark.parametrize(
    ("name", "says"),
    [("table.csv", "table.csv"), ("notes.txt", "single file"), ("empty", "no class folders"), ("gone", "no data at")],
)
def test_what_holds_no_pictures_is_refused_for_what_it_is(name, says, tmp_path, refuses):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("colour\nred\n")
    (tmp_path / "notes.txt").write_text("notes")
    with refuses(DataError, says):
        load_pictures(tmp_path / name)


def test_a_name_too_long_for_a_file_is_a_data_error(refuses):
    with refuses(DataError, "cannot read"):
        load_pictures("a" * 5000)
