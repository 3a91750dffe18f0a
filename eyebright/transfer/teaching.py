"""Teaching a classifier more: new pictures and corrected labels, in a moment, without forgetting any.

A head on embeddings is trained anew on all that it has ever been given, which the classifier's memory holds; the
network before it stays as it is. So, up to rounding, the order of teaching does not matter (but for a dense head, whose
training draws pictures at random).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from eyebright.classifier import Classifier, Memory
from eyebright.data.images import ImageFiles
from eyebright.data.split import picture_digests
from eyebright.errors import DataError, ModelError, did_you_mean
from eyebright.evaluation.embeddings import Embedder
from eyebright.layers.rejection import Rejection
from eyebright.transfer.heads import Examples, Kind, fit_heads
from eyebright.transfer.joined import join_head
from eyebright.transfer.rejecting import make_rejection, seen_by


@dataclass(frozen=True, eq=False)
class Taught:
    """What teaching did.

    Attributes:
        classifier: that has learned it.
        added: pictures that are new to it.
        corrected: pictures that it had under another label.
        known: pictures that it had under this label.
        classes_added: names.
        seconds: that it took.
    """

    classifier: Classifier
    added: int
    corrected: int
    known: int
    classes_added: tuple[str, ...]
    seconds: float


def teach(classifier: Classifier, pictures: Sequence[str | Path], label: str, *, new_class: bool = False) -> Taught:
    """Gives a classifier pictures of a class.

    Args:
        classifier: one with a memory; it is not changed.
        pictures: files. One that it has learned from already is corrected, whatever its name was.
        label: the class that they are of.
        new_class: whether it may be a class that the classifier does not know yet.

    Raises:
        ModelError: the classifier has no memory: it is no head on embeddings.
        DataError: the class is unknown; there are no pictures; or a picture can have several labels.
        PictureError: a picture cannot be decoded.
    """
    started = time.perf_counter()
    memory = _check(classifier, pictures)
    classes = classifier.classes
    if label not in classes:
        if not new_class:
            raise DataError(
                f"the classifier knows no class '{label}'",
                expected=f"one of {', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}",
                remedy=did_you_mean(label, classes) or "add --new-class where it is meant to be a new one",
            )
        classes = (*classes, label)
    number = classes.index(label)
    files = ImageFiles(tuple(map(Path, pictures)), np.full(len(pictures), number), classes)
    contents, _ = picture_digests(files)
    given = {content.tobytes(): index for index, content in enumerate(contents)}  # each once
    rows = {content.tobytes() for content in memory.contents.numpy()}
    labels = memory.labels.clone()
    hit = torch.tensor([content.tobytes() in given for content in memory.contents.numpy()])
    wrong = {content.tobytes() for content in memory.contents[hit & (labels != number)].numpy()}
    labels[hit] = number
    fresh = np.array([index for content, index in given.items() if content not in rows], dtype=np.int64)
    embeddings = memory.embeddings
    if len(fresh):
        made = Embedder(classifier, keep=False)(files.select(fresh))
        embeddings = torch.cat([embeddings, torch.from_numpy(made)])
        labels = torch.cat([labels, torch.full((len(fresh),), number)])
    after = Memory(
        memory.kind, memory.setting, embeddings, labels, torch.cat([memory.contents, torch.from_numpy(contents[fresh])])
    )
    learned = _relearn(classifier, after, classes)
    known = len(given) - len(fresh) - len(wrong)
    added = classes[len(classifier.classes) :]
    return Taught(learned, len(fresh), len(wrong), known, added, time.perf_counter() - started)


def remember(classifier: Classifier, kind: str, setting: float, examples: Examples, contents: Tensor) -> None:
    """Gives a classifier, whose head was trained on these examples, its memory of them.

    Args:
        classifier: is changed.
        kind: of the head.
        setting: that was chosen for it.
        examples: all that it was trained on.
        contents: uint8 `[N, 32]`: SHA-256 of the picture that each is of.
    """
    labels = torch.from_numpy(np.array(examples.labels))
    classifier.memory = Memory(kind, setting, torch.from_numpy(np.array(examples.values)), labels, contents)


def _check(classifier: Classifier, pictures: Sequence[str | Path]) -> Memory:
    if classifier.memory is None:
        raise ModelError(
            "this classifier cannot be taught more: it does not remember what it has learned from",
            expected="one with a head on embeddings, as `eyebright transfer` makes them",
            remedy="make one: eyebright transfer SOURCE --from CLASSIFIER --tune none",
        )
    if classifier.multi_label:
        raise DataError(
            "this classifier answers with several labels for a picture",
            expected="one of one label a picture",
            remedy="add the picture to the source, and transfer again: embeddings are found in the cache",
        )
    if not pictures:
        raise DataError("there are no pictures to teach", expected="at least one", remedy="name picture files")
    return classifier.memory


def _relearn(classifier: Classifier, memory: Memory, classes: tuple[str, ...]) -> Classifier:
    """The classifier that comes out of a memory."""
    single = classifier.model.num_classes == 1 and len(classes) == 2
    examples = Examples(memory.embeddings.numpy(), memory.labels.numpy(), classes, None, single)
    (head,) = fit_heads(cast(Kind, memory.kind), examples, (memory.setting,))
    facts = {name: value for name, value in classifier.facts.items() if name != "metrics"}  # of what it was before
    learned = join_head(classifier, head, classes, facts)
    _, plain = np.unique(memory.contents.numpy(), axis=0, return_index=True)  # of each picture's views the first
    rejection = classifier.rejection and _renew(classifier.rejection, learned, examples.select(plain))
    thresholds = classifier.thresholds if classes == classifier.classes else None
    return replace(
        learned, temperature=classifier.temperature, rejection=rejection, thresholds=thresholds, memory=memory
    )


def _renew(rejection: Rejection, learned: Classifier, examples: Examples) -> Rejection:
    """The same score and threshold, compared with all that is known now."""
    seen = seen_by(learned, examples.values, examples.labels)
    return make_rejection(rejection.options.score, seen, rejection.options.threshold, rejection.options.rate)
