"""The residual networks for 32×32 pictures, and the same without shortcuts.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385, 2015, §4.2: a stem of 16 channels,
three stages of n blocks with 16, 32 and 64 channels, depth 6n + 2; shortcuts are the identity, with zeros for the
channels that are new (§3.3, option A). First weights after He et al., arXiv 1502.01852. State-dict keys are those of
the widely used public files. `span` is how many layers a shortcut spans (§3.2; two in the paper); `preactivation` is
that of He et al.: Identity Mappings in Deep Residual Networks, arXiv 1603.05027.

Parameters with 10 classes: depth 20: 269,722 · 32: 464,154 · 44: 658,586 · 56: 853,018 · 110: 1,727,962; a plain twin
has as many. No deviations from the paper, which leaves open where the new channels stand: half of their zeros come
before the old channels and half after, as in the public files.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from eyebright.errors import ModelError
from eyebright.layers.blocks import STYLE, DropoutRate, Style, draw_weights, he
from eyebright.layers.network import Network
from eyebright.models.resnet import Block

DEPTHS = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18}  # layers → blocks in each of the three stages


class ZeroPaddingShortcut(nn.Module):
    """The identity made to fit half the height and width and twice the channels: every other pixel, and zeros."""

    stride = 2

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, 2 C, ⌈H / 2⌉, ⌈W / 2⌉]`."""
        half = x.shape[1] // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


class ResNetCifar(Network):
    """A stem, three stages of `blocks` blocks each, global average pooling, one dense layer."""

    default_input = 32
    smallest_input = 1
    head_name = "linear"

    def __init__(
        self, blocks: int, shortcuts: bool, num_classes: PositiveInt = 10, in_channels: PositiveInt = 3,
        dropout: DropoutRate = 0.0, span: Literal[1, 2, 3] = 2, preactivation: bool = False, style: Style = STYLE,
    ):  # fmt: skip
        super().__init__()
        self.style = style
        if 2 * blocks % span:
            raise ModelError(
                f"shortcuts that span {span} layers, in stages of {2 * blocks}",
                expected=f"a span that divides {2 * blocks}",
                remedy="take span = 2, as the paper does",
            )

        def block(before: int, channels: int, stride: int, after_stem: bool = False) -> Block:
            convolutions = [(channels, 3, stride), *[(channels, 3, 1)] * (span - 1)]
            fit = nn.Identity() if before == channels else ZeroPaddingShortcut()
            return Block(before, convolutions, fit if shortcuts else None, preactivation, style, after_stem)

        def stage(before: int, channels: int, stride: int) -> nn.Sequential:
            others = (block(channels, channels, 1) for _ in range(2 * blocks // span - 1))
            return nn.Sequential(block(before, channels, stride, after_stem=before == channels), *others)

        # x: [N, C, 32, 32]
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=style.bias)
        self.bn1 = style.norm(16)
        self.relu = style.activation()
        self.layer1 = stage(16, 16, stride=1)  # [N, 16, 32, 32]
        self.layer2 = stage(16, 32, stride=2)  # [N, 32, 16, 16]
        self.layer3 = stage(32, 64, stride=2)  # [N, 64, 8, 8]
        self.last = nn.Sequential(*style.order(style.norm(64), style.activation()) if preactivation else ())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()  # [N, 64]
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(64, num_classes)
        self.apply(self.initialise)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Weights after He et al. 2015 (fan in), biases 0."""
        draw_weights(layer, he)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → modules."""
        return {
            "stem": (self.conv1, *self.style.order(self.bn1, self.relu)),
            "stage1": (self.layer1,),
            "stage2": (self.layer2,),
            "stage3": (self.layer3,),
            "pool": (self.last, self.avgpool, self.flatten, self.dropout),
            "head": (self.linear,),
        }
