"""Convolutions with a stride as convolutions of folded pictures without one."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyebright.kernels.build import has_bfloat16_products, has_wide_vectors
from eyebright.layers import fused
from eyebright.layers.folding import fold_pixels, fold_weights
from eyebright.layers.fused import in_turn

pytestmark = pytest.mark.usefixtures("kernels")

SHAPES = [  # channels, maps, height, width, taps, stride, padding
    (3, 64, 64, 64, 11, 4, 2),  # AlexNet
    (3, 48, 63, 50, 11, 4, 0),  # pixels are left out
    (3, 40, 61, 66, 12, 4, 5),
    (8, 32, 40, 41, 5, 2, 2),
    (6, 24, 45, 44, 10, 2, 3),  # five squares
]


def make(channels, maps, taps, stride, padding, **options):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, maps, taps, stride, padding, **options)
    return layer.to(memory_format=torch.channels_last)


def pixels(*shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return values.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", SHAPES)
def test_folded_they_are_the_same_sums(shape):
    channels, maps, height, width, taps, stride, padding = shape
    x, weight = pixels(2, channels, height, width).double(), torch.randn(maps, channels, taps, taps).double()
    expected = F.conv2d(x, weight, stride=stride, padding=padding)
    side = -(-taps // stride)
    sides = [made + side - 1 for made in expected.shape[2:]]
    folded = fold_pixels(x, stride, padding, sides, torch.float64)
    assert folded.shape == (2, stride**2 * channels, *sides)
    assert folded.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(F.conv2d(folded, fold_weights(weight, stride)), expected)


@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_first_convolutions_are_folded(shape, number_format, calls):
    if not has_wide_vectors() or (number_format == torch.bfloat16 and not has_bfloat16_products()):
        pytest.skip("this processor has no such products")
    channels, maps, height, width, taps, stride, padding = shape
    module, x = make(channels, maps, taps, stride, padding), pixels(20, channels, height, width)
    twin = copy.deepcopy(module).double()
    half = number_format == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        y = in_turn([module], x)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(number_format)
    expected = twin((x.bfloat16() if half else x).double())
    assert (y.dtype, y.shape) == (number_format, expected.shape)
    assert calls == ["convolve"]
    found = [y, *torch.autograd.grad(y, [module.weight, module.bias], gradient)]
    wanted = [expected, *torch.autograd.grad(expected, [twin.weight, twin.bias], gradient.double())]
    for one, other in zip(found, wanted, strict=True):
        assert (one.double() - other).norm() <= (0.015 if half else 1e-5) * other.norm()
    assert calls == ["convolve", "convolve_weights"]


@pytest.mark.parametrize("bias", [True, False])
def test_where_torch_multiplies_by_tiles_the_folded_convolution_is_torchs(bias, calls, monkeypatch):
    monkeypatch.setattr(fused, "has_tiles", lambda: True)
    monkeypatch.setattr(fused, "has_bfloat16_products", lambda: False)
    given, conv2d = [], torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda x, *more: given.append(x.shape[1]) or conv2d(x, *more))
    module, x = make(3, 64, 11, 4, 2, bias=bias), pixels(4, 3, 64, 64)
    twin = copy.deepcopy(module).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = in_turn([module], x)
        assert given == [48]
        assert torch.equal(in_turn([make(3, 64, 7, 2, 3)], x), make(3, 64, 7, 2, 3)(x))  # of 12 channels
    expected = twin(x.bfloat16().double())
    weights = [module.weight, *([module.bias] if bias else [])]
    found = [y, *torch.autograd.grad(y.float().square().sum(), weights)]
    wanted = [expected, *torch.autograd.grad(expected.square().sum(), list(twin.parameters()))]
    for one, other in zip(found, wanted, strict=True):
        assert (one.double() - other).norm() <= 0.01 * other.norm()
    assert not calls
    assert torch.equal(in_turn([module], x), module(x))  # in float32 it is not


def test_layers_without_bias_and_in_another_layout_are_folded(calls):
    module = make(3, 64, 11, 4, 2, bias=False).to(memory_format=torch.contiguous_format)
    x, twin = pixels(20, 3, 64, 64), copy.deepcopy(module).double()
    (found,) = torch.autograd.grad(in_turn([module], x).square().sum(), [module.weight])
    (wanted,) = torch.autograd.grad(twin(x.double()).square().sum(), [twin.weight])
    assert found.shape == wanted.shape
    assert (found.double() - wanted).norm() <= 1e-5 * wanted.norm()
    assert calls == ["convolve", "convolve_weights"]


def set_later(**values):
    """Torch takes other things, set later, than its layers are made with."""
    module = make(3, 64, 11, 4, 2)
    for name, value in values.items():
        setattr(module, name, value)
    return module


UNKNOWN = {
    "a stride set to a number": (lambda: set_later(stride=4), False),
    "a stride set to one number": (lambda: set_later(stride=(4,)), False),
    "taps set to a number": (lambda: set_later(kernel_size=11), False),
    "more products than half of torch's": (lambda: make(3, 64, 9, 4, 2), False),
    "pictures that want gradients": (lambda: make(3, 64, 11, 4, 2), True),
    "four squares": (lambda: make(3, 64, 7, 2, 3), False),
    "oblong steps": (lambda: make(3, 64, 11, (4, 3), 2), False),
    "few channels": (lambda: make(3, 64, 6, 2, 2), False),
    "channels not in eights": (lambda: make(3, 64, 9, 3, 2), False),
    "dilation": (lambda: make(3, 64, 11, 4, 2, dilation=2), False),
    "groups": (lambda: make(6, 64, 11, 4, 2, groups=2), False),
}


@pytest.mark.parametrize("values", [{"stride": (0, 0)}, {"padding": "same"}], ids=str)
def test_what_torch_refuses_is_refused(values, calls):
    with pytest.raises(RuntimeError):
        in_turn([set_later(**values)], pixels(20, 3, 64, 64))
    assert not calls


@pytest.mark.parametrize("kind", UNKNOWN)
def test_others_are_torchs(kind, calls):
    module, wants = UNKNOWN[kind]
    module = module()
    x = pixels(20, module.in_channels, 64, 64).requires_grad_(wants)
    assert torch.equal(in_turn([module], x), module(x))
    assert not calls
