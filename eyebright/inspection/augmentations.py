"""What training makes of pictures: the same loader that feeds it, un-normalised."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from eyebright.data.batches import Batch, Loader
from eyebright.data.images import Pictures
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.inspection.confusion import shorten
from eyebright.inspection.pictures import COLUMNS, LONGEST_NAME, Titled, draw_grid, sample
from eyebright.inspection.style import BLUE
from eyebright.training.recipe import Recipe

EPOCHS = 2 * COLUMNS - 1  # in which one picture is shown; with the one as it is, they fill two rows
BATCHES = 2
COMPANY = 7  # other pictures that the one may be mixed with


def show_augmentations(pictures: Pictures, recipe: Recipe, seed: int = 0) -> list[Titled]:
    """One picture as it is and as training sees it epoch after epoch; then the first row of a few batches.

    Where the recipe mixes pictures, the one is mixed with a few others, and each title has both classes and their
    shares.

    Args:
        pictures: the training part.
        recipe: says how they are prepared and augmented.
        seed: of the training, and of the choice of the one picture.

    Raises:
        PictureError: a picture cannot be decoded.
        DataError: the recipe does not bring the pictures to one size.
    """
    prepare, plan = recipe.prepare.settle(pictures), choose_plan("cpu", "float32", training=False)
    chosen = sample(1, len(pictures), seed)
    company = sample(1 + COMPANY, len(pictures), seed + 1)
    few = pictures.select(np.concatenate([chosen, company[company != chosen][:COMPANY]]))
    plain = next(Loader(few.select([0]), prepare, plan, 1, workers=0).batches())
    shown = _show(plain, prepare, few.classes, 1, "as evaluation sees it", BLUE)
    again = Loader(few, prepare, plan, len(few), augment=recipe.augment, seed=seed, workers=0)
    for epoch in range(EPOCHS):
        shown += _show(next(again.batches(epoch)), prepare, few.classes, 1, f"epoch {epoch + 1}")
    loader = Loader(
        pictures, prepare, plan, recipe.training.batch_size, augment=recipe.augment, shuffle=True, seed=seed, workers=0
    )
    for epoch in range(BATCHES):
        shown += _show(next(loader.batches(epoch)), prepare, pictures.classes, COLUMNS)
    return shown


def draw_augmentations(pictures: Pictures, recipe: Recipe, seed: int = 0) -> Figure:
    """Draws what `show_augmentations` gives: two rows of one picture, and a row of each batch."""
    return draw_grid(show_augmentations(pictures, recipe, seed))


def _show(
    batch: Batch, prepare: Prepare, classes: tuple[str, ...], count: int, remark: str = "", color: str = "black"
) -> list[Titled]:
    """The first pictures of a batch, un-normalised, with the names of what is in them."""
    pixels = prepare.unnormalise(batch.inputs[:count]).numpy()
    labels, partners = batch.labels[:count].tolist(), batch.partner_labels[:count].tolist()
    shown = []
    for picture, label, partner in zip(pixels, labels, partners, strict=True):
        own, theirs = (shorten(classes[i], LONGEST_NAME) for i in (label, partner))
        mixed = f"{own} {batch.share:.0%}\n{theirs} {1 - batch.share:.0%}"
        shown.append(Titled(picture, mixed if label != partner else f"{own}\n{remark}".strip(), color))
    return shown
