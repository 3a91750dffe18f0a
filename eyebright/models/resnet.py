"""Residual networks for photographs, and the same without shortcuts.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385, 2015, §3.3, table 1 (18, 34, 50,
101 and 152 layers; projection shortcuts where the shape changes, option B). He, Zhang, Ren, Sun: Identity Mappings in
Deep Residual Networks, arXiv 1603.05027, 2016: `preactivation`. State-dict keys are those of the public library models.

``resnet50`` and deeper halve the map in the 3×3 convolution of a bottleneck, as libraries do; ``resnet50_2015`` and
deeper in its first 1×1, as the paper does. ``plain18`` and ``plain34`` have no shortcuts (§3.3, plain network).
The stem ``"cifar"`` is one 3×3 convolution without a pool, for pictures of 32 pixels or so.

Parameters with 1000 classes: 11,689,512 (18) · 21,797,672 (34) · 25,557,032 (50) · 44,549,160 (101) · 60,192,808 (152).
First weights of convolutions after He et al. 2015, fan out, as in the authors' public code. No other deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import PositiveInt
from torch import Tensor, nn

from eyebright.layers.blocks import STYLE, DropoutRate, Style
from eyebright.layers.fused import add_and_activate, in_turn
from eyebright.layers.network import Network

Stem = Literal["photographs", "cifar"]


@dataclass(frozen=True)
class Shape:
    """What tells one residual network from another.

    Attributes:
        blocks: in each of the four stages.
        bottleneck: whether blocks have three convolutions, 1×1, 3×3 and 1×1, rather than two of 3×3.
        stride_first: whether a bottleneck's first 1×1 shrinks the map, rather than its 3×3.
        shortcuts: whether there are any.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool = False
    stride_first: bool = False
    shortcuts: bool = True


SHAPES = {
    "resnet18": Shape((2, 2, 2, 2)),
    "resnet34": Shape((3, 4, 6, 3)),
    "resnet50": Shape((3, 4, 6, 3), bottleneck=True),
    "resnet101": Shape((3, 4, 23, 3), bottleneck=True),
    "resnet152": Shape((3, 8, 36, 3), bottleneck=True),
    "resnet50_2015": Shape((3, 4, 6, 3), bottleneck=True, stride_first=True),
    "resnet101_2015": Shape((3, 4, 23, 3), bottleneck=True, stride_first=True),
    "resnet152_2015": Shape((3, 8, 36, 3), bottleneck=True, stride_first=True),
    "plain18": Shape((2, 2, 2, 2), shortcuts=False),
    "plain34": Shape((3, 4, 6, 3), shortcuts=False),
}


class Block(nn.Module):
    """Convolutions beside a shortcut.

    Args:
        in_channels: that come in.
        convolutions: channels, kernel and stride of each.
        shortcut: what the input passes through before it is added; None: nothing is added.
        preactivation: whether normalisation and nonlinearity stand before each convolution, and none after the sum.
        style: which normalisation and nonlinearity.
        after_stem: with pre-activation, whether the stem has normalised this block's input already.
    """

    def __init__(
        self,
        in_channels: int,
        convolutions: Sequence[tuple[int, int, int]],
        shortcut: nn.Module | None,
        preactivation: bool,
        style: Style,
        after_stem: bool = False,
    ):
        super().__init__()
        self.depth, self.preactivation, self.norm_first = len(convolutions), preactivation, style.normalise == "before"
        before = in_channels
        for number, (channels, kernel, stride) in enumerate(convolutions, start=1):
            convolution = nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2, bias=style.bias)
            done_before = preactivation and after_stem and number == 1
            self.add_module(f"conv{number}", convolution)
            norm = nn.Identity() if done_before else style.norm(before if preactivation else channels)
            self.add_module(f"bn{number}", norm)
            self.add_module(f"relu{number}", nn.Identity() if done_before else style.activation())
            before = channels
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """`[N, in_channels, H, W]` → `[N, channels, …]`, height and width divided by the strides."""
        return self._preactivated(x) if self.preactivation else self._postactivated(x)

    def _postactivated(self, x: Tensor) -> Tensor:
        y = x
        for number in range(1, self.depth):
            y = self._normalised(number, self._convolved(number, y))
        y = self._convolved(self.depth, y)
        if self.downsample is None:
            return self._normalised(self.depth, y)
        norm, activation = getattr(self, f"bn{self.depth}"), getattr(self, f"relu{self.depth}")
        residual = in_turn((self.downsample,), x)
        if self.norm_first:
            return add_and_activate(norm, activation, y, residual)
        return cast(Tensor, norm(activation(y + residual)))

    def _preactivated(self, x: Tensor) -> Tensor:
        """A shortcut that changes the shape takes what the first convolution takes; the identity takes the input."""
        activated = self._normalised(1, x)
        y = activated
        for number in range(1, self.depth + 1):
            y = self._convolved(number, y if number == 1 else self._normalised(number, y))
        if self.downsample is None:
            return y
        return y + (x if isinstance(self.downsample, nn.Identity) else cast(Tensor, self.downsample(activated)))

    def _convolved(self, number: int, x: Tensor) -> Tensor:
        return in_turn((getattr(self, f"conv{number}"),), x)

    def _normalised(self, number: int, x: Tensor) -> Tensor:
        norm, activation = getattr(self, f"bn{number}"), getattr(self, f"relu{number}")
        return in_turn((norm, activation) if self.norm_first else (activation, norm), x)


class ResNet(Network):
    """A stem, four stages of blocks, global average pooling, one dense layer."""

    default_input = 224
    smallest_input = 1
    head_name = "fc"

    def __init__(
        self, shape: Shape, num_classes: PositiveInt = 1000, in_channels: PositiveInt = 3, dropout: DropoutRate = 0.0,
        stem: Stem = "photographs", preactivation: bool = False, style: Style = STYLE,
    ):  # fmt: skip
        super().__init__()
        self.style = style
        wide = 4 if shape.bottleneck else 1

        def block(before: int, channels: int, stride: int, after_stem: bool = False) -> Block:
            shortcut: nn.Module | None = nn.Identity() if shape.shortcuts else None
            if shape.shortcuts and (stride, before) != (1, channels * wide):
                projection = nn.Conv2d(before, channels * wide, 1, stride, bias=style.bias)
                shortcut = nn.Sequential(projection, *([] if preactivation else [style.norm(channels * wide)]))
            convolutions = [(channels, 3, stride), (channels, 3, 1)]
            if shape.bottleneck:
                first, second = (stride, 1) if shape.stride_first else (1, stride)
                convolutions = [(channels, 1, first), (channels, 3, second), (channels * wide, 1, 1)]
            return Block(before, convolutions, shortcut, preactivation, style, after_stem)

        def stage(before: int, channels: int, count: int, stride: int) -> nn.Sequential:
            others = (block(channels * wide, channels, 1) for _ in range(count - 1))
            return nn.Sequential(block(before, channels, stride, after_stem=channels == 64), *others)

        # x: [N, C, 224, 224]
        kernel, step = (7, 2) if stem == "photographs" else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, 64, kernel, step, padding=kernel // 2, bias=style.bias)
        self.bn1 = style.norm(64)
        self.relu = style.activation()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem == "photographs" else nn.Identity()  # [N, 64, 56, 56]
        self.layer1 = stage(64, 64, shape.blocks[0], stride=1)  # [N, 64 · wide, 56, 56]
        self.layer2 = stage(64 * wide, 128, shape.blocks[1], stride=2)  # [N, 128 · wide, 28, 28]
        self.layer3 = stage(128 * wide, 256, shape.blocks[2], stride=2)  # [N, 256 · wide, 14, 14]
        self.layer4 = stage(256 * wide, 512, shape.blocks[3], stride=2)  # [N, 512 · wide, 7, 7]
        self.last = nn.Sequential(*style.order(style.norm(512 * wide), style.activation()) if preactivation else ())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()  # [N, 512 · wide]
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * wide, num_classes)
        self.apply(self.initialise)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Convolutions after He et al. 2015 (fan out); the rest as torch has it."""
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → modules."""
        return {
            "stem": (self.conv1, *self.style.order(self.bn1, self.relu), self.maxpool),
            "stage1": (self.layer1,),
            "stage2": (self.layer2,),
            "stage3": (self.layer3,),
            "stage4": (self.layer4,),
            "pool": (self.last, self.avgpool, self.flatten, self.dropout),
            "head": (self.fc,),
        }
