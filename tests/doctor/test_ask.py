"""The doctor on real runs: what a network answers, and faults that were planted."""

from dataclasses import replace

import numpy as np
import pytest

from eyebright.data.images import Images
from eyebright.data.sources import load_data
from eyebright.data.split import Splits, make_contract
from eyebright.doctor.answers import Copies, ask
from eyebright.doctor.examine import Watch, examine
from eyebright.doctor.figure import draw_findings
from eyebright.doctor.history import begin_history, read_history
from eyebright.training.fit import Fit
from eyebright.training.recipe import load_recipe
from eyebright.training.run import Run


@pytest.fixture(scope="module")
def digits():
    """300 of the training pictures are for validation."""
    parts = load_data("digits", val_fraction=0.21)
    assert len(parts.val) >= 300
    return parts


def diagnosed(splits, *changes):
    """Trains on them, and asks the doctor: findings while training, and afterwards."""
    fit = Fit(load_recipe("lenet5-digits", ["training.epochs=8", *changes]), splits)
    watch = Watch(begin_history(fit.recipe, make_contract(splits)))
    said = [finding.name for report in fit.steps() for finding in watch.take(report)]
    answers = ask(fit.classifier(), fit.recipe, splits, seed=0)
    history = replace(watch.history, finished=True, answers=answers)
    return said, history, {finding.name: finding for finding in examine(history)}


def relabelled(pictures, change, share=1.0, seed=0):
    random = np.random.default_rng(seed)
    labels = pictures.labels.copy()
    places = random.random(len(labels)) < share
    labels[places] = change(labels[places], random)
    return Images(pictures.pixels, labels, pictures.classes)


def test_a_healthy_run_is_left_in_peace(digits):
    said, history, found = diagnosed(digits)
    assert said == []
    assert found == {}
    answers = history.answers
    assert answers.train_count == len(digits.train)
    assert answers.train_accuracy > 0.9
    assert answers.augmented_accuracy > 0.7
    assert answers.baseline_accuracy > 0.9
    assert answers.val_predictions.shape == answers.val_labels.shape
    assert answers.silent_count == 512
    assert [copies.part for copies in answers.copies] == ["val", "test"]


def test_shuffled_labels_are_found(digits):
    def shuffle(labels, random):
        return random.permutation(labels)

    parts = [relabelled(part, shuffle, seed=seed) for seed, part in enumerate((digits.train, digits.val, digits.test))]
    _, history, found = diagnosed(Splits(*parts), "training.epochs=4")
    assert "labels_unrelated" in found
    assert "chance_level" not in found
    assert history.answers.baseline_accuracy < 0.2


def test_wrong_labels_are_found(digits):
    def draw(labels, random):
        return (labels + random.integers(1, 10, len(labels))) % 10

    parts = [relabelled(part, draw, 0.4, seed) for seed, part in enumerate((digits.train, digits.val, digits.test))]
    _, _, found = diagnosed(Splits(*parts))
    assert "label_noise" in found
    assert "overfitting" not in found
    assert 0.25 < float(found["label_noise"].problem.split()[1].rstrip("%")) / 100 < 0.5


def test_a_rate_a_hundred_times_too_high_is_found(digits):
    said, _, found = diagnosed(digits, "training.learning_rate=0.3")
    assert "learning_rate_too_high" in said
    assert "learning_rate_too_high" in found


def test_a_rate_a_thousand_times_too_low_is_found(digits):
    said, _, found = diagnosed(digits, "training.learning_rate=2e-6")
    assert "learning_rate_too_low" in said
    assert "learning_rate_too_low" in found


def test_copies_in_training_are_found(digits):
    val = digits.val
    brighter = np.clip(val.pixels.astype(int) + 6, 0, 255).astype(np.uint8)
    train = Images(
        np.concatenate([digits.train.pixels, brighter]), np.concatenate([digits.train.labels, val.labels]), val.classes
    )
    leaked = Splits(train, val, digits.test)
    answers = ask(Fit(load_recipe("lenet5-digits"), leaked).classifier(), load_recipe("lenet5-digits"), leaked, seed=0)
    copies = {found.part: found for found in answers.copies}
    assert copies["val"].share > 0.9
    assert copies["test"].share < 0.1
    contract = make_contract(
        Splits(
            Images(
                np.concatenate([train.pixels, val.pixels[:9]]),
                np.concatenate([train.labels, val.labels[:9]]),
                val.classes,
            ),
            val,
            digits.test,
        )
    )
    assert len(begin_history(load_recipe("lenet5-digits"), contract).shared["train", "val"]) == 9


def test_the_share_of_copies_is_that_of_all_pictures():
    assert Copies("val", ("a", "b"), of=100, among=0.1).share == pytest.approx(0.2)
    assert Copies("val", ("a",) * 50, of=100, among=0.1).share == 1


def arrows(count, seed):
    """Bars on the left or on the right: mirrored, each is the other."""
    random = np.random.default_rng(seed)
    pixels, labels = random.integers(0, 100, (count, 28, 28, 1), dtype=np.uint8), np.arange(count) % 2
    pixels[labels == 0, :, 4:9] += 120
    pixels[labels == 1, :, 19:24] += 120
    return Images(pixels, labels, ("left", "right"))


def test_augmentation_that_turns_a_class_into_another_is_found():
    parts = Splits(arrows(400, 0), arrows(100, 1), arrows(100, 2))
    _, history, found = diagnosed(parts, "augment.horizontal_flip=0.5", "augment.rotation=0")
    turned = history.answers.turned[0]
    assert {turned.true, turned.other} == {"left", "right"}
    assert turned.plain < 0.05
    assert turned.augmented == pytest.approx(0.5, abs=0.1)
    assert "augmentation_changes_labels" in found
    _, history, found = diagnosed(parts, "augment.horizontal_flip=0", "augment.rotation=5", "training.epochs=4")
    assert history.answers.turned[0].augmented < 0.3
    assert "augmentation_changes_labels" not in found


def test_a_run_is_read_as_it_was_watched(tmp_path, digits):
    recipe = load_recipe("lenet5-digits", ["training.epochs=2"])
    run = Run.create(tmp_path / "run", recipe, 0, Fit(recipe, digits).plan)
    contract = make_contract(digits)
    run.write_contract(contract)
    fit = Fit(recipe, digits)
    watch = Watch(begin_history(recipe, contract))
    for report in fit.steps():
        run.record(report, fit)
        watch.take(report)
    read = read_history(run)
    assert read.steps == watch.history.steps
    assert [line["val_loss"] for line in read.epochs] == [line["val_loss"] for line in watch.history.epochs]
    assert [seen.step for seen in read.observations] == [seen.step for seen in watch.history.observations]
    assert read.steps_per_epoch == fit.loader.steps
    assert read.counts["train"] == np.bincount(digits.train.labels).tolist()


def test_findings_stand_below_the_curves(digits):
    _, history, found = diagnosed(digits, "training.learning_rate=0.3", "training.epochs=3")
    figure = draw_findings(history, list(found.values()))
    names = [label.get_text() for label in figure.axes[3].get_yticklabels()]
    assert "learning rate too high" in names
    unobserved = replace(history, observations=[])
    assert "not observed" in [text.get_text() for text in draw_findings(unobserved, []).axes[2].texts]
