"""Several views of each picture, and one answer from all of them.

`VIEWS` names the ways: ``"centre"`` (one crop), ``"5-crops"``, ``"10-crops"``, ``"shifted"`` (for small pictures),
``"dense"`` (the network as convolutions alone, over the whole picture), and the protocols of two papers: ``"alexnet"``
and ``"vgg"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyebright.classifier import Classifier
from eyebright.data.batches import Loader
from eyebright.data.images import Pictures
from eyebright.data.prepare import Prepare, middle
from eyebright.errors import DataError, did_you_mean

LARGEST = 8192  # pixels: as much as Prepare resizes to


@dataclass(frozen=True)
class Views:
    """How a picture is shown to a network.

    Attributes:
        crops: ``"centre"``: the crop that Prepare cuts; ``"corners"``: the four corners and the centre, at the size of
            that crop; ``"shifted"``: Prepare's crop, and the same moved by a pixel up and left and down and right, what
            is missing mirrored; ``"dense"``: the whole picture, see `Network.score_map`; its logits are averaged over
            all places.
        mirrored: whether each is shown mirrored as well.
        square: whether corners are those of the largest square in the picture's middle.
        scales: shorter sides, in pixels, to which pictures are resized; none: the size that Prepare gives.
    """

    crops: Literal["centre", "corners", "shifted", "dense"] = "centre"
    mirrored: bool = False
    square: bool = False
    scales: tuple[int, ...] = ()

    def prepares(self, prepare: Prepare) -> Iterator[Prepare]:
        """What is done to pictures before they are cut, once for each scale.

        Raises:
            DataError: these views cannot be cut from pictures prepared in this way.
        """
        for scale in self.scales or (None,):
            resize = prepare.resize
            if scale is not None:
                resize = (scale, scale) if isinstance(resize, tuple) else scale
            shorter = min(resize) if isinstance(resize, tuple) else resize
            crop = prepare.output_size
            too_small = shorter is not None and crop is not None and shorter < max(crop)
            all_alike = self.crops == "corners" and resize == crop
            if self.crops != "dense" and (crop is None or too_small or all_alike):
                raise _no_crops(crop, "any size" if shorter is None else f"{shorter} pixels")
            kept = prepare.crop if self.crops == "shifted" else None
            yield prepare.model_copy(update={"resize": resize, "crop": kept})


VIEWS = {
    "centre": Views(),
    "5-crops": Views("corners"),
    "10-crops": Views("corners", mirrored=True),
    "shifted": Views("shifted", mirrored=True),  # Jordan 2024, multi-crop evaluation, with equal shares
    "dense": Views("dense"),
    "alexnet": Views("corners", mirrored=True, square=True),  # Krizhevsky, Sutskever, Hinton 2012, §4.1
    "vgg": Views("dense", mirrored=True),  # Simonyan, Zisserman 2014, §3.2
}


def find_views(name: str, scales: tuple[int, ...] = ()) -> Views:
    """Views by name, at these scales.

    Raises:
        DataError: there are none of this name, or a scale is no side that a picture may have.
    """
    if name not in VIEWS or not all(1 <= scale <= LARGEST for scale in scales):
        raise DataError(
            f"views '{name}'" + (f" at scales {', '.join(map(str, scales))}" if scales else ""),
            expected=f"one of {', '.join(VIEWS)}, and scales of 1 to {LARGEST} pixels",
            remedy=did_you_mean(name, VIEWS) or "choose one of these",
        )
    return replace(VIEWS[name], scales=tuple(scales))


def view_probabilities(
    classifier: Classifier,
    pictures: Pictures,
    views: Views,
    *,
    on_batch: Callable[[int], object] | None = None,
) -> NDArray[np.float64]:
    """Probabilities `[N, K]` of pictures, each the mean over all views of it.

    Args:
        classifier: what is asked.
        pictures: what it is asked about.
        views: how they are shown.
        on_batch: called with the number of pictures done at all scales, for a progress bar.

    Raises:
        DataError: these views cannot be cut from pictures prepared in the classifier's way.
        InputSizeError: a picture is too small for the network.
        PictureError: a picture cannot be decoded.
    """
    prepares = list(views.prepares(classifier.prepare))
    total = np.zeros((len(pictures), len(classifier.classes)))
    for round_, prepare in enumerate(prepares):
        done = 0
        for answers in _answers(classifier, pictures, views, prepare):
            total[done : done + len(answers)] += answers
            done += len(answers)
            if on_batch is not None:
                on_batch((round_ * len(pictures) + done) // len(prepares))
    return total / len(prepares)


def _answers(
    classifier: Classifier, pictures: Pictures, views: Views, prepare: Prepare
) -> Iterator[NDArray[np.float64]]:
    """Probabilities of some pictures after the other, averaged over the views at one scale."""
    waiting: list[Tensor] = []  # a few pictures' crops, `[V, C, h, w]` each, to be computed together
    loader = Loader(pictures, prepare, classifier.plan, batch_size=1)
    together = classifier.engine.rows if classifier.engine is not None else classifier.rows
    for batch in loader.batches():
        if views.crops == "dense":
            shown = [batch.inputs, batch.inputs.flip(3)] if views.mirrored else [batch.inputs]
            logits = torch.cat([classifier.dense_logits(one) for one in shown])
            yield classifier.probabilities(logits).mean(0, keepdim=True).numpy()
            continue
        waiting.append(cut(batch.inputs, classifier.prepare.output_size or (0, 0), views))
        if len(waiting) * len(waiting[0]) % together == 0:
            yield _averaged(classifier, waiting)
            waiting = []
    if waiting:
        yield _averaged(classifier, waiting)


def _no_crops(crop: tuple[int, int] | None, size: str) -> DataError:
    return DataError(
        f"crops of {'no size' if crop is None else '×'.join(map(str, crop))} from pictures of {size}",
        expected="a classifier whose Prepare cuts a crop, and pictures larger than that",
        remedy="give larger scales, or show the pictures densely",
    )


def cut(inputs: Tensor, size: tuple[int, int], views: Views) -> Tensor:
    """The crops of one picture, `[1, C, H, W]` → `[V, C, h, w]`: the corners, line by line, and the centre.

    Args:
        inputs: the prepared picture, before it is cropped; for shifted views, cropped.
        size: height and width of a crop, in pixels; shifted views are as large as the picture.
        views: which crops.

    Raises:
        DataError: the picture is smaller than a crop.
    """
    if views.crops == "shifted":
        size = (inputs.shape[2], inputs.shape[3])
        inputs = nn.functional.pad(inputs, (1, 1, 1, 1), mode="reflect")
    height, width = size
    if views.square:
        side = min(inputs.shape[2:])
        inputs = _window(inputs, middle(inputs.shape[2] - side), middle(inputs.shape[3] - side), side, side)
    bottom, right = inputs.shape[2] - height, inputs.shape[3] - width
    if bottom < 0 or right < 0:
        raise _no_crops(size, f"{inputs.shape[2]}×{inputs.shape[3]} pixels")
    corners = {"corners": [(0, 0), (0, right), (bottom, 0), (bottom, right)], "shifted": [(0, 0), (bottom, right)]}
    places = [*corners.get(views.crops, []), (middle(bottom), middle(right))]
    crops = torch.cat([_window(inputs, top, left, height, width) for top, left in places])
    return torch.cat([crops, crops.flip(3)]) if views.mirrored else crops


def _window(inputs: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    return inputs[:, :, top : top + height, left : left + width]


def _averaged(classifier: Classifier, crops: list[Tensor]) -> NDArray[np.float64]:
    answers = classifier.probabilities(classifier.logits(torch.cat(crops)))  # [pictures · V, K]
    averaged: NDArray[np.float64] = answers.view(len(crops), -1, answers.shape[1]).mean(1).numpy()
    return averaged
