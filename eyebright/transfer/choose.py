"""Which classifier to make of a trained network and a few pictures: tried in turn, chosen on validation alone."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyebright import __version__
from eyebright.classifier import Classifier, two_logits
from eyebright.data.augment import Augment
from eyebright.data.cuts import make_folds
from eyebright.data.images import Pictures, blank_pictures, join
from eyebright.data.labels import Labels, class_counts, is_multi_label
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits, picture_digests
from eyebright.errors import DataError, ModelError, TrainingDivergedError
from eyebright.evaluation.embeddings import Embedder, View
from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation, MultiLabelEvaluation
from eyebright.evaluation.paired import Difference, compare_answers
from eyebright.files import read_json, write_json
from eyebright.layers.freezing import list_layers
from eyebright.random import generator
from eyebright.tensors import read_safetensors, write_safetensors
from eyebright.training.estimate import in_words
from eyebright.training.fit import Fit, Report
from eyebright.training.receipt import Receipt, make_receipt
from eyebright.training.recipe import Recipe
from eyebright.transfer.heads import MANY, Examples, Kind, answer, choose_head, count_fewest, fit_heads, fitting_kinds
from eyebright.transfer.joined import join_head
from eyebright.transfer.rejecting import RATE, Calibration, Seen, calibrate, seen_by
from eyebright.transfer.sizes import SizeTrial, choose_size, list_prepares, name_size
from eyebright.transfer.teaching import remember
from eyebright.transfer.tuning import AUGMENT, list_depths, tuning_recipe

ENOUGH = 500  # validation pictures: with fewer, every picture of train and validation is judged once, in folds
FOLDS = 5
MEMORY = 64 * 2**20  # bytes of embeddings that a classifier remembers, so that it can be taught more
ASKED = 1000  # pictures, by which a size is chosen
MEASURED_PICTURES = 16  # by which embedding is foretold
MEASURED_STEPS = 5  # after which a training's length is foretold
FORMAT_VERSION = 1
KIND = "eyebright.transfer"

Indices = NDArray[np.int64]
Digests = NDArray[np.uint8]
Begin = Callable[[str, int], Callable[[], object]]


def _silent(what: str, total: int) -> Callable[[], object]:
    return lambda: None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A way to make a classifier, and how it did on validation.

    Attributes:
        name: of the way.
        evaluation: of pictures that it did not learn from.
        seconds: to make one such classifier, embeddings that had to be computed included: none, where they are cached.
        trained: parameters that are learned.
        setting: what was chosen for it on folds of its training pictures, or the epochs of its training.
        seen: for each fold, what its network made of the pictures learned from and of the others.
        difference: from the first candidate on the same pictures; None for that one.
    """

    name: str
    evaluation: AnyEvaluation
    seconds: float
    trained: int
    setting: str
    seen: tuple[tuple[Seen, Seen], ...]
    difference: Difference | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        told = {"name": self.name, "val_accuracy": self.evaluation.accuracy, "val_loss": self.evaluation.loss}
        told |= {"val_interval": list(self.evaluation.accuracy_interval)}
        told |= {"pictures": self.evaluation.count, "seconds": self.seconds, "trained": self.trained}
        if self.difference is not None:
            told |= {"difference": self.difference.value, "difference_interval": list(self.difference.interval)}
        return told | {"setting": self.setting}


@dataclass(frozen=True, eq=False)
class Transfer:
    """What came of trying.

    Attributes:
        classifier: the kept one.
        kept: its name.
        candidates: all that were tried, in order.
        left_out: what was not tried for lack of time, and how long it would have taken, in words.
        folds: into how many the pictures were divided to judge each of them once; 1: validation stood apart.
        calibration: its temperature, and by what it rejects.
        receipt: that everything frozen is the same to the bit, and what moved.
        pictures: that the kept classifier has learned from.
        sizes: of pictures, that were tried first; empty: the size was given, or there is only one.
    """

    classifier: Classifier
    kept: str
    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...]
    folds: int
    calibration: Calibration
    receipt: Receipt
    pictures: int
    sizes: tuple[SizeTrial, ...] = ()

    @property
    def best(self) -> Candidate:
        """The kept one."""
        return next(candidate for candidate in self.candidates if candidate.name == self.kept)


@dataclass(eq=False)
class Search:
    """Tries heads on embeddings, then tunes more and more layers, while there is time; keeps the best on validation.

    The test part is not looked at.

    Args:
        splits: train and validation are used. With fewer than 500 pictures of validation, or none, both are put
            together and divided into five folds, so that each picture is judged once by classifiers that have not seen
            it; the kept one then learns from all of them.
        backbone: a trained network with its Prepare.
        folder: where trainings that are done are kept, so that a search that was broken off goes on.
        seed: of cuts, views, first weights, order and dropout.
        views: changed copies of each training picture that heads learn from beside it; from 4,000 pictures on none.
        augment: how views, and pictures in fine-tuning, are changed.
        kinds: of heads; None: all that fit.
        tune: how many of the last layers are tuned, None standing for all; the empty tuple: nothing is tuned.
        seconds: after which nothing more is begun; None: no limit. The first head is always tried. What is foretold to
            take longer, with the last training on all pictures, is left out.
        single_output: two classes as one sigmoid output.
        rate: share of pictures of known classes that the kept one may take for none of these; None: it answers all.
        sizes: whether pictures are also tried larger than the backbone was shown them before, by a linear head on the
            embeddings of up to 1,000; the smallest within one standard error of the best goes on.
        begin: called with what is done next and its steps; what it gives is called for each step.
        say: called with what happens, in words.
    """

    splits: Splits
    backbone: Classifier
    folder: Path
    seed: int = 0
    views: int = 2
    augment: Augment = AUGMENT
    kinds: tuple[Kind, ...] | None = None
    tune: tuple[int | None, ...] | None = None
    seconds: float | None = None
    single_output: bool = False
    rate: float | None = RATE
    sizes: bool = False
    begin: Begin = _silent
    say: Callable[[str], object] = lambda what: None
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._multi_label = is_multi_label(self.splits.train.labels)
        classes = self.splits.classes
        if self.single_output and (self._multi_label or len(classes) != 2):
            raise DataError(
                f"a single output for {len(classes)} classes",
                expected="two classes, one label a picture",
                remedy="leave --single-output out",
            )
        self._check_heads()
        self.depths = self._check_depths()
        prepare = self.backbone.prepare
        if prepare.output_size is None:
            self.augment = self.augment.model_copy(update={"random_crop": False, "random_resized_crop": None})
            if prepare.resize is not None:
                raise ModelError(
                    f"{self.backbone.model.model_name} is shown pictures of different shapes: "
                    f"resize = {prepare.resize}, and nothing is cut",
                    expected="a trained network whose Prepare makes one size",
                    remedy="choose one with --size",
                )
        self.pictures, self._contents, self.cuts = _arrange(self.splits, self.seed)
        if len(self.pictures) >= MANY and self.views:
            self.say(f"{len(self.pictures):,} pictures are enough: heads learn from them as they are, without views")
            self.views = 0
        self.facts: dict[str, Any] = {"multi_label": True} if self._multi_label else {}
        self._starts: dict[bytes, Path] = {}
        self._embedding_seconds = 0.0
        self._trials: tuple[SizeTrial, ...] = ()

    def _check_heads(self) -> None:
        fitting = fitting_kinds(self.splits.train.labels, self.single_output)
        if wrong := [kind for kind in self.kinds or () if kind not in fitting]:
            what = "several labels a picture" if self._multi_label else "a single output"
            raise DataError(
                f"the head '{wrong[0]}' for {what}",
                expected=f"one of {', '.join(fitting)}",
                remedy="leave that --head out",
            )
        self.kinds = self.kinds or fitting

    def _check_depths(self) -> list[int | None]:
        if self.tune is None:
            return list_depths(self.backbone.model)
        count = len(list_layers(self.backbone.model))
        if wrong := [last for last in self.tune if last is not None and not 0 < last < count]:
            raise ModelError(
                f"the last {wrong[0]} layers of {self.backbone.model.model_name} were to be tuned",
                expected=f"fewer than its {count} layers before the head, and at least 1",
                remedy="give another number to --tune, or all",
            )
        return list(self.tune)

    def run(self) -> Transfer:
        """Does it.

        Raises:
            PictureError: a picture cannot be decoded.
            ModelError: the backbone cannot take these pictures.
            OutputError: the folder cannot be written.
        """
        candidates, examples = self.judge()
        best = max(candidates, key=lambda one: (one.evaluation.accuracy, -one.evaluation.loss))
        self.say(f"kept: {best.name}, validation {best.evaluation.accuracy:.1%}")
        return self.make(best, candidates, examples)

    def judge(self) -> tuple[list[Candidate], Examples]:
        """All candidates, and the embeddings that heads learn from."""
        if self.sizes and len(prepares := list_prepares(self.backbone)) > 1:
            self._choose_size(prepares)
        examples, self._embedding_seconds = self._embed()
        heads = (self._judge_head(kind, examples, first=place == 0) for place, kind in enumerate(self.kinds or ()))
        tuned = (self._judge_tuning(last, examples) for last in self.depths)
        return _compared([one for one in (*heads, *tuned) if one is not None]), examples

    def make(self, best: Candidate, candidates: Sequence[Candidate], examples: Examples) -> Transfer:
        """The classifier of one candidate: of all pictures where they were judged in folds; it is told to doubt.

        Args:
            best: which.
            candidates: all that were tried.
            examples: the embeddings.
        """
        kept = np.arange(len(self.pictures)) if len(self.cuts) > 1 else self.cuts[0][0]
        classifier, receipt = self._make(best.name, examples, kept)
        some = self.pictures.select(kept)
        learned = seen_by(classifier, Embedder(classifier, keep=classifier.memory is not None)(some), some.labels)
        calibration = calibrate(classifier, learned, best.seen, self.rate, self.seed)
        return Transfer(
            classifier, best.name, tuple(candidates), tuple(self.left_out), len(self.cuts), calibration, receipt,
            len(kept), self._trials,
        )  # fmt: skip

    def _choose_size(self, prepares: Sequence[Prepare]) -> None:
        """Goes on with the size that `choose_size` says; a search that is resumed keeps it."""
        whole = json.dumps([prepare.model_dump(mode="json") for prepare in prepares])
        key = _digest(
            Embedder(self.backbone).name.encode(), whole.encode(), str(self.seed).encode(), self._contents.tobytes(),
            self.pictures.labels.tobytes(),
        )  # fmt: skip
        path = self.folder / f"sizes-{key}.json"
        if not path.exists():
            trials = [
                asdict(one) | {"prepare": one.prepare.model_dump(mode="json")} for one in self._try_sizes(prepares)
            ]
            write_json(path, {"trials": trials, "left_out": self.left_out})
        found = read_json(path, "trial of sizes")
        self._trials = tuple(SizeTrial(**one | {"prepare": Prepare(**one["prepare"])}) for one in found["trials"])
        self.left_out[:] = found["left_out"]
        self.backbone = replace(self.backbone, prepare=choose_size(self._trials).prepare)

    def _try_sizes(self, prepares: Sequence[Prepare]) -> list[SizeTrial]:
        """A linear head on embeddings of pictures of each size; those of the own size are always tried."""
        asked = self._some()
        some = self.pictures.select(asked)
        cuts = [tuple(np.flatnonzero(np.isin(asked, part)) for part in cut) for cut in self.cuts]
        order = np.concatenate([held_out for _, held_out in cuts])
        trials: list[SizeTrial] = []
        for prepare in prepares:
            name, sized = name_size(prepare), replace(self.backbone, prepare=prepare)
            left = self._left() / 4
            larger = prepare.output_size != prepares[0].output_size
            if larger and (needed := self._seconds_each(sized) * len(self.pictures) * (1 + self.views)) > left:
                self._leave_out(
                    f"pictures of {name}: embedding all would take about {in_words(needed)}, "
                    f"a quarter of the time that is left is {in_words(max(left, 0))}"
                )
                continue
            values = Embedder(sized)(some, on_picture=self.begin(f"pictures of {name}", len(asked)))
            examples = Examples(values, some.labels, self.splits.classes, some.groups, self.single_output)
            logits = []
            _, setting = choose_head("linear", examples.select(cuts[0][0]), self.seed)
            for kept, held_out in cuts:
                (head,) = fit_heads("linear", examples.select(kept), (setting,), self.seed)
                logits.append(two_logits(torch.from_numpy(answer(head, values[held_out]))).numpy())
            evaluation = self._evaluate(np.concatenate(logits), some.labels[order])
            trials.append(SizeTrial(prepare, evaluation.accuracy, evaluation.count))
            self.say(f"pictures of {name}: validation {evaluation.accuracy:.1%} by a linear head")
        return trials

    def _seconds_each(self, backbone: Classifier) -> float:
        """How long it takes to read a picture and embed it, measured on a few."""
        few = self.pictures.select(np.arange(min(MEASURED_PICTURES, len(self.pictures))))
        embedder = Embedder(backbone, keep=False)
        embedder(few)
        started = time.monotonic()
        embedder(few)
        return (time.monotonic() - started) / len(few)

    def _some(self) -> Indices:
        """Up to 1,000 pictures, in order; where validation stands apart, as many of it as of the others."""
        order = torch.randperm(len(self.pictures), generator=generator(self.seed, "sizes")).numpy()
        if len(self.cuts) > 1:
            return np.sort(order[:ASKED])
        return np.sort(np.concatenate([order[np.isin(order, part)][: ASKED // 2] for part in self.cuts[0]]))

    def _embed(self) -> tuple[Examples, float]:
        """Embeddings of all pictures and their views, picture by picture, and the seconds it took."""
        started = time.monotonic()
        embedder = Embedder(self.backbone)
        shown: list[View | None] = [None, *(View(self.augment, self.seed * 1000 + n + 1) for n in range(self.views))]
        tick = self.begin("embedding pictures", len(self.pictures) * len(shown))
        ready = self.pictures
        values = np.stack([embedder(ready, view, tick) for view in shown], axis=1)  # [N, 1 + views, D]
        seconds = time.monotonic() - started
        self.say(f"embedded {len(ready):,} pictures, each in {len(shown)} views: {in_words(seconds)}")
        count = len(shown)
        groups = ready.groups or tuple(str(i) for i in range(len(ready)))
        return Examples(
            values.reshape(-1, values.shape[2]),
            np.repeat(ready.labels, count, axis=0),
            ready.classes,
            tuple(np.repeat(np.array(groups), count).tolist()),
            self.single_output,
        ), seconds

    def _left(self) -> float:
        """Seconds until nothing more is begun."""
        return math.inf if self.seconds is None else self.seconds - (time.monotonic() - self._started)

    def _judge_head(self, kind: Kind, examples: Examples, *, first: bool) -> Candidate | None:
        name = f"{kind} on embeddings"
        if not first and self._left() <= 0:
            self._leave_out(f"{name}: no time was left")
            return None
        tick = self.begin(name, len(self.cuts))
        started, seen, settings = time.monotonic(), [], []
        for kept, held_out in self.cuts:
            head, setting = choose_head(kind, self._learn(examples, kept), self.seed)
            seen.append((self._seen(head, examples, kept), self._seen(head, examples, held_out)))
            settings.append(setting)
            tick()
        seconds = (time.monotonic() - started) / len(self.cuts) + self._embedding_seconds
        trained = sum(parameter.numel() for parameter in head.parameters())
        said = ", ".join(f"{setting:g}" for setting in sorted(set(settings)))
        return self._candidate(name, seen, seconds, trained, said)

    def _judge_tuning(self, last: int | None, examples: Examples) -> Candidate | None:
        name = _name(last)
        seen, seconds, trained, epochs = [], list[float](), 0, 0
        if self._left() <= 0:
            self._leave_out(f"{name}: no time was left")
            return None
        for number, (kept, held_out) in enumerate(self.cuts, start=1):
            start = self._start(examples, kept)
            recipe = tuning_recipe(
                name, start, Classifier.load(start, device="cpu"), last, len(kept), single_output=self.single_output,
                augment=self.augment,
            )  # fmt: skip
            path = self.folder / f"{self._key(recipe, kept, held_out, start)}.safetensors"
            if not path.exists():
                about = f"{name}, fold {number} of {len(self.cuts)}" if len(self.cuts) > 1 else name
                again = len(self.cuts) > 1  # from all pictures, if it is kept
                made = self._train(about, recipe, kept, held_out, len(self.cuts) - number + 1 + again)
                if made is None:
                    return None
                fit, spent = made
                about_it = {"format_version": FORMAT_VERSION, "seconds": spent, "trained": _count_trained(fit)}
                write_safetensors(path, self._look_at(fit.classifier(), kept, held_out), KIND, about_it)
            tensors, header = read_safetensors(path, KIND, FORMAT_VERSION)
            rows = {name: value.numpy() for name, value in tensors.items()}
            seen.append(
                (
                    Seen(rows["learned.embeddings"], rows["learned.logits"], self.pictures.labels[kept]),
                    Seen(rows["judged.embeddings"], rows["judged.logits"], self.pictures.labels[held_out]),
                )
            )
            seconds.append(header["seconds"])
            trained, epochs = header["trained"], recipe.training.epochs
        whole = float(np.mean(seconds)) + self._embedding_seconds
        return self._candidate(name, seen, whole, trained, f"{epochs} epochs")

    def _train(
        self, about: str, recipe: Recipe, kept: Indices, held_out: Indices, trainings: int | None
    ) -> tuple[Fit, float] | None:
        """Trains: the Fit and its seconds; None where so many trainings would take longer than there is time."""
        splits = Splits(self.pictures.select(kept), None, self.pictures.select(held_out), self.splits.source)
        fit = Fit(recipe, splits, seed=self.seed, plan=recipe.plan(self.backbone.plan.device))
        steps = fit.loader.steps * recipe.training.epochs
        tick = self.begin(about, steps)
        spent: list[float] = []
        left = self._left()
        try:
            for report in fit.steps():
                if isinstance(report, Report):
                    continue
                spent.append(report.seconds)
                tick()
                if trainings is None or fit.step != MEASURED_STEPS:
                    continue
                if (needed := float(np.median(spent)) * steps * trainings) > left:
                    self._leave_out(
                        f"{recipe.name}: would take about {in_words(needed)}, {in_words(max(left, 0))} were left"
                    )
                    return None
        except TrainingDivergedError as error:
            if trainings is None:
                raise
            self._leave_out(f"{recipe.name}: {error.problem}")
            return None
        return fit, sum(spent)

    def _leave_out(self, said: str) -> None:
        self.left_out.append(said)
        self.say(f"left out: {said}")

    def _start(self, examples: Examples, kept: Indices) -> Path:
        """A classifier's file with the linear head that fits these pictures' embeddings: where tuning begins."""
        if kept.tobytes() not in self._starts:
            head, _ = choose_head("linear", self._learn(examples, kept), self.seed)
            path = self.folder / f"start-{_digest(kept.tobytes(), str(self.seed).encode())}.safetensors"
            join_head(self.backbone, head, self.splits.classes, dict(self.facts)).save(path)
            self._starts[kept.tobytes()] = path
        return self._starts[kept.tobytes()]

    def _look_at(self, classifier: Classifier, kept: Indices, held_out: Indices) -> dict[str, Tensor]:
        """What a trained network makes of the pictures that it has learned from, and of the others."""
        embedder, found = Embedder(classifier, keep=False), {}
        for name, chosen in (("learned", kept), ("judged", held_out)):
            pictures = self.pictures.select(chosen)
            seen = seen_by(classifier, embedder(pictures), pictures.labels)
            found[f"{name}.embeddings"] = torch.from_numpy(seen.embeddings)
            found[f"{name}.logits"] = torch.from_numpy(seen.logits)
        return found

    def _seen(self, head: nn.Module, examples: Examples, chosen: Indices) -> Seen:
        values = examples.values[chosen * (self.views + 1)]
        logits = two_logits(torch.from_numpy(answer(head, values))).numpy()
        return Seen(values, logits, self.pictures.labels[chosen])

    def _make(self, name: str, examples: Examples, kept: Indices) -> tuple[Classifier, Receipt]:
        """The kept classifier, from these pictures."""
        before = {key: value.clone() for key, value in self.backbone.model.state_dict().items()}
        tuned = {_name(last): last for last in self.depths}
        if name in tuned:
            start = self._start(examples, kept)
            recipe = tuning_recipe(
                name, start, Classifier.load(start, device="cpu"), tuned[name], len(kept),
                single_output=self.single_output, augment=self.augment,
            )  # fmt: skip
            first = {
                key: value.clone() for key, value in Classifier.load(start, device="cpu").model.state_dict().items()
            }
            made = self._train(f"{name}, from all pictures", recipe, kept, kept[:1], None)
            assert made is not None
            classifier = made[0].classifier()
            return classifier, made[0].receipt() or make_receipt(first, classifier.model, frozenset(), (), ())
        kind = name.removesuffix(" on embeddings")
        rows = self._learn(examples, kept)
        head, setting = choose_head(kind, rows, self.seed)  # type: ignore[arg-type]
        classifier = join_head(self.backbone, head, self.splits.classes, dict(self.facts))
        if rows.values.nbytes <= MEMORY:
            contents = torch.from_numpy(np.repeat(self._contents[kept], self.views + 1, axis=0))
            remember(classifier, kind, setting, rows, contents)
        body = frozenset(key for key in classifier.model.state_dict() if not key.startswith(classifier.model.head_name))
        receipt = make_receipt(
            before | {key: value for key, value in classifier.model.state_dict().items() if key not in body},
            classifier.model, body, ("*", "!head"), (),
        )  # fmt: skip
        return classifier, receipt

    def _learn(self, examples: Examples, kept: Indices) -> Examples:
        """All views of pictures."""
        return examples.select((kept[:, None] * (self.views + 1) + np.arange(self.views + 1)).ravel())

    def _candidate(
        self, name: str, seen: Sequence[tuple[Seen, Seen]], seconds: float, trained: int, setting: str
    ) -> Candidate:
        order = np.argsort(np.concatenate([held_out for _, held_out in self.cuts]))
        logits, labels = (
            np.concatenate([getattr(judged, what) for _, judged in seen])[order] for what in ("logits", "labels")
        )
        evaluation = self._evaluate(logits, labels)
        self.say(f"{name}: validation {evaluation.accuracy:.1%}, loss {evaluation.loss:.3f}, {in_words(seconds)}")
        return Candidate(name, evaluation, seconds, trained, setting, tuple(seen))

    def _evaluate(self, logits: NDArray[np.float32], labels: Labels) -> AnyEvaluation:
        kind: Any = MultiLabelEvaluation if self._multi_label else Evaluation
        made: AnyEvaluation = kind(logits, labels, self.splits.classes)
        return made

    def _key(self, recipe: Recipe, kept: Indices, held_out: Indices, start: Path) -> str:
        """Another one for whatever could make it another training."""
        plan = recipe.plan(self.backbone.plan.device).as_dict()
        text = recipe.to_toml().replace(json.dumps(str(start)), "")
        return _digest(
            __version__.encode(), text.encode(), json.dumps([self.seed, plan]).encode(), start.read_bytes(),
            self._contents[kept].tobytes(), self.pictures.labels[kept].tobytes(), self._contents[held_out].tobytes(),
        )  # fmt: skip


def _arrange(splits: Splits, seed: int) -> tuple[Pictures, Digests, list[tuple[Indices, Indices]]]:
    """The pictures of train and validation, their contents, and the cuts (learned from, judged).

    The same picture twice stays on one side of a cut.
    """
    train, val = splits.train, splits.val
    pictures = train if val is None else join(train, val)
    contents, _ = picture_digests(pictures)
    if val is not None and len(val) >= ENOUGH:
        order = np.arange(len(pictures))
        return pictures, contents, [(order[: len(train)], order[len(train) :])]
    parted, groups = pictures, pictures.groups
    if groups is None and len(np.unique(contents, axis=0)) < len(pictures):
        groups = tuple(content.tobytes().hex() for content in contents)
        parted = blank_pictures(pictures.labels, pictures.classes, groups)
    fewest = count_fewest(pictures.labels, len(pictures.classes), groups)
    if fewest < 2:
        rarest = pictures.classes[int(class_counts(pictures.labels, len(pictures.classes)).argmin())]
        what = "pictures" if pictures.groups is None else "groups of pictures"
        raise DataError(
            f"too few to learn from: there is a class with {fewest} {what}; fewest pictures has '{rarest}'",
            expected="at least 2 of each class: one to learn from, one to judge by",
            remedy="add pictures, or leave the class out",
        )
    return pictures, contents, make_folds(parted, min(FOLDS, fewest), seed)


def _compared(candidates: list[Candidate]) -> list[Candidate]:
    """Each beside the first, where a picture has one label."""
    first = candidates[0].evaluation
    if not isinstance(first, Evaluation):
        return candidates
    right = first.predictions == first.labels
    return [
        candidates[0],
        *(
            replace(one, difference=compare_answers(right, one.evaluation.predictions == one.evaluation.labels))
            for one in candidates[1:]
        ),
    ]  # fmt: skip


def _name(last: int | None) -> str:
    return "all layers tuned" if last is None else f"last {last} layers tuned"


def _count_trained(fit: Fit) -> int:
    return sum(parameter.numel() for parameter in fit.model.parameters() if parameter.requires_grad)


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()[:24]
