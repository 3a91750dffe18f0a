import pytest
import torch
from torch import nn

from eyebright.errors import ModelError
from eyebright.layers.norm import LocalResponseNorm


def slow_twin(x: torch.Tensor, size: int, alpha: float, beta: float, k: float, groups: int) -> torch.Tensor:
    """The formula of the paper, one channel after the other, in float64."""
    a, b = x.double(), torch.empty_like(x, dtype=torch.float64)
    within = a.shape[1] // groups
    for group in range(groups):
        for i in range(within):
            total = torch.zeros_like(a[:, 0])
            for j in range(max(0, i - size // 2), min(within - 1, i + size // 2) + 1):
                total += a[:, group * within + j] ** 2
            b[:, group * within + i] = a[:, group * within + i] / (k + alpha * total) ** beta
    return b


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("size", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 2.0), (3, 0.3, 0.5, 1.0), (1, 1.0, 1.0, 1.0)])
def test_equals_slow_twin(groups, size, alpha, beta, k):
    x = torch.randn(2, 12, 5, 3) * 30
    layer = LocalResponseNorm(size, alpha, beta, k, groups)
    expected = slow_twin(x, size, alpha, beta, k, groups)
    torch.testing.assert_close(layer(x.double()), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x), expected.float(), rtol=1e-5, atol=1e-5)


def test_window_wider_than_the_group():
    x = torch.randn(1, 4, 2, 2)
    torch.testing.assert_close(
        LocalResponseNorm(9, groups=2)(x), slow_twin(x, 9, 1e-4, 0.75, 2.0, 2).float(), rtol=1e-5, atol=1e-5
    )


def test_alpha_is_on_the_sum_where_torch_has_it_on_the_mean():
    x = torch.randn(2, 16, 4, 4) * 50
    torch.testing.assert_close(LocalResponseNorm(5, alpha=1e-4)(x), nn.LocalResponseNorm(5, alpha=5e-4, k=2.0)(x))


def test_gradient():
    x = torch.randn(1, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalResponseNorm(3, alpha=0.5, groups=2), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    x = torch.full((1, 8, 2, 2), 1000.0)  # its square is beyond float16
    out = LocalResponseNorm()(x.to(dtype))
    assert out.dtype is dtype
    torch.testing.assert_close(out.float(), LocalResponseNorm()(x), rtol=0.01, atol=0)


def test_autocast():
    x = torch.randn(2, 8, 4, 4) * 20
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = LocalResponseNorm()(x)
    torch.testing.assert_close(out, LocalResponseNorm()(x))


def test_keeps_channels_last():
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    out = LocalResponseNorm(groups=2)(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, LocalResponseNorm(groups=2)(x.contiguous()))


@pytest.mark.parametrize("size", [0, 4, -1])
def test_even_size_is_refused(size):
    with pytest.raises(ModelError, match=f"size of {size} channels\n.*odd number.*\n.*take 5"):
        LocalResponseNorm(size)
