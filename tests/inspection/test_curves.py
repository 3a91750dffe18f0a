import numpy as np
import pytest

from eyebright.inspection.curves import divisions, draw_runs, say_runs


def metrics(losses, rates=None, validated=True):
    rates = rates or [0.1] * len(losses)
    return [
        {
            "epoch": epoch, "train_loss": loss, "train_accuracy": 1 - loss / 3, "learning_rate": rate,
            "val_loss": loss + 0.1 if validated else None, "val_accuracy": 0.9 - loss / 3 if validated else None,
        }
        for epoch, (loss, rate) in enumerate(zip(losses, rates, strict=True), 1)
    ]  # fmt: skip


def test_a_rate_that_stood_and_is_divided_is_marked():
    steps = [0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    assert divisions(metrics([1.0] * 6, steps)) == [3.5, 5.5]
    assert divisions(metrics([1.0] * 6, [0.1, 0.09, 0.06, 0.03, 0.01, 0.0])) == []  # it glides
    assert divisions(metrics([1.0])) == []


def test_seeds_are_drawn_as_their_mean_and_spread():
    together = [metrics([2.0, 1.0]), metrics([2.4, 1.2]), metrics([2.2, 0.8])]
    figure = draw_runs({"three": together, "one": [metrics([1.0, 0.5])]})
    panel = figure.axes[0]
    assert panel.lines[0].get_ydata() == pytest.approx([2.2, 1.0])
    low, high = np.sort(np.unique(panel.collections[0].get_paths()[0].vertices[:, 1]))[[0, -1]]
    assert (low, high) == pytest.approx((0.8, 2.4))
    assert len(panel.collections) == 1  # a single run has no spread
    assert [text.get_text() for text in figure.axes[5].get_legend().get_texts()] == ["three (3 runs)", "one"]


def test_a_run_that_was_stopped_early_is_drawn_as_far_as_it_goes():
    figure = draw_runs({"both": [metrics([2.0, 1.0, 0.5]), metrics([2.2, 1.2])]})
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx([2.1, 1.1, 0.5])


def test_without_validation_its_panels_stay_empty():
    figure = draw_runs({"one": [metrics([2.0, 1.0], validated=False)]})
    assert [len(axes.lines) for axes in figure.axes[:5]] == [1, 1, 1, 0, 0]
    assert "validation" not in say_runs({"one": [metrics([2.0, 1.0], validated=False)]})[0]


def test_what_is_said_gives_the_mean_and_the_ends():
    said = say_runs({"two": [metrics([2.0, 1.0]), metrics([2.0, 0.5])]})[0]
    assert said.startswith("two: training loss 0.7500 (0.5000 to 1.0000), accuracy 75.0% (66.7% to 83.3%)")
    assert said.endswith("after 2 epochs")
