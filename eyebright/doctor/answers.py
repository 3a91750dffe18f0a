"""What a trained network answers to pictures chosen to find out what is wrong with it, and what others answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyebright.classifier import Classifier
from eyebright.curation.duplicates import find_duplicates
from eyebright.curation.out_of_fold import predict_out_of_fold
from eyebright.curation.patches import patch_features
from eyebright.data.augment import Augment
from eyebright.data.batches import Loader
from eyebright.data.cuts import make_folds
from eyebright.data.images import Pictures, names_below
from eyebright.data.labels import Labels, class_counts, is_multi_label
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits
from eyebright.device import choose_plan
from eyebright.evaluation.evaluate import compute_logits
from eyebright.inspection.pictures import sample
from eyebright.training.observe import measure_inputs
from eyebright.training.recipe import Recipe

SAMPLE = 2000  # training pictures that are looked at
SHOWN = 512  # of them, to tell which units never answer
MOST_VAL = 5000  # validation pictures that are answered
COPIES_AMONG, COPIES_OF = 10_000, 2000  # training pictures among which copies of so many others are looked for
FILTERS = 200  # of the baseline's patch features
FOLDS = 5
THUMBNAIL = 16  # pixels
PENALTY = 100.0  # of ridge regression on thumbnails

Begin = Callable[[str, int], Callable[[], object]]


@dataclass(frozen=True)
class Turned:
    """A class that augmentation makes look like another one, to a classifier that has never seen it augmented.

    Attributes:
        true, other: names of the two classes.
        plain: share of the class's pictures that are taken for the other one as they are.
        augmented: and as training shows them.
    """

    true: str
    other: str
    plain: float
    augmented: float


@dataclass(frozen=True)
class Copies:
    """Pictures of one part of which there are copies in training.

    Attributes:
        part: where they are.
        names: of those that were found.
        of: pictures of the part that were looked at.
        among: share of the training pictures that they were compared with.
    """

    part: str
    names: tuple[str, ...]
    of: int
    among: float

    @property
    def share(self) -> float:
        """Of the part's pictures that have a copy in training, estimated where not all were compared."""
        return min(1.0, len(self.names) / self.of / self.among)


@dataclass(frozen=True, eq=False)
class Answers:
    """What was found out from pictures.

    Attributes:
        val_probabilities: float64 `[N, K]`, of validation pictures; None without validation.
        val_labels: int64 `[N]`.
        train_accuracy: of training pictures prepared as for validation, dropout off; None where labels are several.
        augmented_accuracy: of the same pictures as training shows them, the network as in evaluation; None without
            augmentation.
        train_count: how many these are.
        silent: layer → share of its input channels that are the same everywhere in `silent_count` training pictures.
        silent_count: how many these are.
        baseline_accuracy: of a linear classifier on patches (see `curation.patches`), of training pictures that it was
            trained without; None where a class has too few.
        baseline_count: how many these are.
        copies: near duplicates of validation and test pictures in training.
        turned: classes that augmentation makes look like another one.
    """

    val_probabilities: NDArray[np.float64] | None
    val_labels: Labels
    train_accuracy: float | None
    augmented_accuracy: float | None
    train_count: int
    silent: dict[str, float]
    silent_count: int
    baseline_accuracy: float | None
    baseline_count: int
    copies: tuple[Copies, ...]
    turned: tuple[Turned, ...]

    @property
    def val_predictions(self) -> Labels:
        """Most probable classes of the validation pictures, int64 `[N]`."""
        assert self.val_probabilities is not None
        predictions: Labels = self.val_probabilities.argmax(axis=1)
        return predictions


def ask(
    classifier: Classifier, recipe: Recipe, splits: Splits, seed: int, begin: Begin = lambda what, total: lambda: None
) -> Answers:
    """Has the network, and simpler classifiers, answer pictures of training and validation. Test is not looked at.

    But for copies: there the looks of test pictures are compared with those of training, not their labels.

    Args:
        classifier: what was trained.
        recipe: how it was trained.
        splits: what it was trained and validated on.
        seed: of the choice of pictures.
        begin: called with what is done next and how many steps it has; what it gives is called for each step.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    train, several = _some(splits.train, SAMPLE, seed), is_multi_label(splits.train.labels)
    probabilities, labels = None, np.zeros(0, dtype=np.int64)
    if splits.val is not None and not several:
        val = _some(splits.val, MOST_VAL, seed)
        labels = val.labels
        begin("answering validation pictures", 0)
        probabilities = classifier.probabilities(torch.from_numpy(compute_logits(classifier, val))).double().numpy()
    begin("answering training pictures", 0)
    augmented = None if several or recipe.augment == Augment() else _augmented(classifier, train, recipe, seed)
    shown = next(Loader(_some(train, SHOWN, seed), classifier.prepare, classifier.plan, SHOWN).batches()).inputs
    return Answers(
        val_probabilities=probabilities,
        val_labels=labels,
        train_accuracy=None if several else _accuracy(compute_logits(classifier, train), train.labels),
        augmented_accuracy=augmented,
        train_count=len(train),
        silent={name: seen.silent for name, seen in measure_inputs(classifier.model, shown, classifier.plan).items()},
        silent_count=len(shown),
        baseline_accuracy=None if several else _baseline(train, seed, begin("answering by patches alone", len(train))),
        baseline_count=len(train),
        copies=_find_copies(splits, seed, begin),
        turned=() if augmented is None else _find_turned(train, recipe, classifier.prepare, seed),
    )


def _some(pictures: Pictures, count: int, seed: int) -> Pictures:
    return pictures.select(sample(count, len(pictures), seed))


def _accuracy(logits: NDArray[np.float32], labels: Labels) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def _augmented(classifier: Classifier, pictures: Pictures, recipe: Recipe, seed: int) -> float:
    """Accuracy of pictures as training shows them; of mixed ones the label with the larger share is the right one."""
    loader = Loader(
        pictures, classifier.prepare, classifier.plan, recipe.training.batch_size, augment=recipe.augment, seed=seed
    )
    right = 0
    with closing(loader.batches()) as batches:
        for batch in batches:
            labels = batch.labels if batch.share >= 0.5 else batch.partner_labels
            right += int((classifier.logits(batch.inputs).argmax(dim=1) == labels.cpu()).sum())
    return right / len(pictures)


def _baseline(pictures: Pictures, seed: int, tick: Callable[[], object]) -> float | None:
    counts = class_counts(pictures.labels, len(pictures.classes))
    folds = min(FOLDS, int(counts.min()))
    if folds < 2:
        return None
    features = patch_features(pictures, filters=FILTERS, seed=seed, on_read=tick)
    dealt = make_folds(pictures, folds, seed)
    return predict_out_of_fold(features, pictures.labels, dealt, len(pictures.classes)).accuracy


def _find_copies(splits: Splits, seed: int, begin: Begin) -> tuple[Copies, ...]:
    train = _some(splits.train, COPIES_AMONG, seed)
    parts = {"train": train}
    parts |= {name: _some(part, COPIES_OF, seed) for name, part in splits.parts().items() if name != "train"}
    count = sum(len(part) for part in parts.values())
    found = find_duplicates(parts, on_read=begin("looking for copies", 2 * count))
    names = names_below(parts)
    return tuple(
        Copies(
            part,
            tuple(names[part][place] for place in found.leaked(part, into="train")),
            len(parts[part]),
            len(train) / len(splits.train),
        )
        for part in parts
        if part != "train"
    )


def _find_turned(pictures: Pictures, recipe: Recipe, prepare: Prepare, seed: int) -> tuple[Turned, ...]:
    """Trains a linear classifier on thumbnails of one half, as they are, and shows it the other half both ways."""
    classes, half = pictures.classes, np.arange(len(pictures)) % 2 == 0
    plain = _thumbnails(pictures, None, recipe, prepare, seed)
    changed = _thumbnails(
        pictures, recipe.augment.model_copy(update={"mixup": 0.0, "cutmix": 0.0}), recipe, prepare, seed
    )
    fit = torch.from_numpy(half)
    mean, spread = plain[fit].mean(0), plain[fit].std(0).clamp(min=1e-3)
    x = (plain[fit] - mean) / spread
    y = torch.nn.functional.one_hot(torch.from_numpy(pictures.labels[half]), len(classes)).float() - 1 / len(classes)
    weight = torch.linalg.solve(x.T @ x + PENALTY * torch.eye(x.shape[1]), x.T @ y)
    labels = pictures.labels[~half]
    tables = []
    for shown in (plain, changed):
        answers = ((shown[~fit] - mean) / spread @ weight).argmax(dim=1).numpy()
        table = np.zeros((len(classes), len(classes)))
        np.add.at(table, (labels, answers), 1)
        tables.append(table / np.maximum(table.sum(axis=1, keepdims=True), 1))
    before, after = tables
    gained = after - before
    np.fill_diagonal(gained, -1)
    found = [
        Turned(classes[true], classes[int(other)], float(before[true, other]), float(after[true, other]))
        for true, other in enumerate(gained.argmax(axis=1))
    ]
    return tuple(sorted(found, key=lambda turned: turned.plain - turned.augmented))


def _thumbnails(pictures: Pictures, augment: Augment | None, recipe: Recipe, prepare: Prepare, seed: int) -> Tensor:
    """Pictures as the network is shown them, small and in float32, `[N, C · 16 · 16]`."""
    plan = choose_plan("cpu", training=False)
    loader = Loader(pictures, prepare, plan, recipe.training.batch_size, augment=augment, seed=seed)
    with closing(loader.batches()) as batches:
        small = [
            torch.nn.functional.adaptive_avg_pool2d(batch.inputs.float().contiguous(), THUMBNAIL).flatten(1)
            for batch in batches
        ]
    return torch.cat(small)
