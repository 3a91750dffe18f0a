"""Kernels beside their plain twins."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyebright.device import choose_plan
from eyebright.kernels.build import has_bfloat16_products, in_use
from eyebright.layers import fused
from eyebright.layers.fused import add_and_activate, in_turn
from eyebright.models.create import create_model

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU}
SHAPES = [(2, 1, 1, 1), (2, 3, 5, 7), (8, 16, 9, 9), (3, 257, 4, 4), (70, 300, 1, 1), (5, 128, 13, 3), (1, 2, 1, 2)]


pytestmark = pytest.mark.usefixtures("kernels")


def maps(shape, number_format=torch.float32, seed=0, mean=0.0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + mean
    return values.to(number_format).to(memory_format=torch.channels_last).requires_grad_()


def make_norm(channels):
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.3)
    generator = torch.Generator().manual_seed(channels)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(channels, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(channels, generator=generator))
        norm.running_mean.normal_(generator=generator)
    return norm


def run(norm, activation, x, residual, number_format=None):
    """Output, gradients and statistics; in float64 by torch where a number format is given."""
    if number_format is not None:
        norm = copy.deepcopy(norm).double()
        x, residual = (v if v is None else v.detach().double().requires_grad_() for v in (x, residual))
        token = in_use.set(False)
    y = in_turn((norm, activation), x) if residual is None else add_and_activate(norm, activation, x, residual)
    if number_format is not None:
        in_use.reset(token)
    weights = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    given = [x, norm.weight, norm.bias] + ([] if residual is None else [residual])
    gradients = torch.autograd.grad(y, given, weights)
    return [y.detach(), *gradients, norm.running_mean, norm.running_var, norm.num_batches_tracked]


def assert_near(found, wanted, tolerance):
    for one, other in zip(found, wanted, strict=True):
        scale = max(other.abs().max().item(), 1.0)  # two values, normalised, are ±1: of their gradient noise is left
        assert (one.double() - other).abs().max().item() <= tolerance * scale


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_residual", [False, True])
def test_float32_is_as_near_to_float64_as_torch_is(shape, activation, with_residual, calls):
    x, residual = maps(shape), maps(shape, seed=1) if with_residual else None
    norm, layer = make_norm(shape[1]), ACTIVATIONS[activation]()
    wanted = run(norm, layer, x, residual, torch.float64)
    assert not calls
    found = run(norm, layer, x, residual)
    assert calls == ["forward", "backward"]
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert_near(found, wanted, 2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_residual", [False, True])
def test_bfloat16_is_float32_rounded(activation, with_residual, calls):
    """Up to values that rounding puts on the other side of zero: inputs are the same, so there are none."""
    shape = (8, 24, 9, 9)
    x = maps(shape, torch.bfloat16)
    residual = maps(shape, torch.bfloat16, seed=1) if with_residual else None
    norm, layer = make_norm(24), ACTIVATIONS[activation]()
    wide = [v if v is None else v.detach().float().requires_grad_() for v in (x, residual)]
    wanted = run(copy.deepcopy(norm), layer, *wide)
    found = run(norm, layer, x, residual)
    assert found[0].dtype == torch.bfloat16
    assert calls == ["forward", "backward"] * 2
    assert_near(found[:1], [value.double() for value in wanted[:1]], 2**-8)
    assert_near(found[1:], [value.double() for value in wanted[1:]], 2e-2)


def test_statistics_keep_their_digits_where_the_mean_is_large():
    x, norm = maps((16, 8, 12, 12), mean=3000.0), make_norm(8)
    wanted, found = (run(norm, nn.ReLU(), x, None, form) for form in (torch.float64, None))
    assert_near(found[:1], wanted[:1], 1e-3)
    assert_near(found[4:6], wanted[4:6], 1e-5)


UNUSUAL = {  # maps whose first pixels, or few of all, are not like the others
    "one value": lambda x: x.zero_()[0, :, 0, 0].fill_(0.7),
    "corners": lambda x: x.zero_()[:, :, 0, 0].normal_(),
    "sparse": lambda x: x.copy_((x - 3.2).relu())[0, :, 0, 0].fill_(2.0),
    "a large value": lambda x: x[1, :, 5, 5].fill_(1e4),
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("shape", [(8, 16, 56, 56), (2, 300, 28, 28)])
def test_statistics_keep_their_digits_where_pixels_are_unusual(change, shape):
    x = maps(shape).detach()
    change(x)
    norm = nn.BatchNorm2d(shape[1], momentum=1.0)
    in_turn([norm], x)
    variance, mean = torch.var_mean(x.double(), (0, 2, 3))
    assert torch.allclose(norm.running_var.double(), variance, rtol=2e-3)
    assert torch.allclose(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()])
def test_one_thread_and_two_give_the_same_bits(number_format, activation, monkeypatch):
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        torch.manual_seed(0)
        x, residual = maps((9, 40, 17, 17), number_format), maps((9, 40, 17, 17), number_format, seed=1)
        found.append([*run(make_norm(40), activation, x, residual), in_turn([nn.Dropout(0.3)], x.detach())])
        y = in_turn([nn.MaxPool2d(3, 2)], x)
        found[-1] += [y, *torch.autograd.grad(y.float().square().sum(), [x])]
    assert all(torch.equal(one, other) for few in found[1:] for one, other in zip(found[0], few, strict=True))


def test_an_infinite_gradient_stops_where_the_relu_was_off():
    x, norm = maps((4, 8, 6, 6)), make_norm(8)
    y = in_turn([norm, nn.ReLU()], x)
    off = (y == 0).nonzero()[0]
    gradient = torch.ones_like(y)
    gradient[tuple(off)] = float("inf")
    y.backward(gradient)
    assert x.grad.isfinite().all()


def test_what_is_not_a_number_stays_so():
    x = maps((4, 8, 3, 3)).detach()
    x[0, 3, 0, 0] = float("nan")
    y = in_turn([make_norm(8), nn.ReLU()], x)
    assert y[:, 3].isnan().all()
    assert y.isnan().sum() == 4 * 9


def test_frozen_scales_get_no_gradient(calls):
    norm, x = make_norm(8), maps((4, 8, 3, 3))
    norm.weight.requires_grad_(False)
    in_turn([norm, nn.GELU()], x).sum().backward()
    assert norm.weight.grad is None
    assert norm.bias.grad is not None
    assert x.grad is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda norm: norm.eval(),
        lambda norm: setattr(norm, "momentum", None),
        lambda norm: norm.register_forward_hook(lambda *given: None),
        lambda norm: norm.register_full_backward_hook(lambda *given: None),
        lambda norm: setattr(norm, "weight", nn.Parameter(torch.arange(16.0)[::2])),
        lambda norm: norm.register_parameter("bias", None),
        lambda norm: (norm.register_buffer("running_mean", None), norm.register_buffer("running_var", None)),
    ],
    ids=["evaluation", "momentum", "hook", "backward hook", "strided weight", "no bias", "no statistics"],
)
def test_what_the_kernels_do_not_know_torch_does(change, calls):
    norm, other = make_norm(8), make_norm(8)
    change(norm), change(other)
    x = maps((4, 8, 3, 3))
    assert torch.equal(in_turn([norm, nn.ReLU()], x), F.relu(other(x)))
    assert torch.equal(add_and_activate(norm, nn.ReLU(), x, x), F.relu(other(x) + x))
    assert not calls


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(4, 8, 3, 3),
        torch.randn(4, 8, 3, 3, dtype=torch.float64).to(memory_format=torch.channels_last),
        torch.randn(4, 8, 3, 3, device="meta").to(memory_format=torch.channels_last),
    ],
    ids=["layout", "number format", "device"],
)
def test_tensors_the_kernels_do_not_know_torch_takes(x, calls):
    norm = make_norm(8).to(x.device, x.dtype)
    assert in_turn([norm, nn.ReLU()], x).shape == x.shape
    assert not calls


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (4, 1, 6, 6)])
def test_residuals_are_spread_out_as_torch_does(shape, calls):
    x, residual = maps((4, 8, 6, 6)), maps(shape, seed=1)
    found = add_and_activate(make_norm(8), nn.ReLU(), x, residual)
    assert torch.equal(found, F.relu(make_norm(8)(x) + residual))
    assert not calls
    with pytest.raises(RuntimeError):
        add_and_activate(make_norm(8), nn.ReLU(), x, maps((4, 8, 5, 6)))


def test_hooks_for_all_modules_see_all_modules(calls):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, given, y: seen.append(type(module)))
    in_turn([nn.Sequential(make_norm(8), nn.ReLU()), nn.Dropout(0.5), nn.MaxPool2d(2)], maps((4, 8, 6, 6)))
    handle.remove()
    assert seen == [nn.BatchNorm2d, nn.ReLU, nn.Sequential, nn.Dropout, nn.MaxPool2d]
    assert not calls


def test_what_comes_after_a_pool_of_single_values_may_work_in_place():
    x = maps((3, 8, 1, 1)).detach()
    before = x.clone()
    for size in (1, 6):
        in_turn([nn.AdaptiveAvgPool2d(size), nn.ReLU(inplace=True)], x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("x", [torch.randn(4, 6, 3, 3), torch.randn(4, 8), torch.randn(1, 8, 1, 1)])
def test_what_torch_refuses_is_refused(x, calls):
    with pytest.raises((RuntimeError, ValueError)):
        in_turn([make_norm(8), nn.ReLU()], x.to(memory_format=torch.channels_last) if x.dim() == 4 else x)
    assert not calls


def test_hooks_see_what_they_would_see_without_kernels(calls):
    seen = []
    layers = nn.Sequential(nn.Sequential(make_norm(8), nn.ReLU()), nn.Dropout(0.5))
    layers[0][1].register_forward_hook(lambda module, given, y: seen.append((given[0], y)))
    layers[1].register_forward_hook(lambda module, given, y: seen.append((given[0], y)))
    in_turn([layers], maps((4, 8, 3, 3)))
    (before, after), (whole, dropped) = seen
    assert (before < 0).any()
    assert torch.equal(after, before.relu())
    assert torch.equal(whole, after)
    assert torch.equal(dropped[dropped != 0], 2 * whole[dropped != 0])
    assert calls == ["forward"]  # the normalisation has no hook


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU(approximate="tanh"), nn.Sequential(nn.ReLU(), nn.Tanh())])
def test_other_activations_come_after_the_sweep(activation, calls):
    x, norm = maps((4, 8, 3, 3)), make_norm(8)
    for residual in (None, maps((4, 8, 3, 3), seed=1)):
        found, wanted = run(norm, activation, x, residual), run(make_norm(8), activation, x, residual, torch.float64)
        assert_near(found[:4], wanted[:4], 2e-5)
    assert calls == ["forward", "backward"] * 2


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_share_it_should(rate, number_format, calls):
    x = torch.full((1000, 1000), 2.0, dtype=number_format, requires_grad=True)
    torch.manual_seed(1)
    y = in_turn([nn.Dropout(rate)], x)
    kept = (y != 0).float()
    assert kept.mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / 1e6) ** 0.5)
    assert set(y.detach().unique().tolist()) == {0.0, torch.tensor(2 / (1 - rate)).to(number_format).item()}
    y.sum().backward()
    assert torch.equal(x.grad != 0, y != 0)  # the same ones, without a mask
    spread = (rate * (1 - rate) / 1000) ** 0.5
    for direction in (0, 1):  # rows and columns are no more alike than chance has it
        assert (kept.mean(direction) - (1 - rate)).abs().max() < 5 * spread
    for step in (1, 2, 16, 1000):
        pairs = torch.stack([kept.flatten()[step:], kept.flatten()[:-step]])
        assert torch.corrcoef(pairs)[0, 1].abs() < 5e-3
    assert calls == ["drop", "drop"]


def test_dropout_is_drawn_anew_each_time_and_again_from_the_same_seed(calls):
    x = torch.ones(64, 4096)
    torch.manual_seed(5)
    first, second = (in_turn([nn.Dropout(0.5)], x) for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(in_turn([nn.Dropout(0.5)], x), first)
    assert torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].abs() < 0.01
    assert torch.equal(in_turn([nn.Dropout(0.5).eval(), nn.Dropout(0.0)], x), x)
    assert not in_turn([nn.Dropout(1.0)], x).any()
    assert len(calls) == 3


def test_dropout_of_maps_goes_back_the_way_it_came():
    x = maps((4, 8, 5, 5))
    y = in_turn([nn.Dropout(0.5)], x)
    y.backward(torch.ones(4, 8, 5, 5))  # in the other layout
    assert torch.equal(x.grad != 0, y != 0)
    holes = torch.randn(8, 8)[:, ::2]
    assert in_turn([nn.Dropout(0.5)], holes).shape == (8, 4)


POOLS = [  # kernel, stride, padding, ceil_mode, sides
    (2, 2, 0, False, (8, 8)), (2, 2, 0, False, (31, 7)), (2, 2, 0, True, (31, 7)), (3, 2, 1, False, (15, 16)),
    (3, 2, 0, True, (14, 13)), (3, 1, 1, False, (6, 5)), (3, 2, 0, False, (13, 3)), (2, 3, 1, True, (9, 8)),
    (3, 3, 1, True, (3, 4)), (5, 3, 2, False, (17, 4)), (1, 2, 0, False, (5, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil_mode", "sides"), POOLS)
@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
def test_max_pools_are_torchs_to_the_last_bit(kernel, stride, padding, ceil_mode, sides, number_format, calls):
    """With ties, of which the first counts; and where windows overlap, up to the order of sums."""
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    for channels in (1, 3, 64, 70):
        x = maps((3, channels, *sides), number_format)
        with torch.no_grad():
            x.copy_((2 * x).round() / 2 - 4)  # negative too: what lies outside is no zero
        y, wanted = in_turn([pool], x), pool(x)
        assert torch.equal(y, wanted)
        assert y.is_contiguous(memory_format=torch.channels_last)
        weights = maps(y.shape, number_format, seed=1).detach().round()  # sums of whole numbers are exact
        (mine,), (theirs,) = (torch.autograd.grad(out, [x], weights) for out in (y, wanted))
        assert torch.equal(mine, theirs)
    assert calls == ["pool", "unpool"] * 4


def test_max_pools_pass_on_what_is_not_a_number():
    x = maps((2, 8, 6, 6)).detach()
    x[1, 3, 2, 2] = float("nan")
    pool = nn.MaxPool2d(2)
    assert torch.equal(in_turn([pool], x).isnan(), pool(x).isnan())


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(2, dilation=2), nn.MaxPool2d((2, 3)), nn.MaxPool2d(16), nn.MaxPool2d(2).eval()],
    ids=["dilation", "oblong", "large", "evaluation"],
)
def test_pools_that_the_kernels_do_not_know_torch_does(pool, calls):
    x = maps((2, 4, 20, 20)).detach()
    assert torch.equal(in_turn([pool], x), pool(x))
    assert not calls
    for wrong in (nn.MaxPool2d(2, padding=-1), nn.MaxPool2d(2, padding=2), nn.MaxPool2d(30)):
        with pytest.raises(RuntimeError):
            in_turn([wrong], x)
    assert not calls


def test_a_pool_of_single_values_copies_them():
    x = maps((3, 8, 1, 1))
    for size in (6, (2, None), (None, 3)):
        pool = nn.AdaptiveAvgPool2d(size)
        found = in_turn([pool, nn.Flatten()], x)
        assert torch.equal(found, pool(x).flatten(1))
        weights = torch.randn(found.shape)
        (mine,), (theirs,) = (torch.autograd.grad(y, [x], weights) for y in (found, pool(x).flatten(1)))
        assert torch.allclose(mine, theirs, atol=1e-6)


NETWORKS = {  # the number of normalisations that are sweeps of ours, and of convolutions by transforms
    "resnet20_cifar": (19, 10), "plain20_cifar": (19, 10), "resnet18": (20, 10), "airbench": (6, 6), "vgg11_bn": (8, 7),
    "inception_v2": (69, 21), "cnn_cifar": (7, 6), "alexnet": (0, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_have_the_gradients_they_have_without(name, calls, monkeypatch):
    monkeypatch.setattr(fused, "LEAST_TILES", 1)
    options = {"dropout": 0.0} if name in ("alexnet", "vgg11_bn", "cnn_cifar") else {}
    model = create_model(name, num_classes=3, seed=0, **options).to(memory_format=torch.channels_last).train()
    twin = copy.deepcopy(model).double()
    x = maps((16, model.in_channels, 64, 64)).detach()
    labels = torch.arange(16) % 3
    plan = choose_plan("cpu", "float32")
    with plan.arithmetic():
        F.cross_entropy(model(x), labels).backward()
    assert calls.count("forward") == calls.count("backward") == NETWORKS[name][0]
    assert calls.count("convolve_weights") == NETWORKS[name][1]
    in_use.set(False)
    F.cross_entropy(twin(x.double()), labels).backward()
    for (where, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        if one.requires_grad:
            assert (one.grad - other.grad).norm() <= 0.05 * other.grad.norm() + 1e-4, where
    for (where, one), other in zip(model.named_buffers(), twin.buffers(), strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-4), where


def test_in_bfloat16_gradients_of_whole_networks_are_hardly_further_off_than_torchs(calls):
    if not has_bfloat16_products():
        pytest.skip("this processor does not multiply bfloat16 here")
    x = F.avg_pool2d(maps((64, 3, 32, 32)).detach(), 3, 1, 1).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(64) % 10
    plan = choose_plan("cpu", "bfloat16")
    torchs = replace(plan, kernels="torch")
    for name in ("resnet20_cifar", "airbench"):
        model = create_model(name, num_classes=10, seed=0).to(memory_format=torch.channels_last).train()
        gradients = []
        for arithmetic in (plan, torchs, replace(torchs, number_format="float32")):
            model.zero_grad()
            with arithmetic.arithmetic():
                F.cross_entropy(model(x).float(), labels).backward()
            gradients.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))
        own, other, exact = gradients
        assert (own - exact).norm() < 2 * (other - exact).norm() < 0.5 * exact.norm()
    assert calls.count("convolve_weights") > 10
