import numpy as np
import pytest

from eyebright.errors import RunError
from eyebright.inspection.comparison import Trained, check_same, compare_trained, draw_comparison, say_comparison


def trained(name, *shares, count=400):
    """So many of the pictures right, the first ones."""
    return Trained(name, {seed: np.arange(count) < share * count for seed, share in enumerate(shares)})


def test_the_most_accurate_is_chosen_and_the_others_stand_behind_it():
    found = compare_trained([trained("low", 0.5), trained("high", 0.8), trained("middle", 0.78)])
    assert [one.name for one in found.trained] == ["high", "middle", "low"]
    assert found.differences[1].value == pytest.approx(0.3)
    assert (found.differences[1].only_first, found.differences[1].only_second) == (0, 120)
    assert found.p_values[0] == found.differences[0].p_value  # the largest of two stays
    assert found.p_values[1] == pytest.approx(2 * found.differences[1].p_value)
    said = say_comparison(found)
    assert said[0] == "on 400 validation pictures high is best: 80.00%"
    assert "middle, 78.00%, is 2.00 points behind" in said[1]
    assert "only several seeds tell" in said[2]
    values = found.as_dict()
    assert values["chosen"] == "high"
    assert values["runs"][2]["behind"]["only_best_right"] == 120


def test_small_differences_are_none():
    found = compare_trained([trained("one", 0.800), trained("other", 0.8025)])
    assert say_comparison(found)[1].endswith("no difference is shown")


def test_seeds_are_compared_where_both_have_several():
    found = compare_trained([trained("a", 0.70, 0.71, 0.69), trained("b", 0.80, 0.82, 0.79)])
    assert found.differences[0].by == "seeds"
    assert "mean of 3 seeds" in say_comparison(found)[0]
    assert say_comparison(found)[1].endswith("it is worse")
    assert compare_trained([trained("a", 0.7), trained("b", 0.8, 0.82)]).differences[0].by == "McNemar"


def test_what_was_chosen_before_stays_chosen():
    found = compare_trained([trained("a", 0.70), trained("b", 0.80)], "test", chosen="a")
    assert found.chosen.name == "a"
    said = say_comparison(found)
    assert said[0] == "on 400 test pictures a is at 70.00%"
    assert "b, 80.00%, is 10.00 points ahead" in said[1]


def test_other_pictures_are_refused():
    check_same(["a", "b"], [b"1", b"1"], "val")
    with pytest.raises(RunError, match="a and c have different val parts"):
        check_same(["a", "b", "c"], [b"1", b"1", b"2"], "val")


def test_dots_are_seeds_and_grey_is_not_shown():
    figure = draw_comparison(
        compare_trained([trained("a", 0.70, 0.71), trained("b", 0.80, 0.82), trained("c", 0.8, 0.81)])
    )
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["b", "c", "a"]
    assert len(left.lines[0].get_xdata()) == 2
    assert len({line.get_color() for line in right.lines}) >= 2
