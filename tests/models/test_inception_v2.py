import copy

import torch
import torch.nn.functional as F
from torch import nn

from eyebright.models.create import create_model


def layer(convolution, x, stride=1):
    conv, norm = convolution.conv, convolution.bn
    y = F.conv2d(x, conv.weight, stride=stride, padding=conv.weight.shape[2] // 2)
    return F.relu((y - norm.running_mean[:, None, None]) / torch.sqrt(norm.running_var[:, None, None] + 1e-3))


def test_parameters_follow_from_the_public_caffe_models():
    """Its 11,295,240 count a bias for each of its 10,016 maps, and a first convolution that is not separable."""
    with torch.device("meta"):
        model = create_model("inception_v2")
    maps = sum(norm.num_features for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))
    assert maps == 10_016
    whole, separable = 7 * 7 * 3 * 64, 7 * 7 * 3 * 8 + 3 * 8 * 64
    assert sum(p.numel() for p in model.parameters()) == 11_295_240 - maps - whole + separable


def test_map_sizes():
    with torch.device("meta"):
        outputs = create_model("inception_v2").forward_stages(torch.empty(1, 3, 224, 224))
    shapes = {name.removeprefix("inception"): tuple(output.shape[1:]) for name, output in outputs.items()}
    assert shapes == {
        "stem": (192, 28, 28), "3a": (256, 28, 28), "3b": (320, 28, 28), "3c": (576, 14, 14), "4a": (576, 14, 14),
        "4b": (576, 14, 14), "4c": (608, 14, 14), "4d": (608, 14, 14), "4e": (1056, 7, 7), "5a": (1024, 7, 7),
        "5b": (1024, 7, 7), "pool": (1024,), "head": (1000,),
    }  # fmt: skip


def test_a_module_and_one_that_shrinks_the_map():
    model = create_model("inception_v2", num_classes=3, seed=0).eval().double()
    x = torch.randn(2, 192, 8, 9, dtype=torch.float64)
    module = copy.deepcopy(model.inception3a)
    mean = (
        F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)
        * 9
        / F.avg_pool2d(F.pad(torch.ones_like(x), (1, 1, 1, 1)), 3, 1, divisor_override=1)
    )
    double = layer(module.branch3[2], layer(module.branch3[1], layer(module.branch3[0], x)))
    expected = [
        layer(module.branch1, x),
        layer(module.branch2[1], layer(module.branch2[0], x)),
        double,
        layer(module.branch4[1], mean),
    ]
    torch.testing.assert_close(module(x), torch.cat(expected, dim=1))
    x, module = torch.randn(2, 320, 8, 8, dtype=torch.float64), model.inception3c
    double = layer(module.branch3[2], layer(module.branch3[1], layer(module.branch3[0], x)), stride=2)
    expected = [layer(module.branch2[1], layer(module.branch2[0], x), stride=2), double, F.max_pool2d(x, 3, 2, 1)]
    torch.testing.assert_close(module(x), torch.cat(expected, dim=1))


def test_the_first_convolution_is_separable():
    first, second = create_model("inception_v2").stem[:2]
    assert (first.groups, first.out_channels, first.kernel_size) == (3, 24, (7, 7))
    assert (second.conv.in_channels, second.conv.out_channels, second.conv.kernel_size) == (24, 64, (1, 1))
