"""How sure a classifier may be: its temperature, and the score by which it tells what is none of its classes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from eyebright.classifier import THRESHOLD, Classifier, two_logits
from eyebright.data.images import Pictures
from eyebright.evaluation.embeddings import Embedder
from eyebright.evaluation.evaluate import Evaluation, match_labels
from eyebright.evaluation.paired import LEVEL, compare_answers
from eyebright.layers.rejection import SCORES, Rejection, RejectionOptions, Score
from eyebright.random import generator
from eyebright.training.loss import picture_losses
from eyebright.transfer.heads import answer

RATE = 0.05  # of known pictures that are rejected, where nobody says another
MOST = 10_000  # pictures learned from that are kept to compare with
WIDEST = 4096  # features for which a covariance is made
STEPS = 500  # thresholds that are tried
HELD_OUT = 5  # groups of classes that are left out in turn, to see by which score they are told

Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network made of pictures of known classes.

    Attributes:
        embeddings: float32 `[N, D]`.
        logits: float32 `[N, K]`.
        labels: int64 `[N]`.
    """

    embeddings: Values
    logits: Values
    labels: NDArray[np.int64]

    def select(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Seen:
        """Those pictures."""
        return Seen(self.embeddings[chosen], self.logits[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Calibration:
    """How a classifier was told to doubt; all figures are of pictures that were not learned from, but fitted on.

    Attributes:
        temperature: by which logits are divided.
        error_before, error_after: expected calibration error, on the pictures that the temperature was fitted on; None
            where a picture can have several labels.
        thresholds: from which probability on the answer is yes, where that is not one half.
        score: by what pictures of none of the classes are told; None: they are not.
        auroc: score → how well it tells classes that were left out; empty for two classes.
        threshold: score from which on a picture is none of the classes.
        rejected: share of these pictures that this rejects.
    """

    temperature: float
    error_before: float | None
    error_after: float | None
    thresholds: tuple[float, ...] | None
    score: Score | None
    auroc: dict[Score, float]
    threshold: float | None
    rejected: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """What was found."""
        said = []
        if self.error_before is not None and self.error_after is not None:
            said.append(
                f"temperature {self.temperature:.2f}: on the pictures that it was fitted on the calibration error goes "
                f"from {self.error_before:.1%} to {self.error_after:.1%}"
            )
        if self.thresholds is not None:
            said.append(f"yes from a probability of {', '.join(f'{value:.2f}' for value in self.thresholds)} on")
        if self.score is not None:
            told = ", ".join(f"{name} {value:.3f}" for name, value in self.auroc.items())
            why = f"best of those at telling known classes that are left out in turn (AUROC {told})"
            said.append(
                f"none of these: told by {self.score}, {why if told else 'as with two classes none can be left out'}; "
                f"rejects {self.rejected:.1%} of the pictures that it was set by"
            )
        return said


@dataclass(frozen=True, eq=False)
class Strangeness:
    """How known pictures that were not learned from score, and how well each score tells classes that were left out.

    Attributes:
        scores: score → float32 `[N]`.
        auroc: score → area under the curve of left-out against known, a mean over what was left out; empty for two
            classes, where none can be left out.
    """

    scores: dict[Score, Values]
    auroc: dict[Score, float]


def calibrate(
    classifier: Classifier, learned: Seen, judged: Sequence[tuple[Seen, Seen]], rate: float | None, seed: int = 0
) -> Calibration:
    """Gives a classifier its temperature, and the score and threshold by which it rejects.

    Args:
        classifier: is changed.
        learned: what its own network made of pictures that it has learned from.
        judged: pairs of what a network, its own or one that was trained like it, made of pictures that it learned from
            and of others; the others of all pairs are what figures are of.
        rate: share of known pictures that may be rejected; None or 0: nothing is.
        seed: of a sample of many pictures.
    """
    from scipy.special import expit, logit

    logits = np.concatenate([others.logits for _, others in judged])
    labels = np.concatenate([others.labels for _, others in judged])
    classifier.temperature, classifier.rejection = fit_temperature(logits, labels), None
    classifier.thresholds = thresholds = find_thresholds(
        classifier.probabilities(torch.from_numpy(logits / classifier.temperature)).numpy(), labels
    )
    if labels.ndim == 2:
        return Calibration(classifier.temperature, None, None, thresholds, None, {}, None, None)
    divided = (logits / classifier.temperature).astype(np.float32)
    yes = yes_before = None
    if thresholds is not None:  # of two classes one; what it was before gives the same answers
        yes, yes_before = thresholds[0], float(expit(classifier.temperature * logit(thresholds[0])))
    before, after = (
        Evaluation(rows, labels, classifier.classes, threshold=threshold).calibration_error
        for rows, threshold in ((logits, yes_before), (divided, yes))
    )
    if not rate:
        return Calibration(classifier.temperature, before, after, thresholds, None, {}, None, None)
    found = [measure_strangeness(_few(first, seed), others) for first, others in judged]
    score, auroc = choose_score(found)
    scores = np.concatenate([one.scores[score] for one in found])
    threshold = find_threshold(scores, rate)
    classifier.rejection = make_rejection(score, learned, threshold, rate, seed)
    rejected = float((scores > threshold).mean())
    return Calibration(classifier.temperature, before, after, thresholds, score, auroc, threshold, rejected)


def look(
    classifier: Classifier, pictures: Pictures, on_picture: Callable[[], object] | None = None, *, keep: bool = True
) -> Seen:
    """What a classifier's network makes of pictures whose classes it knows.

    Args:
        classifier: which.
        pictures: a labelled set.
        on_picture: called for each, for a progress bar.
        keep: whether the cache is used.

    Raises:
        DataError: a class is not the classifier's.
        PictureError: a picture cannot be decoded.
    """
    embeddings = Embedder(classifier, keep=keep)(pictures, on_picture=on_picture)
    return seen_by(classifier, embeddings, match_labels(pictures, classifier.classes, classifier.class_ids))


def seen_by(classifier: Classifier, embeddings: Values, labels: NDArray[np.int64]) -> Seen:
    """Embeddings, float32 `[N, D]`, and what a classifier's head makes of them."""
    head = copy.deepcopy(classifier.model.standing_head).cpu()
    logits: Values = two_logits(torch.from_numpy(answer(head, embeddings))).numpy()
    return Seen(embeddings, logits, labels)


def _few(seen: Seen, seed: int) -> Seen:
    if len(seen.labels) <= MOST:
        return seen
    return seen.select(torch.randperm(len(seen.labels), generator=generator(seed, "references"))[:MOST].numpy())


def fit_temperature(logits: Values, labels: NDArray[np.int64]) -> float:
    """By what logits are divided so that probabilities mean what they say: the least cross-entropy on these pictures.

    Args:
        logits: float32 `[N, K]` of pictures that were not learned from.
        labels: int64 `[N]`, or `[N, K]` where a picture can have several.

    Source:
        Guo et al.: On Calibration of Modern Neural Networks, 2017, §4.2.
    """
    from scipy.optimize import minimize_scalar

    given, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels)

    def loss(logarithm: float) -> float:
        return float(picture_losses(given / math.exp(logarithm), truth).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return math.exp(float(found.x))


def find_thresholds(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, ...] | None:
    """From which probability on the answer is yes.

    Of two classes: for the second, where most answers are right. Of several labels: for each, where F1 is highest. It
    leaves one half only where it does better on pictures that it was not found on, each half of them judged by what
    the other half says: of two classes by McNemar's test, of several labels by F1. Of more classes there is none.

    Args:
        shares: probabilities, float64 `[N, K]`, of pictures that were not learned from.
        labels: int64 `[N]`, or `[N, K]` where a picture can have several.

    Returns:
        `[1]`, `[K]`, or None: one half.
    """
    if labels.ndim == 2:
        return tuple(_find_threshold(*column, _f1) for column in zip(shares.T, labels.T, strict=True))
    if shares.shape[1] != 2:
        return None
    second = shares[:, 1]
    crossed = _crossed(second, labels, _count_right)
    if compare_answers((second >= THRESHOLD) == labels, crossed == labels).p_value >= LEVEL:
        return None
    return (_best(second, labels, _count_right),)


Merit = Callable[[NDArray[np.bool_], NDArray[np.int64]], float]


def _count_right(answers: NDArray[np.bool_], truth: NDArray[np.int64]) -> float:
    return float((answers == truth).sum())


def _f1(answers: NDArray[np.bool_], truth: NDArray[np.int64]) -> float:
    return 2 * float((answers & (truth == 1)).sum()) / max(1, int(answers.sum() + truth.sum()))


def _find_threshold(shares: NDArray[np.float64], truth: NDArray[np.int64], merit: Merit) -> float:
    """The best threshold; one half where it is no better on pictures that it was not found on."""
    better = merit(_crossed(shares, truth, merit), truth) > merit(shares >= THRESHOLD, truth)
    return _best(shares, truth, merit) if better else THRESHOLD


def _crossed(shares: NDArray[np.float64], truth: NDArray[np.int64], merit: Merit) -> NDArray[np.bool_]:
    """Answers, each half of the pictures by the threshold that is best on the other."""
    first = np.arange(len(shares)) % 2 == 0
    answers = np.empty(len(shares), dtype=bool)
    for half in (first, ~first):
        answers[half] = shares[half] >= _best(shares[~half], truth[~half], merit)
    return answers


def _best(shares: NDArray[np.float64], truth: NDArray[np.int64], merit: Merit) -> float:
    return min((*_between(shares), THRESHOLD), key=lambda at: (-merit(shares >= at, truth), abs(at - THRESHOLD)))


def _between(shares: NDArray[np.float64]) -> list[float]:
    """Probabilities between those that there are, of many some."""
    there = np.unique(shares)
    middles = (there[1:] + there[:-1]) / 2
    if len(middles) > STEPS:
        middles = middles[np.linspace(0, len(middles) - 1, STEPS).astype(int)]
    return middles.tolist() or [THRESHOLD]


def make_rejection(score: Score, learned: Seen, threshold: float, rate: float, seed: int = 0) -> Rejection:
    """The score's references are made of pictures that were learned from.

    Args:
        score: by what pictures are told.
        learned: those pictures; of more than 10,000 a sample.
        threshold: score from which on a picture is none of these.
        rate: that this threshold was chosen for.
        seed: of the sample.
    """
    features = learned.embeddings.shape[1]
    references, whitening = torch.zeros(0, features), torch.zeros(0, features)
    if score == "mahalanobis":
        references, whitening = _whitened(learned)
    elif score == "neighbours":
        kept = _few(learned, seed).embeddings
        references = functional.normalize(torch.from_numpy(np.ascontiguousarray(kept)))
    options = RejectionOptions(
        score=score, threshold=threshold, rate=rate, features=features, references=len(references)
    )
    made = Rejection(options)
    made.load_state_dict({"references": references, "whitening": whitening})
    return made


def measure_strangeness(learned: Seen, judged: Seen) -> Strangeness:
    """How pictures score that were not learned from, by each score, and which of them tells left-out classes best.

    Classes are left out in turn: their pictures from those learned from, and their logits. The network itself has seen
    them, so the figures compare scores; they do not foretell how well strangers are told.

    Args:
        learned: pictures that were learned from.
        judged: pictures that were not.
    """
    classes = learned.logits.shape[1]
    if classes < 3:
        return Strangeness({"neighbours": _score("neighbours", learned, judged)}, {})
    from sklearn.metrics import roc_auc_score

    tried = [s for s in SCORES if s != "mahalanobis" or learned.embeddings.shape[1] <= WIDEST]
    scores = {score: _score(score, learned, judged) for score in tried}
    found: dict[Score, list[float]] = {score: [] for score in tried}
    for out in np.array_split(np.arange(classes), min(HELD_OUT, classes)):
        if classes - len(out) < 2:
            continue
        stays = np.setdiff1d(np.arange(classes), out)
        strange = np.isin(judged.labels, out)
        if strange.all() or not strange.any():
            continue
        fewer = learned.select(~np.isin(learned.labels, out))
        place = np.searchsorted(stays, fewer.labels)
        narrowed = Seen(fewer.embeddings, fewer.logits[:, stays], place)
        asked = Seen(judged.embeddings, judged.logits[:, stays], judged.labels)
        for score in tried:
            found[score].append(float(roc_auc_score(strange, _score(score, narrowed, asked))))
    return Strangeness(scores, {score: float(np.mean(values)) for score, values in found.items() if values})


def measure_scores(classifier: Classifier, pictures: Pictures) -> Values | None:
    """How strange each picture is to a classifier, float32 `[N]`; None where it rejects none.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    if classifier.rejection is None:
        return None
    seen = look(classifier, pictures, keep=False)
    scores: Values = classifier.rejection(torch.from_numpy(seen.logits), torch.from_numpy(seen.embeddings)).numpy()
    return scores


def choose_score(found: list[Strangeness]) -> tuple[Score, dict[Score, float]]:
    """The score that tells left-out classes best, and how well each does; for two classes the neighbours."""
    told = [one.auroc for one in found if one.auroc]
    if not told:
        return "neighbours", {}
    mean = {score: float(np.mean([auroc[score] for auroc in told])) for score in told[0]}
    return max(mean, key=lambda score: mean[score]), mean


def find_threshold(scores: Values, rate: float) -> float:
    """The score that a share `rate` of known pictures exceeds."""
    return float(np.sort(scores)[len(scores) - int(rate * len(scores)) - 1])


def _score(score: Score, learned: Seen, judged: Seen) -> Values:
    rejection = make_rejection(score, learned, 0.0, RATE)
    scores: Values = rejection(torch.from_numpy(judged.logits), torch.from_numpy(judged.embeddings)).numpy()
    return scores


def _whitened(learned: Seen) -> tuple[torch.Tensor, torch.Tensor]:
    """Class means `[K, D]`, and the inverse square root `[D, D]` of the covariance within classes, shrunk."""
    from sklearn.covariance import ledoit_wolf

    values = learned.embeddings.astype(np.float64)
    there = np.unique(learned.labels)
    means = np.stack([values[learned.labels == label].mean(axis=0) for label in there])
    within = values - means[np.searchsorted(there, learned.labels)]
    scaled = within / math.sqrt(len(within))
    _, shrinkage = ledoit_wolf(within, assume_centered=True)
    _, lengths, directions = np.linalg.svd(scaled, full_matrices=False)  # cheap where pictures are few
    mean = float(np.square(scaled).sum()) / values.shape[1]
    floor = max(shrinkage * mean, 1e-9 * mean, 1e-12)
    along = 1 / np.sqrt((1 - shrinkage) * np.square(lengths) + floor)
    whitening = (directions.T * (along - 1 / math.sqrt(floor))) @ directions + np.eye(values.shape[1]) / math.sqrt(
        floor
    )
    return torch.from_numpy(means).float(), torch.from_numpy(whitening).float()
