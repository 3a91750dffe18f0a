"""All normalisations by hand, from one definition and the axes that each averages over (lectures: L4.2, L4.3, L4.4)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

AXES: dict[str, tuple[int, ...]] = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}
"""Over which axes of `[N, C, H, W]` mean and variance are taken."""


def normalise(x: Values, axes: tuple[int, ...], eps: float = 1e-5) -> Values:
    """Mean 0 and variance 1 over some axes: ``(x − mean) / √(variance + eps)``.

    The variance is the mean of squares, not divided by one less.
    """
    mean = x.mean(axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + eps))


def scaled(x: Values, scale: Values, shift: Values) -> Values:
    """A learned scale and shift for each channel of `[N, C, H, W]`."""
    return x * scale[:, None, None] + shift[:, None, None]


@dataclass
class BatchNorm:
    """Batch normalisation with its exponential running averages (Ioffe and Szegedy 2015, algorithms 1 and 2).

    Attributes:
        channels: of the maps.
        momentum: how much of the running averages each batch replaces.
        eps: what is added to the variance.
        scale, shift: learned, `[C]`.
        running_mean, running_variance: what is used when nothing is trained, `[C]`; the running variance is of the
            unbiased one, divided by one less than the count.
    """

    channels: int
    momentum: float = 0.1
    eps: float = 1e-5
    scale: Values = field(init=False)
    shift: Values = field(init=False)
    running_mean: Values = field(init=False)
    running_variance: Values = field(init=False)

    def __post_init__(self) -> None:
        self.scale, self.shift = np.ones(self.channels), np.zeros(self.channels)
        self.running_mean, self.running_variance = np.zeros(self.channels), np.ones(self.channels)

    def train(self, x: Values) -> Values:
        """Normalises `[N, C, H, W]` (or `[N, C]`) with the batch's own mean and variance, and keeps track of them."""
        if x.ndim == 2:
            return self.train(x[:, :, None, None])[:, :, 0, 0]
        count = x.size // self.channels
        self.running_mean += self.momentum * (x.mean((0, 2, 3)) - self.running_mean)
        self.running_variance += self.momentum * (x.var((0, 2, 3)) * count / (count - 1) - self.running_variance)
        return scaled(normalise(x, AXES["batch"], self.eps), self.scale, self.shift)

    def evaluate(self, x: Values) -> Values:
        """Normalises with the running averages: a picture's result does not depend on the others."""
        if x.ndim == 2:
            return self.evaluate(x[:, :, None, None])[:, :, 0, 0]
        mean, variance = self.running_mean[:, None, None], self.running_variance[:, None, None]
        return scaled((x - mean) / np.sqrt(variance + self.eps), self.scale, self.shift)


def group_norm(x: Values, groups: int, eps: float = 1e-5) -> Values:
    """Over the channels of a group, height and width of one sample; one group is layer norm, C groups instance norm."""
    count, channels, height, width = x.shape
    parts = x.reshape(count, groups, channels // groups, height, width)
    return normalise(parts, (2, 3, 4), eps).reshape(x.shape)


def local_response_norm(
    x: Values, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, groups: int = 1
) -> Values:
    """Divides each value by the activity of its neighbouring channels (Krizhevsky et al. 2012, §3.3)."""
    result = np.empty_like(x)
    channels = x.shape[1] // groups
    for channel in range(x.shape[1]):
        first = channel // channels * channels
        near = range(max(first, channel - size // 2), min(first + channels, channel + size // 2 + 1))
        activity = sum((x[:, other] ** 2 for other in near), np.zeros_like(x[:, 0]))
        result[:, channel] = x[:, channel] / (k + alpha * activity) ** beta
    return result


def dropout(x: Values, share: float, generator: np.random.Generator, whole_channels: bool = False) -> Values:
    """Sets a share of values, or of whole channels of `[N, C, H, W]`, to zero; the others grow by 1 / (1 − share).

    So the expected sum stays what it was, and nothing has to be done when nothing is trained.
    """
    shape = (*x.shape[:2], 1, 1) if whole_channels else x.shape
    return np.asarray(x * (generator.random(shape) >= share) / (1 - share))
