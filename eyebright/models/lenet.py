"""LeNet-5 twice: as it is built today, and as the paper has it.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 1998,
§II.B, figure 2.

``lenet5``: S2 and S4 are average pools without coefficients to train, C3 sees all six maps, the output is a dense
layer, tanh is not scaled. 61,706 parameters with 10 classes and one channel. First weights are torch's own.

``lenet5_1998``: pools with a coefficient and a bias for each map, C3's connections of table I, tanh scaled by 1.7159
and 2/3, outputs that measure the distance to fixed codes; first weights of §II.B: even in ±2.4 / fan in. 60,000
trainable parameters. The paper scales pixels so that white is −0.1 and black 1.175.

Differences of ``lenet5_1998``: logits are the paper's outputs with a minus, so that cross-entropy is the criterion of
§II.C (equation 9, without its constant). The codes are digits drawn on 7×12 pixels, as in the paper, but our drawing
(`layers/radial.py`).
"""

from __future__ import annotations

from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from eyebright.layers.blocks import DropoutRate, Style
from eyebright.layers.network import Network
from eyebright.layers.radial import RadialBasis

TANH = Style(normalisation="none", nonlinearity="tanh")
SEEN = (  # the maps of S2 that each map of C3 is connected to (table I)
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5),
    (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5), (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


class LeNet5(Network):
    """Two convolutions with pooling and three dense layers; the stages have the paper's names."""

    default_input = smallest_input = 32
    fixed_input = True
    head_name = "output"

    def __init__(
        self,
        num_classes: PositiveInt = 10,
        in_channels: PositiveInt = 1,
        dropout: DropoutRate = 0.0,
        input_size: Annotated[int, Field(ge=32)] = 32,
        style: Style = TANH,
    ):
        super().__init__()
        self.style, self.default_input, self.smallest_input = style, input_size, input_size

        def layer(before: int, channels: int) -> tuple[nn.Module, ...]:
            normalised = style.order(style.norm(channels), style.activation())
            return nn.Conv2d(before, channels, 5, bias=style.bias), *normalised

        side = ((input_size - 4) // 2 - 4) // 2 - 4  # of the map after c5
        # x: [N, C, 32, 32]
        self.c1 = nn.Sequential(*layer(in_channels, 6))  # [N, 6, 28, 28]
        self.s2 = nn.AvgPool2d(2)  # [N, 6, 14, 14]
        self.c3 = nn.Sequential(*layer(6, 16))  # [N, 16, 10, 10]
        self.s4 = nn.AvgPool2d(2)  # [N, 16, 5, 5]
        self.c5 = nn.Sequential(nn.Conv2d(16, 120, 5), style.activation(), nn.Flatten())  # [N, 120]
        hidden = nn.Linear(120 * side * side, 84)
        self.f6 = nn.Sequential(hidden, style.dense_activation(), nn.Dropout(dropout))  # [N, 84]
        self.output = nn.Linear(84, num_classes)
        self.apply(self.initialise)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 x): its values at ±1 are ±1 (appendix A)."""

    bound = 1.7159

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, which it keeps."""
        return self.bound * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum of 2×2 values, times a coefficient, plus a bias: one of each for each map (layer S2)."""

    kernel_size = stride = 2

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, C, H / 2, W / 2]`."""
        return 4 * F.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConvolution(nn.Module):
    """A 5×5 convolution 6→16 in which each map sees some of the six alone: 60 kernels (layer C3, table I)."""

    kernel_size = 5

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(sum(map(len, SEEN)), 5, 5))  # in the order of SEEN
        self.bias = nn.Parameter(torch.empty(len(SEEN)))
        self.rows = [[maps for maps in SEEN if len(maps) == count] for count in (3, 4, 6)]  # alike in how many they see

    def forward(self, x: Tensor) -> Tensor:
        """`[N, 6, H, W]` → `[N, 16, H - 4, W - 4]`."""
        planes = torch.split(x, 1, dim=1)
        kernels = torch.split(self.weight, [len(row) * len(row[0]) for row in self.rows])
        outputs = []
        for row, weight in zip(self.rows, kernels, strict=True):  # each map a group of its own
            seen = torch.cat([planes[i] for maps in row for i in maps], dim=1)
            outputs.append(F.conv2d(seen, weight.view(len(row), -1, 5, 5), groups=len(row)))
        return torch.cat(outputs, dim=1) + self.bias[:, None, None]


class LeNet5Original(Network):
    """The paper's seven layers, under the paper's names."""

    default_input = smallest_input = 32
    fixed_input = True
    head_name = "output"

    def __init__(self, num_classes: PositiveInt = 10, in_channels: PositiveInt = 1):
        super().__init__()
        # x: [N, C, 32, 32]
        self.c1 = nn.Sequential(nn.Conv2d(in_channels, 6, 5), ScaledTanh())  # [N, 6, 28, 28]
        self.s2 = nn.Sequential(Subsampling(6), ScaledTanh())  # [N, 6, 14, 14]
        self.c3 = nn.Sequential(PartialConvolution(), ScaledTanh())  # [N, 16, 10, 10]
        self.s4 = nn.Sequential(Subsampling(16), ScaledTanh())  # [N, 16, 5, 5]
        self.c5 = nn.Sequential(nn.Conv2d(16, 120, 5), ScaledTanh(), nn.Flatten())  # [N, 120]
        self.f6 = nn.Sequential(nn.Linear(120, 84), ScaledTanh())  # [N, 84]
        self.output = RadialBasis(num_classes)
        self.apply(self.initialise)

    def make_head(self, num_classes: int) -> nn.Module:
        """Distances to as many codes: nothing to initialise."""
        return RadialBasis(num_classes)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Weights and biases even in ±2.4 / fan in (§II.B)."""
        match layer:
            case nn.Conv2d() | nn.Linear():
                inputs = torch.full((len(layer.weight),), float(layer.weight[0].numel()))
            case PartialConvolution():
                inputs = 25 * torch.tensor([float(len(maps)) for maps in SEEN])
            case Subsampling():
                inputs = torch.full((len(layer.weight),), 4.0)
            case _:
                return
        bound = (2.4 / inputs).to(layer.weight.device)
        of_kernels = bound
        if isinstance(layer, PartialConvolution):
            of_kernels = torch.stack([bound[out] for out, maps in enumerate(SEEN) for _ in maps])
        with torch.no_grad():
            layer.weight.uniform_(-1, 1).mul_(of_kernels.view(-1, *[1] * (layer.weight.dim() - 1)))
            cast(Tensor, layer.bias).uniform_(-1, 1).mul_(bound)
