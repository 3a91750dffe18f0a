"""Inception v3: large convolutions taken apart into smaller and one-sided ones.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision, arXiv 1512.00567,
2015: table 1, §3 (5×5 as two of 3×3, 7×7 as 1×7 and 7×1), §4 (one auxiliary head, on the last 17×17 map), §5 (maps are
shrunk by a convolution and a pool side by side). State-dict keys are those of the public library model.

Parameters with 1000 classes: 23,834,568; with the auxiliary head 27,161,264. First weights, which the paper does not
give, are the library's: truncated N(0, 0.1²), 0.01 and 0.001 in the auxiliary head. Difference: the auxiliary head
pools to 5×5 whatever the picture's size, where the paper's pool of 5×5 with stride 3 gives 5×5 at 299 pixels alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from eyebright.layers.blocks import STYLE, CoarsePool, Convolution, DropoutRate, Style
from eyebright.layers.fused import in_turn
from eyebright.layers.network import Network

Kernel = int | tuple[int, int]
Step = tuple[int, Kernel]  # channels that go out, kernel
WIDE, TALL = (1, 7), (7, 1)


class Mixed(nn.Module):
    """Branches side by side, each a row of convolutions, and a pool.

    Args:
        in_channels: that come in.
        branches: name → convolutions. A branch of one has its name, those of several are numbered from 1.
        style: which normalisation and nonlinearity.
        pooled: channels of the 1×1 after the average pool; None: a maximum pool alone, and every branch's last
            convolution has stride 2: the map shrinks.
        forks: the last convolution of branches that end in two side by side, 1×3 and 3×1 (figure 7).
    """

    def __init__(
        self,
        in_channels: int,
        branches: Mapping[str, tuple[Step, ...]],
        style: Style,
        pooled: int | None,
        forks: tuple[str, ...] = (),
    ):
        super().__init__()
        self.rows: list[tuple[tuple[str, ...], ...]] = []  # names of convolutions: one after the other, or side by side
        for name, steps in branches.items():
            before = in_channels
            row: list[tuple[str, ...]] = []
            for number, (width, kernel) in enumerate(steps, start=1):
                last = number == len(steps)
                label = name if len(steps) == 1 and name not in forks else f"{name}_{number}"
                shrinks = pooled is None and last
                layer = Convolution(before, width, kernel, style, stride=2 if shrinks else 1, padded=not shrinks)
                self.add_module(label, layer)
                before = width
                row.append((label,))
            if name in forks:
                ends = (f"{name}_{len(steps) + 1}a", f"{name}_{len(steps) + 1}b")
                for label, kernel in zip(ends, ((1, 3), (3, 1)), strict=True):
                    self.add_module(label, Convolution(before, before, kernel, style))
                row.append(ends)
            self.rows.append(tuple(row))
        self.pool = nn.MaxPool2d(3, 2) if pooled is None else nn.AvgPool2d(3, 1, padding=1)
        self.branch_pool = nn.Identity() if pooled is None else Convolution(in_channels, pooled, 1, style)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → the branches' maps one behind the other, `[N, sum of widths, …]`."""
        outputs = []
        for row in self.rows:
            maps = [x]
            for labels in row:
                maps = [self.get_submodule(label)(maps[0]) for label in labels]
            outputs += maps
        return torch.cat([*outputs, in_turn((self.pool, self.branch_pool), x)], dim=1)


def _grid35(before: int, pooled: int, style: Style) -> Mixed:
    """Figure 5: 3×3 convolutions in the place of 5×5."""
    return Mixed(
        before,
        {"branch1x1": ((64, 1),), "branch5x5": ((48, 1), (64, 5)), "branch3x3dbl": ((64, 1), (96, 3), (96, 3))},
        style, pooled,
    )  # fmt: skip


def _grid17(inner: int, style: Style) -> Mixed:
    """Figure 6: 1×7 and 7×1 in the place of 7×7."""
    double = ((inner, 1), (inner, TALL), (inner, WIDE), (inner, TALL), (192, WIDE))
    branches = {"branch1x1": ((192, 1),), "branch7x7": ((inner, 1), (inner, WIDE), (192, TALL)), "branch7x7dbl": double}
    return Mixed(768, branches, style, 192)


def _grid8(before: int, style: Style) -> Mixed:
    """Figure 7: branches that fork into 1×3 and 3×1."""
    branches = {"branch1x1": ((320, 1),), "branch3x3": ((384, 1),), "branch3x3dbl": ((448, 1), (384, 3))}
    return Mixed(before, branches, style, 192, forks=("branch3x3", "branch3x3dbl"))


class AuxiliaryHead(nn.Module):
    """A small classifier on the last 17×17 map (§4)."""

    def __init__(self, num_classes: int, style: Style):
        super().__init__()
        self.pool = CoarsePool(5)
        self.conv0 = Convolution(768, 128, 1, style)
        alone = replace(style, normalisation="none", normalise="before")  # its map is a single pixel
        self.conv1 = Convolution(128, 768, 5, alone if style.normalisation == "instance" else style, padded=False)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, 768, H, W]` → logits `[N, num_classes]`."""
        return cast(Tensor, self.fc(self.flatten(self.conv1(self.conv0(self.pool(x))))))


class InceptionV3(Network):
    """A stem, modules on maps of 35×35, 17×17 and 8×8, global average pooling, one dense layer."""

    default_input = 299
    smallest_input = 75
    head_name = "fc"

    def __init__(
        self,
        num_classes: PositiveInt = 1000,
        in_channels: PositiveInt = 3,
        dropout: DropoutRate = 0.5,
        auxiliary_heads: bool = False,
        style: Style = STYLE,
    ):
        super().__init__()
        self.style = style
        # x: [N, C, 299, 299]
        self.Conv2d_1a_3x3 = Convolution(in_channels, 32, 3, style, stride=2, padded=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, style, padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, style)
        self.maxpool1 = nn.MaxPool2d(3, 2)  # [N, 64, 73, 73]
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1, style)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, style, padded=False)
        self.maxpool2 = nn.MaxPool2d(3, 2)  # [N, 192, 35, 35]
        self.Mixed_5b = _grid35(192, 32, style)
        self.Mixed_5c = _grid35(256, 64, style)
        self.Mixed_5d = _grid35(288, 64, style)  # [N, 288, 35, 35]
        shrinking: dict[str, tuple[Step, ...]] = {"branch3x3": ((384, 3),), "branch3x3dbl": ((64, 1), (96, 3), (96, 3))}
        self.Mixed_6a = Mixed(288, shrinking, style, None)
        self.Mixed_6b = _grid17(128, style)
        self.Mixed_6c = _grid17(160, style)
        self.Mixed_6d = _grid17(160, style)
        self.Mixed_6e = _grid17(192, style)  # [N, 768, 17, 17]
        self.AuxLogits = AuxiliaryHead(num_classes, style) if auxiliary_heads else None
        shrinking = {"branch3x3": ((192, 1), (320, 3)), "branch7x7x3": ((192, 1), (192, WIDE), (192, TALL), (192, 3))}
        self.Mixed_7a = Mixed(768, shrinking, style, None)
        self.Mixed_7b = _grid8(1280, style)
        self.Mixed_7c = _grid8(2048, style)  # [N, 2048, 8, 8]
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(2048, num_classes)
        self.apply(self.initialise)
        if self.AuxLogits is not None and style.initialisation == "paper":
            for layer, deviation in ((self.AuxLogits.conv1.conv, 0.01), (self.AuxLogits.fc, 0.001)):
                nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Weights from N(0, 0.1²) cut off at two deviations."""
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → modules."""
        mixed = {f"mixed{name}": (self.get_submodule(f"Mixed_{name}"),) for name in
                 ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")}  # fmt: skip
        return {
            "stem": (
                self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3, self.maxpool1,
                self.Conv2d_3b_1x1, self.Conv2d_4a_3x3, self.maxpool2,
            ),
            **mixed,
            "pool": (self.avgpool, self.dropout, self.flatten),
            "head": (self.fc,),
        }  # fmt: skip

    def auxiliary_heads(self) -> dict[str, nn.Module]:
        """The auxiliary head on 6e, where the network has it."""
        return {} if self.AuxLogits is None else {"mixed6e": self.AuxLogits}
