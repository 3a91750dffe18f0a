"""Double descent: error falls, rises where the network just fits every training label, and falls again (lecture: L1.9).

Shown in three ways: over the epochs of one network, over the width of networks trained alike, and, where everything can
be computed, over the number of random features in a least-squares fit. Some of the training labels are wrong, which
makes the hump high; a training with the right ones stands beside them.

Sources:
    Belkin, Hsu, Ma, Mandal: Reconciling modern machine-learning practice and the classical bias–variance trade-off,
    PNAS 116, 2019. Nakkiran et al.: Deep Double Descent, ICLR 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter
from numpy.typing import NDArray
from torch import Tensor

from eyebright.data.images import ImageFiles, Images, Pictures, Pixels
from eyebright.data.labels import is_multi_label
from eyebright.data.split import Splits
from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.fit_rules import DEVIATIONS, SMOOTH, double_descent, find_hump, smooth
from eyebright.doctor.history import History
from eyebright.errors import DataError, RecipeError
from eyebright.inspection.finding import listed, many
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE, RED, make_figure, tidy
from eyebright.lab.experiment import Result, Settings
from eyebright.lab.variants import Outcome, Variant, train_variants
from eyebright.training.recipe import Recipe

WRONG = 0.4  # share of the training labels
WIDTHS, FULL_WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24), (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
FITTED = 0.99  # of the training labels, wrong ones included: the interpolation threshold
TRAINED, JUDGED = 300, 1000  # pictures of the least-squares fit
RATIOS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)  # features a picture
DRAWS = 5  # of random features
TOY_SIDE = 16  # pixels to which pictures are shrunk for it

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Hump:
    """Error that rose and fell again.

    Attributes:
        first, top, last: places in the curve: where it is least before, highest, least after.
    """

    first: int
    top: int
    last: int


@dataclass(frozen=True, eq=False)
class ByWidth:
    """Networks of several widths, trained alike.

    Attributes:
        widths: int `[W]`.
        errors: float64 `[W, epochs]`: validation error, mean over the seeds.
        fitted: float64 `[W, epochs]`: share of the training labels that are answered, mean over the seeds.
        count: validation pictures.
    """

    widths: tuple[int, ...]
    errors: Values
    fitted: Values
    count: int

    @property
    def final(self) -> Values:
        """Validation error after training, `[W]`: the median of the last five epochs."""
        median: Values = np.median(self.errors[:, -SMOOTH:], axis=1)
        return median

    @property
    def finally_fitted(self) -> Values:
        """Share of the training labels that are answered after training, `[W]`: the median of the last five epochs."""
        median: Values = np.median(self.fitted[:, -SMOOTH:], axis=1)
        return median

    @property
    def threshold(self) -> int | None:
        """Place of the width from which on all fit `FITTED` of their labels in the end; None: not the widest."""
        return _first_of_all(self.finally_fitted >= FITTED)

    @property
    def fitting_epoch(self) -> int | None:
        """From which on, counted from 1, the widest fit `FITTED` of their labels; by the median of neighbours."""
        place = _first_of_all(smooth(self.fitted[-1]) >= FITTED)
        return None if place is None else place + 1

    @property
    def hump(self) -> Hump | None:
        """Over the widths, higher on both sides than chance makes it."""
        final = self.final
        middle = float(np.median(final))
        found = find_hump(final, DEVIATIONS * math.sqrt(2 * middle * (1 - middle) / self.count), lasts=1)
        return found and Hump(*found)


def _first_of_all(true: NDArray[np.bool_]) -> int | None:
    """The place from which on all are true; None where the last is not."""
    false = np.flatnonzero(~true)
    place = int(false[-1]) + 1 if len(false) else 0
    return place if place < len(true) else None


@dataclass(frozen=True, eq=False)
class Toy:
    """Least squares on random features.

    Attributes:
        pictures: that were fitted.
        features: int64 `[P]`: how many random features.
        train_loss, loss: float64 `[draws, P]`: mean squared error per picture, on those and on others.
        error: float64 `[draws, P]`: share of wrong answers on the others.
    """

    pictures: int
    features: NDArray[np.int64]
    train_loss: Values
    loss: Values
    error: Values

    @property
    def peak(self) -> int:
        """How many features have the highest loss (the median of the draws)."""
        return int(self.features[np.median(self.loss, axis=0).argmax()])


def find_double_descent(recipe: Recipe, settings: Settings, seeds: int) -> Result:
    """Looks for it over epochs, over widths, and in the toy.

    Args:
        recipe: of a network with a `width`.
        settings: `splits.val` is there.
        seeds: trainings of each width.
    """
    splits, epochs = settings.splits, recipe.training.epochs
    val = cast("Pictures", splits.val)
    if is_multi_label(splits.train.labels):
        raise DataError(
            "pictures that can have several labels",
            expected="one label for each picture, of which some are made wrong",
            remedy="choose other pictures with --data",
        )
    wrong = replace(splits, train=mislabel(splits.train, WRONG))
    widths = FULL_WIDTHS if settings.full else WIDTHS
    variants = [Variant(f"width {width}", (f"model.width={width}",)) for width in widths]
    right = train_variants(
        recipe, variants[-1:], splits, seeds=seeds, kept=settings.kept,
        begin=lambda about, steps: settings.begin(f"right labels, {about}", steps),
    )[0]  # fmt: skip
    outcomes = train_variants(
        recipe, variants, wrong, seeds=seeds, kept=settings.kept,
        begin=lambda about, steps: settings.begin(f"wrong labels, {about}", steps),
    )  # fmt: skip
    by_width = ByWidth(
        widths,
        np.array([_mean(one, epochs, lambda line: 1 - line["val_accuracy"]) for one in outcomes]),
        np.array([_mean(one, epochs, lambda line: line["train_accuracy"]) for one in outcomes]),
        len(val),
    )
    right_error = _mean(right, epochs, lambda line: 1 - line["val_accuracy"])
    toy = fit_random_features(wrong.train, val)
    sentences = [
        say_epochs(_diagnose(recipe, wrong, outcomes[-1]), by_width),
        say_right_labels(_diagnose(recipe, splits, right), right_error),
        say_widths(by_width),
        say_toy(toy),
    ]
    values = {
        "wrong_labels": WRONG,
        "widths": list(widths),
        "val_error": by_width.errors.tolist(),
        "train_accuracy": by_width.fitted.tolist(),
        "right_val_error": right_error.tolist(),
        "threshold": None if by_width.threshold is None else widths[by_width.threshold],
        "random_features": {
            "pictures": toy.pictures, "features": toy.features.tolist(), "train_loss": toy.train_loss.tolist(),
            "loss": toy.loss.tolist(), "error": toy.error.tolist(),
        },
    }  # fmt: skip
    return Result({"": draw_double_descent(by_width, right_error, toy), "-map": draw_map(by_width)}, sentences, values)


def mislabel(pictures: Pictures, share: float, seed: int = 0) -> Pictures:
    """The pictures with so much of their labels, drawn evenly, turned into another class, drawn evenly.

    Args:
        pictures: with one label each.
        share: of the labels, 0…1.
        seed: of the draw.
    """
    random = np.random.default_rng([seed, len(pictures)])
    labels, classes = pictures.labels.copy(), len(pictures.classes)
    places = random.permutation(len(labels))[: round(share * len(labels))]
    labels[places] = (labels[places] + random.integers(1, classes, len(places))) % classes
    return replace(cast("Images | ImageFiles", pictures), labels=labels)


def fit_random_features(
    train: Pictures, other: Pictures, *, trained: int = TRAINED, judged: int = JUDGED, draws: int = DRAWS
) -> Toy:
    """Least squares on ReLUs of random projections of the pixels: where there are several solutions, the shortest one.

    With as many features as pictures there is one solution that fits every label, and it is a wild one: the loss on
    other pictures must be highest there.

    Args:
        train: as many as are fitted are drawn from these.
        other: as many as are judged are drawn from these.
        trained: how many are fitted, at most.
        judged: how many they are judged by, at most.
        draws: of pictures and features.
    """
    trained, judged = min(trained, len(train)), min(judged, len(other))
    features = np.unique(np.round(np.array(RATIOS) * trained).astype(np.int64).clip(1))
    found = np.empty((3, draws, len(features)))
    for draw in range(draws):
        random = np.random.default_rng([draw, trained])
        x, y, _ = _vectors(train, random.permutation(len(train))[:trained])
        x_other, y_other, labels = _vectors(other, random.permutation(len(other))[:judged])
        mean, spread = x.mean(), x.std()
        directions = random.standard_normal((x.shape[1], features[-1])) / math.sqrt(x.shape[1])
        seen, seen_other = (np.maximum((one - mean) / spread @ directions, 0) for one in (x, x_other))
        for place, count in enumerate(features):
            weights = np.linalg.lstsq(seen[:, :count], y)[0]
            answers = seen_other[:, :count] @ weights
            found[:, draw, place] = (
                ((seen[:, :count] @ weights - y) ** 2).sum(axis=1).mean(),
                ((answers - y_other) ** 2).sum(axis=1).mean(),
                (answers.argmax(axis=1) != labels).mean(),
            )
    return Toy(trained, features, *found)


def _vectors(pictures: Pictures, places: NDArray[np.int64]) -> tuple[Values, Values, NDArray[np.int64]]:
    """Grey pixels of shrunk pictures, `[N, D]`, labels as unit vectors minus their mean, `[N, classes]`, and labels."""
    few = pictures.select(np.sort(places))
    pixels = torch.stack([_shrink(few.read(index, None)) for index in range(len(few))]).flatten(1).double().numpy()
    classes = len(few.classes)
    return pixels, np.eye(classes)[few.labels] - 1 / classes, few.labels


def _shrink(pixels: Pixels) -> Tensor:
    grey = torch.from_numpy(pixels).float().mean(dim=2)
    return F.adaptive_avg_pool2d(grey[None], TOY_SIDE)


def _mean(outcome: Outcome, epochs: int, figure: Callable[[dict[str, Any]], float]) -> Values:
    """A figure of every epoch, `[epochs]`, mean over the seeds."""
    curves = [[figure(line) for line in lines] for lines in outcome.runs.values()]
    if any(len(curve) != epochs for curve in curves):
        raise RecipeError(
            f"the trainings of {outcome.name} ended after {listed([str(len(curve)) for curve in curves])} epochs",
            expected=f"{epochs} epochs, with every width and seed, to compare them",
            remedy="lower training.learning_rate, at which the loss was no longer a finite number"
            if outcome.diverged
            else "leave training.early_stop_epochs out",
        )
    mean: Values = np.mean(np.array(curves), axis=0)
    return mean


def _diagnose(recipe: Recipe, splits: Splits, outcome: Outcome) -> list[Diagnosis | None]:
    """What the doctor's rule says of each training."""
    classes = len(splits.classes)
    counts = {name: np.bincount(part.labels, minlength=classes).tolist() for name, part in splits.parts().items()}
    return [
        double_descent(History(recipe, splits.classes, counts, lines, steps=[], observations=[], finished=True))
        for lines in outcome.runs.values()
    ]


def say_epochs(diagnoses: Sequence[Diagnosis | None], by_width: ByWidth) -> str:
    """Whether the widest network's error rose and fell over its epochs.

    Args:
        diagnoses: the doctor's, for each seed.
        by_width: whose last row the network is.
    """
    about = f"over epochs, width {by_width.widths[-1]}, {WRONG:.0%} of the training labels wrong"
    found = [one for one in diagnoses if one is not None]
    fitted = (
        f"{FITTED:.0%} of the training labels are fitted from epoch {by_width.fitting_epoch} on"
        if by_width.fitting_epoch is not None
        else (f"at most {by_width.fitted[-1].max():.1%} of the training labels are fitted: more epochs may show more")
    )
    if not found:
        error = smooth(by_width.errors[-1])
        return (
            f"{about}: no double descent: validation error is least about epoch {error.argmin() + 1}, "
            f"{error.min():.1%}, and {error[-1]:.1%} in the end; {fitted}"
        )
    return (
        f"{about}: double descent, which the doctor finds in {len(found)} of {many(len(diagnoses), 'training')}: "
        f"{found[0].evidence[0]}; {fitted}"
    )


def say_right_labels(diagnoses: Sequence[Diagnosis | None], errors: Values) -> str:
    """What the same network's error does where all labels are right.

    Args:
        diagnoses: the doctor's, for each seed.
        errors: `[epochs]`.
    """
    found, error = sum(one is not None for one in diagnoses), smooth(errors)
    verdict = f"the doctor finds double descent in {found}" if found else "no double descent"
    return (
        f"the same with the right labels: {verdict}; validation error is least about epoch {error.argmin() + 1}, "
        f"{error.min():.1%}, and {error[-1]:.1%} in the end"
    )


def say_widths(by_width: ByWidth) -> str:
    """Whether error rises and falls with the network's width, and where the labels begin to be fitted."""
    widths, final, threshold = by_width.widths, by_width.final, by_width.threshold
    if threshold is None:
        fits = f"the widest do not fit {FITTED:.0%} of the training labels"
    elif threshold == 0:
        fits = f"every width fits {FITTED:.0%} of the training labels"
    else:
        fits = f"{FITTED:.0%} of the training labels are fitted from a width between {widths[threshold - 1]} and "
        fits += f"{widths[threshold]} on: the interpolation threshold"
    hump = by_width.hump
    if hump is None:
        low = int(final.argmin())
        said = f"over widths: no double descent: validation error is least at width {widths[low]}, {final[low]:.1%}"
    else:
        parts = (f"{final[place]:.1%} at width {widths[place]}" for place in (hump.first, hump.top, hump.last))
        said = f"over widths: double descent: validation error {', '.join(parts)}"
    return f"{said}; {fits}"


def say_toy(toy: Toy) -> str:
    """Where the loss of least squares is highest."""
    loss = np.median(toy.loss, axis=0)
    low, high = loss[toy.features > 2 * toy.pictures].min(), loss.max()
    return (
        f"least squares on random features, {toy.pictures} pictures: the loss on others is highest with "
        f"{toy.peak} features, {high:.3g}; beyond twice the pictures it falls to {low:.3g}"
    )


def draw_double_descent(by_width: ByWidth, right: Values, toy: Toy) -> Figure:
    """Draws error over epochs, over widths and over random features.

    Args:
        by_width: with wrong labels; the last row is drawn over its epochs.
        right: `[epochs]`: validation error of the same with the right labels.
        toy: the least-squares fit.
    """
    figure = make_figure(13.5, 4.2)
    epochs, widths, features = figure.subplots(1, 3)
    _draw_epochs(epochs, by_width, right)
    _draw_widths(widths, by_width)
    for loss in toy.loss:
        features.plot(toy.features, loss, color=ORANGE, alpha=0.3, linewidth=1)
    features.plot(toy.features, np.median(toy.loss, axis=0), color=ORANGE, linewidth=1.8, label="other pictures")
    train = np.median(toy.train_loss, axis=0)
    fits = train > 1e-6  # beyond, the training loss is nothing but rounding
    features.plot(toy.features[fits], train[fits], color=BLUE, linewidth=1.5, label="training pictures")
    features.axvline(toy.pictures, color=GREY, linestyle="--", linewidth=1.2, label="as many as pictures")
    features.set_xscale("log")
    features.set_yscale("log")
    tidy(features, "Least squares on random features", "features", "mean squared error")
    features.legend(frameon=False, fontsize=8)
    return figure


def _draw_epochs(axes: Axes, by_width: ByWidth, right: Values) -> None:
    error = by_width.errors[-1]
    epochs = np.arange(1, len(error) + 1)
    axes.plot(epochs, error, color=ORANGE, alpha=0.35, linewidth=1)
    axes.plot(epochs, smooth(error), color=ORANGE, linewidth=1.8, label="validation")
    axes.plot(epochs, 1 - by_width.fitted[-1], color=BLUE, linewidth=1.5, label="training")
    axes.plot(epochs, smooth(right), color=GREEN, linewidth=1.2, linestyle=":", label="validation, right labels")
    if by_width.fitting_epoch is not None:
        axes.axvline(by_width.fitting_epoch, color=GREY, linestyle="--", linewidth=1.2, label=f"{FITTED:.0%} fitted")
    tidy(axes, f"Over epochs: width {by_width.widths[-1]}, {WRONG:.0%} of the labels wrong", "epoch", "error")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def _draw_widths(axes: Axes, by_width: ByWidth) -> None:
    widths = np.array(by_width.widths)
    axes.plot(widths, by_width.final, "o-", color=ORANGE, linewidth=1.8, markersize=4, label="validation")
    axes.plot(widths, 1 - by_width.finally_fitted, "o-", color=BLUE, linewidth=1.5, markersize=4, label="training")
    if by_width.threshold:
        before, after = widths[by_width.threshold - 1], widths[by_width.threshold]
        axes.axvspan(before, after, color=GREY, alpha=0.2, linewidth=0, label="interpolation threshold")
    axes.set_xscale("log")
    _number(axes.xaxis, widths)
    tidy(axes, f"Over widths, after {by_width.errors.shape[1]} epochs", "width", "error")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def draw_map(by_width: ByWidth) -> Figure:
    """Draws validation error over epochs and widths at once, with the lines beyond which the labels are fitted."""
    figure = make_figure(7.5, 4.6)
    axes = figure.subplots()
    epochs, widths = np.arange(1, by_width.errors.shape[1] + 1), np.array(by_width.widths)
    error = np.array([smooth(row) for row in by_width.errors])
    mesh = axes.pcolormesh(widths, epochs, error.T, cmap="viridis", shading="gouraud")
    ever = np.maximum.accumulate(by_width.fitted, axis=1)
    for share, color in ((0.8, "white"), (FITTED, RED)):
        if ever.min() < share <= ever.max() and len(epochs) > 1:
            axes.contour(widths, epochs, ever.T, levels=[share], colors=[color], linewidths=1.6)
            axes.plot([], [], color=color, linewidth=1.6, label=f"{share:.0%} of the labels fitted")
    axes.set_yscale("log")
    _number(axes.yaxis, np.array([epoch for epoch in (1, 2, 5, 10, 20, 50, 100, 200, 500) if epoch <= epochs[-1]]))
    axes.set_xscale("log")
    _number(axes.xaxis, widths)
    tidy(axes, f"Validation error, {WRONG:.0%} of the training labels wrong", "width", "epoch")
    axes.grid(visible=False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(facecolor=GREY, labelcolor="white", fontsize=8, loc="lower left")
    figure.colorbar(mesh, ax=axes, format=PercentFormatter(1.0, decimals=0))
    return figure


def _number(axis: Axis, values: NDArray[np.int64]) -> None:
    """Marks a logarithmic axis at these values, by their numbers."""
    axis.set_ticks(values, [str(value) for value in values])
    axis.set_minor_formatter(NullFormatter())
