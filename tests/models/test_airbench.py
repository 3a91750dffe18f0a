import pytest
import torch
from torch import nn

from eyebright.models.airbench import EVENNESS, Scale
from eyebright.models.create import create_model


def pictures(channels=3, seed=0):
    """Smooth ones, so that neighbouring pixels and channels go together."""
    noise = torch.randn(40, channels, 12, 12, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool2d(noise, 3, stride=1) + noise[:, :1, 1:-1, 1:-1]


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_whitened_with_both_signs(channels):
    model = create_model("airbench", in_channels=channels, seed=0)
    model.meet(pictures(channels))
    filters = model.whitening[0]
    assert len(filters.weight) == 8 * channels and not filters.weight.requires_grad
    answers = nn.functional.conv2d(pictures(channels), filters.weight).detach()
    half = 4 * channels
    assert torch.equal(answers[:, :half], -answers[:, half:])
    flat = answers[:, :half].movedim(1, -1).flatten(0, 2)
    second_moments = flat.T @ flat / len(flat)  # of a direction with variance v: v / (v + 0.0005)
    torch.testing.assert_close(second_moments, second_moments.diag().diag(), atol=1e-4, rtol=0)
    assert second_moments.diag().max() <= 1 and second_moments.diag()[-1] > 1 - EVENNESS


def test_the_same_pictures_give_the_same_filters():
    one, other = create_model("airbench", seed=0), create_model("airbench", seed=1)
    for model in (one, other):
        model.meet(pictures())
    assert torch.equal(one.whitening[0].weight, other.whitening[0].weight)


def test_convolutions_begin_as_the_identity():
    model = create_model("airbench", seed=0)
    maps = torch.randn(2, 64, 5, 5)
    assert torch.equal(model.group1[4](maps), maps)
    torch.testing.assert_close(model.group2[0](maps)[:, :64], maps)
    assert not torch.equal(model.group2[0](maps)[:, 64:128], maps)


def test_logits_are_small_at_first_and_scales_of_normalisation_are_fixed():
    model = create_model("airbench", seed=0)
    assert model.pool[-1].factor == 1 / 256 and repr(Scale(0.5)) == "Scale(0.5)"
    assert model(torch.randn(4, 3, 32, 32)).abs().max() < 0.1
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"whitening.0.weight", *(f"group{i}.{j}.weight" for i in (1, 2, 3) for j in (2, 5))}
    assert model(torch.randn(1, 3, 64, 48)).shape == (1, 10)


def test_without_biases_nothing_is_learnt_in_the_whitening():
    model = create_model("airbench", whitening_bias=False, seed=0)
    with_them = create_model("airbench", seed=0)
    assert set(with_them.state_dict()) - set(model.state_dict()) == {"whitening.0.bias"}
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None and value.requires_grad] == []
    assert model.whitening[0].weight.grad is None
