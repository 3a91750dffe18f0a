import numpy as np
import pytest

from eyebright.curation.label_errors import find_label_errors


def make(count=200, classes=4, sharpness=2.0, seed=0):
    """Random predictions, somewhat in favour of the label; every class at least once."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, count - classes)])
    scores = random.normal(0, 1, (count, classes))
    scores[np.arange(count), labels] += sharpness * random.uniform(-0.5, 1, count)
    values = np.exp(scores)
    return values / values.sum(1, keepdims=True), labels


def judge_one_by_one(probabilities, labels):
    """The slow twin: thresholds, flags and confident joint, one picture after the other."""
    classes = probabilities.shape[1]
    thresholds = []
    for label in range(classes):
        own = [float(row[label]) for row, given in zip(probabilities, labels, strict=True) if given == label]
        thresholds.append(sum(own) / len(own))
    flags, joint = [], [[0] * classes for _ in range(classes)]
    for row, given in zip(probabilities, labels, strict=True):
        confident = [(float(row[label]), -label) for label in range(classes) if row[label] >= thresholds[label]]
        likely = -max(confident)[1] if confident else None
        flags.append(likely is not None and likely != given)
        if likely is not None:
            joint[given][likely] += 1
    return thresholds, flags, joint


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (4, 1), (9, 2)])
def test_thresholds_flags_and_joint_are_those_of_a_loop(classes, seed):
    probabilities, labels = make(classes=classes, seed=seed)
    found = find_label_errors(probabilities, labels)
    thresholds, flags, joint = judge_one_by_one(probabilities, labels)
    np.testing.assert_allclose(found.thresholds, thresholds)
    assert found.flagged.tolist() == flags and 0 < sum(flags) < len(labels)
    assert found.joint.tolist() == joint


@pytest.mark.parametrize("classes", [2, 5])
def test_thresholds_and_joint_are_those_of_cleanlab(classes):
    count = pytest.importorskip("cleanlab.count")
    probabilities, labels = make(classes=classes, seed=3)
    found = find_label_errors(probabilities, labels)
    np.testing.assert_allclose(found.thresholds, count.get_confident_thresholds(labels, probabilities))
    joint, suspects = count.compute_confident_joint(
        labels, probabilities, calibrate=False, return_indices_of_off_diagonals=True
    )
    ours = found.joint.copy()
    np.fill_diagonal(ours, np.maximum(ours.diagonal(), 1))  # theirs has no 0 on the diagonal
    np.testing.assert_array_equal(ours, joint)
    assert np.flatnonzero(found.flagged).tolist() == sorted(suspects)


def test_planted_errors_come_first():
    probabilities, labels = make(sharpness=0)
    truth = labels.copy()
    probabilities = 0.8 * np.eye(4)[truth] + 0.2 * probabilities
    planted = np.array([30, 60, 90, 120])
    labels[planted] = (truth[planted] + 1) % 4
    found = find_label_errors(probabilities, labels)
    assert set(found.order[:4].tolist()) == set(planted.tolist()) >= set(found.suspects.tolist()) > set()
    np.testing.assert_array_equal(found.suggested[planted], truth[planted])


def test_order_is_by_the_share_of_the_probability_that_is_usual_for_the_label():
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.45, 0.55], [0.6, 0.4], [0.9, 0.1]])
    labels = np.array([0, 0, 1, 1, 0])
    found = find_label_errors(probabilities, labels)
    np.testing.assert_allclose(found.thresholds, [0.7, 0.475])
    np.testing.assert_allclose(found.quality, [0.9 / 0.7, 0.3 / 0.7, 0.55 / 0.475, 0.4 / 0.475, 0.9 / 0.7])
    assert found.order.tolist() == [1, 3, 2, 0, 4]
    assert found.flagged.tolist() == [False, True, False, False, False]  # of picture 3 no class is confident
    assert found.suspects.tolist() == [1]


def test_a_suggestion_is_never_the_label_itself():
    probabilities, labels = make()
    found = find_label_errors(probabilities, labels)
    assert (found.suggested != labels).all()
    assert found.suggested.tolist() == [
        max((label for label in range(4) if label != given), key=lambda label: row[label])
        for row, given in zip(probabilities, labels, strict=True)
    ]


def test_a_class_that_nothing_speaks_for_has_a_finite_quality():
    found = find_label_errors(np.array([[1.0, 0], [1, 0], [1, 0]]), np.array([0, 0, 1]))
    assert np.isfinite(found.quality).all() and found.order[0] == 2 and found.suspects.tolist() == [2]


def test_of_a_single_class_nothing_is_doubted():
    found = find_label_errors(np.ones((3, 1)), np.zeros(3, dtype=np.int64))
    assert not found.flagged.any() and found.joint.tolist() == [[3]]
