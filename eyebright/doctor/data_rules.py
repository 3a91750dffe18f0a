"""Rules about the pictures and their labels: noise, order, classes that are missed, copies, augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from scipy.stats import binomtest

from eyebright.curation.label_errors import find_label_errors
from eyebright.data.labels import Labels
from eyebright.doctor.diagnosis import Diagnosis, Severity
from eyebright.doctor.history import AT_CHANCE, History, Values, interval
from eyebright.inspection.class_checks import IMBALANCE
from eyebright.inspection.finding import listed, many

MEMORISED = 0.2  # of the way from guessing to certainty on training
SURE = 0.5  # share of the validation pictures that are answered most surely
AS_OFTEN = 0.6  # as often wrong on those as on all
NOISE = 0.10  # share of wrong labels
FEWEST = 200  # validation pictures from which noise is told
SEVERAL = 5  # classes from which on a label can be far down among the guesses
LAST = 0.2  # of the guesses
MOST_WRONG = 0.75  # of all answers: more, and the network knows too little to tell
ENOUGH = 10  # validation pictures of a class
IGNORED = 0.02  # recall
BEHIND = 0.15  # recall of small classes below that of the others
REPEATS = 0.4  # correlation of one epoch's losses, step by step, with the next one's
STEPS, EPOCHS = 20, 3  # steps of an epoch and epochs from which on that is told
COPIED = 0.005  # share of a part that stands in training, pixel for pixel
NEARLY = 0.10  # share of it that has near copies there
HARDER = 0.15  # accuracy of training pictures as they are minus as training shows them
ABOVE = 0.05  # validation accuracy minus training accuracy
TURNS, TURNED_BEFORE = 0.3, 0.1  # share of a class that looks like another one augmented, and as it is
RECALL, TAKEN = 0.9, 0.5  # recall below, and share of a class's errors that are the other one above which it shows


def labels_unrelated(history: History) -> Diagnosis | None:
    """Labels that the pictures do not explain.

    Validation is at chance level (its 95 % interval holds it, its least loss is no better than 5 % below
    guessing's), and the network has learnt training by heart (0.2 of the way to certainty), or a linear classifier
    on patches finds nothing either.
    """
    if not history.validates or history.multi_label:
        return None
    low, high = history.val_interval(len(history.epochs))
    if low > history.chance_accuracy or history.val_loss.min() < (1 - AT_CHANCE) * history.chance_loss:
        return None
    evidence = [
        f"validation accuracy is {low:.1%} to {high:.1%} (95 % interval); guessing gives {history.chance_accuracy:.1%}"
    ]
    learnt = history.learnt(float(history.train_loss[-1]))
    share, count = None, 0
    if history.answers is not None:
        share, count = history.answers.baseline_accuracy, history.answers.baseline_count
    nothing = share is not None and interval(share, count)[0] <= history.chance_accuracy
    if share is not None and not nothing:
        return None  # the labels can be told from the pictures
    if nothing:
        evidence.append(f"a linear classifier on patches is right for {share:.1%} of {count:,} pictures: guessing, too")
    if learnt > MEMORISED:
        evidence.append(f"training accuracy is {history.train_accuracy[-1]:.1%}: learnt by heart")
    if not nothing and learnt <= MEMORISED:
        return None
    return Diagnosis(
        "labels_unrelated", "error", "labels have nothing to do with the pictures", tuple(evidence),
        "labels were shuffled, shifted against the pictures, or of other pictures",
        "look at pictures with their labels: eyebright data SOURCE --figure samples.png; check how the list was made",
        (1, len(history.epochs)),
    )  # fmt: skip


def label_noise(history: History) -> Diagnosis | None:
    """Wrong labels: the network is wrong where it is sure, and the given labels are as good as drawn at random.

    With five classes or more, on at least 200 validation pictures of which a quarter is answered right: the surer half
    of the answers is wrong nearly as often (0.6 times) as all, and of these, the given labels stand so often among the
    last fifth of the guesses, where those of hard pictures hardly ever are and a fifth of those drawn at random, that
    one label in ten is wrong, by the lower 95 % limit. Classes that are never recognised are left out.
    """
    answers, classes = history.answers, len(history.classes)
    if answers is None or answers.val_probabilities is None or len(answers.val_labels) < FEWEST or classes < SEVERAL:
        return None
    shares, labels = answers.val_probabilities, answers.val_labels
    wrong = answers.val_predictions != labels
    sure = np.argsort(-shares.max(axis=1), kind="stable")[: int(SURE * len(labels))]
    among_sure, among_all = float(wrong[sure].mean()), float(wrong.mean())
    errors = sure[wrong[sure] & (_recalls(history)[1][labels[sure]] >= IGNORED)]
    if among_all > MOST_WRONG or among_sure < AS_OFTEN * among_all or len(errors) == 0:
        return None
    better = (shares[errors] > shares[errors, labels[errors]][:, None]).sum(axis=1)
    guesses = math.ceil(LAST * (classes - 1))
    last, random = int((better >= classes - guesses).sum()), guesses / (classes - 1)
    least = float(binomtest(last, len(errors)).proportion_ci(0.95, "wilson").low)
    if min(1.0, least / random) * among_sure < NOISE:
        return None
    estimate = min(1.0, last / len(errors) / random) * among_sure
    evidence = [
        f"{among_sure:.1%} of the surer half of the answers are wrong; of all {among_all:.1%}",
        f"in {last / len(errors):.0%} of these the given label is among the last {guesses} guesses, where labels drawn "
        f"at random are in {random:.0%} and those of hard pictures hardly ever",
    ]
    if len(np.unique(labels)) == classes:
        flagged = find_label_errors(shares, labels).flagged
        evidence.append(f"confident learning takes {flagged.mean():.0%} of the validation labels for wrong")
    return Diagnosis(
        "label_noise", "warning", f"about {estimate:.0%} of the labels seem to be wrong", tuple(evidence),
        "where a network is sure and wrong all over, it is often right and the label is not; wrong labels in training "
        "are learnt by heart, those in validation make every figure too low",
        "eyebright curate SOURCE lists the suspects; decide on its page, then train with --curation FILE",
    )  # fmt: skip


def class_ignored(history: History) -> Diagnosis | None:
    """A class with at least ten validation pictures is recognised in fewer than 2 % of them."""
    answers = history.answers
    if answers is None or answers.val_probabilities is None or history.val_at_chance:
        return None
    counts, recalls = _recalls(history)
    ignored = np.flatnonzero((counts >= ENOUGH) & (recalls < IGNORED)).tolist()
    if not ignored:
        return None
    predicted = np.bincount(answers.val_predictions, minlength=len(history.classes))
    evidence = []
    for label in ignored[:5]:
        own = answers.val_predictions[answers.val_labels == label]
        instead = history.classes[int(np.bincount(own).argmax())]
        evidence.append(
            f"{history.classes[label]}: {recalls[label]:.0%} of {counts[label]} recognised, mostly taken for "
            f"{instead}; answered {many(int(predicted[label]), 'time')}; "
            f"{many(history.counts['train'][label], 'training picture')}"
        )
    names = [history.classes[label] for label in ignored]
    return Diagnosis(
        "class_ignored", "error", f"{many(len(names), 'class is', 'classes are')} never recognised: {listed(names)}",
        tuple(evidence),
        "a class that is rare, or hardly differs from another one, costs little when it is never answered",
        'add pictures of it; training.class_weights="balanced"; look whether it is one class or two: eyebright data',
    )  # fmt: skip


def imbalance(history: History) -> Diagnosis | None:
    """Small classes are learnt worse than large ones.

    The largest class has more than three times the training pictures of the smallest, classes weigh equally in the
    loss, and classes with less than half of the mean are recognised 15 points less often than the others. Without
    answers on validation a note says the counts.
    """
    counts = np.array(history.counts["train"])
    present = counts[counts > 0]
    if history.multi_label or present.max() <= IMBALANCE * present.min():
        return None
    if history.recipe.training.class_weights != "equal":
        return None
    largest, smallest = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    evidence = [
        f"{history.classes[largest]} has {many(int(counts[largest]), 'training picture')}, "
        f"{history.classes[smallest]} {counts[smallest]:,}"
    ]
    severity: Severity = "note"
    problem = "classes have very different numbers of pictures"
    if history.answers is not None and history.answers.val_probabilities is not None:
        shown, recalls = _recalls(history)
        small, large = (shown > 0) & (counts < counts.mean() / 2), (shown > 0) & (counts >= counts.mean() / 2)
        if not small.any() or not large.any():
            return None
        low, high = float(recalls[small].mean()), float(recalls[large].mean())
        if high - low < BEHIND:
            return None
        severity, problem = "warning", "small classes are learnt worse than large ones"
        evidence.append(
            f"of the small classes' validation pictures {low:.0%} are recognised, of the others' {high:.0%}"
        )
    return Diagnosis(
        "imbalance", severity, problem, tuple(evidence), "what is met seldom counts little in the mean loss",
        'training.class_weights="balanced", or more pictures of the small classes; judge by the figures of each class',
    )  # fmt: skip


def leakage(history: History) -> Diagnosis | None:
    """Pictures of validation or test stand in training: one in 200 pixel for pixel, or one in ten nearly."""
    evidence = []
    for (first, second), names in history.shared.items():
        count = sum(history.counts[second])
        if first == "train" and len(names) >= max(2, COPIED * count):
            evidence.append(
                f"{len(names):,} of {count:,} {second} pictures stand in train, pixel for pixel ({listed(names)})"
            )
    for copies in history.answers.copies if history.answers else ():
        if copies.share > NEARLY:
            seen = "" if copies.among == 1 else f", compared with {copies.among:.0%} of training"
            evidence.append(
                f"{len(copies.names):,} of {copies.of:,} {copies.part} pictures have near copies in train{seen} "
                f"({listed(copies.names)}): about {copies.share:.0%}"
            )
    if not evidence:
        return None
    return Diagnosis(
        "leakage", "error", "figures are too good: the network was trained with pictures that it is tested on",
        tuple(evidence), "the same photograph stored twice, frames of one film, or parts that were cut after copying",
        "eyebright curate SOURCE lists the copies; data.group_by keeps what belongs together in one part",
    )  # fmt: skip


def augmentation_too_strong(history: History) -> Diagnosis | None:
    """Augmentation makes pictures harder than those that count.

    Training pictures are answered 15 points better as they are than as training shows them, by the same network in
    evaluation, and validation accuracy is 5 points above training accuracy.
    """
    answers = history.answers
    if answers is None or answers.augmented_accuracy is None or answers.train_accuracy is None or not history.validates:
        return None
    best = int(np.nanargmax(history.val_accuracy))
    above = float(history.val_accuracy[best] - history.train_accuracy[best])
    if answers.train_accuracy - answers.augmented_accuracy < HARDER or above < ABOVE:
        return None
    return Diagnosis(
        "augmentation_too_strong", "warning", "augmentation makes the pictures harder than those that count",
        (
            f"{answers.train_count:,} training pictures: {answers.train_accuracy:.1%} right as they are, "
            f"{answers.augmented_accuracy:.1%} as training shows them",
            f"in epoch {best + 1} validation accuracy is {history.val_accuracy[best]:.1%}, training accuracy "
            f"{history.train_accuracy[best]:.1%}",
        ),
        "the network spends itself on pictures such as it will never be asked about",
        "look at what training sees: eyebright data SOURCE --augment RECIPE; take less of what hides or distorts "
        "most, or train longer: strong augmentation pays late",
        (best + 1, best + 1),
    )  # fmt: skip


def augmentation_changes_labels(history: History) -> Diagnosis | None:
    """Augmentation turns a class into another one.

    It makes 30 % of the class look like the other one to a linear classifier on thumbnails that has never seen it
    augmented (at most 10 % as they are), and the network mixes up these two: less than 90 % of one of them is
    recognised on validation, and more than half of its errors are the other.
    """
    answers = history.answers
    if answers is None or answers.val_probabilities is None:
        return None
    counts, recalls = _recalls(history)
    for turned in answers.turned:
        if turned.augmented < TURNS or turned.plain > TURNED_BEFORE:
            continue
        one, other = history.classes.index(turned.true), history.classes.index(turned.other)
        for true, answer in ((one, other), (other, one)):
            errors = answers.val_predictions[(answers.val_labels == true) & (answers.val_predictions != true)]
            if counts[true] < ENOUGH or recalls[true] >= RECALL or (errors == answer).mean() <= TAKEN:
                continue
            return Diagnosis(
                "augmentation_changes_labels", "error",
                f"augmentation turns {turned.true} into {turned.other}",
                (
                    f"a linear classifier takes {turned.plain:.0%} of {turned.true} for {turned.other} as they are, "
                    f"{turned.augmented:.0%} as training shows them",
                    f"the network recognises {recalls[true]:.0%} of {history.classes[true]} on validation and takes "
                    f"{(errors == answer).sum()} of {len(errors)} others for {history.classes[answer]}",
                ),
                "a change after which a picture shows another class teaches the network a wrong label",
                "take out of [augment] what does that: flips and strong rotation of signs, for example",
            )  # fmt: skip
    return None


def order_repeats(history: History) -> Diagnosis | None:
    """The pictures come in the same order each time.

    The losses of an epoch's steps go with those of the epoch before, step by step: the correlation is above 0.4
    after what falls slowly is taken off.
    """
    per_epoch = history.steps_per_epoch
    whole = len(history.step_loss) // per_epoch
    if per_epoch < STEPS or whole < EPOCHS:
        return None
    rows = history.step_loss[: whole * per_epoch].reshape(whole, per_epoch)
    shared = [float(np.corrcoef(one, other)[0, 1]) for one, other in _pairs(rows) if one.std() and other.std()]
    if len(shared) < EPOCHS - 1 or np.median(shared) < REPEATS:
        return None
    usual = float(np.median(np.abs(np.diff(rows, axis=1))))
    return Diagnosis(
        "order_repeats", "error", "training pictures come in the same order in each epoch",
        (
            f"the losses of an epoch's {per_epoch} steps go with those of the next epoch: correlation "
            f"{np.median(shared):.2f}, where an order of its own gives about 0",
            f"from step to step the loss jumps by {usual:.3g}, usually",
        ),
        "pictures that are not shuffled, or sorted by class, teach one class and unteach the others",
        "shuffle them anew for each epoch, as eyebright does; a stream of a web data set needs a larger buffer",
        (1, whole),
    )  # fmt: skip


def _pairs(rows: Values) -> Iterator[tuple[Values, Values]]:
    """Each epoch's losses and the next one's, both without what changes slowly within an epoch."""
    width = max(5, rows.shape[1] // 4)
    kernel = np.ones(width) / width
    weight = np.convolve(np.ones(rows.shape[1]), kernel, mode="same")
    left = [row - np.convolve(row, kernel, mode="same") / weight for row in rows]
    yield from pairwise(left)


def _recalls(history: History) -> tuple[Labels, Values]:
    """Of each class: validation pictures, and the share of them that is recognised (0 where there are none)."""
    assert history.answers is not None
    labels, predictions = history.answers.val_labels, history.answers.val_predictions
    counts = np.bincount(labels, minlength=len(history.classes))
    right = np.bincount(labels[predictions == labels], minlength=len(history.classes))
    return counts, right / np.maximum(counts, 1)
