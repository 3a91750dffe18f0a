import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.errors import DataError, DataWarning
from eyebright.evaluation.evaluate import Evaluation, compute_logits, evaluate
from eyebright.evaluation.multi_label import MultiLabelEvaluation, evaluate_any, evaluate_multi_label
from eyebright.evaluation.views import VIEWS
from eyebright.models.create import create_model

CLASSES = ("cat", "dog", "frog", "ship")


@pytest.fixture
def evaluation():
    random = np.random.default_rng(0)
    labels = (random.random((200, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(np.int64)
    logits = (random.normal(size=(200, 4)) * 2 + 2 * labels - 1).astype(np.float32)
    return MultiLabelEvaluation(logits, labels, CLASSES)


@pytest.fixture
def classifier():
    model = create_model("lenet5", num_classes=4, seed=0)
    return Classifier(model, CLASSES, Prepare(channels=1), {"multi_label": True})


@pytest.fixture
def pictures(noise):
    labels = np.random.default_rng(1).integers(0, 2, (37, 4))
    return Images(noise(37, 32, 32, 1), labels, CLASSES)


def average_precision_twin(truth, given):
    """The mean over the pictures that have the label of the precision among those given at least as much."""
    return np.mean([truth[given >= given[i]].mean() for i in np.flatnonzero(truth)])


def test_figures_agree_with_slow_counting(evaluation):
    yes, truth = evaluation.logits >= 0, evaluation.labels == 1
    assert evaluation.accuracy == pytest.approx(sum((a == b).all() for a, b in zip(yes, truth, strict=True)) / 200)
    assert evaluation.hamming_loss == pytest.approx((yes != truth).sum() / 800)
    low, high = evaluation.accuracy_interval
    assert 0 < low < evaluation.accuracy < high < 1
    share = 1 / (1 + np.exp(-evaluation.logits.astype(np.float64)))
    assert evaluation.loss == pytest.approx(-np.log(np.where(truth, share, 1 - share)).mean())
    precisions, recalls, f1s, ranked, areas = [], [], [], [], []
    for k, row in enumerate(evaluation.per_class):
        right = (yes[:, k] & truth[:, k]).sum()
        precisions.append(right / yes[:, k].sum())
        recalls.append(right / truth[:, k].sum())
        f1s.append(2 * right / (yes[:, k].sum() + truth[:, k].sum()))
        ranked.append(average_precision_twin(truth[:, k], evaluation.logits[:, k]))
        have, lack = evaluation.logits[truth[:, k], k], evaluation.logits[~truth[:, k], k]
        areas.append((have[:, None] > lack[None]).mean())
        assert (row.name, row.count) == (CLASSES[k], truth[:, k].sum())
        found = (row.precision, row.recall, row.f1, row.average_precision, row.roc_auc)
        assert found == pytest.approx((precisions[k], recalls[k], f1s[k], ranked[k], areas[k]))
    macro, micro = evaluation.macro, evaluation.micro
    assert (macro.precision, macro.recall, macro.f1) == pytest.approx(tuple(map(np.mean, (precisions, recalls, f1s))))
    right = (yes & truth).sum()
    expected = (right / yes.sum(), right / truth.sum(), 2 * right / (yes.sum() + truth.sum()))
    assert (micro.precision, micro.recall, micro.f1) == pytest.approx(expected)
    assert evaluation.mean_average_precision == pytest.approx(np.mean(ranked))
    assert evaluation.mean_roc_auc == pytest.approx(np.mean(areas))


def test_the_worst_are_those_whose_truth_was_least_probable(evaluation):
    given = np.where(evaluation.labels == 1, evaluation.probabilities, 1 - evaluation.probabilities).min(axis=1)
    worst = evaluation.worst(10)
    assert not evaluation.right[worst].any()
    assert given[worst].tolist() == sorted(given[~evaluation.right])[:10]


def test_a_label_that_all_or_none_have_has_no_ranking(evaluation):
    labels = evaluation.labels.copy()
    labels[:, 0], labels[:, 3] = 1, 0
    first, *_, last = replace(evaluation, labels=labels).per_class
    assert (first.average_precision, first.roc_auc) == (1.0, None)
    assert (last.average_precision, last.roc_auc, last.recall, last.f1) == (None, None, 0, 0)
    told = replace(evaluation, labels=np.zeros_like(labels))
    assert told.mean_average_precision is None and told.mean_roc_auc is None
    assert str(told).startswith("micro F1")
    json.dumps(told.as_dict(), allow_nan=False)


def test_plain_values_hold_every_figure(evaluation):
    told = evaluation.as_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["exact_match"] == evaluation.accuracy and told["classes"] == list(CLASSES)
    assert told["per_class"]["frog"]["count"] == evaluation.per_class[2].count
    assert f"mean average precision {evaluation.mean_average_precision:.2%}" in str(evaluation)


def test_a_classifier_is_asked_and_labels_are_matched_by_name(classifier, pictures):
    straight = evaluate_any(classifier, pictures)
    assert isinstance(straight, MultiLabelEvaluation)
    assert np.array_equal(straight.logits, compute_logits(classifier, pictures))
    turned = replace(pictures, labels=pictures.labels[:, ::-1].copy(), classes=CLASSES[::-1])
    assert np.array_equal(evaluate_multi_label(classifier, turned).labels, pictures.labels)
    fewer = replace(pictures, labels=pictures.labels[:, 1:].copy(), classes=CLASSES[1:])
    with pytest.warns(DataWarning, match="no pictures of cat"):
        found = evaluate_multi_label(classifier, fewer)
    assert np.array_equal(found.labels[:, 1:], pictures.labels[:, 1:]) and not found.labels[:, 0].any()


def test_views_average_what_the_sigmoids_say(classifier, pictures):
    centre = evaluate_any(classifier, pictures)
    dense = evaluate_any(classifier, pictures, views=VIEWS["dense"])
    assert dense.probabilities == pytest.approx(centre.probabilities, abs=1e-5)
    sure = replace(classifier, model=create_model("lenet5", num_classes=4, seed=0))
    with torch.no_grad():
        sure.model.head.bias += torch.tensor([500.0, -500.0, 0, 0])
    assert np.isfinite(evaluate_any(sure, pictures, views=VIEWS["dense"]).loss)


def test_unknown_labels_are_refused(classifier, pictures, refuses):
    other = replace(pictures, classes=("cat", "dog", "frog", "truck"))
    with refuses(DataError, "the data has the classes truck, which the classifier does not know"):
        evaluate_any(classifier, other)


def test_one_label_and_several_are_not_mixed(classifier, pictures, refuses):
    single = replace(pictures, labels=np.arange(37) % 4)
    with refuses(DataError, "pictures with one label each for a classifier of several"):
        evaluate_any(classifier, single)
    with refuses(DataError, "a classifier of several labels for pictures with several labels"):
        evaluate(classifier, pictures)
    one = replace(classifier, facts={})
    with refuses(DataError, "a classifier of one label for pictures with several labels"):
        evaluate_any(one, pictures)
    assert isinstance(evaluate_any(one, single), Evaluation)
