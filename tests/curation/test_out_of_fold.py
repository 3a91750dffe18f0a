import numpy as np
import pytest
import torch
from scipy.special import softmax

from eyebright.curation import out_of_fold
from eyebright.curation.out_of_fold import PENALTIES, SHARPNESSES, predict_out_of_fold, shorten, standardise

sklearn = pytest.importorskip("sklearn.linear_model")

COUNT, CLASSES, FOLDS = 90, 3, 5


def make(features, count=COUNT, seed=0):
    """Features that tell the classes apart, with noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    centres = random.normal(size=(CLASSES, features))
    return (centres[labels] + random.normal(0, 1.5, (count, features))).astype(np.float32), labels


def folds_of(count=COUNT):
    fold = np.random.default_rng(1).permutation(count) % FOLDS
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(FOLDS)]


def scores_by_sklearn(features, labels, penalty):
    """The slow twin: ridge regression fitted anew for each fold."""
    x = (features.astype(float) - features.mean(0, dtype=float)) / features.std(0, dtype=float)
    y = np.eye(CLASSES)[labels] - 1 / CLASSES
    scores = np.empty((len(x), CLASSES))
    for trained_on, predicted in folds_of(len(x)):
        ridge = sklearn.Ridge(alpha=penalty, fit_intercept=False).fit(x[trained_on], y[trained_on])
        scores[predicted] = ridge.predict(x[predicted])
    return scores


@pytest.mark.parametrize("width", [6, 40, 200], ids=["few", "some", "more features than pictures"])
def test_predictions_are_those_of_ridge_regression_fitted_for_each_fold(width):
    features, labels = make(width)
    found = predict_out_of_fold(features, labels, folds_of(), CLASSES)
    scores = scores_by_sklearn(features, labels, found.penalty)
    np.testing.assert_allclose(found.probabilities, softmax(scores * found.sharpness, axis=1), atol=2e-3)
    assert found.accuracy == (found.probabilities.argmax(1) == labels).mean() > 0.6


def test_penalty_and_sharpness_are_those_of_least_loss():
    features, labels = make(12)
    losses = {}
    for penalty in PENALTIES:
        scores = scores_by_sklearn(features, labels, penalty)
        for sharpness in SHARPNESSES:
            own = softmax(scores * sharpness, axis=1)[np.arange(COUNT), labels]
            losses[penalty, sharpness] = -np.log(own).mean()
    found = predict_out_of_fold(features, labels, folds_of(), CLASSES)
    assert losses[found.penalty, found.sharpness] == pytest.approx(min(losses.values()), rel=1e-5)


def test_a_label_reaches_the_predictions_of_other_folds_alone(monkeypatch):
    monkeypatch.setattr(out_of_fold, "PENALTIES", (100.0,))
    monkeypatch.setattr(out_of_fold, "SHARPNESSES", (4.0,))
    features, labels = make(12)
    folds = folds_of()
    before = predict_out_of_fold(features, labels, folds, CLASSES)
    trained_on, own_fold = folds[2]
    changed = labels.copy()
    changed[own_fold[0]] = (labels[own_fold[0]] + 1) % CLASSES
    after = predict_out_of_fold(features, changed, folds, CLASSES)
    np.testing.assert_allclose(after.probabilities[own_fold], before.probabilities[own_fold], atol=1e-4)
    others = np.abs(after.probabilities - before.probabilities)[trained_on].max(axis=1)
    assert (others > 1e-4).mean() > 0.9


def test_rows_are_probabilities():
    features, labels = make(20)
    probabilities = predict_out_of_fold(features, labels, folds_of(), CLASSES).probabilities
    assert probabilities.dtype == np.float64 and (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1)


def test_features_without_any_differences_say_nothing():
    labels = np.arange(30) % CLASSES
    probabilities = predict_out_of_fold(np.ones((30, 4), np.float32), labels, folds_of(30), CLASSES).probabilities
    np.testing.assert_allclose(probabilities, 1 / CLASSES)


def test_standardised_features_have_mean_0_and_deviation_1_or_are_0():
    features, _ = make(5)
    features[:, 3] = 7
    x = standardise(features).numpy()
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0), [1, 1, 1, 0, 1], atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 30), (8, 8), (30, 8), (1, 5)])
def test_shortened_features_keep_all_inner_products(shape):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=shape))
    short = shorten(x)
    assert short.shape == (shape[0], min(shape))
    torch.testing.assert_close(short @ short.T, x @ x.T)
