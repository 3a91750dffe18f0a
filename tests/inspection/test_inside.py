"""What is drawn and said of observations: gradients and internal shift."""

import numpy as np
import pytest
from histories import INPUTS, LAYERS, observation_of

from eyebright.inspection.gradients import draw_gradients, gradient_lengths, say_gradients
from eyebright.inspection.shift import draw_shift, measure_shift, say_shift
from eyebright.training.observe import InputState


def test_gradients_and_steps_are_in_lengths_of_the_weights():
    seen = [
        observation_of(1, ratio=0.02, norm=4.0, gradient=0.4),
        observation_of(101, ratio=0.01, norm=8.0, gradient=0.4),
    ]
    names, gradients, steps = gradient_lengths(seen)
    assert names == list(LAYERS)
    assert gradients == pytest.approx(np.array([[0.1] * 6, [0.05] * 6]))
    assert steps == pytest.approx(np.array([[0.02] * 6, [0.01] * 6]))


def test_what_is_said_of_gradients_names_the_weakest_and_the_longest_step():
    seen = [observation_of(n, conv1={"gradient_norm": 1e-7}) for n in (1, 101, 201)]
    seen[1] = observation_of(101, conv1={"gradient_norm": 1e-7}, fc2={"update_norm": 0.5})
    weak, vanishes, far = say_gradients(seen)
    assert "conv1 the weakest, 1e-07: 1e-06 of it" in weak
    assert vanishes.startswith("conv1 hardly gets a gradient")
    assert "moved fc2 farthest, by 0.5 of its length, in step 101" in far


def test_frozen_layers_have_no_line():
    seen = [observation_of(n, conv1={"gradient_norm": None, "update_norm": 0.0}) for n in (1, 101)]
    assert gradient_lengths(seen)[0] == list(LAYERS[1:])
    assert len(draw_gradients(seen).axes[0].lines) == 5
    all_frozen = [observation_of(1, **{name: {"gradient_norm": None} for name in LAYERS})]
    assert say_gradients(all_frozen) == ["no layer was trained"]
    assert len(draw_gradients(all_frozen).axes[0].lines) == 0


def shifting(step, mean, std):
    return observation_of(
        step,
        conv2={"inputs": InputState(mean, std, tuple(mean + std * np.array([-1.6, -0.7, 0, 0.7, 1.6])), 0.0, None)},
    )


def test_drift_and_widening_are_those_computed_by_hand():
    shifts = measure_shift([shifting(1, 0.0, 1.0), shifting(101, 0.5, 2.0), shifting(201, 1.5, 3.0)])
    assert [shift.layer for shift in shifts] == list(LAYERS)
    moved = shifts[1]
    assert moved.steps.tolist() == [1, 101, 201]
    assert moved.drift == pytest.approx((0.5 / 1 + 1.0 / 2) / 2)
    assert moved.widening == pytest.approx(3)
    assert shifts[2].drift == 0
    assert shifts[2].widening == 1
    about_mean, about_spread = say_shift(shifts)
    assert "farthest in conv2, by 0.50" in about_mean
    assert "changes most in conv2: in the end it is 3 times" in about_spread


def test_one_look_shows_no_shift():
    assert say_shift(measure_shift([shifting(1, 0.0, 1.0)])) == ["looked at too seldom to see a shift"]
    assert INPUTS.mean == 0


def test_runs_stand_below_each_other_with_a_few_layers_each():
    shifts = measure_shift([shifting(1, 0.0, 1.0), shifting(101, 0.5, 2.0)])
    figure = draw_shift({"with": shifts, "without": shifts[:3]})
    assert len(figure.axes) == 12
    drawn = [axes for axes in figure.axes if axes.lines]
    assert len(drawn) == 9
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["with", "without"]
    middle = drawn[1].lines[0].get_ydata()
    assert middle.tolist() == [0.0, 0.5]
