"""Evaluation where a picture can have several labels: each class is a question of its own, answered yes or no."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from eyebright.classifier import THRESHOLD, Classifier
from eyebright.data.images import Pictures
from eyebright.data.labels import Labels, is_multi_label
from eyebright.errors import DataError
from eyebright.evaluation.evaluate import (
    CENTRE,
    Evaluation,
    Logits,
    compute_logits,
    evaluate,
    match_classes,
    wilson_interval,
)
from eyebright.evaluation.views import Views, view_probabilities


@dataclass(frozen=True)
class LabelFigures:
    """Figures of one label; fractions 0…1.

    Attributes:
        name: of the label.
        count: pictures that have it.
        precision: share of pictures that have it among those answered yes; 0 where there are none.
        recall: share answered yes among the pictures that have it; 0 where there are none.
        f1: harmonic mean of precision and recall; 0 where both are.
        average_precision: mean precision over all thresholds, weighted by the recall gained; None where no picture has
            the label.
        roc_auc: chance that a picture with the label is given more than one without; None where there are not both.
    """

    name: str
    count: int
    precision: float
    recall: float
    f1: float
    average_precision: float | None
    roc_auc: float | None


@dataclass(frozen=True)
class Mean:
    """Precision, recall and F1 of all labels together; fractions 0…1.

    Attributes:
        precision, recall, f1: means over the labels (macro), or of all questions as one (micro).
    """

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False)
class MultiLabelEvaluation:
    """A classifier's answers to a set of pictures with several labels each, and figures made from them.

    A label is answered with yes from its threshold on. Fractions are 0…1.

    Attributes:
        logits: float32 `[N, K]`.
        labels: int64 `[N, K]` of 0 and 1.
        classes: names of the labels in order.
        engine: what answered, see `Classifier.engine_name`.
        thresholds: `[K]` probabilities; None: one half.
    """

    logits: Logits = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    engine: str = ""
    thresholds: tuple[float, ...] | None = None

    @property
    def count(self) -> int:
        """Pictures."""
        return len(self.labels)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Sigmoid of the logits, `[N, K]`."""
        shares: NDArray[np.float64] = torch.from_numpy(self.logits).double().sigmoid().numpy()
        return shares

    @cached_property
    def predictions(self) -> Labels:
        """What is answered, int64 `[N, K]` of 0 and 1."""
        least = THRESHOLD if self.thresholds is None else np.array(self.thresholds)
        return (self.probabilities >= least).astype(np.int64)

    @property
    def loss(self) -> float:
        """Mean binary cross-entropy over pictures and labels, in nats."""
        truth = torch.from_numpy(self.labels).double()
        return float(functional.binary_cross_entropy_with_logits(torch.from_numpy(self.logits).double(), truth))

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Of which pictures all labels are answered right, `[N]`."""
        all_right: NDArray[np.bool_] = (self.predictions == self.labels).all(axis=1)
        return all_right

    @property
    def accuracy(self) -> float:
        """Exact match: share of pictures of which all labels are answered right."""
        return float(self.right.mean())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % interval of `accuracy`, by Wilson's score."""
        return wilson_interval(int(self.right.sum()), self.count)

    @property
    def hamming_loss(self) -> float:
        """Share of all answers, to every picture and label, that are wrong."""
        return float((self.predictions != self.labels).mean())

    @cached_property
    def per_class(self) -> tuple[LabelFigures, ...]:
        """Figures of each label."""
        from sklearn.metrics import precision_recall_fscore_support

        columns = precision_recall_fscore_support(self.labels, self.predictions, average=None, zero_division=0.0)
        precision, recall, f1, counts = (column.tolist() for column in columns)
        return tuple(
            LabelFigures(name, counts[k], precision[k], recall[k], f1[k], *self._ranking(k))
            for k, name in enumerate(self.classes)
        )

    @property
    def micro(self) -> Mean:
        """Of all questions as one: frequent labels count more."""
        return self._mean("micro")

    @property
    def macro(self) -> Mean:
        """Means over the labels: each counts the same."""
        return self._mean("macro")

    @property
    def mean_average_precision(self) -> float | None:
        """Mean of `average_precision` over the labels that some picture has (mAP)."""
        return _mean_of_known(row.average_precision for row in self.per_class)

    @property
    def mean_roc_auc(self) -> float | None:
        """Mean of `roc_auc` over the labels that some pictures have and others have not."""
        return _mean_of_known(row.roc_auc for row in self.per_class)

    def worst(self, count: int = 20) -> NDArray[np.int64]:
        """Indices of the pictures with a wrong answer, the least probable truth first."""
        mistaken = np.flatnonzero(~self.right)
        given = np.where(self.labels[mistaken] == 1, self.probabilities[mistaken], 1 - self.probabilities[mistaken])
        return mistaken[np.argsort(given.min(axis=1), kind="stable")][:count]

    def as_dict(self) -> dict[str, Any]:
        """All figures as plain values; fractions 0…1."""
        return {
            "exact_match": self.accuracy,
            "exact_match_interval": list(self.accuracy_interval),
            "hamming_loss": self.hamming_loss,
            "mean_average_precision": self.mean_average_precision,
            "mean_roc_auc": self.mean_roc_auc,
            "micro": asdict(self.micro),
            "macro": asdict(self.macro),
            "loss": self.loss,
            "count": self.count,
            "engine": self.engine,
            "classes": list(self.classes),
            "per_class": {row.name: {k: v for k, v in asdict(row).items() if k != "name"} for row in self.per_class},
        }

    def __str__(self) -> str:
        low, high = self.accuracy_interval
        ranked = self.mean_average_precision
        return (
            ("" if ranked is None else f"mean average precision {ranked:.2%}, ")
            + f"micro F1 {self.micro.f1:.2%}, macro F1 {self.macro.f1:.2%}, exact match {self.accuracy:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%}), loss {self.loss:.4f}, {self.count} pictures"
        )

    def _ranking(self, label: int) -> tuple[float | None, float | None]:
        from sklearn.metrics import average_precision_score, roc_auc_score

        truth, logits = self.labels[:, label], self.logits[:, label]
        some, all_of_them = truth.any(), truth.all()
        return (
            float(average_precision_score(truth, logits)) if some else None,
            float(roc_auc_score(truth, logits)) if some and not all_of_them else None,
        )

    def _mean(self, average: str) -> Mean:
        from sklearn.metrics import precision_recall_fscore_support

        figures = precision_recall_fscore_support(self.labels, self.predictions, average=average, zero_division=0.0)
        return Mean(*map(float, figures[:3]))


AnyEvaluation = Evaluation | MultiLabelEvaluation


def evaluate_any(
    classifier: Classifier,
    pictures: Pictures,
    *,
    views: Views = CENTRE,
    on_batch: Callable[[int], object] | None = None,
) -> AnyEvaluation:
    """A classifier's answers to a labelled set: the evaluation that fits the classifier; see `evaluate`."""
    measure = evaluate_multi_label if classifier.multi_label else evaluate
    return measure(classifier, pictures, views=views, on_batch=on_batch)


def evaluate_multi_label(
    classifier: Classifier,
    pictures: Pictures,
    *,
    views: Views = CENTRE,
    on_batch: Callable[[int], object] | None = None,
) -> MultiLabelEvaluation:
    """A classifier's answers to a set of pictures with several labels each; labels are matched by name.

    Args:
        classifier: what is asked.
        pictures: what it is asked about.
        views: how each picture is shown; of several views the probabilities are averaged.
        on_batch: called with the number of pictures done, for a progress bar.

    Raises:
        DataError: the pictures have one label each, or a label that the classifier does not know; or there are none.
        PictureError: a picture cannot be decoded.
    """
    if not is_multi_label(pictures.labels):
        raise DataError(
            "pictures with one label each for a classifier of several",
            expected="rows of 0 and 1: which picture has which label",
            remedy="list the pictures in a CSV with a column called labels",
        )
    place = match_classes(pictures, classifier.classes, classifier.class_ids)
    known = np.flatnonzero(place >= 0)
    labels = np.zeros((len(pictures), len(classifier.classes)), dtype=np.int64)
    labels[:, place[known]] = pictures.labels[:, known]
    if views == CENTRE:
        logits = compute_logits(classifier, pictures, on_batch=on_batch)
    else:
        shares = torch.from_numpy(view_probabilities(classifier, pictures, views, on_batch=on_batch))
        logits = shares.logit(1e-15).float().numpy()
    return MultiLabelEvaluation(logits, labels, classifier.classes, classifier.engine_name, classifier.thresholds)


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
