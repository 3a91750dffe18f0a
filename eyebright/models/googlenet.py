"""GoogLeNet: modules that look at one map in four ways at once.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: Going Deeper with Convolutions, arXiv
1409.4842, 2014: table 1 (widths), §5 (auxiliary heads on 4a and 4d, 70 % dropout in them, weight 0.3 of their losses).

``googlenet_2014`` is the paper's form: biases, 5×5 convolutions, local response normalisation in the stem.
``googlenet`` is the libraries' form, under the keys of the public library model: batch norm, and 3×3 convolutions where
the paper has 5×5. Parameters with 1000 classes: 6,998,552 (with auxiliary heads 13,378,280) and 6,624,904 (13,004,888).

Differences from the paper: pools round up where it does not say, so that its map sizes come out; the auxiliary heads
pool to 4×4 whatever the picture's size, in the library's form evenly. First weights, which it does not give, are those
of public models: the library's N(0, 0.01²) cut off, which needs its batch norm; in the paper's form Glorot's, with
biases of 0.2, as Caffe's.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt
from torch import Tensor, nn

from eyebright.layers.blocks import STYLE, Branches, CoarsePool, Convolution, DropoutRate, Style
from eyebright.layers.fused import in_turn
from eyebright.layers.network import Network
from eyebright.layers.norm import LocalResponseNorm

MODULES = {  # 1×1, 3×3 after its 1×1, 5×5 after its 1×1, after the pool; input channels first
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


@dataclass(frozen=True)
class Form:
    """What tells the two forms apart.

    Attributes:
        large_kernel: of the third branch.
        response_norm: whether local response normalisation stands in the stem.
        last_pool: height and width of the pool before 5a.
        smallest_input: least height and width, in pixels, with which no map is empty.
    """

    large_kernel: int
    response_norm: bool
    last_pool: int
    smallest_input: int


PAPER, LIBRARY = Form(5, True, 3, smallest_input=31), Form(3, False, 2, smallest_input=15)


def inception(widths: tuple[int, ...], form: Form, style: Style) -> Branches:
    """Four branches side by side: 1×1; 3×3; 5×5; a pool. The 1×1 before or after the others saves computing."""
    before, one, three_reduced, three, five_reduced, five, pooled = widths
    return Branches(
        branch1=Convolution(before, one, 1, style),
        branch2=nn.Sequential(
            Convolution(before, three_reduced, 1, style), Convolution(three_reduced, three, 3, style)
        ),
        branch3=nn.Sequential(
            Convolution(before, five_reduced, 1, style), Convolution(five_reduced, five, form.large_kernel, style)
        ),
        branch4=nn.Sequential(nn.MaxPool2d(3, 1, padding=1), Convolution(before, pooled, 1, style)),
    )


class AuxiliaryHead(nn.Module):
    """A small classifier on an inner map, which brings gradient to the lower layers (§5)."""

    def __init__(self, in_channels: int, num_classes: int, form: Form, style: Style):
        super().__init__()
        self.pool = CoarsePool(4) if form is PAPER else nn.AdaptiveAvgPool2d(4)
        self.conv = Convolution(in_channels, 128, 1, style)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = style.dense_activation()
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → logits `[N, num_classes]`."""
        return in_turn((self.pool, self.conv, self.flatten, self.fc1, self.relu, self.dropout, self.fc2), x)


class GoogLeNet(Network):
    """A stem, nine inception modules in three groups, global average pooling, one dense layer."""

    default_input = 224
    head_name = "fc"

    def __init__(
        self,
        form: Form,
        num_classes: PositiveInt = 1000,
        in_channels: PositiveInt = 3,
        dropout: DropoutRate = 0.4,
        auxiliary_heads: bool = False,
        style: Style = STYLE,
    ):
        super().__init__()
        self.form, self.style, self.smallest_input = form, style, form.smallest_input
        # x: [N, C, 224, 224]
        self.conv1 = Convolution(in_channels, 64, 7, style, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm1 = LocalResponseNorm() if form.response_norm else nn.Identity()  # [N, 64, 56, 56]
        self.conv2 = Convolution(64, 64, 1, style)
        self.conv3 = Convolution(64, 192, 3, style)
        self.norm2 = LocalResponseNorm() if form.response_norm else nn.Identity()
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)  # [N, 192, 28, 28]
        for name in ("3a", "3b"):
            self.add_module(f"inception{name}", inception(MODULES[name], form, style))
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)  # [N, 480, 14, 14]
        for name in ("4a", "4b", "4c", "4d", "4e"):
            self.add_module(f"inception{name}", inception(MODULES[name], form, style))
        self.maxpool4 = nn.MaxPool2d(form.last_pool, 2, ceil_mode=True)  # [N, 832, 7, 7]
        for name in ("5a", "5b"):
            self.add_module(f"inception{name}", inception(MODULES[name], form, style))
        self.aux1 = AuxiliaryHead(512, num_classes, form, style) if auxiliary_heads else None
        self.aux2 = AuxiliaryHead(528, num_classes, form, style) if auxiliary_heads else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()  # [N, 1024]
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)
        self.apply(self.initialise)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Weights from N(0, 0.01²) cut off at two deviations; in the paper's form Glorot's."""
        if isinstance(layer, nn.Conv2d | nn.Linear) and self.form is PAPER:
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 0.2 if isinstance(layer, nn.Conv2d) else 0.0)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → modules."""
        inner: dict[str, tuple[nn.Module, ...]] = {
            f"inception{name}": (getattr(self, f"inception{name}"),) for name in MODULES
        }
        inner["inception4a"] = (self.maxpool3, *inner["inception4a"])
        inner["inception5a"] = (self.maxpool4, *inner["inception5a"])
        return {
            "stem": (self.conv1, self.maxpool1, self.norm1, self.conv2, self.conv3, self.norm2, self.maxpool2),
            **inner,
            "pool": (self.avgpool, self.flatten, self.dropout),
            "head": (self.fc,),
        }

    def auxiliary_heads(self) -> dict[str, nn.Module]:
        """The two auxiliary heads, on 4a and 4d, where the network has them."""
        heads = {"inception4a": self.aux1, "inception4d": self.aux2}
        return {stage: head for stage, head in heads.items() if head is not None}
