import numpy as np
import pytest

from eyebright.curation import by_recipe as module
from eyebright.curation.by_recipe import by_recipe
from eyebright.curation.curate import curate
from eyebright.data.cuts import make_folds
from eyebright.data.images import Images
from eyebright.training.recipe import load_recipe


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("lenet5-digits", ["training.epochs=2", "training.batch_size=16"])


@pytest.fixture(scope="module")
def pictures(noise):
    """Dark ones and bright ones."""
    labels = np.arange(48) % 2
    return Images(
        (noise(48, 8, 8, 1) // 3 + 150 * labels[:, None, None, None]).astype(np.uint8), labels, ("dark", "light")
    )


def test_each_picture_is_predicted_by_the_network_that_was_trained_without_it(recipe, pictures, monkeypatch):
    trained, predicted = [], []

    class Watched(module.Fit):
        def __init__(self, recipe, splits, **options):
            trained.append([pixels.tobytes() for pixels in splits.train.pixels])
            assert splits.val is None
            super().__init__(recipe, splits, **options)

    def compute_logits(classifier, held, **options):
        predicted.append([pixels.tobytes() for pixels in held.pixels])
        return real(classifier, held, **options)

    real = module.compute_logits
    monkeypatch.setattr(module, "Fit", Watched)
    monkeypatch.setattr(module, "compute_logits", compute_logits)
    ticks = []
    folds = make_folds(pictures, 2, 0)
    probabilities = by_recipe(recipe)(pictures, folds, lambda: ticks.append(1))
    assert len(trained) == len(predicted) == len(ticks) == 2
    for inside, outside in zip(trained, predicted, strict=True):
        assert not set(inside) & set(outside) and len(inside) + len(outside) == 48
    assert probabilities.shape == (48, 2) and probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == pictures.labels).mean() > 0.9


def test_the_same_seed_predicts_the_same_and_curate_takes_it(recipe, pictures):
    folds = make_folds(pictures, 2, 0)
    first, again, other = (by_recipe(recipe, seed=seed)(pictures, folds, lambda: None) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    found = curate({"train": pictures}, folds=2, predict=by_recipe(recipe))
    np.testing.assert_array_equal(found.label_errors.probabilities, first)
