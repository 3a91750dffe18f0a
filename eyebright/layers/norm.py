"""Normalisations that torch does not have as the papers define them, or not with an error that says what is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyebright.errors import InputSizeError, ModelError


class InstanceNorm(nn.Module):
    """Normalises each channel of each sample over its height and width; then a learned scale and shift.

    Args:
        channels: of the maps.
        eps: what is added to the variance.

    Source:
        Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv 1607.08022.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """The normalised `x`, of its shape `[N, C, H, W]`.

        Raises:
            InputSizeError: the maps are of a single pixel, which normalised by itself is always 0.
        """
        if x.shape[2] * x.shape[3] == 1:
            raise InputSizeError(
                "instance normalisation was given maps of 1×1",
                expected="maps of two pixels at least: each is normalised by itself, and one value would always be 0",
                remedy='use larger pictures, or normalisation = "group"',
            )
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        """The size, as `print` shows it."""
        return f"{len(self.weight)}"


class LocalResponseNorm(nn.Module):
    """Divides each value by how active its neighbouring channels are at the same pixel.

    ``b[i] = a[i] / (k + alpha * sum(a[j] ** 2 for j in i - size // 2 … i + size // 2)) ** beta``, with the sum cut off
    at the ends of each of the `groups` groups of channels. Here `alpha` multiplies the **sum**, as in the paper;
    torch's layer of the same name multiplies the mean, so its ``alpha`` is `size` times ours.

    Half-precision values are squared and summed in float32, where they cannot overflow, and returned as they came.

    Args:
        size: how many neighbouring channels are summed, an odd number (the paper's n).
        alpha: weight of the sum.
        beta: exponent of the whole.
        k: what the sum is added to.
        groups: groups of channels that do not see each other: 2 for the halves of the original AlexNet.

    Raises:
        ModelError: `size` is even or less than 1.

    Source:
        Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012, §3.3.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, groups: int = 1):
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ModelError(
                f"LocalResponseNorm was given a size of {size} channels",
                expected="an odd number: as many neighbours on either side, and the channel itself",
                remedy="take 5, as the paper does",
            )
        self.size, self.alpha, self.beta, self.k, self.groups = size, alpha, beta, k, groups

    def forward(self, x: Tensor) -> Tensor:
        """The normalised `x`, of its shape `[N, C, H, W]` and its number format."""
        a = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        squares = torch.unflatten(a.square(), 1, (self.groups, -1))  # [N, groups, C / groups, H, W]
        channels, reach = squares.shape[2], self.size // 2
        padded = F.pad(squares, (0, 0, 0, 0, reach, reach))
        total = padded[:, :, :channels]
        for shift in range(1, self.size):
            total = total + padded[:, :, shift : shift + channels]
        scale = (self.k + self.alpha * total.flatten(1, 2)).pow(-self.beta)  # [N, C, H, W]
        return (a * scale).to(x.dtype)

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, groups={self.groups}"
