"""How answers change as pictures do: shifted, noisy, blurred, stored badly, brighter, turned (lecture: L5.10)."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eyebright.classifier import Classifier, decide
from eyebright.data.batches import Loader
from eyebright.data.colour import blur
from eyebright.data.geometry import move, turn_by
from eyebright.data.images import Pictures
from eyebright.inspection.style import BLUE, ORANGE, make_figure, tidy
from eyebright.random import generator

BATCH = 256
HALF = 0.5  # of the answers: where so many have changed a curve is read off

Changer = Callable[[Tensor, float], Tensor]  # uint8 [N, H, W, C] and how much → the same, changed


@dataclass(frozen=True)
class Change:
    """One way in which pictures change.

    Attributes:
        name: of it.
        unit: of its amounts.
        amounts: from none to much; the first is none.
        apply: does it.
    """

    name: str
    unit: str
    amounts: tuple[float, ...]
    apply: Changer


@dataclass(frozen=True, eq=False)
class Curve:
    """Answers as one change grows.

    Attributes:
        change: which.
        accuracy: float64 `[amounts]`: share of right answers.
        kept: float64 `[amounts]`: share of answers that are the same as without the change.
    """

    change: Change
    accuracy: NDArray[np.float64]
    kept: NDArray[np.float64]

    @property
    def half(self) -> float | None:
        """The amount at which half of the answers have changed, between two that were measured; None: never."""
        below = np.flatnonzero(self.kept < HALF)
        if len(below) == 0:
            return None
        place = int(below[0])
        (before, after), (least, most) = self.kept[place - 1 : place + 1], self.change.amounts[place - 1 : place + 1]
        return float(least + (before - HALF) / (before - after) * (most - least))


def shift(pixels: Tensor, amount: float) -> Tensor:
    """Moves pictures to the right by so many pixels; the left edge goes on."""
    step = round(amount)
    if step == 0:
        return pixels
    edge = pixels[:, :, :1].expand(-1, -1, step, -1)
    return torch.cat([edge, pixels[:, :, :-step]], dim=2)


def add_noise(pixels: Tensor, amount: float) -> Tensor:
    """Adds Gaussian noise of this standard deviation, in grey levels; the same in each call."""
    if amount == 0:
        return pixels
    noise = torch.randn(pixels.shape, generator=generator(0, "noise")).to(pixels.device)
    return (pixels.float() + amount * noise).round().clamp(0, 255).to(torch.uint8)


def soften(pixels: Tensor, amount: float) -> Tensor:
    """Blurs with a Gaussian of this standard deviation, in pixels."""
    return blur(pixels, generator(0, "blur"), (amount, amount)) if amount else pixels


def compress(pixels: Tensor, amount: float) -> Tensor:
    """Stores as JPEG of quality 100 minus the amount; 0: not at all."""
    if amount == 0:
        return pixels
    changed = []
    for picture in pixels.cpu().numpy():
        buffer = io.BytesIO()
        Image.fromarray(picture.squeeze()).save(buffer, "JPEG", quality=round(100 - amount))
        stored = np.asarray(Image.open(buffer))
        changed.append(torch.from_numpy(stored.reshape(picture.shape).copy()))
    return torch.stack(changed).to(pixels.device)


def brighten(pixels: Tensor, amount: float) -> Tensor:
    """Multiplies by 1 plus the amount."""
    return (pixels.float() * (1 + amount)).round().clamp(0, 255).to(torch.uint8)


def turn(pixels: Tensor, amount: float) -> Tensor:
    """Turns about the centre by so many degrees."""
    return move(pixels, turn_by(torch.full((len(pixels),), math.radians(amount)))) if amount else pixels


CHANGES = (
    Change("shift", "pixels to the right", (0, 1, 2, 3, 4, 6, 8), shift),
    Change("noise", "standard deviation, of 255", (0, 4, 8, 16, 32, 48, 64), add_noise),
    Change("blur", "standard deviation, pixels", (0, 0.5, 1, 1.5, 2, 3), soften),
    Change("JPEG", "100 − quality", (0, 10, 30, 50, 70, 80, 90, 95), compress),
    Change("brighter", "more, as a share", (0, 0.2, 0.4, 0.6, 0.8, 1.0), brighten),
    Change(
        "darker", "less, as a share", (0, 0.2, 0.4, 0.6, 0.8, 0.9), lambda pixels, amount: brighten(pixels, -amount)
    ),
    Change("turned", "degrees", (0, 5, 10, 15, 20, 30, 45), turn),
)


def measure_robustness(
    classifier: Classifier,
    pictures: Pictures,
    changes: Sequence[Change] = CHANGES,
    on_step: Callable[[], object] = lambda: None,
) -> list[Curve]:
    """Changes pictures more and more, as the network is shown them: after resizing and cropping.

    Args:
        classifier: which is asked.
        pictures: a labelled set with the classifier's classes.
        changes: in which ways.
        on_step: called after each amount of each change.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    pixels = torch.cat(list(Loader(pictures, classifier.prepare, classifier.plan, BATCH).pixels()))
    before = _answers(classifier, pixels)
    curves = []
    for change in changes:
        rows = []
        for amount in change.amounts:
            answers = _answers(
                classifier, torch.cat([change.apply(some, amount) for some in torch.split(pixels, BATCH)])
            )
            rows.append(((answers == pictures.labels).mean(), (answers == before).mean()))
            on_step()
        accuracy, kept = np.array(rows, dtype=np.float64).T
        curves.append(Curve(change, accuracy, kept))
    return curves


def say_robustness(curves: Sequence[Curve]) -> list[str]:
    """What there is to see, in sentences."""
    found = []
    for curve in curves:
        last, unit = curve.change.amounts[-1], curve.change.unit
        if curve.half is not None:
            found.append(f"{curve.change.name}: half of the answers have changed at {curve.half:.2g} ({unit})")
        else:
            found.append(f"{curve.change.name}: at {last:g} ({unit}) {curve.kept[-1]:.0%} of the answers are the same")
    return found


def draw_robustness(curves: Sequence[Curve]) -> Figure:
    """Draws accuracy, and the share of answers that stay the same, against the amount of each change."""
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure = make_figure(3.2 * columns, 2.7 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    for axes, curve in zip(grid.flat, curves, strict=False):
        axes.plot(curve.change.amounts, curve.accuracy, color=BLUE, marker="o", markersize=3, label="right")
        axes.plot(
            curve.change.amounts, curve.kept, color=ORANGE, marker="o", markersize=3, label="the same as unchanged"
        )
        tidy(axes, curve.change.name, curve.change.unit)
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    grid[0, 0].set_ylabel("answers")
    grid[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def _answers(classifier: Classifier, pixels: Tensor) -> NDArray[np.int64]:
    logits = [classifier.logits(classifier.prepare.normalise(some)) for some in torch.split(pixels, BATCH)]
    return decide(classifier.probabilities(torch.cat(logits)).numpy(), classifier.thresholds)
