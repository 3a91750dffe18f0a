import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyebright.data.images import Images
from eyebright.data.labels import class_counts, is_multi_label, label_table, label_text, members
from eyebright.errors import DataError

single = st.lists(st.integers(0, 3), max_size=30).map(lambda values: np.array(values, dtype=np.int64))


@given(single)
def test_a_row_of_0_and_1_says_the_same_as_a_number(labels):
    table = label_table(labels, 4)
    assert [np.flatnonzero(row).tolist() for row in table] == [[label] for label in labels]
    assert label_table(table, 4) is table
    assert is_multi_label(table) and not is_multi_label(labels)
    assert (
        class_counts(labels, 4).tolist() == class_counts(table, 4).tolist() == [list(labels).count(k) for k in range(4)]
    )
    for label in range(4):
        assert members(labels, label).tolist() == members(table, label).tolist()


def test_a_picture_counts_for_each_of_its_labels():
    labels = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]])
    assert class_counts(labels, 3).tolist() == [1, 2, 0]
    assert members(labels, 1).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([[0, 1], [2, 0]]), "from 0 to 2 for 2 pictures of 2 classes"),
        (np.array([[0, 1], [-1, 0]]), "from -1 to 1"),
        (np.array([[0, 1, 0], [1, 0, 0]]), r"shape \[2, 3\]"),
        (np.array([[0, 1]]), r"shape \[1, 2\]"),
        (np.array([[True, False], [True, True]]), "labels of bool"),
        (np.zeros((2, 2, 1), np.int64), r"shape \[2, 2, 1\]"),
    ],
)
def test_rows_that_are_no_labels_are_refused(refuses, labels, says):
    with refuses(DataError, says):
        Images(np.zeros((2, 1, 1, 1), np.uint8), labels, ("a", "b"))


def test_a_label_in_words():
    classes = ("ants", "bees", "wasps")
    assert [label_text(label, classes) for label in np.array([2, 0])] == ["wasps", "ants"]
    several = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    assert [label_text(label, classes) for label in several] == ["ants, wasps", "bees", ""]
