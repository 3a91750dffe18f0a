import numpy as np
import pytest

from eyebright.data.amend import amend, apply_decisions
from eyebright.data.decisions import Decision, write_decisions
from eyebright.data.images import ImageFiles, Images, names_below
from eyebright.data.sources import load_data, load_parts
from eyebright.data.split import make_contract
from eyebright.errors import DataError, DataWarning, PictureError


@pytest.fixture
def folder(picture_folder):
    return picture_folder({"train/cats": 4, "train/dogs": 4, "test/cats": 2, "test/dogs": 2})


@pytest.fixture
def numbers(noise):
    """Six pictures in memory in train, four in test, under the same numbers."""
    classes = ("a", "b")
    return {
        "train": Images(noise(6, 8, 6, 1), np.array([0, 1] * 3), classes),
        "test": Images(noise(4, 8, 6, 1, seed=1), np.array([0, 1] * 2), classes),
    }


def table(parts):
    """part → name → label, by hand."""
    return {
        part: {
            pictures.name(i) if isinstance(pictures, Images) else "/".join(pictures.paths[i].parts[-3:]):
            pictures.labels[i].tolist()
            for i in range(len(pictures))
        }
        for part, pictures in parts.items()
    }  # fmt: skip


def test_pictures_are_relabelled_and_dropped(folder):
    parts = load_parts(folder)
    before = table(parts)
    decisions = [
        Decision("train/cats/0.png", "relabel", "dogs"),
        Decision("train/dogs/3.png", "drop", part="train"),
        Decision("test/cats/1.png", "keep", note="a lynx"),
    ]
    after = table(apply_decisions(parts, decisions, folder))
    del before["train"]["train/dogs/3.png"]
    before["train"]["train/cats/0.png"] = 1
    assert after == before
    assert len(parts["train"]) == 8  # what was given is as it was
    assert table(apply_decisions(parts, [], folder)) == table(parts)


def test_pictures_in_memory_are_told_by_part_and_number(numbers):
    decisions = [Decision("picture 1", "drop", part="train"), Decision("picture 1", "relabel", "a", "test")]
    after = apply_decisions(numbers, [*decisions, Decision("picture 5", "relabel", "a")], ".")
    assert list(table(after)["train"]) == ["picture 0", "picture 2", "picture 3", "picture 4", "picture 5"]
    assert after["train"].labels.tolist() == [0, 0, 1, 0, 0]
    assert after["test"].labels.tolist() == [0, 0, 0, 1]
    assert (after["train"].pixels == numbers["train"].pixels[[0, 2, 3, 4, 5]]).all()


def test_the_path_decides_where_the_part_was_cut_since(folder):
    parts = load_parts(folder)
    after = apply_decisions(parts, [Decision("train/cats/0.png", "drop", part="val")], folder)
    assert "train/cats/0.png" not in table(after)["train"]


def test_several_labels_are_written_with_semicolons(noise):
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]])
    parts = {"train": Images(noise(4, 8, 8, 3), labels, ("a", "b", "c"))}
    decisions = [Decision("picture 0", "relabel", "a; c"), Decision("picture 1", "relabel", "")]
    after = apply_decisions(parts, decisions, ".")["train"]
    assert after.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("relative", [False, True])
def test_pictures_are_added_at_the_end_of_their_part(folder, encode, noise, monkeypatch, relative):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "more").mkdir()
    for name in ("x.png", "y.png"):
        (folder.parent / "more" / name).write_bytes(encode(noise(5, 5, 3)))
    parts = load_parts(folder.name if relative else folder)
    decisions = [
        Decision("more/x.png", "add", "dogs"),
        Decision("more/x.png", "add", "dogs", note="again"),
        Decision("more/y.png", "add", "cats", "test"),
    ]
    after = apply_decisions(parts, decisions, folder.parent)
    assert [(name, len(part), part.labels[-1]) for name, part in after.items()] == [("train", 9, 1), ("test", 5, 0)]
    assert after["train"].read(8).shape == (5, 5, 3)
    assert names_below(after)["train"][::8] == ("pictures/train/cats/0.png", "more/x.png")


def test_an_added_picture_is_a_group_of_its_own(folder):
    train = load_parts(folder)["train"]
    grouped = ImageFiles(train.paths[:-1], train.labels[:-1], train.classes, tuple("aabbaab"))
    after = apply_decisions({"train": grouped}, [Decision("dogs/3.png", "add", "dogs")], folder / "train")["train"]
    assert after.groups == (*"aabbaab", "dogs/3.png")


def test_a_picture_of_the_same_size_is_added_in_memory(numbers, tmp_path, encode, noise):
    (tmp_path / "x.png").write_bytes(encode(noise(8, 6, 1, seed=9)))
    after = apply_decisions(numbers, [Decision("x.png", "add", "b")], tmp_path)["train"]
    assert (after.pixels[6] == noise(8, 6, 1, seed=9)).all() and after.labels.tolist() == [0, 1, 0, 1, 0, 1, 1]
    assert (after.name(5), after.name(6)) == ("picture 5", "x.png")


def test_in_memory_a_picture_of_another_size_cannot_be_added(numbers, tmp_path, encode, noise, refuses):
    (tmp_path / "x.png").write_bytes(encode(noise(8, 6, 3)))
    with refuses(DataError, r"x.png, which is to be added, has height, width and channels \[8, 6, 3\]") as raised:
        apply_decisions(numbers, [Decision("x.png", "add", "b")], tmp_path)
    assert raised.value.expected.startswith("[8, 6, 1]")
    (tmp_path / "x.png").write_bytes(b"")
    with refuses(PictureError, "the file is empty"):
        apply_decisions(numbers, [Decision("x.png", "add", "b")], tmp_path)


DROPS = [Decision(f"test/dogs/{index}.png", "drop") for index in range(2)]


@pytest.mark.parametrize(
    ("decisions", "problem"),
    [
        ([Decision("train/cats/0.png", "relabel", "dog")], "to relabel train/cats/0.png names the class 'dog', which"),
        ([Decision("train/cats/0.png", "relabel")], "names the class ''"),
        ([Decision("train/cats/0.png", "relabel", "cats;dogs")], "names the class 'cats;dogs'"),
        ([Decision(f"cats/{i}.png", "drop") for i in range(7)],
         r"7 decisions are about pictures that are not in the data: cats/0.png, .*cats/4.png …"),
        ([Decision("train/cats/0.png", "keep"), Decision("train/cats/0.png", "drop", part="train")],
         r"two decisions about train/cats/0.png contradict each other: keep \(train\), and drop \(train\)"),
        ([Decision("train/cats/0.png", "relabel", name) for name in ("cats", "dogs")], "contradict each other: rel"),
        (DROPS, "no picture of dogs is left in the test part: decisions dropped or relabelled them"),
        ([Decision("x.png", "add", "dogs")], "there is no file .*x.png, which is to be added"),
        ([Decision("train/cats/0.png", "add", "dogs", "test")], "is to be added and is in the data already"),
        ([Decision("train/cats/0.png", "add", "dogs", "val")], "added to the part val, which the data do not have"),
    ],
)  # fmt: skip
def test_decisions_that_do_not_fit_are_refused(folder, refuses, decisions, problem):
    with refuses(DataError, problem):
        apply_decisions(load_parts(folder), decisions, folder)


def test_a_picture_that_is_added_twice_needs_one_part(folder, refuses):
    (folder / "x.png").write_bytes((folder / "test/cats/0.png").read_bytes())
    decisions = [Decision("x.png", "add", "cats"), Decision("./x.png", "add", "cats", "test")]
    with refuses(DataError, r"about x.png contradict each other: add cats \(train\), and add cats \(test\)"):
        apply_decisions(load_parts(folder), decisions, folder)


@pytest.mark.parametrize("part", ["", "val"])
def test_a_number_in_two_parts_needs_the_part(numbers, refuses, part):
    with refuses(DataError, f"the picture picture 1 stands in the parts train, test, .* names {part or 'none'}"):
        apply_decisions(numbers, [Decision("picture 1", "drop", part=part)], ".")


def test_decisions_come_before_unreadable_pictures_and_cuts(picture_folder, tmp_path):
    folder = picture_folder({"cats": 20, "dogs": 20})
    for name in ("cats/3.png", "dogs/4.png"):
        (folder / name).write_bytes(b"")
    write_decisions(
        tmp_path / "decisions.csv", [Decision("cats/3.png", "drop"), Decision("cats/5.png", "relabel", "dogs")]
    )
    with pytest.warns(DataWarning, match="1 of 39 pictures are left out .* dogs/4.png"):
        splits = load_data(folder, curation=tmp_path / "decisions.csv", skip_unreadable=True)
    assert splits.notes[0] == f"decisions of {tmp_path / 'decisions.csv'}: 1 to relabel, 1 to drop."
    assert splits.notes[1].startswith("1 of 39 pictures")
    counts = make_contract(splits).counts
    assert sum(map(sum, counts.values())) == 38
    for name in ("cats/3.png", "dogs/4.png"):
        (folder / name).unlink()
    (folder / "cats/5.png").rename(folder / "dogs/99.png")  # the same by hand
    assert make_contract(load_data(folder)).counts == counts


def test_nothing_asked_for_changes_nothing(folder):
    parts = load_parts(folder)
    assert amend(parts) == (parts, ())
