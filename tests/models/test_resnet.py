import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyebright.inspection.summary import summarise
from eyebright.layers.blocks import Style
from eyebright.models.create import create_model
from eyebright.models.resnet import SHAPES, Block


def reference(state, x, blocks, bottleneck, stride_first=False, shortcuts=True):
    """A residual network in evaluation mode, written from the paper with nothing but the state dict."""

    def conv(name, x, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

    def norm(name, x):
        mean, var, scale, shift = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        factor = scale / torch.sqrt(var + 1e-5)
        return x * factor[:, None, None] + (shift - mean * factor)[:, None, None]

    x = F.relu(norm("bn1", conv("conv1", x, 2)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            if bottleneck:
                first, second = (stride, 1) if stride_first else (1, stride)
                y = F.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x, first)))
                y = F.relu(norm(f"{name}.bn2", conv(f"{name}.conv2", y, second)))
                y = norm(f"{name}.bn3", conv(f"{name}.conv3", y))
            else:
                y = F.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x, stride)))
                y = norm(f"{name}.bn2", conv(f"{name}.conv2", y))
            if shortcuts:
                projected = f"{name}.downsample.0.weight" in state
                y = y + (norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride)) if projected else x)
            x = F.relu(y)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize(
    "name",
    [
        "resnet18", "plain18", "resnet50", "resnet50_2015",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SHAPES
          if name not in ("resnet18", "plain18", "resnet50", "resnet50_2015")),
    ],
)  # fmt: skip
def test_a_network_computes_what_its_paper_says(name):
    shape = SHAPES[name]
    model = create_model(name, num_classes=5, seed=0).double().eval()
    generator = torch.Generator().manual_seed(1)
    for key, value in model.state_dict().items():  # statistics as after training
        if key.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) * 0.1)
        elif key.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight")):
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5)
    x = torch.randn(2, 3, 75, 64, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(model.state_dict(), x, shape.blocks, shape.bottleneck, shape.stride_first, shape.shortcuts)
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("depth", "shortcuts"), [(18, True), (34, True), (50, True), (101, True), (152, True)])
def test_depth_counts_the_layers_with_weights(depth, shortcuts):
    """The projections of shortcuts are not counted."""
    with torch.device("meta"):
        model = create_model(f"resnet{depth}")
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum("downsample" not in name for name in layers) == depth


def test_the_papers_form_computes_less_by_three_convolutions_on_smaller_maps():
    """The first 1×1 of three blocks gives out a map of half the height and width: 256→128 on 28² instead of 56², …"""
    saved = 3 * 256 * 128 * (56**2 - 28**2)
    for depth in (50, 101, 152):
        with torch.device("meta"):
            library, paper = create_model(f"resnet{depth}"), create_model(f"resnet{depth}_2015")
        assert summarise(library).multiply_adds - summarise(paper).multiply_adds == saved


def test_plain_networks_lack_the_projections_alone():
    for depth in (18, 34):
        with torch.device("meta"):
            residual, plain = create_model(f"resnet{depth}"), create_model(f"plain{depth}")
        missing = residual.state_dict().keys() - plain.state_dict().keys()
        assert {key.split(".")[2] for key in missing} == {"downsample"}
        assert not plain.state_dict().keys() - residual.state_dict().keys()


BASIC = ((64, 3, 1), (64, 3, 1))


@pytest.mark.parametrize("convolutions", [BASIC, ((16, 1, 1), (16, 3, 1), (64, 1, 1))])
def test_a_block_with_zero_weights_is_the_identity(convolutions):
    made = Block(64, convolutions, nn.Identity(), False, Style())
    for name, layer in made.named_modules():
        if name.startswith("conv"):
            nn.init.zeros_(layer.weight)
    x = torch.rand(2, 64, 8, 8)  # not negative, as what a block gets from the ReLU before it
    for training in (True, False):
        assert torch.equal(made.train(training)(x), x)


def test_a_preactivated_block_with_zero_weights_is_the_identity_for_all_values():
    made = Block(64, BASIC, nn.Identity(), True, Style())
    nn.init.zeros_(made.conv2.weight)
    x = torch.randn(2, 64, 8, 8)
    assert torch.equal(made(x), x)
    assert isinstance(made.bn1, nn.BatchNorm2d)
    assert made.bn1.num_features == 64


def preactivated(state, x, blocks, bottleneck):
    """Full pre-activation (arXiv 1603.05027, figure 4e and appendix), with nothing but the state dict.

    The stem normalises before the first block splits; where the shape changes, the shortcut is a bare convolution of
    what the first convolution takes; after the last sum stand one more normalisation and ReLU.
    """

    def conv(name, x, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

    def active(name, x):
        mean, var, scale, shift = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        factor = scale / torch.sqrt(var + 1e-5)
        return F.relu(x * factor[:, None, None] + (shift - mean * factor)[:, None, None])

    x = F.max_pool2d(active("bn1", conv("conv1", x, 2)), 3, 2, 1)
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            before = x if (stage, block) == (1, 0) else active(f"{name}.bn1", x)
            if bottleneck:
                y = conv(f"{name}.conv2", active(f"{name}.bn2", conv(f"{name}.conv1", before)), stride)
                y = conv(f"{name}.conv3", active(f"{name}.bn3", y))
            else:
                y = conv(f"{name}.conv2", active(f"{name}.bn2", conv(f"{name}.conv1", before, stride)))
            projected = f"{name}.downsample.0.weight" in state
            x = y + (conv(f"{name}.downsample.0", before, stride) if projected else x)
    return active("last.0", x).mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_preactivated_network_computes_what_its_paper_says(name):
    shape = SHAPES[name]
    model = create_model(name, num_classes=5, seed=0, preactivation=True).double().eval()
    generator = torch.Generator().manual_seed(1)
    for key, value in model.state_dict().items():  # statistics as after training
        if key.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) * 0.1)
        elif key.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight")):
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5)
    assert not [key for key in model.state_dict() if "downsample.1" in key or key.startswith("layer1.0.bn1")]
    x = torch.randn(2, 3, 75, 64, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        expected = preactivated(model.state_dict(), x, shape.blocks, shape.bottleneck)
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


def test_norm_after_the_nonlinearity():
    made = Block(8, ((8, 3, 1), (8, 3, 1)), None, False, Style(normalise="after")).double().eval()
    with torch.no_grad():
        made.bn1.bias.fill_(-3)
        made.bn2.bias.fill_(-5)
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    y = F.relu(F.conv2d(x, made.conv1.weight, padding=1)) / (1 + 1e-5) ** 0.5 - 3
    y = F.relu(F.conv2d(y, made.conv2.weight, padding=1)) / (1 + 1e-5) ** 0.5 - 5
    torch.testing.assert_close(made(x), y)


def test_the_small_stem_keeps_the_size():
    with torch.device("meta"):
        model = create_model("resnet18", stem="cifar")
        outputs = model.forward_stages(torch.empty(1, 3, 32, 32, device="meta"))
    assert model.conv1.weight.shape == (64, 3, 3, 3)
    assert [outputs[f"stage{i}"].shape[-1] for i in (1, 2, 3, 4)] == [32, 16, 8, 4]


def test_first_weights():
    """He et al. 2015: variance 2 / (outputs · kernel area) for the paper's; 2 / (inputs · kernel area) for "he"."""
    weight = create_model("resnet18", seed=0).layer4[0].conv1.weight  # 256 → 512
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    weight = create_model("resnet18", seed=0, initialisation="he").layer4[0].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
