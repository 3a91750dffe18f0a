"""ZFNet: AlexNet with a first convolution that sees finer detail, found by looking at its features.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014 (arXiv 1311.2901), figure 3, §4.1: the
first convolution has 7×7 filters with stride 2, where AlexNet's has 11×11 with stride 4; both halves are joined. After
the first two convolutions come a ReLU, a 3×3 pool with stride 2, and contrast normalisation across maps, in this order.
First weights §3: 10⁻², biases 0. 62,357,608 parameters with 1000 classes.

The paper gives the sizes of all maps (110, 55, 26, 13, 6 for 224 pixels) and no paddings; those here give these sizes.
Of "contrast normalised across feature maps" it gives no figures: here it is AlexNet's local response normalisation.
An adaptive pool to 6×6 before the dense layers lets larger pictures in; it changes nothing at 224.
"""

from __future__ import annotations

from functools import partial

from pydantic import PositiveInt
from torch import nn

from eyebright.layers.blocks import LOCAL_RESPONSE, DropoutRate, Style, draw_weights
from eyebright.layers.network import Network


class ZFNet(Network):
    """Five convolutions and three dense layers."""

    default_input = 224
    smallest_input = 53
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
            norm, pool = style.norm(width), nn.MaxPool2d(3, 2, padding=1)
            return (norm, style.activation(), pool) if style.normalise == "before" else (style.activation(), pool, norm)

        # x: [N, C, 224, 224]
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, 96, 7, stride=2, padding=1), *normalised(96)
        )  # [N, 96, 55, 55]
        self.conv2 = nn.Sequential(nn.Conv2d(96, 256, 5, stride=2), *normalised(256))  # [N, 256, 13, 13]
        self.conv3 = nn.Sequential(nn.Conv2d(256, 384, 3, padding=1), style.activation())
        self.conv4 = nn.Sequential(nn.Conv2d(384, 384, 3, padding=1), style.activation())
        self.conv5 = nn.Sequential(
            nn.Conv2d(384, 256, 3, padding=1), style.activation(), nn.MaxPool2d(3, 2)
        )  # [N, 256, 6, 6]
        self.pool = nn.AdaptiveAvgPool2d(6)
        self.fc6 = nn.Sequential(
            nn.Flatten(), nn.Linear(256 * 6 * 6, 4096), style.dense_activation(), nn.Dropout(dropout)
        )
        self.fc7 = nn.Sequential(nn.Linear(4096, 4096), style.dense_activation(), nn.Dropout(dropout))
        self.fc8 = nn.Linear(4096, num_classes)
        self.apply(self.initialise)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Weights from N(0, 0.01²), biases 0 (§3)."""
        draw_weights(layer, partial(nn.init.normal_, std=0.01))
