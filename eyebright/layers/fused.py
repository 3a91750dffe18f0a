"""Layers applied one after the other; in training on a processor, those that read the same memory as one kernel.

The twin of every kernel is the plain call of the modules, which is what happens wherever kernels are not in use.
Kernels have first derivatives only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from eyebright.kernels.build import in_use, load_kernels

CHANNELS_LAST = torch.channels_last
_KINDS: dict[type[nn.Module] | None, int] = {None: 0, nn.ReLU: 1, nn.GELU: 2}  # as kernels.cpp counts them


def in_a_row(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Modules one after the other, those in sequences too."""
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from in_a_row(module)
        else:
            yield module


def in_turn(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    """What modules make of `x`, applied one after the other.

    Where kernels are in use, batch normalisation and the ReLU or GELU after it are one sweep over memory, max-pools
    keep a byte for each value that they give, and dropout draws its chances while it copies. A module that has hooks is
    called by itself, so the hooks see what they expect; what is within it is then torch's too.
    """
    if not _take_kernels():
        for module in modules:
            x = module(x)
        return x
    waiting = [*modules][::-1]
    while waiting:
        module = waiting.pop()
        if type(module) is nn.Sequential and not _has_hooks(module):
            waiting += [*module][::-1]
        elif _fits(module, x):
            following = waiting.pop() if waiting and _kind(waiting[-1]) is not None else None
            x = _Normalise.apply(x, None, module.weight, module.bias, module, following)  # type: ignore[no-untyped-call]
        elif type(module) is nn.Dropout and _can_drop(module, x):
            x = _Drop.apply(x, module.p)  # type: ignore[no-untyped-call]
        elif type(module) is nn.MaxPool2d and _can_pool(module, x):
            x = _Pool.apply(x, module)  # type: ignore[no-untyped-call]
        elif type(module) is nn.AdaptiveAvgPool2d and _is_usual(module, x) and x.shape[2:] == (1, 1):
            size = module.output_size
            height, width = size if isinstance(size, tuple) else (size, size)
            copies = x.expand(-1, -1, height or 1, width or 1)  # the mean of a single value
            x = copies.clone(memory_format=torch.contiguous_format)
        else:
            x = module(x)
    return x


def add_and_activate(norm: nn.Module, activation: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """``activation(norm(x) + residual)``, all `[N, C, H, W]`; one sweep over memory where kernels are in use."""
    alike = type(residual) is Tensor and residual.shape == x.shape and residual.dtype == x.dtype
    if not (_take_kernels() and alike and residual.device == x.device and _fits(norm, x)):
        return cast(Tensor, activation(norm(x) + residual))
    following = activation if _kind(activation) is not None else None
    residual = residual.contiguous(memory_format=CHANNELS_LAST)
    y: Tensor = _Normalise.apply(x, residual, norm.weight, norm.bias, norm, following)  # type: ignore[no-untyped-call]
    return y if following else cast(Tensor, activation(y))


def _take_kernels() -> bool:
    if torch.compiler.is_compiling() or not in_use.get():
        return False
    return not nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _kind(activation: nn.Module) -> int | None:
    """The number of an activation that the kernels know."""
    exact = getattr(activation, "approximate", "none") == "none"
    return _KINDS.get(type(activation)) if exact and not _has_hooks(activation) else None


def _is_usual(module: nn.Module, x: Tensor) -> bool:
    """Whether a module without hooks is in training, and `x`, 2- or 4-dimensional, is one that the kernels take."""
    return (
        module.training
        and not _has_hooks(module)
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and (x.is_contiguous(memory_format=CHANNELS_LAST) if x.dim() == 4 else x.dim() == 2 and x.is_contiguous())
    )


def _fits(module: nn.Module, x: Tensor) -> bool:
    """Whether a module is batch normalisation that the kernels know."""
    if type(module) is not nn.BatchNorm2d or not _is_usual(module, x) or x.dim() != 4 or module.momentum is None:
        return False
    channels = x.shape[1]
    return (
        channels == module.num_features
        and x.numel() >= 2 * channels
        and module.num_batches_tracked is not None
        and all(_is_line(value, channels) for value in (module.weight, module.bias))
        and all(_is_line(value, channels) for value in (module.running_mean, module.running_var))
    )


def _is_line(value: Tensor | None, length: int) -> bool:
    return (
        value is not None
        and type(value) in (Tensor, nn.Parameter)
        and (value.device.type, value.dtype, tuple(value.shape)) == ("cpu", torch.float32, (length,))
        and value.is_contiguous()
    )


def _can_pool(module: nn.MaxPool2d, x: Tensor) -> bool:
    """Whether a pool has square windows of which a byte can number the values."""
    given = (module.kernel_size, module.stride, module.padding)
    if not _is_usual(module, x) or x.dim() != 4 or not all(type(value) is int for value in given):
        return False
    kernel, stride, padding = cast(tuple[int, int, int], given)
    return (
        0 <= 2 * padding <= kernel <= min(15, min(x.shape[2:]) + 2 * padding)
        and min(kernel, stride) >= 1
        and module.dilation == 1
        and not module.return_indices
    )


def _can_drop(module: nn.Dropout, x: Tensor) -> bool:
    return 0 < module.p < 1 and not module.inplace and _is_usual(module, x)


def _call(name: str, x: Tensor, *given: Any) -> None:
    """Runs a kernel for the number format of `x`; tensors go as their addresses, None as no address."""
    values = [value.data_ptr() if isinstance(value, Tensor) else value for value in given]
    function = getattr(load_kernels(), f"{name}_{str(x.dtype).removeprefix('torch.')}")
    function(*values, torch.get_num_threads())


class _Normalise(torch.autograd.Function):
    """Batch normalisation by the batch's own statistics, a residual added to it, and the activation after that."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d,
        activation: nn.Module | None,
    ) -> Tensor:  # fmt: skip
        ctx.kind = _KINDS[type(activation) if activation else None]
        y = torch.empty_like(x, memory_format=CHANNELS_LAST)
        mean, spread = torch.empty_like(weight), torch.empty_like(weight)
        channels = x.shape[1]
        cast(Tensor, norm.num_batches_tracked).add_(1)
        _call(
            "forward", x, ctx.kind, x, residual, weight, bias, norm.running_mean, norm.running_var, y, mean, spread,
            x.numel() // channels, channels, norm.eps, norm.momentum,
        )  # fmt: skip
        ctx.save_for_backward(x, residual, weight, bias, mean, spread)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, residual, weight, bias, mean, spread = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        of_x = torch.empty_like(x, memory_format=CHANNELS_LAST)
        of_residual = None if residual is None else torch.empty_like(residual, memory_format=CHANNELS_LAST)
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(bias)
        channels = x.shape[1]
        _call(
            "backward", x, ctx.kind, gradient, x, residual, weight, bias, mean, spread, of_x, of_residual, of_weight,
            of_bias, x.numel() // channels, channels,
        )  # fmt: skip
        return of_x, of_residual, of_weight, of_bias, None, None


class _Pool(torch.autograd.Function):
    """The largest value of each window; which one that was is kept in a byte, and the map itself is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.MaxPool2d) -> Tensor:
        kernel, stride, padding = cast(int, module.kernel_size), cast(int, module.stride), cast(int, module.padding)
        images, channels, *sides = x.shape
        windows = [_count_windows(side, kernel, stride, padding, module.ceil_mode) for side in sides]
        y = torch.empty((images, channels, *windows), dtype=x.dtype, memory_format=CHANNELS_LAST)
        place = torch.empty_like(y, dtype=torch.uint8, memory_format=CHANNELS_LAST)
        ctx.given = (images, *sides, channels, *windows, kernel, stride, padding)
        _call("pool", x, x, y, place, *ctx.given)
        ctx.save_for_backward(place)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (place,) = ctx.saved_tensors
        images, height, width, channels = ctx.given[:4]
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        of_x = torch.empty((images, channels, height, width), dtype=gradient.dtype, memory_format=CHANNELS_LAST)
        _call("unpool", gradient, gradient, place, of_x, *ctx.given)
        return of_x, None


def _count_windows(side: int, kernel: int, stride: int, padding: int, upwards: bool) -> int:
    """How many windows fit; rounded upwards, a last one may hang over, but has to begin within side and padding."""
    spare = side + 2 * padding - kernel
    if not upwards:
        return spare // stride + 1
    count = -(-spare // stride) + 1
    return count if (count - 1) * stride < side + padding else count - 1


class _Drop(torch.autograd.Function):
    """Dropout: the seed is drawn from torch's generator, the rest from the seed, so no mask is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        low, high = torch.randint(2**32, (2,)).tolist()
        ctx.layout = CHANNELS_LAST if x.dim() == 4 else torch.contiguous_format
        ctx.given = (low, high, min(round(rate * 2**32), 2**32 - 1), 1 / (1 - rate))
        y = torch.empty_like(x, memory_format=ctx.layout)
        _call("drop", x, x, y, x.numel(), *ctx.given)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous(memory_format=ctx.layout)
        of_x = torch.empty_like(gradient, memory_format=ctx.layout)
        _call("drop", gradient, gradient, of_x, gradient.numel(), *ctx.given)
        return of_x, None
