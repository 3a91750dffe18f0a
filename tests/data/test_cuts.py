from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eyebright.data.cuts import cut_off, deal, make_folds, stratified_cut
from eyebright.data.images import Images
from eyebright.errors import DataError
from eyebright.random import generator

label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(lambda values: np.array(values, dtype=np.int64))
shares = st.integers(0, 100).map(lambda percent: percent / 100)


def pictures(labels, groups=None):
    """Pictures of nothing with these labels and groups."""
    labels = np.array(labels, dtype=np.int64)
    classes = tuple(f"class {i}" for i in range(int(labels.max()) + 1))
    groups = None if groups is None else tuple(map(str, groups))
    return Images(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, classes, groups=groups)


def counts(pictures, indices):
    return np.bincount(pictures.labels[indices], minlength=len(pictures.classes))


# pictures one by one


def shares_twin(counts, fraction):
    """How many of each class are cut off: whole parts first, then one each to the largest remainders."""
    exact = [count * Fraction(fraction).limit_denominator(1000) for count in counts]
    take = [int(share) for share in exact]
    missing = round(sum(counts) * Fraction(fraction).limit_denominator(1000)) - sum(take)
    for label in sorted(range(len(counts)), key=lambda label: (take[label] - exact[label], label))[:missing]:
        take[label] += 1
    return take


@given(label_lists, shares, st.integers(0, 5))
def test_every_picture_is_kept_or_cut_off_and_both_ascend(given_labels, fraction, seed):
    kept, cut = stratified_cut(given_labels, fraction, seed)
    assert sorted([*kept, *cut]) == list(range(len(given_labels)))
    assert (np.diff(kept) > 0).all() and (np.diff(cut) > 0).all()


@given(label_lists, shares, st.integers(0, 5))
def test_every_class_loses_its_share_within_one_picture(given_labels, fraction, seed):
    _, cut = stratified_cut(given_labels, fraction, seed)
    lost = np.bincount(given_labels[cut], minlength=6)
    exact = np.bincount(given_labels, minlength=6) * fraction
    assert (np.abs(lost - exact) < 1 + 1e-9).all()
    assert abs(lost.sum() - exact.sum()) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    "counts", [[10, 10, 10], [5000] * 10, [7, 3, 1], [1, 1, 1], [97, 3], [10, 0, 5], [13]], ids=str
)
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.15, 0.2, 0.37, 0.5, 0.9, 1.0])
def test_the_counts_are_those_of_the_slow_twin(counts, fraction):
    given_labels = np.repeat(np.arange(len(counts)), counts)
    _, cut = stratified_cut(given_labels, fraction, seed=0)
    assert np.bincount(given_labels[cut], minlength=len(counts)).tolist() == shares_twin(counts, fraction)


@given(label_lists, shares, st.integers(0, 5))
def test_the_same_seed_cuts_the_same(given_labels, fraction, seed):
    first, again = (stratified_cut(given_labels, fraction, seed) for _ in range(2))
    assert all(map(np.array_equal, first, again))


def test_another_seed_cuts_others():
    given_labels = np.arange(100) % 3
    cuts = {tuple(stratified_cut(given_labels, 0.2, seed)[1].tolist()) for seed in range(20)}
    assert len(cuts) == 20


def test_every_picture_may_be_cut_off():
    given_labels = np.arange(30) % 3
    times = np.zeros(30)
    for seed in range(200):
        times[stratified_cut(given_labels, 0.2, seed)[1]] += 1
    assert times.min() > 15 and times.max() < 65  # 40 expected


def test_cifar10_is_cut_as_the_lecture_says():
    kept, cut = stratified_cut(np.arange(50_000) % 10, 0.1, seed=0)
    assert (len(kept), len(cut)) == (45_000, 5_000)
    assert np.bincount(cut % 10).tolist() == [500] * 10


# folds


@given(label_lists, st.integers(2, 12), st.integers(0, 3))
def test_folds_validate_every_picture_once_and_differ_by_one_at_most(labels, folds, seed):
    whole = pictures(np.concatenate([labels, *[np.arange(6)] * folds]))
    made = make_folds(whole, folds, seed)
    assert sorted(np.concatenate([val for _, val in made]).tolist()) == list(range(len(whole)))
    for train, val in made:
        assert sorted([*train, *val]) == list(range(len(whole)))
        assert (np.diff(train) > 0).all() and (np.diff(val) > 0).all()
    assert np.ptp([len(val) for _, val in made]) <= 1
    assert np.ptp([counts(whole, val) for _, val in made], axis=0).max() <= 1


def test_folds_depend_on_the_seed_alone():
    whole = pictures(np.arange(60) % 3)
    first, again, other = (make_folds(whole, 5, seed)[0][1].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_pictures_meet_in_other_folds_with_another_seed():
    whole = pictures([0] * 20 + [1] * 20)
    together = Counter(
        pair
        for seed in range(200)
        for _, val in make_folds(whole, 4, seed)
        for pair in [(0, 1), (0, 20)]
        if set(pair) <= set(val.tolist())
    )
    assert 25 < together[0, 1] < 65 and 25 < together[0, 20] < 75  # 42 and 50 expected


@pytest.mark.parametrize("folds", [-1, 0, 1])
def test_fewer_than_two_folds_are_refused(refuses, folds):
    with refuses(DataError, f"{folds} folds"):
        make_folds(pictures([0, 0, 1, 1]), folds, 0)


@pytest.mark.parametrize(("labels", "folds"), [([0, 0, 1, 1], 5), ([0, 0, 0, 1], 2)])
def test_folds_that_would_be_empty_or_hold_a_whole_class_are_refused(refuses, labels, folds):
    with refuses(DataError, f"4 pictures do not suffice for {folds} folds"):
        make_folds(pictures(labels), folds, 0)


# groups


@st.composite
def grouped(draw):
    """Pictures of up to 4 classes in groups of all sizes, at least two of each class; some hold several classes."""
    classes = draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 12), min_size=2 * classes, max_size=40))
    labels, groups = [], []
    for group, size in enumerate(sizes):
        mixed = group >= 2 * classes and draw(st.booleans())
        labels += (
            draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
            if mixed
            else [group % classes] * size
        )
        groups += [group] * size
    order = draw(st.permutations(range(len(labels))))
    return pictures([labels[i] for i in order], [groups[i] for i in order])


def groups_in(pictures, indices):
    return {pictures.groups[i] for i in indices}


@given(grouped(), st.integers(5, 60), st.integers(0, 3))
def test_a_group_stays_on_one_side_of_a_cut_and_each_class_is_on_both(whole, percent, seed):
    kept, cut = cut_off(whole, percent / 100, seed, "validation")
    assert sorted([*kept, *cut]) == list(range(len(whole)))
    assert (np.diff(kept) > 0).all() and (np.diff(cut) > 0).all()
    assert not groups_in(whole, kept) & groups_in(whole, cut)
    assert counts(whole, kept).all() and counts(whole, cut).all()


@given(grouped(), st.integers(0, 3))
def test_a_group_is_validated_on_in_one_fold(whole, seed):
    made = make_folds(whole, 2, seed)
    assert sorted(np.concatenate([val for _, val in made]).tolist()) == list(range(len(whole)))
    assert sum(len(groups_in(whole, val)) for _, val in made) == len(set(whole.groups))
    for train, val in made:
        assert not groups_in(whole, train) & groups_in(whole, val)
        assert counts(whole, train).all() and counts(whole, val).all()


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_of_groups_are_stratified(folds):
    """Patients with 1 to 9 pictures each, ill or well: shares in each fold are close to the whole's."""
    random = np.random.default_rng(0)
    ill = random.random(300) < 0.2
    patients = np.repeat(np.arange(300), random.integers(1, 10, 300))
    whole = pictures(ill[patients], patients)
    exact = np.bincount(whole.labels) / folds
    for _, val in make_folds(whole, folds, 0):
        assert np.abs(counts(whole, val) - exact).max() <= 2


def test_a_cut_of_groups_takes_its_share():
    random = np.random.default_rng(1)
    patients = np.repeat(np.arange(200), random.integers(1, 10, 200))
    whole = pictures(patients % 3, patients)
    for fraction in (0.1, 0.2, 0.5):
        _, cut = cut_off(whole, fraction, 0, "test")
        assert np.abs(counts(whole, cut) - fraction * np.bincount(whole.labels)).max() <= 2


def test_groups_of_one_picture_are_dealt_as_well_as_pictures():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    alone = pictures(labels, range(100))
    for train, val in make_folds(alone, 10, 0):
        assert counts(alone, val).tolist() == [5, 3, 2] and len(train) == 90
    _, cut = cut_off(alone, 0.2, 0, "test")
    assert counts(alone, cut).tolist() == [10, 6, 4]


def test_any_group_of_one_size_may_be_cut_off():
    whole = pictures(np.arange(60) % 2, np.arange(60) // 2)
    times = Counter(group for seed in range(200) for group in groups_in(whole, cut_off(whole, 0.2, seed, "test")[1]))
    assert len(times) == 30 and min(times.values()) > 15 and max(times.values()) < 65  # 40 expected


def test_a_class_in_a_single_group_cannot_be_cut(refuses):
    whole = pictures([0, 0, 0, 1, 1], ["a", "b", "b", "c", "c"])
    with refuses(DataError, "cannot cut 50% off for test: all pictures of the class 'class 1' are in one group, 'c'"):
        cut_off(whole, 0.5, 0, "test")
    with refuses(DataError, "cannot make 2 folds: all pictures of the class 'class 1' are in one group, 'c'"):
        make_folds(whole, 2, 0)


def test_fewer_groups_than_folds_are_refused(refuses):
    whole = pictures([0, 0, 0, 1, 1, 1], ["a", "b", "b", "c", "d", "d"])
    with refuses(DataError, "6 pictures in 4 groups do not suffice for 5 folds"):
        make_folds(whole, 5, 0)


# several labels


def labelled(rows):
    rows = np.array(rows, dtype=np.int64)
    return Images(np.zeros((len(rows), 1, 1, 1), np.uint8), rows, tuple("abcdefgh"[: rows.shape[1]]))


@pytest.fixture
def rare():
    """500 pictures with labels of which the rarest has 10 pictures; a third of the pictures has none."""
    random = np.random.default_rng(0)
    rows = random.random((500, 5)) < [0.3, 0.2, 0.1, 0.05, 0]
    rows[:10, 4] = True
    return labelled(rows)


def test_a_cut_of_pictures_with_several_labels_takes_its_share_of_each(rare):
    kept, cut = cut_off(rare, 0.2, 0, "test")
    assert sorted([*kept, *cut]) == list(range(500))
    exact = 0.2 * rare.labels.sum(axis=0)
    assert np.abs(rare.labels[cut].sum(axis=0) - exact).max() < 1
    assert len(cut) == 100
    assert rare.labels[cut][:, 4].sum() == 2


def test_folds_of_pictures_with_several_labels_are_stratified(rare):
    made = make_folds(rare, 5, 0)
    assert sorted(np.concatenate([val for _, val in made]).tolist()) == list(range(500))
    for _, val in made:
        assert np.abs(rare.labels[val].sum(axis=0) - 0.2 * rare.labels.sum(axis=0)).max() < 1
        assert len(val) == 100


def test_groups_of_pictures_with_several_labels_stay_together(rare):
    whole = replace(rare, groups=tuple(str(i // 4) for i in range(500)))
    kept, cut = cut_off(whole, 0.2, 0, "test")
    assert not groups_in(whole, kept) & groups_in(whole, cut)
    assert np.abs(whole.labels[cut].sum(axis=0) - 0.2 * whole.labels.sum(axis=0)).max() <= 3


def test_a_label_of_a_single_picture_stays_in_training_or_is_refused(refuses):
    rows = np.zeros((20, 2), dtype=np.int64)
    rows[::2, 0] = rows[7, 1] = 1
    kept, cut = cut_off(labelled(rows), 0.2, 0, "test")
    assert 7 in kept and len(cut) == 4
    with refuses(DataError, "20 pictures do not suffice for 2 folds") as raised:
        make_folds(labelled(rows), 2, 0)
    assert "the smallest class is 'b'" in raised.value.expected


def best_parts(table, shares, have, item, left):
    """The parts where an item brings the squared distances to the shares lowest; slow and obvious."""
    totals = table.sum(axis=0)
    allowed = set()
    for column, held in enumerate(table[item]):
        without = {part for part in range(len(shares)) if have[part][column] == 0}
        if held and sum(table[other][column] > 0 for other in left) <= len(without):
            allowed |= without
    distances = {}
    for part in allowed or range(len(shares)):
        after = have.copy()
        after[part] += table[item]
        away = [(after[b] - share * totals) / np.maximum(totals, 1) for b, share in enumerate(shares)]
        each = [(row[:-1] ** 2).sum() + 1e-6 * row[-1] ** 2 for row in away]
        distances[part] = sum(np.array(each) / shares)
    return {part for part, distance in distances.items() if distance < min(distances.values()) + 1e-12}


@given(
    st.integers(1, 4).flatmap(
        lambda classes: st.lists(
            st.lists(st.integers(0, 5), min_size=classes, max_size=classes), min_size=1, max_size=15
        )
    ),
    st.sampled_from([(0.8, 0.2), (0.5, 0.5), (0.25, 0.25, 0.25, 0.25)]),
)
def test_each_item_is_dealt_to_where_it_is_missed_most(rows, shares):
    """The largest first; what is equally large is in an order that the twin takes from the seed."""
    counts = np.array(rows)
    sizes = np.maximum(counts.max(axis=1), 1)
    table = np.concatenate([counts, sizes[:, None]], axis=1)
    share = table / np.maximum(table.sum(axis=0), 1) * [*[1] * counts.shape[1], 1e-3]
    drawn = torch.randperm(len(table), generator=generator(7, "deal", len(table), len(shares))).tolist()
    order = sorted(drawn, key=lambda item: -share[item].max())
    found = deal(counts, sizes, shares, 7)
    have = np.zeros((len(shares), table.shape[1]))
    for place, item in enumerate(order):
        assert found[item] in best_parts(table, shares, have, item, order[place:])
        have[found[item]] += table[item]
