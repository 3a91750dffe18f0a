import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from eyebright.data.images import Images
from eyebright.data.sources import load_data
from eyebright.data.split import Splits
from eyebright.errors import DataError, RecipeError
from eyebright.lab import experiments, variants
from eyebright.lab.experiment import Settings
from eyebright.lab.experiments import EXPERIMENTS, do_experiment
from eyebright.lab.learning_rate import RangeTest, draw_range, range_test, say_range
from eyebright.lab.variants import Outcome, Variant, draw_gaps, say_outcomes, train_variants
from eyebright.training.fit import Fit
from eyebright.training.recipe import load_recipe

SMALL = (  # what makes the lab's recipes fit for the digits
    "prepare.channels=1", "prepare.resize=[36,36]", "prepare.crop=32", "model.width=4", "training.epochs=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    parts = load_data("digits")
    return Splits(parts.train.select(np.arange(300)), parts.val, parts.test)


# the range test


def test_the_range_test_puts_everything_back(digits):
    fit = Fit(load_recipe("lenet5-digits", ["training.epochs=20"]), digits)
    steps = fit.steps()
    for _ in range(7):
        next(steps)
    steps.close()
    before = fit.state()
    rates = []
    found = range_test(fit, steps=60, on_step=lambda: rates.append(1))
    after = fit.state()
    assert after.values == before.values
    assert all(torch.equal(value, after.tensors[name]) for name, value in before.tensors.items())
    assert len(rates) == len(found.losses) <= 60
    again = Fit(load_recipe("lenet5-digits", ["training.epochs=20"]), digits)
    again.load_state(before)
    assert next(iter(fit)).train_loss == next(iter(again)).train_loss


def test_rates_grow_by_equal_ratios_and_high_ones_are_seen_to_be_too_high(digits):
    fit = Fit(load_recipe("lenet5-digits", ["training.epochs=40", "training.batch_size=32"]), digits)
    found = range_test(fit, low=1e-5, high=10, steps=120)
    ratios = found.rates[1:] / found.rates[:-1]
    assert ratios == pytest.approx(np.full(len(ratios), ratios[0]))
    assert found.rates[0] == pytest.approx(1e-5)
    assert found.too_high is not None
    assert 1e-4 < found.suggested < found.too_high
    assert 1e-4 < found.steepest < found.too_high
    said = say_range(found, used=5.0)
    assert "it will not train" in said[-1]
    assert "fastest" in say_range(found, used=1e-3)[0]
    assert len(draw_range(found, 1e-3).axes[0].lines) == 5


def test_the_suggestion_is_read_off_a_curve_with_a_known_least():
    rates = np.geomspace(1e-5, 1, 200)
    losses = 2.3 - 1.5 * np.exp(-((np.log10(rates) + 2) ** 2)) + np.maximum(0, np.log10(rates) + 1) * 4
    found = RangeTest(rates, losses, diverged=False)
    assert 10**-3.2 < found.suggested < 10**-2.6
    assert 10**-3.2 < found.steepest < 10**-2
    assert 0.1 < found.too_high < 0.6
    flat = RangeTest(rates, np.full(200, 2.3), diverged=False)
    assert flat.too_high is None


def test_a_test_of_few_epochs_has_fewer_steps(digits):
    fit = Fit(load_recipe("lenet5-digits", ["training.epochs=1", "training.batch_size=32"]), digits)
    found = range_test(fit, low=1e-5, high=1e-3)
    assert len(found.rates) == fit.loader.steps
    assert found.rates[-1] == pytest.approx(1e-3)


# variants


def test_variants_are_trained_once_and_then_kept(tmp_path, digits, monkeypatch):
    base = load_recipe("lenet5-digits", ["training.epochs=2"])
    ways = (Variant("usual"), Variant("slow", ("training.learning_rate=1e-5",)))
    first = train_variants(base, ways, digits, seeds=2, kept=tmp_path)
    assert [one.name for one in first] == ["usual", "slow"]
    assert [sorted(one.runs) for one in first] == [[0, 1], [0, 1]]
    fit = Fit(load_recipe(base, ["training.learning_rate=1e-5"]), digits, seed=1)
    assert [line["train_loss"] for line in first[1].runs[1]] == [report.train_loss for report in fit]
    monkeypatch.setattr(variants, "Fit", None)  # nothing is trained again
    assert train_variants(base, ways, digits, seeds=2, kept=tmp_path) == first
    with pytest.raises(TypeError):
        train_variants(base, ways, digits, seeds=3, kept=tmp_path)


def test_a_training_that_was_broken_off_goes_on_to_the_same_end(tmp_path, digits, monkeypatch):
    base = load_recipe("lenet5-digits", ["training.epochs=6"])
    ways = (Variant("usual"),)
    whole = train_variants(base, ways, digits, seeds=1, kept=tmp_path / "whole", look=count_steps)
    monkeypatch.setattr(variants, "SAVED_EVERY", 0)
    begun, steps = [], []

    def begin(about, total):
        begun.append((about, total))
        return tick

    def tick():
        steps.append(1)
        if len(steps) == 22:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_variants(base, ways, digits, seeds=1, kept=tmp_path / "broken", begin=begin, look=count_steps)
    assert [path.suffix for path in (tmp_path / "broken").iterdir()] == [".safetensors"]
    again = train_variants(base, ways, digits, seeds=1, kept=tmp_path / "broken", begin=begin, look=count_steps)
    per_epoch = begun[0][1] // 6
    assert begun == [("1 of 1: usual, seed 0", 6 * per_epoch), ("1 of 1: usual, seed 0", 4 * per_epoch)]
    assert per_epoch == 10
    assert without_seconds(again) == without_seconds(whole)
    assert again[0].seen == {0: [1, 60]} == whole[0].seen
    assert [path.suffix for path in (tmp_path / "broken").iterdir()] == [".json"]


def test_much_that_was_seen_is_kept_too(tmp_path, digits, monkeypatch):
    base = load_recipe("lenet5-digits", ["training.epochs=3"])
    monkeypatch.setattr(variants, "SAVED_EVERY", 0)
    steps = []

    def tick():
        steps.append(1)
        if len(steps) == 25:
            raise KeyboardInterrupt

    for error in (KeyboardInterrupt, None):
        with pytest.raises(error) if error else nullcontext():
            found = train_variants(
                base, (Variant("usual"),), digits, seeds=1, kept=tmp_path, begin=lambda *about: tick, look=see_much
            )
    assert found[0].seen == {0: [see_much(None)] * 2}


def see_much(fit):
    return list(range(1_000_000))  # more than a file's header may hold


def test_trainings_that_diverged_have_no_figures(tmp_path, digits):
    base = load_recipe("lenet5-digits", ["training.epochs=4", 'model.nonlinearity="relu"'])
    wild = Variant("wild", ("training.learning_rate=1e30",))
    (one,) = train_variants(base, (wild,), digits, seeds=1, kept=tmp_path)
    assert one.diverged == {0}
    assert np.isnan(one.last("val_accuracy")).all()
    late = Outcome("late", {0: [line(0.9, 0.5)], 1: [line(0.9, 0.5)]}, {}, frozenset({1}))
    assert np.isnan(late.gaps).tolist() == [False, True]
    assert variants.plain(late.last("val_accuracy")) == [0.5, None]
    draw_gaps([one], "Gaps")  # warns of nothing


def count_steps(fit):
    return fit.step


def without_seconds(outcomes):
    fast = ("seconds", "images_per_second")
    return [{key: value for key, value in line.items() if key not in fast} for line in outcomes[0].runs[0]]


def test_another_set_of_pictures_is_another_training(tmp_path, digits):
    base = load_recipe("lenet5-digits", ["training.epochs=1"])
    train_variants(base, (Variant("usual"),), digits, seeds=1, kept=tmp_path)
    fewer = Splits(digits.train.select(np.arange(200)), digits.val, digits.test)
    train_variants(base, (Variant("usual"),), fewer, seeds=1, kept=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    pixels = digits.train.pixels.copy()
    pixels[200, 3, 3] += 1
    other = Splits(Images(pixels, digits.train.labels, digits.train.classes), digits.val, digits.test)
    train_variants(base, (Variant("usual"),), other, seeds=1, kept=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_change_that_does_not_fit_is_said_before_anything_is_trained(tmp_path, digits):
    base = load_recipe("lenet5-digits")
    with pytest.raises(RecipeError, match="unknown key"):
        train_variants(base, (Variant("a"), Variant("b", ("training.nonsense=1",))), digits, seeds=1, kept=tmp_path)
    assert list(tmp_path.iterdir()) == []


def line(train, val):
    return {"train_accuracy": train, "val_accuracy": val, "train_loss": 1 - train, "val_loss": 1 - val}


def test_outcomes_are_told_best_first_with_their_gaps():
    outcomes = [
        Outcome("low", {0: [line(0.9, 0.5)], 1: [line(0.9, 0.6)]}, {}),
        Outcome("high", {0: [line(0.8, 0.7)], 1: [line(0.8, 0.72)]}, {}),
        Outcome("broken", {0: [], 1: [line(0.1, 0.1)]}, {}, frozenset({0})),
    ]
    said = say_outcomes(outcomes)
    assert said[0].startswith("high: validation 71.0% (70.0 to 72.0), training 80.0%")
    assert "gap 9.0%" in said[0]
    assert said[2] == "broken: validation no number in 1 of 2, training no number in 1 of 2, gap no number in 1 of 2"
    figure = draw_gaps(outcomes, "Gaps")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["low", "high", "broken"]


# experiments


@pytest.mark.parametrize("name", ["dropout", "norm-place"])
def test_an_experiment_draws_and_says_what_it_found(name, tmp_path, digits):
    settings = Settings(digits, tmp_path, SMALL, seeds=3)
    result = do_experiment(name, settings)
    assert set(result.figures) == {"", "-curves"}
    ways = 5 if name == "dropout" else 4
    assert len(result.values) == ways
    assert len(result.sentences) == 2 * ways - 1
    assert len(list(tmp_path.iterdir())) == 3 * ways
    json.dumps(result.values, allow_nan=False)


def test_the_depth_experiment_says_which_training_loss_is_higher(tmp_path, digits):
    few = Splits(digits.train.select(np.arange(64)), digits.val.select(np.arange(32)), digits.test)
    changes = ("prepare.channels=1", "training.epochs=1", "training.milestones=[1]", "training.batch_size=32")
    result = do_experiment("depth", Settings(few, tmp_path, changes, seeds=1))
    assert set(result.values) == {"plain 20", "plain 32", "resnet 20", "resnet 32"}
    for kind, said in zip(("plain", "resnet"), result.sentences, strict=False):
        deeper, shallow = (result.values[f"{kind} {depth}"]["train_loss"][0] for depth in (32, 20))
        assert said.startswith(f"{kind}: the training loss of 32 layers is {'higher' if deeper > shallow else 'lower'}")


def test_the_depth_experiment_does_not_call_a_diverged_loss_lower(tmp_path, digits, monkeypatch):
    lines = {0: [line(0.5, 0.5) | {"epoch": 1, "learning_rate": 0.1}]}
    names = [f"{kind} {depth}" for kind in ("plain", "resnet") for depth in (20, 32)]
    outcomes = [Outcome(name, lines, {}, frozenset({0} if name == "plain 32" else ())) for name in names]
    monkeypatch.setattr(experiments, "train_variants", lambda *args, **options: outcomes)
    result = do_experiment("depth", Settings(digits, tmp_path))
    assert result.sentences[0] == "plain: the loss was no longer a finite number in at least one training"
    assert result.sentences[1].startswith("resnet: the training loss of 32 layers is lower")
    json.dumps(result.values, allow_nan=False)


def test_variants_are_told_apart_with_three_seeds_and_all_together():
    def made(name, *val):
        return Outcome(name, {seed: [line(0.9, one)] for seed, one in enumerate(val)}, {})

    two = [made("none", 0.50, 0.52), made("one", 0.51, 0.53)]
    assert experiments._answers(two) == []
    three = [made("none", 0.50, 0.52, 0.51), made("up", 0.60, 0.62, 0.611), made("same", 0.51, 0.51, 0.52)]
    up, same = experiments._answers(three)
    assert up.startswith("up against none: +10.0 points")
    assert "better" in up
    assert "no difference is shown" in same
    many = [three[0], made("luck", 0.513, 0.530, 0.5175), *([three[2]] * 8)]
    assert "better" in experiments._answers(many[:2])[0]
    assert "no difference is shown" in experiments._answers(many)[0]


def test_every_experiment_has_a_recipe_that_ships_and_a_question():
    for name, experiment in EXPERIMENTS.items():
        full = load_recipe(experiment.recipe, experiment.changes)
        short = load_recipe(experiment.recipe, (*experiment.changes, *experiment.short))
        assert short.training.epochs < full.training.epochs or name == "learning-rate"
        assert experiment.about.endswith("?")


def test_what_cannot_be_done_is_refused(tmp_path, digits):
    with pytest.raises(RecipeError, match="the lab has no experiment 'dropuot'") as caught:
        do_experiment("dropuot", Settings(digits, tmp_path))
    assert "did you mean 'dropout'?" in str(caught.value)
    with pytest.raises(DataError, match="without validation pictures"):
        do_experiment("dropout", Settings(Splits(digits.train, None, digits.test), tmp_path))


def test_the_command_lists_and_does_them(eyebright, tmp_path):
    done = eyebright("lab")
    assert [row.split()[0] for row in done.stdout.splitlines()] == list(EXPERIMENTS)
    changes = [part for change in SMALL[:-1] for part in ("--set", change)]
    done = eyebright("lab", "learning-rate", "--data", "digits", *changes, "--out", tmp_path / "lab", "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["experiment"] == "learning-rate"
    assert values["figures"] == [str(tmp_path / "lab" / "learning-rate.png")]
    assert (tmp_path / "lab" / "learning-rate.png").read_bytes().startswith(b"\x89PNG")
    assert len(values["rates"]) == len(values["losses"])
    done = eyebright("lab", "nonsense", "--out", tmp_path / "lab")
    assert (done.returncode, "the lab has no experiment" in done.stderr) == (1, True)
