import pytest
import torch
from torch import nn

from eyebright.errors import ModelError
from eyebright.models.create import create_model
from eyebright.models.resnet_cifar import ZeroPaddingShortcut

DEPTHS = [20, 32, 44, 56, 110]


def test_block_with_zero_weights_is_the_identity():
    block = create_model("resnet20_cifar").layer1[0]
    nn.init.zeros_(block.conv1.weight)
    nn.init.zeros_(block.conv2.weight)
    x = torch.rand(2, 16, 8, 8)  # not negative, as what a block gets from the ReLU before it
    for training in (True, False):
        assert torch.equal(block.train(training)(x), x)


def test_plain_block_with_zero_weights_is_zero():
    block = create_model("plain20_cifar").layer1[0]
    nn.init.zeros_(block.conv2.weight)
    assert not block(torch.rand(2, 16, 8, 8)).any()


@pytest.mark.parametrize("span", [1, 2, 3])
def test_a_shortcut_spans_as_many_layers_as_it_is_told(span):
    with torch.device("meta"):
        model = create_model("resnet20_cifar", span=span)
    assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3)] == [6 // span] * 3
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules()) == 20
    assert sum(p.numel() for p in model.parameters()) == 269_722


def test_a_span_that_leaves_layers_over_is_refused(refuses):
    with refuses(ModelError, "shortcuts that span 3 layers, in stages of 10"):
        create_model("resnet32_cifar", span=3)


def test_zero_padding_shortcut():
    x = torch.randn(2, 16, 9, 8)
    y = ZeroPaddingShortcut()(x)
    assert y.shape == (2, 32, 5, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


@pytest.mark.parametrize("depth", DEPTHS)
def test_plain_twin(depth):
    """The same layers under the same names; only the shortcuts are gone, and they have no parameters."""
    with torch.device("meta"):
        residual = create_model(f"resnet{depth}_cifar")
        plain = create_model(f"plain{depth}_cifar")
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (residual, plain)]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in residual.parameters()) == sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_counts_the_layers_with_weights(depth):
    with torch.device("meta"):
        model = create_model(f"resnet{depth}_cifar")
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules()) == depth
    assert {len(stage) for stage in (model.layer1, model.layer2, model.layer3)} == {(depth - 2) // 6}


def test_plain_twin_differs_by_the_shortcuts_only():
    residual, plain = create_model("resnet20_cifar").eval(), create_model("plain20_cifar").eval()
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(residual.forward_stages(x)["stem"], plain.forward_stages(x)["stem"])
        assert not torch.equal(residual(x), plain(x))


def test_initialisation():
    torch.manual_seed(0)
    he, xavier = create_model("resnet20_cifar"), create_model("resnet20_cifar", initialisation="xavier")
    weights = [model.layer3[2].conv2.weight for model in (he, xavier)]
    inputs = 64 * 9
    assert weights[0].std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.03)
    assert weights[1].std().item() == pytest.approx((2 / (inputs + inputs)) ** 0.5, rel=0.03)
    assert weights[1].abs().max().item() <= (6 / (inputs + inputs)) ** 0.5
    for model in (he, xavier):
        assert not model.linear.bias.any()
        model.replace_head(64)
        assert not model.linear.bias.any()
    assert he.head.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert xavier.head.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
