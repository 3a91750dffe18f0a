"""Predictions of pictures by a recipe's networks, each trained without the pictures that it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from eyebright.curation.out_of_fold import Fold, Predict, Probabilities
from eyebright.data.images import Pictures
from eyebright.data.split import Splits
from eyebright.evaluation.evaluate import compute_logits
from eyebright.training.fit import Fit
from eyebright.training.recipe import Recipe


def by_recipe(recipe: Recipe, *, seed: int = 0) -> Predict:
    """What `curate` takes as `predict`: trains the recipe once for each fold.

    Args:
        recipe: how to train; the last epoch's weights are used, as nothing is left to choose them by.
        seed: of training.
    """

    def predict(pictures: Pictures, folds: Sequence[Fold], tick: Callable[[], object]) -> Probabilities:
        probabilities = np.zeros((len(pictures), len(pictures.classes)))
        for trained_on, predicted in folds:
            held = pictures.select(predicted)
            fit = Fit(recipe, Splits(pictures.select(trained_on), None, held), seed=seed)
            for _ in fit:
                pass
            classifier = fit.classifier()
            logits = torch.from_numpy(compute_logits(classifier, held))
            probabilities[predicted] = classifier.probabilities(logits).numpy()
            tick()
        return probabilities

    return predict
