"""Are two samples of one kind? Tests that are exact whatever the numbers are: labels are dealt out again at random.

If both samples come from one source, the true labels are one deal like any other, so the share of deals that look at
least as different is a p-value: at most a share α of all comparisons of like with like has one of α or less.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from eyebright.random import generator

Matrix = NDArray[np.float64]
Deals = NDArray[np.float32]  # [N, P + 1]: 1: of the first sample; column 0: the truth

DEALS = 999
RIDGE = 0.3  # added to variances of 1: chosen by power on blurred, noisy and recoloured pictures
FOLDS = 5
DIGITS = 5  # of a statistic against its mean: sums in another order change those after


def deal_labels(first: int, second: int, seed: int, count: int = DEALS) -> Deals:
    """The true labels and `count` random deals of them, float32 `[first + second, count + 1]`."""
    random = generator(seed, "drift", "deals")
    deals = np.zeros((first + second, count + 1), np.float32)
    deals[:first, 0] = 1
    for column in range(1, count + 1):
        deals[torch.randperm(first + second, generator=random)[:first].numpy(), column] = 1
    return deals


def rank_differences(values: Matrix, deals: Deals) -> tuple[Matrix, Matrix]:
    """How far the first sample's ranks lie from the second's, in each column and each deal, both `[S, P + 1]`.

    Args:
        values: `[N, S]`.
        deals: `[N, P + 1]`.

    Returns:
        In position and in spread, in standard deviations over all deals; below 0 where the first has less.

    Source: Wilcoxon 1945; Ansari and Bradley 1960 (distances of ranks from the middle one).
    """
    from scipy.stats import rankdata

    count, first = len(values), float(deals[:, 0].sum())
    ranks = rankdata(values, axis=0) - (count + 1) / 2
    scale = np.sqrt(first * (count - first) / (count - 1))
    position, spread = (standardise(column).T @ deals / scale for column in (ranks, np.abs(ranks)))
    return position, spread


def discriminant(features: Matrix, deals: Deals) -> Matrix:
    """How far apart the samples' means are, along the direction in which they lie farthest apart, `[P + 1]`.

    Hotelling's T² with a ridge, in all deals at once: the features' variances and products are those of both samples
    together, so they are the same for every deal.

    Args:
        features: `[N, D]`, each column of mean 0 and variance 1.
        deals: `[N, P + 1]`.

    Source: Hotelling 1931; Chen, Paul, Prentice, Wang, A Regularized Hotelling's T² Test, 2011.
    """
    narrow = features.astype(np.float32)
    products = (narrow.T @ narrow).astype(np.float64) / len(features)
    sums = (narrow.T @ deals).astype(np.float64)
    products[np.diag_indices(len(products))] += RIDGE
    return np.asarray((sums * np.linalg.solve(products, sums)).sum(axis=0))


def combine(*statistics: Matrix) -> Matrix:
    """The largest of several statistics `[P + 1]`, each in standard deviations of its own deals, `[P + 1]`.

    Source: Pesarin and Salmaso, Permutation Tests for Complex Data, 2010, ch. 4 (nonparametric combination).
    """
    columns = np.stack(statistics, axis=1)
    return np.asarray(standardise(columns).max(axis=1))


def p_value(statistic: Matrix, observed: float | None = None) -> float:
    """The share of deals, the truth among them, whose statistic `[P + 1]` is at least the true one (or `observed`)."""
    size = np.abs(statistic).mean() or 1.0
    true = statistic[0] if observed is None else observed
    return float(((statistic / size).round(DIGITS) >= np.round(true / size, DIGITS)).mean())


def standardise(values: Matrix) -> Matrix:
    """Columns of `[N, D]` with mean 0 and variance 1; one whose values are all equal becomes 0."""
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    return np.asarray(centred / np.where(spread > 1e-9 * np.abs(values).max(axis=0, initial=1.0), spread, np.inf))


def normal_scores(values: Matrix) -> Matrix:
    """Each column of `[N, D]` as the quantiles of a normal distribution, in the same order: no value is far out."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return standardise(ndtri((rankdata(values, axis=0) - 0.5) / len(values)))


def held_out_scores(features: Matrix, labels: Matrix) -> Matrix:
    """What a ridge regression of the labels answers to rows that it was not fitted to, `[N]`: five-fold.

    Args:
        features: `[N, D]`, each column of mean 0 and variance 1.
        labels: `[N]`: 1 or 0.
    """
    scores = np.empty(len(features))
    for fold in range(FOLDS):
        out = np.arange(len(features)) % FOLDS == fold
        rows, targets = features[~out], labels[~out] - labels[~out].mean()
        products = rows.T @ rows + RIDGE * len(rows) * np.eye(rows.shape[1])
        scores[out] = features[out] @ np.linalg.solve(products, rows.T @ targets)
    return scores


def tell_apart(scores: Matrix, labels: Matrix) -> tuple[float, tuple[float, float]]:
    """In how many pairs, one of each sample, the first has the higher score; and the 95 % interval of that share.

    It is the area under the ROC curve: 0.5 where scores say nothing, 1 where they say all.

    Source of the interval: Newcombe, Confidence intervals for an effect size measure based on the Mann–Whitney
    statistic, part 2, 2006, method 5.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm, rankdata

    first = int(labels.sum())
    second = len(labels) - first
    area = float((rankdata(scores)[labels == 1].sum() - first * (first + 1) / 2) / (first * second))

    def excess(share: float) -> float:
        half = (first + second) / 2 - 1
        spread = share * (1 - share) * (1 + half * ((1 - share) / (2 - share) + share / (1 + share)))
        return float((share - area) ** 2 - norm.ppf(0.975) ** 2 * spread / (first * second))

    beside = 1e-9  # at 0 and 1 themselves the excess is 0 too
    low = brentq(excess, 0, area - beside) if excess(0) > 0 else 0.0
    high = brentq(excess, area + beside, 1) if excess(1) > 0 else 1.0
    return area, (float(low), float(high))
