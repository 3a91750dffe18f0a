"""Covariate shift, inside and outside (lecture: L4.1–4.3): one network with each normalisation.

Inside: how far the inputs of the layers move from look to look while the network learns. Outside: pictures are made
brighter by known amounts, and what arrives at each layer is measured, and what becomes of the answers. That the measure
is right is shown on the way: inputs of each layer are moved by a known amount, and the amount is found again.

Sources:
    Ioffe, Szegedy: Batch Normalization, ICML 2015 (internal covariate shift). Santurkar et al.: How Does Batch
    Normalization Help Optimization?, NeurIPS 2018, §2.2, doubts that it is why batch norm helps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from torch import Tensor

from eyebright.data.batches import Loader
from eyebright.data.images import Pictures
from eyebright.errors import RecipeError
from eyebright.inspection.distribution_shift import Moments, measure_moments, pushed
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE, RED, make_figure, name_layers, tidy
from eyebright.lab.experiment import Result, Settings
from eyebright.lab.variants import Outcome, Variant, draw_outcomes, say_outcomes, train_variants
from eyebright.training.fit import Fit
from eyebright.training.loss import count_right
from eyebright.training.observe import evaluating
from eyebright.training.recipe import Recipe

NORMALISATIONS = ("none", "batch", "layer", "instance", "group")
COLOURS = dict(zip(NORMALISATIONS, (GREY, BLUE, ORANGE, GREEN, RED), strict=True))
ASKED = 4000  # validation pictures, at most, by which shifts are measured
BATCH = 128
INJECTED = 1.0  # standard deviations by which a layer's inputs are moved, to be found again
BRIGHTER = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # standard deviations of the pictures' pixels
LEAST_DRAWN = 1e-4  # spreads of drift, on a logarithmic axis
SHOWN = 1.0  # of these: how much of it arrives at each layer

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shifts:
    """What one normalisation makes of shifts.

    Attributes:
        name: of the normalisation.
        layers: state-dict prefixes, in the order of computation.
        drift: float64 `[seeds, layers]`: how far the channels' means move from look to look, in spreads, on average.
        recovered: float64 `[seeds, layers]`: what was found of a shift of `INJECTED` between two halves of pictures.
        chance: float64 `[seeds, layers]`: what was found between them without it.
        arriving: float64 `[seeds, layers]`: how far the means are moved by pictures brighter by `SHOWN`.
        accuracy: float64 `[seeds, amounts]`: for each of `BRIGHTER`.
    """

    name: str
    layers: tuple[str, ...]
    drift: Values
    recovered: Values
    chance: Values
    arriving: Values
    accuracy: Values


def compare_normalisations(recipe: Recipe, settings: Settings, seeds: int) -> Result:
    """Trains the network with each normalisation, and measures.

    Args:
        recipe: of a network with a `normalisation`.
        settings: `splits.val` is there.
        seeds: trainings of each.
    """
    variants = [Variant(name, (f'model.normalisation="{name}"',)) for name in NORMALISATIONS]
    outcomes = train_variants(
        recipe, variants, settings.splits, seeds=seeds, kept=settings.kept, begin=settings.begin, look=look_at_shift
    )
    shifts = [gather(one) for one in outcomes if all(seen and "recovered" in seen[-1] for seen in one.seen.values())]
    if not shifts:
        raise RecipeError(
            "no training was looked at to its end",
            expected="trainings that end as the recipe says, and are looked into",
            remedy="lower training.learning_rate, set training.observe_steps above 0, leave early_stop_epochs out",
        )
    sentences = [*say_drift(shifts), *say_arriving(shifts), say_recovered(shifts), *say_outcomes(outcomes)]
    values = {
        one.name: {
            "layers": list(one.layers), "drift": one.drift.tolist(), "recovered": one.recovered.tolist(),
            "chance": one.chance.tolist(), "arriving": one.arriving.tolist(), "brighter": list(BRIGHTER),
            "accuracy": one.accuracy.tolist(),
        }
        for one in shifts
    }  # fmt: skip
    return Result({"": draw_shifts(shifts), "-curves": draw_outcomes(outcomes)}, sentences, values)


def look_at_shift(fit: Fit) -> dict[str, Any]:
    """What the layers are given now, as in training; after the last step also what shifts of known size do."""
    assert fit.observer is not None, "it is looked at where the training is observed"
    moments = measure_moments(fit.model, [fit.observer.pictures], fit.plan, by_batch=True)
    seen: dict[str, Any] = {
        "moments": {name: [one.count, *map(_short, (one.means, one.variances))] for name, one in moments.items()}
    }
    if fit.step == fit.loader.steps * fit.recipe.training.epochs:
        seen |= probe(fit)
    return seen


def probe(fit: Fit) -> dict[str, Any]:
    """Moves the inputs of each layer, and the pictures, by known amounts.

    Returns:
        Plain values: `recovered`, `chance` and `arriving`, layer → how far the means were found to have moved;
        `accuracy` for each of `BRIGHTER`.
    """
    val = cast("Pictures", fit.val)
    places = np.random.default_rng(0).permutation(len(val))[:ASKED]
    parts = []
    for half in (places[::2], places[1::2]):
        loaded = list(Loader(val.select(np.sort(half)), fit.prepare, fit.plan, BATCH).batches())
        parts.append([(fit.plan.place_inputs(batch.inputs), batch.labels) for batch in loaded])
    one, other = ([inputs for inputs, _ in part] for part in parts)
    known, unknown = (measure_moments(fit.model, part, fit.plan) for part in (one, other))
    recovered = {}
    for name, moments in known.items():
        with pushed(fit.model, name, INJECTED * np.sqrt(moments.variances)):
            recovered[name] = moments.moved(measure_moments(fit.model, other, fit.plan)[name])
    spread = torch.cat(one).std(dim=(0, 2, 3), keepdim=True)
    brighter = measure_moments(fit.model, [inputs + SHOWN * spread for inputs in one], fit.plan)
    return {
        "recovered": recovered,
        "chance": {name: moments.moved(unknown[name]) for name, moments in known.items()},
        "arriving": {name: moments.moved(brighter[name]) for name, moments in known.items()},
        "accuracy": [_accuracy(fit, [*parts[0], *parts[1]], amount * spread) for amount in BRIGHTER],
    }


def _accuracy(fit: Fit, batches: Sequence[tuple[Tensor, Tensor]], brighter: Tensor) -> float:
    """Of the network as it is now, on pictures that are made brighter."""
    with evaluating(fit.model, fit.plan):
        right = sum(int(count_right(fit.model(inputs + brighter), labels)) for inputs, labels in batches)
    return right / sum(len(labels) for _, labels in batches)


def _short(values: Values) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def gather(outcome: Outcome) -> Shifts:
    """One normalisation's figures from what was seen in its trainings."""
    layers = tuple(outcome.seen[0][0]["moments"])

    def last(name: str) -> Values:
        return np.array([[seen[-1][name][layer] for layer in layers] for seen in outcome.seen.values()])

    return Shifts(
        outcome.name,
        layers,
        np.array([[_drift(seen, layer) for layer in layers] for seen in outcome.seen.values()]),
        last("recovered"),
        last("chance"),
        last("arriving"),
        np.array([seen[-1]["accuracy"] for seen in outcome.seen.values()]),
    )


def _drift(seen: Sequence[dict[str, Any]], layer: str) -> float:
    moments = []
    for look in seen:
        count, means, variances = look["moments"][layer]
        moments.append(Moments(count, np.array(means), np.array(variances)))
    return float(np.mean([one.moved(later) for one, later in itertools.pairwise(moments)]))


def say_drift(shifts: Sequence[Shifts]) -> list[str]:
    """How still each normalisation holds the inputs of the inner layers, the stillest first."""
    order = sorted(shifts, key=lambda one: one.drift[:, 1:].mean())
    each = (f"{one.name} {_ends(one.drift[:, 1:].mean(axis=1))}" for one in order)
    return [f"from look to look the inputs of the inner layers move by, in spreads, on average: {'; '.join(each)}"]


def say_arriving(shifts: Sequence[Shifts]) -> list[str]:
    """How much of a shift of the pictures arrives at the last layer, and what becomes of the answers."""
    order = sorted(shifts, key=lambda one: one.arriving[:, -1].mean())
    each = (f"{one.name} {_ends(one.arriving[:, -1])}" for one in order)
    usual, bright = BRIGHTER.index(0.0), BRIGHTER.index(SHOWN)
    lost = sorted(shifts, key=lambda one: (one.accuracy[:, usual] - one.accuracy[:, bright]).mean())
    answers = (f"{one.name} {one.accuracy[:, usual].mean():.1%} → {one.accuracy[:, bright].mean():.1%}" for one in lost)
    return [
        f"of pictures brighter by {SHOWN:g} spread there arrives at the last layer, in its spreads: {'; '.join(each)}",
        f"validation accuracy on these pictures, as they are and brighter: {'; '.join(answers)}",
    ]


def say_recovered(shifts: Sequence[Shifts]) -> str:
    """How well the measure finds a shift of known size again."""
    found = np.concatenate([one.recovered.ravel() for one in shifts])
    worst = float(np.abs(found / INJECTED - 1).max())
    chance = max(float(one.chance.max()) for one in shifts)
    return (
        f"the measure, tried: between two halves of the pictures, one moved by {INJECTED:g} spreads, {found.min():.3f} "
        f"to {found.max():.3f} were found in {len(found)} layers, at most {worst:.1%} off; without the move, at most "
        f"{chance:.3f}"
    )


def _ends(values: Values) -> str:
    """Mean and ends of a figure over seeds."""
    mean = f"{values.mean():.2f}"
    return mean if len(values) == 1 else f"{mean} ({values.min():.2f} to {values.max():.2f})"


def draw_shifts(shifts: Sequence[Shifts]) -> Figure:
    """Draws drift by layer, what arrives of brighter pictures at each layer, and accuracy against brightness."""
    figure = make_figure(14, 4.4)
    drift, arriving, accuracy = figure.subplots(1, 3)
    for one in shifts:
        _draw(drift, range(1, len(one.layers)), one.drift[:, 1:].clip(LEAST_DRAWN), one.name)  # pictures do not move
        _draw(arriving, range(len(one.layers)), one.arriving, one.name)
        _draw(accuracy, BRIGHTER, one.accuracy, one.name)
    tidy(drift, "Internal shift: inputs move from look to look by", "", "spreads")
    tidy(arriving, f"Of pictures brighter by {SHOWN:g} spread there arrives", "", "spreads")
    drift.set_yscale("log")
    arriving.set_ylim(bottom=0)
    for axes in (drift, arriving):
        name_layers(axes, shifts[-1].layers)
    tidy(accuracy, "Accuracy as pictures grow darker and brighter", "spreads of the pixels")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    drift.legend(frameon=False, fontsize=8, title="normalisation", title_fontsize=8)
    return figure


def _draw(axes: Axes, x: Sequence[float] | range, values: Values, name: str) -> None:
    """The mean over the seeds, and a band between the least and the most."""
    axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=COLOURS[name], alpha=0.15, linewidth=0)
    axes.plot(x, values.mean(axis=0), "o-", color=COLOURS[name], markersize=3, linewidth=1.4, label=name)
