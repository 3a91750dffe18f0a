"""The original AlexNet on two devices, as it was trained in 2012.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012, §3.2 and
figure 2: each device holds half of the maps of every layer; they exchange data before the third convolution and before
each dense layer only. `alexnet_2012` computes the same on one device, with grouped convolutions.

Difference from the paper: the last layer's 1000 outputs are computed by the first device alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyebright.errors import ModelError
from eyebright.layers.blocks import LOCAL_RESPONSE
from eyebright.layers.norm import LocalResponseNorm
from eyebright.models.alexnet import AlexNet2012

Pair = tuple[Tensor, Tensor]


class Half(nn.Module):
    """One device's half of every layer but the last."""

    def __init__(self, in_channels: int):
        super().__init__()

        def block(*layers: nn.Module, pooled: bool) -> nn.Sequential:
            return nn.Sequential(*layers, *([nn.MaxPool2d(3, 2)] if pooled else []))

        # x: [N, C, 227, 227]
        first, second = nn.Conv2d(in_channels, 48, 11, stride=4), nn.Conv2d(48, 128, 5, padding=2)
        self.conv1 = block(first, nn.ReLU(), LocalResponseNorm(), pooled=True)  # [N, 48, 27, 27]
        self.conv2 = block(second, nn.ReLU(), LocalResponseNorm(), pooled=True)  # [N, 128, 13, 13]
        self.conv3 = block(nn.Conv2d(256, 192, 3, padding=1), nn.ReLU(), pooled=False)  # sees both halves
        self.conv4 = block(nn.Conv2d(192, 192, 3, padding=1), nn.ReLU(), pooled=False)
        self.conv5 = block(nn.Conv2d(192, 128, 3, padding=1), nn.ReLU(), pooled=True)  # [N, 128, 6, 6]
        self.pool = nn.AdaptiveAvgPool2d(6)
        self.fc6 = nn.Sequential(nn.Linear(256 * 6 * 6, 2048), nn.ReLU())  # sees both halves
        self.fc7 = nn.Sequential(nn.Linear(4096, 2048), nn.ReLU())  # sees both halves


class SplitAlexNet2012(nn.Module):
    """An `alexnet_2012` taken apart: two halves on two devices, with the same answers and the same gradients.

    Args:
        model: with local response normalisation, as it is by default. Its weights are copied.
        devices: of the first and of the second half; pictures go in, and logits come out, on the first.

    Raises:
        ModelError: the network has another style than the paper's, which may not fall apart into halves.
    """

    def __init__(self, model: AlexNet2012, devices: tuple[str | torch.device, str | torch.device]):
        super().__init__()
        style = model.style
        if replace(style, initialisation="paper") != LOCAL_RESPONSE:
            raise ModelError(
                f"an alexnet_2012 with {style.normalisation} normalisation {style.normalise} {style.nonlinearity} "
                "was to be split",
                expected="local_response normalisation after relu, without channel dropout, as in the paper",
                remedy="create it without options of style",
            )
        self.devices = tuple(torch.device(device) for device in devices)
        self.dropout = cast(nn.Dropout, model.fc6[3]).p
        self.halves = nn.ModuleList(Half(model.in_channels).to(device) for device in self.devices)
        self.fc8 = nn.Linear(4096, model.num_classes).to(self.devices[0])
        self.to(next(model.parameters()).dtype)
        self.load(model)
        self.train(model.training)

    def load(self, model: AlexNet2012) -> None:
        """Copies the weights of a whole network into the halves."""
        whole = model.state_dict()
        with torch.no_grad():
            for number, half in enumerate(self.halves):
                for name, parameter in half.named_parameters():
                    parameter.copy_(whole[_whole_name(name)].chunk(2)[number])
            for name, parameter in self.fc8.named_parameters():
                parameter.copy_(whole[f"fc8.{name}"])

    def whole_state_dict(self) -> dict[str, Tensor]:
        """The weights as an `alexnet_2012` holds them, on the first device."""
        halves = [dict(half.named_parameters()) for half in self.halves]
        joined = {
            _whole_name(name): torch.cat([value.detach().to(self.devices[0]) for value in (first, halves[1][name])])
            for name, first in halves[0].items()
        }
        return joined | {f"fc8.{name}": value.detach() for name, value in self.fc8.named_parameters()}

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, num_classes]` of pictures, float `[N, C, H, W]`, on the first device."""
        own = self._each("conv1", (x.to(self.devices[0]), x.to(self.devices[1])))
        own = self._each("conv2", own)
        own = self._each("conv3", self.exchange(own))
        for name in ("conv4", "conv5", "pool"):
            own = self._each(name, own)
        own = self._each("fc6", self.exchange((own[0].flatten(1), own[1].flatten(1))))
        own = self._each("fc7", self.exchange(self._drop(own)))
        return cast(Tensor, self.fc8(self.exchange(self._drop(own))[0]))

    def exchange(self, own: Pair) -> Pair:
        """What either device needs to see of both: the halves joined along the channels, on each."""
        first, second = self.devices
        return torch.cat([own[0], own[1].to(first)], dim=1), torch.cat([own[0].to(second), own[1]], dim=1)

    def _each(self, layer: str, inputs: Pair) -> Pair:
        first, second = (getattr(half, layer) for half in self.halves)
        return first(inputs[0]), second(inputs[1])

    def _drop(self, own: Pair) -> Pair:
        """Dropout with one mask over both halves, as the whole network has it."""
        if not self.training or not self.dropout:
            return own
        mask = F.dropout(own[0].new_ones(len(own[0]), own[0].shape[1] * 2), self.dropout)
        return own[0] * mask[:, : own[0].shape[1]], own[1] * mask[:, own[0].shape[1] :].to(self.devices[1])


def _whole_name(name: str) -> str:
    """A parameter's name in the whole network, whose fc6 begins with a flattening."""
    return name.replace("fc6.0", "fc6.1")
