"""At which sizes a trained network can be shown pictures: larger ones than it was trained on often tell more.

Source:
    Touvron et al.: Fixing the train-test resolution discrepancy, NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

from eyebright.classifier import Classifier
from eyebright.data.prepare import Prepare, Size
from eyebright.errors import InputSizeError
from eyebright.evaluation.multi_label import AnyEvaluation

FACTORS = (1.5, 2.0)  # of height and width
GAIN = 0.01  # of accuracy that a larger size has to bring: it is so much slower ever after


@dataclass(frozen=True, eq=False)
class Sized:
    """A size that was tried.

    Attributes:
        prepare: what makes pictures of it.
        evaluation: of a linear head on embeddings of such pictures, on validation.
    """

    prepare: Prepare
    evaluation: AnyEvaluation

    @property
    def name(self) -> str:
        """Its height and width, in pixels."""
        return name_size(self.prepare)


def name_size(prepare: Prepare) -> str:
    """Height and width, in pixels, of what it makes."""
    height, width = prepare.output_size or (0, 0)
    return f"{height}×{width}"


def larger_prepares(backbone: Classifier) -> list[Prepare]:
    """The trained network's Prepare for larger sizes, smaller ones first; none where it takes no others."""
    before = backbone.prepare
    if before.output_size is None:
        return []
    changes = [
        {name: _scaled(value, factor) for name in ("resize", "crop") if (value := getattr(before, name)) is not None}
        for factor in FACTORS
    ]
    larger = [before.model_copy(update=change) for change in changes]
    return [prepare for prepare in larger if _takes(backbone, prepare)]


def choose_size(tried: list[Sized]) -> Sized:
    """The most accurate one; a larger one has to be better by a point than every smaller one."""
    best = tried[0]
    for one in tried[1:]:
        if one.evaluation.accuracy >= best.evaluation.accuracy + GAIN:
            best = one
    return best


def _scaled(size: Size, factor: float) -> Size:
    return (round(size[0] * factor), round(size[1] * factor)) if isinstance(size, tuple) else round(size * factor)


def _takes(backbone: Classifier, prepare: Prepare) -> bool:
    try:
        backbone.model.check_input_size(*(prepare.output_size or (0, 0)))
    except InputSizeError:
        return False
    return True
