"""Small convolutional networks for a first lesson; none comes from a paper.

`cnn_cifar`: convolutions with batch norm, leaky ReLU and dropout for 32×32 colour pictures. 1,166,506 parameters and 43
million multiply-adds with 10 classes; an epoch over 50,000 pictures takes about a minute on two CPU cores.

`cnn_mnist`: convolutions with batch norm, ReLU and dropout for 28×28 grey pictures. 98,682 parameters with 10 classes;
99 % on MNIST after a few epochs.

`cnn_recitation`: two convolutions of 32 kernels 2×2, each with a max-pool, and a dense layer of 64, for two classes.
6,199,938 parameters, of which the dense layer on the flattened map holds 99.9 %.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from eyebright.layers.network import DropoutRate, Network


def _normalised(in_channels: int, channels: int, nonlinearity: nn.Module) -> tuple[nn.Module, ...]:
    """A 3×3 convolution that keeps height and width, batch norm (it has the bias), a nonlinearity."""
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels), nonlinearity


class CnnCifar(Network):
    """A stem, three stages of two convolutions, global average pooling, so any size from 8×8 up works."""

    default_input = 32
    smallest_input = 8
    head_name = "output"

    def __init__(self, num_classes: int, in_channels: int, dropout: float):
        super().__init__()

        def stage(before: int, channels: int, *pool: nn.Module) -> nn.Sequential:
            first = _normalised(before, channels, nn.LeakyReLU(0.1))
            second = _normalised(channels, channels, nn.LeakyReLU(0.1))
            return nn.Sequential(*first, *second, *pool, nn.Dropout(dropout))

        # x: [N, C, 32, 32]
        self.stem = nn.Sequential(*_normalised(in_channels, 32, nn.LeakyReLU(0.1)), nn.MaxPool2d(2))  # [N, 32, 16, 16]
        self.stage1 = stage(32, 64, nn.MaxPool2d(2))  # [N, 64, 8, 8]
        self.stage2 = stage(64, 128, nn.MaxPool2d(2))  # [N, 128, 4, 4]
        self.stage3 = stage(128, 256)  # [N, 256, 4, 4]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # [N, 256]
        self.output = nn.Linear(256, num_classes)


class CnnMnist(Network):
    """Four convolutions with three max-pools between them, and global average pooling."""

    default_input = 28
    smallest_input = 8
    head_name = "output"

    def __init__(self, num_classes: int, in_channels: int, dropout: float):
        super().__init__()
        # x: [N, C, 28, 28]
        self.conv1 = nn.Sequential(*_normalised(in_channels, 16, nn.ReLU()), nn.MaxPool2d(2))  # [N, 16, 14, 14]
        self.conv2 = nn.Sequential(*_normalised(16, 32, nn.ReLU()), nn.MaxPool2d(2))  # [N, 32, 7, 7]
        self.conv3 = nn.Sequential(*_normalised(32, 64, nn.ReLU()), nn.MaxPool2d(2))  # [N, 64, 3, 3]
        self.conv4 = nn.Sequential(*_normalised(64, 128, nn.ReLU()))  # [N, 128, 3, 3]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))  # [N, 128]
        self.output = nn.Linear(128, num_classes)


class CnnRecitation(Network):
    """Two convolutions, flattened into a dense layer: pictures must have the size it was built for."""

    default_input = smallest_input = 224
    fixed_input = True
    head_name = "output"

    def __init__(self, num_classes: int, in_channels: int, input_size: int, width: int):
        super().__init__()
        self.default_input = self.smallest_input = input_size
        side = ((input_size - 1) // 2 - 1) // 2  # of the map that is flattened
        # x: [N, C, 224, 224]
        self.conv1 = nn.Sequential(nn.Conv2d(in_channels, 32, 2), nn.ReLU(), nn.MaxPool2d(2))  # [N, 32, 111, 111]
        self.conv2 = nn.Sequential(nn.Conv2d(32, 32, 2), nn.ReLU(), nn.MaxPool2d(2))  # [N, 32, 55, 55]
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(32 * side * side, width), nn.ReLU())  # [N, width]
        self.output = nn.Linear(width, num_classes)


def cnn_cifar(num_classes: PositiveInt = 10, in_channels: PositiveInt = 3, dropout: DropoutRate = 0.1) -> CnnCifar:
    """The small net for CIFAR-10, with dropout at the end of each stage."""
    return CnnCifar(num_classes, in_channels, dropout)


def cnn_mnist(num_classes: PositiveInt = 10, in_channels: PositiveInt = 1, dropout: DropoutRate = 0.2) -> CnnMnist:
    """The small net for MNIST, with dropout before the head."""
    return CnnMnist(num_classes, in_channels, dropout)


def cnn_recitation(
    num_classes: PositiveInt = 2,
    in_channels: PositiveInt = 3,
    input_size: Annotated[int, Field(ge=7)] = 224,
    width: PositiveInt = 64,
) -> CnnRecitation:
    """The first net for photographs of two classes; one output instead of two makes it a sigmoid's logit."""
    return CnnRecitation(num_classes, in_channels, input_size, width)
