"""What a network's channels answer to: maps of one picture, the pictures that excite a channel most, and dead channels.

Source:
    Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014, §4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from eyebright.classifier import Classifier, decide
from eyebright.data.batches import Loader
from eyebright.data.images import Pictures, Pixels
from eyebright.errors import ModelError, did_you_mean
from eyebright.inspection.confusion import shorten
from eyebright.inspection.finding import listed
from eyebright.inspection.pictures import see
from eyebright.inspection.style import RED, make_figure

BATCH = 128
CHANNELS = 8  # that are shown of each stage, or of one
TOP = 8  # pictures that excite a channel most

Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Maps:
    """What one picture becomes.

    Attributes:
        pixels: uint8 `[H, W, C]`: what the network saw, un-normalised.
        name: of the picture.
        answer: name of the class that was answered.
        probability: of it.
        stages: name → its output: float32 `[K, h, w]`, or `[K]` where it has no places.
    """

    pixels: Pixels
    name: str
    answer: str
    probability: float
    stages: dict[str, Values]


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of one stage over a set of pictures.

    Attributes:
        stage: its name.
        largest: float32 `[N, K]`: each picture's largest answer of each channel.
        places: int64 `[N, K]`: where that is in the map, row by row; 0 where there are no places.
        shape: of the maps, `(h, w)`.
        dead: bool `[K]`: channels whose answer is the same number at every place of all pictures.
    """

    stage: str
    largest: Values
    places: NDArray[np.int64]
    shape: tuple[int, int]
    dead: NDArray[np.bool_]

    @property
    def ranked(self) -> NDArray[np.int64]:
        """All channels, those first whose best pictures stand out most from the others, in standard deviations."""
        spread = self.largest.std(axis=0)
        best = np.sort(self.largest, axis=0)[-TOP:].mean(axis=0)
        standing = np.where(spread > 0, (best - self.largest.mean(axis=0)) / np.maximum(spread, 1e-12), -np.inf)
        return np.argsort(-standing, kind="stable")

    def top(self, channel: int, count: int = TOP) -> NDArray[np.int64]:
        """The pictures that excite a channel most, the strongest first."""
        return np.argsort(-self.largest[:, channel], kind="stable")[:count]


def map_picture(classifier: Classifier, pictures: Pictures, index: int) -> Maps:
    """What one picture becomes in each stage.

    Raises:
        PictureError: it cannot be decoded.
    """
    inputs = classifier.prepare(pictures.read(index, classifier.prepare.at_least))
    outputs = _run(classifier, inputs)
    shares = classifier.probabilities(classifier.logits(inputs))[0].numpy()
    answer = int(decide(shares[None], classifier.thresholds)[0])
    return Maps(
        see(classifier, pictures, index),
        pictures.name(index),
        classifier.classes[answer],
        float(shares[answer]),
        {name: output[0].float().cpu().numpy() for name, output in outputs.items()},
    )


def measure_channels(
    classifier: Classifier, pictures: Pictures, on_batch: Callable[[int], object] | None = None
) -> dict[str, Channels]:
    """What every channel of every stage answers to a set of pictures: stage → its channels, in order.

    Args:
        classifier: whose network.
        pictures: any; labels are not looked at.
        on_batch: called with how many pictures are done.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    largest: dict[str, list[Tensor]] = {}
    places: dict[str, list[Tensor]] = {}
    least: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, int]] = {}
    done = 0
    for batch in Loader(pictures, classifier.prepare, classifier.plan, BATCH).batches():
        for name, output in _run(classifier, batch.inputs).items():
            flat = output.float().flatten(2) if output.dim() == 4 else output.float().flatten(1)[..., None]
            values, where = flat.max(dim=2)
            largest.setdefault(name, []).append(values.cpu())
            places.setdefault(name, []).append(where.cpu())
            low = flat.amin(dim=(0, 2)).cpu()
            least[name] = torch.minimum(least[name], low) if name in least else low
            shapes[name] = (output.shape[2], output.shape[3]) if output.dim() == 4 else (1, 1)
        done += len(batch.indices)
        if on_batch is not None:
            on_batch(done)
    found = {}
    for name in largest:
        values = torch.cat(largest[name])
        dead = (values.amax(dim=0) == least[name]).numpy()
        found[name] = Channels(name, values.numpy(), torch.cat(places[name]).numpy(), shapes[name], dead)
    return found


def unused_channels(classifier: Classifier, pictures: Pictures) -> list[int]:
    """Input channels that are the same number at every place of all pictures: what they carry is never used.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    loader = Loader(pictures, classifier.prepare, classifier.plan, BATCH)
    edges = [(batch.inputs.amin((0, 2, 3)), batch.inputs.amax((0, 2, 3))) for batch in loader.batches()]
    low, high = torch.stack([one for one, _ in edges]).amin(0), torch.stack([other for _, other in edges]).amax(0)
    return [place for place, same in enumerate((low == high).tolist()) if same]


def choose_stage(channels: dict[str, Channels], stage: str | None) -> Channels:
    """The channels of a stage; by default of the last one whose maps have places.

    Raises:
        ModelError: there is no such stage.
    """
    if stage is None:
        placed = [one for one in channels.values() if one.shape != (1, 1)]
        return (placed or list(channels.values()))[-1]
    if stage not in channels:
        raise ModelError(
            f"this network has no stage '{stage}'",
            expected=f"one of {', '.join(channels)}",
            remedy=did_you_mean(stage, channels) or "choose one of these with --stage",
        )
    return channels[stage]


def say_channels(channels: dict[str, Channels], unused: Sequence[int] = ()) -> list[str]:
    """What there is to see, in sentences."""
    found = [f"input channels that are never used: {listed([str(place) for place in unused])}"] if unused else []
    count = len(next(iter(channels.values())).largest)
    for one in channels.values():
        if one.dead.any():
            dead = [str(place) for place in np.flatnonzero(one.dead)]
            found.append(
                f"{one.stage}: {len(dead)} of {len(one.dead)} channels are dead: the same for all {count:,} pictures: "
                f"{listed(dead, 8)}"
            )
    return found or [f"no channel of any stage is dead: each answers to some of {count:,} pictures"]


def draw_maps(maps: Maps) -> Figure:
    """Draws a picture and, in a row for each stage that has places, the eight maps that answer most strongly."""
    stages = {name: values for name, values in maps.stages.items() if values.ndim == 3 and values[0].size > 1}
    rows = max(1, len(stages))
    figure = make_figure(1.45 * (CHANNELS + 2), 1.5 * rows)
    grid = figure.subplots(rows, CHANNELS + 2, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    grid[0, 0].imshow(maps.pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
    grid[0, 0].set_title(f"{shorten(maps.answer, 16)} {maps.probability:.0%}", fontsize=9)
    for row, (name, values) in zip(grid, stages.items(), strict=False):
        count, height, width = values.shape
        strongest = np.argsort(-values.max(axis=(1, 2)), kind="stable")[:CHANNELS]
        for axes, channel in zip(row[2:], np.sort(strongest), strict=False):
            axes.imshow(values[channel], cmap="magma", interpolation="nearest")
            axes.set_title(f"{channel}", fontsize=7, pad=2)
        text = f"{shorten(name, 14)}\n{count} × {height}×{width}"
        row[1].text(0.95, 0.5, text, transform=row[1].transAxes, fontsize=8, ha="right", va="center")
    return figure


def draw_channels(classifier: Classifier, pictures: Pictures, channels: Channels) -> Figure:
    """Draws, for eight channels of a stage, the eight pictures that excite each most, and where in them.

    Args:
        classifier: whose network.
        pictures: those that `channels` was measured on.
        channels: of the stage; those that stand out most are shown.
    """
    shown = channels.ranked[:CHANNELS]
    figure = make_figure(1.3 * TOP + 1.1, 1.42 * len(shown) + 0.3)
    figure.suptitle(
        f"{channels.stage}: the pictures that excite a channel most, and where", x=0.01, ha="left", fontsize=11
    )
    grid = figure.subplots(len(shown), TOP, squeeze=False)
    height, width = channels.shape
    for row, channel in zip(grid, shown.tolist(), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, index in zip(row, channels.top(channel).tolist(), strict=False):
            pixels = see(classifier, pictures, index)
            axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
            if channels.shape != (1, 1):
                down, along = divmod(int(channels.places[index, channel]), width)
                tall, wide = pixels.shape[0] / height, pixels.shape[1] / width
                axes.plot(
                    (along + 0.5) * wide - 0.5,
                    (down + 0.5) * tall - 0.5,
                    "o",
                    color=RED,
                    markersize=4,
                    fillstyle="none",
                )
            axes.set_title(f"{channels.largest[index, channel]:.2g}", fontsize=7, pad=2)
        row[0].text(-0.1, 0.5, f"channel {channel}", transform=row[0].transAxes, fontsize=8, ha="right", va="center")
    return figure


def _run(classifier: Classifier, inputs: Tensor) -> dict[str, Tensor]:
    """The output of every stage but the head."""
    model = classifier.model.eval()
    with torch.inference_mode(), classifier.plan.arithmetic():
        outputs = model.forward_stages(classifier.plan.place_inputs(inputs))
    return dict(list(outputs.items())[:-1])
