import numpy as np
import pytest

from eyebright.curation.duplicates import Duplicates, Pair
from eyebright.curation.duplicates_figure import LONGEST_NAME, draw_duplicates, rank_pairs
from eyebright.data.images import Images


def pair(a, part, b, similarity, class_b="ant", kind="near"):
    return Pair("train", a, part, b, kind, similarity, "ant", class_b)


@pytest.fixture
def pictures(noise):
    names = tuple(f"/data/train/a folder/a rather long name of a picture {i:03}.png" for i in range(6))
    train = Images(noise(6, 20, 30, 3), np.zeros(6, dtype=np.int64), ("ant", "bee"), names)
    return {"train": train, "test": Images(noise(4, 8, 8, 1), np.ones(4, dtype=np.int64), ("ant", "bee"))}


PAIRS = (
    pair(0, "train", 1, 0.97),
    pair(0, "test", 1, 0.92),
    pair(1, "train", 2, 0.93, "bee"),
    pair(2, "test", 2, 0.91, "bee"),
    pair(3, "test", 3, 1.0, kind="same pixels"),
)


def found(pairs):
    return Duplicates(tuple(pairs), {"train": 6, "test": 4}, 0.9)


def test_pairs_across_parts_come_first_and_then_those_of_different_classes():
    ranked = rank_pairs(found(PAIRS))
    assert ranked == [PAIRS[3], PAIRS[4], PAIRS[1], PAIRS[2], PAIRS[0]]


def test_a_pair_is_drawn_with_parts_names_classes_and_similarity(pictures):
    figure = draw_duplicates(found(PAIRS), pictures, most=4)
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == ("5 pairs of duplicates among 10 pictures: 3 across parts, 2 of different classes; the first 4")
    assert texts[1] == "near, 0.910; in two parts; different classes"
    assert texts[2].startswith("train: …") and texts[2].endswith("picture 002.png\nant")
    assert texts[3] == "test: picture 2\nbee"
    assert texts[4] == "same pixels; in two parts"
    assert len(axes.images) == 2 * 4
    np.testing.assert_array_equal(axes.images[0].get_array(), pictures["train"].read(2))
    np.testing.assert_array_equal(axes.images[1].get_array(), pictures["test"].read(2)[..., 0])


def test_words_and_pictures_keep_out_of_each_others_way(pictures):
    figure = draw_duplicates(found(PAIRS * 2), pictures)
    figure.canvas.draw()
    axes = figure.axes[0]
    boxes = [item.get_window_extent() for item in [*axes.texts, *axes.images]]
    assert not [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    assert len(pictures["train"].name(0)) > LONGEST_NAME


def test_nothing_found_is_said(pictures):
    texts = [text.get_text() for text in draw_duplicates(found([]), pictures).axes[0].texts]
    assert texts == ["no duplicates among 10 pictures"]
