import pytest
import torch
import torch.nn.functional as F

from eyebright.models.create import create_model


@pytest.fixture(scope="module")
def model():
    return create_model("inception_v4", num_classes=3, seed=0).eval().double()


def layer(convolution, x, stride=1, padding=(0, 0)):
    y = F.conv2d(x, convolution.conv.weight, stride=stride, padding=padding)
    norm = convolution.bn
    return F.relu((y - norm.running_mean[:, None, None]) / torch.sqrt(norm.running_var[:, None, None] + 1e-3))


def mean(x):
    """The mean of the 3×3 values around each that there are."""
    around = F.unfold(F.pad(x, (1, 1, 1, 1), value=float("nan")), 3).view(*x.shape[:2], 9, *x.shape[2:])
    return around.nanmean(2)


def test_map_sizes_of_figure_9():
    with torch.device("meta"):
        outputs = create_model("inception_v4").forward_stages(torch.empty(1, 3, 299, 299))
    shapes = {name: tuple(output.shape[1:]) for name, output in outputs.items()}
    assert shapes == {
        "stem": (384, 35, 35), "stageA": (384, 35, 35), "reductionA": (1024, 17, 17), "stageB": (1024, 17, 17),
        "reductionB": (1536, 8, 8), "stageC": (1536, 8, 8), "pool": (1536,), "head": (1000,),
    }  # fmt: skip


def test_the_stem(model):
    f = model.features
    x = torch.randn(1, 3, 75, 79, dtype=torch.float64)
    y = layer(f[2], layer(f[1], layer(f[0], x, stride=2)), padding=(1, 1))
    y = torch.cat([F.max_pool2d(y, 3, 2), layer(f[3].conv, y, stride=2)], dim=1)
    short, long = f[4].branch0, f[4].branch1
    z = layer(long[2], layer(long[1], layer(long[0], y), padding=(0, 3)), padding=(3, 0))
    y = torch.cat([layer(short[1], layer(short[0], y)), layer(long[3], z)], dim=1)
    y = torch.cat([layer(f[5].conv, y, stride=2), F.max_pool2d(y, 3, 2)], dim=1)
    torch.testing.assert_close(model.forward_stages(x)["stem"], y)


def test_a_module_a(model):
    module, x = model.features[6], torch.randn(2, 384, 5, 4, dtype=torch.float64)
    one, two = module.branch1, module.branch2
    expected = [
        layer(module.branch0, x),
        layer(one[1], layer(one[0], x), padding=(1, 1)),
        layer(two[2], layer(two[1], layer(two[0], x), padding=(1, 1)), padding=(1, 1)),
        layer(module.branch3[1], mean(x)),
    ]
    torch.testing.assert_close(module(x), torch.cat(expected, dim=1))


def test_a_module_b(model):
    module, x = model.features[11], torch.randn(2, 1024, 5, 6, dtype=torch.float64)
    one, two = module.branch1, module.branch2
    y = layer(two[0], x)
    for convolution, padding in zip(two[1:], ((3, 0), (0, 3), (3, 0), (0, 3)), strict=True):
        y = layer(convolution, y, padding=padding)
    z = layer(one[2], layer(one[1], layer(one[0], x), padding=(0, 3)), padding=(3, 0))
    expected = [layer(module.branch0, x), z, y, layer(module.branch3[1], mean(x))]
    torch.testing.assert_close(module(x), torch.cat(expected, dim=1))


def test_a_module_c_forks(model):
    module, x = model.features[19], torch.randn(2, 1536, 3, 4, dtype=torch.float64)
    one = layer(module.branch1_0, x)
    two = layer(module.branch2_1, layer(module.branch2_0, x), padding=(1, 0))
    two = layer(module.branch2_2, two, padding=(0, 1))
    expected = [
        layer(module.branch0, x),
        layer(module.branch1_1a, one, padding=(0, 1)),
        layer(module.branch1_1b, one, padding=(1, 0)),
        layer(module.branch2_3a, two, padding=(0, 1)),
        layer(module.branch2_3b, two, padding=(1, 0)),
        layer(module.branch3[1], mean(x)),
    ]
    torch.testing.assert_close(module(x), torch.cat(expected, dim=1))


def test_reductions_end_in_a_pool(model):
    for index, channels in ((10, 384), (18, 1024)):
        module, x = model.features[index], torch.randn(1, channels, 7, 7, dtype=torch.float64)
        y = module(x)
        assert y.shape[2:] == (3, 3)
        assert torch.equal(y[:, -channels:], F.max_pool2d(x, 3, 2))
