"""AlexNet twice: the one tower that libraries call AlexNet, and the two halves of 2012.

`alexnet`: Krizhevsky: One Weird Trick for Parallelizing Convolutional Neural Networks, arXiv 1404.5997, 2014, in the
widths (64-192-384-256-256) and under the state-dict keys of the public library model. 61,100,840 parameters.

`alexnet_2012`: Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS
2012, §3.3 to §3.5 (layers, their order, local response normalisation), §4.2 (dropout after the hidden dense layers), §5
(first weights). 60,965,224 parameters. The paper's halves, one per GPU, are the two groups of grouped convolutions.

Differences from the papers: an adaptive average pool to 6×6 before the dense layers, so that larger pictures work; it
changes nothing at the size a network was designed for. The paper of 2012 says 224 pixels where its figures need 227.
"""

from __future__ import annotations

from functools import partial
from typing import cast

from pydantic import PositiveInt
from torch import Tensor, nn

from eyebright.layers.blocks import LOCAL_RESPONSE, WITHOUT_NORM, DropoutRate, Style, draw_weights
from eyebright.layers.network import Network

TOWER = (  # channels, kernel, stride, whether a 3×3 pool with stride 2 follows
    (64, 11, 4, True),
    (192, 5, 1, True),
    (384, 3, 1, False),
    (256, 3, 1, False),
    (256, 3, 1, True),
)


class AlexNet(Network):
    """Five convolutions and three dense layers in one tower; dropout before fc6 and fc7."""

    default_input = 224
    smallest_input = 63
    head_name = "classifier.6"

    def __init__(
        self,
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
        for width, kernel, stride, pooled in TOWER:
            layers.append(nn.Conv2d(channels, width, kernel, stride, padding=2 if kernel > 3 else 1))
            layers += style.order(style.norm(width), style.activation())
            layers += [nn.MaxPool2d(3, 2)] if pooled else []
            self.block_ends.append(len(layers))
            channels = width
        self.features = nn.Sequential(*layers)  # [N, C, 224, 224] → [N, 256, 6, 6]
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            *(nn.Dropout(dropout), nn.Linear(256 * 6 * 6, 4096), style.dense_activation()),
            *(nn.Dropout(dropout), nn.Linear(4096, 4096), style.dense_activation()),
            nn.Linear(4096, num_classes),
        )
        self.apply(self.initialise)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → modules."""
        features, classifier = tuple(self.features), tuple(self.classifier)
        starts = [0, *self.block_ends]
        convolutions = {f"conv{i + 1}": features[starts[i] : starts[i + 1]] for i in range(len(TOWER))}
        return convolutions | {
            "pool": (self.avgpool,),
            "fc6": (self.flatten, *classifier[0:3]),
            "fc7": classifier[3:6],
            "head": classifier[6:],
        }


class AlexNet2012(Network):
    """The original: two halves that meet in conv3 and in the dense layers; dropout after fc6 and fc7."""

    default_input = 227
    smallest_input = 67
    head_name = "fc8"

    def __init__(
        self,
        num_classes: PositiveInt = 1000,
        in_channels: PositiveInt = 3,
        dropout: DropoutRate = 0.5,
        style: Style = LOCAL_RESPONSE,
    ):
        super().__init__()
        self.style = style

        def normalised(width: int) -> tuple[nn.Module, ...]:
            return style.order(style.norm(width, halves=2), style.activation())

        # x: [N, C, 227, 227]
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, 96, 11, stride=4), *normalised(96), nn.MaxPool2d(3, 2)
        )  # [N, 96, 27, 27]
        self.conv2 = nn.Sequential(
            nn.Conv2d(96, 256, 5, padding=2, groups=2), *normalised(256), nn.MaxPool2d(3, 2)
        )  # [N, 256, 13, 13]
        self.conv3 = nn.Sequential(nn.Conv2d(256, 384, 3, padding=1), style.activation())  # sees both halves
        self.conv4 = nn.Sequential(nn.Conv2d(384, 384, 3, padding=1, groups=2), style.activation())
        self.conv5 = nn.Sequential(
            nn.Conv2d(384, 256, 3, padding=1, groups=2), style.activation(), nn.MaxPool2d(3, 2)
        )  # [N, 256, 6, 6]
        self.pool = nn.AdaptiveAvgPool2d(6)
        self.fc6 = nn.Sequential(
            nn.Flatten(), nn.Linear(256 * 6 * 6, 4096), style.dense_activation(), nn.Dropout(dropout)
        )  # [N, 4096]
        self.fc7 = nn.Sequential(nn.Linear(4096, 4096), style.dense_activation(), nn.Dropout(dropout))
        self.fc8 = nn.Linear(4096, num_classes)
        self.apply(self.initialise)
        positive = (self.conv2[0], self.conv4[0], self.conv5[0], self.fc6[1], self.fc7[0])
        for layer in positive if style.initialisation == "paper" else ():
            nn.init.ones_(cast(Tensor, layer.bias))  # so that their ReLUs begin with positive input (§5)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Weights from N(0, 0.01²), biases 0 (§5)."""
        draw_weights(layer, partial(nn.init.normal_, std=0.01))
