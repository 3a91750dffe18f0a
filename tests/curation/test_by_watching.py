from functools import partial

import numpy as np
import pytest

from eyebright.curation import by_watching as module
from eyebright.curation import curate as curating
from eyebright.curation.by_watching import by_watching, epochs_for, recipe_for
from eyebright.curation.curate import curate
from eyebright.curation.label_errors import find_label_errors
from eyebright.curation.patches import patch_features
from eyebright.data.images import Images


@pytest.fixture(scope="module")
def planted(noise):
    """Pictures of five colours, with much noise; of 1,200 labels 60 are wrong."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 5, 1200)
    colours = 90 + 90 * np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])[:, None, None]
    pixels = (colours[truth] + noise(1200, 10, 10, 3).astype(int) // 2 - 64).clip(0, 255).astype(np.uint8)
    wrong = np.zeros(1200, dtype=bool)
    wrong[random.permutation(1200)[:60]] = True
    labels = np.where(wrong, (truth + 1) % 5, truth)
    return Images(pixels, labels, tuple("abcde")), wrong, truth


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(module, "WIDTHS", (8, 16, 256))
    monkeypatch.setattr(module, "SIDE", 10)
    monkeypatch.setattr(module, "MOST_EPOCHS", 10)


def test_wrong_labels_are_learnt_last(planted):
    pictures, wrong, truth = planted
    ticks = []
    probabilities = by_watching(seed=1)(pictures, [], lambda: ticks.append(1))
    assert len(ticks) == epochs_for(1200) == 10
    assert probabilities.shape == (1200, 5) and probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1)
    found = find_label_errors(probabilities, pictures.labels)
    assert wrong[found.order[:60]].mean() > 0.9
    assert len(found.suspects) > 20 and wrong[found.suspects].mean() > 0.9
    np.testing.assert_array_equal(found.suggested[found.order[:40]], truth[found.order[:40]])


def test_few_pictures_are_seen_more_often():
    assert [epochs_for(count) for count in (1000, 4000, 8000, 25_000, 1_000_000)] == [10, 10, 10, 8, 8]
    few, many = recipe_for(4000), recipe_for(40_000)
    assert (few.training.batch_size, many.training.batch_size) == (250, 500)
    assert many.training.head_learning_rate == 2 * few.training.head_learning_rate == 335
    assert many.model.options["widths"] == [8, 16, 256] and many.prepare.resize == (10, 10)


@pytest.mark.parametrize("enough", [1200, 1201])
def test_a_network_is_watched_where_there_are_enough_pictures(planted, monkeypatch, enough):
    monkeypatch.setattr(curating, "ENOUGH", enough)
    monkeypatch.setattr(curating, "patch_features", partial(patch_features, filters=24))
    begun = []
    pictures, wrong, _ = planted
    found = curate({"train": pictures}, begin=lambda what, total: begun.append((what, total)) or (lambda: None))
    assert (("watching a network learn", 10) in begun) is (enough == 1200)
    assert (("predicting each picture without its label", 0) in begun) is (enough == 1201)
    assert wrong[found.label_errors.order[:40]].all()
