import numpy as np
import pytest

from eyebright.data.groups import group_by_name
from eyebright.data.images import Images
from eyebright.data.sources import load_data, load_parts
from eyebright.errors import DataError


@pytest.fixture
def patients(picture_folder):
    """Pictures of 20 patients, ill or well, 3 of each."""
    folder = picture_folder({"ill": 30, "well": 30})
    for name in ("ill", "well"):
        for index in range(30):
            patient = 2 * (index // 3) + (name == "well")
            (folder / name / f"{index}.png").rename(folder / name / f"patient{patient}_{index % 3}.png")
    return folder


def test_the_first_bracket_in_the_path_below_the_folder_is_the_group(patients):
    parts = load_parts(patients)
    (name,) = group_by_name(parts, r"(patient\d+)_(\d)")
    pictures = group_by_name(parts, r"patient(\d+)_")[name]
    assert len(set(pictures.groups)) == 20
    for index, group in enumerate(pictures.groups):
        assert f"patient{group}_" in pictures.name(index)
    assert set(group_by_name(parts, "^(ill|well)/")[name].groups) == {"ill", "well"}


def test_no_patient_is_in_two_parts(patients):
    splits = load_data(patients, group_by=r"patient(\d+)_")
    assert [len(part) for part in splits.parts().values()] == [42, 6, 12]
    assert splits.shared_groups() == {}
    assert load_data(patients).shared_groups() == {}
    alone = [
        len(set(group_by_name({"train": part}, r"patient(\d+)")["train"].groups)) for part in splits.parts().values()
    ]
    assert alone == [14, 2, 4]


def test_every_patient_is_validated_on_in_one_fold(patients):
    options = {"group_by": r"patient(\d+)_", "folds": 4}
    splits = [load_data(patients, fold=fold, **options) for fold in (1, 2, 3, 4)]
    validated = [group for split in splits for group in set(split.val.groups)]
    assert len(validated) == len(set(validated)) == 16
    assert len({split.test.paths for split in splits}) == 1
    assert not set(validated) & set(splits[0].test.groups)


def test_arrays_are_grouped_by_their_names():
    images = Images(np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]), ("a", "b"), ("x-1", "y-2"))
    assert group_by_name({"train": images}, "-(.)")["train"].groups == ("1", "2")


def test_given_parts_that_share_groups_are_told(picture_folder):
    folder = picture_folder(
        {"train/cats": 6, "train/dogs": 6, "val/cats": 3, "val/dogs": 3, "test/cats": 4, "test/dogs": 4}
    )
    splits = load_data(folder, group_by=r"(\d).png")
    assert splits.shared_groups() == {
        ("train", "val"): ["0", "1", "2"],
        ("train", "test"): ["0", "1", "2", "3"],
        ("val", "test"): ["0", "1", "2"],
    }


@pytest.mark.parametrize(("pattern", "says"), [(r"patient\d+", "it has no bracket"), ("(", "unterminated subpattern")])
def test_a_pattern_that_tells_no_group_is_refused(patients, refuses, pattern, says):
    with refuses(DataError, "cannot group pictures by") as raised:
        load_data(patients, group_by=pattern)
    assert says in raised.value.problem


@pytest.mark.parametrize("pattern", [r"person(\d+)", r"(person)?patient"])
def test_a_name_without_a_group_is_named(patients, refuses, pattern):
    with refuses(DataError, "the picture ill/patient0_0.png has no group"):
        load_data(patients, group_by=pattern)
