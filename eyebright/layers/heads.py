"""Heads that can stand in the place of a network's last dense layer (lecture: L3.8)."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from torch import Tensor, nn

from eyebright.layers.blocks import DropoutRate
from eyebright.layers.network import Network, put_module

PositiveInt = Annotated[int, Field(ge=1)]


class _Options(BaseModel):
    """What all heads have in common.

    Attributes:
        maps: whether the last maps are flattened rather than pooled: the network then takes pictures of one size only.
        input_size: height and width, in pixels, of those; a recipe takes it from its Prepare.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    maps: bool = False
    input_size: PositiveInt | None = None


class LinearOptions(_Options):
    """One dense layer with a bias, whatever the network has of its own.

    Attributes:
        kind: ``"linear"``.
    """

    kind: Literal["linear"]


class DenseOptions(_Options):
    """Two dense layers with dropout between: the head of lecture L3.8.

    Attributes:
        kind: ``"dense"``.
        hidden: width of the first.
        dropout: while training, after its ReLU.
    """

    kind: Literal["dense"]
    hidden: PositiveInt = 256
    dropout: DropoutRate = 0.5


class NeighbourOptions(_Options):
    """The nearest of the pictures that it was given answer.

    Attributes:
        kind: ``"neighbours"``.
        pictures: that it was given.
        nearest: how many of them answer.
    """

    kind: Literal["neighbours"]
    pictures: PositiveInt
    nearest: PositiveInt


HeadOptions = LinearOptions | DenseOptions | NeighbourOptions
HEAD_OPTIONS: TypeAdapter[HeadOptions] = TypeAdapter(Annotated[HeadOptions, Field(discriminator="kind")])


class Neighbours(nn.Module):
    """k nearest neighbours: the pictures nearest to one, by Euclidean distance of scaled embeddings, vote.

    A vote weighs less the farther it is: exp(−d²/2r²), where r is the distance of the nearest one; so shares say little
    where all are equally far. The logits are the logarithms of the shares, each with a small share for every class.

    Args:
        in_features: D.
        out_features: K, classes.
        pictures: N.
        nearest: k.

    Attributes:
        embeddings: float32 `[N, D]`, scaled.
        labels: int64 `[N]`.
        mean, scale: float32 `[D]`: embeddings are scaled to ``(x - mean) * scale``.

    Source:
        Cover, Hart: Nearest neighbor pattern classification, IEEE Trans. Inf. Theory 13, 1967; weights after Dudani,
        IEEE Trans. SMC 6, 1976.
    """

    embeddings: Tensor
    labels: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, in_features: int, out_features: int, pictures: int, nearest: int):
        super().__init__()
        self.in_features, self.out_features, self.nearest = in_features, out_features, min(nearest, pictures)
        self.register_buffer("embeddings", torch.zeros(pictures, in_features))
        self.register_buffer("labels", torch.zeros(pictures, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("scale", torch.ones(in_features))

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[…, K]` of embeddings, float `[…, D]`."""
        if x.ndim != 2:
            rows: Tensor = self(x.flatten(0, -2))
            return rows.reshape(*x.shape[:-1], -1)
        exact = nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
        with exact:  # distances are small differences of large numbers
            distances = torch.cdist((x.float() - self.mean) * self.scale, self.embeddings).square()
            near, which = distances.topk(self.nearest, largest=False)
            reach = near[:, :1].clamp_min(torch.finfo(near.dtype).tiny)
            weights = torch.exp(-0.5 * (near / reach - 1))
            votes = torch.zeros(len(x), self.out_features, device=x.device)
            votes.scatter_add_(1, self.labels[which], weights)
            return (votes + 1 / self.out_features).log()


def put_head(model: Network, options: HeadOptions, num_classes: int) -> None:
    """Puts a fresh head in the place of a network's last dense layer.

    Args:
        model: a `Network`, which is changed.
        options: which head.
        num_classes: logits that come out.

    Raises:
        ModelError: maps are to be flattened, of a network that does not pool over all places before its last layer.
        InputSizeError: the network does not take pictures of that size.
    """
    place = model.head_name
    features = model.head.in_features
    if options.maps:
        features = _flatten_maps(model, options.input_size or model.default_input)
    if isinstance(options, NeighbourOptions):
        put_module(model, place, Neighbours(features, num_classes, options.pictures, options.nearest))
        return
    if isinstance(options, LinearOptions):
        put_module(model, place, nn.Linear(features, num_classes))
        model.initialise(model.head)
        return
    hidden, last = nn.Linear(features, options.hidden), nn.Linear(options.hidden, num_classes)
    for layer in (hidden, last):
        model.initialise(layer)
    put_module(model, place, nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(options.dropout), last))


def _flatten_maps(model: Network, size: int) -> int:
    """Takes the last pooling away; gives how many values come then."""
    pool = model.last_pool()
    shapes: list[torch.Size] = []
    hook = pool.register_forward_pre_hook(lambda module, given: shapes.append(given[0].shape))
    with torch.no_grad():
        model.eval()(torch.zeros(1, model.in_channels, size, size, device=next(model.parameters()).device))
    hook.remove()
    name = next(name for name, module in model.named_modules() if module is pool)
    put_module(model, name, nn.Identity())
    model.default_input, model.fixed_input = size, True
    return math.prod(shapes[0][1:])
