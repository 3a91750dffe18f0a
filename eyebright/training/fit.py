"""The only training loop."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyebright.classifier import Classifier, check_weights
from eyebright.data.batches import Batch, Loader, keep_ready
from eyebright.data.images import Pictures
from eyebright.data.labels import is_multi_label
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits
from eyebright.device import Plan, keep_freed_memory
from eyebright.errors import DataError, DeviceError, InputSizeError, RecipeError, RunError, TrainingDivergedError
from eyebright.evaluation.multi_label import AnyEvaluation, evaluate_any
from eyebright.layers.freezing import freeze
from eyebright.layers.fused import in_turn
from eyebright.layers.network import Network
from eyebright.layers.norm import InstanceNorm
from eyebright.random import generator, seeded
from eyebright.tensors import with_prefix
from eyebright.training.average import WeightAverage
from eyebright.training.embedded import embed_parts
from eyebright.training.first import create_first, introduce
from eyebright.training.graphs import Graphs
from eyebright.training.loss import (
    class_weights,
    count_outputs,
    count_right,
    make_loss,
    mixture_loss,
    picture_losses,
    total_weight,
)
from eyebright.training.observe import PICTURES, Observation, Observer
from eyebright.training.optim import (
    check_optimizer_tensors,
    load_optimizer_tensors,
    make_copies,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
)
from eyebright.training.receipt import Receipt, frozen_names, make_receipt
from eyebright.training.recipe import Recipe
from eyebright.training.schedule import Plateau, learning_rate_factor, side_at
from eyebright.training.selection import Selection
from eyebright.training.thawing import Thawing

MOST_COMPILED = 64  # shapes and stages of one network; beyond its own limit, 8, the compiler would silently give up


@dataclass(frozen=True)
class StepReport:
    """One update of the weights.

    Attributes:
        epoch: counted from 1.
        step: updates so far, counted from 1.
        step_in_epoch, steps_per_epoch: where in the epoch this is.
        loss: mean training loss of the batch.
        learning_rate: that was used.
        images: pictures in the batch.
        seconds: that the step took, loading included.
        observation: what was seen inside the network, in every `observe_steps`-th step; None in others.
    """

    epoch: int
    step: int
    step_in_epoch: int
    steps_per_epoch: int
    loss: float
    learning_rate: float
    images: int
    seconds: float
    observation: Observation | None = None


@dataclass(frozen=True)
class Report:
    """One epoch.

    Attributes:
        epoch: counted from 1.
        step: updates so far.
        train_loss, train_accuracy: means over the epoch's training pictures, as they were met: augmented, with dropout,
            with the weights of that moment; of mixed pictures the label with the larger share counts as the right one.
        val_loss, val_accuracy: cross-entropy and share of right answers on validation at the epoch's end; None without
            validation. A picture with several labels is answered right when all of them are.
        learning_rate: at the epoch's last step.
        seconds: of training and validation, what the caller did in between not counted.
        images_per_second: while training.
        best: whether these are the best weights so far, told on validation.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    seconds: float
    images_per_second: float
    best: bool

    def __str__(self) -> str:
        validation = "" if self.val_loss is None else f", validation loss {self.val_loss:.4f} {self.val_accuracy:7.2%}"
        return (
            f"epoch {self.epoch}: train loss {self.train_loss:.4f} {self.train_accuracy:7.2%}{validation}, "
            f"{self.images_per_second:.0f} images/s"
        )


@dataclass(frozen=True)
class State:
    """Everything that a run needs to go on exactly: tensors by name, and plain values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


@dataclass
class _Best:
    epoch: int
    figure: float  # larger is better
    weights: dict[str, Tensor]


class Fit:
    """Trains one recipe on one data set. Iterating it trains, and yields a `Report` after each epoch.

    Everything is checked when it is made. Leaving the loop early leaves usable weights and nothing running; iterating
    again goes on. What the caller does between two reports is not counted as training time.

    Args:
        recipe: what to do.
        splits: train, validation, test; the test part is not looked at.
        seed: of initialisation, order, augmentation and dropout.
        plan: how the arithmetic is carried out; default: chosen for this machine.
        workers: threads that prepare batches; changes the speed only.
        on_read: called after each picture that is decoded into memory, for a progress bar.
        on_logits: called in each step with the pictures' indices, int64 `[N]`, and what the network answered, float32
            `[N, outputs]`, before it learnt from them.

    Raises:
        RecipeError: the recipe does not fit the data.
        DataError: a picture cannot be used.
        InputSizeError: prepared pictures are too small for the network.

    Example:
        >>> import eyebright as eb
        >>> recipe = eb.load_recipe("lenet5-digits", ["training.epochs=2"])
        >>> fit = eb.Fit(recipe, eb.load_data("digits"), seed=0)
        >>> [report.epoch for report in fit]
        [1, 2]
    """

    def __init__(
        self,
        recipe: Recipe,
        splits: Splits,
        *,
        seed: int = 0,
        plan: Plan | None = None,
        workers: int | None = None,
        on_read: Callable[[], object] | None = None,
        on_logits: Callable[[NDArray[np.int64], Tensor], object] | None = None,
    ):
        self.recipe, self.seed, self.on_logits = recipe, seed, on_logits
        self.plan = plan or recipe.plan()
        if self.plan.device == "cpu":
            keep_freed_memory()
        _check_parts(splits)
        outputs = count_outputs(recipe.training, splits.train.labels, splits.classes)
        self.facts = {"multi_label": True} if is_multi_label(splits.train.labels) else {}
        train = keep_ready(splits.train, recipe.prepare, on_read=on_read)
        self.prepare = recipe.prepare.settle(train)
        self.val = splits.val and keep_ready(splits.val, self.prepare, on_read=on_read)
        self.classes = splits.classes

        self.model = create_first(recipe, self.prepare, outputs, seed)
        self.size = _check_pictures(self.model, self.prepare, train, recipe.training.sides)
        introduce(self.model, recipe, self.prepare, train)
        self.first: dict[str, Tensor] = {}  # the weights before training, where some of them are frozen
        if recipe.training.freeze:
            freeze(self.model, recipe.training.freeze, recipe.training.moving_statistics)
        if recipe.training.freeze or recipe.training.start_decay:
            self.first = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.plan.place_model(self.model)
        self.pulled = self._find_pulled()
        if recipe.training.head_epochs and not any(p.requires_grad for p in self.model.standing_head.parameters()):
            raise RecipeError(
                f"head_epochs = {recipe.training.head_epochs}, but the head of {self.model.model_name} is not trained",
                expected="a head that learns while the rest waits",
                remedy='free it with "!head" in training.freeze, or leave head_epochs out',
            )
        self.thawing = Thawing(self.model, recipe.training)
        self.average = WeightAverage(self.model, ema) if (ema := recipe.training.ema_decay) is not None else None
        self.optimizer = make_optimizer(self.model, recipe.training)
        self.copies = make_copies(self.model, recipe.training, self.plan)
        self.graphs = Graphs(self.model.parameters()) if self.plan.graphs else None
        self._forward: Callable[[Tensor], Any] = self.model
        if recipe.training.auxiliary_weight:
            self._forward = self.model.forward_training
        if self.plan.compiled:
            torch.compiler.reset()  # it counts what it compiled before: that is compiled again if it is used again
            self._forward = torch.compile(self._forward, dynamic=False)
        self.class_weights = class_weights(recipe.training, train.labels, self.classes).to(self.plan.device)
        self.loss = make_loss(recipe.training, self.class_weights)
        easy = recipe.training.skip_easy
        self.selection = Selection(len(train), *easy, seed) if easy is not None else None
        self.embedded = None
        if recipe.training.embeddings:
            self.embedded = embed_parts(self._as_classifier(self.model), train, self.val, on_read)
        self.loader = Loader(
            self.embedded.stand_in if self.embedded else train,
            self.embedded.prepare if self.embedded else self.prepare,
            self.plan, recipe.training.batch_size, augment=recipe.augment, shuffle=True,
            seed=seed, workers=workers, per_epoch=self.selection.per_epoch if self.selection else None,
        )  # fmt: skip
        self.observer = None
        if recipe.training.observe_steps and self.embedded is None:
            self.observer = Observer(self.model, self._pictures_to_look_at(train), self.plan)

        self.epoch = 0  # whole epochs done
        self.step_in_epoch = 0
        self.step = 0
        self.plateau = Plateau()
        self.best: _Best | None = None
        self._totals = _Totals()
        self.rate: Callable[[int], float] | None = None  # of a step, in the place of the recipe's; for experiments

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping has ended the run."""
        if self.epoch >= self.recipe.training.epochs:
            return True
        patience = self.recipe.training.early_stop_epochs
        return patience is not None and self.best is not None and self.epoch - self.best.epoch >= patience

    def __iter__(self) -> Iterator[Report]:
        """Trains to the end, yielding a report after each epoch."""
        for report in self.steps():
            if isinstance(report, Report):
                yield report

    def steps(self) -> Iterator[StepReport | Report]:
        """Trains to the end, yielding a report after each step, and one after each epoch.

        Raises:
            TrainingDivergedError: the loss is no longer finite. The weights are those before that step.
        """
        try:
            while not self.finished:
                yield from self._train_epoch()
                yield self._end_epoch()
        finally:
            if self.graphs is not None:
                self.graphs.clear()

    def _train_epoch(self) -> Iterator[StepReport]:
        self.thawing.begin(self.epoch)
        among = self.selection.choose(self.epoch) if self.selection else None
        with closing(self.loader.batches(self.epoch, self.step_in_epoch, among)) as batches:
            started = time.perf_counter()
            for batch in batches:
                with self.copies.at_hand():
                    loss, learning_rate, observation = self._train_step(batch)
                seconds = time.perf_counter() - started
                self._totals.seconds += seconds
                yield StepReport(
                    epoch=self.epoch + 1,
                    step=self.step,
                    step_in_epoch=self.step_in_epoch,
                    steps_per_epoch=self.loader.steps,
                    loss=loss,
                    learning_rate=learning_rate,
                    images=len(batch.indices),
                    seconds=seconds,
                    observation=observation,
                )
                started = time.perf_counter()

    def size_at(self, step: int, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width, in pixels, of what the network sees of pictures of a size in a step, counted from 0."""
        side = side_at(self.recipe.training, step / self.loader.steps)
        return size if side is None else shrink(size, side)

    def classifier(self) -> Classifier:
        """The classifier as it stands: with the best weights if the recipe keeps those and there are any."""
        model = copy.deepcopy(self.average.model if self.average else self.model)
        if self.best is not None and self.recipe.training.keep == "best":
            model.load_state_dict(self.best.weights)
        model.remove_auxiliary_heads()
        model.still = ()
        facts = {"recipe": self.recipe.name, "seed": self.seed, "epochs": self.epoch} | self.facts
        return Classifier(model.requires_grad_(True), self.classes, self.prepare, facts, self.plan)

    def receipt(self) -> Receipt | None:
        """What training left as it was and how far it moved the rest, so far; None where nothing is frozen."""
        training = self.recipe.training
        if not training.freeze:
            return None
        frozen = frozen_names(self.model)
        return make_receipt(self.first, self.classifier().model, frozen, training.freeze, training.moving_statistics)

    def state(self) -> State:
        """Everything that is needed to go on exactly from here."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.model.state_dict().items()}
        if self.selection is not None:
            tensors |= {f"selection.{name}": value for name, value in self.selection.tensors().items()}
        if self.best is not None:
            tensors |= {f"best.{name}": value for name, value in self.best.weights.items()}
        values = {
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "step": self.step,
            "seed": self.seed,
            "plateau": vars(self.plateau).copy(),
            "totals": vars(self._totals).copy(),
            "average_updates": self.average.updates if self.average else 0,
            "best": self.best and {"epoch": self.best.epoch, "figure": self.best.figure},
        }
        return State({name: value.detach().cpu().clone() for name, value in tensors.items()}, values)

    def load_state(self, state: State) -> None:
        """Goes back to a state of a Fit of the same recipe, data and seed.

        Raises:
            RunError: the state is of another network or seed.
        """
        values = state.values
        try:
            if values["seed"] != self.seed:
                raise ValueError(f"it has the seed {values['seed']}, this run {self.seed}")
            epoch, step, step_in_epoch = (int(values[name]) for name in ("epoch", "step", "step_in_epoch"))
            if step != epoch * self.loader.steps + step_in_epoch or min(epoch, step, step_in_epoch) < 0:
                raise ValueError(f"its step {step} is not step {step_in_epoch} of epoch {epoch + 1}")
            best = values["best"] and _Best(**values["best"], weights=with_prefix(state.tensors, "best."))
            plateau, totals = Plateau(**values["plateau"]), _Totals(**values["totals"])
            average_updates = int(values["average_updates"])
            self._check_tensors(state.tensors, best is not None)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"this state does not belong to recipe '{self.recipe.name}': {error}",
                expected="a state of the same recipe, classes and seed",
                remedy="resume with the recipe in the run's own folder",
            ) from error
        self.model.load_state_dict(with_prefix(state.tensors, "model."))
        load_optimizer_tensors(self.optimizer, with_prefix(state.tensors, "optimizer."))
        if self.average is not None:
            self.average.model.load_state_dict(with_prefix(state.tensors, "average."))
            self.average.updates = average_updates
        if self.selection is not None:
            for name, value in self.selection.tensors().items():
                value.copy_(state.tensors[f"selection.{name}"])
        self.best, self.plateau, self._totals = best, plateau, totals
        self.epoch, self.step, self.step_in_epoch = epoch, step, step_in_epoch

    def _find_pulled(self) -> list[tuple[Tensor, Tensor]]:
        """The weights that `start_decay` pulls, and where to: all that are trained but the head."""
        if not self.recipe.training.start_decay:
            return []
        heads = {id(parameter) for parameter in self.model.standing_head.parameters()}
        return [
            (parameter, self.first[name].to(parameter.device, copy=True, memory_format=torch.preserve_format))
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad and id(parameter) not in heads
        ]

    def _check_tensors(self, tensors: dict[str, Tensor], has_best: bool) -> None:
        """Raises ValueError where tensors are not all that a state of this Fit has."""
        weights = self.model.state_dict()
        expected = {f"model.{name}": value for name, value in weights.items()}
        if self.average is not None:
            expected |= {f"average.{name}": value for name, value in weights.items()}
        if self.selection is not None:
            expected |= {f"selection.{name}": value for name, value in self.selection.tensors().items()}
        if has_best:
            expected |= {f"best.{name}": value for name, value in weights.items()}
        optimizer = {name for name in tensors if name.startswith("optimizer.")}
        check_weights({name: value for name, value in tensors.items() if name not in optimizer}, expected)
        check_optimizer_tensors(self.optimizer, with_prefix(tensors, "optimizer."))

    def _pictures_to_look_at(self, train: Pictures) -> Tensor:
        """A few training pictures, the same ones for a seed, prepared as for validation."""
        order = torch.randperm(len(train), generator=generator(self.seed, "observe")).numpy()
        few = train.select(np.sort(order[:PICTURES]))
        return next(Loader(few, self.prepare, self.plan, len(few)).batches()).inputs

    def _train_step(self, batch: Batch) -> tuple[float, float, Observation | None]:
        """One update; returns the batch's mean loss, the learning rate, and what was seen inside the network."""
        training = self.recipe.training
        self.model.train()
        weight = total_weight(self.class_weights, batch.labels)  # the partners' labels are the same in another order
        pictures = self._shrink(batch.inputs) if self.embedded is None else self.embedded.train[batch.indices]
        learn = partial(self._learn, share=batch.share)
        tensors = (pictures, batch.labels, batch.partner_labels, weight)
        with seeded(self.seed, "dropout", self.step), self.plan.exactly(), _compiling(self.plan):
            if self.graphs is not None and batch.share == 1:  # a share is a number, which a graph could not take anew
                figures, logits = self.graphs.do(learn, *tensors, state=self.thawing.waiting(self.epoch))
            else:
                figures, logits = learn(*tensors)
        mean_loss, right = figures.tolist()  # waits for the GPU
        if not np.isfinite(mean_loss):
            self.optimizer.zero_grad(set_to_none=True)
            raise self._diverged(f"the loss is {mean_loss}", batch.indices)
        if self.selection is not None:
            self.selection.take(batch.indices, picture_losses(logits, batch.labels))
        if self.on_logits is not None:
            self.on_logits(batch.indices, logits.clone())
        for weight, start in self.pulled:
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - start, alpha=training.start_decay)
        if training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm)
        learning_rate = self._learning_rate()
        set_learning_rate(self.optimizer, learning_rate)
        observation = self._make_step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model)
        self.step += 1
        self.step_in_epoch += 1
        self._totals.add(mean_loss, int(right), len(batch.indices), learning_rate)
        return mean_loss, learning_rate, observation

    def _learn(
        self, pictures: Tensor, labels: Tensor, partners: Tensor, weight: Tensor, *, share: float
    ) -> tuple[Tensor, Tensor]:
        """Adds the batch's gradients; (its mean loss and how many are answered right, float32 `[2]`; logits)."""
        total = torch.zeros((), device=weight.device)
        right = torch.zeros((), device=weight.device)
        answered = []
        parts = (pictures, labels, partners)
        for inputs, own, others in zip(*(part.chunk(self.recipe.training.accumulate) for part in parts), strict=True):
            with self.plan.arithmetic():
                logits, auxiliary = self._answer(inputs)
            logits = logits.float()
            answered.append(logits.detach())
            loss = mixture_loss(self.loss, logits, own, others, share)
            total += loss.detach()
            for answers in auxiliary:
                theirs = mixture_loss(self.loss, answers.float(), own, others, share)
                loss = loss + self.recipe.training.auxiliary_weight * theirs
            (loss / weight).backward()  # type: ignore[no-untyped-call]
            right += count_right(logits, own if share >= 0.5 else others)
        return torch.stack((total / weight, right)), torch.cat(answered)

    def _make_step(self) -> Observation | None:
        """The optimiser's step, observed where it is one to look at: the first, every `observe_steps`-th, the last."""
        every, last = self.recipe.training.observe_steps, self.loader.steps * self.recipe.training.epochs - 1
        if self.observer is None or (self.step % every and self.step != last):
            self.copies.step(self.optimizer)
            return None
        with self.observer.watch(self.step + 1, self.epoch + 1) as seen:
            self.copies.step(self.optimizer)
        return seen[0]

    def _shrink(self, inputs: Tensor) -> Tensor:
        """Pictures `[N, C, H, W]` at the size that the recipe's `sides` gives to this step."""
        size = self.size_at(self.step, (inputs.shape[2], inputs.shape[3]))
        if size == inputs.shape[2:]:
            return inputs
        smaller = nn.functional.interpolate(inputs, size=size, mode="bilinear", antialias=True)
        return self.plan.place_inputs(smaller)

    def _answer(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits, and those of the auxiliary heads, if there are any."""
        if self.embedded is not None:
            return in_turn([self.model.standing_head], inputs), ()
        outputs = self._forward(inputs)
        if not self.recipe.training.auxiliary_weight:
            return outputs, ()
        logits, auxiliary = outputs
        return logits, auxiliary

    def _learning_rate(self) -> float:
        if self.rate is not None:
            return self.rate(self.step)
        middle = self.epoch + (self.step_in_epoch + 0.5) / self.loader.steps
        factor = learning_rate_factor(self.recipe.training, middle) * self.plateau.factor
        return self.recipe.training.learning_rate * factor

    def _end_epoch(self) -> Report:
        started = time.perf_counter()
        training = self.recipe.training
        candidate = self.average.model if self.average else self.model
        if not all(bool(value.isfinite().all()) for value in candidate.state_dict().values()):
            raise self._diverged("weights are no longer finite numbers", np.arange(0))
        val_loss, val_accuracy, is_best = None, None, False
        self.epoch += 1
        self.step_in_epoch = 0
        if self.selection is not None:
            self.selection.end_epoch()
        if self.val is not None:
            evaluation = self._validate(candidate, self.val)
            val_loss, val_accuracy = evaluation.loss, evaluation.accuracy
            figure = val_accuracy if training.monitor == "val_accuracy" else -val_loss
            if training.schedule == "plateau":
                self.plateau.update(figure, training)
            is_best = self.best is None or figure > self.best.figure
            if is_best:
                weights = {name: value.detach().clone() for name, value in candidate.state_dict().items()}
                self.best = _Best(self.epoch, figure, weights)
        totals, self._totals = self._totals, _Totals()
        return Report(
            epoch=self.epoch,
            step=self.step,
            train_loss=totals.loss / totals.images,
            train_accuracy=totals.right / totals.images,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=totals.learning_rate,
            seconds=totals.seconds + time.perf_counter() - started,
            images_per_second=totals.images / totals.seconds,
            best=is_best,
        )

    def _validate(self, candidate: Network, val: Pictures) -> AnyEvaluation:
        if self.embedded is not None:
            return self.embedded.validate(candidate, val, self.facts, self.plan)
        return evaluate_any(self._as_classifier(candidate), val)

    def _as_classifier(self, model: Network) -> Classifier:
        return Classifier(model, self.classes, self.prepare, dict(self.facts), self.plan)

    def _diverged(self, what: str, indices: np.ndarray[Any, Any]) -> TrainingDivergedError:
        names = [self.loader.pictures.name(index) for index in indices[:3].tolist()]
        pictures = f", in a batch with {', '.join(names)} …" if names else ""
        return TrainingDivergedError(
            f"{what} at step {self.step + 1} of epoch {self.epoch + 1}{pictures}",
            expected="a finite number",
            remedy="lower training.learning_rate (try a tenth), add training.warmup_epochs or training.clip_norm; "
            "checkpoints from before are kept",
        )


@dataclass
class _Totals:
    """Sums over the epoch so far."""

    loss: float = 0.0
    right: int = 0
    images: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0  # of the last step

    def add(self, mean_loss: float, right: int, images: int, learning_rate: float) -> None:
        self.loss += mean_loss * images
        self.right += right
        self.images += images
        self.learning_rate = learning_rate


@contextmanager
def _compiling(plan: Plan) -> Iterator[None]:
    """Within the block, what torch's compiler cannot do is a DeviceError."""
    if not plan.compiled:
        yield
        return
    compiler = torch._dynamo
    try:
        with compiler.config.patch(recompile_limit=MOST_COMPILED, fail_on_recompile_limit_hit=True):
            yield
    except (compiler.exc.TorchDynamoException, compiler.exc.FailOnRecompileLimitHit) as error:
        raise DeviceError(
            f"torch's compiler failed with a training step: {shorten(str(error), 300, placeholder=' …')}",
            expected="a network that it can translate, and a compiler that works",
            remedy='begin anew with training.execution = "plain"',
        ) from error


def _check_parts(splits: Splits) -> None:
    for name, part in splits.parts().items():
        if len(part) == 0:
            raise DataError(f"the {name} part has no pictures", expected="at least one", remedy="check the source")


def shrink(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width, in pixels, once the shorter side is no longer than `side`."""
    height, width = (round(length * min(1.0, side / min(size))) for length in size)
    return height, width


def _check_pictures(
    model: Network, prepare: Prepare, train: Pictures, sides: tuple[tuple[float, int], ...]
) -> tuple[int, int]:
    """Meets the network's demands with the first picture's size, before anything slow; gives that size."""
    height, width = prepare.output_size or prepare.pixels(train.read(0)).shape[:2]
    size = height, width
    _check_size(model, size)
    for _, side in sides:
        try:
            _check_size(model, shrink(size, side))
        except InputSizeError as error:
            raise RecipeError(
                f"training.sides shrinks pictures of {size[0]}×{size[1]} to {side}: {error.problem}",
                expected=f"sides for which {model.model_name} is made: {error.expected}",
                remedy="make the sides larger, or leave training.sides out",
            ) from error
    return size


def _check_size(model: Network, size: tuple[int, int]) -> None:
    """Raises InputSizeError where the network does not train on pictures of this size."""
    model.check_input_size(*size)
    if any(isinstance(layer, InstanceNorm) for layer in model.modules()):  # it sees in the maps what size does
        with torch.no_grad():
            model.eval().forward_training(torch.zeros(2, model.in_channels, *size))
