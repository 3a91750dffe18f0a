"""Labels that are probably wrong: confident learning over predictions for pictures that the classifier has not seen.

Source:
    Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021, §3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eyebright.data.images import Labels


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """How much each label is doubted.

    Attributes:
        probabilities: float64 `[N, K]`, of classifiers that have not seen the label, or have not learnt it by heart.
        labels: int64 `[N]`, as given.
        thresholds: float64 `[K]`: the mean probability of a class among the pictures labelled so; above it a class
            counts as confident.
        flagged: bool `[N]`: whether confident learning takes the label for wrong.
        order: int64 `[N]`: all pictures, the most doubtful label first.
    """

    probabilities: NDArray[np.float64]
    labels: Labels
    thresholds: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    order: NDArray[np.int64]

    @property
    def suspects(self) -> NDArray[np.int64]:
        """As many pictures as are flagged, the most doubtful labels first, where another class is more probable.

        Source: Northcutt et al. 2021, §3.2: confident learning says how many; which ones, the probabilities.
        """
        own, best = self.probabilities[np.arange(len(self.labels)), self.labels], self.probabilities.max(axis=1)
        suspects: NDArray[np.int64] = self.order[(best > own)[self.order]][: int(self.flagged.sum())]
        return suspects

    @property
    def suggested(self) -> Labels:
        """int64 `[N]`: of each picture, the most probable class other than its label."""
        others = self.probabilities.copy()
        others[np.arange(len(others)), self.labels] = -1
        suggested: Labels = others.argmax(1)
        return suggested

    @property
    def quality(self) -> NDArray[np.float64]:
        """float64 `[N]`: the probability of the label, as a share of what it is on average where the label is given.

        Classes that are hard to tell have low probabilities throughout; the share makes all classes comparable.
        """
        own = self.probabilities[np.arange(len(self.labels)), self.labels]
        quality: NDArray[np.float64] = own / np.maximum(self.thresholds[self.labels], np.finfo(np.float64).tiny)
        return quality

    @property
    def joint(self) -> NDArray[np.int64]:
        """The confident joint, int64 `[K, K]`: pictures labelled i that are confidently of class j."""
        classes = self.probabilities.shape[1]
        confident, likely = _confident(self.probabilities, self.thresholds)
        counts = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(counts, (self.labels[confident], likely[confident]), 1)
        return counts


def find_label_errors(probabilities: NDArray[np.float64], labels: Labels) -> LabelErrors:
    """Which labels contradict the predictions.

    A label is flagged where another class is confident (its probability is at least the mean that it has among
    pictures labelled so) and is the most probable of the confident ones. The order is by `LabelErrors.quality`.

    Args:
        probabilities: float64 `[N, K]`, out of fold.
        labels: int64 `[N]`, every class at least once.
    """
    classes = probabilities.shape[1]
    thresholds = np.array([probabilities[labels == label, label].mean() for label in range(classes)])
    confident, likely = _confident(probabilities, thresholds)
    found = LabelErrors(probabilities, labels, thresholds, confident & (likely != labels), np.arange(len(labels)))
    order = np.argsort(found.quality, kind="stable")
    return LabelErrors(probabilities, labels, thresholds, found.flagged, order)


def _confident(
    probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether any class is confident for a picture, and the most probable one of those."""
    above = probabilities >= thresholds
    confident: NDArray[np.bool_] = np.any(above, axis=1)
    likely: NDArray[np.int64] = np.where(above, probabilities, -1).argmax(axis=1)
    return confident, likely
