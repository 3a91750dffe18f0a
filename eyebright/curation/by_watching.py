"""Predictions of pictures by a small network, while it learns all of them.

A network learns what many pictures have in common before it learns the exceptions by heart. What it says of a picture
in the second half of a short training, on average, each time before it is shown the label again, still speaks against a
wrong one. One such training takes a fifth of the time of cross-validation, and learns from every picture.

Source:
    Arpit et al.: A Closer Look at Memorization in Deep Networks, ICML 2017, §4; Pleiss et al.: Identifying Mislabeled
    Data Using the Area Under the Margin Ranking, NeurIPS 2020, §3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyebright.curation.out_of_fold import Fold, Predict, Probabilities, to_probabilities
from eyebright.data.batches import keep_ready
from eyebright.data.images import Pictures
from eyebright.data.split import Splits
from eyebright.device import Plan
from eyebright.training.fit import Fit
from eyebright.training.recipe import Recipe, load_recipe

SIDE = 32  # pixels to which pictures are made
WIDTHS = (64, 128, 256)
LISTENED = 0.5  # share of the epochs, the last ones, whose answers count
FEW = 10_000  # pictures below which batches are half as large, and epochs more
EPOCHS, MOST_EPOCHS = 8, 20
SEEN = 80_000  # pictures that pass by, epoch after epoch, at least, as far as epochs are not too many


def epochs_for(count: int) -> int:
    """Epochs for so many pictures: 8, and more for few."""
    return min(max(EPOCHS, round(SEEN / count)), MOST_EPOCHS)


def recipe_for(count: int) -> Recipe:
    """The recipe of the CIFAR-10 speed records with a narrower network, for so many pictures of any size."""
    record = load_recipe("airbench-cifar10")
    batch_size = 250 if count < FEW else 500
    share = batch_size / record.training.batch_size  # rates of SGD go with the batch
    assert record.training.bias_learning_rate is not None and record.training.head_learning_rate is not None
    changes = {
        "prepare.resize": [SIDE, SIDE],
        "model.widths": list(WIDTHS),
        "training.epochs": epochs_for(count),
        "training.batch_size": batch_size,
        "training.bias_learning_rate": record.training.bias_learning_rate * share,
        "training.head_learning_rate": record.training.head_learning_rate * share,
    }
    return load_recipe(record, [f"{key}={value}" for key, value in changes.items()])


def by_watching(*, seed: int = 0, plan: Plan | None = None) -> Predict:
    """What `curate` takes as `predict`: trains one small network on all pictures; folds have no part in it.

    Args:
        seed: of training.
        plan: where to train.
    """

    def predict(pictures: Pictures, folds: Sequence[Fold], tick: Callable[[], object]) -> Probabilities:
        recipe = recipe_for(len(pictures))
        ready, epochs = keep_ready(pictures, recipe.prepare), recipe.training.epochs
        total, times = torch.zeros(len(pictures), len(pictures.classes)), torch.zeros(len(pictures), 1)

        def listen(indices: NDArray[np.int64], logits: Tensor) -> None:
            if fit.epoch >= epochs * (1 - LISTENED):
                total[indices] += logits.cpu()
                times[indices] += 1

        fit = Fit(recipe, Splits(ready, None, ready), seed=seed, plan=plan, on_logits=listen)
        for _ in fit:
            tick()
        return to_probabilities(total / times.clamp(min=1), pictures.labels)

    return predict
