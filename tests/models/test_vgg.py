import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyebright.models.create import create_model
from eyebright.models.vgg import COLUMNS


def reference(model, x):
    """VGG in evaluation mode, written from table 1 with the layers' weights in their order."""
    weights = [(layer.weight, layer.bias) for layer in model.features if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in model.features if isinstance(layer, nn.BatchNorm2d)]
    column = COLUMNS[model.model_name.removesuffix("_bn")]
    number = 0
    for convolutions in column:
        for _ in range(convolutions):
            x = F.conv2d(x, *weights[number], padding=1)
            if norms:
                norm = norms[number]
                x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
            x = F.relu(x)
            number += 1
        x = F.max_pool2d(x, 2)
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    dense = [layer for layer in model.classifier if isinstance(layer, nn.Linear)]
    for layer in dense[:2]:
        x = F.relu(F.linear(x, layer.weight, layer.bias))
    return F.linear(x, dense[2].weight, dense[2].bias)


@pytest.mark.parametrize("name", ["vgg11_bn", pytest.param("vgg16", marks=pytest.mark.slow)])
def test_a_network_computes_what_its_paper_says(name):
    model = create_model(name, num_classes=4, seed=0).eval()
    x = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(x), reference(model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "depth"), [(f"vgg{depth}{norm}", depth) for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
)
def test_depth_counts_the_layers_with_weights(name, depth):
    with torch.device("meta"):
        model = create_model(name)
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules()) == depth


def test_each_block_halves_the_map_and_has_the_papers_width():
    with torch.device("meta"):
        outputs = create_model("vgg16").forward_stages(torch.empty(1, 3, 224, 224, device="meta"))
    shapes = [tuple(outputs[f"block{i}"].shape[1:]) for i in range(1, 6)]
    assert shapes == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)]


def test_first_weights():
    model = create_model("vgg11", seed=0, num_classes=100)
    assert model.features[8].weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert model.classifier[3].weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not model.features[8].bias.any()
