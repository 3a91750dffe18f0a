import warnings

import numpy as np
import pytest

from eyebright.data.decode import decode_file
from eyebright.data.digests import file_digests, try_digests
from eyebright.data.images import Images
from eyebright.data.sources import load_data, load_parts
from eyebright.data.split import make_contract
from eyebright.data.unreadable import leave_out_unreadable
from eyebright.errors import DataError, DataWarning, PictureError


@pytest.fixture
def spoilt(picture_folder):
    """Parts with 3 of 28 pictures that cannot be read."""
    folder = picture_folder({"train/cats": 10, "train/dogs": 10, "test/cats": 4, "test/dogs": 4})
    (folder / "train/cats/3.png").write_bytes(b"")
    (folder / "test/dogs/0.png").write_bytes((folder / "test/dogs/0.png").read_bytes()[:60])
    (folder / "train/dogs/new\nline.png").write_bytes(b"not a picture")
    return folder


def readable(path):
    """The obvious twin: decodes one file."""
    try:
        decode_file(path)
    except PictureError:
        return False
    return True


def test_what_is_left_is_what_can_be_decoded(spoilt):
    parts, ticks = load_parts(spoilt), []
    with pytest.warns(DataWarning) as said:
        left, text = leave_out_unreadable(parts, lambda: ticks.append(1))
    for name, part in parts.items():
        kept = [index for index, path in enumerate(part.paths) if readable(path)]
        assert left[name].paths == tuple(part.paths[index] for index in kept)
        assert left[name].labels.tolist() == part.labels[kept].tolist()
    assert len(ticks) == 29
    assert [str(warning.message) for warning in said] == [text]
    assert text.startswith("3 of 29 pictures are left out because they cannot be read: train/cats/3.png (the file is")
    assert "train/dogs/new\\nline.png (it looks like text: 'not a picture'); test/dogs/0.png (" in text
    assert text.endswith(")") and str(spoilt) not in text


def test_each_file_has_digests_or_its_error(spoilt):
    paths = load_parts(spoilt)["train"].paths
    found = list(try_digests(paths))
    assert [not isinstance(each, PictureError) for each in found] == [readable(path) for path in paths]
    good = [path for path in paths if readable(path)]
    _, pixels = file_digests(good)
    assert [each.pixels for each in found if not isinstance(each, PictureError)] == [row.tobytes() for row in pixels]


def test_the_first_20_are_named(picture_folder):
    folder = picture_folder({"cats": 30, "dogs": 1})
    for index in range(25):
        (folder / "cats" / f"{index}.png").write_bytes(b"")
    with pytest.warns(DataWarning, match=r"25 of 31 pictures .*; and 5 more$") as said:
        leave_out_unreadable(load_parts(folder))
    assert str(said[0].message).count("the file is empty") == 20


def test_where_all_can_be_read_nothing_is_said(picture_folder, noise):
    files = load_parts(picture_folder({"cats": 2, "dogs": 2}))
    memory = {"train": Images(noise(4, 8, 8, 1), np.array([0, 1, 0, 1]), ("a", "b"))}
    for parts in (files, memory):
        left, text = leave_out_unreadable(parts)
        assert text is None and all(left[name] is part for name, part in parts.items())


def test_a_class_without_a_readable_picture_is_an_error(picture_folder, refuses):
    folder = picture_folder({"cats": 2, "dogs": 2})
    for path in (folder / "dogs").iterdir():
        path.write_bytes(b"")
    with refuses(DataError, "no picture of dogs is left in the train part: none of them can be read"):
        leave_out_unreadable(load_parts(folder))


def test_they_are_left_out_before_anything_is_cut(picture_folder, refuses):
    folder = picture_folder({"cats": 20, "dogs": 20})
    bad = folder / "cats" / "3.png"
    bad.write_bytes(b"")
    with refuses(PictureError, "the file is empty") as raised:
        make_contract(load_data(folder))
    assert "--skip-unreadable" in raised.value.remedy
    with pytest.warns(DataWarning, match="1 of 40"):
        skipping = load_data(folder, skip_unreadable=True)
    assert skipping.notes[0].startswith("1 of 40 pictures are left out")
    bad.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without = load_data(folder, skip_unreadable=True)
    assert make_contract(skipping).root == make_contract(without).root
    assert without.notes == ()
