"""Losses, as sums, so that a batch cut into pieces has the gradient of the whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eyebright.data.images import Labels
from eyebright.errors import RecipeError
from eyebright.training.recipe import TrainingSection

Loss = Callable[[Tensor, Tensor], Tensor]


def class_weights(training: TrainingSection, labels: Labels, classes: tuple[str, ...]) -> Tensor:
    """The weight of each class in the loss, float32 `[K]`, with a mean of 1 over the training pictures.

    Raises:
        RecipeError: the recipe gives another number of weights than there are classes.
    """
    given = training.class_weights
    counts = np.bincount(labels, minlength=len(classes)).astype(np.float64)
    if given == "equal":
        return torch.ones(len(classes))
    if given == "balanced":
        return torch.tensor(len(labels) / (len(classes) * np.maximum(counts, 1)), dtype=torch.float32)
    if len(given) != len(classes):
        raise RecipeError(
            f"class_weights has {len(given)} numbers",
            expected=f"one for each of the {len(classes)} classes: {', '.join(classes[:20])}",
            remedy='give as many, or class_weights = "balanced"',
        )
    weights = np.array(given)
    return torch.tensor(weights * len(labels) / (counts @ weights), dtype=torch.float32)


def make_loss(training: TrainingSection, weights: Tensor) -> Loss:
    """The recipe's loss: a function (logits float32 `[N, K]`, labels int64 `[N]`) → the sum over the pictures.

    Every picture counts with its class's weight. With ``"binary_cross_entropy"`` logits are `[N, 1]`, of the second
    class.
    """
    match training.loss:
        case "cross_entropy":
            return lambda logits, labels: functional.cross_entropy(
                logits, labels, weights, reduction="sum", label_smoothing=training.label_smoothing
            )
        case "nll":
            return lambda logits, labels: functional.nll_loss(
                functional.log_softmax(logits, dim=1), labels, weights, reduction="sum"
            )
        case "binary_cross_entropy":
            return lambda logits, labels: functional.binary_cross_entropy_with_logits(
                logits[:, 0], labels.to(logits.dtype), weights[labels], reduction="sum"
            )


def mixture_loss(loss: Loss, logits: Tensor, labels: Tensor, partner_labels: Tensor, share: float) -> Tensor:
    """The loss of pictures that are mixtures of two: of each one's label, in proportion to its share.

    For cross-entropy that is the loss against the mixed labels (Zhang et al. 2018 §2).

    Args:
        loss: of pictures that are not mixed.
        logits: float32 `[N, K]`.
        labels: int64 `[N]`.
        partner_labels: int64 `[N]`: of the pictures that were mixed in.
        share: of `labels`, 0…1.
    """
    own = loss(logits, labels)
    return own if share == 1 else share * own + (1 - share) * loss(logits, partner_labels)
