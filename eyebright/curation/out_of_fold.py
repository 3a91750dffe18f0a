"""What a classifier says of each picture that was trained without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyebright.data.images import Labels, Pictures

Indices = NDArray[np.int64]
Fold = tuple[Indices, Indices]  # what is trained on, what is predicted
Probabilities = NDArray[np.float64]
Predict = Callable[[Pictures, Sequence[Fold], Callable[[], object]], Probabilities]  # the last one: after each step

PENALTIES = tuple(10.0**power for power in (1.5, 2, 2.5, 3, 3.5, 4, 4.5))
SHARPNESSES = tuple(2.0 ** (power / 2) for power in range(-4, 15))


class OutOfFold(NamedTuple):
    """Predictions for pictures by classifiers that have not seen them.

    Attributes:
        probabilities: float64 `[N, K]`.
        accuracy: share of the pictures whose given label is the most probable class.
        penalty: of the weights, chosen by these predictions.
        sharpness: by which scores were multiplied to become probabilities, chosen likewise.
    """

    probabilities: Probabilities
    accuracy: float
    penalty: float
    sharpness: float


def predict_out_of_fold(
    features: NDArray[np.float32], labels: Labels, folds: Sequence[Fold], classes: int
) -> OutOfFold:
    """Cross-fitted ridge regression on the classes as 0 and 1, its scores made into probabilities.

    Sums over all pictures are made once; each fold's own are taken off, so k folds cost little more than one.

    Args:
        features: `[N, D]`.
        labels: int64 `[N]`.
        folds: which pictures are trained on and which are predicted; every picture is predicted once.
        classes: K.
    """
    x = shorten(standardise(features))
    y = torch.nn.functional.one_hot(torch.from_numpy(labels), classes).float() - 1 / classes
    gram, moment = x.T @ x, x.T @ y
    scores = torch.empty(len(PENALTIES), len(x), classes)
    for _, predicted in folds:
        held = torch.from_numpy(predicted)
        own, answers = x[held], y[held]
        others, theirs = gram - own.T @ own, moment - own.T @ answers
        for place, penalty in enumerate(PENALTIES):
            factor = torch.linalg.cholesky(others + penalty * torch.eye(len(others)))
            scores[place, held] = own @ torch.cholesky_solve(theirs, factor)
    fitted = [_sharpen(some, labels) for some in scores]
    place = min(range(len(PENALTIES)), key=lambda place: fitted[place][0])
    sharpness = fitted[place][1]
    probabilities = (scores[place] * sharpness).double().softmax(1).numpy()
    accuracy = float((probabilities.argmax(1) == labels).mean())
    return OutOfFold(probabilities, accuracy, PENALTIES[place], sharpness)


def to_probabilities(scores: Tensor, labels: Labels) -> Probabilities:
    """Scores `[N, K]` → probabilities float64 `[N, K]`, as sharp as fits these labels best."""
    probabilities: Probabilities = (scores * _sharpen(scores, labels)[1]).double().softmax(1).numpy()
    return probabilities


def _sharpen(scores: Tensor, labels: Labels) -> tuple[float, float]:
    """The least cross-entropy, and by which factor of the scores it comes about."""
    truth = torch.from_numpy(labels)
    return min((float(torch.nn.functional.cross_entropy(scores * factor, truth)), factor) for factor in SHARPNESSES)


def standardise(features: NDArray[np.float32]) -> Tensor:
    """Features with mean 0 and standard deviation 1, `[N, D]`; those that are the same for all become 0."""
    x = torch.from_numpy(features)
    return (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-6)


def shorten(x: Tensor) -> Tensor:
    """Features of fewer pictures than there are features, `[N, D]` → `[N, min(N, D)]`: turned, so that N numbers do.

    All inner products, and so all distances and what ridge regression makes of them, stay as they are.
    """
    return torch.linalg.qr(x.T, mode="r").R.T if len(x) < x.shape[1] else x
