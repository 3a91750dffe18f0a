import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from eyebright.curation.appearance import STATISTICS, measure_appearance
from eyebright.curation.odd_pictures import (
    DIRECTIONS,
    FARTHEST,
    NEIGHBOURS,
    find_odd_looks,
    find_outliers,
    neighbour_distances,
    robust_deviations,
)
from eyebright.curation.out_of_fold import standardise


@pytest.fixture(scope="module")
def scenes(landscape, noise):
    """Thirty pictures that are alike in all but what they show."""
    return [(0.9 * landscape(48, 64, seed) + 0.1 * noise(48, 64, 3, seed=seed)).astype(np.uint8) for seed in range(30)]


def looks(pictures):
    return np.concatenate([measure_appearance(picture[None]) for picture in pictures])


CHANGES = {
    "too dark": lambda picture: picture // 12,
    "too bright": lambda picture: 235 + picture // 13,
    "hardly any contrast": lambda picture: (120 + picture // 30).astype(np.uint8),
    "blurred": lambda picture: gaussian_filter(picture, (3, 3, 0)),
    "noisy": lambda picture: (
        (picture + np.random.default_rng(1).normal(0, 60, picture.shape)).clip(0, 255).astype("u1")
    ),
    "small": lambda picture: picture[::4, ::4],
    "large": lambda picture: picture.repeat(3, 0).repeat(3, 1),
    "tall and narrow": lambda picture: picture[:, :16],
    "wide and low": lambda picture: picture[:12],
}


@pytest.mark.parametrize("words", CHANGES)
def test_an_odd_picture_is_found_and_named(words, scenes):
    pictures = [*scenes[:7], CHANGES[words](scenes[7]), *scenes[8:]]
    found = find_odd_looks(looks(pictures))
    assert {oddity.index for oddity in found} == {7}
    assert words in [oddity.what for oddity in found]
    deviations = [oddity.deviation for oddity in found]
    assert deviations == sorted(deviations, reverse=True) and deviations[-1] > FARTHEST


def test_a_black_picture_is_too_dark_and_of_hardly_any_contrast(scenes):
    words = [oddity.what for oddity in find_odd_looks(looks([*scenes, np.zeros_like(scenes[0])]))]
    assert {"too dark", "hardly any contrast"} <= set(words) and "blurred" not in words


def test_pictures_that_are_alike_are_not_odd(scenes):
    assert find_odd_looks(looks(scenes)) == []


def test_of_pictures_of_one_kind_a_step_of_grey_is_not_odd():
    same = np.full((12, 16, 16, 3), 90, dtype=np.uint8)
    same[4] += 1
    assert find_odd_looks(looks(same)) == []


def distances_one_by_one(features):
    """The slow twin: along the principal directions of an SVD, sorted, in float64."""
    x = standardise(features).double().numpy()
    _, _, directions = np.linalg.svd(x, full_matrices=False)
    x = x @ directions[:DIRECTIONS].T
    found = []
    for index, row in enumerate(x):
        apart = sorted(np.linalg.norm(row - other) for place, other in enumerate(x) if place != index)
        found.append(np.mean(apart[:NEIGHBOURS]))
    return found


@pytest.mark.parametrize("shape", [(60, 5), (50, 120), (90, 80), (4, 3)])
def test_distances_are_those_of_brute_force(shape, monkeypatch):
    monkeypatch.setattr("eyebright.curation.odd_pictures.BLOCK", 32)
    features = (np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1)).astype(np.float32)
    features[:, 0] = features[:, 1] + 0.1 * features[:, 0]
    np.testing.assert_allclose(neighbour_distances(features), distances_one_by_one(features), rtol=2e-2)


def test_a_picture_alone_has_no_distance():
    assert neighbour_distances(np.ones((1, 3), np.float32)).tolist() == [0]
    assert find_outliers(np.ones((1, 3), np.float32)) == []


def test_a_planted_outlier_is_found_and_comes_first():
    features = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    features[11] += 40
    features[70] -= 15
    found = find_outliers(features)
    assert [oddity.index for oddity in found] == [11, 70]
    assert {oddity.what for oddity in found} == {"unlike all others"} and found[0].deviation > found[1].deviation


def test_alike_features_have_no_outliers():
    assert find_outliers(np.random.default_rng(1).normal(size=(200, 8)).astype(np.float32)) == []


def test_where_most_pictures_are_the_same_the_others_are_a_finite_way_off():
    features = np.zeros((40, 5), np.float32)
    features[7] = 3, 1, 4, 1, 5
    (found,) = find_outliers(features)
    assert found.index == 7 and np.isfinite(found.deviation)
    assert find_outliers(np.zeros((40, 5), np.float32)) == []


def test_deviations_are_standard_deviations_that_outliers_do_not_move():
    values = np.random.default_rng(0).normal(50, 4, 10_001)
    values[:100] = 1e6
    deviations = robust_deviations(values, 0)
    assert deviations[100:].std() == pytest.approx(1, rel=0.05)
    assert np.median(deviations) == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(robust_deviations(np.array([5, 5, 5, 5, 6.0]), 0.5), [0, 0, 0, 0, 2])


def test_every_statistic_that_is_looked_at_exists():
    from eyebright.curation.odd_pictures import LOOKED_AT

    assert LOOKED_AT.keys() <= {statistic.name for statistic in STATISTICS}


@pytest.mark.parametrize(("value", "words"), [(0, "too dark"), (255, "too bright"), (128, "hardly any contrast")])
def test_an_empty_picture_is_odd_among_pictures_that_vary_much(value, words, landscape):
    random = np.random.default_rng(0)
    pictures = [
        ((landscape(48, 64, seed) - 128.0) * random.uniform(0.6, 2) + random.uniform(60, 190)).clip(0, 255).astype("u1")
        for seed in range(30)
    ]
    found = find_odd_looks(looks([*pictures, np.full_like(pictures[0], value)]))
    assert words in [oddity.what for oddity in found] and {oddity.index for oddity in found} == {30}
