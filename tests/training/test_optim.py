import pytest
import torch
from torch import nn

from eyebright.training.optim import load_optimizer_tensors, make_optimizer, optimizer_tensors, set_learning_rate
from eyebright.training.recipe import TrainingSection


def training(**values):
    return TrainingSection(epochs=2, learning_rate=0.1, **values)


def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    return model.to(memory_format=torch.channels_last)


def train(model, optimizer, steps):
    inputs = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        model(inputs).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_biases_and_normalisation_do_not_decay_unless_said():
    model = net()
    groups = make_optimizer(model, training(weight_decay=0.1)).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {name: decays[id(p)] for name, p in model.named_parameters()} == {
        "0.weight": 0.1, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "3.weight": 0.1, "3.bias": 0.0,
    }  # fmt: skip
    (group,) = make_optimizer(model, training(weight_decay=0.1, decay_all=True)).param_groups
    assert group["weight_decay"] == 0.1
    assert len(group["params"]) == 6


def test_frozen_parameters_are_left_out():
    model = net()
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, training())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "sgd", "nesterov": True},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "weight_decay": 0.1},
    ],
)
def test_a_restored_optimizer_goes_on_bit_for_bit(settings):
    section = training(**settings)
    straight, broken = net(), net()
    optimizer = make_optimizer(straight, section)
    train(straight, optimizer, 6)

    first = make_optimizer(broken, section)
    train(broken, first, 3)
    second = make_optimizer(broken, section)
    stored = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in optimizer_tensors(first).items()
    }
    load_optimizer_tensors(second, stored)
    train(broken, second, 3)
    for one, other in zip(straight.state_dict().values(), broken.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_learning_rate_is_set_in_all_groups():
    optimizer = make_optimizer(net(), training(weight_decay=0.1))
    set_learning_rate(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025]
