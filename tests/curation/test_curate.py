import json
from functools import partial

import numpy as np
import pytest

from eyebright.curation import curate as module
from eyebright.curation.curate import curate
from eyebright.curation.patches import patch_features
from eyebright.curation.suspects import KINDS
from eyebright.data.decisions import Decision
from eyebright.data.images import ImageFiles, Images

CLASSES = ("hills", "lakes")
WRONG = 5  # index of the picture with a wrong label, in train


@pytest.fixture(autouse=True, scope="module")
def fewer_filters():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "patch_features", partial(patch_features, filters=24))
        yield


def scenes(landscape, noise, count, seed=0, side=32):
    """Hills are striped, lakes are not; `[N, 32, 32, 3]` and labels that alternate."""
    labels = np.arange(count) % 2
    stripes = 70 * (np.arange(side) // 3 % 2)[:, None, None]
    pictures = [
        0.5 * landscape(side, side, seed=seed + i) + 0.2 * noise(side, side, 3, seed=seed + i) + (label == 0) * stripes
        for i, label in enumerate(labels)
    ]
    return np.stack(pictures).clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def found(landscape, noise):
    """Of two parts: a leak, a contradiction, a duplicate and a wrong label are planted."""
    pixels, labels = scenes(landscape, noise, 40)
    others, their_labels = scenes(landscape, noise, 10, seed=100)
    labels[WRONG] = 1 - labels[WRONG]
    pixels[20] = pixels[8]  # both hills
    pixels[31] = pixels[12]  # a hill that is called a lake
    others[4] = pixels[14]
    parts = {"train": Images(pixels, labels, CLASSES), "test": Images(others, their_labels, CLASSES)}
    return curate(parts, source="made up", notes=("a note",))


def only(found, kind):
    return [one for one in found.suspects if one.kind == kind]


def test_what_was_planted_is_found(found):
    (leak,) = only(found, "leak")
    assert (leak.part, leak.index, leak.path, leak.label) == ("test", 4, "picture 4", "hills")
    assert leak.copy == ("train", 14) and leak.suggestion == "picture 14"
    assert leak.reason == "the same file as train: picture 14 (hills)"
    (twice,) = only(found, "duplicate")
    assert (twice.part, twice.index, twice.copy, twice.score) == ("train", 20, ("train", 8), 1)
    (contradiction,) = only(found, "contradiction")
    assert (contradiction.part, contradiction.index, contradiction.label) == ("train", 31, "lakes")
    assert contradiction.copy == ("train", 12) and "(hills)" in contradiction.reason
    labels = {(one.part, one.index): one for one in only(found, "label")}
    wrong = labels["train", 31]
    assert (wrong.label, wrong.suggestion) == ("lakes", "hills") and wrong.reason.startswith("predicted as hills (")
    assert found.label_errors.order[:2].tolist() == [31, WRONG] and found.label_errors.suggested[WRONG] == 1
    assert found.accuracy > 0.85


def test_suspects_are_ranked_and_counted(found):
    kinds = list(KINDS)
    places = [kinds.index(one.kind) for one in found.suspects]
    assert places == sorted(places) and sum(found.counts.values()) == len(found.suspects)
    assert list(found.counts) == [kind for kind in kinds if kind in found.counts]
    assert found.notes == ("a note",) and found.classes == CLASSES


def test_the_answer_is_json(found):
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["pictures"] == {"train": 40, "test": 10} and told["source"] == "made up"
    assert told["suspects"][0]["kind"] == "contradiction" and told["counts"]["leak"] == 1


@pytest.mark.parametrize("part", ["test", "", "val"], ids=["its part", "no part", "a part that was cut since"])
def test_what_a_person_decided_to_keep_is_suspect_no_more(part, found):
    (leak,) = only(found, "leak")
    only_there = leak if part != "" else only(found, "contradiction")[0]
    left = found.without([Decision(only_there.path, "keep", part=part)])
    assert only_there not in left.suspects and len(left.suspects) < len(found.suspects)
    assert left.accuracy == found.accuracy
    assert found.without([Decision(leak.path, "drop", part="test")]).suspects == found.suspects


def test_to_keep_the_picture_of_one_part_leaves_that_of_another(found):
    (leak,) = only(found, "leak")
    assert leak in found.without([Decision(leak.path, "keep", part="train")]).suspects


def test_the_same_data_and_seed_find_the_same(found):
    again = curate(found.parts, source="made up", notes=("a note",))
    assert again.suspects == found.suspects


def test_other_predictions_may_take_the_place_of_the_default(landscape, noise):
    pixels, labels = scenes(landscape, noise, 20)
    truth = labels.copy()
    labels[3] = 0
    asked, begun, steps = [], [], []

    def predict(pictures, folds, tick):
        asked.append([sorted(predicted.tolist()) for _, predicted in folds])
        for _ in folds:
            tick()
        probabilities = np.eye(2)[truth] * 0.8 + 0.1
        probabilities[6] = 0.52, 0.48
        return probabilities

    def begin(what, total):
        begun.append((what, total))
        return lambda: steps.append(what)

    found = curate({"train": Images(pixels, labels, CLASSES)}, folds=4, predict=predict, begin=begin)
    assert sorted(index for fold in asked[0] for index in fold) == list(range(20)) and len(asked[0]) == 4
    assert [(one.index, one.suggestion) for one in only(found, "label")] == [(3, "lakes")]
    assert found.accuracy == pytest.approx(19 / 20)
    for what, total in begun:
        assert steps.count(what) == total, what


def test_a_picture_between_two_classes(landscape, noise):
    pixels, labels = scenes(landscape, noise, 20)

    def predict(pictures, folds, tick):
        probabilities = np.where(np.eye(2)[labels], 0.6, 0.4)
        probabilities[:10] = np.where(np.eye(2)[labels[:10]], 0.45, 0.55)
        probabilities[6] = 0.54, 0.53
        return probabilities

    (between,) = only(curate({"train": Images(pixels, labels, CLASSES)}, predict=predict), "two classes")
    assert (between.index, between.label, between.suggestion) == (6, "hills", "lakes")
    assert between.score == pytest.approx(0.53 / 0.54) and between.reason == "hills 54%, lakes 53%"


def test_labels_are_not_judged_where_a_class_has_one_picture(landscape, noise):
    pixels, _ = scenes(landscape, noise, 9)
    labels = np.array([0] * 8 + [1])
    found = curate({"train": Images(pixels, labels, CLASSES)})
    assert found.label_errors is None and found.accuracy is None
    assert "Labels were not judged: a class has a single picture." in found.notes
    assert any(
        note.startswith("The classes are of unequal size: 8 pictures of hills, 1 of lakes.") for note in found.notes
    )
    assert json.loads(json.dumps(found.as_dict()))["accuracy"] is None


def test_labels_are_not_judged_where_a_class_has_none(landscape, noise):
    pixels, labels = scenes(landscape, noise, 8)
    found = curate({"train": Images(pixels, labels, (*CLASSES, "moors"))})
    assert "Labels were not judged: there are no pictures of moors." in found.notes


def test_several_labels_are_not_judged_but_the_rest_is(landscape, noise):
    pixels, _ = scenes(landscape, noise, 12)
    labels = np.tile([[1, 0], [0, 1], [1, 1]], (4, 1)).astype(np.int64)
    pixels[6] = pixels[0]  # of the same label
    pixels[8] = pixels[1]
    found = curate({"train": Images(pixels, labels, CLASSES)})
    assert "Labels were not judged: a picture can have several." in found.notes
    (twice,), (contradiction,) = only(found, "duplicate"), only(found, "contradiction")
    assert (twice.index, twice.label) == (6, "hills")
    assert contradiction.index == 8 and contradiction.label == "hills, lakes" and "(lakes)" in contradiction.reason


def test_predictions_that_are_hardly_right_are_warned_of(landscape, noise):
    pixels, labels = scenes(landscape, noise, 10)
    found = curate({"train": Images(pixels, labels, CLASSES)}, predict=lambda *_: np.eye(2)[1 - labels] * 0.8 + 0.1)
    assert any(note.startswith("The predictions agree with 0% of the labels only") for note in found.notes)


def test_a_wrong_label_among_few_pictures_is_listed(landscape, noise):
    pixels, labels = scenes(landscape, noise, 4)
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    probabilities[1] = 1, 0
    found = curate({"train": Images(pixels, labels, CLASSES)}, predict=lambda *_: probabilities)
    assert [one.index for one in only(found, "label")] == [1]


def test_a_single_class_has_no_wrong_labels(landscape, noise):
    pixels, _ = scenes(landscape, noise, 8)
    found = curate({"train": Images(pixels, np.zeros(8, dtype=np.int64), ("all",))})
    assert only(found, "label") == only(found, "two classes") == [] and found.accuracy == 1


def test_files_are_called_by_their_path_below_the_data(picture_folder):
    root = picture_folder({"train/cats": 4, "train/dogs": 4, "test/cats": 2, "test/dogs": 2}, size=(16, 16, 3))
    (root / "test/dogs/1.png").write_bytes((root / "train/dogs/3.png").read_bytes())

    def part(name):
        paths = tuple(sorted((root / name).glob("*/*.png")))
        return ImageFiles(
            paths, np.array([path.parent.name == "dogs" for path in paths], dtype=np.int64), ("cats", "dogs")
        )

    (leak,) = only(curate({"train": part("train"), "test": part("test")}), "leak")
    assert (leak.path, leak.suggestion) == ("test/dogs/1.png", "train/dogs/3.png")
