"""Each statistic answers to what it is named after."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from eyebright.curation.appearance import STATISTICS, measure_appearance
from eyebright.curation.descriptors import answer_filters, describe_pictures, measure_frequencies
from eyebright.data.images import Images

NAMES = [statistic.name for statistic in STATISTICS]


def appearance(picture):
    return dict(zip(NAMES, measure_appearance(picture[None])[0].tolist(), strict=True))


def clipped(values):
    return np.rint(values).clip(0, 255).astype(np.uint8)


@pytest.fixture
def photograph(landscape, noise):
    """Smooth, with texture and hard edges."""
    picture = landscape(48, 48).astype(float) + (noise(48, 48, 3) - 128.0) / 40
    picture[10:30, 12:20] += 60
    return clipped(picture)


def test_a_plain_grey_picture():
    found = appearance(np.full((20, 40, 3), 100, np.uint8))
    assert found["brightness"] == pytest.approx(100, abs=0.01)
    assert found["contrast"] == pytest.approx(0, abs=0.01) and found["saturation"] == 0
    assert found["picture size"] == pytest.approx(np.log2(800) / 2) and found["aspect"] == 1
    assert found["grey pictures"] == 1 and found["pure black"] == found["pure white"] == 0


@pytest.mark.parametrize(
    ("change", "name", "sign"),
    [
        (lambda p: p + 20, "brightness", 1),
        (lambda p: (p - 128) * 0.6 + 128, "contrast", -1),
        (lambda p: gaussian_filter(p, (1, 1, 0)), "sharpness", -1),
        (lambda p: p + np.random.default_rng(0).normal(0, 5, p.shape), "noise", 1),
        (lambda p: p * [1.2, 1, 1], "red against green", 1),
        (lambda p: p * [1, 1, 0.8], "blue against yellow", -1),
        (lambda p: p.mean(2, keepdims=True) + 0.3 * (p - p.mean(2, keepdims=True)), "saturation", -1),
        (lambda p: np.where(p < 120, 0, p), "pure black", 1),
        (lambda p: np.where(p > 140, 255, p), "pure white", 1),
        (lambda p: gaussian_filter(p, (2, 0, 0)), "line direction", 1),
        (lambda p: p + np.linspace(30, 0, 48)[:, None, None], "top against bottom", 1),
        (lambda p: p + 30 * np.hanning(48)[:, None, None] * np.hanning(48)[None, :, None], "middle against edge", 1),
        (lambda p: p.reshape(6, 8, 6, 8, 3).mean((1, 3), keepdims=True).repeat(8, 1).repeat(8, 3).reshape(48, 48, 3),
         "JPEG blocks", 1),
        (lambda p: p[:24, :24], "picture size", -1),
        (lambda p: p[:24], "aspect", 1),
        (lambda p: p.mean(2, keepdims=True), "grey pictures", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_statistic_follows_its_change(photograph, change, name, sign):
    before, after = appearance(photograph), appearance(clipped(change(photograph.astype(float))))
    resolution = STATISTICS[NAMES.index(name)].resolution
    assert sign * (after[name] - before[name]) > 2 * resolution


def test_blur_is_told_from_noise(photograph):
    noisy = clipped(photograph + np.random.default_rng(0).normal(0, 4, photograph.shape))
    before, after = appearance(photograph), appearance(noisy)
    assert after["noise"] - before["noise"] > 4 * abs(after["sharpness"] - before["sharpness"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (2, 2, 3), (9, 1, 1), (3, 700, 3), (600, 500, 1)])
def test_pictures_of_any_size_have_finite_numbers(noise, shape):
    pixels = noise(2, *shape)
    for values in (measure_appearance(pixels), measure_frequencies(pixels)):
        assert len(values) == 2 and np.isfinite(values).all()


def test_a_grey_picture_and_its_colour_copy_look_the_same(noise):
    grey = noise(1, 20, 20, 1)
    assert np.array_equal(measure_appearance(grey), measure_appearance(grey.repeat(3, axis=3)))
    assert np.array_equal(measure_frequencies(grey), measure_frequencies(grey.repeat(3, axis=3)))


def test_a_cosine_is_found_at_its_frequency():
    wave = np.cos(np.pi * (np.arange(8) + 0.5) * 3 / 8)  # the third level frequency of a block
    picture = np.tile(clipped(128 + 100 * wave), (16, 2))[None, :, :, None]
    assert measure_frequencies(picture)[0].argmax() == 2


def test_filters_answer_to_detail_and_not_to_a_plain_surface(noise):
    answers = answer_filters(np.stack([np.full((32, 32, 3), 77, np.uint8), noise(32, 32, 3)]))
    assert answers.shape == (2, 192)
    assert np.abs(answers[0]).max() < 1e-4 < answers[1].max()


def test_each_picture_is_described_on_its_own(noise, monkeypatch):
    """Sizes mixed, few at a time, in an order: the same as one by one."""
    shapes = [(20, 30, 3), (16, 16, 1), (20, 30, 3), (16, 16, 3), (20, 30, 3), (40, 9, 1)]
    pictures = [noise(*shape, seed=i) for i, shape in enumerate(shapes)]

    class Mixed:
        def read(self, index, at_least=None):
            return pictures[index]

    monkeypatch.setattr("eyebright.curation.descriptors.AT_ONCE", 4)
    order, read = np.array([5, 0, 3, 2, 1, 4]), []
    found = describe_pictures(Mixed(), order, lambda: read.append(1))
    assert len(read) == 6
    for row, index in enumerate(order):
        picture = pictures[index]
        alone = describe_pictures(Images(picture[None], np.zeros(1, np.int64), ("a",)), np.array([0]))
        for together, one in zip(found, alone, strict=True):
            assert np.allclose(together[row], one[0], atol=2e-4)
        assert np.allclose(found[0][row], measure_appearance(picture[None])[0], atol=1e-3)


def test_large_pictures_are_kept_one_at_a_time(noise, monkeypatch):
    monkeypatch.setattr("eyebright.curation.descriptors.PIXELS_AT_ONCE", 100)
    images = Images(noise(5, 20, 20, 3), np.zeros(5, np.int64), ("a",))
    little = describe_pictures(images, np.arange(5))
    monkeypatch.undo()
    for one, other in zip(little, describe_pictures(images, np.arange(5)), strict=True):
        assert np.allclose(one, other, atol=2e-4)
