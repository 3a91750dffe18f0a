"""Layers in words: all their settings, or what matters most in a few characters."""

from __future__ import annotations

from typing import Any

from torch import nn

from eyebright.inspection.trace import pair_of
from eyebright.layers.norm import LocalResponseNorm
from eyebright.layers.radial import RadialBasis

NAMES: dict[str, str] = {  # of layers without settings that a headline would show
    "BatchNorm2d": "batch norm", "GroupNorm": "group norm", "InstanceNorm": "instance norm",
    "LocalResponseNorm": "local response norm", "LeakyReLU": "leaky ReLU", "Dropout2d": "channel dropout",
    "Dropout": "dropout", "Tanh": "tanh", "ScaledTanh": "scaled tanh", "Flatten": "flatten",
    "ZeroPaddingShortcut": "every 2nd pixel, zero channels", "Subsampling": "subsampling 2×2 /2",
    "PartialConvolution": "partial conv 5×5, 6→16", "concatenate": "concatenate", "add": "add",
}  # fmt: skip
KINDS = {  # what a reader tells apart at a glance
    "convolution": ("Conv2d", "PartialConvolution"),
    "pool": ("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Subsampling", "ZeroPaddingShortcut"),
    "dense": ("Linear", "RadialBasis"),
    "join": ("add", "concatenate"),
}


def kind_of(operation: str) -> str:
    """``"convolution"``, ``"pool"``, ``"dense"``, ``"join"`` or ``"other"``."""
    return next((kind for kind, names in KINDS.items() if operation in names), "other")


def headline(operation: str, layer: nn.Module | None) -> str:
    """A step in a few characters: ``"conv 3×3 /2, 64→128"``; `/2` is the stride."""
    match layer:
        case nn.Conv2d():
            channels = f"{layer.in_channels}→{layer.out_channels}"
            groups = f", {layer.groups} groups" if layer.groups > 1 else ""
            return f"conv {_side(layer.kernel_size)}{_step(layer.stride)}, {channels}{groups}"
        case nn.MaxPool2d():
            return f"max-pool {_side(layer.kernel_size)}{_step(layer.stride)}"
        case nn.AvgPool2d():
            return f"average pool {_side(layer.kernel_size)}{_step(layer.stride)}"
        case nn.AdaptiveAvgPool2d():
            return f"average pool to {_side(layer.output_size)}"
        case nn.Linear():
            return f"dense {layer.in_features}→{layer.out_features}"
        case RadialBasis():
            return f"distances {layer.in_features}→{layer.out_features}"
        case nn.Dropout() | nn.Dropout2d():
            return f"{NAMES[operation]} {layer.p:g}"
    return NAMES.get(operation, operation)


def settings(layer: nn.Module) -> str:
    """All that a reader may want to know of a layer: ``"3→64, 11×11, stride 4, padding 2"``."""
    match layer:
        case nn.Conv2d():
            parts = [f"{layer.in_channels}→{layer.out_channels}", _side(layer.kernel_size)]
            parts += _unless("stride", layer.stride, 1) + _unless("padding", layer.padding, 0)
            parts += _unless("dilation", layer.dilation, 1) + _unless("groups", layer.groups, 1)
            parts += _without_bias(layer)
        case nn.MaxPool2d() | nn.AvgPool2d():
            parts = [_side(layer.kernel_size), f"stride {_number(layer.stride)}"]
            parts += _unless("padding", layer.padding, 0)
        case nn.AdaptiveAvgPool2d():
            parts = [f"to {_side(layer.output_size)}"]
        case nn.Linear():
            parts = [f"{layer.in_features}→{layer.out_features}"]
            parts += _without_bias(layer)
        case nn.BatchNorm2d():
            parts = [f"{layer.num_features}"]
        case nn.Dropout():
            parts = [f"{layer.p}"]
        case nn.LeakyReLU():
            parts = [f"{layer.negative_slope}"]
        case LocalResponseNorm():
            parts = [f"{layer.size} channels", *_unless("groups", layer.groups, 1)]
        case nn.Flatten():
            parts = []
        case _:
            parts = [layer.extra_repr()]
    return ", ".join(parts)


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as people write it: ``"64×56×56"``."""
    return "×".join(map(str, shape))


def field_text(field: tuple[int, int] | None) -> str:
    """A receptive field: ``"43"`` pixels, ``"7×13"`` where it is not square, ``"all"`` of the picture."""
    return "all" if field is None else _number(field)


def _without_bias(layer: nn.Module) -> list[str]:
    return [] if "bias" in dict(layer.named_parameters(recurse=False)) else ["no bias"]


def _side(value: Any) -> str:
    height, width = pair_of(value)
    return f"{height}×{width}"


def _number(value: Any) -> str:
    height, width = pair_of(value)
    return f"{height}" if height == width else f"{height}×{width}"


def _step(value: Any) -> str:
    return "" if _number(value) == "1" else f" /{_number(value)}"


def _unless(name: str, value: Any, usual: int) -> list[str]:
    return [] if _number(value) == str(usual) else [f"{name} {_number(value)}"]
