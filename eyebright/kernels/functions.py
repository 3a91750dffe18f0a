"""What compiled kernels compute, as functions that autograd knows; they have first derivatives only.

Whoever calls them has made sure that kernels are loaded and that the tensors are as they expect: on the CPU, maps
`[N, C, H, W]` with the channels of a pixel side by side in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from eyebright.kernels.build import load_kernels

CHANNELS_LAST = torch.channels_last


def _call(name: str, x: Tensor, *given: Any) -> None:
    """Runs a kernel for the number format of `x`; tensors go as their addresses, None as no address."""
    values = [value.data_ptr() if isinstance(value, Tensor) else value for value in given]
    function = getattr(load_kernels(), f"{name}_{str(x.dtype).removeprefix('torch.')}")
    if function(*values, torch.get_num_threads()):
        raise MemoryError(f"{name}: there is not enough memory beside a map of {tuple(x.shape)}")


def _saved_maps(saved: tuple[Tensor | None, ...]) -> list[Any]:
    """Saved maps with the channels of a pixel side by side, as they were: hooks on saved tensors may change that."""
    return [each if each is None else each.contiguous(memory_format=CHANNELS_LAST) for each in saved]


class Normalise(torch.autograd.Function):
    """Batch normalisation by the batch's own statistics, a residual added to it, and the activation after that."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d,
        activation: int,
    ) -> Tensor:  # fmt: skip
        ctx.activation = activation
        y = torch.empty_like(x, memory_format=CHANNELS_LAST)
        mean, spread = torch.empty_like(weight), torch.empty_like(weight)
        channels = x.shape[1]
        cast(Tensor, norm.num_batches_tracked).add_(1)
        _call(
            "forward", x, activation, x, residual, weight, bias, norm.running_mean, norm.running_var, y, mean, spread,
            x.numel() // channels, channels, norm.eps, norm.momentum,
        )  # fmt: skip
        ctx.save_for_backward(x, residual, weight, bias, mean, spread)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, residual), (weight, bias, mean, spread) = _saved_maps(ctx.saved_tensors[:2]), ctx.saved_tensors[2:]
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        of_x = torch.empty_like(x, memory_format=CHANNELS_LAST)
        of_residual = None if residual is None else torch.empty_like(residual, memory_format=CHANNELS_LAST)
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(bias)
        channels = x.shape[1]
        _call(
            "backward", x, ctx.activation, gradient, x, residual, weight, bias, mean, spread, of_x, of_residual,
            of_weight, of_bias, x.numel() // channels, channels,
        )  # fmt: skip
        return of_x, of_residual, of_weight, of_bias, None, None


class Pool(torch.autograd.Function):
    """The largest value of each window; which one that was is kept in a byte, and the map itself is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.MaxPool2d) -> Tensor:
        kernel, stride, padding = cast(int, module.kernel_size), cast(int, module.stride), cast(int, module.padding)
        images, channels, *sides = x.shape
        windows = [_count_windows(side, kernel, stride, padding, module.ceil_mode) for side in sides]
        y = torch.empty((images, channels, *windows), dtype=x.dtype, device=x.device, memory_format=CHANNELS_LAST)
        place = torch.empty_like(y, dtype=torch.uint8, memory_format=CHANNELS_LAST)
        ctx.given = (images, *sides, channels, *windows, kernel, stride, padding)
        _call("pool", x, x, y, place, *ctx.given)
        ctx.save_for_backward(place)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (place,) = _saved_maps(ctx.saved_tensors)
        images, height, width, channels = ctx.given[:4]
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        of_x = torch.empty(
            (images, channels, height, width), dtype=gradient.dtype, device=gradient.device, memory_format=CHANNELS_LAST
        )
        _call("unpool", gradient, gradient, place, of_x, *ctx.given)
        return of_x, None


def _count_windows(side: int, kernel: int, stride: int, padding: int, upwards: bool) -> int:
    """How many windows fit; rounded upwards, a last one may hang over, but has to begin within side and padding."""
    spare = side + 2 * padding - kernel
    if not upwards:
        return spare // stride + 1
    count = -(-spare // stride) + 1
    return count if (count - 1) * stride < side + padding else count - 1


class Drop(torch.autograd.Function):
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


class Multiply(torch.autograd.Function):
    """A dense layer by a copy of its weights in bfloat16; their gradient is bfloat16, too, as the product gives it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, copy: Tensor, bias: Tensor | None) -> Tensor:
        x = x.to(copy.dtype)
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, copy)
        return nn.functional.linear(x, copy, None if bias is None else bias.to(copy.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, copy = ctx.saved_tensors
        of_x = gradient @ copy if ctx.needs_input_grad[0] else None
        of_weight = None if x is None else gradient.t() @ x
        of_bias = gradient.sum(0, dtype=torch.float32) if ctx.needs_input_grad[3] else None
        return of_x, of_weight, None, of_bias


def descend(
    gradient: Tensor, weight: Tensor, copy: Tensor, group: Mapping[str, Any], remembered: Mapping[str, Tensor]
) -> None:
    """A step of stochastic gradient descent with momentum; writes the weight, what is remembered, and the copy.

    Args:
        gradient: bfloat16.
        weight: float32, of the same shape.
        copy: of the weight, bfloat16.
        group: options of torch's optimiser.
        remembered: its state of this weight.
    """
    rate, momentum = group["lr"], group["momentum"]
    along, along_velocity = (1.0, momentum) if group["nesterov"] else (0.0, 1.0)
    _call(
        "descend", gradient, gradient, weight, remembered["momentum_buffer"], copy, weight.numel(), rate, momentum,
        along, along_velocity, group["weight_decay"],
    )  # fmt: skip


def descend_adam(
    gradient: Tensor, weight: Tensor, copy: Tensor, group: Mapping[str, Any], remembered: Mapping[str, Tensor]
) -> None:
    """A step of Adam or AdamW, with the arguments of `descend`; the state has counted this step already."""
    (beta1, beta2), step = group["betas"], float(remembered["step"])
    rate, root = group["lr"] / (1 - beta1**step), (1 - beta2**step) ** 0.5
    decoupled = group.get("decoupled_weight_decay", False)
    coupled, shrink = (0.0, 1 - group["lr"] * group["weight_decay"]) if decoupled else (group["weight_decay"], 1.0)
    _call(
        "descend_adam", gradient, gradient, weight, remembered["exp_avg"], remembered["exp_avg_sq"], copy,
        weight.numel(), rate, root, 1 - beta1, beta2, 1 - beta2, group["eps"], coupled, shrink,
    )  # fmt: skip


class Convolve(torch.autograd.Function):
    """A convolution of 3×3 or 5×5 with stride 1, channels in eights: by transforms, see convolution.cpp.

    Maps are float32 or bfloat16, weights float32 and not rounded before they are transformed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        ctx.padding = padding
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,), weight = _saved_maps(ctx.saved_tensors[:1]), ctx.saved_tensors[1]
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        taps = weight.shape[-1]
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _convolve(gradient, weight.transpose(0, 1), None, taps - 1 - ctx.padding, turned=True)
        if ctx.needs_input_grad[1]:
            of_weight = torch.empty_like(weight)
            images, channels, height, width = x.shape
            shape = (images, height, width, channels, len(weight), ctx.padding)
            _call("convolve_weights", x, x, gradient, of_weight, *shape, *of_weight.stride(), taps)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3), dtype=torch.float32)
        return of_x, of_weight, of_bias, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, *, turned: bool = False) -> Tensor:
    """`turned`: with the weights turned by 180 degrees."""
    images, channels, height, width = x.shape
    maps, taps = len(weight), weight.shape[-1]
    sides = (side + 2 * padding - taps + 1 for side in (height, width))
    y = torch.empty((images, maps, *sides), dtype=x.dtype, device=x.device, memory_format=CHANNELS_LAST)
    shape = (images, height, width, channels, maps, padding)
    _call("convolve", x, x, weight, bias, y, *shape, *weight.stride(), taps, turned)
    return y
