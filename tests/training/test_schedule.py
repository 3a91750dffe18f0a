import math

import pytest
import torch

from eyebright.training.recipe import TrainingSection
from eyebright.training.schedule import Plateau, learning_rate_factor, side_at


def training(**values):
    return TrainingSection(epochs=values.pop("epochs", 10), learning_rate=1.0, **values)


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({"schedule": "constant"}, {0: 1, 9.9: 1}),
        ({"schedule": "step", "step_epochs": 3, "factor": 0.5}, {0: 1, 2.9: 1, 3: 0.5, 6.5: 0.25, 9.5: 0.125}),
        ({"schedule": "multi_step", "milestones": (2, 5)}, {1.99: 1, 2: 0.1, 4.9: 0.1, 5: 0.01}),
        ({"schedule": "cosine"}, {0: 1, 5: 0.5, 10: 0, 2.5: (1 + math.sqrt(0.5)) / 2}),
        ({"schedule": "linear"}, {0: 1, 2.5: 0.75, 10: 0}),
        ({"schedule": "linear", "warmup_epochs": 2}, {0: 0, 1: 0.5, 2: 1, 6: 0.5, 10: 0}),
        ({"schedule": "multi_step", "milestones": (2,), "warmup_epochs": 1}, {0.5: 0.5, 1: 1, 2: 0.1}),
        ({"schedule": "plateau"}, {0: 1, 9: 1}),
    ],
)
def test_factor_at_known_places(settings, factors):
    section = training(**settings)
    for epochs_done, factor in factors.items():
        assert learning_rate_factor(section, epochs_done) == pytest.approx(factor, abs=1e-12)


def test_one_cycle_agrees_with_torch():
    steps = 200
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=steps + 1, pct_start=0.3)
    section = training(schedule="one_cycle")
    for step in range(steps):
        # torch's flanks meet at pct_start * total_steps - 1: half a step apart from ours
        assert learning_rate_factor(section, step / steps * 10) == pytest.approx(theirs.get_last_lr()[0], abs=0.02)
        optimizer.step()
        theirs.step()


def test_plateau_lowers_after_patience_and_waits_again():
    section = training(schedule="plateau", patience_epochs=2, factor=0.5)
    plateau = Plateau()
    factors = []
    for figure in (0.1, 0.2, 0.2, 0.19, 0.2, 0.2, 0.2, 0.2, 0.3):
        plateau.update(figure, section)
        factors.append(plateau.factor)
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_sides_begin_where_the_recipe_says():
    section = training(epochs=8, sides=((0.25, 16), (0.5, 24)))
    assert [side_at(section, epochs) for epochs in (0, 1.9, 2, 3.9, 4, 8)] == [None, None, 16, 16, 24, 24]
    assert side_at(training(), 3) is None
