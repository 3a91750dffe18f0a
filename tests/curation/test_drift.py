import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from eyebright.curation.appearance import STATISTICS
from eyebright.curation.differences import Difference
from eyebright.curation.drift import FEWEST, find_drift
from eyebright.curation.drift_figure import draw_drift
from eyebright.data.images import ImageFiles, Images
from eyebright.data.sources import load_parts
from eyebright.errors import DataError
from eyebright.inspection.style import encode


def scenes(count, seed, change=lambda pixels: pixels, side=24):
    """Random smooth scenes with hard edges and some noise; their labels are random too."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.normal(size=(count, side, side, 3)), (0, 4, 4, 0))
    pixels = 120 + 30 * random.normal(size=(count, 1, 1, 3)) + 400 * smooth
    for picture in pixels:
        top, left = random.integers(2, side // 2, 2)
        picture[top : top + 9, left : left + 7] += random.normal(0, 50)
    pixels = pixels + random.normal(0, 2, pixels.shape)
    return Images(clipped(change(pixels)), random.integers(0, 2, count), ("ants", "bees"))


def clipped(values):
    return np.rint(values).clip(0, 255).astype(np.uint8)


def noisy(pixels):
    return pixels + np.random.default_rng(9).normal(0, 6, pixels.shape)


CHANGES = {
    "brighter": lambda pixels: pixels + 40,
    "darker": lambda pixels: pixels - 40,
    "lower in contrast": lambda pixels: (pixels - 120) * 0.4 + 120,
    "blurrier": lambda pixels: gaussian_filter(pixels, (0, 1, 1, 0)),
    "noisier": noisy,
    "redder": lambda pixels: pixels + np.array([25, -25, 0]),
    "paler": lambda pixels: pixels.mean(3, keepdims=True) + 0.4 * (pixels - pixels.mean(3, keepdims=True)),
}


@pytest.fixture(scope="module")
def before():
    return scenes(150, 0)


@pytest.fixture(scope="module")
def unchanged(before):
    return find_drift(before, scenes(150, 1))


@pytest.fixture(scope="module", params=CHANGES)
def changed(request, before):
    """What differs, and what was found."""
    return request.param, find_drift(before, scenes(150, 1, CHANGES[request.param]))


def test_sets_of_one_source_are_the_same(unchanged):
    assert unchanged.same and unchanged.p_value > 0.01 and unchanged.found == ()
    assert unchanged.auc_interval[0] < 0.55 and unchanged.labels.same
    assert unchanged.verdict.startswith("No difference found")
    assert all(difference.p_value > 0.01 for difference in unchanged.differences)


def test_a_change_is_found_and_named(changed):
    words, drift = changed
    assert not drift.same and drift.p_value == pytest.approx(0.001)
    assert words in [difference.words for difference in drift.found[:3]], str(drift)
    assert drift.auc_interval[0] > 0.55 and drift.auc_interval[0] < drift.auc < drift.auc_interval[1] + 1e-9
    assert words in str(drift) and drift.verdict.startswith("The second set looks different")


def test_found_differences_come_first_and_larger_ones_before(changed):
    _, drift = changed
    order = [(difference.p_value > 0.01, -difference.size) for difference in drift.differences]
    assert order == sorted(order)
    names = [difference.statistic.name for difference in drift.differences]
    assert not {"picture size", "aspect"} & set(names)  # they never vary here


def test_false_alarms_are_as_rare_as_said(before):
    """At 5 %, of 40 comparisons 2 are expected, and more than 7 once in a thousand times."""
    alarms = [find_drift(scenes(30, 100 + i), scenes(25, 500 + i)).p_value <= 0.05 for i in range(40)]
    assert sum(alarms) <= 7


def test_the_same_seed_gives_the_same_and_another_counts_other_deals(before):
    after = scenes(40, 1, lambda pixels: pixels + 8)
    one, again, other = (find_drift(before, after, seed=seed) for seed in (0, 0, 1))
    assert json.dumps(one.as_dict()) == json.dumps(again.as_dict())
    assert np.array_equal(one.statistic, again.statistic) and not np.array_equal(one.statistic, other.statistic)
    assert abs(one.p_value - other.p_value) < 0.1


def test_all_figures_are_plain_values(changed, unchanged):
    for drift in (changed[1], unchanged):
        figures = json.loads(json.dumps(drift.as_dict(), allow_nan=False))
        assert figures["same"] is drift.same and figures["counts"] == [150, 150]
        assert figures["differences"][0]["words"] == drift.differences[0].words
        assert sum(figures["labels"]["first"]) == pytest.approx(1)


def test_other_sizes_shapes_and_grey_pictures_are_named(before, tmp_path, encode):
    paths = []
    for i, picture in enumerate(scenes(40, 1, side=32).pixels):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(encode(picture[: 16 + i % 3, :, :1] if i % 2 else picture[: 16 + i % 3]))
    drift = find_drift(before, ImageFiles(tuple(paths), np.zeros(40, np.int64), ("ants",)))
    assert not drift.same
    assert {"wider", "more often grey"} <= {difference.words for difference in drift.found}


def test_pictures_of_all_sizes_on_disk(shared_file, own_cache):
    parts = load_parts(shared_file("hymenoptera.zip"))
    read = []
    few = [parts[name].select(np.arange(0, len(parts[name]), 6)) for name in ("train", "val")]
    drift = find_drift(*few, on_read=lambda: read.append(1))
    assert drift.p_value > 0.01 and len(read) == sum(map(len, few))


def test_a_spread_that_differs_is_called_so(before):
    def some_up_some_down(pixels):
        pixels = pixels.copy()
        pixels[::2] += 50
        pixels[1::2] -= 50
        return pixels

    drift = find_drift(before, scenes(150, 1, some_up_some_down))
    assert "more varied in brightness" in [difference.words for difference in drift.found]
    widened = next(one for one in drift.found if one.statistic.name == "brightness")
    assert widened.widening > abs(widened.shift) and "by a factor of" in str(widened)


def test_a_share_is_never_called_varied():
    share = next(one for one in STATISTICS if one.name == "pure black")
    difference = Difference(share, np.zeros(50), np.arange(50) / 100, 0.001)
    assert difference.widening == 0 and difference.words == "with more pure black"


def test_shift_is_in_standard_deviations_and_finite_where_nothing_varies():
    brightness = STATISTICS[0]
    random = np.random.default_rng(0)
    shifted = Difference(brightness, random.normal(100, 20, 5000), random.normal(110, 20, 5000), 0.001)
    assert shifted.shift == pytest.approx(0.5, abs=0.07)
    assert Difference(brightness, np.full(9, 100.0), np.full(9, 103.0), 0.001).shift == pytest.approx(3)


def test_fewer_pictures_of_a_class_are_a_thing_of_their_own(before):
    after = scenes(300, 1)
    fewer = after.select(np.flatnonzero((after.labels == 1) | (np.arange(300) % 8 == 0)))
    drift = find_drift(before, fewer)
    assert drift.same and not drift.labels.same
    assert drift.labels.second[0] == pytest.approx((fewer.labels == 0).mean())
    assert drift.labels.distance == pytest.approx(drift.labels.first[0] - drift.labels.second[0])
    assert str(drift.labels).startswith("The classes have other shares (p = 0.001): ")
    assert str(drift.labels) in str(drift)


def test_classes_are_matched_by_name(before):
    turned = Images(scenes(150, 1).pixels, 1 - scenes(150, 1).labels, ("bees", "ants"))
    plain = find_drift(before, scenes(150, 1)).labels
    labels = find_drift(before, turned).labels
    assert labels.classes == ("ants", "bees")
    assert labels.second.tolist() == plain.second.tolist() and labels.p_value == plain.p_value


def test_a_new_class_is_counted(before):
    after = scenes(60, 1)
    after = Images(after.pixels, np.where(np.arange(60) < 30, 1, 0), ("wasps", "ants"))
    labels = find_drift(before, after).labels
    assert labels.classes == ("ants", "bees", "wasps") and labels.first[2] == 0 and labels.second[2] == 0.5
    assert not labels.same


def test_without_classes_there_are_no_shares():
    one, other = (Images(scenes(FEWEST, i).pixels, np.zeros(FEWEST, np.int64), ("all",)) for i in range(2))
    assert find_drift(one, other).labels is None


def test_the_pictures_least_like_the_first_are_pointed_out(before):
    after = scenes(100, 1)
    odd = after.pixels.copy()
    odd[[17, 60]] = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3))
    drift = find_drift(before, Images(odd, after.labels, after.classes))
    assert set(drift.unlike[:2]) == {17, 60} and sorted(drift.unlike) == list(range(100))
    assert drift.distances[1] > 1.2 * drift.distances[2] and (np.diff(drift.distances) <= 0).all()


def test_of_large_sets_a_random_sample_is_looked_at(before, monkeypatch):
    monkeypatch.setattr("eyebright.curation.drift.MOST", 50)
    read = []
    after = scenes(30, 1)
    drift = find_drift(before, after, on_read=lambda: read.append(1))
    assert len(read) == 80 and len(set(drift.first_indices)) == 50 and sorted(drift.second_indices) == list(range(30))
    assert max(drift.first_indices) > 100 and drift.as_dict()["counts"] == [50, 30]
    assert drift.labels.first[1] == pytest.approx(before.labels.mean())  # shares are of all


def test_given_features_find_what_pictures_hide(before, monkeypatch):
    after, random = scenes(150, 1), np.random.default_rng(0)
    first, second = random.normal(size=(150, 12)), random.normal(size=(150, 12))
    assert find_drift(before, after, features=(first, second)).same
    second[:, 3] += 1
    drift = find_drift(before, after, features=(first.astype(np.float32), second))
    assert not drift.same and drift.found == () and "in nothing that has a name here" in drift.verdict
    monkeypatch.setattr("eyebright.curation.drift.MOST_FEATURES", 8)  # random projections keep it
    second[:, :6] += 1
    assert not find_drift(before, after, features=(first, second)).same


def test_features_keep_to_their_pictures_in_a_sample(monkeypatch):
    monkeypatch.setattr("eyebright.curation.drift.MOST", 60)
    one, other = scenes(90, 0), scenes(90, 1)
    values = np.arange(90.0)[:, None]
    drift = find_drift(one, other, features=(values, np.where(values == 44, 1e6, values)))
    if 44 in drift.second_indices:
        assert drift.unlike[0] == 44
    assert drift.p_value > 0.01


@pytest.mark.parametrize("position", ["first", "second"])
def test_too_few_pictures(before, refuses, position):
    few = before.select(np.arange(FEWEST - 1))
    pair = (few, before) if position == "first" else (before, few)
    with refuses(DataError, rf"the {position} set of pictures has 19\n.*at least 20"):
        find_drift(*pair)


@pytest.mark.parametrize(
    "features",
    [
        (np.zeros((150, 3)), np.zeros((149, 3))),
        (np.zeros((150, 3)), np.zeros((150, 4))),
        (np.zeros(150), np.zeros(150)),
        (np.zeros((150, 3)), np.full((150, 3), np.nan)),
    ],
)
def test_features_that_do_not_fit(before, refuses, features):
    with refuses(DataError, "features of shapes .* for 150 and 150 pictures"):
        find_drift(before, before, features=features)


def test_twenty_of_each_are_enough_for_a_large_change():
    drift = find_drift(scenes(FEWEST, 0), scenes(FEWEST, 1, noisy))
    assert not drift.same and "noisier" in [difference.words for difference in drift.found]


def test_pictures_that_are_all_the_same():
    white = Images(np.full((30, 8, 8, 1), 255, np.uint8), np.zeros(30, np.int64), ("a",))
    drift = find_drift(white, white)
    assert drift.p_value == 1.0 and drift.auc == 0.5 and drift.differences == ()
    assert draw_drift(drift, white, white)


@pytest.mark.parametrize("change", ["noisier", None])
def test_the_figure_says_the_verdict(before, unchanged, change):
    after = scenes(150, 1, CHANGES.get(change, lambda pixels: pixels))
    drift = find_drift(before, after) if change else unchanged
    figure = draw_drift(drift, before, after)
    assert figure.get_suptitle().replace("\n", " ") == drift.verdict
    above, below = figure.subfigs
    words, found = above.axes[1].get_title(loc="left").split("\n")
    assert words == (drift.found[0].words if change else drift.differences[0].statistic.name)
    assert found.startswith("p = 0.001" if change else "no difference found, p = ")
    oddest = below.axes[24].images[0].get_array()
    assert np.array_equal(oddest, after.read(int(drift.unlike[0])))
    assert encode(figure, "png").startswith(b"\x89PNG")


def test_several_labels_of_a_picture_are_not_compared(before):
    several = Images(before.pixels[:40], np.eye(2, dtype=np.int64)[before.labels[:40]], before.classes)
    assert find_drift(several, several).labels is None
    assert find_drift(several, before.select(range(60))).labels is None
