"""What is shown where a picture can have several labels (lecture: L5.8)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures
from eyebright.data.labels import Labels
from eyebright.evaluation.multi_label import MultiLabelEvaluation
from eyebright.inspection.confusion import shorten
from eyebright.inspection.pictures import LONGEST_NAME, Answer, see
from eyebright.inspection.style import make_figure, tidy

MOST_CURVES = 10


def show_labels(
    classifier: Classifier, pictures: Pictures, evaluation: MultiLabelEvaluation, indices: NDArray[np.int64]
) -> list[Answer]:
    """Answers of an evaluation with their pictures; the probability is that of a picture's least sure answer."""
    answers = []
    for index in indices.tolist():
        true, answer, yes = evaluation.labels[index], evaluation.predictions[index], evaluation.probabilities[index]
        answers.append(
            Answer(
                see(classifier, pictures, index),
                pictures.name(index),
                _names(evaluation.classes, true),
                _names(evaluation.classes, answer),
                float(np.where(answer == 1, yes, 1 - yes).min()),
                float(np.where(true == 1, yes, 1 - yes).min()),
            )
        )
    return answers


def draw_precision_recall(evaluation: MultiLabelEvaluation) -> Figure:
    """Draws precision over recall at all thresholds, for the most frequent labels, with their average precisions."""
    from sklearn.metrics import precision_recall_curve

    counts = np.array([row.count for row in evaluation.per_class])
    chosen = [k for k in np.argsort(-counts, kind="stable")[:MOST_CURVES].tolist() if counts[k]]
    figure = make_figure(8, 4.2)
    axes = figure.subplots()
    for k in chosen:
        precision, recall, _ = precision_recall_curve(evaluation.labels[:, k], evaluation.logits[:, k])
        name = f"{shorten(evaluation.classes[k], LONGEST_NAME)} {evaluation.per_class[k].average_precision:.1%}"
        axes.step(recall, precision, where="post", linewidth=1.6, label=name)
    tidy(axes, "Precision and recall at all thresholds", "recall", "precision")
    axes.set(xlim=(0, 1.005), ylim=(0, 1.02))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    axes.legend(frameon=False, title="average precision", alignment="left", **place)
    return figure


def _names(classes: tuple[str, ...], row: Labels) -> str:
    return ", ".join(classes[k] for k in np.flatnonzero(row)) or "none"
