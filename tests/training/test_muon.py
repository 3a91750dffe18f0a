import pytest
import torch

from eyebright.models.create import create_model
from eyebright.training.muon import NEWTON_SCHULZ, Muon, orthogonalise
from eyebright.training.optim import (
    check_optimizer_tensors,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
)
from eyebright.training.recipe import TrainingSection


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (7, 7)], ids=str)
def test_all_directions_are_turned_alike(shape):
    """Each singular value s becomes a·s + b·s³ + c·s⁵, three times; the directions stay."""
    matrix = numbers(*shape)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.norm()
    a, b, c = NEWTON_SCHULZ
    for _ in range(3):
        values = a * values + b * values**3 + c * values**5
    assert values.min() > 0.3 and values.max() < 1.25
    torch.testing.assert_close(orthogonalise(matrix).double(), left @ values.diag() @ right, atol=1e-4, rtol=1e-4)


def test_filters_are_brought_to_their_norm_and_step_along_the_turned_momentum():
    weight, gradients = numbers(6, 3, 3, 3), (numbers(6, 3, 3, 3, seed=1), numbers(6, 3, 3, 3, seed=2))
    parameter = torch.nn.Parameter(weight.clone().to(memory_format=torch.channels_last))
    optimizer = Muon([{"params": [parameter], "lr": 0.2, "momentum": 0.6, "orthogonal": True}])
    expected, momentum = weight.clone(), torch.zeros_like(weight)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        momentum = 0.6 * momentum + gradient
        turned = orthogonalise((gradient + 0.6 * momentum).reshape(6, 27)).reshape(6, 3, 3, 3)
        expected = expected * 6**0.5 / expected.norm() - 0.2 * turned
    torch.testing.assert_close(parameter.detach(), expected)


def test_the_rest_steps_as_sgd_with_nesterov_momentum():
    ours, theirs = (torch.nn.Parameter(numbers(4, 3)) for _ in range(2))
    optimizer = Muon([{"params": [ours], "lr": 0.2, "momentum": 0.85, "weight_decay": 0.1}])
    reference = torch.optim.SGD([theirs], lr=0.2, momentum=0.85, nesterov=True, weight_decay=0.1)
    for step in range(4):
        ours.grad, theirs.grad = numbers(4, 3, seed=step), numbers(4, 3, seed=step)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)


def section(**values):
    settings = {"epochs": 2, "learning_rate": 0.2, "optimizer": "muon", "momentum": 0.6, "weight_decay": 0.5}
    return TrainingSection(**settings | values)


def test_what_each_parameter_gets():
    model = create_model("airbench", widths=[8, 8, 8], seed=0)
    optimizer = make_optimizer(model, section(head_learning_rate=2.0, bias_learning_rate=1.0))
    set_learning_rate(optimizer, 0.1)  # half of the highest
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    got = {
        names[id(parameter)]: (group["orthogonal"], group["lr"], group["momentum"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert set(got) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert got["group1.0.weight"] == (True, 0.1, 0.6, 0)
    assert got["group1.2.bias"] == got["whitening.0.bias"] == (False, 0.5, 0.85, 0)
    assert got["output.weight"] == (False, 1.0, 0.85, 0.5)
    assert "whitening.0.weight" not in got and "group1.2.weight" not in got
    decaying = make_optimizer(model, section(decay_all=True)).param_groups
    assert [group["weight_decay"] for group in decaying if not group["orthogonal"]] == [0.5, 0.5]
    assert {group["lr"] * group["share"] for group in decaying} == {0.0}  # no schedule has spoken yet


def test_a_restored_muon_goes_on_bit_for_bit():
    def train(model, optimizer, steps):
        for step in steps:
            model(numbers(4, 3, 16, 16, seed=step)).square().sum().backward()
            set_learning_rate(optimizer, 0.1)
            optimizer.step()
            optimizer.zero_grad()

    straight, broken = (create_model("airbench", widths=[4, 8, 8], seed=0) for _ in range(2))
    train(straight, make_optimizer(straight, section()), range(4))
    first = make_optimizer(broken, section())
    train(broken, first, range(2))
    second = make_optimizer(broken, section())
    stored = {name: value.clone() for name, value in optimizer_tensors(first).items()}
    check_optimizer_tensors(second, stored)
    load_optimizer_tensors(second, stored)
    train(broken, second, range(2, 4))
    for one, other in zip(straight.state_dict().values(), broken.state_dict().values(), strict=True):
        assert torch.equal(one, other)
