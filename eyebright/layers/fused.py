"""Layers applied one after the other; in training on a processor, those that read the same memory as one kernel.

The twin of every kernel is the plain call of the modules, which is what happens wherever kernels are not in use.
Kernels have first derivatives only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from eyebright.kernels.build import has_bfloat16_products, has_tiles, has_wide_vectors, in_use
from eyebright.kernels.copies import copy_at_hand
from eyebright.kernels.functions import CHANNELS_LAST, Convolve, Drop, Multiply, Normalise, Pool
from eyebright.layers.folding import fold_pixels, fold_weights

# measured on two cores: with fewer, the transforms take longer than they save
LEAST_CHANNELS, LEAST_TILES = {torch.float32: 24, torch.bfloat16: 16}, 128
_KINDS: dict[type[nn.Module], int] = {nn.ReLU: 1, nn.GELU: 2}  # as sweeps.cpp counts them


def in_a_row(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Modules one after the other, those in sequences too."""
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from in_a_row(module)
        else:
            yield module


def in_turn(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    """What modules make of `x`, applied one after the other.

    Where kernels are in use, convolutions of 3×3 and 5×5 multiply less often, also a network's first one with a stride,
    if it becomes one of these where squares of pixels are folded into channels (with AMX it is folded for torch);
    batch normalisation and the ReLU or GELU after it are one sweep over memory, max-pools keep a byte for each value
    that they give, dropout draws its chances while it copies, and large dense layers multiply by the copies of their
    weights that are at hand. A module that has hooks is called by itself, so the hooks see what they expect; what is
    within it is then torch's too.
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
        elif type(module) is nn.Conv2d and _can_convolve(module, x):
            x = Convolve.apply(x, module.weight, module.bias, _padding(module))  # type: ignore[no-untyped-call]
        elif type(module) is nn.Conv2d and (sides := _can_fold(module, x)):
            x = _convolve_folded(module, x, sides)
        elif _fits(module, x):
            kind = _kind(waiting.pop()) if waiting and _kind(waiting[-1]) is not None else None
            x = Normalise.apply(x, None, module.weight, module.bias, module, kind or 0)  # type: ignore[no-untyped-call]
        elif type(module) is nn.Linear and (copy := _copy_of(module, x)) is not None:
            x = Multiply.apply(x, module.weight, copy, module.bias)  # type: ignore[no-untyped-call]
        elif type(module) is nn.Dropout and _can_drop(module, x):
            x = Drop.apply(x, module.p)  # type: ignore[no-untyped-call]
        elif type(module) is nn.MaxPool2d and _can_pool(module, x):
            x = Pool.apply(x, module)  # type: ignore[no-untyped-call]
        elif type(module) is nn.AdaptiveAvgPool2d and _is_of_single_values(module, x):
            x = x.expand(-1, -1, *_sides(module, x)).clone(memory_format=torch.contiguous_format)
        else:
            x = module(x)
    return x


def add_and_activate(norm: nn.Module, activation: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """``activation(norm(x) + residual)``, all `[N, C, H, W]`; one sweep over memory where kernels are in use."""
    alike = type(residual) is Tensor and residual.shape == x.shape and residual.dtype == x.dtype
    if not (_take_kernels() and alike and residual.device == x.device and _fits(norm, x)):
        return cast(Tensor, activation(norm(x) + residual))
    kind = _kind(activation)
    residual = residual.contiguous(memory_format=CHANNELS_LAST)
    y: Tensor = Normalise.apply(x, residual, norm.weight, norm.bias, norm, kind or 0)  # type: ignore[no-untyped-call]
    return y if kind else cast(Tensor, activation(y))


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
    return value is not None and _is_plain(value, (length,)) and value.is_contiguous()


def _is_plain(value: Tensor, shape: tuple[int, ...]) -> bool:
    return type(value) in (Tensor, nn.Parameter) and (value.device.type, value.dtype, tuple(value.shape)) == (
        "cpu", torch.float32, shape,
    )  # fmt: skip


def _can_convolve(module: nn.Conv2d, x: Tensor) -> bool:
    """Whether a convolution is one that convolution.cpp knows, and so large that this is faster."""
    if not _is_known(module, x) or x.dtype != _number_format(x) or _square(module.stride) != 1:
        return False
    taps, padding = cast(int, _square(module.kernel_size)), cast(int, _padding(module))
    return _pays((len(x), module.in_channels, *x.shape[2:]), module, taps, padding, x.dtype)


def _can_fold(module: nn.Conv2d, x: Tensor) -> tuple[int, int] | None:
    """The sides of folded pictures, if a convolution with a stride is worth it as one without.

    It has to be one whose maps want no gradient: a network's first.
    """
    stride, to = _square(module.stride), _number_format(x)
    if stride is None or stride == 1 or x.requires_grad:
        return None
    if module.padding == "same" or not _is_known(module, x):
        return None
    taps, padding = cast(int, _square(module.kernel_size)), cast(int, _padding(module))
    side = -(-taps // stride)
    height, width = ((given + 2 * padding - taps) // stride + side for given in x.shape[2:])
    shape = (len(x), stride**2 * module.in_channels, height, width)
    pays = _fills_tiles(shape[1]) if to is None else _pays(shape, module, side, 0, to)
    return (height, width) if pays else None


def _is_known(module: nn.Conv2d, x: Tensor) -> bool:
    """Whether all but the sizes and the stride of a convolution is as convolution.cpp knows it."""
    taps = _square(module.kernel_size)
    if taps is None or not has_wide_vectors() or not _is_usual(module, x):
        return False
    padding = _padding(module)
    return (
        x.dim() == 4
        and (module.dilation, module.groups, module.padding_mode) == ((1, 1), 1, "zeros")
        and padding is not None
        and 0 <= padding < taps
        and x.shape[1] == module.in_channels
        and _is_plain(module.weight, (module.out_channels, module.in_channels, taps, taps))
        and (module.bias is None or _is_line(module.bias, module.out_channels))
    )


def _square(sides: object) -> int | None:
    """The side of what is as high as wide; layers may have been given other things than they are made with."""
    match sides:
        case (int(height), int(width)) if height == width >= 1:
            return height
    return None


def _convolve_folded(module: nn.Conv2d, x: Tensor, sides: tuple[int, int]) -> Tensor:
    stride, padding, to = module.stride[0], _padding(module), _number_format(x)
    folded = fold_pixels(x, stride, cast(int, padding), sides, to or torch.bfloat16)
    weight = fold_weights(module.weight, stride)
    if to is None:
        return nn.functional.conv2d(folded, weight, module.bias)
    y: Tensor = Convolve.apply(folded, weight, module.bias, 0)  # type: ignore[no-untyped-call]
    return y


def _fills_tiles(channels: int) -> bool:
    """Whether torch multiplies by tiles of 32 values here, which three channels leave almost empty."""
    return _rounds_to_bfloat16() and has_tiles() and channels >= 32 and channels % 8 == 0


def _number_format(x: Tensor) -> torch.dtype | None:
    """That in which convolutions of `x` are to be computed, if the kernels have it."""
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if x.dtype == torch.float32 else None
    return torch.bfloat16 if _rounds_to_bfloat16() and has_bfloat16_products() else None


def _rounds_to_bfloat16() -> bool:
    """Whether torch's convolutions and matrix products are computed in bfloat16 here."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _pays(shape: Sequence[int], module: nn.Conv2d, taps: int, padding: int, number_format: torch.dtype) -> bool:
    """Whether sizes are known, and at most half of the multiplications are left: forwards and for the gradients.

    What is convolved by transforms has this shape `[N, C, H, W]`, taps and padding; where it has other channels than
    the module takes it is folded, and there is no gradient of it.
    """
    images, channels, *given = shape
    made = [side + 2 * padding - taps + 1 for side in given]
    least, both = LEAST_CHANNELS[number_format], (channels, module.out_channels)
    if taps not in (3, 5) or min(made) < 1 or min(both) < least or any(count % 8 for count in both):
        return False
    of_given, of_made = (math.prod(-(-side // (7 - taps)) for side in sides) for sides in (given, made))  # tiles
    folded = channels != module.in_channels
    ours = 36 * channels * (2 * of_made + (0 if folded else of_given))
    theirs = (2 if folded else 3) * math.prod(module.kernel_size) * module.in_channels * math.prod(made)
    return 2 * ours <= theirs and images * of_made >= LEAST_TILES


def _is_of_single_values(pool: nn.AdaptiveAvgPool2d, x: Tensor) -> bool:
    return _is_usual(pool, x) and x.dim() == 4 and x.shape[2:] in ((1, 1), _sides(pool, x))


def _sides(pool: nn.AdaptiveAvgPool2d, x: Tensor) -> tuple[int, int]:
    """Height and width of what a pool makes of `x`."""
    size = pool.output_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return x.shape[2] if height is None else height, x.shape[3] if width is None else width


def _padding(module: nn.Conv2d) -> int | None:
    """Zeros that a convolution adds on every side; None where sides differ."""
    match module.padding, module.kernel_size:
        case "same", (height, width):
            sides = (height // 2, width // 2) if height % 2 and width % 2 else (0, 1)
        case "valid", _:
            sides = (0, 0)
        case (int(), int()) as sides, _:
            pass
        case _:
            return None
    return sides[0] if sides[0] == sides[1] else None


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


def _copy_of(module: nn.Linear, x: Tensor) -> Tensor | None:
    """The copy of a dense layer's weights in bfloat16, if one is at hand and products are computed in that."""
    usual = _is_usual(module, x) and x.dim() == 2
    return copy_at_hand(module.weight) if usual and _rounds_to_bfloat16() else None


def _can_drop(module: nn.Dropout, x: Tensor) -> bool:
    return 0 < module.p < 1 and not module.inplace and _is_usual(module, x)
