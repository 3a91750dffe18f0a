import pytest
import torch
from torch import nn

from eyebright.layers.norm import LocalResponseNorm
from eyebright.models.create import create_model


def test_maps_have_the_sizes_of_the_papers_figure_3():
    with torch.device("meta"):
        model = create_model("zfnet")
        x = torch.empty(1, 3, 224, 224)
        assert model.conv1[0](x).shape == (1, 96, 110, 110)
        outputs = model.forward_stages(x)
        assert model.conv2[0](outputs["conv1"]).shape == (1, 256, 26, 26)
    shapes = {name: tuple(output.shape[1:]) for name, output in outputs.items()}
    assert list(shapes.values()) == [
        (96, 55, 55), (256, 13, 13), (384, 13, 13), (384, 13, 13), (256, 6, 6), (256, 6, 6), (4096,), (4096,), (1000,),
    ]  # fmt: skip


def test_order_is_convolution_relu_pool_norm():
    with torch.device("meta"):
        model = create_model("zfnet")
        other = create_model("zfnet", normalisation="batch", normalise="before")
    for stage in (model.conv1, model.conv2):
        assert [type(layer) for layer in stage] == [nn.Conv2d, nn.ReLU, nn.MaxPool2d, LocalResponseNorm]
    assert [type(layer) for layer in other.conv1] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]


def test_first_weights_of_the_paper():
    model = create_model("zfnet", seed=0, num_classes=10)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.03)
            assert not layer.bias.any()
