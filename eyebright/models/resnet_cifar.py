"""The residual networks for 32×32 pictures, and the same without shortcuts.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385, 2015, §4.2: a stem of 16 channels,
three stages of n blocks with 16, 32 and 64 channels, depth 6n + 2; shortcuts are the identity, with zeros for the
channels that are new (§3.3, option A). First weights after He et al., arXiv 1502.01852 (the paper's), or after Glorot
and Bengio, AISTATS 2010 (`xavier`). State-dict keys are those of the widely used public files.

Parameters with 10 classes: depth 20: 269,722 · 32: 464,154 · 44: 658,586 · 56: 853,018 · 110: 1,727,962; a plain twin
has as many. No deviations from the paper, which leaves open where the new channels stand: half of their zeros come
before the old channels and half after, as in the public files.
"""

from __future__ import annotations

from typing import Literal, cast

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from eyebright.layers.network import Network

Initialisation = Literal["he", "xavier"]

DEPTHS = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18}  # layers → blocks in each of the three stages


class ZeroPaddingShortcut(nn.Module):
    """The identity made to fit half the height and width and twice the channels: every other pixel, and zeros."""

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, 2 C, ⌈H / 2⌉, ⌈W / 2⌉]`."""
        half = x.shape[1] // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm; with `shortcut`, the input is added before the last ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        fit = nn.Identity() if in_channels == channels else ZeroPaddingShortcut()
        self.shortcut = fit if shortcut else None
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, channels, H / stride, W / stride]`."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return cast(Tensor, self.relu2(y))


class ResNetCifar(Network):
    """A stem, three stages of `blocks` blocks each, global average pooling, one dense layer."""

    default_input = 32
    smallest_input = 1
    head_name = "linear"

    def __init__(
        self, blocks: int, shortcuts: bool, num_classes: PositiveInt = 10, in_channels: PositiveInt = 3,
        initialisation: Initialisation = "he",
    ):  # fmt: skip
        super().__init__()

        def stage(before: int, channels: int, stride: int) -> nn.Sequential:
            first = BasicBlock(before, channels, stride, shortcuts)
            return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcuts) for _ in range(blocks - 1)))

        # x: [N, C, 32, 32]
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = stage(16, 16, stride=1)  # [N, 16, 32, 32]
        self.layer2 = stage(16, 32, stride=2)  # [N, 32, 16, 16]
        self.layer3 = stage(32, 64, stride=2)  # [N, 64, 8, 8]
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()  # [N, 64]
        self.linear = nn.Linear(64, num_classes)
        self.initialisation = initialisation
        self.apply(self.initialise)

    def initialise(self, layer: nn.Module) -> None:
        """Weights after He or Glorot, biases 0; batch norm starts as torch has it, with scale 1 and shift 0."""
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if self.initialisation == "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → modules."""
        return {
            "stem": (self.conv1, self.bn1, self.relu),
            "stage1": (self.layer1,),
            "stage2": (self.layer2,),
            "stage3": (self.layer3,),
            "pool": (self.avgpool, self.flatten),
            "head": (self.linear,),
        }
