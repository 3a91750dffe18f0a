"""Everything that may be wrong with pictures and their labels, found in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eyebright.curation.by_watching import by_watching, epochs_for
from eyebright.curation.descriptors import describe_pictures
from eyebright.curation.duplicates import NEAR, Duplicates, Pair, find_duplicates
from eyebright.curation.label_errors import LabelErrors, find_label_errors
from eyebright.curation.odd_pictures import find_odd_looks, find_outliers
from eyebright.curation.out_of_fold import Predict, predict_out_of_fold
from eyebright.curation.patches import FILTERS, patch_features
from eyebright.curation.suspects import Kind, Suspect, rank
from eyebright.data.cuts import make_folds
from eyebright.data.decisions import Decision
from eyebright.data.images import Pictures, join_all, names_below
from eyebright.data.labels import class_counts, is_multi_label, label_text
from eyebright.device import Plan

FOLDS = 5
MOST_DOUBTED = 0.1  # share of all labels that are listed at most: beyond it nearly all are right
CLOSE = 0.8  # probability of the second class, as a share of the first's, from which on a picture could be of either
MOST_BETWEEN = 0.02  # share of the pictures that are listed as of either of two classes at most
POOR = 0.5  # accuracy of the predictions below which most suspected labels are right

ENOUGH, ENOUGH_OF_EACH = 2500, 50  # pictures, in all and of a class, from which on a network is worth training
FILTERS_TO_COMPARE = 100  # of patch features that tell odd pictures but no classes

Begin = Callable[[str, int], Callable[[], object]]


@dataclass(frozen=True, eq=False)
class Curation:
    """What was found.

    Attributes:
        source: what the user called the data.
        parts: that were looked at.
        suspects: worst first.
        duplicates: the same pictures within and across parts.
        label_errors: of all parts' pictures, one after the other; None where labels could not be judged.
        accuracy: share of the labels that the predictions agree with; None likewise.
        notes: what to know before the suspects are believed.
    """

    source: str
    parts: Mapping[str, Pictures]
    suspects: tuple[Suspect, ...]
    duplicates: Duplicates
    label_errors: LabelErrors | None
    accuracy: float | None
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[Kind, int]:
        """Suspects of each kind that there are."""
        kinds = [suspect.kind for suspect in self.suspects]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}

    def without(self, decisions: Iterable[Decision]) -> Curation:
        """The same without the suspects that a person has looked at and decided to keep."""
        there = {(part, name) for part, names in names_below(self.parts).items() for name in names}
        kept = {(one.part, one.path) for one in decisions if one.decision == "keep"}
        anywhere = {path for part, path in kept if (part, path) not in there}  # parts may have been cut since
        left = [one for one in self.suspects if (one.part, one.path) not in kept and one.path not in anywhere]
        return replace(self, suspects=tuple(left))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: accuracy is a fraction 0…1, suspects stand worst first."""
        return {
            "source": self.source,
            "pictures": {part: len(inside) for part, inside in self.parts.items()},
            "accuracy": self.accuracy,
            "counts": self.counts,
            "notes": list(self.notes),
            "suspects": [suspect.as_dict() for suspect in self.suspects],
        }

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""
        return next(iter(self.parts.values())).classes


def curate(
    parts: Mapping[str, Pictures],
    *,
    source: str = "arrays",
    folds: int = FOLDS,
    seed: int = 0,
    predict: Predict | None = None,
    plan: Plan | None = None,
    notes: Sequence[str] = (),
    begin: Begin = lambda what, total: lambda: None,
) -> Curation:
    """Looks for wrong labels, duplicates, leaks, pictures of two classes, odd pictures and outliers.

    Labels of many pictures are judged by watching a small network learn them (see `by_watching`), those of few by ridge
    regression on patch features, trained without each fold.

    Args:
        parts: part → its pictures, all with the same classes, all in memory or all on disk.
        source: what the user called the data.
        folds: in how many parts pictures are divided to be predicted by the others; many pictures are
            watched as a network learns them instead.
        seed: of the folds and features.
        predict: (pictures, folds, tick) → probabilities float64 `[N, K]`, in the place of both; `by_recipe` makes one.
        plan: where a network is trained.
        notes: on what was done to the parts before.
        begin: called with what is done next and how many steps it has; what it gives is called for each step.

    Raises:
        PictureError: a picture cannot be decoded.
        DataError: the parts cannot be joined.
    """
    pictures = join_all(parts)
    count = len(pictures)
    finder = _Finder(parts, pictures)
    duplicates = find_duplicates(parts, on_read=begin("looking for duplicates", 2 * count))
    appearance = describe_pictures(pictures, np.arange(count), begin("looking at pictures", count))[0]
    many = count >= max(ENOUGH, ENOUGH_OF_EACH * len(pictures.classes))
    filters = FILTERS_TO_COMPARE if many or predict is not None else FILTERS
    features = patch_features(pictures, filters=filters, seed=seed, on_read=begin("comparing pictures", count))
    notes, errors, accuracy = list(notes), None, None
    if obstacle := _why_not_judged(pictures):
        notes.append(f"Labels were not judged: {obstacle}.")
    else:
        usable = min(folds, int(class_counts(pictures.labels, len(pictures.classes)).min()))
        divided = make_folds(pictures, usable, seed)
        if predict is not None:
            predicted = predict(pictures, divided, begin("training without each fold", usable))
        elif many:
            tick = begin("watching a network learn", epochs_for(count))
            predicted = by_watching(seed=seed, plan=plan)(pictures, divided, tick)
        else:
            begin("predicting each picture without its label", 0)
            predicted = predict_out_of_fold(features, pictures.labels, divided, len(pictures.classes)).probabilities
        errors = find_label_errors(predicted, pictures.labels)
        accuracy = float((predicted.argmax(1) == pictures.labels).mean())
        if accuracy < POOR:
            notes.append(
                f"The predictions agree with {accuracy:.0%} of the labels only, so many of the suspected ones are "
                "right; the first are worth a look. A run of a good network (--run) judges better."
            )
    if duplicates.threshold > NEAR:
        notes.append(
            f"These pictures are alike by nature: near duplicates are shown from {duplicates.threshold:.3f} on, and "
            "may be different pictures all the same."
        )
    notes += _imbalance(pictures)
    suspects = rank(
        [
            *map(finder.duplicate, duplicates.pairs),
            *finder.labels(errors),
            *finder.between(errors),
            *(finder.make("odd", odd.index, odd.deviation, odd.what) for odd in find_odd_looks(appearance)),
            *(finder.make("unlike", odd.index, odd.deviation, odd.what) for odd in find_outliers(features)),
        ]
    )
    return Curation(source, parts, tuple(suspects), duplicates, errors, accuracy, tuple(notes))


class _Finder:
    """Makes suspects of indices into all parts' pictures, one after the other."""

    def __init__(self, parts: Mapping[str, Pictures], pictures: Pictures):
        self.names, self.pictures = names_below(parts), pictures
        self.places = [(part, index) for part, inside in parts.items() for index in range(len(inside))]
        self.first = dict(zip(parts, np.cumsum([0, *map(len, parts.values())]).tolist(), strict=False))

    def make(self, kind: Kind, number: int, score: float, reason: str, suggestion: str = "") -> Suspect:
        part, index = self.places[number]
        return Suspect(kind, part, index, self.names[part][index], self._label(number), suggestion, score, reason)

    def duplicate(self, pair: Pair) -> Suspect:
        """The later picture of a pair, as a copy of the earlier one."""
        kind: Kind = "contradiction" if pair.is_contradiction else "leak" if pair.is_across else "duplicate"
        one = self.names[pair.part_a][pair.index_a]
        what = {"exact": "the same file as", "same pixels": "the same pixels as", "near": "nearly the same as"}
        number = self.first[pair.part_b] + pair.index_b
        reason = f"{what[pair.kind]} {pair.part_a}: {one} ({pair.class_a})"
        return replace(self.make(kind, number, pair.similarity, reason, one), copy=(pair.part_a, pair.index_a))

    def labels(self, errors: LabelErrors | None) -> Iterator[Suspect]:
        if errors is None:
            return
        suggested, quality = errors.suggested, errors.quality
        for number in errors.suspects[: max(1, round(MOST_DOUBTED * len(errors.labels)))].tolist():
            given, other = errors.probabilities[number, errors.labels[number]], suggested[number]
            name = self.pictures.classes[other]
            reason = f"predicted as {name} ({errors.probabilities[number, other]:.0%}), as its label {given:.1%}"
            yield self.make("label", number, 1 - float(quality[number]), reason, name)

    def between(self, errors: LabelErrors | None) -> Iterator[Suspect]:
        """Pictures for which two classes are confident, and nearly equally so."""
        if errors is None or len(self.pictures.classes) < 2:
            return
        confident = np.where(errors.probabilities >= errors.thresholds, errors.probabilities, 0)
        order = np.argsort(-confident, axis=1, kind="stable")[:, :2]
        best, second = np.take_along_axis(confident, order, axis=1).T
        ratio = np.where(errors.flagged, 0, second / np.maximum(best, np.finfo(np.float64).tiny))
        most = max(1, round(MOST_BETWEEN * len(ratio)))
        for number in np.argsort(-ratio, kind="stable")[:most].tolist():
            if ratio[number] < CLOSE:
                return
            one, other = (self.pictures.classes[label] for label in order[number])
            suggestion = other if one == self._label(number) else one
            reason = f"{one} {best[number]:.0%}, {other} {second[number]:.0%}"
            yield self.make("two classes", number, float(ratio[number]), reason, suggestion)

    def _label(self, number: int) -> str:
        return label_text(self.pictures.labels[number], self.pictures.classes)


def _why_not_judged(pictures: Pictures) -> str | None:
    if is_multi_label(pictures.labels):
        return "a picture can have several"
    counts = class_counts(pictures.labels, len(pictures.classes))
    fewest = int(counts.argmin())
    if counts[fewest] == 0:
        return f"there are no pictures of {pictures.classes[fewest]}"
    return "a class has a single picture" if counts[fewest] == 1 else None


def _imbalance(pictures: Pictures) -> list[str]:
    counts = class_counts(pictures.labels, len(pictures.classes))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] <= 3 * counts[least]:
        return []
    return [
        f"The classes are of unequal size: {counts[most]:,} pictures of {pictures.classes[most]}, {counts[least]:,} of "
        f"{pictures.classes[least]}. Gather more of the small ones, or set class_weights in [training]."
    ]
