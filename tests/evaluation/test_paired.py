import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from eyebright.evaluation.paired import adjust, compare_answers, compare_seeds, newcombe_interval


def answers(both, only_first, only_second, neither):
    counts = (both, only_first, only_second, neither)
    first, second = np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)
    return first, second


@pytest.mark.parametrize("counts", [(50, 10, 25, 15), (900, 3, 12, 85), (0, 5, 5, 0), (40, 0, 1, 9), (7, 2, 0, 1)])
def test_mcnemar_agrees_with_statsmodels(counts):
    found = compare_answers(*answers(*counts))
    both, only_first, only_second, neither = counts
    expected = mcnemar([[both, only_first], [only_second, neither]], exact=True)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.value == pytest.approx((only_second - only_first) / sum(counts))
    assert found.interval[0] <= found.value <= found.interval[1]


def test_equal_answers_differ_by_nothing():
    found = compare_answers(*answers(30, 0, 0, 10))
    assert (found.value, found.p_value) == (0, 1)
    assert found.interval[0] < 0 < found.interval[1]


@pytest.mark.parametrize("counts", [(500, 60, 120, 320), (1500, 40, 70, 390)])
def test_the_interval_agrees_with_a_bootstrap(counts):
    first, second = answers(*counts)
    low, high = compare_answers(first, second).interval
    gain = (second.astype(float) - first,)
    drawn = stats.bootstrap(gain, np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0))
    expected = drawn.confidence_interval
    assert low == pytest.approx(expected.low, abs=0.003)
    assert high == pytest.approx(expected.high, abs=0.003)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    shares = np.array([0.6, 0.08, 0.14, 0.18])
    tables = random.multinomial(150, shares, size=2000)
    within = [
        low <= shares[1] - shares[2] <= high for low, high in (newcombe_interval(*row) for row in tables.tolist())
    ]
    assert 0.93 < np.mean(within) < 0.98


def test_the_interval_stays_within_what_is_possible():
    assert newcombe_interval(0, 10, 0, 0) == pytest.approx((0.6, 1), abs=0.2)
    low, high = newcombe_interval(10, 0, 0, 0)
    assert -1 <= low < 0 < high <= 1


def test_the_same_seeds_are_compared_in_pairs():
    first, second = {0: 0.80, 1: 0.82, 2: 0.78, 3: 0.81}, {0: 0.82, 1: 0.85, 2: 0.79, 3: 0.84}
    found = compare_seeds(first, second)
    expected = stats.ttest_rel(list(second.values()), list(first.values()))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert found.value == pytest.approx(0.0225)


def test_other_seeds_are_compared_by_welch():
    first, second = {0: 0.80, 1: 0.82, 2: 0.78}, {5: 0.82, 6: 0.85, 7: 0.79, 8: 0.84}
    found = compare_seeds(first, second)
    expected = stats.ttest_ind(list(second.values()), list(first.values()), equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_seeds_without_any_spread():
    assert compare_seeds({0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}).p_value == 1
    assert compare_seeds({0: 0.5, 1: 0.5}, {0: 0.75, 1: 0.75}).p_value == 0


def test_several_tests_are_corrected_as_statsmodels_does():
    for p_values in ([0.01], [0.04, 0.01, 0.03], [0.5, 0.2, 0.9, 0.001], [0.02, 0.02]):
        assert adjust(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert adjust([]) == []
