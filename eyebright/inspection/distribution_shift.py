"""Distribution shift between two sources of pictures, as each layer of a network sees it (lecture: L4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from eyebright.classifier import Classifier
from eyebright.data.batches import Loader
from eyebright.data.images import Pictures
from eyebright.device import Plan
from eyebright.errors import DataError
from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, name_layers, tidy
from eyebright.layers.network import Network
from eyebright.training.observe import evaluating, weighted_layers

BATCH = 32
FEWEST = 20  # pictures of a source
CHUNKS = 10  # of a source, from whose means is told how far chance moves them
CLEAR = 3.0  # times what chance does

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of each channel that a layer is given.

    Attributes:
        count: values of each channel.
        means, variances: float64 `[C]`.
    """

    count: int
    means: Values
    variances: Values

    def __add__(self, other: Moments) -> Moments:
        """Those of both together."""
        count = self.count + other.count
        share = other.count / count
        means = self.means + share * (other.means - self.means)
        within = (1 - share) * self.variances + share * other.variances
        return Moments(count, means, within + share * (1 - share) * (other.means - self.means) ** 2)

    @property
    def spread(self) -> float:
        """Root of the sum of the channels' variances."""
        return float(np.sqrt(self.variances.sum()))

    def moved(self, other: Moments) -> float:
        """How far the channels' means are from those of `other`, in spreads of these.

        Where each mean is `d` of its channel's standard deviations away, that is `d`; what hardly varies counts little.
        """
        return float(np.linalg.norm(other.means - self.means)) / max(self.spread, 1e-12)


@dataclass(frozen=True)
class SourceShift:
    """One layer's inputs, from two sources.

    Attributes:
        layer: its state-dict prefix.
        moved: how far the channels' means of the second source are from those of the first, in spreads of the first.
        chance: how far chance moves them apart where the sources do not differ, told from how the means of the tenths
            of each source differ: root of the expected square.
        wider: the second's spread, as a multiple of the first's.
    """

    layer: str
    moved: float
    chance: float
    wider: float


def measure_moments(
    model: Network, batches: Iterable[Tensor], plan: Plan, *, by_batch: bool = False
) -> dict[str, Moments]:
    """Moments of what each convolution and dense layer is given in evaluation, in the order of computation.

    Args:
        model: stays as it is.
        batches: float `[N, C, H, W]` each, prepared, on the device.
        plan: how it computes.
        by_batch: whether batch norm normalises by the batch, as in training, and not by its running statistics.

    Returns:
        State-dict prefix → moments of its inputs.
    """
    names: dict[nn.Module, str] = {layer: name for name, layer in weighted_layers(model)}
    found: dict[str, Moments] = {}

    def meet(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double().movedim(1, -1).flatten(0, -2)  # [N, C]
        variances, means = (one.cpu().numpy() for one in torch.var_mean(values, dim=0, correction=0))
        seen, name = Moments(len(values), means, variances), names[module]
        found[name] = found[name] + seen if name in found else seen

    hooks = [layer.register_forward_pre_hook(meet) for layer in names]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d) and by_batch]
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        with evaluating(model, plan, hooks):
            for norm in norms:
                norm.train()
            for batch in batches:
                model(batch)
    finally:
        for buffer, value in kept:
            buffer.copy_(value)
    return found


@contextmanager
def pushed(model: Network, layer: str, amounts: Values) -> Iterator[None]:
    """Within the block a layer is given other inputs than its own: each channel is moved by a known amount.

    Args:
        model: whose layer it is.
        layer: state-dict prefix of a convolution or dense layer.
        amounts: float64 `[C]`: what is added to each channel.
    """

    def push(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        own = inputs[0].float()  # in bfloat16 a small amount would be lost
        shape = (1, -1, *[1] * (own.dim() - 2))
        return own + torch.from_numpy(amounts).to(own).view(shape), *inputs[1:]

    hook = dict(weighted_layers(model))[layer].register_forward_pre_hook(push)
    try:
        yield
    finally:
        hook.remove()


def compare_sources(
    classifier: Classifier,
    one: Pictures,
    other: Pictures,
    on_batch: Callable[[int], object] = lambda done: None,
) -> list[SourceShift]:
    """How far what the layers are given moves from one source of pictures to another.

    Args:
        classifier: whose layers, and how pictures are prepared.
        one: what it was trained for, say.
        other: of the same number of channels, or such that they can be made so; labels and classes do not matter.
        on_batch: called with the number of pictures done.

    Raises:
        DataError: a source of fewer than 20 pictures.
        PictureError: a picture cannot be decoded.
    """
    for pictures in (one, other):
        if len(pictures) < FEWEST:
            raise DataError(
                f"{len(pictures)} pictures, in which to see a shift",
                expected=f"at least {FEWEST} from each source: of fewer, chance moves the means too far",
                remedy="give more pictures",
            )
    done = 0

    def batches(pictures: Pictures) -> Iterator[Tensor]:
        nonlocal done
        for batch in Loader(pictures, classifier.prepare, classifier.plan, BATCH).batches():
            yield classifier.plan.place_inputs(batch.inputs)
            done += len(batch.indices)
            on_batch(done)

    def tenths(pictures: Pictures) -> list[dict[str, Moments]]:
        parts = (pictures.select(np.arange(start, len(pictures), CHUNKS)) for start in range(CHUNKS))
        return [measure_moments(classifier.model, batches(part), classifier.plan) for part in parts]

    first, second = tenths(one), tenths(other)
    found = []
    for layer in first[0]:
        ours, theirs = ([part[layer] for part in parts] for parts in (first, second))
        before, after = (reduce(add, several) for several in (ours, theirs))
        errors = [np.var([part.means for part in several], axis=0, ddof=1) / CHUNKS for several in (ours, theirs)]
        spread = max(before.spread, 1e-12)
        chance = float(np.sqrt(sum(errors).sum())) / spread
        found.append(SourceShift(layer, before.moved(after), chance, after.spread / spread))
    return found


def say_sources(shifts: Sequence[SourceShift]) -> list[str]:
    """What there is to see, in sentences."""
    first, last = shifts[0], shifts[-1]
    most = max(shifts, key=lambda shift: shift.moved)
    clear = sum(shift.moved > CLEAR * shift.chance for shift in shifts)
    return [
        f"the pictures' channel means are {first.moved:.2f} spreads apart (chance alone: {first.chance:.2f}), what the "
        f"last layer is given {last.moved:.2f} ({last.chance:.2f}); farthest apart in {most.layer}, {most.moved:.2f}",
        f"{clear} of {len(shifts)} layers are given something clearly else than from the first source ({CLEAR:g} times "
        "what chance does)",
    ]


def draw_sources(shifts: Sequence[SourceShift], one: str, other: str) -> Figure:
    """Draws for each layer how far the means are apart, beside chance, and how the spread differs.

    Args:
        shifts: in the order of the layers.
        one: name of the first source.
        other: name of the second.
    """
    figure = make_figure(11, 4.4)
    moved, wider = figure.subplots(1, 2)
    places = np.arange(len(shifts))
    style = {"marker": "o", "markersize": 4, "linewidth": 1.4}
    moved.plot(places, [shift.moved for shift in shifts], color=ORANGE, label=f"{one} → {other}", **style)
    moved.plot(places, [shift.chance for shift in shifts], color=GREY, label="chance alone", **style)
    moved.set_ylim(bottom=0)
    tidy(moved, "How far the channels' means are apart", "", "spreads of the first source")
    moved.legend(frameon=False, fontsize=8)
    wider.plot(places, [shift.wider for shift in shifts], color=BLUE, **style)
    wider.axhline(1, color=GREY, linewidth=1, linestyle="--")
    wider.set_ylim(bottom=0)
    tidy(wider, f"Spread of {other}, in those of {one}", "", "")
    names = [shift.layer for shift in shifts]
    for axes in (moved, wider):
        name_layers(axes, names)
    return figure
