"""LeNet-5 as it is built today.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 1998,
§II.B and figure 2. 61,706 parameters with 10 classes and one channel.

Differences from the paper: S2 and S4 are average pools without coefficients to train, C3 sees all six maps, the output
is a dense layer instead of radial basis functions, and tanh is not scaled.
"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from eyebright.layers.network import Network


class LeNet5(Network):
    """Two convolutions with pooling and three dense layers; the stages have the paper's names."""

    default_input = smallest_input = 32
    fixed_input = True
    head_name = "output"

    def __init__(self, num_classes: int, in_channels: int, nonlinearity: type[nn.Module]):
        super().__init__()
        # x: [N, C, 32, 32]
        self.c1 = nn.Sequential(nn.Conv2d(in_channels, 6, 5), nonlinearity())  # [N, 6, 28, 28]
        self.s2 = nn.AvgPool2d(2)  # [N, 6, 14, 14]
        self.c3 = nn.Sequential(nn.Conv2d(6, 16, 5), nonlinearity())  # [N, 16, 10, 10]
        self.s4 = nn.AvgPool2d(2)  # [N, 16, 5, 5]
        self.c5 = nn.Sequential(nn.Conv2d(16, 120, 5), nonlinearity(), nn.Flatten())  # [N, 120]
        self.f6 = nn.Sequential(nn.Linear(120, 84), nonlinearity())  # [N, 84]
        self.output = nn.Linear(84, num_classes)


def lenet5(
    num_classes: PositiveInt = 10,
    in_channels: PositiveInt = 1,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
) -> LeNet5:
    """LeNet-5 for 32×32 pictures: average pools and full connections, with tanh or ReLU."""
    return LeNet5(num_classes, in_channels, {"tanh": nn.Tanh, "relu": nn.ReLU}[nonlinearity])
