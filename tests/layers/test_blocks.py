import pytest
import torch
from torch import nn

from eyebright.errors import InputSizeError, ModelError
from eyebright.layers.blocks import Style
from eyebright.layers.norm import LocalResponseNorm

AXES = {"layer": (1, 2, 3), "instance": (2, 3), "batch": (0, 2, 3)}


@pytest.mark.parametrize("name", AXES)
def test_a_normalisation_averages_over_its_axes(name):
    x = torch.randn(4, 6, 5, 3, dtype=torch.float64) * 3 + 1
    mean = x.mean(AXES[name], keepdim=True)
    variance = (x - mean).square().mean(AXES[name], keepdim=True)
    norm = Style(normalisation=name).norm(6).double().train()
    torch.testing.assert_close(norm(x), (x - mean) / torch.sqrt(variance + 1e-5))


@pytest.mark.parametrize(
    ("channels", "groups"), [(256, 32), (64, 32), (96, 32), (48, 4), (32, 8), (16, 4), (6, 1), (7, 1)]
)
def test_group_norm_averages_over_groups_of_channels(channels, groups):
    """Of 32 groups as in the paper; narrow maps of fewer, so that a group is never a single channel."""
    norm = Style(normalisation="group").norm(channels).double()
    assert norm.num_groups == groups
    x = torch.randn(2, channels, 4, 4, dtype=torch.float64)
    shared = x.view(2, groups, -1)
    mean, variance = shared.mean(2, keepdim=True), shared.var(2, unbiased=False, keepdim=True)
    torch.testing.assert_close(norm(x), ((shared - mean) / torch.sqrt(variance + 1e-5)).view_as(x))


def test_local_response_and_none():
    assert isinstance(Style(normalisation="local_response").norm(8), LocalResponseNorm)
    assert isinstance(Style(normalisation="none").norm(8), nn.Identity)
    assert [Style(normalisation=name).bias for name in ("none", "local_response", "batch", "group")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_order_and_what_does_nothing():
    norm, activation = nn.BatchNorm2d(3), nn.ReLU()
    assert Style().order(norm, activation) == (norm, activation)
    assert Style(normalise="after").order(norm, activation) == (activation, norm)
    assert Style(normalisation="none").order(nn.Identity(), activation) == (activation,)


def test_norm_after_nothing_is_refused(refuses):
    with refuses(ModelError, 'normalise = "after" without a normalisation'):
        Style(normalisation="none", normalise="after")


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("leaky_relu", lambda x: torch.where(x > 0, x, 0.01 * x)),
        ("gelu", lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))),
        ("silu", lambda x: x / (1 + torch.exp(-x))),
    ],
)
def test_nonlinearities(name, function):
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    torch.testing.assert_close(Style(nonlinearity=name).activation()(x), function(x))


def test_channel_dropout_takes_whole_channels_while_training():
    activation = Style(channel_dropout=0.5).activation()
    x = torch.rand(8, 50, 3, 3) + 1
    torch.manual_seed(0)
    y = activation.train()(x)
    kept = y.flatten(2).ne(0)
    assert torch.equal(kept.all(2), kept.any(2))
    assert 0.35 < kept.all(2).float().mean() < 0.65
    assert torch.equal(y[kept.all(2)], 2 * x[kept.all(2)])
    assert torch.equal(activation.eval()(x), x)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 4, 1), (4, 9, 1), (8, 4, 1), (8, 8, 2)])
def test_identity_weights_pass_channels_on(inputs, outputs, groups):
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)
    Style(initialisation="identity").initialise(layer)
    x = torch.randn(2, inputs, 5, 6)
    passed, each = layer(x), min(inputs, outputs) // groups
    for group in range(groups):
        mine = passed[:, group * outputs // groups :][:, :each]
        torch.testing.assert_close(mine, x[:, group * inputs // groups :][:, :each])
    if outputs > inputs:
        assert layer.weight[inputs:].std() > 0


@pytest.mark.parametrize(("name", "variance"), [("he", 2 / (32 * 9)), ("xavier", 2 / (32 * 9 + 64 * 9))])
def test_first_weights_have_the_papers_variance(name, variance):
    layer = nn.Conv2d(32, 64, 3)
    torch.manual_seed(0)
    Style(initialisation=name).initialise(layer)
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.03)
    assert not layer.bias.any()


def test_the_papers_weights_are_left_alone():
    layer = nn.Conv2d(3, 4, 3)
    before = layer.weight.clone()
    Style().initialise(layer)
    assert torch.equal(layer.weight, before)


def test_instance_norm_of_single_pixels_is_refused(refuses):
    norm = Style(normalisation="instance").norm(4)
    with refuses(InputSizeError, "instance normalisation was given maps of 1×1"):
        norm(torch.zeros(2, 4, 1, 1))
    assert norm(torch.randn(2, 4, 1, 2)).shape == (2, 4, 1, 2)
    assert str(norm) == "InstanceNorm(4)"
