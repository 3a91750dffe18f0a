"""The network of the CIFAR-10 speed records: small, wide, without shortcuts, and trained in a few epochs.

A frozen convolution makes the 2×2 patches of the training pictures uncorrelated (whitening); three groups of two
convolutions follow. Convolutions begin as the identity, as far as channels go; scales of normalisation stay 1. About
two million parameters and 118 million multiply-adds with 10 classes.

Source:
    Jordan: 94 % on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498, in the later form with Muon.
"""

from __future__ import annotations

from typing import cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from eyebright.layers.blocks import DropoutRate, Style, draw_weights, he, pass_on
from eyebright.layers.network import Network

STYLE = Style(nonlinearity="gelu")
MOMENTUM = 0.4  # of normalisation's running statistics: there are few steps to learn them from
PATCH = 2  # pixels: side of the patches that are whitened
EVENNESS = 5e-4  # added to the variance of each direction of the patches before whitening


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def extra_repr(self) -> str:
        """The factor, for `print`."""
        return f"{self.factor:g}"

    def forward(self, x: Tensor) -> Tensor:
        """`x`, times the factor."""
        return x * self.factor


class Airbench(Network):
    """Whitening, three groups, the largest value of each map, and a small head.

    Args:
        num_classes: logits that come out.
        in_channels: of the pictures.
        widths: channels of the three groups.
        whitening_bias: whether the whitening has biases, which learn; without, nothing goes back through the pictures'
            largest maps.
        dropout: before the head, while training.
        style: what stands after convolutions, and their first weights.
    """

    default_input = 32
    smallest_input = 9
    head_name = "output"
    pictures_wanted = 5000

    def __init__(
        self,
        num_classes: PositiveInt = 10,
        in_channels: PositiveInt = 3,
        widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 256, 256),
        whitening_bias: bool = True,
        dropout: DropoutRate = 0.0,
        style: Style = STYLE,
    ):
        super().__init__()
        self.style = style
        directions = 2 * in_channels * PATCH**2
        # x: [N, C, 32, 32]
        whitening = nn.Conv2d(in_channels, directions, PATCH, bias=whitening_bias)
        self.whitening = nn.Sequential(whitening, style.activation())  # [N, 24, 31, 31]
        self.group1 = self._group(directions, widths[0])  # [N, 64, 15, 15]
        self.group2 = self._group(widths[0], widths[1])  # [N, 256, 7, 7]
        self.group3 = self._group(widths[1], widths[2])  # [N, 256, 3, 3]
        self.pool = nn.Sequential(  # [N, 256]
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(dropout), Scale(1 / widths[2])
        )
        self.output = nn.Linear(widths[2], num_classes, bias=False)
        self.apply(self.initialise)
        self._first.weight.requires_grad_(False)

    @property
    def _first(self) -> nn.Conv2d:
        return cast(nn.Conv2d, self.whitening[0])

    def _group(self, before: int, channels: int) -> nn.Sequential:
        def norm() -> tuple[nn.Module, ...]:
            made = self.style.norm(channels)
            if isinstance(made, nn.BatchNorm2d):
                made.momentum = MOMENTUM
                made.weight.requires_grad_(False)
            return self.style.order(made, self.style.activation())

        bias = self.style.bias
        first = nn.Conv2d(before, channels, 3, padding=1, bias=bias)
        second = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        return nn.Sequential(first, nn.MaxPool2d(2), *norm(), second, *norm())

    def initialise_paper(self, layer: nn.Module) -> None:
        """Convolutions pass channels on unchanged; those beyond them are drawn (partial identity)."""
        if isinstance(layer, nn.Conv2d):
            draw_weights(layer, he)
            pass_on(layer)

    def make_head(self, num_classes: int) -> nn.Module:
        """A fresh last layer: it has no bias."""
        new = nn.Linear(self.output.in_features, num_classes, bias=False)
        self.initialise(new)
        return new

    def meet(self, pictures: Tensor) -> None:
        """Makes the first convolution whiten 2×2 patches of these pictures, each direction with both signs.

        Args:
            pictures: float `[N, C, H, W]`, normalised, on the CPU; the same ones give the same filters.
        """
        windows = pictures.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # [N, C, rows, columns, 2, 2]
        patches = windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2).double()
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        whitening = (directions / (variances + EVENNESS).sqrt()).T.reshape(-1, pictures.shape[1], PATCH, PATCH)
        with torch.no_grad():
            self._first.weight.copy_(torch.cat([whitening, -whitening]))
