"""Inception v2: GoogLeNet with batch normalisation, and two 3×3 convolutions in the place of each 5×5.

Ioffe, Szegedy: Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, arXiv
1502.03167, 2015, appendix, figure 5 (widths), which also says that the first convolution is separable with a depth
multiplier of 8; §4.2.1: no dropout. 11,278,528 parameters with 1000 classes. The paper gives no public state dict; the
stages have its names.

Its figure disagrees with itself about 4c and 4d: the widths of their branches add up to 608 channels, the sizes beside
them say 576. Here, as in the widely used public Caffe model, the widths hold, so that 4e gives out 1,056.

Differences from the paper: none that we know of. First weights, which it does not give, are He's (fan in).
"""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn

from eyebright.layers.blocks import STYLE, Branches, Convolution, DropoutRate, Style, draw_weights, he
from eyebright.layers.network import Network

MODULES = {  # 1×1; 3×3 after its 1×1; two 3×3 after their 1×1; kind of pool; 1×1 after the pool. 0: there is none
    "3a": (64, 64, 64, 64, 96, "average", 32),  # [N, 256, 28, 28]
    "3b": (64, 64, 96, 64, 96, "average", 64),  # [N, 320, 28, 28]
    "3c": (0, 128, 160, 64, 96, "maximum", 0),  # [N, 576, 14, 14]
    "4a": (224, 64, 96, 96, 128, "average", 128),  # [N, 576, 14, 14]
    "4b": (192, 96, 128, 96, 128, "average", 128),  # [N, 576, 14, 14]
    "4c": (160, 128, 160, 128, 160, "average", 128),  # [N, 608, 14, 14]
    "4d": (96, 128, 192, 160, 192, "average", 128),  # [N, 608, 14, 14]
    "4e": (0, 128, 192, 192, 256, "maximum", 0),  # [N, 1056, 7, 7]
    "5a": (352, 192, 320, 160, 224, "average", 128),  # [N, 1024, 7, 7]
    "5b": (352, 192, 320, 192, 224, "maximum", 128),  # [N, 1024, 7, 7]
}
MULTIPLIER = 8  # maps that the first convolution makes of each channel


def inception(before: int, widths: tuple[int, int, int, int, int, str, int], style: Style) -> tuple[Branches, int]:
    """Branches side by side, and how many channels they give out; without 1×1 branches, the map shrinks by 2."""
    one, reduced, three, double_reduced, double, kind, pooled = widths
    stride = 1 if one else 2
    branches: dict[str, nn.Module] = {"branch1": Convolution(before, one, 1, style)} if one else {}
    branches["branch2"] = nn.Sequential(
        Convolution(before, reduced, 1, style), Convolution(reduced, three, 3, style, stride)
    )
    branches["branch3"] = nn.Sequential(
        Convolution(before, double_reduced, 1, style),
        Convolution(double_reduced, double, 3, style),
        Convolution(double, double, 3, style, stride),
    )
    pool = (
        nn.MaxPool2d(3, stride, padding=1)
        if kind == "maximum"
        else nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    )
    branches["branch4"] = nn.Sequential(pool, Convolution(before, pooled, 1, style)) if pooled else pool
    return Branches(**branches), one + three + double + (pooled or before)


class InceptionV2(Network):
    """A stem, ten inception modules in three groups, global average pooling, one dense layer."""

    default_input = 224
    smallest_input = 1
    head_name = "output"

    def __init__(
        self,
        num_classes: PositiveInt = 1000,
        in_channels: PositiveInt = 3,
        dropout: DropoutRate = 0.0,
        style: Style = STYLE,
    ):
        super().__init__()
        self.style = style
        # x: [N, C, 224, 224]
        deep = in_channels * MULTIPLIER
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, deep, 7, stride=2, padding=3, groups=in_channels, bias=False),
            Convolution(deep, 64, 1, style),
            nn.MaxPool2d(3, 2, padding=1),  # [N, 64, 56, 56]
            Convolution(64, 64, 1, style),
            Convolution(64, 192, 3, style),
            nn.MaxPool2d(3, 2, padding=1),  # [N, 192, 28, 28]
        )
        channels = 192
        for name, widths in MODULES.items():
            module, channels = inception(channels, widths, style)
            self.add_module(f"inception{name}", module)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))  # [N, 1024]
        self.output = nn.Linear(channels, num_classes)
        self.apply(self.initialise)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Convolutions and dense layers after He et al. 2015."""
        draw_weights(layer, he)
