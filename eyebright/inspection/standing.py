"""Where the networks stand: accuracy against operations, parameters and speed (lecture: L4.11)."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eyebright.classifier import ROWS, Classifier
from eyebright.data.images import Pictures
from eyebright.device import Plan
from eyebright.evaluation.evaluate import evaluate
from eyebright.files import write_text
from eyebright.inspection.style import BLUE, GREEN, GREY, ORANGE, RED, make_figure, save_figure, tidy
from eyebright.inspection.trace import count_multiply_adds
from eyebright.models.catalog import CATALOG
from eyebright.models.create import create_model
from eyebright.models.published import WEIGHTS

FAMILIES = {"alexnet": GREY, "vgg": ORANGE, "googlenet": GREEN, "inception": GREEN, "resnet": BLUE}
Box = tuple[float, float, float, float]  # left, bottom, right, top
SECONDS = 1.0  # that a network is timed for, at least


@dataclass(frozen=True)
class Standing:
    """One network's figures.

    Attributes:
        model: its name.
        year: of its paper.
        weights: which published weights the accuracy is of; empty: there are none.
        input_size: height and width of its pictures, in pixels.
        parameters: of the whole network.
        multiply_adds: of one picture.
        top1, top5: accuracy, 0…1; None where there is none.
        pictures_per_second: measured on this machine; None where it was not.
        licence: of the weights.
    """

    model: str
    year: int | None
    weights: str
    input_size: int
    parameters: int
    multiply_adds: int
    top1: float | None
    top5: float | None
    pictures_per_second: float | None
    licence: str


def find_standing(model: str, weights: str = "") -> Standing:
    """A network's figures as far as they are known without running it; by default with its first published weights."""
    entry = CATALOG[model]
    with torch.device("meta"):
        shadow = create_model(model).eval()
    known = WEIGHTS.get(model, {})
    name = weights or next(iter(known), "")
    published = known.get(name)
    return Standing(
        model=model,
        year=entry.year,
        weights=name if published else "",
        input_size=entry.default_input,
        parameters=sum(parameter.numel() for parameter in shadow.parameters()),
        multiply_adds=count_multiply_adds(shadow, entry.default_input),
        top1=published.top1 if published else None,
        top5=published.top5 if published else None,
        pictures_per_second=None,
        licence=published.licence if published else "",
    )


def with_weights(weights: str) -> list[str]:
    """The networks for which weights of this name are published."""
    return [model for model, known in WEIGHTS.items() if weights in known]


def measure_speed(standing: Standing, plan: Plan) -> Standing:
    """The same with the pictures per second that the network classifies on this machine, 16 at a time.

    Its weights do not matter for that: they are fresh ones.
    """
    model = plan.place_model(create_model(standing.model, seed=0).eval())
    inputs = torch.randn(ROWS, CATALOG[standing.model].in_channels, standing.input_size, standing.input_size)
    inputs = plan.place_inputs(inputs)
    seconds: list[float] = []
    with torch.inference_mode(), plan.arithmetic():
        model(inputs).float().sum().item()  # warms up; reading a value waits for the device
        while sum(seconds) < SECONDS or len(seconds) < 3:
            started = time.perf_counter()
            model(inputs).float().sum().item()
            seconds.append(time.perf_counter() - started)
    return replace(standing, pictures_per_second=round(ROWS / sorted(seconds)[len(seconds) // 2], 2))


def measure_accuracy(
    standing: Standing, pictures: Pictures, device: str = "auto", on_batch: Callable[[int], object] | None = None
) -> Standing:
    """The same with the accuracy of its published weights on these pictures.

    Raises:
        DownloadError: the weights could not be fetched.
        DataError: the pictures have classes that these weights do not know.
    """
    classifier = Classifier.published(standing.model, standing.weights, device=device)
    evaluation = evaluate(classifier, pictures, on_batch=on_batch)
    return replace(standing, top1=evaluation.top1, top5=evaluation.top5)


def pareto_front(points: Iterable[tuple[float, float]], less_is_better: bool) -> list[tuple[float, float]]:
    """The points that no other is better than in both: (cost or gain, accuracy), in the order of the first.

    Args:
        points: pairs.
        less_is_better: whether the first of a pair is a cost.

    >>> pareto_front([(1, 0.5), (2, 0.4), (3, 0.7)], less_is_better=True)
    [(1, 0.5), (3, 0.7)]
    """
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0] if less_is_better else -point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return sorted(front)


def draw_standings(standings: Iterable[Standing], about: str, plan: Plan | None = None) -> Figure:
    """Draws accuracy against operations, the area of a circle being the parameters; and against speed, where measured.

    Args:
        standings: those without accuracy are left out.
        about: what the accuracies are of.
        plan: how the speed was measured.
    """
    rows = [row for row in standings if row.top1 is not None]
    timed = [row for row in rows if row.pictures_per_second is not None]
    figure = make_figure(17 if timed else 9.5, 6.8)
    axes = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    panels = [(axes[0], [(row.multiply_adds / 1e9, row) for row in rows])]
    _scatter(*panels[0], less_is_better=True)
    tidy(axes[0], f"Accuracy and operations ({about})", "billion multiply-adds for a picture", "top-1 accuracy, %")
    if timed:
        panels.append((axes[1], [(row.pictures_per_second or 0.0, row) for row in timed]))
        _scatter(*panels[1], less_is_better=False)
        how = f", {plan.number_format}, {plan.threads} threads" if plan and plan.device == "cpu" else ""
        where = f"{plan.device}{how}" if plan else "this machine"
        tidy(axes[1], f"Accuracy and speed ({where})", "pictures a second, 16 at a time", "top-1 accuracy, %")
    for parameters in (10, 50, 140):
        axes[0].scatter([], [], s=_area(parameters * 1e6), color=GREY, alpha=0.4, label=f"{parameters} M parameters")
    axes[0].plot([], [], color=RED, linewidth=1, linestyle="--", label="none is better in both")
    axes[0].legend(loc="lower right", labelspacing=2.2, borderpad=1.5, handletextpad=1.5, frameon=False, fontsize=8)
    figure.draw_without_rendering()  # so that circles have their places
    for panel, points in panels:
        _label(panel, points)
    return figure


def as_csv(standings: Iterable[Standing]) -> str:
    """All figures as CSV, one network a line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Standing)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in standings)
    return text.getvalue()


def save_standings(path: Path, figure: Figure, standings: Iterable[Standing]) -> Path:
    """Writes the figure, and its figures as CSV beside it, whose path it returns.

    Raises:
        OutputError: one of them cannot be written.
    """
    save_figure(path, figure)
    beside = path.with_suffix(".csv")
    write_text(beside, as_csv(standings))
    return beside


def _scatter(axes: Axes, points: list[tuple[float, Standing]], less_is_better: bool) -> None:
    for x, row in points:
        color = next((color for family, color in FAMILIES.items() if row.model.startswith(family)), GREY)
        axes.scatter(x, _percent(row), s=_area(row.parameters), color=color, alpha=0.4, edgecolors=color, linewidths=1)
    front = pareto_front([(x, _percent(row)) for x, row in points], less_is_better)
    axes.plot(*zip(*front, strict=True), color=RED, linewidth=1, linestyle="--", zorder=0)
    axes.set_xscale("log")
    axes.margins(0.12)


def _label(axes: Axes, points: list[tuple[float, Standing]]) -> None:
    """Writes each name beside its circle: right, left, above or below, where it covers least of what is there."""
    scale = axes.figure.dpi / 72  # pixels for a point
    size = 8.0
    centres = [axes.transData.transform((x, _percent(row))) / scale for x, row in points]  # points
    radii = [(_area(row.parameters) / math.pi) ** 0.5 for _, row in points]
    names: list[Box] = []
    circles = [
        (x - radius * 0.8, y - radius * 0.8, x + radius * 0.8, y + radius * 0.8)
        for (x, y), radius in zip(centres, radii, strict=True)
    ]
    for (x, y), radius, (at, row) in zip(centres, radii, points, strict=True):
        wide, high, far = 0.58 * size * len(row.model), 1.2 * size, radius + 3
        beside, over = 0.75 * far, 0.75 * far - high / 2  # of places at the corners
        places = [
            *((far, -high / 2), (-far - wide, -high / 2), (-wide / 2, far - 1), (-wide / 2, -far - high + 1)),
            *((beside, over), (-beside - wide, over), (beside, -over - high), (-beside - wide, -over - high)),
        ]
        boxes = [(x + dx, y + dy, x + dx + wide, y + dy + high) for dx, dy in places]
        covered = [
            sum(_overlap(box, circle) for circle in circles) + 5 * sum(_overlap(box, name) for name in names)
            for box in boxes
        ]
        best = covered.index(min(covered))
        names.append(boxes[best])
        axes.annotate(
            row.model, (at, _percent(row)), places[best], textcoords="offset points", fontsize=size, va="bottom"
        )


def _overlap(one: Box, other: Box) -> float:
    """The area that two rectangles share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def _percent(row: Standing) -> float:
    return 100 * (row.top1 or 0.0)


def _area(parameters: float) -> float:
    return parameters / 1e6 * 9  # square points
