import json

import numpy as np
import pytest

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits
from eyebright.evaluation.multi_label import MultiLabelEvaluation, evaluate_any
from eyebright.inspection.labels import MOST_CURVES, draw_precision_recall, show_labels
from eyebright.inspection.overview import look_at
from eyebright.inspection.overview_figure import draw_overview
from eyebright.inspection.pictures import draw_answers
from eyebright.models.create import create_model

CLASSES = ("cat", "dog", "frog")


@pytest.fixture
def pictures(noise):
    return Images(noise(12, 32, 32, 1), np.random.default_rng(0).integers(0, 2, (12, 3)), CLASSES)


def test_answers_name_all_labels_and_their_least_sure(pictures):
    model = create_model("lenet5", num_classes=3, seed=0)
    classifier = Classifier(model, CLASSES, Prepare(channels=1), {"multi_label": True})
    evaluation = evaluate_any(classifier, pictures)
    answers = show_labels(classifier, pictures, evaluation, np.array([3, 5]))
    for answer, index in zip(answers, (3, 5), strict=True):
        assert np.array_equal(answer.pixels, pictures.pixels[index]) and answer.name == f"picture {index}"
        true = [name for name, there in zip(CLASSES, pictures.labels[index], strict=True) if there]
        assert answer.true == (", ".join(true) or "none")
        assert answer.right == bool(evaluation.right[index])
        shares = evaluation.probabilities[index]
        assert answer.probability == pytest.approx(min(max(share, 1 - share) for share in shares))
        truth = [share if there else 1 - share for share, there in zip(shares, pictures.labels[index], strict=True)]
        assert answer.probability_of_true == pytest.approx(min(truth))
    assert len(draw_answers(answers).axes[0].images) == 2


def test_curves_are_of_the_most_frequent_labels_and_end_at_full_recall():
    random = np.random.default_rng(0)
    labels = (random.random((100, 14)) < np.linspace(0.1, 0.9, 14)).astype(np.int64)
    labels[:, 13] = 0
    names = tuple(f"label {k}" for k in range(14))
    evaluation = MultiLabelEvaluation(random.normal(size=(100, 14)).astype(np.float32), labels, names)
    axes = draw_precision_recall(evaluation).axes[0]
    shown = [line.get_label().rpartition(" ")[0] for line in axes.lines]
    assert shown == [f"label {k}" for k in np.argsort(-labels.sum(axis=0), kind="stable")[:MOST_CURVES]]
    assert all(line.get_xdata().max() == 1 for line in axes.lines)
    few = MultiLabelEvaluation(evaluation.logits[:, 12:], labels[:, 12:], names[12:])
    assert len(draw_precision_recall(few).axes[0].lines) == 1


def test_an_overview_counts_a_picture_for_each_of_its_labels(pictures):
    splits = Splits(pictures, None, pictures.select(range(6)), "pets")
    overview = look_at(splits)
    counts = {row.name: row.counts["train"] for row in overview.classes}
    assert counts == dict(zip(CLASSES, pictures.labels.sum(axis=0).tolist(), strict=True))
    texts = " ".join(text.get_text() for axes in draw_overview(overview, splits).axes for text in axes.texts)
    assert all(f"{count:,}" in texts for count in counts.values())
    assert json.dumps(overview.as_dict(), allow_nan=False)
