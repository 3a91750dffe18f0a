import numpy as np
import pytest
import torch

from eyebright.curation.patches import (
    CONTRAST,
    PATCH,
    SIDE,
    STRIDE,
    THRESHOLD,
    Filters,
    answer,
    learn_filters,
    patch_features,
)
from eyebright.data.images import Images
from eyebright.random import generator


@pytest.fixture(scope="module")
def pixels(landscape):
    return torch.from_numpy(np.stack([landscape(SIDE, SIDE, seed=seed) for seed in range(6)]))


def images(pixels):
    return Images(pixels.numpy(), np.zeros(len(pixels), dtype=np.int64), ("all",))


def answer_one_by_one(picture, filters):
    """The slow twin of `answer`: one patch after the other of one picture, in float64."""
    mean, weight = filters.mean.double().numpy(), filters.weight.double().numpy()
    places = (SIDE - PATCH) // STRIDE + 1
    sums = np.zeros((4, 2 * weight.shape[1]))
    counts = np.zeros((4, 1))
    for row in range(places):
        for column in range(places):
            top, left = STRIDE * row, STRIDE * column
            patch = picture[top : top + PATCH, left : left + PATCH].astype(float).transpose(2, 0, 1).ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + CONTRAST)
            answers = (patch - mean) @ weight
            quarter = 2 * (row >= places // 2) + (column >= places // 2)
            counts[quarter] += 1
            sums[quarter] += np.maximum(np.concatenate([answers, -answers]) - THRESHOLD, 0)
    return (sums / counts).ravel()


def test_answers_are_means_over_the_patches_of_each_quarter(pixels):
    filters = learn_filters(pixels, 5, generator(0, "test"))
    found = answer(pixels, filters)
    assert found.shape == (6, 40)
    for picture, row in zip(pixels.numpy(), found, strict=True):
        np.testing.assert_allclose(row, answer_one_by_one(picture, filters), atol=1e-4)
    assert (found > 0).any()


def test_an_even_picture_answers_as_a_patch_of_zeros():
    even = torch.full((1, SIDE, SIDE, 3), 200, dtype=torch.uint8)
    filters = Filters(torch.zeros(3 * PATCH * PATCH), torch.randn(3 * PATCH * PATCH, 2, generator=generator(0, "test")))
    assert not answer(even, filters).any()


def test_filters_follow_from_the_seed(pixels):
    first, same, other = (learn_filters(pixels, 7, generator(seed, "test")) for seed in (1, 1, 2))
    assert torch.equal(first.weight, same.weight) and torch.equal(first.mean, same.mean)
    assert not torch.equal(first.weight, other.weight)
    assert first.weight.shape == (108, 7)


def test_features_depend_on_the_picture_alone_and_each_is_read_once(pixels):
    read = []
    features = patch_features(images(pixels), filters=6, on_read=lambda: read.append(1))
    assert features.shape == (6, 48) and features.dtype == np.float32 and len(read) == 6
    np.testing.assert_array_equal(features, patch_features(images(pixels), filters=6))
    assert not np.array_equal(features, patch_features(images(pixels), filters=6, seed=1))
    twice = patch_features(images(pixels[[0, 1, 0]]), filters=6)
    np.testing.assert_array_equal(twice[0], twice[2])


def test_more_than_a_batch_keeps_its_order(pixels):
    many = pixels[torch.arange(70) % 6]
    features = patch_features(images(many), filters=4)
    for index in range(6, 70):
        np.testing.assert_allclose(features[index], features[index % 6], atol=1e-4)


def test_brightness_hardly_matters(pixels):
    darker = (pixels // 2 + 60).to(torch.uint8)
    brighter = darker + 30
    filters = learn_filters(pixels, 9, generator(0, "test"))
    torch.testing.assert_close(answer(darker, filters), answer(brighter, filters), atol=1e-3, rtol=1e-3)
