"""Inception v4: a deeper stem, and one kind of module for each size of map.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning,
arXiv 1602.07261, 2016: figures 3 (stem), 4 to 6 (modules A, B, C), 7 and 8 (reductions), 9 (the whole, with dropout
0.2), table 1 (widths of the first reduction). State-dict keys are those of the public library weights.
42,679,816 parameters with 1000 classes.

Differences from the paper: none that we know of. First weights, which it does not give, are He's (fan in). Average
pools leave the padding out of their mean, as the published weights expect.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from eyebright.layers.blocks import STYLE, Branches, Convolution, DropoutRate, Style, draw_weights, he
from eyebright.layers.network import Network

WIDE, TALL = (1, 7), (7, 1)


def _row(before: int, style: Style, *steps: tuple[int, int | tuple[int, int]], shrinks: bool = False) -> nn.Sequential:
    """Convolutions one after the other; with `shrinks`, the last has stride 2 and no padding."""
    row = nn.Sequential()
    for number, (width, kernel) in enumerate(steps, start=1):
        last = shrinks and number == len(steps)
        row.append(Convolution(before, width, kernel, style, stride=2 if last else 1, padded=not last))
        before = width
    return row


def _pooled(before: int, width: int, style: Style) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), Convolution(before, width, 1, style))


def _stem_branches(style: Style) -> Branches:
    """The stem's middle: a 3×3 without padding beside the same after 7×1 and 1×7 (figure 3)."""
    short, long = _row(160, style, (64, 1)), _row(160, style, (64, 1), (64, WIDE), (64, TALL))
    for row in (short, long):
        row.append(Convolution(64, 96, 3, style, padded=False))
    return Branches(branch0=short, branch1=long)


def _module_a(style: Style) -> Branches:
    """Figure 4, on maps of 35×35."""
    return Branches(
        branch0=Convolution(384, 96, 1, style),
        branch1=_row(384, style, (64, 1), (96, 3)),
        branch2=_row(384, style, (64, 1), (96, 3), (96, 3)),
        branch3=_pooled(384, 96, style),
    )


def _reduction_a(style: Style) -> Branches:
    """Figure 7, from 35×35 to 17×17."""
    return Branches(
        branch0=Convolution(384, 384, 3, style, stride=2, padded=False),
        branch1=_row(384, style, (192, 1), (224, 3), (256, 3), shrinks=True),
        branch2=nn.MaxPool2d(3, 2),
    )


def _module_b(style: Style) -> Branches:
    """Figure 5, on maps of 17×17."""
    return Branches(
        branch0=Convolution(1024, 384, 1, style),
        branch1=_row(1024, style, (192, 1), (224, WIDE), (256, TALL)),
        branch2=_row(1024, style, (192, 1), (192, TALL), (224, WIDE), (224, TALL), (256, WIDE)),
        branch3=_pooled(1024, 128, style),
    )


def _reduction_b(style: Style) -> Branches:
    """Figure 8, from 17×17 to 8×8."""
    return Branches(
        branch0=_row(1024, style, (192, 1), (192, 3), shrinks=True),
        branch1=_row(1024, style, (256, 1), (256, WIDE), (320, TALL), (320, 3), shrinks=True),
        branch2=nn.MaxPool2d(3, 2),
    )


class ModuleC(nn.Module):
    """Figure 6, on maps of 8×8: two of the branches fork into 1×3 and 3×1."""

    def __init__(self, style: Style):
        super().__init__()
        self.branch0 = Convolution(1536, 256, 1, style)
        self.branch1_0 = Convolution(1536, 384, 1, style)
        self.branch1_1a = Convolution(384, 256, (1, 3), style)
        self.branch1_1b = Convolution(384, 256, (3, 1), style)
        self.branch2_0 = Convolution(1536, 384, 1, style)
        self.branch2_1 = Convolution(384, 448, (3, 1), style)
        self.branch2_2 = Convolution(448, 512, (1, 3), style)
        self.branch2_3a = Convolution(512, 256, (1, 3), style)
        self.branch2_3b = Convolution(512, 256, (3, 1), style)
        self.branch3 = _pooled(1536, 256, style)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, 1536, H, W]` → `[N, 1536, H, W]`."""
        one = self.branch1_0(x)
        two = self.branch2_2(self.branch2_1(self.branch2_0(x)))
        forks = (self.branch1_1a(one), self.branch1_1b(one), self.branch2_3a(two), self.branch2_3b(two))
        return torch.cat([self.branch0(x), *forks, self.branch3(x)], dim=1)


class InceptionV4(Network):
    """A stem, four modules A, seven B and three C with reductions between, global average pooling, one dense layer."""

    default_input = 299
    smallest_input = 75
    head_name = "last_linear"

    def __init__(
        self,
        num_classes: PositiveInt = 1000,
        in_channels: PositiveInt = 3,
        dropout: DropoutRate = 0.2,
        style: Style = STYLE,
    ):
        super().__init__()
        self.style = style
        # x: [N, C, 299, 299]
        self.features = nn.Sequential(
            Convolution(in_channels, 32, 3, style, stride=2, padded=False),
            Convolution(32, 32, 3, style, padded=False),
            Convolution(32, 64, 3, style),  # [N, 64, 147, 147]
            Branches(maxpool=nn.MaxPool2d(3, 2), conv=Convolution(64, 96, 3, style, stride=2, padded=False)),
            _stem_branches(style),  # [N, 192, 71, 71]
            Branches(conv=Convolution(192, 192, 3, style, stride=2, padded=False), maxpool=nn.MaxPool2d(3, 2)),
            *(_module_a(style) for _ in range(4)),  # [N, 384, 35, 35]
            _reduction_a(style),
            *(_module_b(style) for _ in range(7)),  # [N, 1024, 17, 17]
            _reduction_b(style),
            *(ModuleC(style) for _ in range(3)),  # [N, 1536, 8, 8]
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(1536, num_classes)
        self.apply(self.initialise)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Convolutions and dense layers after He et al. 2015."""
        draw_weights(layer, he)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → modules."""
        features = tuple(self.features)
        return {
            "stem": features[:6],
            "stageA": features[6:10],
            "reductionA": features[10:11],
            "stageB": features[11:18],
            "reductionB": features[18:19],
            "stageC": features[19:],
            "pool": (self.avgpool, self.flatten, self.dropout),
            "head": (self.last_linear,),
        }
