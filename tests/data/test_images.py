from dataclasses import replace

import numpy as np
import pytest

from eyebright.data.images import ImageFiles, Images, join, join_all
from eyebright.errors import DataError, PictureError

CLASSES = ("ant", "bee")


def labels(*values):
    return np.array(values, dtype=np.int64)


@pytest.fixture
def in_memory(noise):
    return Images(noise(4, 6, 5, 3), labels(0, 1, 1, 0), CLASSES)


@pytest.fixture
def on_disk(tmp_path, in_memory, encode):
    paths = tuple(tmp_path / f"{i}.png" for i in range(4))
    for path, pixels in zip(paths, in_memory.pixels, strict=True):
        path.write_bytes(encode(pixels))
    return ImageFiles(paths, in_memory.labels, CLASSES)


def test_pictures_on_disk_are_those_in_memory(in_memory, on_disk):
    assert len(in_memory) == len(on_disk) == 4
    assert all(np.array_equal(in_memory.read(i), on_disk.read(i)) for i in range(4))


@pytest.mark.parametrize("kind", ["in_memory", "on_disk"])
def test_selected_pictures_keep_order_label_class_and_name(request, kind):
    pictures = request.getfixturevalue(kind)
    chosen = pictures.select([3, 1, 1])
    assert type(chosen) is type(pictures)
    assert chosen.classes == CLASSES
    assert chosen.labels.tolist() == [0, 1, 1] and chosen.labels.dtype == np.int64
    for place, index in enumerate([3, 1, 1]):
        assert np.array_equal(chosen.read(place), pictures.read(index))
        assert chosen.name(place) == pictures.name(index)


@pytest.mark.parametrize("kind", ["in_memory", "on_disk"])
def test_selected_pictures_keep_their_group(request, kind):
    pictures = request.getfixturevalue(kind)
    assert pictures.groups is None and pictures.select([3, 1]).groups is None
    assert replace(pictures, groups=("x", "y", "y", "z")).select([3, 1]).groups == ("z", "y")


@pytest.mark.parametrize("kind", ["in_memory", "on_disk"])
def test_groups_are_as_many_as_pictures(request, kind, refuses):
    with refuses(DataError, "3 groups for 4 pictures"):
        replace(request.getfixturevalue(kind), groups=("x", "y", "z"))


@pytest.mark.parametrize("kind", ["in_memory", "on_disk"])
def test_joined_pictures_are_all_of_both(request, kind):
    pictures = replace(request.getfixturevalue(kind), groups=("x", "y", "y", "z"))
    whole = join(pictures, pictures.select([2, 0]))
    assert (len(whole), whole.classes, whole.labels.tolist()) == (6, CLASSES, [0, 1, 1, 0, 1, 0])
    assert whole.groups == ("x", "y", "y", "z", "y", "x")
    for place, index in enumerate([0, 1, 2, 3, 2, 0]):
        assert np.array_equal(whole.read(place), pictures.read(index))
    assert whole.name(4) == ("picture 4" if kind == "in_memory" else pictures.name(2))
    named = pictures.select(range(4))
    assert join(named, named).name(5) == named.name(1)


def test_pictures_of_two_kinds_are_not_joined(in_memory, on_disk, noise, refuses):
    with refuses(DataError, r"4 pictures of 2 classes and shape \[6, 5, 3\] cannot be joined with 4 .* on disk"):
        join(in_memory, on_disk)
    with refuses(DataError, r"cannot be joined with 4 pictures of 2 classes and shape \[6, 6, 3\]"):
        join(in_memory, Images(noise(4, 6, 6, 3), in_memory.labels, CLASSES))
    for pictures in (in_memory, on_disk):
        with refuses(DataError, "cannot be joined with 4 pictures of 3 classes"):
            join(pictures, replace(pictures, classes=("ant", "bee", "cat")))


def test_the_number_of_a_picture_survives_two_selections(in_memory):
    assert in_memory.select([3, 2, 1]).select(np.array([0, 2])).name(1) == "picture 1"


@pytest.mark.parametrize("kind", ["in_memory", "on_disk"])
def test_nothing_can_be_selected(request, kind):
    assert len(request.getfixturevalue(kind).select([])) == 0


@pytest.mark.parametrize("kind", ["in_memory", "on_disk"])
def test_pictures_can_be_compared_and_kept_in_a_set(request, kind):
    pictures = request.getfixturevalue(kind)
    assert pictures == pictures and pictures != pictures.select(range(4))
    assert len({pictures, pictures.select(range(4))}) == 2


def test_given_names_are_used(in_memory):
    named = Images(in_memory.pixels, in_memory.labels, CLASSES, ("a", "b", "c", "d"))
    assert [named.name(i) for i in range(4)] == ["a", "b", "c", "d"]


def test_a_file_is_called_by_its_path(on_disk, tmp_path):
    assert on_disk.name(2) == str(tmp_path / "2.png")


def test_a_file_that_is_gone_is_a_picture_error(on_disk, refuses):
    on_disk.paths[1].unlink()
    with refuses(PictureError, "1.png: No such file"):
        on_disk.read(1)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((4, 6, 5), "uint8"),
        ((4, 6, 5, 4), "uint8"),
        ((4, 3, 6, 5), "uint8"),
        ((4, 6, 5, 3), "float32"),
        ((4, 6, 5, 3), "int64"),
    ],
    ids=["no channels", "four channels", "channels first", "floats", "long integers"],
)
def test_pixels_of_another_form_are_refused(shape, dtype, refuses):
    with refuses(DataError, rf"an array of {dtype} with shape \[4"):
        Images(np.zeros(shape, dtype), labels(0, 1, 1, 0), CLASSES)


WRONG_LABELS = {
    "too few": labels(0, 1, 1),
    "too many": labels(0, 1, 1, 0, 0),
    "none": labels(),
    "unknown class": labels(0, 1, 2, 0),
    "negative": labels(0, 1, -1, 0),
    "of 32 bits": np.array([0, 1, 1, 0], dtype=np.int32),
    "of floats": np.array([0, 1, 1, 0], dtype=np.float64),
}


@pytest.mark.parametrize("wrong", WRONG_LABELS.values(), ids=WRONG_LABELS)
@pytest.mark.parametrize("kind", ["in_memory", "on_disk"])
def test_labels_that_do_not_fit_are_refused(request, kind, wrong, refuses):
    pictures = request.getfixturevalue(kind)
    content = pictures.pixels if kind == "in_memory" else pictures.paths
    with refuses(DataError, f"labels of {wrong.dtype} .* for 4 pictures of 2 classes") as raised:
        type(pictures)(content, wrong, CLASSES)
    assert raised.value.expected == "int64 [4], each an index from 0 to 1"


def test_the_error_says_what_the_labels_span(noise, refuses):
    with refuses(DataError, "from -3 to 7"):
        Images(noise(2, 4, 4, 1), labels(-3, 7), CLASSES)


def test_no_pictures_at_all_are_a_valid_array():
    assert len(Images(np.zeros((0, 4, 4, 1), np.uint8), labels(), CLASSES)) == 0


def test_all_parts_are_joined_in_their_order(in_memory, refuses):
    parts = {"train": in_memory.select([2, 0]), "val": in_memory.select([1]), "test": in_memory.select([0])}
    joined = join_all(parts)
    assert [joined.name(index) for index in range(4)] == [f"picture {index}" for index in (2, 0, 1, 0)]
    np.testing.assert_array_equal(joined.labels, in_memory.labels[[2, 0, 1, 0]])
    np.testing.assert_array_equal(joined.pixels, in_memory.pixels[[2, 0, 1, 0]])
    assert join_all({"train": in_memory}) is in_memory
    with refuses(DataError, "cannot be joined"):
        join_all({"train": in_memory, "test": Images(in_memory.pixels, in_memory.labels * 0, ("one",))})
