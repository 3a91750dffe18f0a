import json

import numpy as np
import pytest

from eyebright.data.sources import load_data
from eyebright.data.split import Splits
from eyebright.errors import RecipeError
from eyebright.lab import covariate_shift as lab
from eyebright.lab.covariate_shift import BRIGHTER, INJECTED, NORMALISATIONS, Shifts
from eyebright.lab.experiment import Settings
from eyebright.lab.experiments import do_experiment
from eyebright.lab.variants import Outcome

SMALL = (
    "prepare.channels=1", "prepare.resize=[36,36]", "prepare.crop=32", "model.width=4", "training.epochs=2",
    "training.observe_steps=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    parts = load_data("digits")
    digits = Splits(parts.train.select(np.arange(300)), parts.val, parts.test)
    return do_experiment("covariate-shift", Settings(digits, tmp_path_factory.mktemp("kept"), SMALL, seeds=2))


def test_each_normalisation_is_trained_and_measured(result):
    assert set(result.values) == set(NORMALISATIONS)
    for one in result.values.values():
        assert len(one["layers"]) == 8
        for name in ("drift", "recovered", "chance", "arriving"):
            assert np.array(one[name]).shape == (2, 8)
        assert np.array(one["accuracy"]).shape == (2, len(BRIGHTER))
        assert np.array(one["drift"])[:, 0].max() == 0  # the pictures do not move
    json.dumps(result.values, allow_nan=False)


def test_the_injected_shift_is_found_again(result):
    found, chance = (
        np.concatenate([np.ravel(one[name]) for one in result.values.values()]) for name in ("recovered", "chance")
    )
    assert len(found) == 5 * 2 * 8
    assert chance.max() < 0.5
    assert np.all(np.abs(found - INJECTED) <= chance + 1e-3)  # large: 72 pictures a half
    (said,) = (line for line in result.sentences if line.startswith("the measure, tried"))
    assert "in 80 layers" in said


def test_brighter_pictures_arrive_whole_at_the_first_layer_and_not_behind_instance_norm(result):
    arriving = {name: np.array(one["arriving"]).mean(axis=0) for name, one in result.values.items()}
    for values in arriving.values():
        assert values[0] == pytest.approx(1, rel=0.01)
    assert arriving["instance"][-1] < 0.5 * arriving["batch"][-1]


def test_everything_is_drawn(result):
    assert set(result.figures) == {"", "-curves"}
    drift, arriving, accuracy = result.figures[""].axes
    assert [text.get_text() for text in drift.get_legend().get_texts()] == list(NORMALISATIONS)
    assert all(len(axes.lines) == 5 for axes in (drift, arriving, accuracy))


def test_networks_that_cannot_be_looked_at_are_an_error(tmp_path):
    parts = load_data("digits")
    digits = Splits(parts.train.select(np.arange(40)), parts.val.select(np.arange(40)), parts.test)
    with pytest.raises(RecipeError, match="no training was looked at to its end"):
        do_experiment("covariate-shift", Settings(digits, tmp_path, (*SMALL, "training.observe_steps=0"), seeds=1))


def test_normalisations_with_which_training_diverged_are_left_out(tmp_path, monkeypatch):
    def train(*args, **options):
        looks = [{"moments": {"a": [10, [0.0], [1.0]], "b": [10, [0.0], [1.0]]}}] * 2
        last = {name: {"a": 1.0, "b": 0.5} for name in ("recovered", "chance", "arriving")} | {"accuracy": [0.5] * 7}
        line = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
        whole = {0: [*looks, looks[0] | last]}
        lines = {0: [line | {"learning_rate": 0.1}]}
        return [Outcome("none", lines, {0: looks}, frozenset({0})), Outcome("batch", lines, whole)]

    monkeypatch.setattr(lab, "train_variants", train)
    parts = load_data("digits")
    result = do_experiment("covariate-shift", Settings(parts, tmp_path))
    assert list(result.values) == ["batch"]
    assert result.sentences[-1].startswith("none: validation no number in 1 of 1")


def test_drift_is_the_mean_move_from_look_to_look():
    looks = [
        {
            "moments": {"a": [10, [mean, 0.0], [4.0, 0.0]]}, "recovered": {"a": 0.5}, "chance": {"a": 0.1},
            "arriving": {"a": 1.0}, "accuracy": [0.5] * len(BRIGHTER),
        }
        for mean in (0.0, 1.0, 4.0)
    ]  # fmt: skip
    shifts = lab.gather(Outcome("batch", {0: [], 1: []}, {0: looks, 1: looks[:2]}))
    assert shifts.drift.ravel() == pytest.approx([(0.5 + 1.5) / 2, 0.5])


def test_the_stillest_is_named_first():
    def made(name, drift, last):
        found, chance = np.full((1, 2), 1.02), np.full((1, 2), 0.07)
        arriving, accuracy = np.array([[1.0, last]]), np.linspace(0.5, 0.5 - last / 10, len(BRIGHTER))[None]
        return Shifts(name, ("a", "b"), np.array([[0, drift]]), found, chance, arriving, accuracy)

    shifts = [made("none", 0.4, 1.0), made("batch", 0.1, 0.8), made("instance", 0.2, 0.05)]
    assert lab.say_drift(shifts)[0].endswith("batch 0.10; instance 0.20; none 0.40")
    arriving, answers = lab.say_arriving(shifts)
    assert arriving.endswith("instance 0.05; batch 0.80; none 1.00")
    assert answers.index("instance") < answers.index("batch") < answers.index("none")
    assert "at most 2.0% off" in lab.say_recovered(shifts)
    assert lab.say_recovered(shifts).endswith("without the move, at most 0.070")
