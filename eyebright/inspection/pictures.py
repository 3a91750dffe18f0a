"""Pictures with what was answered and what is true (lecture: L1.10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures, Pixels
from eyebright.evaluation.evaluate import Evaluation
from eyebright.inspection.confusion import shorten
from eyebright.inspection.style import GREEN, RED
from eyebright.random import generator

COLUMNS = 8
LONGEST_NAME = 16
CELL, CAPTION, PICTURE = (1.45, 1.85), 0.4, 1.35  # inches: width and height of a place in the grid, heights in it


@dataclass(frozen=True, eq=False)
class Answer:
    """One picture with its answer.

    Attributes:
        pixels: uint8 `[H, W, C]`: what the network saw, un-normalised.
        name: of the picture.
        true, answer: class names.
        probability: of the answer, 0…1.
        probability_of_true: of the true class, 0…1.
    """

    pixels: Pixels
    name: str
    true: str
    answer: str
    probability: float
    probability_of_true: float

    @property
    def right(self) -> bool:
        """Whether the answer is the true class."""
        return self.true == self.answer


class Titled(NamedTuple):
    """A picture of a grid.

    Attributes:
        pixels: uint8 `[H, W, C]`.
        title: two lines at most.
        color: of the title.
    """

    pixels: Pixels
    title: str
    color: str = "black"


def show_answers(
    classifier: Classifier, pictures: Pictures, evaluation: Evaluation, indices: NDArray[np.int64]
) -> list[Answer]:
    """Answers of an evaluation with their pictures, un-normalised: equal to the prepared pixels, bit for bit."""
    answers = []
    for index in indices.tolist():
        true, answer = int(evaluation.labels[index]), int(evaluation.predictions[index])
        answers.append(
            Answer(
                see(classifier, pictures, index),
                pictures.name(index),
                evaluation.classes[true],
                evaluation.classes[answer],
                float(evaluation.probabilities[index, answer]),
                float(evaluation.probabilities[index, true]),
            )
        )
    return answers


def see(classifier: Classifier, pictures: Pictures, index: int) -> Pixels:
    """One picture as the network sees it, un-normalised: uint8 `[H, W, C]`."""
    inputs = classifier.prepare(pictures.read(index, classifier.prepare.at_least))
    pixels: Pixels = classifier.prepare.unnormalise(inputs)[0].numpy()
    return pixels


def sample(count: int, of: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of a random sample of pictures, ascending; the same for the same seed."""
    return np.sort(torch.randperm(of, generator=generator(seed, "sample"))[:count].numpy())


def draw_answers(answers: list[Answer]) -> Figure:
    """Draws pictures in a grid, each with its answer: green where it is right; red, with the true class, where not."""
    titled = []
    for answer in answers:
        given = f"{shorten(answer.answer, LONGEST_NAME)} {answer.probability:.0%}"
        title = f"{given}\n✓" if answer.right else f"{given}\nis {shorten(answer.true, LONGEST_NAME)}"
        titled.append(Titled(answer.pixels, title, GREEN if answer.right else RED))
    return draw_grid(titled)


def draw_grid(pictures: list[Titled]) -> Figure:
    """Draws pictures in rows of eight, each below its title."""
    rows = max(1, -(-len(pictures) // COLUMNS))
    width, height = COLUMNS * CELL[0], rows * CELL[1]
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all, measured in inches: an axes for each takes seconds
    for index, (pixels, title, color) in enumerate(pictures):
        row, column = divmod(index, COLUMNS)
        centre, top = (column + 0.5) * CELL[0], row * CELL[1]
        axes.text(centre, top + CAPTION - 0.03, title, fontsize=7.5, color=color, ha="center", va="bottom")
        tall, wide = np.array(pixels.shape[:2]) * PICTURE / max(pixels.shape[:2])
        place = (centre - wide / 2, centre + wide / 2, top + CAPTION + tall, top + CAPTION)
        axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=place)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.set_axis_off()
    return figure
