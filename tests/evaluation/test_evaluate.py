import numpy as np
import pytest
import torch

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.errors import DataError, DataWarning
from eyebright.evaluation.evaluate import Evaluation, compute_logits, evaluate, match_labels
from eyebright.models.create import create_model

CLASSES = ("cat", "dog", "frog", "ship", "truck", "deer", "horse")


@pytest.fixture
def evaluation():
    random = np.random.default_rng(0)
    logits = random.normal(size=(200, 7)).astype(np.float32) * 2
    labels = random.integers(0, 7, 200)
    logits[np.arange(200), labels] += 1.5
    return Evaluation(logits, labels, CLASSES)


def pictures(count=37, classes=("a", "b", "c"), seed=0):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 32, 32, 1), dtype=np.uint8)
    return Images(pixels, random.integers(0, len(classes), count), classes)


@pytest.fixture
def classifier():
    return Classifier(create_model("lenet5", num_classes=3, seed=0), ("a", "b", "c"), Prepare(channels=1))


def test_figures_agree_with_slow_counting(evaluation):
    logits, labels = evaluation.logits, evaluation.labels
    ranks = [
        sorted(range(7), key=lambda k, row=row: -row[k]).index(true) for row, true in zip(logits, labels, strict=True)
    ]
    assert evaluation.top1 == pytest.approx(sum(rank == 0 for rank in ranks) / 200)
    assert evaluation.top5 == pytest.approx(sum(rank < 5 for rank in ranks) / 200)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    assert evaluation.loss == pytest.approx(float(expected), rel=1e-6)
    confusion = np.zeros((7, 7), dtype=int)
    for row, true in zip(logits, labels, strict=True):
        confusion[true, row.argmax()] += 1
    assert (evaluation.confusion == confusion).all()
    for k, figures in enumerate(evaluation.per_class):
        assert figures.name == CLASSES[k]
        assert figures.count == (labels == k).sum()
        assert figures.recall == pytest.approx(confusion[k, k] / confusion[k].sum())
        assert figures.precision == pytest.approx(confusion[k, k] / confusion[:, k].sum())


def test_top5_of_equal_logits_is_not_a_present():
    constant = Evaluation(np.zeros((4, 7), dtype=np.float32), np.array([0, 1, 2, 6]), CLASSES)
    assert constant.top5 == 0


def test_the_interval_is_wilsons():
    logits = np.zeros((100, 2), dtype=np.float32)
    logits[:, 0] = 1
    labels = np.array([0] * 90 + [1] * 10)
    share, n, z = 0.9, 100, 1.959963984540054
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    interval = Evaluation(logits, labels, ("a", "b")).top1_interval
    assert interval == pytest.approx((middle - half, middle + half), rel=1e-9)


def test_calibration_error_of_known_bins():
    # 10 answers at 60 % of which 9 are right, 10 at 90 % of which 6 are right: (10 · 0.3 + 10 · 0.3) / 20
    confident = np.log(np.array([[0.6, 0.4]] * 10 + [[0.9, 0.1]] * 10)).astype(np.float32)
    labels = np.array([0] * 9 + [1] + [0] * 6 + [1] * 4)
    assert Evaluation(confident, labels, ("a", "b")).calibration_error == pytest.approx(0.3, abs=1e-6)


def test_most_confused_pairs_come_first_and_empty_ones_not_at_all():
    labels = np.array([0, 0, 0, 1, 1, 2])
    answers = np.array([1, 1, 0, 1, 2, 2])
    logits = np.eye(3, dtype=np.float32)[answers]
    assert Evaluation(logits, labels, ("a", "b", "c")).most_confused() == [("a", "b", 2), ("b", "c", 1)]


def test_worst_mistakes_are_those_with_the_least_probable_truth(evaluation):
    worst = evaluation.worst(5)
    given = evaluation.probabilities[np.arange(200), evaluation.labels]
    mistaken = evaluation.predictions != evaluation.labels
    assert mistaken[worst].all()
    assert given[worst].tolist() == sorted(given[mistaken])[:5]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 37])
def test_logits_do_not_depend_on_the_batch(classifier, count):
    images = pictures(37)
    whole = compute_logits(classifier, images)
    part = compute_logits(classifier, images.select(np.arange(count)), batch_size=16)
    assert np.array_equal(whole[:count], part)


def test_the_same_picture_through_evaluate_predict_and_classifier_is_bit_equal(classifier, tmp_path):
    from PIL import Image

    images = pictures(20)
    evaluation = evaluate(classifier, images)
    for index in (0, 7, 19):
        path = tmp_path / f"{index}.png"
        Image.fromarray(images.pixels[index, ..., 0]).save(path)
        expected = tuple(evaluation.probabilities[index].tolist())
        assert classifier(path).probabilities == expected
        assert classifier(images.pixels[index]).probabilities == expected
        assert classifier([images.pixels[3], path])[1].probabilities == expected
        logits = classifier.logits(classifier.prepare(images.pixels[index]))
        assert np.array_equal(logits.numpy()[0], evaluation.logits[index])


def test_classes_are_matched_by_name(classifier):
    images = pictures(30)
    shuffled = Images(images.pixels, np.array([2, 0, 1])[images.labels], ("b", "c", "a"))
    assert (match_labels(shuffled, ("a", "b", "c")) == images.labels).all()
    assert evaluate(classifier, shuffled).top1 == evaluate(classifier, images).top1


def test_an_unknown_class_is_refused_by_name(classifier):
    with pytest.raises(DataError, match="the classes zebra"):
        evaluate(classifier, pictures(classes=("a", "b", "zebra")))


def test_an_unknown_class_without_pictures_is_not_in_the_way(classifier):
    images = pictures(30)
    more = Images(images.pixels, images.labels, (*images.classes, "zebra"))
    assert evaluate(classifier, more).count == 30


def test_a_missing_class_is_a_warning(classifier):
    with pytest.warns(DataWarning, match="no pictures of c"):
        evaluation = evaluate(classifier, pictures(classes=("a", "b")))
    assert evaluation.per_class[2].count == 0


def test_no_pictures_is_an_error(classifier):
    with pytest.raises(DataError, match="no pictures"):
        evaluate(classifier, pictures(0))
