"""The lectures' questions as experiments: each trains on real data, draws what came of it, and says what was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eyebright.data.split import Splits
from eyebright.errors import DataError, RecipeError, did_you_mean
from eyebright.evaluation.paired import LEVEL, adjust, compare_seeds
from eyebright.lab.covariate_shift import compare_normalisations
from eyebright.lab.double_descent import find_double_descent
from eyebright.lab.experiment import Experiment, Result, Settings
from eyebright.lab.learning_rate import STEPS, draw_range, range_test, say_range
from eyebright.lab.variants import Outcome, Variant, draw_gaps, draw_outcomes, plain, say_outcomes, train_variants
from eyebright.training.fit import Fit
from eyebright.training.recipe import Recipe, load_recipe

FEWEST_SEEDS = 3  # with which variants are told apart
CROPS = ("prepare.crop=32", "augment.random_crop=true", "augment.padding=4")


def find_experiment(name: str) -> Experiment:
    """One of `EXPERIMENTS`.

    Raises:
        RecipeError: there is none of this name.
    """
    if name not in EXPERIMENTS:
        raise RecipeError(
            f"the lab has no experiment '{name}'",
            expected=f"one of {', '.join(EXPERIMENTS)}",
            remedy=did_you_mean(name, EXPERIMENTS) or "see `eyebright lab`",
        )
    return EXPERIMENTS[name]


def do_experiment(name: str, settings: Settings) -> Result:
    """Does one experiment: in its short form on some of the training pictures, in the full one on all.

    Raises:
        RecipeError: there is none of this name, or a change does not fit.
        DataError: there is no validation part.
    """
    experiment = find_experiment(name)
    splits = settings.splits
    if splits.val is None:
        raise DataError(
            "an experiment without validation pictures",
            expected="a part that is not trained with, to see what holds for other pictures",
            remedy="leave data.val_fraction above 0",
        )
    short = () if settings.full else experiment.short
    recipe = load_recipe(experiment.recipe, (*experiment.changes, *short, *settings.changes))
    if not settings.full and len(splits.train) > experiment.pictures:
        order = np.random.default_rng(0).permutation(len(splits.train))[: experiment.pictures]
        splits = Splits(splits.train.select(np.sort(order)), splits.val, splits.test, splits.source, splits.notes)
    return experiment.run(recipe, replace(settings, splits=splits), settings.seeds or experiment.seeds[settings.full])


def _learning_rate(recipe: Recipe, settings: Settings, seeds: int) -> Result:
    fit = Fit(recipe, settings.splits)
    tick = settings.begin("raising the rate", STEPS)
    found = range_test(fit, on_step=tick)
    used = recipe.training.learning_rate
    values = {
        "rates": found.rates.tolist(), "losses": found.losses.tolist(), "steepest": found.steepest,
        "suggested": found.suggested, "too_high": found.too_high, "used": used,
    }  # fmt: skip
    return Result({"": draw_range(found, used)}, say_range(found, used), values)


def _compare(recipe: Recipe, settings: Settings, seeds: int, variants: tuple[Variant, ...], title: str) -> Result:
    outcomes = train_variants(recipe, variants, settings.splits, seeds=seeds, kept=settings.kept, begin=settings.begin)
    values = {
        one.name: {key: plain(one.last(key)) for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")}
        for one in outcomes
    }
    figures = {"": draw_gaps(outcomes, title), "-curves": draw_outcomes(outcomes)}
    return Result(figures, [*_answers(outcomes), *say_outcomes(outcomes)], values)


def _answers(outcomes: list[Outcome]) -> list[str]:
    """Of each variant whether it is better on validation than the first one; where there are seeds enough to tell."""
    first = outcomes[0].last("val_accuracy")
    if len(first) < FEWEST_SEEDS or np.isnan(first).any():
        return []
    others = [one for one in outcomes[1:] if not np.isnan(one.last("val_accuracy")).any()]
    differences = [
        compare_seeds(dict(enumerate(first.tolist())), dict(enumerate(one.last("val_accuracy").tolist())))
        for one in others
    ]
    found = []
    for one, difference, p_value in zip(others, differences, adjust([one.p_value for one in differences]), strict=True):
        low, high = difference.interval
        verdict = "no difference is shown" if p_value > LEVEL else "better" if difference.value > 0 else "worse"
        found.append(
            f"{one.name} against {outcomes[0].name}: {100 * difference.value:+.1f} points on validation "
            f"({100 * low:+.1f} to {100 * high:+.1f}; p = {p_value:.2g}, of all {len(others)} together): {verdict}; "
            f"gap {100 * (one.gaps.mean() - outcomes[0].gaps.mean()):+.1f}"
        )
    return found


def _dropout(recipe: Recipe, settings: Settings, seeds: int) -> Result:
    amounts = (0.0, 0.25, 0.5, 0.75, 0.9)
    variants = tuple(Variant(f"dropout {amount:g}", (f"model.dropout={amount}",)) for amount in amounts)
    return _compare(recipe, settings, seeds, variants, "Dropout against the gap (training − validation)")


def _augmentation(recipe: Recipe, settings: Settings, seeds: int) -> Result:
    variants = (
        Variant("none"),
        Variant("crops", CROPS),
        Variant("flips", ("augment.horizontal_flip=0.5",)),
        Variant("crops and flips", (*CROPS, "augment.horizontal_flip=0.5")),
        Variant("colour", ("augment.brightness=0.4", "augment.contrast=0.4", "augment.saturation=0.4")),
        Variant("rotation", ("augment.rotation=15",)),
        Variant("mixup", ("augment.mixup=0.4",)),
        Variant("CutMix", ("augment.cutmix=1.0",)),
    )
    return _compare(recipe, settings, seeds, variants, "Which augmentation closes the gap")


def _norm_place(recipe: Recipe, settings: Settings, seeds: int) -> Result:
    variants = (
        Variant("before the nonlinearity", ('model.normalise="before"',)),
        Variant("after the nonlinearity", ('model.normalise="after"',)),
        Variant("before, and on the input", ("model.normalise_input=true",)),
        Variant("none", ('model.normalisation="none"',)),
    )
    return _compare(recipe, settings, seeds, variants, "Where batch norm stands")


def _depth(recipe: Recipe, settings: Settings, seeds: int) -> Result:
    shallow, deep = 20, 56 if settings.full else 32
    variants = tuple(
        Variant(f"{kind} {depth}", (f'model.name="{kind}{depth}_cifar"',))
        for kind in ("plain", "resnet")
        for depth in (shallow, deep)
    )
    result = _compare(recipe, settings, seeds, variants, "Depth, with shortcuts and without")
    said = []
    for kind in ("plain", "resnet"):
        losses = [result.values[f"{kind} {depth}"]["train_loss"] for depth in (shallow, deep)]
        if any(loss is None for several in losses for loss in several):
            said.append(f"{kind}: the loss was no longer a finite number in at least one training")
            continue
        one, other = (float(np.mean(several)) for several in losses)
        word = "higher" if other > one else "lower"
        said.append(
            f"{kind}: the training loss of {deep} layers is {word} than that of {shallow}: {other:.4f}, {one:.4f}"
        )
    return Result(result.figures, [*said, *result.sentences], result.values)


EXPERIMENTS = {
    "double-descent": Experiment(
        "does error fall, rise and fall again: over epochs, and over the network's width (lecture 1)?",
        "cnn-cifar10",
        (
            "model.dropout=0.0", "training.epochs=100", "training.learning_rate=0.05", 'training.schedule="constant"',
            "training.weight_decay=0.0",
        ),
        ("training.epochs=50",), 8000, (1, 1), find_double_descent,
    ),
    "covariate-shift": Experiment(
        "does normalisation hold the inputs of the layers still, and which one takes a shift of the pictures away "
        "(lecture 4)?",
        "cnn-cifar10",
        (
            *CROPS, 'training.optimizer="adam"', "training.nesterov=false", "training.learning_rate=1e-3",
            "training.observe_steps=20",
        ),
        ("training.epochs=6",), 10_000, (2, 3), compare_normalisations,
    ),
    "learning-rate": Experiment(
        "from which learning rate on does this network learn, and which is too high?",
        "cnn-cifar10", CROPS, (), 10_000, (1, 1), _learning_rate,
    ),
    "dropout": Experiment(
        "how much dropout closes the gap between training and validation?",
        "cnn-cifar10", (), ("training.epochs=10",), 5000, (3, 5), _dropout,
    ),
    "augmentation": Experiment(
        "which augmentation closes the gap between training and validation?",
        "cnn-cifar10", (), ("training.epochs=10",), 5000, (3, 5), _augmentation,
    ),
    "norm-place": Experiment(
        "batch norm before or after the nonlinearity, also on the input, or none (lecture 4)?",
        "cnn-cifar10", CROPS, ("training.epochs=6",), 10_000, (3, 5), _norm_place,
    ),
    "depth": Experiment(
        "do deep plain nets have the higher training loss, and residual ones not (lecture 4)?",
        "resnet20-cifar10", (), ("training.epochs=4", "training.milestones=[3]"), 10_000, (2, 3), _depth,
    ),
}  # fmt: skip
