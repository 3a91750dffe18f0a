"""Drift: whether new pictures still look like those of before, and in what they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from eyebright.curation.descriptors import describe_pictures
from eyebright.curation.differences import LEVEL, Difference, LabelShift, compare_labels, find_differences
from eyebright.curation.permutation import (
    Deals,
    Matrix,
    combine,
    deal_labels,
    discriminant,
    held_out_scores,
    normal_scores,
    p_value,
    rank_differences,
    standardise,
    tell_apart,
)
from eyebright.data.images import Pictures
from eyebright.errors import DataError
from eyebright.random import generator

FEWEST, MOST = 20, 5000  # pictures of a set: fewer say nothing, of more a sample is taken
MOST_FEATURES = 512  # of more, as many random projections are taken
NEIGHBOURS = 5
FARTHEST = 5  # standard deviations: one number alone, however far out, does not decide what is least alike
NAMED = 3  # differences in the verdict


@dataclass(frozen=True, eq=False)
class Drift:
    """Whether two sets of pictures are of one kind.

    Attributes:
        p_value: how often sets of one source look at least as different. Exact: at most a share α of them gets one of
            α or less.
        auc: in how many pairs, one picture of each set, a linear classifier tells which is which, on pictures that it
            was not fitted to: 0.5 is chance, 1 is always.
        auc_interval: of it, 95 %, for this classifier.
        differences: of the statistics that vary, those that were found to differ first, larger ones first.
        labels: how the shares of the classes differ; None where there is one class only.
        first_indices, second_indices: the pictures that were looked at.
        unlike: indices of the second set's pictures looked at, the one least like the first set first.
        distances: of `unlike` to the first set, in medians of its own pictures' distances to each other.
        statistic: what `p_value` was counted from: of the truth, then of each random deal, `[P + 1]`.
    """

    p_value: float
    auc: float
    auc_interval: tuple[float, float]
    differences: tuple[Difference, ...] = field(repr=False)
    labels: LabelShift | None
    first_indices: NDArray[np.int64] = field(repr=False)
    second_indices: NDArray[np.int64] = field(repr=False)
    unlike: NDArray[np.int64] = field(repr=False)
    distances: Matrix = field(repr=False)
    statistic: Matrix = field(repr=False)

    @property
    def same(self) -> bool:
        """Whether no difference was found; wrong for 1 % (`LEVEL`) of the pairs of sets from one source."""
        return self.p_value > LEVEL

    @property
    def found(self) -> tuple[Difference, ...]:
        """The differences that chance does not explain at `LEVEL`."""
        return tuple(difference for difference in self.differences if difference.p_value <= LEVEL)

    @property
    def verdict(self) -> str:
        """The answer in a sentence or two."""
        apart = f"p = {self.p_value:.2g}; told apart in {self.auc:.0%} of pairs, where chance gives 50%"
        if self.same:
            return f"No difference found between the two sets ({apart})."
        if not self.found:
            return f"The second set looks different ({apart}), in nothing that has a name here."
        return f"The second set looks different ({apart}): {', '.join(d.words for d in self.found[:NAMED])}."

    def as_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "same": self.same,
            "p_value": self.p_value,
            "level": LEVEL,
            "auc": self.auc,
            "auc_interval": list(self.auc_interval),
            "verdict": self.verdict,
            "counts": [len(self.first_indices), len(self.second_indices)],
            "differences": [difference.as_dict() for difference in self.differences],
            "labels": None if self.labels is None else self.labels.as_dict(),
            "unlike": self.unlike.tolist(),
            "distances": self.distances.tolist(),
        }

    def __str__(self) -> str:
        lines = [self.verdict, *(f"  {difference}" for difference in self.found)]
        return "\n".join(lines if self.labels is None else [*lines, str(self.labels)])


def find_drift(
    first: Pictures,
    second: Pictures,
    *,
    features: tuple[ArrayLike, ArrayLike] | None = None,
    seed: int = 0,
    on_read: Callable[[], object] | None = None,
) -> Drift:
    """Tells whether two sets of pictures are of one kind, in what they differ, and which pictures are least alike.

    Two tests are combined, and their p-value is counted over 999 random deals of the pictures to the two sets, so it is
    exact: the largest difference in position or spread of any statistic of the appearance, and a linear discriminant on
    those statistics, on frequencies and on answers of random filters. Of more than 5,000 pictures of a set a random
    sample is looked at. Pictures must be independent of each other: of several frames of a film give one.

    Args:
        first: pictures of before: those that a classifier was trained on.
        second: new pictures, none of them in `first`; classes are matched by name.
        features: of both sets, `[N, D]` each: a trained network's embeddings, say, which then take the place of
            frequencies and random filters.
        seed: of the deals and of the samples.
        on_read: called after each picture that is read, for a progress bar.

    Raises:
        DataError: a set has fewer than 20 pictures, or `features` do not fit.
        PictureError: a picture cannot be read.
    """
    sets = (first, second)
    for position, pictures in zip(("first", "second"), sets, strict=True):
        if len(pictures) < FEWEST:
            raise DataError(
                f"the {position} set of pictures has {len(pictures)}",
                expected=f"at least {FEWEST} in each set: chance alone makes fewer look different",
                remedy="gather more pictures, or look at these one by one",
            )
    given = None if features is None else _check_features(features, first, second)
    chosen = [_choose(len(pictures), seed, position) for position, pictures in enumerate(sets)]
    described: list[tuple[Matrix, ...]] = [
        describe_pictures(pictures, places, on_read) for pictures, places in zip(sets, chosen, strict=True)
    ]
    if given is not None:
        described = [(one[0], rows[places]) for one, rows, places in zip(described, given, chosen, strict=True)]
    families = [np.concatenate(pair) for pair in zip(*described, strict=True)]
    deals = deal_labels(len(chosen[0]), len(chosen[1]), seed)
    by_statistic, scores, statistic = compare(families, deals)
    true = deals[:, 0].astype(np.float64)
    auc, interval = tell_apart(held_out_scores(scores, true), true)
    distances = _distances(families, len(chosen[0]))
    order = np.argsort(-distances, kind="stable")
    return Drift(
        p_value=p_value(statistic),
        auc=auc,
        auc_interval=interval,
        differences=find_differences(described[0][0], described[1][0], by_statistic),
        labels=compare_labels(sets, chosen, deals),
        first_indices=chosen[0],
        second_indices=chosen[1],
        unlike=chosen[1][order],
        distances=distances[order],
        statistic=statistic,
    )


def compare(families: list[Matrix], deals: Deals) -> tuple[Matrix, Matrix, Matrix]:
    """The tests of `find_drift` on described pictures, those of the first set before those of the second.

    Args:
        families: `[N, S]` of the appearance, then `[N, D]` each of what has no names.
        deals: float32 `[N, P + 1]`.

    Returns:
        How much each statistic of the appearance differs, `[S, P + 1]`; what the linear discriminant saw, `[N, F]`;
        and the tests' joint statistic, `[P + 1]`.
    """
    position, spread = rank_differences(families[0], deals)
    by_statistic = np.maximum(np.abs(position), np.abs(spread))
    named = normal_scores(families[0])
    scores = np.concatenate([named, standardise(named**2), *map(normal_scores, families[1:])], axis=1)
    scores = scores[:, scores.any(axis=0)]
    return by_statistic, scores, combine(by_statistic.max(axis=0), discriminant(scores, deals))


def _choose(count: int, seed: int, position: int) -> NDArray[np.int64]:
    """Which pictures are looked at, in random order: neighbours in a folder are alike."""
    return torch.randperm(count, generator=generator(seed, "drift", "sample", position))[:MOST].numpy()


def _check_features(features: tuple[ArrayLike, ArrayLike], first: Pictures, second: Pictures) -> list[Matrix]:
    """Features as float64 `[N, D]`; of very many, random projections (Johnson and Lindenstrauss 1984)."""
    arrays = [np.asarray(array, dtype=np.float64) for array in features]
    shapes = [array.shape for array in arrays]
    counts = [len(first), len(second)]
    fits = all(array.ndim == 2 and np.isfinite(array).all() for array in arrays)
    if not fits or [shape[0] for shape in shapes] != counts or len({shape[1:] for shape in shapes}) != 1:
        raise DataError(
            f"features of shapes {[list(shape) for shape in shapes]} for {counts[0]} and {counts[1]} pictures",
            expected="two arrays [N, D] of finite numbers: a row for each picture, equally many columns",
            remedy="compute the features of both sets with the same network",
        )
    width = shapes[0][1]
    if width <= MOST_FEATURES:
        return arrays
    random = torch.randn(width, MOST_FEATURES, generator=generator(0, "drift", "projection"), dtype=torch.float64)
    return [array @ random.numpy() for array in arrays]


def _distances(families: list[Matrix], first: int) -> Matrix:
    """How far each row of the second set is from its fifth nearest of the first, in medians of the first's own."""
    from sklearn.neighbors import NearestNeighbors

    blocks = []
    for family in families:
        mean, spread = family[:first].mean(axis=0), family[:first].std(axis=0)
        scaled = (family - mean) / np.maximum(spread, 1e-9)
        blocks.append(scaled.clip(-FARTHEST, FARTHEST) / np.sqrt(family.shape[1]))
    rows = np.concatenate(blocks, axis=1).astype(np.float32)
    nearest = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(rows[:first])
    own = nearest.kneighbors()[0][:, -1]  # without arguments it leaves each row itself out
    return np.asarray(nearest.kneighbors(rows[first:])[0][:, -1] / max(float(np.median(own)), 1e-9), dtype=np.float64)
