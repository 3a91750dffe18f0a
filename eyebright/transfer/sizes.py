"""At which sizes a trained network can be shown pictures: larger ones than it was trained on often tell more.

Source:
    Touvron et al.: Fixing the train-test resolution discrepancy, NeurIPS 2019; the rule of one standard error: Breiman,
    Friedman, Olshen, Stone: Classification and Regression Trees, 1984, §3.4.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eyebright.classifier import Classifier
from eyebright.data.prepare import Prepare, Size
from eyebright.errors import InputSizeError

FACTORS = (1.5, 2.0)  # of height and width


@dataclass(frozen=True)
class SizeTrial:
    """A size that was tried.

    Attributes:
        prepare: what makes pictures of it.
        accuracy: of a linear head on embeddings of such pictures, on validation.
        count: pictures that it was judged by.
    """

    prepare: Prepare
    accuracy: float
    count: int

    @property
    def name(self) -> str:
        """Its height and width, in pixels."""
        return name_size(self.prepare)


def name_size(prepare: Prepare) -> str:
    """Height and width, in pixels, of what it makes, and whether that is cut out of the picture as it is."""
    height, width = prepare.output_size or (0, 0)
    return f"{height}×{width}" + (" cut out" if prepare.resize is None else "")


def list_prepares(backbone: Classifier) -> list[Prepare]:
    """The trained network's Prepare, and what makes larger pictures than that, the larger the later.

    Where it only cuts pictures, as for data sets whose pictures have one size, there is also what resizes them first.
    """
    own = backbone.prepare
    if own.output_size is None:
        return [own]
    resized = own if own.resize is not None else own.model_copy(update={"resize": own.crop})
    larger = [
        resized.model_copy(
            update={
                name: _scaled(size, factor)
                for name in ("resize", "crop")
                if (size := getattr(resized, name)) is not None
            }
        )
        for factor in FACTORS
    ]
    others = [resized] if resized != own else []
    return [own, *others, *(prepare for prepare in larger if _takes(backbone, prepare))]


def choose_size(trials: Sequence[SizeTrial]) -> SizeTrial:
    """The first of the trials that is within one standard error of the most accurate: what is larger is slower, too."""
    best = max(trials, key=lambda one: one.accuracy)
    least = best.accuracy - math.sqrt(best.accuracy * (1 - best.accuracy) / best.count)
    return next(one for one in trials if one.accuracy >= least)


def _scaled(size: Size, factor: float) -> Size:
    return (round(size[0] * factor), round(size[1] * factor)) if isinstance(size, tuple) else round(size * factor)


def _takes(backbone: Classifier, prepare: Prepare) -> bool:
    try:
        backbone.model.check_input_size(*(prepare.output_size or (0, 0)))
    except InputSizeError:
        return False
    return True
