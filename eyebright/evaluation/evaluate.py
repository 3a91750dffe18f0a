"""Evaluation: the logits of a data set, and every figure that is made from them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from eyebright.classifier import ROWS, Classifier, decide, probabilities
from eyebright.data.batches import Loader
from eyebright.data.images import Pictures
from eyebright.data.labels import Labels, class_counts, is_multi_label
from eyebright.errors import DataError, DataWarning
from eyebright.evaluation.views import VIEWS, Views, find_views, view_probabilities

BATCH_SIZE = 16 * ROWS
CALIBRATION_BINS = 15
CENTRE = VIEWS["centre"]

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class; fractions 0…1.

    Attributes:
        name: of the class.
        count: pictures of it.
        precision: share of right answers among the pictures given this answer; 0 where there are none.
        recall: share of right answers among the pictures of this class; 0 where there are none.
    """

    name: str
    count: int
    precision: float
    recall: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A classifier's answers to a labelled set, and figures made from them; fractions are 0…1.

    Attributes:
        logits: float32 `[N, K]`.
        labels: int64 `[N]`, indices into `classes`.
        classes: class names in order.
        engine: what answered, see `Classifier.engine_name`.
        threshold: of two classes: from which probability on the second is the answer; None: one half.
    """

    logits: Logits = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    engine: str = ""
    threshold: float | None = None

    @property
    def count(self) -> int:
        """Pictures."""
        return len(self.labels)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, `[N, K]`."""
        return probabilities(torch.from_numpy(self.logits)).numpy()

    @cached_property
    def predictions(self) -> Labels:
        """The most probable class of each picture, int64 `[N]`; of equal ones the first; of two by the threshold."""
        return decide(self.logits) if self.threshold is None else decide(self.probabilities, [self.threshold])

    @property
    def top1(self) -> float:
        """Share of pictures whose answer is the true class."""
        return float((self.predictions == self.labels).mean())

    @property
    def accuracy(self) -> float:
        """The same as `top1`."""
        return self.top1

    @property
    def top5(self) -> float:
        """Share of pictures whose true class is among the five most probable (ties count against the classifier)."""
        true = self.logits[np.arange(self.count), self.labels]
        better = (self.logits >= true[:, None]).sum(axis=1) - 1
        return float((better < 5).mean())

    @property
    def top1_interval(self) -> tuple[float, float]:
        """The 95 % interval of `top1`, by Wilson's score."""
        return wilson_interval(int((self.predictions == self.labels).sum()), self.count)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The same, by the name that `MultiLabelEvaluation` has for its own."""
        return self.top1_interval

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the true classes, in nats."""
        loss = functional.cross_entropy(torch.from_numpy(self.logits).double(), torch.from_numpy(self.labels))
        return float(loss)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Counts `[K, K]`: row = true class, column = answer."""
        from sklearn.metrics import confusion_matrix

        labels = range(len(self.classes))
        return np.asarray(confusion_matrix(self.labels, self.predictions, labels=labels), dtype=np.int64)

    def most_confused(self, count: int = 10) -> list[tuple[str, str, int]]:
        """Pairs (true class, answer, how often) that were mistaken most often, worst first."""
        mistakes = self.confusion.copy()
        np.fill_diagonal(mistakes, 0)
        order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
        pairs = [divmod(int(flat), len(self.classes)) for flat in order]
        return [
            (self.classes[true], self.classes[answer], int(mistakes[true, answer]))
            for true, answer in pairs
            if mistakes[true, answer]
        ]

    @cached_property
    def per_class(self) -> tuple[ClassFigures, ...]:
        """Precision and recall of each class."""
        from sklearn.metrics import precision_recall_fscore_support

        precision, recall, _, counts = precision_recall_fscore_support(
            self.labels, self.predictions, labels=range(len(self.classes)), zero_division=0.0
        )
        rows = zip(self.classes, counts.tolist(), precision.tolist(), recall.tolist(), strict=True)
        return tuple(ClassFigures(*row) for row in rows)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance between confidence and accuracy over 15 equal bins of confidence.

        Source: Guo et al., On Calibration of Modern Neural Networks, 2017, §2.
        """
        confidence, right, _ = self.reliability
        return float(np.abs(right - confidence).sum() / self.count)

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each answer, `[N]`."""
        given: NDArray[np.float64] = self.probabilities[np.arange(self.count), self.predictions]
        return given

    @cached_property
    def reliability(self) -> NDArray[np.float64]:
        """Of the answers in each of 15 equal bins of confidence: sum of confidence, how many are right, how many."""
        confidence = self.confidence
        right = self.predictions == self.labels
        bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        weights = (confidence, right, np.ones(self.count))
        return np.stack([np.bincount(bins, weights=weight, minlength=CALIBRATION_BINS) for weight in weights])

    def worst(self, count: int = 20) -> NDArray[np.int64]:
        """Indices of the mistakes in which the true class was given the least probability, worst first."""
        mistaken = np.flatnonzero(self.predictions != self.labels)
        given = self.probabilities[mistaken, self.labels[mistaken]]
        return mistaken[np.argsort(given, kind="stable")][:count]

    def as_dict(self) -> dict[str, Any]:
        """All figures as plain values; fractions 0…1."""
        return {
            "top1": self.top1,
            "top1_interval": list(self.top1_interval),
            "top5": self.top5,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "count": self.count,
            "engine": self.engine,
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "most_confused": [list(pair) for pair in self.most_confused()],
            "per_class": {
                row.name: {"count": row.count, "precision": row.precision, "recall": row.recall}
                for row in self.per_class
            },
        }

    def __str__(self) -> str:
        low, high = self.top1_interval
        return (
            f"top-1 {self.top1:.2%} (95 % interval {low:.2%} to {high:.2%}), top-5 {self.top5:.2%}, "
            f"loss {self.loss:.4f}, {self.count} pictures"
        )


def evaluate(
    classifier: Classifier,
    pictures: Pictures,
    *,
    views: Views | str = CENTRE,
    batch_size: int = BATCH_SIZE,
    on_batch: Callable[[int], object] | None = None,
) -> Evaluation:
    """A classifier's answers to a labelled set.

    Classes are matched by name, so the set may have them in another order, or lack some (a warning names them).

    Args:
        classifier: what is asked.
        pictures: what it is asked about.
        views: how each picture is shown, or the name of a way: ``"centre"``, ``"5-crops"``, ``"10-crops"``,
            ``"shifted"``, ``"dense"``, ``"alexnet"``, ``"vgg"``. Of several views the probabilities are averaged; the
            logits are then their logarithms.
        batch_size: pictures at a time; the answers do not depend on it.
        on_batch: called with the number of pictures done, for a progress bar.

    Raises:
        DataError: the set has a class that the classifier does not know, or no pictures; or the classifier or the
            pictures are of several labels: see `evaluate_multi_label`.
        PictureError: a picture cannot be decoded.
    """
    if classifier.multi_label or is_multi_label(pictures.labels):
        asked, shown = _labels(classifier.multi_label), _labels(is_multi_label(pictures.labels))
        raise DataError(
            f"a classifier of {asked} for pictures with {shown}",
            expected="one label for each picture",
            remedy="with several labels for both, call evaluate_multi_label",
        )
    labels = match_labels(pictures, classifier.classes, classifier.class_ids)
    views = find_views(views) if isinstance(views, str) else views
    if views == CENTRE:
        logits = compute_logits(classifier, pictures, batch_size=batch_size, on_batch=on_batch)
    else:
        shares = view_probabilities(classifier, pictures, views, on_batch=on_batch)
        logits = np.log(np.maximum(shares, np.finfo(np.float32).tiny)).astype(np.float32)
    threshold = None if classifier.thresholds is None else classifier.thresholds[0]
    return Evaluation(logits, labels, classifier.classes, classifier.engine_name, threshold)


def compute_logits(
    classifier: Classifier,
    pictures: Pictures,
    *,
    batch_size: int = BATCH_SIZE,
    on_batch: Callable[[int], object] | None = None,
) -> Logits:
    """Logits float32 `[N, K]` of pictures in memory or on disk, in order."""
    batch_size = -(-batch_size // classifier.rows) * classifier.rows
    if classifier.prepare.output_size is None and classifier.prepare.resize is not None:
        batch_size = 1  # pictures keep their shapes, so they can't share a batch
    loader = Loader(pictures, classifier.prepare, classifier.plan, batch_size)
    rows = np.empty((len(pictures), len(classifier.classes)), dtype=np.float32)
    done = 0
    for batch in loader.batches():
        logits = classifier.logits(batch.inputs).numpy()
        rows[done : done + len(logits)] = logits
        done += len(logits)
        if on_batch is not None:
            on_batch(done)
    return rows


def match_labels(pictures: Pictures, classes: tuple[str, ...], ids: tuple[str, ...] = ()) -> Labels:
    """The labels of pictures as indices into `classes`, int64 `[N]`; see `match_classes`."""
    return match_classes(pictures, classes, ids)[pictures.labels]


def match_classes(pictures: Pictures, classes: tuple[str, ...], ids: tuple[str, ...] = ()) -> Labels:
    """For each class of the pictures its index in `classes`, by its name, or by the `ids` of the same classes.

    Returns:
        int64 `[K]`; −1 for a class that no picture is of.

    Raises:
        DataError: a class is not among `classes`, or there are no pictures.
    """
    if len(pictures) == 0:
        raise DataError("there are no pictures to evaluate", expected="at least one", remedy="check the source")
    used = np.flatnonzero(class_counts(pictures.labels, len(pictures.classes)))
    called = dict(zip(ids, classes, strict=True)) if ids else {}
    names = [called.get(pictures.classes[label], pictures.classes[label]) for label in used]
    if unknown := [name for name in names if name not in classes]:
        raise DataError(
            f"the data has the classes {', '.join(unknown)}, which the classifier does not know",
            expected=f"classes among {', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}",
            remedy="rename the class folders to the classifier's names, or leave these classes out",
        )
    if missing := [name for name in classes if name not in names]:
        warnings.warn(f"the data has no pictures of {', '.join(missing)}", DataWarning, stacklevel=4)
    place = np.full(len(pictures.classes), -1, dtype=np.int64)
    place[used] = [classes.index(name) for name in names]
    return place


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share: Wilson's score interval (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _labels(several: bool) -> str:
    return "several labels" if several else "one label"
