"""Small convolutional networks for a first lesson; none comes from a paper.

`cnn_cifar`: convolutions with batch norm, leaky ReLU and dropout for 32×32 colour pictures. 1,166,506 parameters and 43
million multiply-adds with 10 classes; an epoch over 50,000 pictures takes about a minute on two CPU cores. All its
channels grow with `width`, those of the stem. `normalise_input`: the pictures, too, are normalised.

`cnn_mnist`: convolutions with batch norm, ReLU and dropout for 28×28 grey pictures. 98,682 parameters with 10 classes;
99 % on MNIST after a few epochs.

`cnn_recitation`: two convolutions of 32 kernels 2×2, each with a max-pool, and a dense layer of 64, for two classes.
6,199,938 parameters, of which the dense layer on the flattened map holds 99.9 %.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from eyebright.layers.blocks import STYLE, WITHOUT_NORM, DropoutRate, Style
from eyebright.layers.network import Network

LEAKY = Style(nonlinearity="leaky_relu")


def layer(in_channels: int, channels: int, kernel: int, style: Style) -> tuple[nn.Module, ...]:
    """A convolution, its normalisation and its nonlinearity; an odd kernel keeps height and width."""
    padding = kernel // 2 if kernel % 2 else 0
    convolution = nn.Conv2d(in_channels, channels, kernel, padding=padding, bias=style.bias)
    return convolution, *style.order(style.norm(channels), style.activation())


class CnnCifar(Network):
    """A stem, three stages of two convolutions, global average pooling, so any size from 8×8 up works."""

    default_input = 32
    smallest_input = 8
    head_name = "output"

    def __init__(
        self,
        num_classes: PositiveInt = 10,
        in_channels: PositiveInt = 3,
        dropout: DropoutRate = 0.1,
        width: PositiveInt = 32,
        normalise_input: bool = False,
        style: Style = LEAKY,
    ):
        super().__init__()
        self.style = style

        def stage(before: int, channels: int, *pool: nn.Module) -> nn.Sequential:
            convolutions = (*layer(before, channels, 3, style), *layer(channels, channels, 3, style))
            return nn.Sequential(*convolutions, *pool, nn.Dropout(dropout))

        first = (style.norm(in_channels),) if normalise_input else ()
        # x: [N, C, 32, 32]
        self.stem = nn.Sequential(*first, *layer(in_channels, width, 3, style), nn.MaxPool2d(2))  # [N, width, 16, 16]
        self.stage1 = stage(width, 2 * width, nn.MaxPool2d(2))  # [N, 2 width, 8, 8]
        self.stage2 = stage(2 * width, 4 * width, nn.MaxPool2d(2))  # [N, 4 width, 4, 4]
        self.stage3 = stage(4 * width, 8 * width)  # [N, 8 width, 4, 4]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # [N, 8 width]
        self.output = nn.Linear(8 * width, num_classes)
        self.apply(self.initialise)


class CnnMnist(Network):
    """Four convolutions with three max-pools between them, and global average pooling."""

    default_input = 28
    smallest_input = 8
    head_name = "output"

    def __init__(
        self,
        num_classes: PositiveInt = 10,
        in_channels: PositiveInt = 1,
        dropout: DropoutRate = 0.2,
        style: Style = STYLE,
    ):
        super().__init__()
        self.style = style
        # x: [N, C, 28, 28]
        self.conv1 = nn.Sequential(*layer(in_channels, 16, 3, style), nn.MaxPool2d(2))  # [N, 16, 14, 14]
        self.conv2 = nn.Sequential(*layer(16, 32, 3, style), nn.MaxPool2d(2))  # [N, 32, 7, 7]
        self.conv3 = nn.Sequential(*layer(32, 64, 3, style), nn.MaxPool2d(2))  # [N, 64, 3, 3]
        self.conv4 = nn.Sequential(*layer(64, 128, 3, style))  # [N, 128, 3, 3]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))  # [N, 128]
        self.output = nn.Linear(128, num_classes)
        self.apply(self.initialise)


class CnnRecitation(Network):
    """Two convolutions, flattened into a dense layer: pictures must have the size it was built for.

    One output in the place of two makes it the logit of a sigmoid.
    """

    default_input = smallest_input = 224
    fixed_input = True
    head_name = "output"

    def __init__(
        self,
        num_classes: PositiveInt = 2,
        in_channels: PositiveInt = 3,
        input_size: Annotated[int, Field(ge=7)] = 224,
        width: PositiveInt = 64,
        dropout: DropoutRate = 0.0,
        style: Style = WITHOUT_NORM,
    ):
        super().__init__()
        self.style, self.default_input, self.smallest_input = style, input_size, input_size
        side = ((input_size - 1) // 2 - 1) // 2  # of the map that is flattened
        # x: [N, C, 224, 224]
        self.conv1 = nn.Sequential(*layer(in_channels, 32, 2, style), nn.MaxPool2d(2))  # [N, 32, 111, 111]
        self.conv2 = nn.Sequential(*layer(32, 32, 2, style), nn.MaxPool2d(2))  # [N, 32, 55, 55]
        hidden = nn.Linear(32 * side * side, width)
        self.dense = nn.Sequential(nn.Flatten(), hidden, style.dense_activation(), nn.Dropout(dropout))  # [N, width]
        self.output = nn.Linear(width, num_classes)
        self.apply(self.initialise)
