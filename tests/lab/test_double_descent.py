import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eyebright.data.images import Images
from eyebright.data.sources import load_data
from eyebright.data.split import Splits
from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.fit_rules import double_descent
from eyebright.doctor.history import History
from eyebright.errors import DataError, RecipeError
from eyebright.lab import double_descent as lab
from eyebright.lab.double_descent import ByWidth
from eyebright.lab.experiment import Settings
from eyebright.lab.experiments import do_experiment
from eyebright.training.recipe import load_recipe

SMALL = ("prepare.channels=1", "prepare.resize=[36,36]", "prepare.crop=32", "training.epochs=2")


@pytest.fixture(scope="module")
def digits():
    parts = load_data("digits")
    return Splits(parts.train.select(np.arange(300)), parts.val, parts.test)


def test_as_many_labels_are_wrong_as_was_asked_and_none_by_chance_right(digits):
    wrong = lab.mislabel(digits.train, 0.4)
    changed = wrong.labels != digits.train.labels
    assert changed.sum() == 120
    assert np.array_equal(lab.mislabel(digits.train, 0.4).labels, wrong.labels)
    assert not np.array_equal(lab.mislabel(digits.train, 0.4, seed=1).labels, wrong.labels)
    assert np.bincount(wrong.labels[changed], minlength=10).min() > 3
    assert (wrong.labels.min(), wrong.labels.max()) == (0, 9)


@pytest.mark.parametrize("pictures", [60, 150])
def test_least_squares_is_worst_with_as_many_features_as_pictures(digits, pictures):
    toy = lab.fit_random_features(lab.mislabel(digits.train, 0.4), digits.val, trained=pictures)
    assert toy.peak == pictures
    loss = np.median(toy.loss, axis=0)
    place = list(toy.features).index(pictures)
    assert loss[place] > 10 * loss[-1]
    assert loss[place] > 10 * loss[0]
    train = toy.train_loss.max(axis=0)
    assert train[toy.features > pictures].max() < 1e-12
    assert toy.train_loss.min(axis=0)[toy.features < pictures].min() > 1e-3
    assert f"highest with {pictures} features" in lab.say_toy(toy)


def widths(final, fitted):
    """Networks whose curves are level from the first epoch on."""
    count = len(final)
    level = np.ones((1, 9))
    return ByWidth(
        (1, 2, 3, 4, 6, 8, 12, 16, 24)[:count],
        np.array(final)[:, None] * level,
        np.array(fitted)[:, None] * level,
        2000,
    )


def test_a_hump_over_widths_and_the_threshold_are_found():
    by_width = widths([0.7, 0.6, 0.72, 0.69, 0.5], [0.3, 0.6, 0.9, 0.995, 1.0])
    assert (by_width.hump.first, by_width.hump.top, by_width.hump.last) == (1, 2, 4)
    assert by_width.threshold == 3
    said = lab.say_widths(by_width)
    assert "double descent: validation error 60.0% at width 2, 72.0% at width 3, 50.0% at width 6" in said
    assert "from a width between 3 and 4 on" in said


def test_what_is_no_hump_is_not_called_one():
    falling = widths([0.7, 0.6, 0.55, 0.5, 0.45], [0.3, 0.6, 0.9, 0.91, 0.92])
    assert falling.hump is None
    assert falling.threshold is None
    said = lab.say_widths(falling)
    assert "no double descent: validation error is least at width 6, 45.0%; the widest do not fit" in said
    by_chance = widths([0.60, 0.58, 0.60, 0.585, 0.58], [1.0, 1.0, 1.0, 1.0, 1.0])  # within three standard errors
    assert by_chance.hump is None
    assert "every width fits" in lab.say_widths(by_chance)


def test_what_epochs_show_is_said():
    by_width = widths([0.6, 0.5], [0.9, 0.92])
    said = lab.say_epochs([None], by_width)
    assert "no double descent: validation error is least about epoch 1, 50.0%" in said
    assert "at most 92.0% of the training labels are fitted" in said
    found = Diagnosis(
        "double_descent", "warning", "", ("60 % about epoch 3, 70 % about 9, 55 % about 40",), "", "", None
    )
    said = lab.say_epochs([None, found], widths([0.6, 0.5], [0.9, 1.0]))
    assert "the doctor finds in 1 of 2 trainings: 60 % about epoch 3, 70 % about 9" in said
    assert "99% of the training labels are fitted from epoch 1 on" in said
    assert "the doctor finds double descent in 1" in lab.say_right_labels([found], np.array([0.5, 0.4]))
    assert "no double descent; validation error is least about epoch 1" in lab.say_right_labels([None], np.full(9, 0.5))


def test_the_figures_mark_the_threshold():
    by_width = replace(
        widths([0.7, 0.6, 0.72, 0.69, 0.5], [0.3, 0.6, 0.9, 0.995, 1.0]),
        fitted=np.clip(2 * np.linspace(0.2, 1, 9)[None] * np.linspace(0.3, 1, 5)[:, None], 0, 1),
    )
    random = np.random.default_rng(0)
    toy = lab.Toy(10, np.array([5, 10, 20]), random.random((2, 3)), random.random((2, 3)), random.random((2, 3)))
    figure = lab.draw_double_descent(by_width, np.full(9, 0.4), toy)
    epochs, over_widths, features = figure.axes
    labels = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert {"99% fitted", "interpolation threshold", "as many as pictures", "validation, right labels"} <= set(labels)
    assert [tick.get_text() for tick in over_widths.get_xticklabels()] == ["1", "2", "3", "4", "6"]
    assert (epochs.get_xlabel(), features.get_xscale()) == ("epoch", "log")
    drawn = lab.draw_map(by_width).axes[0]
    assert [list(lines.levels) for lines in drawn.collections[1:]] == [[0.8], [0.99]]
    legend = [text.get_text() for text in drawn.get_legend().get_texts()]
    assert legend == ["80% of the labels fitted", "99% of the labels fitted"]


def test_the_experiment_trains_every_width_with_wrong_labels_and_one_with_right_ones(tmp_path, digits):
    result = do_experiment("double-descent", Settings(digits, tmp_path, SMALL))
    assert set(result.figures) == {"", "-map"}
    assert len(result.values["val_error"]) == len(result.values["widths"]) == len(lab.WIDTHS)
    assert len(list(tmp_path.iterdir())) == len(lab.WIDTHS) + 1
    assert [said.partition(":")[0] for said in result.sentences] == [
        "over epochs, width 24, 40% of the training labels wrong", "the same with the right labels", "over widths",
        "least squares on random features, 300 pictures",
    ]  # fmt: skip
    assert result.values["random_features"]["pictures"] == 300
    json.dumps(result.values, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        (("training.learning_rate=1e30",), "lower training.learning_rate"),
        (("training.epochs=9", "training.early_stop_epochs=1", "training.learning_rate=1e-9"), "leave training.early"),
    ],
)
def test_trainings_of_different_lengths_are_not_compared(changes, remedy, tmp_path, digits):
    with pytest.raises(RecipeError, match=r"the trainings of width 1 ended after \d epochs") as caught:
        do_experiment("double-descent", Settings(digits, tmp_path, (*SMALL, *changes)))
    assert remedy in str(caught.value)


def test_several_labels_are_refused(tmp_path, digits):
    table = np.eye(10, dtype=np.int64)[digits.train.labels]
    several = Images(digits.train.pixels, table, digits.train.classes)
    with pytest.raises(DataError, match="pictures that can have several labels"):
        do_experiment("double-descent", Settings(Splits(several, several, several), tmp_path, SMALL))


def test_labels_count_as_fitted_only_where_they_stay_so():
    dipping = widths([0.5] * 4, [0.995, 0.97, 0.97, 0.985])
    assert dipping.threshold is None
    assert widths([0.5] * 4, [0.5, 0.991, 0.97, 0.995]).threshold == 3
    one_epoch = replace(dipping, fitted=np.array([[0.9, 0.9, 0.9, 0.995, 0.9, 0.9, 0.992, 0.993, 0.994]]))
    assert one_epoch.fitting_epoch == 6  # by the median of five
    assert replace(one_epoch, fitted=one_epoch.fitted[:, ::-1]).fitting_epoch is None


def test_one_epoch_can_be_drawn():
    level = np.ones((3, 1))
    by_width = ByWidth((1, 2, 3), 0.5 * level, np.array([[0.2], [0.9], [1.0]]), 100)
    assert lab.draw_map(by_width).axes[0].get_legend() is None


def test_colour_and_sizes_do_not_matter_to_the_toy():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    pixels = (40 * labels[:, None, None, None] + random.integers(0, 200, (40, 24, 30, 3))).astype(np.uint8)
    toy = lab.fit_random_features(Images(pixels, labels, ("a", "b")), Images(pixels, labels, ("a", "b")), draws=1)
    assert toy.pictures == 40
    assert toy.error[0, -1] == 0  # the same pictures: every label is fitted


def test_the_doctor_finds_it_in_a_real_training_with_wrong_labels_and_not_with_right_ones(digits):
    kept = json.loads((Path(__file__).parent / "double_descent.json").read_text())  # records/2026-11-22-lab.md
    recipe = load_recipe("cnn-cifar10", ['training.schedule="constant"'])
    counts = {"train": [800] * 10, "val": [500] * 10}
    classes = tuple("abcdefghij")
    found = {
        name: double_descent(History(recipe, classes, counts, lines, steps=[], observations=[], finished=True))
        for name, lines in kept.items()
    }
    assert found["right labels"] is None
    assert "59.2% about epoch 5, 69.9% about epoch 24, 60.5% about epoch 40" in found["wrong labels"].evidence[0]
