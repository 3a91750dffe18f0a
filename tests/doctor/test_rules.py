"""Each rule: what it finds, with which evidence, and what it lets pass."""

import math
from dataclasses import replace

import numpy as np
import pytest
from histories import CLASSES, INPUTS, LAYERS, answers_of, epochs_of, history_of, observation_of, recipe_of, steps_of

from eyebright.doctor import conduct_rules, data_rules, fit_rules, layer_rules, learning_rules
from eyebright.doctor.answers import Copies, Turned
from eyebright.doctor.examine import EXPLAINS, RULES, Watch, examine
from eyebright.training.fit import Report, StepReport

LN10 = math.log(10)


def flat(value, count=12):
    return [value] * count


def at_chance(**changes):
    epochs = epochs_of(flat(LN10 - 0.001), flat(0.1), flat(LN10), flat(0.1))
    return history_of(epochs, **{"answers": answers_of(baseline_accuracy=0.45)} | changes)


def test_a_healthy_run_has_no_findings():
    assert examine(history_of()) == []
    assert examine(history_of(answers=None)) == []
    assert examine(history_of(observations=[], answers=None)) == []


def test_every_rule_is_applied_is_documented_and_says_its_own_name():
    rooms = (learning_rules, fit_rules, layer_rules, data_rules, conduct_rules)
    written = {
        rule for room in rooms for rule in vars(room).values()
        if callable(rule) and getattr(rule, "__annotations__", {}).get("return") == "Diagnosis | None"
    }  # fmt: skip
    assert written == set(RULES)
    names = {rule.__name__ for rule in RULES}
    assert len(names) == len(RULES)
    assert all(rule.__doc__ for rule in RULES)
    assert set(EXPLAINS) | set().union(*EXPLAINS.values()) <= names


# whether it learns, and how fast


def test_chance_level_gives_the_interval_and_the_loss_of_guessing():
    found = learning_rules.chance_level(at_chance())
    assert found.severity == "error"
    assert "guessing gives 10.0%" in found.evidence[0]
    assert "guessing loses 2.3026, ln(10)" in found.evidence[1]
    assert "45.0%" in found.evidence[2]


def test_chance_is_that_of_the_largest_class():
    counts = {"train": [900, 100], "val": [450, 50], "test": [9, 1]}
    guess = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    epochs = epochs_of(flat(guess), flat(0.9), flat(guess), flat(0.9))
    history = history_of(epochs, classes=("a", "b"), counts=counts, answers=None)
    assert learning_rules.chance_level(history) is not None
    better = epochs_of(flat(0.2), flat(0.95), flat(0.2), flat(0.95))
    assert learning_rules.chance_level(replace(history, epochs=better)) is None


def test_a_network_that_begins_to_learn_is_not_at_chance_level():
    epochs = epochs_of(flat(2.1), flat(0.2), flat(2.1), flat(0.11))
    assert learning_rules.chance_level(history_of(epochs)) is None


def test_a_run_that_goes_on_is_not_judged_in_its_first_epochs():
    early = at_chance(finished=False)
    assert learning_rules.chance_level(replace(early, epochs=early.epochs[:2])) is None
    assert learning_rules.chance_level(replace(early, epochs=early.epochs[:3])) is not None


@pytest.mark.parametrize(
    "sign",
    [
        {"observations": [observation_of(1, ratio=0.5), observation_of(101)]},
        {"observations": [observation_of(1, norm=1.0), observation_of(101, norm=30.0)]},
        {"spike": 40.0},
    ],
)
def test_a_rate_too_high_shows_in_steps_weights_or_losses(sign):
    history = at_chance()
    if (spike := sign.pop("spike", None)) is not None:
        steps = [dict(line) for line in history.steps]
        steps[17]["loss"] = spike
        sign = {"steps": steps}
    found = learning_rules.learning_rate_too_high(replace(history, **sign))
    assert found.severity == "error"
    assert "0.001, a tenth" in found.remedy
    assert learning_rules.learning_rate_too_high(history) is None  # without a sign
    assert learning_rules.learning_rate_too_high(history_of(**sign)) is None  # with a good end


def test_a_rate_too_high_is_told_of_a_run_that_diverged_in_its_first_epoch():
    steps = [{"step": n, "epoch": 1, "loss": loss} for n, loss in enumerate([2.3, 3.0, 9.0, 400.0, 1e7], 1)]
    history = history_of([], steps=steps, observations=[], answers=None, finished=False, diverged="the loss is nan")
    history = replace(history, epochs=[])
    found = learning_rules.learning_rate_too_high(history)
    assert "the loss went from 2.3 up to 1e+07 in step 5" in found.evidence
    assert learning_rules.diverged(history).evidence[0] == "the loss is nan"
    assert [one.name for one in examine(history)] == ["diverged", "learning_rate_too_high"]


def test_a_rate_too_low_moves_nothing():
    loss = list(np.linspace(2.3025, 2.29, 12))
    slow = [observation_of(1 + 80 * number, ratio=1e-6) for number in range(6)]
    history = history_of(epochs_of(loss, flat(0.12), loss, flat(0.12)), observations=slow)
    found = learning_rules.learning_rate_too_low(history)
    assert "1e-06" in found.evidence[0]
    assert "0.1, ten times" in found.remedy
    frozen = {name: {"gradient_norm": None, "update_norm": 0.0} for name in LAYERS[:5]}
    usual = [observation_of(1 + 80 * number, **frozen) for number in range(6)]
    assert learning_rules.learning_rate_too_low(replace(history, observations=usual)) is None  # what moves, moves well


def test_a_small_rate_with_a_good_end_is_right():
    slow = [observation_of(1 + 80 * number, ratio=1e-6) for number in range(6)]
    assert learning_rules.learning_rate_too_low(history_of(observations=slow)) is None


def test_a_loss_that_stands_is_no_learning_or_a_plateau():
    poor = epochs_of([2.3, 2.2, 2.1, 2.05, 2.02, 2.0, *flat(2.01, 6)], flat(0.2), flat(2.0), flat(0.2))
    assert learning_rules.loss_not_falling(history_of(poor)).epochs == (7, 12)
    assert learning_rules.plateau(history_of(poor)) is None
    fair = epochs_of([2.3, 1.6, 1.2, 1.0, 0.9, 0.85, *flat(0.86, 6)], flat(0.7), flat(0.9), flat(0.7))
    assert learning_rules.loss_not_falling(history_of(fair)) is None
    found = learning_rules.plateau(history_of(fair))
    assert found.severity == "warning"
    assert "0.8500; since then: 0.8600" in found.evidence[0]


def test_a_loss_may_stand_when_the_rate_is_down_or_nothing_is_left():
    loss = [2.3, 1.6, 1.2, 1.0, 0.9, 0.85, *flat(0.86, 6)]
    down = epochs_of(loss, flat(0.7), flat(0.9), flat(0.7), [*flat(0.1, 6), *flat(0.001, 6)])
    assert learning_rules.plateau(history_of(down)) is None
    done = epochs_of([2.3, 1.0, 0.3, 0.1, 0.05, 0.02, *flat(0.02, 6)], flat(0.99), flat(0.1), flat(0.97))
    assert learning_rules.plateau(history_of(done)) is None


def test_smoothed_labels_leave_a_loss_that_is_no_plateau():
    smoothed = recipe_of(label_smoothing=0.1)
    history = history_of(recipe=smoothed)
    assert history.least_loss == pytest.approx(-(0.91 * math.log(0.91) + 9 * 0.01 * math.log(0.01)))
    loss = [2.3, 1.2, 0.9, 0.7, 0.6, 0.56, *flat(0.56, 6)]
    epochs = epochs_of(loss, flat(0.99), flat(0.3), flat(0.95))
    assert learning_rules.plateau(history_of(epochs, recipe=smoothed)) is None
    assert learning_rules.plateau(history_of(epochs)) is not None


def test_nan_ahead_is_seen_in_the_last_losses_or_gradients_while_training():
    calm = history_of(finished=False)
    assert learning_rules.nan_ahead(calm) is None
    steps = [dict(line) for line in calm.steps]
    for place, line in enumerate(steps[-20:]):
        line["loss"] = 10.0 * 1.5**place
    running = replace(calm, steps=steps)
    assert "the last 20 steps" in learning_rules.nan_ahead(running).evidence[0]
    assert learning_rules.nan_ahead(replace(running, finished=True)) is None
    burst = replace(calm, observations=[*calm.observations, observation_of(481, gradient=50.0)])
    assert learning_rules.nan_ahead(burst).evidence == ("the longest gradient is 50; 0.1 was usual",)


# how training and validation go together


def test_overfitting_needs_a_gap_and_a_turn():
    fall = np.linspace(1, 0, 12)
    train, accuracy = 0.01 + 1.5 * fall, 0.999 - 0.5 * fall
    turned = [*np.linspace(1.6, 0.9, 6), *np.linspace(0.95, 1.4, 6)]
    found = fit_rules.overfitting(history_of(epochs_of(train, accuracy, turned, list(0.8 - 0.3 * fall))))
    assert found.severity == "warning"
    assert "training accuracy is 99.9%, validation 80.0%: 19.9% apart" in found.evidence[0]
    assert "least in epoch 6" in found.evidence[1]
    steady = list(np.linspace(1.6, 0.7, 12))
    assert fit_rules.overfitting(history_of(epochs_of(train, accuracy, steady, list(0.8 - 0.3 * fall)))) is None
    wide = fit_rules.overfitting(history_of(epochs_of(train, accuracy, steady, list(0.7 - 0.3 * fall))))
    assert "29.9% apart" in wide.evidence[0]


def test_all_right_on_training_is_no_overfitting_where_validation_agrees():
    fall = np.linspace(1, 0, 12)
    agreeing = epochs_of(1e-6 + fall, 1 - 0.5 * fall, list(0.1 + fall), list(0.95 - 0.5 * fall))
    assert fit_rules.overfitting(history_of(agreeing)) is None


def test_a_gap_within_the_interval_of_few_pictures_is_no_overfitting():
    fall = np.linspace(1, 0, 12)
    epochs = epochs_of(0.01 + fall, 1 - 0.5 * fall, [*np.linspace(0.9, 0.5, 6), *flat(0.6, 6)], list(0.88 - 0.4 * fall))
    few = {"train": [10] * 10, "val": [1] * 10, "test": [1] * 10}
    assert fit_rules.overfitting(history_of(epochs, counts=few)) is None
    assert fit_rules.overfitting(history_of(epochs)) is not None


def test_underfitting_is_a_loss_that_stands_high_or_a_net_that_a_linear_one_beats():
    loss = [2.3, 2.0, 1.9, 1.85, 1.82, 1.80, 1.79, 1.785, 1.78, 1.778, 1.777, 1.776]
    standing = history_of(epochs_of(loss, flat(0.38), loss, flat(0.38)))
    assert "training loss fell from 1.7850 to 1.7760 in the last 4 epochs" in fit_rules.underfitting(standing).evidence
    falling = [2.3, 2.2, 2.1, 2.0, 1.95, 1.9, 1.85, 1.8, 1.75, 1.7, 1.65, 1.6]
    still = history_of(epochs_of(falling, flat(0.38), falling, flat(0.38)))
    assert fit_rules.underfitting(still) is None
    beaten = replace(still, answers=answers_of(baseline_accuracy=0.6))
    assert "patches reaches 60.0%, the network at best 38.0%" in fit_rules.underfitting(beaten).evidence[0]


def test_dropout_that_hides_too_much():
    train, val = np.linspace(4.6, 3.5, 12), np.linspace(2.3, 1.9, 12)
    epochs = epochs_of(train, flat(0.11), list(val), flat(0.2))
    strong, none = recipe_of({"name": "cnn_mnist", "dropout": 0.95}), recipe_of({"name": "cnn_mnist", "dropout": 0.1})
    found = fit_rules.dropout_too_strong(history_of(epochs, recipe=strong))
    assert found.evidence[0] == "up to 95% is dropped"
    assert "with dropout; the least validation loss 1.9000, without" in found.evidence[1]
    assert fit_rules.dropout_too_strong(history_of(epochs, recipe=none)) is None
    assert fit_rules.dropout_too_strong(history_of(recipe=strong)) is None
    augmented = recipe_of({"name": "cnn_mnist", "dropout": 0.95}, {"rotation": 30})
    assert fit_rules.dropout_too_strong(history_of(epochs, recipe=augmented)) is None


def hump(height, epochs=60, start=20, end=45):
    error = np.concatenate(
        [
            np.linspace(0.6, 0.3, start),
            0.3 + height * np.sin(np.linspace(0, np.pi, end - start)),
            np.linspace(0.3, 0.22, epochs - end),
        ]
    )
    return error + 0.002 * np.random.default_rng(0).standard_normal(epochs)


def with_error(error, loss=None, rate=0.01, **changes):
    count = len(error)
    loss = np.linspace(1.8, 0.02, count) if loss is None else loss
    epochs = epochs_of(loss, np.linspace(0.4, 0.999, count), list(2 * error), list(1 - error), rate)
    return history_of(epochs, steps=steps_of(epochs), **changes)


def test_double_descent_is_a_hump_of_validation_error_while_training_loss_falls():
    found = fit_rules.double_descent(with_error(hump(0.08)))
    assert found.severity == "warning"
    first, last = found.epochs
    assert 15 <= first <= 22
    assert 45 <= last <= 60
    assert "Training loss fell" not in found.problem
    assert fit_rules.double_descent(with_error(hump(0.0))) is None
    assert fit_rules.double_descent(with_error(hump(0.015))) is None  # below two points


def test_ordinary_overfitting_is_no_double_descent():
    error = np.concatenate([np.linspace(0.6, 0.3, 20), np.linspace(0.3, 0.4, 40)])
    assert fit_rules.double_descent(with_error(error)) is None


def test_a_fall_when_the_rate_is_divided_is_no_double_descent():
    rate = [*flat(0.1, 34), *flat(0.01, 26)]
    assert fit_rules.double_descent(with_error(hump(0.08), rate=rate)) is None


def test_epochs_that_jump_about_are_no_double_descent():
    random = np.random.default_rng(1)
    for _ in range(20):
        error = np.linspace(0.5, 0.3, 60) + 0.04 * random.standard_normal(60)
        assert fit_rules.double_descent(with_error(error)) is None


def test_few_validation_pictures_show_no_double_descent():
    few = {"train": [400] * 10, "val": [10] * 10, "test": [10] * 10}
    assert fit_rules.double_descent(with_error(hump(0.08), counts=few)) is None


def test_in_the_rise_it_is_said_that_the_error_may_fall_again():
    error = hump(0.1)[:33]
    loss = np.linspace(1.8, 0.5, 33)
    epochs = epochs_of(loss, np.linspace(0.4, 0.9, 33), list(2 * error), list(1 - error))
    rising = history_of(epochs, steps=steps_of(epochs), finished=False)
    assert fit_rules.double_descent(rising).severity == "note"
    assert fit_rules.double_descent(replace(rising, finished=True)) is None


# inside the network


def test_dead_units_are_told_by_what_layers_are_given():
    silent = dict.fromkeys(LAYERS, 0.0) | {"conv1": 1.0, "conv3": 0.6}
    history = history_of(answers=answers_of(silent=silent))
    found = layer_rules.dead_units(history)
    assert found.evidence == (
        "60% of what conv3 is given is the same for all of 512 pictures; after the first step 0%",
    )
    assert layer_rules.dead_units(history_of(answers=answers_of(silent=silent | {"conv3": 0.2}))) is None


def test_dead_units_are_seen_while_training():
    seen = observation_of(401, fc1={"inputs": replace(INPUTS, silent=0.9)})
    history = history_of(answers=None, finished=False)
    found = layer_rules.dead_units(replace(history, observations=[*history.observations, seen]))
    assert "90% of what fc1 is given is the same for all of 64 pictures" in found.evidence[0]


def test_a_channel_that_is_never_used_is_none_of_the_dead_units():
    seen = observation_of(401, conv1={"inputs": replace(INPUTS, silent=2 / 3)})
    history = history_of(observations=[seen])
    assert "67%" in layer_rules.unused_input_channel(history).evidence[0]
    assert layer_rules.dead_units(replace(history, answers=None)) is None
    assert layer_rules.unused_input_channel(history_of()) is None


def test_saturated_layers():
    history = history_of(observations=[observation_of(401, fc2={"inputs": replace(INPUTS, saturated=0.93)})])
    assert layer_rules.saturated_layers(history).evidence == ("93% of the answers before fc2 lie beyond 95 % of it",)
    history = history_of(observations=[observation_of(401, fc2={"inputs": replace(INPUTS, saturated=0.5)})])
    assert layer_rules.saturated_layers(history) is None


def test_gradients_that_vanish_or_explode():
    small = [observation_of(n, conv2={"gradient_norm": 1e-7}) for n in (1, 101, 201)]
    assert "1e-06" in layer_rules.vanishing_gradients(history_of(observations=small)).evidence[0]
    assert layer_rules.exploding_gradients(history_of(observations=small)) is None
    large = [observation_of(n, conv2={"gradient_norm": 1e5}) for n in (1, 101, 201)]
    assert "1e+06" in layer_rules.exploding_gradients(history_of(observations=large)).evidence[0]
    assert layer_rules.vanishing_gradients(history_of(observations=large)) is None


def test_layers_that_stand_still():
    still = {"conv1": {"update_norm": 0.0, "gradient_norm": None}, "conv2": {"update_norm": 0.0, "gradient_norm": None}}
    history = history_of(observations=[observation_of(n, **still) for n in (1, 101)])
    found = layer_rules.layers_stand_still(history)
    assert found.problem == "2 of 6 layers never moved"
    assert "they are frozen" in found.evidence
    published = recipe_of({"name": "resnet18", "weights": "imagenet"})
    assert layer_rules.layers_stand_still(replace(history, recipe=published)) is None


def test_batch_norm_over_few_pictures():
    few, some, many = (
        history_of(recipe=recipe_of({"name": "cnn_mnist"}, batch_size=size, accumulate=2)) for size in (8, 16, 64)
    )
    assert layer_rules.few_for_batch_norm(few).evidence[0] == (
        "4 pictures are normalised together: a batch of 8 in 2 pieces"
    )
    assert layer_rules.few_for_batch_norm(some) is None
    assert layer_rules.few_for_batch_norm(replace(some, answers=answers_of(train_accuracy=0.8))) is not None
    assert layer_rules.few_for_batch_norm(many) is None
    none = history_of(recipe=recipe_of(batch_size=2))
    assert layer_rules.few_for_batch_norm(none) is None


# pictures and labels


def test_labels_that_say_nothing():
    fall = np.linspace(1, 0, 12)
    memorised = epochs_of(0.1 + 2.2 * fall, 0.97 - 0.87 * fall, list(LN10 + 0.5 * (1 - fall)), flat(0.1))
    history = history_of(memorised, answers=answers_of(baseline_accuracy=0.1))
    found = data_rules.labels_unrelated(history)
    assert "learnt by heart" in found.evidence[-1]
    assert "guessing, too" in found.evidence[1]
    assert data_rules.labels_unrelated(replace(history, answers=None)) is not None
    assert data_rules.labels_unrelated(replace(history, answers=answers_of(baseline_accuracy=0.4))) is None
    unlearnt = epochs_of(flat(LN10), flat(0.1), flat(LN10), flat(0.1))
    assert data_rules.labels_unrelated(history_of(unlearnt, answers=None)) is None
    assert [one.name for one in examine(history)] == ["labels_unrelated"]


def noisy(share, count=1000, kind="random", seed=0):
    """Right answers but for a tenth, the least sure, to labels of which a share is drawn at random."""
    random = np.random.default_rng(seed)
    answers = answers_of(0.9, count)
    labels = answers.val_labels.copy()
    wrong = random.random(count) < share
    labels[wrong] = (labels[wrong] + random.integers(1, 10, wrong.sum())) % 10
    shares = 0.6 * answers.val_probabilities + 0.04 + 0.004 * random.random((count, 10))
    return replace(answers, val_labels=labels, val_probabilities=shares / shares.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_label_noise_is_sure_answers_that_are_wrong_at_random(share):
    found = data_rules.label_noise(history_of(answers=noisy(share)))
    assert found.severity == "warning"
    assert abs(float(found.problem.split()[1].rstrip("%")) / 100 - share) < 0.06
    assert "confident learning" in found.evidence[-1]


def test_label_noise_is_told_from_pictures_that_are_hard_too():
    noise = noisy(0.3)
    shares, labels = noise.val_probabilities.copy(), noise.val_labels
    random = np.random.default_rng(5)
    right = np.flatnonzero(shares.argmax(axis=1) == labels)
    mixed = random.choice(right, len(right) // 4, replace=False)  # now the second guess is right, as of hard pictures
    other = (labels[mixed] + random.integers(1, 10, len(mixed))) % 10
    shares[mixed, other] = shares[mixed, labels[mixed]] + 0.01
    found = data_rules.label_noise(history_of(answers=replace(noise, val_probabilities=shares)))
    assert 0.2 < float(found.problem.split()[1].rstrip("%")) / 100 < 0.4


def test_hard_pictures_are_no_label_noise():
    assert data_rules.label_noise(history_of(answers=answers_of(0.6))) is None  # wrong where it is unsure
    hard = answers_of(0.6)  # wrong everywhere alike, but the label is the second guess
    random = np.random.default_rng(0)
    labels = hard.val_labels.copy()
    places = random.random(len(labels)) < 0.3
    second = np.argsort(-hard.val_probabilities, axis=1)[:, 1]
    labels[places] = second[places]
    assert data_rules.label_noise(history_of(answers=replace(hard, val_labels=labels))) is None
    assert data_rules.label_noise(history_of(answers=noisy(0.4, count=150))) is None  # too few to tell
    assert data_rules.label_noise(history_of(answers=noisy(0.01))) is None


def test_a_class_that_is_never_recognised():
    answers = answers_of(0.9)
    shares = answers.val_probabilities.copy()
    shares[:, 3] = 0
    shares[answers.val_labels == 3, 4] = 1
    history = history_of(answers=replace(answers, val_probabilities=shares))
    found = data_rules.class_ignored(history)
    assert found.problem == "1 class is never recognised: d"
    assert found.evidence == ("d: 0% of 100 recognised, mostly taken for e; answered 0 times; 400 training pictures",)
    assert data_rules.class_ignored(history_of()) is None


def test_imbalance_counts_where_it_shows():
    counts = {"train": [1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 50], "val": [100] * 10}
    assert data_rules.imbalance(history_of(counts=counts)) is None  # all are recognised alike
    answers = answers_of(0.9)
    shares = answers.val_probabilities.copy()
    missed = np.flatnonzero(answers.val_labels == 9)[:60]
    shares[missed, 0] = 2
    history = history_of(counts=counts, answers=replace(answers, val_probabilities=shares))
    found = data_rules.imbalance(history)
    assert found.severity == "warning"
    assert "a has 1,000 training pictures, j 50" in found.evidence[0]
    assert data_rules.imbalance(replace(history, answers=None)).severity == "note"
    balanced = recipe_of(class_weights="balanced")
    assert data_rules.imbalance(replace(history, recipe=balanced)) is None


def test_leakage_by_pixels_or_by_looks():
    names = [f"cat/{number}.png" for number in range(7)]
    found = data_rules.leakage(history_of(shared={("train", "val"): names}))
    assert "7 of 1,000 val pictures stand in train, pixel for pixel" in found.evidence[0]
    assert data_rules.leakage(history_of(shared={("train", "val"): names[:3]})) is None
    assert data_rules.leakage(history_of(shared={("val", "test"): names})) is None
    copies = Copies("test", tuple(names), of=50, among=0.5)
    assert copies.share == pytest.approx(0.28)
    assert "about 28%" in data_rules.leakage(history_of(answers=answers_of(copies=(copies,)))).evidence[0]


def test_augmentation_that_is_too_strong():
    epochs = epochs_of(flat(1.0), flat(0.6), flat(0.4), flat(0.88))
    history = history_of(epochs, answers=answers_of(train_accuracy=0.9, augmented_accuracy=0.6))
    assert (
        "90.0% right as they are, 60.0% as training shows them"
        in (data_rules.augmentation_too_strong(history).evidence[0])
    )
    mild = answers_of(train_accuracy=0.9, augmented_accuracy=0.85)
    assert data_rules.augmentation_too_strong(replace(history, answers=mild)) is None
    assert data_rules.augmentation_too_strong(replace(history, answers=None)) is None


def test_augmentation_that_changes_labels():
    answers = answers_of(0.9, turned=(Turned("g", "j", 0.02, 0.5), Turned("a", "b", 0.5, 0.6)))
    assert data_rules.augmentation_changes_labels(history_of(answers=answers)) is None  # the network is not misled
    shares = answers.val_probabilities.copy()
    sixes = np.flatnonzero(answers.val_labels == CLASSES.index("g"))[:60]
    shares[sixes, CLASSES.index("j")] = 2
    found = data_rules.augmentation_changes_labels(history_of(answers=replace(answers, val_probabilities=shares)))
    assert found.problem == "augmentation turns g into j"
    assert "2% of g for j as they are, 50% as training shows them" in found.evidence[0]


def test_an_order_that_repeats():
    sorted_set = np.repeat(np.random.default_rng(3).standard_normal(10), 4)
    history = history_of()
    repeated = replace(history, steps=steps_of(history.epochs, profile=sorted_set))
    assert data_rules.order_repeats(repeated).severity == "error"
    assert data_rules.order_repeats(history) is None
    short = replace(repeated, steps=repeated.steps[:80])
    assert data_rules.order_repeats(short) is None


# conduct


def test_a_test_part_that_was_opened_twice():
    opened = {"time": "2026-11-21T10:00:00+00:00", "purpose": "evaluate"}
    found = conduct_rules.test_opened_often(history_of(openings=(opened,) * 2))
    assert found.problem == "the test part has been opened 2 times"
    assert found.evidence[0] == "2026-11-21 10:00: evaluate"
    assert len(conduct_rules.test_opened_often(history_of(openings=(opened,) * 9)).evidence) == 6


def test_a_validation_part_that_is_too_small():
    few = {"train": [100] * 10, "val": [5] * 10, "test": [5] * 10}
    assert conduct_rules.validation_too_small(history_of(counts=few)).severity == "warning"
    assert conduct_rules.validation_too_small(history_of()) is None
    unseen = history_of(epochs_of(np.linspace(2, 0.5, 12), flat(0.9)), answers=None)
    assert conduct_rules.validation_too_small(unseen) is None
    assert [one.name for one in examine(unseen)] == ["nothing_held_out"]


# the doctor


def test_findings_come_worst_first_without_what_others_explain():
    history = at_chance(observations=[observation_of(1, ratio=0.9), observation_of(101, norm=90.0)])
    assert [one.name for one in examine(history)] == ["chance_level", "learning_rate_too_high"]
    opened = {"time": "2026-11-21T10:00:00+00:00", "purpose": "evaluate"}
    also = replace(history, openings=(opened,) * 2)
    assert [one.severity for one in examine(also)] == ["error", "error", "warning"]


def test_several_labels_leave_only_the_rules_that_hold_for_them():
    labels = np.zeros((4, 10), dtype=np.int64)
    history = at_chance(multi_label=True)
    history = replace(history, answers=replace(answers_of(), val_probabilities=None, val_labels=labels))
    assert examine(history) == []


def test_a_watch_says_what_is_new_and_says_it_once():
    whole = at_chance(finished=False, answers=None)
    watch = Watch(replace(whole, epochs=[], steps=[], observations=[]))
    said = []
    for line in whole.epochs:
        for step in [step for step in whole.steps if step["epoch"] == line["epoch"]]:
            report = StepReport(line["epoch"], step["step"], 1, 40, step["loss"], 0.01, 100, 0.1, whole.observations[0])
            assert watch.take(report) == []
        report = Report(**line, seconds=1.0, images_per_second=1.0, best=False)
        said.append([one.name for one in watch.take(report)])
    assert said[:2] == [[], []]
    assert said[2] == ["chance_level"]
    assert sum(len(names) for names in said) == 1


def test_a_finding_is_read_as_text():
    text = str(learning_rules.chance_level(at_chance()))
    first, *rest = text.splitlines()
    assert first == "error: the network answers no better than guessing [chance_level]"
    assert rest[-2].startswith("  why: ")
    assert rest[-1].startswith("  to do: ")
