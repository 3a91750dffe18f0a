"""VGG: stacks of 3×3 convolutions.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556, 2014, table 1:
columns A (11 layers), B (13), D (16), E (19); §3.1 dropout after the hidden dense layers. The ``_bn`` forms with batch
norm are later ones, of the libraries. State-dict keys are those of the public library models.

Parameters with 1000 classes: 132,863,336 (11) · 133,047,848 (13) · 138,357,544 (16) · 143,667,240 (19); with batch norm
132,868,840 · 133,053,736 · 138,365,992 · 143,678,248.

Differences from the paper: an adaptive average pool to 7×7 before the dense layers, so that larger pictures work; it
changes nothing at 224 pixels. First weights: the paper trains the deep nets from the shallow one's weights and notes
(§3.1, footnote) that Glorot's procedure does without; the libraries', which we follow, are He's for convolutions and
N(0, 0.01²) for dense layers.
"""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn

from eyebright.layers.blocks import WITHOUT_NORM, DropoutRate, Style
from eyebright.layers.network import Network

COLUMNS = {  # of the paper's table 1: convolutions in each of the five blocks
    "vgg11": (1, 1, 2, 2, 2),  # A
    "vgg13": (2, 2, 2, 2, 2),  # B
    "vgg16": (2, 2, 3, 3, 3),  # D
    "vgg19": (2, 2, 4, 4, 4),  # E
}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(Network):
    """Five blocks of 3×3 convolutions, each followed by a pool that halves the map, and three dense layers."""

    default_input = 224
    smallest_input = 32
    head_name = "classifier.6"

    def __init__(
        self,
        column: tuple[int, ...],
        num_classes: PositiveInt = 1000,
        in_channels: PositiveInt = 3,
        dropout: DropoutRate = 0.5,
        style: Style = WITHOUT_NORM,
    ):
        super().__init__()
        self.style = style
        layers: list[nn.Module] = []
        self.block_ends: list[int] = []
        channels = in_channels
        for width, convolutions in zip(WIDTHS, column, strict=True):
            for _ in range(convolutions):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))  # with a bias even before batch norm
                layers += style.order(style.norm(width), style.activation())
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
            self.block_ends.append(len(layers))
        self.features = nn.Sequential(*layers)  # [N, C, 224, 224] → [N, 512, 7, 7]
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            *(nn.Linear(512 * 7 * 7, 4096), style.dense_activation(), nn.Dropout(dropout)),
            *(nn.Linear(4096, 4096), style.dense_activation(), nn.Dropout(dropout)),
            nn.Linear(4096, num_classes),
        )
        self.apply(self.initialise)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Convolutions after He et al. 2015 (fan out), dense layers from N(0, 0.01²), biases 0."""
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → modules."""
        features, classifier = tuple(self.features), tuple(self.classifier)
        starts = [0, *self.block_ends]
        blocks = {f"block{i + 1}": features[starts[i] : starts[i + 1]] for i in range(len(self.block_ends))}
        return blocks | {
            "pool": (self.avgpool,),
            "fc6": (self.flatten, *classifier[0:3]),
            "fc7": classifier[3:6],
            "head": classifier[6:],
        }
