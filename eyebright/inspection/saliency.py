"""Which part of a picture an answer rests on: Grad-CAM and occlusion, and whether such a map is any good.

Source:
    Selvaraju et al.: Grad-CAM, ICCV 2017, §3; Zeiler, Fergus: Visualizing and Understanding Convolutional Networks,
    ECCV 2014, §4.2 (occlusion); Petsiuk, Das, Saenko: RISE, BMVC 2018, §3.3 (deletion and insertion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from eyebright.classifier import Classifier, decide
from eyebright.data.images import Pictures, Pixels
from eyebright.errors import ModelError, did_you_mean
from eyebright.inspection.confusion import shorten
from eyebright.inspection.pictures import see
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE, RED, make_figure, tidy
from eyebright.layers.fused import in_turn
from eyebright.layers.network import Network
from eyebright.random import generator

PATCH = 5  # an occluding square's side is a fifth of the picture's
STEPS = 24  # in which pixels are taken away or put in
RANDOM = 3  # random orders beside which a map is judged
BLUR = 5  # the blurred picture that insertion begins with: means over squares of a fifth of its side
BATCH = 64

Heat = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judgement:
    """How the answer goes when a picture's pixels are taken away, or put in, the hottest of a map first.

    Attributes:
        deletion: probability of the class after each share of pixels has become the mean colour, float64 `[STEPS + 1]`.
        insertion: the same while the picture comes out of a blurred one.
        random_deletion, random_insertion: with pixels in random order, the mean of several.
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random_deletion: NDArray[np.float64]
    random_insertion: NDArray[np.float64]

    @property
    def deletion_score(self) -> float:
        """Area under the curve; the lower, the better."""
        return _area(self.deletion)

    @property
    def insertion_score(self) -> float:
        """Area under the curve; the higher, the better."""
        return _area(self.insertion)

    @property
    def is_better_than_random(self) -> bool:
        """Whether the two areas lie further apart, the right way, than those of random orders."""
        by_chance = _area(self.random_insertion) - _area(self.random_deletion)
        return self.insertion_score - self.deletion_score > by_chance


@dataclass(frozen=True, eq=False)
class Explained:
    """One picture with its answer and what that rests on.

    Attributes:
        pixels: uint8 `[H, W, C]`: what the network saw, un-normalised.
        name: of the picture.
        true: name of its class.
        answer: name of the class that was answered, which the maps are of.
        probability: of the answer.
        grad_cam, occlusion: float32 `[H, W]`; the first 0…1, the second by how much the probability falls.
        judgement: of the Grad-CAM map.
    """

    pixels: Pixels
    name: str
    true: str
    answer: str
    probability: float
    grad_cam: Heat
    occlusion: Heat
    judgement: Judgement


def explain(
    classifier: Classifier, pictures: Pictures, indices: NDArray[np.int64], *, stage: str | None = None, seed: int = 0
) -> list[Explained]:
    """Explains the answers to some pictures.

    Args:
        classifier: whose answers.
        pictures: a labelled set with the classifier's classes.
        indices: which of them.
        stage: whose maps Grad-CAM weighs; default: the last one that has places.
        seed: of the random orders.

    Raises:
        PictureError: a picture cannot be decoded.
        ModelError: there is no such stage, or its output has no places.
    """
    found = []
    for index in indices.tolist():
        inputs = classifier.prepare(pictures.read(index, classifier.prepare.at_least))
        shares = classifier.probabilities(classifier.logits(inputs))[0].numpy()
        answer = int(decide(shares[None], classifier.thresholds)[0])
        heat = grad_cam(classifier, inputs, np.array([answer]), stage)[0]
        found.append(
            Explained(
                see(classifier, pictures, index),
                pictures.name(index),
                pictures.classes[int(pictures.labels[index])],
                classifier.classes[answer],
                float(shares[answer]),
                heat,
                occlude(classifier, inputs, answer),
                judge(classifier, inputs, heat, answer, seed),
            )
        )
    return found


def grad_cam(classifier: Classifier, inputs: Tensor, targets: NDArray[np.int64], stage: str | None = None) -> Heat:
    """Where the maps of a stage speak for a class: their sum, weighted by the class's mean gradient, where positive.

    Args:
        classifier: its network may be any with a stage that has places.
        inputs: float32 `[N, C, H, W]`, prepared.
        targets: int64 `[N]`: the classes.
        stage: whose maps; default: the last one that has places.

    Returns:
        float32 `[N, H, W]`, 0…1: the largest of each picture is 1, or all are 0 where nothing speaks for the class.

    Raises:
        ModelError: there is no such stage, or its output has no places.
    """
    model = classifier.model.eval()
    placed = classifier.plan.place_inputs(inputs).float()
    with torch.no_grad():
        outputs = model.forward_stages(placed)
    name = _choose_stage(model, outputs, stage)
    names = list(outputs)
    rest = [module for after in names[names.index(name) + 1 :] for module in model.stages()[after]]
    with torch.enable_grad():
        maps = outputs[name].detach().requires_grad_()
        logits = in_turn(rest, maps.clone())
        scores = _scores(logits, torch.from_numpy(targets).to(logits.device))
        (gradient,) = torch.autograd.grad(scores.sum(), maps)
    heat = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat, size=inputs.shape[-2:], mode="bilinear", align_corners=False)[:, 0].float().cpu()
    largest = heat.amax((1, 2), keepdim=True)
    normalised: Heat = torch.where(largest > 0, heat / largest.clamp(min=1e-30), heat).numpy()
    return normalised


def occlude(classifier: Classifier, inputs: Tensor, target: int, side: int | None = None) -> Heat:
    """By how much the probability of a class falls where a square of the mean colour lies on the picture.

    Args:
        classifier: which is asked.
        inputs: float32 `[1, C, H, W]`, prepared.
        target: the class.
        side: of the square, in pixels; default: a fifth of the picture's shorter side. It moves by half of it.

    Returns:
        float32 `[H, W]`: for each pixel the mean over the squares that cover it.
    """
    height, width = inputs.shape[-2:]
    side = max(2, min(height, width) // PATCH) if side is None else side
    step = max(1, side // 2)
    places = [(top, left) for top in _starts(height, side, step) for left in _starts(width, side, step)]
    whole = _probability(classifier, inputs, target)[0]
    total, count = np.zeros((2, height, width))
    for begin in range(0, len(places), BATCH):
        some = places[begin : begin + BATCH]
        covered = inputs.repeat(len(some), 1, 1, 1)
        for picture, (top, left) in zip(covered, some, strict=True):
            picture[:, top : top + side, left : left + side] = 0
        for share, (top, left) in zip(_probability(classifier, covered, target), some, strict=True):
            total[top : top + side, left : left + side] += whole - share
            count[top : top + side, left : left + side] += 1
    heat: Heat = (total / np.maximum(count, 1)).astype(np.float32)
    return heat


def judge(classifier: Classifier, inputs: Tensor, heat: Heat, target: int, seed: int = 0) -> Judgement:
    """Takes pixels away, and puts them in, the hottest first; and in random order, to compare.

    Args:
        classifier: which is asked.
        inputs: float32 `[1, C, H, W]`, prepared.
        heat: float32 `[H, W]`.
        target: the class.
        seed: of the random orders.
    """
    hottest = np.argsort(-heat, axis=None, kind="stable")
    random = [torch.randperm(heat.size, generator=generator(seed, "judge", number)).numpy() for number in range(RANDOM)]
    side = max(3, min(inputs.shape[-2:]) // BLUR) | 1
    blurred = F.avg_pool2d(inputs, side, 1, side // 2, count_include_pad=False)
    grey = torch.zeros_like(inputs)

    def curve(start: Tensor, end: Tensor, order: NDArray[np.int64]) -> NDArray[np.float64]:
        rank = np.empty(order.size, dtype=np.int64)
        rank[order] = np.arange(order.size)
        ranks = torch.from_numpy(rank.reshape(heat.shape))
        stages = [torch.where(ranks < order.size * step / STEPS, end, start) for step in range(STEPS + 1)]
        return _probability(classifier, torch.cat(stages), target)

    return Judgement(
        curve(inputs, grey, hottest),
        curve(blurred, inputs, hottest),
        np.mean([curve(inputs, grey, order) for order in random], axis=0),
        np.mean([curve(blurred, inputs, order) for order in random], axis=0),
    )


def say_saliency(explained: Sequence[Explained]) -> list[str]:
    """What there is to see, in sentences."""
    better = sum(one.judgement.is_better_than_random for one in explained)
    deletion, random = (
        np.mean([_area(getattr(one.judgement, name)) for one in explained]) for name in ("deletion", "random_deletion")
    )
    insertion, by_chance = (
        np.mean([_area(getattr(one.judgement, name)) for one in explained])
        for name in ("insertion", "random_insertion")
    )
    found = [
        f"the Grad-CAM map says more than a random order for {better} of {len(explained)} pictures: with its hottest "
        f"pixels gone first the answer's probability is {deletion:.2f} on average (random {random:.2f}), with them put "
        f"in first {insertion:.2f} (random {by_chance:.2f})"
    ]
    if better <= len(explained) / 2:
        found.append("these maps are not to be trusted: what they show is not what the answers rest on")
    return found


def draw_saliency(explained: Sequence[Explained]) -> Figure:
    """Draws a row for each picture: what was seen, Grad-CAM, occlusion, and the curves by which the map is judged."""
    figure = make_figure(11.5, 2.35 * len(explained) + 0.3)
    grid = figure.subplots(len(explained), 4, squeeze=False, width_ratios=(1, 1, 1, 1.7))
    for row, one in zip(grid, explained, strict=True):
        right = one.answer == one.true
        row[0].imshow(one.pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
        text = f"{shorten(one.answer, 18)} {one.probability:.0%}"
        row[0].set_title(
            text if right else f"{text}\nis {shorten(one.true, 18)}", fontsize=9, color=GREEN if right else RED
        )
        _overlay(row[1], one.pixels, one.grad_cam, 1.0)
        _overlay(row[2], one.pixels, np.maximum(one.occlusion, 0), float(max(one.occlusion.max(), 1e-6)))
        row[1].set_title("Grad-CAM", fontsize=9)
        row[2].set_title(f"occlusion: −{max(one.occlusion.max(), 0):.0%} at most", fontsize=9)
        for axes in row[:3]:
            axes.set_axis_off()
        _draw_curves(row[3], one.judgement)
    grid[-1, 3].set_xlabel("share of the pixels gone, or put in")
    figure.legend(
        *grid[0, 3].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside lower right", ncols=4
    )
    return figure


def _draw_curves(axes: Axes, judgement: Judgement) -> None:
    shares = np.linspace(0, 1, STEPS + 1)
    axes.plot(shares, judgement.deletion, color=ORANGE, label="hottest gone first")
    axes.plot(shares, judgement.random_deletion, color=ORANGE, linestyle=":", label="random gone first")
    axes.plot(shares, judgement.insertion, color=BLUE, label="hottest put in first")
    axes.plot(shares, judgement.random_insertion, color=BLUE, linestyle=":", label="random put in first")
    tidy(axes)
    axes.set_ylim(-0.03, 1.03)
    axes.tick_params(labelsize=7)
    axes.set_title(
        "better than random" if judgement.is_better_than_random else "no better than random", fontsize=9,
        color="black" if judgement.is_better_than_random else GREY,
    )  # fmt: skip


def _overlay(axes: Axes, pixels: Pixels, heat: Heat, largest: float) -> None:
    grey = pixels.astype(np.float32).mean(axis=2)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    axes.imshow(heat, cmap="inferno", vmin=0, vmax=largest, alpha=0.6)


def _choose_stage(model: Network, outputs: dict[str, Tensor], stage: str | None) -> str:
    placed = [name for name, output in outputs.items() if output.dim() == 4 and output[0, 0].numel() > 1]
    if stage is None and placed:
        return placed[-1]
    if stage not in placed:
        raise ModelError(
            f"Grad-CAM of stage '{stage}' of {model.model_name}" if stage else f"Grad-CAM of {model.model_name}",
            expected=f"a stage whose output has places: {', '.join(placed) or 'this network has none at this size'}",
            remedy=did_you_mean(stage or "", placed) or "choose one of these with --stage, or take larger pictures",
        )
    return stage


def _scores(logits: Tensor, targets: Tensor) -> Tensor:
    """The logits of the targets `[N]`; of a single output that of the second class, and its negative for the first."""
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * targets - 1)
    return logits.gather(1, targets[:, None])[:, 0]


def _probability(classifier: Classifier, inputs: Tensor, target: int) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = classifier.probabilities(classifier.logits(inputs))[:, target].numpy()
    return shares


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where squares begin so that they cover everything."""
    return sorted({*range(0, max(1, length - side), step), max(0, length - side)})


def _area(curve: NDArray[np.float64]) -> float:
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))
