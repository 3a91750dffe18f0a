"""What stands between the convolutions of many networks, chosen by name: one `Style`, not a copy for each choice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from eyebright.errors import ModelError
from eyebright.layers.fused import in_turn
from eyebright.layers.norm import InstanceNorm, LocalResponseNorm

Normalisation = Literal["batch", "layer", "instance", "group", "local_response", "none"]
Nonlinearity = Literal["relu", "leaky_relu", "gelu", "silu", "tanh"]
Initialisation = Literal["paper", "he", "xavier", "identity"]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]  # the share of values set to zero while training

GROUPS = 32  # of group normalisation, where the channels can be shared out so (Wu and He 2018, §4)
NARROW = 64  # channels: below that, groups are fewer, of four at least: one of a single channel is instance norm

_NONLINEARITIES: dict[Nonlinearity, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Style:
    """What a network puts after its layers, and its first weights.

    Attributes:
        normalisation: ``"batch"`` (Ioffe and Szegedy 2015), ``"layer"`` (Ba et al. 2016; over channels, height and
            width), ``"instance"`` (Ulyanov et al. 2016), ``"group"`` (Wu and He 2018), ``"local_response"``
            (Krizhevsky et al. 2012) or ``"none"``. Without one that has a shift of its own, convolutions have biases.
        normalise: whether it stands ``"before"`` or ``"after"`` the nonlinearity.
        nonlinearity: ``"relu"``, ``"leaky_relu"`` (slope 0.01), ``"gelu"`` (Hendrycks and Gimpel 2016), ``"silu"`` or
            ``"tanh"``; of convolutions and hidden dense layers.
        channel_dropout: the share of whole channels set to zero while training, after each nonlinearity on maps
            (Tompson et al. 2015).
        initialisation: first weights of convolutions and dense layers: ``"paper"``: what the network's own paper says;
            ``"he"`` (He et al. 2015), ``"xavier"`` (Glorot and Bengio 2010); ``"identity"``: each convolution passes as
            many channels on unchanged as it has, the rest after He.

    Raises:
        ModelError: a choice means nothing beside another one.
    """

    normalisation: Normalisation = "batch"
    normalise: Literal["before", "after"] = "before"
    nonlinearity: Nonlinearity = "relu"
    channel_dropout: DropoutRate = 0.0
    initialisation: Initialisation = "paper"

    def __post_init__(self) -> None:
        if self.normalise == "after" and self.normalisation == "none":
            raise ModelError(
                'normalise = "after" without a normalisation',
                expected="a normalisation, to stand before or after the nonlinearity",
                remedy='set normalisation = "batch", or leave normalise out',
            )

    @property
    def bias(self) -> bool:
        """Whether convolutions have biases: not where a normalisation takes them out or adds its own."""
        return self.normalisation in ("none", "local_response")

    def norm(self, channels: int, *, halves: int = 1, eps: float = 1e-5) -> nn.Module:
        """The normalisation of maps `[N, channels, H, W]`; the identity where there is none.

        Args:
            channels: of the maps.
            halves: groups of channels that local response normalisation keeps apart, as the original AlexNet does.
            eps: what is added to the variance.
        """
        match self.normalisation:
            case "batch":
                return nn.BatchNorm2d(channels, eps)
            case "layer":
                return nn.GroupNorm(1, channels, eps)
            case "instance":
                return InstanceNorm(channels, eps)
            case "group":
                groups = math.gcd(GROUPS, channels if channels >= NARROW else max(channels // 4, 1))
                return nn.GroupNorm(groups if channels % groups == 0 else 1, channels, eps)
            case "local_response":
                return LocalResponseNorm(groups=halves)
        return nn.Identity()

    def activation(self) -> nn.Module:
        """The nonlinearity on maps, and channel dropout after it where there is one."""
        made = self.dense_activation()
        return nn.Sequential(made, nn.Dropout2d(self.channel_dropout)) if self.channel_dropout else made

    def dense_activation(self) -> nn.Module:
        """The nonlinearity after a dense layer."""
        return _NONLINEARITIES[self.nonlinearity]()

    def order(self, norm: nn.Module, activation: nn.Module) -> tuple[nn.Module, ...]:
        """Normalisation and nonlinearity, in the order in which they are applied; what does nothing is left out."""
        both = (norm, activation) if self.normalise == "before" else (activation, norm)
        return tuple(module for module in both if not isinstance(module, nn.Identity))

    def initialise(self, layer: nn.Module) -> None:
        """Gives a convolution or dense layer its first weights, unless those are the paper's; biases become 0."""
        if self.initialisation == "paper":
            return
        draw_weights(layer, nn.init.xavier_uniform_ if self.initialisation == "xavier" else he)
        if self.initialisation == "identity" and isinstance(layer, nn.Conv2d):
            pass_on(layer)


def draw_weights(layer: nn.Module, draw: Callable[[Tensor], object]) -> None:
    """Has the weights of a convolution or dense layer filled in; biases become 0."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        draw(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def he(weight: Tensor) -> None:
    """Fills weights in after He et al. 2015 (fan in)."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def pass_on(layer: nn.Conv2d) -> None:
    """Makes the first outputs of each group copies of its inputs, as far as there are both."""
    height, width = layer.kernel_size
    each = layer.out_channels // layer.groups
    with torch.no_grad():
        for channel in range(layer.out_channels):
            within = channel % each
            if within < layer.weight.shape[1]:
                layer.weight[channel].zero_()
                layer.weight[channel, within, height // 2, width // 2] = 1.0


class Convolution(nn.Module):
    """A convolution with its normalisation and nonlinearity, under the names ``conv`` and ``bn``.

    Args:
        in_channels, channels: that come in and go out.
        kernel: height and width, or both in one number.
        style: which normalisation and nonlinearity.
        stride: by which the map shrinks.
        padded: whether zeros are added all round, so that with stride 1 the map keeps its size.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int | tuple[int, int],
        style: Style,
        stride: int = 1,
        padded: bool = True,
    ):
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(in_channels, channels, sides, stride, padding, bias=style.bias)
        self.bn = style.norm(channels, eps=1e-3)
        self.activation = style.activation()
        self.norm_first = style.normalise == "before"

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, channels, H / stride, W / stride]`."""
        after = (self.bn, self.activation) if self.norm_first else (self.activation, self.bn)
        return in_turn((self.conv, *after), x)


class Branches(nn.Module):
    """Branches side by side on one map, whose outputs are joined along the channels in the order given.

    Args:
        branches: name → branch; all give maps of the same height and width.
    """

    def __init__(self, **branches: nn.Module):
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, sum of the branches' channels, …]`."""
        return torch.cat([in_turn((branch,), x) for branch in self.children()], dim=1)


class CoarsePool(nn.Module):
    """Means of 5×5 values, three pixels apart, as auxiliary heads begin; `side` by `side` of them.

    Where a map has another size than the paper's, so that there would be more or fewer, it is shared out evenly.

    Args:
        side: height and width of what comes out.
    """

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, C, side, side]`."""
        if all((length - 5) // 3 + 1 == self.side for length in x.shape[2:]):
            return F.avg_pool2d(x, 5, 3)
        return F.adaptive_avg_pool2d(x, self.side)


STYLE = Style()  # batch normalisation before a ReLU
WITHOUT_NORM = Style(normalisation="none")
LOCAL_RESPONSE = Style(normalisation="local_response", normalise="after")
