"""Convolutions by transforms beside torch's."""

import copy
import platform

import pytest
import torch
from torch import nn

from eyebright.device import choose_plan
from eyebright.kernels import build, functions
from eyebright.kernels.build import in_use
from eyebright.layers import fused
from eyebright.layers.fused import in_turn

pytestmark = pytest.mark.usefixtures("kernels")

SHAPES = [  # pictures, channels, maps, height, width, taps, padding
    (9, 32, 32, 16, 16, 3, 1),
    (9, 24, 40, 16, 16, 3, 1),  # half a vector
    (9, 56, 24, 12, 11, 5, 2),
    (9, 48, 80, 15, 13, 3, 1),  # half a panel, tiles cut off on both sides
    (40, 64, 32, 10, 10, 3, 0),
    (40, 32, 64, 6, 7, 3, 2),
    (150, 32, 32, 3, 3, 3, 1),
    (9, 32, 48, 14, 11, 5, 2),
    (9, 48, 32, 16, 16, 5, 0),
    (9, 32, 32, 9, 9, 5, 4),
    (3, 256, 112, 28, 28, 3, 1),  # several blocks of tiles
    (8, 256, 120, 16, 16, 3, 1),  # sums of some maps after the other, the last ones eight
]


def maps(*shape, seed=0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(memory_format=torch.channels_last).requires_grad_()


def make(channels, count, taps, padding, layout=torch.channels_last, **options):
    torch.manual_seed(channels + count)
    return nn.Conv2d(channels, count, taps, padding=padding, **options).to(memory_format=layout)


def run(module, x):
    """Output and gradients: of x, weights and bias; by arithmetic in bfloat16 if that is the maps' format."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        y = in_turn([module], x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
    return [y.detach(), *torch.autograd.grad(y, [x, *module.parameters()], weights)]


def run_exactly(module, x):
    return run(copy.deepcopy(module).double(), x.detach().double().requires_grad_())


@pytest.fixture
def products():
    """What multiplies bfloat16, or the test is left out."""
    if not build.has_bfloat16_products():
        pytest.skip("this processor does not multiply bfloat16 here")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def number_format(request):
    """One that these convolutions have here."""
    if request.param == torch.bfloat16:
        request.getfixturevalue("products")
    return request.param


def error(found, exact):
    """In the mean, as a share of the values."""
    return ((found.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_float64_rounded(shape, layout, calls):
    pictures, channels, count, height, width, taps, padding = shape
    module, x = make(channels, count, taps, padding, layout), maps(pictures, channels, height, width)
    found, exact = run(module, x), run_exactly(module, x)
    assert calls == ["convolve", "convolve", "convolve_weights"]
    assert found[2].stride() == module.weight.stride()
    for one, other in zip(found, exact, strict=True):
        assert one.shape == other.shape
        assert one.dim() == 1 or one.is_contiguous(memory_format=torch.channels_last) or layout != torch.channels_last
        assert error(one, other) < 1e-5  # torch's own: 1e-6


PROCESSORS = {"AVX2": "x86-64-v3", "without FMA": "x86-64"}


@pytest.fixture(scope="module", params=PROCESSORS)
def other_processor(request, tmp_path_factory):
    """The kernels as they are compiled for another processor than this one: (its name, library)."""
    if platform.machine() != "x86_64":
        pytest.skip("for other processors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EYEBRIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        flags = [f"-march={PROCESSORS[request.param]}" if flag == "-march=native" else flag for flag in build.FLAGS]
        patch.setattr(build, "FLAGS", flags)
        return request.param, build.load_kernels.__wrapped__()


@pytest.mark.parametrize("shape", SHAPES)
def test_other_processors_compute_the_same(shape, other_processor, monkeypatch):
    pictures, channels, count, height, width, taps, padding = shape
    module, x = make(channels, count, taps, padding), maps(pictures, channels, height, width)
    found, (name, library) = run(module, x), other_processor
    monkeypatch.setattr(functions, "load_kernels", lambda: library)
    others = run(module, x)
    assert library.has_wide_vectors() == (name == "AVX2")
    if name == "AVX2" and build.has_wide_vectors():
        assert all(torch.equal(one, other) for one, other in zip(found, others, strict=True))
    for one, other in zip(others, run_exactly(module, x), strict=True):
        assert error(one, other) < 1e-5


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [*SHAPES, (9, 16, 16, 16, 16, 3, 1), (9, 16, 40, 13, 13, 5, 2)])
def test_in_bfloat16_they_are_off_by_a_hundredth(shape, layout, calls, products):
    pictures, channels, count, height, width, taps, padding = shape
    module, x = make(channels, count, taps, padding, layout), maps(pictures, channels, height, width)
    x = x.detach().bfloat16().requires_grad_()
    found = run(module, x)
    exact = copy.deepcopy(module).double()
    given = x.detach().double().requires_grad_()
    weights = torch.randn(found[0].shape, generator=torch.Generator().manual_seed(2)).bfloat16().double()
    y = exact(given)
    wanted = [y.detach(), *torch.autograd.grad(y, [given, *exact.parameters()], weights)]
    assert calls == ["convolve", "convolve", "convolve_weights"]
    assert [each.dtype for each in found] == 2 * [torch.bfloat16] + 2 * [torch.float32]
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert error(one, other) < 0.015  # torch's own: 0.0024
    # and the errors are not all to one side
    assert abs((found[0].double() - wanted[0]).mean() / wanted[0].std()) < 1e-3


def test_in_bfloat16_weights_keep_their_digits(calls, products):
    module, x = make(32, 32, 3, 1, bias=False), maps(40, 32, 16, 16).detach().bfloat16()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        # rounded now, all would become smaller
        module.weight.copy_(module.weight.bfloat16().float() * (1 + 0.9 * 2**-9))
        y, exact = in_turn([module], x).double(), copy.deepcopy(module).double()(x.double())
    assert (y * exact).sum() / exact.square().sum() == pytest.approx(1, abs=3e-4)
    assert calls == ["convolve"]


def test_processors_without_wide_vectors_have_torchs(calls, monkeypatch):
    monkeypatch.setattr(fused, "has_wide_vectors", lambda: False)
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16).detach()
    assert torch.equal(in_turn([module], x), module(x))
    assert not calls


@pytest.mark.parametrize("tap", range(9))
def test_each_weight_moves_the_map_to_its_own_place(tap, calls):
    module = make(32, 32, 3, 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
        for channel in range(32):
            module.weight[(channel + 5) % 32, channel, tap // 3, tap % 3] = 1.0
    x = maps(9, 32, 18, 17)
    moved = torch.roll(nn.functional.pad(x.detach(), (1, 1, 1, 1)), (1 - tap // 3, 1 - tap % 3), (2, 3))[
        ..., 1:-1, 1:-1
    ]
    assert torch.allclose(in_turn([module], x).detach(), moved.roll(5, 1), atol=1e-4)
    assert calls == ["convolve"]


@pytest.mark.parametrize("shape", [(9, 64, 96, 23, 21), (3, 256, 112, 28, 28), (8, 256, 120, 16, 16)])
def test_one_thread_and_several_give_the_same_bits(shape, number_format, calls):
    pictures, channels, count, height, width = shape
    module, before = make(channels, count, 3, 1), torch.get_num_threads()
    x = maps(pictures, channels, height, width).detach().to(number_format).requires_grad_()
    found = []
    try:
        for threads in (1, 2, 3, 40):
            torch.set_num_threads(threads)
            found.append(run(module, x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for few in found[1:] for one, other in zip(found[0], few, strict=True))
    assert calls == 4 * ["convolve", "convolve", "convolve_weights"]


def test_a_picture_does_not_depend_on_its_neighbours(calls):
    module, x = make(32, 32, 3, 1), maps(30, 32, 12, 12).detach()
    assert torch.equal(in_turn([module], x)[7:27], in_turn([module], x[7:27].clone(memory_format=torch.channels_last)))
    assert calls == ["convolve"] * 2


@pytest.mark.parametrize("frozen", ["weight", "bias", "x"])
def test_what_is_frozen_gets_no_gradient(frozen, calls):
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16)
    given = {"x": x, "weight": module.weight, "bias": module.bias}
    given[frozen].requires_grad_(False)
    in_turn([module], x).sum().backward()
    assert [name for name, value in given.items() if value.grad is None] == [frozen]
    assert calls.count("convolve_weights") == (frozen != "weight")
    assert calls.count("convolve") == 1 + (frozen != "x")


@pytest.mark.parametrize("layout", ["channels last", "contiguous", "spread out", "every other"])
def test_gradients_of_any_layout_are_taken(layout, calls):
    module, x = make(32, 32, 3, 1, bias=False), maps(9, 32, 16, 16)
    y, exact = in_turn([module], x), copy.deepcopy(module).double()
    gradient = {
        "channels last": torch.randn_like(y), "contiguous": torch.randn(y.shape),
        "spread out": torch.tensor(1.0).expand_as(y), "every other": torch.randn(9, 32, 16, 32)[..., ::2],
    }[layout]  # fmt: skip
    given = x.detach().double().requires_grad_()
    found = torch.autograd.grad(y, [x, module.weight], gradient)
    wanted = torch.autograd.grad(exact(given), [given, exact.weight], gradient.double())
    assert all(error(one, other) < 1e-5 for one, other in zip(found, wanted, strict=True))
    assert calls == ["convolve", "convolve", "convolve_weights"]


def test_saved_maps_may_come_back_in_another_layout(calls):
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16)
    layers = [module, nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
    found = torch.autograd.grad(in_turn(layers, x).square().sum(), [x, module.weight])
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: kept, lambda kept: kept.contiguous()):
        others = torch.autograd.grad(in_turn(layers, x).square().sum(), [x, module.weight])
    assert all(torch.equal(one, other) for one, other in zip(found, others, strict=True))
    assert calls.count("convolve_weights") == 2


def test_the_usual_number_format_and_device_do_not_matter(calls):
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16)
    layers = [module, nn.MaxPool2d(2)]
    y = in_turn(layers, x)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            other = in_turn(layers, x)
            (gradient,) = torch.autograd.grad(other, [x], torch.ones_like(y, device="cpu"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert other.dtype == gradient.dtype == torch.float32
    assert torch.equal(y, other)
    assert calls[:2] == calls[2:4] == ["convolve", "pool"]


def test_one_layer_may_be_used_twice():
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16)
    found = torch.autograd.grad(in_turn([module, module], x).sum(), [x, *module.parameters()])
    exact = copy.deepcopy(module).double()
    given = x.detach().double().requires_grad_()
    wanted = torch.autograd.grad(exact(exact(given)).sum(), [given, *exact.parameters()])
    assert all(error(one, other) < 1e-5 for one, other in zip(found, wanted, strict=True))


def test_second_derivatives_are_refused():
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16)
    (gradient,) = torch.autograd.grad(in_turn([module], x).square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_what_is_not_a_number_stays_so(number_format, calls):
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16).detach().to(number_format)
    x[3, 5, 6, 7] = float("nan")
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=number_format == torch.bfloat16):
        y = in_turn([module], x)
    assert y[3, :, 5:8, 6:9].isnan().all()
    assert not y[:3].isnan().any()
    assert not y[4:].isnan().any()
    assert calls == ["convolve"]


def set_padding(value):
    """Torch takes other things, set later, than its layers are made with."""
    module = make(32, 32, 3, 1)
    module.padding = value
    return module


UNKNOWN = {
    "evaluation": lambda: make(32, 32, 3, 1).eval(),
    "stride": lambda: make(32, 32, 3, 1, stride=2),
    "dilation": lambda: make(32, 32, 3, 1, dilation=2),
    "groups": lambda: make(32, 32, 3, 1, groups=2),
    "padding of another kind": lambda: make(32, 32, 3, 1, padding_mode="reflect"),
    "oblong": lambda: make(32, 32, (3, 5), (1, 2)),
    "padding that differs": lambda: make(32, 32, 3, (1, 0)),
    "more padding than taps": lambda: make(32, 32, 3, 3),
    "7×7": lambda: make(32, 32, 7, 3),
    "1×1": lambda: make(32, 32, 1, 0),
    "padding set to a number": lambda: set_padding(1),
    "padding set to one number": lambda: set_padding((1,)),
    "an even side": lambda: make(32, 32, 4, "same"),
    "few maps": lambda: make(32, 16, 3, 1),
    "few channels": lambda: make(16, 32, 3, 1),
    "maps not in eights": lambda: make(32, 36, 3, 1),
    "channels not in eights": lambda: make(36, 32, 3, 1),
    "float64": lambda: make(32, 32, 3, 1).double(),
}


@pytest.mark.filterwarnings("ignore:Using padding=.same.")
@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_they_do_not_know_torch_does(kind, calls):
    module = UNKNOWN[kind]()
    x = maps(9, module.in_channels, 16, 16).detach().to(module.weight.dtype)
    assert torch.equal(in_turn([module], x), module(x))
    assert not calls


def test_contiguous_maps_are_torchs(calls):
    module, x = make(32, 32, 3, 1), torch.randn(9, 32, 16, 16)
    assert torch.equal(in_turn([module], x), module(x))
    assert not calls


def test_hooks_see_the_convolution(calls):
    module, x, seen = make(32, 32, 3, 1), maps(9, 32, 16, 16), []
    module.register_forward_hook(lambda module, given, y: seen.append(y))
    y = in_turn([module], x)
    assert seen[0] is y
    assert not calls


@pytest.mark.parametrize("shape", [(1, 32, 16, 16), (200, 32, 2, 2), (200, 32, 1, 16)])
def test_small_maps_are_torchs(shape, calls):
    module, x = make(32, 32, 3, 1), maps(*shape).detach()
    assert torch.equal(in_turn([module], x), module(x))
    assert not calls


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_may_be_named(padding, calls):
    module, x = make(32, 32, 5, padding), maps(9, 32, 16, 16).detach()
    assert torch.allclose(in_turn([module], x), module(x), atol=1e-5)
    assert calls == ["convolve"]


@pytest.mark.parametrize("x", [torch.randn(9, 48, 16, 16), torch.randn(9, 32, 2, 1)], ids=["channels", "too small"])
def test_what_torch_refuses_is_refused(x, calls):
    with pytest.raises(RuntimeError):
        in_turn([make(32, 32, 3, 0)], x.to(memory_format=torch.channels_last))
    assert not calls


def test_where_nothing_multiplies_bfloat16_torch_does(calls, monkeypatch):
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16)
    monkeypatch.setattr(fused, "has_bfloat16_products", lambda: False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert in_turn([module], x.bfloat16()).dtype == torch.bfloat16
    assert "convolve" not in calls


def test_maps_in_another_format_than_the_arithmetic_are_torchs(calls):
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(in_turn([module], x), module(x))
    with torch.autocast("cpu", dtype=torch.float16):
        assert in_turn([module], x.bfloat16()).dtype == torch.float16
    assert in_turn([module.bfloat16()], x.bfloat16()).dtype == torch.bfloat16
    assert "convolve" not in calls


def test_a_plan_without_kernels_has_torchs(calls):
    module, x = make(32, 32, 3, 1), maps(9, 32, 16, 16).detach()
    with choose_plan("cpu", training=False).arithmetic():
        assert torch.equal(in_turn([module], x), module(x))
    assert not calls
    assert in_use.get()


def test_least_tiles_is_what_decides(calls, monkeypatch):
    module, x = make(32, 32, 3, 1), maps(2, 32, 16, 16).detach()
    monkeypatch.setattr(fused, "LEAST_TILES", 33)
    in_turn([module], x)
    assert not calls
    monkeypatch.setattr(fused, "LEAST_TILES", 32)
    in_turn([module], x)
    assert calls == ["convolve"]
