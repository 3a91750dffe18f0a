"""Whether answers are right as often as they are sure; how far layers moved; the table of candidates."""

import numpy as np
import pytest

from eyebright.evaluation.evaluate import Evaluation
from eyebright.inspection.candidates import tabulate
from eyebright.inspection.moved import BROKEN, FROZEN, draw_moved
from eyebright.inspection.reliability import draw_reliability, say_reliability

CLASSES = ("ant", "bee")


def answers(sure, right, count):
    """Two classes: answers that are so sure, of which so many are right."""
    logits = np.zeros((count, 2), dtype=np.float32)
    logits[:, 0] = np.log(sure / (1 - sure))
    labels = np.zeros(count, dtype=np.int64)
    labels[right:] = 1
    return Evaluation(logits, labels, CLASSES)


@pytest.mark.parametrize(
    ("sure", "right", "said"),
    [(0.9, 60, "on the whole too sure"), (0.6, 95, "on the whole not sure enough")],
)
def test_too_sure_or_not_sure_enough(sure, right, said):
    found = answers(sure, right, 100)
    assert found.calibration_error == pytest.approx(abs(sure - right / 100), abs=1e-6)
    assert said in say_reliability(found)[0]
    assert f"{sure:.1%} sure on average, and {right:.1f}% are right" in say_reliability(found)[0]


def test_too_sure_here_and_not_sure_enough_there():
    one, other = answers(0.9, 80, 100), answers(0.6, 70, 100)
    both = Evaluation(np.concatenate([one.logits, other.logits]), np.concatenate([one.labels, other.labels]), CLASSES)
    assert both.calibration_error == pytest.approx(0.1, abs=1e-6)
    assert "on the whole as sure as right, as far as 200 pictures can tell" in say_reliability(both)[0]


def test_nothing_is_said_against_the_best():
    said = say_reliability(answers(1 - 1e-7, 50, 50))[0]
    assert "calibration error 0.0%: on the whole as sure as right, as far as 50 pictures can tell" in said


def test_a_threshold_gives_another_answer_and_another_confidence():
    """65 % for the first class, but the second is answered from 30 % on: this answer is 35 % sure."""
    logits = np.tile(np.log(np.array([[0.65, 0.35]], dtype=np.float32)), (40, 1))
    found = Evaluation(logits, np.ones(40, dtype=np.int64), CLASSES, threshold=0.3)
    assert found.top1 == 1
    np.testing.assert_allclose(found.confidence, 0.35, atol=1e-6)
    assert found.calibration_error == pytest.approx(0.65, abs=1e-6)


def test_a_point_stands_where_it_belongs():
    axes = draw_reliability(answers(0.9, 60, 100)).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[0.9, 0.6]], atol=1e-6)


def test_scores_stand_beside_the_threshold():
    scores = np.linspace(0, 0.99, 100, dtype=np.float32)
    figure = draw_reliability(answers(0.9, 60, 100), scores, 0.745)
    _, right = figure.axes
    assert sum(patch.get_height() for patch in right.patches) == 100
    assert [text.get_text() for text in right.texts] == ["none of these: 25.0%"]
    assert len(draw_reliability(answers(0.9, 60, 100)).axes) == 1


def entry(name, frozen, before, after, moved):
    return {"name": name, "frozen": frozen, "before": before, "after": after, "moved": moved}


def test_each_layer_stands_with_its_kind():
    figure = draw_moved(
        [
            entry("stem.weight", True, "a", "a", 0.0),
            entry("norm.weight", True, "b", "b", 0.0),
            entry("norm.num_batches_tracked", True, "c", "d", None),
            entry("head.weight", False, "e", "f", 0.3),
            entry("head.bias", False, "g", "h", 0.5),
        ]
    )
    (axes,) = figure.axes
    (bar,) = axes.patches
    assert (bar.get_x() + bar.get_width() / 2, bar.get_height()) == (2, 0.5)
    assert {line.get_label(): line.get_xdata().tolist() for line in axes.lines} == {FROZEN: [0], BROKEN: [1]}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["stem", "norm", "head"]


def test_a_table_of_candidates():
    told = {
        "name": "linear", "val_accuracy": 0.8, "val_interval": [0.7, 0.9], "val_loss": 0.5, "trained": 1026,
        "seconds": 3.0, "setting": "0.1",
    }  # fmt: skip
    other = told | {"name": "dense", "difference": 0.02, "difference_interval": [-0.01, 0.05]}
    first, second = tabulate([told, other], "dense")
    assert (first.kept, second.kept) == (False, True)
    assert first.interval == "70.0% to 90.0%"
    assert (first.beside, second.beside) == ("", "+2.0% (-1.0% to +5.0%)")
    assert first.trained == "1,026"
