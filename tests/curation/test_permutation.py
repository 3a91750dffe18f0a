"""Exactness on cases small enough to count, and slow twins."""

import itertools

import numpy as np
import pytest
from scipy.stats import kstest, rankdata

from eyebright.curation.permutation import (
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


def all_deals(first, second):
    """Every way to deal out the labels; the truth, the first ones, comes first."""
    count = first + second
    deals = np.zeros((count, 0), np.float32)
    for members in itertools.combinations(range(count), first):
        column = np.zeros((count, 1), np.float32)
        column[list(members)] = 1
        deals = np.concatenate([deals, column], axis=1)
    return deals


def joint_statistic(values, deals):
    position, spread = rank_differences(values, deals)
    largest = np.maximum(np.abs(position), np.abs(spread)).max(axis=0)
    return combine(largest, discriminant(normal_scores(values), deals))


def test_the_p_value_of_separate_samples_is_counted():
    deals = all_deals(4, 4)
    position, _ = rank_differences(np.arange(8.0)[:, None], deals)
    assert deals.shape == (8, 70)
    assert p_value(np.abs(position[0])) == pytest.approx(2 / 70)  # only 0123 | 4567 and its mirror are as far apart
    assert p_value(position[0]) == 1.0
    assert p_value(-position[0]) == pytest.approx(1 / 70)


@pytest.mark.parametrize("decimals", [8, 0])  # 0: with many equal values
def test_over_all_deals_the_p_values_are_exact(decimals):
    """Whichever deal is the truth, a share α of them has a p-value of at most α: no more, and hardly less."""
    values = (2 * np.random.default_rng(0).normal(size=(8, 3))).round(decimals)
    statistic = joint_statistic(values, all_deals(4, 4))
    p_values = np.array([p_value(statistic, float(value)) for value in statistic])
    for level in np.arange(1, 71) / 70:
        assert (p_values <= level + 1e-9).mean() <= level + 1e-9
    assert p_values.min() <= 4 / 70


def test_deals_are_of_the_right_sizes_and_depend_on_the_seed_alone():
    deals = deal_labels(3, 5, seed=4, count=20)
    assert deals.shape == (8, 21) and (deals.sum(axis=0) == 3).all()
    assert deals[:, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert np.array_equal(deals, deal_labels(3, 5, seed=4, count=20))
    assert not np.array_equal(deals, deal_labels(3, 5, seed=5, count=20))


def test_each_row_is_dealt_to_the_first_sample_equally_often():
    shares = deal_labels(5, 15, seed=0, count=4000)[:, 1:].mean(axis=1)
    assert np.abs(shares - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


def test_equal_values_differ_in_nothing():
    deals = deal_labels(10, 12, seed=0, count=99)
    statistic = joint_statistic(np.ones((22, 2)), deals)
    assert p_value(statistic) == 1.0


def test_rank_differences_are_those_of_a_loop():
    values = np.random.default_rng(1).integers(0, 6, (15, 2)).astype(float)
    deals = deal_labels(6, 9, seed=0, count=5)
    position, spread = rank_differences(values, deals)
    for column, deal in itertools.product(range(2), range(6)):
        ranks = rankdata(values[:, column])
        for kept, found in ((ranks, position), (np.abs(ranks - 8), spread)):
            total = kept[deals[:, deal] == 1].sum()
            variance = kept.var() * 6 * 9 / 14  # of a sum of 6 of 15, drawn without putting back
            assert found[column, deal] == pytest.approx((total - 6 * kept.mean()) / np.sqrt(variance), abs=1e-5)


def test_spread_is_seen_where_position_is_not():
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(0, 1, (80, 1)), random.normal(0, 3, (80, 1))])
    position, spread = rank_differences(values, deal_labels(80, 80, seed=0, count=199))
    assert p_value(np.abs(spread[0])) == 1 / 200 and p_value(np.abs(position[0])) > 0.05
    assert spread[0, 0] < 0  # the first lies nearer to the middle


def test_the_discriminant_is_that_of_each_deal_alone():
    features = standardise(np.random.default_rng(2).normal(size=(14, 4)))
    deals = deal_labels(6, 8, seed=0, count=6)
    found = discriminant(features, deals)
    for deal in range(7):
        sums = features[deals[:, deal] == 1].sum(axis=0)
        covariance = features.T @ features / 14 + 0.3 * np.eye(4)
        assert found[deal] == pytest.approx(sums @ np.linalg.inv(covariance) @ sums, rel=1e-4)


def test_the_combined_statistic_is_the_larger_one_in_standard_deviations():
    one, other = np.array([9.0, 1, 2, 3]), np.array([10.0, 20, 30, 20])
    first, second = ((values - values.mean()) / values.std() for values in (one, other))
    assert np.allclose(combine(one, other), np.maximum(first, second))


def test_the_p_values_of_like_with_like_are_uniform():
    random = np.random.default_rng(0)
    p_values = []
    for seed in range(300):
        values = random.gamma(0.5, size=(60, 5)).round(2)  # skewed, with equal values
        p_values.append(p_value(joint_statistic(values, deal_labels(20, 40, seed, count=99))))
    assert np.mean(np.array(p_values) <= 0.05) < 0.09  # 0.05 and three standard deviations
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_scores_are_of_rows_that_were_held_out():
    """Random labels can't be told: scores of the rows that were fitted to would seem to."""
    random = np.random.default_rng(3)
    features, labels = standardise(random.normal(size=(100, 60))), (np.arange(100) < 50).astype(float)
    area, (low, high) = tell_apart(held_out_scores(features, labels), labels)
    assert low < 0.5 < high and abs(area - 0.5) < 0.2
    features[:, 0] += 3 * labels
    assert tell_apart(held_out_scores(standardise(features), labels), labels)[0] > 0.9


def test_the_area_is_the_share_of_pairs():
    random = np.random.default_rng(4)
    scores, labels = random.integers(0, 8, 30).astype(float), (np.arange(30) < 12).astype(float)
    pairs = itertools.product(scores[:12], scores[12:])
    share = np.mean([1.0 if one > other else 0.5 if one == other else 0.0 for one, other in pairs])
    area, (low, high) = tell_apart(scores, labels)
    assert area == pytest.approx(share) and low < area < high


@pytest.mark.parametrize(("first", "area"), [(1.0, 1.0), (-1.0, 0.0)])
def test_the_interval_of_a_whole_separation_has_a_width(first, area):
    labels = (np.arange(60) < 30).astype(float)
    found, (low, high) = tell_apart(labels * first, labels)
    assert found == area
    assert (0.85 < low < 0.99 and high == 1.0) if area else (low == 0.0 and 0.01 < high < 0.15)


def test_the_interval_covers_the_truth():
    random, covered = np.random.default_rng(5), []
    labels = (np.arange(100) < 50).astype(float)
    for _ in range(300):
        _, (low, high) = tell_apart(random.normal(labels), labels)
        covered.append(low <= 0.7602 <= high)  # Φ(1 / √2)
    assert 0.91 <= np.mean(covered) <= 0.99


def test_normal_scores_keep_the_order_and_nothing_else():
    values = np.random.default_rng(6).normal(size=(50, 2))
    assert np.allclose(normal_scores(values), normal_scores(np.exp(5 * values)))
    assert (normal_scores(np.full((5, 1), 7.3)) == 0).all()
