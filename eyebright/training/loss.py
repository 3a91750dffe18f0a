"""Losses, as sums, so that a batch cut into pieces has the gradient of the whole.

Labels are int64 `[N]`; or, where a picture can have several, `[N, K]` of 0 and 1: each output is a question of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eyebright.data.labels import Labels, class_counts, is_multi_label
from eyebright.errors import RecipeError
from eyebright.training.recipe import TrainingSection

Loss = Callable[[Tensor, Tensor], Tensor]


def count_outputs(training: TrainingSection, labels: Labels, classes: tuple[str, ...]) -> int:
    """How many outputs the network needs for this loss and these labels.

    Raises:
        RecipeError: the loss, or another setting of the recipe, does not fit the labels.
    """
    binary = training.loss == "binary_cross_entropy"
    if is_multi_label(labels):
        if not binary or training.class_weights != "equal":
            raise RecipeError(
                f'loss = "{training.loss}", class_weights = {training.class_weights!r} for pictures of several labels',
                expected='loss = "binary_cross_entropy" and equal class_weights: each label is a question of its own',
                remedy='set training.loss = "binary_cross_entropy", and leave class_weights and label_smoothing out',
            )
        return len(classes)
    if binary and len(classes) != 2:
        raise RecipeError(
            f'loss = "binary_cross_entropy" for {len(classes)} classes',
            expected="two classes: the network has one output, the logit of the second",
            remedy='set training.loss = "cross_entropy"',
        )
    return 1 if binary else len(classes)


def class_weights(training: TrainingSection, labels: Labels, classes: tuple[str, ...]) -> Tensor:
    """The weight of each class in the loss, float32 `[K]`, with a mean of 1 over the training pictures.

    Raises:
        RecipeError: the recipe gives another number of weights than there are classes.
    """
    given = training.class_weights
    counts = class_counts(labels, len(classes)).astype(np.float64)
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
    class; or, where a picture can have several labels, `[N, K]`: a picture's loss is then the mean over the labels.
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
            return partial(_binary_cross_entropy, weights)


def total_weight(weights: Tensor, labels: Tensor) -> Tensor:
    """What the loss of these pictures is divided by, to be a mean."""
    return weights[labels].sum() if labels.ndim == 1 else weights.new_tensor(len(labels))


def count_right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many pictures are answered right; where a picture can have several labels, with all of them."""
    if labels.ndim == 2:
        return ((logits >= 0) == (labels == 1)).all(dim=1).sum()
    answers = logits.argmax(dim=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    return (answers == labels).sum()


def picture_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Each picture's own cross-entropy, float32 `[N]`, whatever the recipe's loss adds to it."""
    if labels.ndim == 2 or logits.shape[1] == 1:
        truth = labels.view(logits.shape).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1)
    return functional.cross_entropy(logits, labels, reduction="none")


def _binary_cross_entropy(weights: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    truth = labels.to(logits.dtype)
    if labels.ndim == 2:
        return functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / logits.shape[1]
    return functional.binary_cross_entropy_with_logits(logits[:, 0], truth, weights[labels], reduction="sum")


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
