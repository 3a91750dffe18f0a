"""Is the doctor right? Runs with faults that were planted, and healthy ones; a table cause → found.

Each run is trained by a `Fit` on pictures in memory, watched and examined as `eyebright train` and `eyebright doctor`
do. A cause counts as found where one of the findings named for it below is there, as a warning or an error; a healthy
run should have neither. Runs that are in the folder `--kept` are not repeated, so this can be stopped and called again;
those files are the tests' data.

    python bench/doctor.py --data FOLDER --kept tests/doctor/runs/first --record records

FOLDER holds `cifar10-jpeg`, `tiny-imagenet-50` and `mnist`.
"""

from __future__ import annotations

import argparse
import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_record
from kept_histories import load_history, save_history
from rich.console import Console
from rich.table import Table
from torch import nn

from eyebright.data.batches import keep_ready
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.data.sources import load_parts
from eyebright.data.split import Splits, make_contract
from eyebright.doctor.answers import ask
from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.examine import Watch, examine
from eyebright.doctor.history import History, begin_history
from eyebright.errors import TrainingDivergedError
from eyebright.training.fit import Fit
from eyebright.training.recipe import load_recipe

Change = Callable[[Splits], Splits]
CROPS = ("prepare.crop=32", "augment.random_crop=true", "augment.padding=4", "augment.horizontal_flip=0.5")
SHORT = ("training.epochs=12", "training.milestones=[7, 10]")


@dataclass(frozen=True)
class Base:
    """A set, a network and a way to train it that does well.

    Attributes:
        source: whose pictures.
        train, val: how many of each part.
        recipe: by name.
        changes: of the recipe.
    """

    source: str
    train: int
    val: int
    recipe: str
    changes: tuple[str, ...]


BASES = {
    "mnist, LeNet-5": Base("mnist", 4000, 1500, "lenet5-mnist", ("training.epochs=8",)),
    "mnist, small net": Base("mnist", 4000, 1500, "cnn-mnist", ("training.epochs=8",)),
    "CIFAR-10, small net": Base("cifar10-jpeg", 6000, 2000, "cnn-cifar10", ("training.epochs=12", *CROPS)),
    "CIFAR-10, ResNet-20": Base("cifar10-jpeg", 6000, 2000, "resnet20-cifar10", SHORT),
    "Tiny ImageNet, small net": Base(
        "tiny-imagenet-50", 4500, 500, "cnn-cifar10", ("training.epochs=12", "prepare.resize=[32, 32]", *CROPS)
    ),
    # the second set's: no rule has been written with these
    "mnist, plain 20": Base(
        "mnist", 5000, 2000, "plain20-cifar10", (*SHORT, "prepare.channels=1", "augment.horizontal_flip=0")
    ),
    "mnist, LeNet-5 of 1998": Base("mnist", 4000, 1500, "lenet5-1998-mnist", ("training.epochs=6",)),
    "CIFAR-10, AlexNet": Base("cifar10-jpeg", 5000, 1500, "alexnet-cifar10-64", (
        "training.epochs=12", 'training.optimizer="adam"', "training.learning_rate=3e-4",
    )),
    "Tiny ImageNet 20, ResNet-20": Base(
        "tiny-imagenet-50 10 30", 8000, 1000, "resnet20-cifar10", (*SHORT, "prepare.resize=[32, 32]")
    ),
    "Tiny ImageNet 20, ResNet-20 pre-activated": Base(
        "tiny-imagenet-50 30 50", 8000, 1000, "resnet20-cifar10",
        (*SHORT, "prepare.resize=[32, 32]", "model.preactivation=true"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
        cause: what is wrong with it; empty: nothing.
        found: findings that name it.
        base: what is changed.
        changes: of the recipe.
        spoil: what is done to the pictures.
        wound: what is done to the Fit before it begins.
        sizes: pictures for training and validation, where not the base's.
    """

    cause: str
    found: frozenset[str]
    base: str
    changes: tuple[str, ...] = ()
    spoil: Change | None = None
    wound: Callable[[Fit], None] | None = None
    sizes: tuple[int, int] | None = None


# what is done to pictures


def relabel(share: float, uniformly: bool = False) -> Change:
    """Gives such a share of the pictures of all parts another label: any of the others, or one in all."""

    def change(part: Images, seed: int) -> Images:
        random = np.random.default_rng(seed)
        labels, classes = part.labels.copy(), len(part.classes)
        if uniformly:
            return Images(part.pixels, random.permutation(labels), part.classes)
        places = random.random(len(labels)) < share
        labels[places] = (labels[places] + random.integers(1, classes, int(places.sum()))) % classes
        return Images(part.pixels, labels, part.classes)

    return lambda splits: Splits(*(change(part, seed) for seed, part in enumerate(_three(splits))))


def leak(brighter: int) -> Change:
    """Puts 70 % of validation into training, made so much brighter."""

    def change(splits: Splits) -> Splits:
        train, val, test = _three(splits)
        random = np.random.default_rng(0)
        some = val.select(np.sort(random.permutation(len(val))[: int(0.7 * len(val))]))
        pixels = np.clip(some.pixels.astype(int) + brighter, 0, 255).astype(np.uint8)
        whole = Images(
            np.concatenate([train.pixels, pixels]), np.concatenate([train.labels, some.labels]), train.classes
        )
        return Splits(whole, val, test)

    return change


def make_rare(label: int, count: int) -> Change:
    """Leaves so many training pictures of one class."""

    def change(splits: Splits) -> Splits:
        train, val, test = _three(splits)
        kept = np.ones(len(train), dtype=bool)
        kept[np.flatnonzero(train.labels == label)[count:]] = False
        return Splits(train.select(np.flatnonzero(kept)), val, test)

    return change


def keep_channel(splits: Splits) -> Splits:
    """Leaves red, and black for the other colours."""

    def change(part: Images) -> Images:
        pixels = part.pixels.copy()
        pixels[..., 1:] = 0
        return Images(pixels, part.labels, part.classes)

    return Splits(*map(change, _three(splits)))


def keep_classes(*labels: int) -> Change:
    """Leaves these classes."""

    def change(part: Images) -> Images:
        chosen = part.select(np.flatnonzero(np.isin(part.labels, labels)))
        new = np.searchsorted(labels, chosen.labels)
        return Images(chosen.pixels, new, tuple(part.classes[label] for label in labels))

    return lambda splits: Splits(*map(change, _three(splits)))


def mirror_as_class(splits: Splits) -> Splits:
    """Makes classes of the digit 7 and of its mirror image."""

    def change(part: Images) -> Images:
        sevens = part.select(np.flatnonzero(part.labels == 7))
        half = np.arange(len(sevens)) % 2
        pixels = np.where(half[:, None, None, None] == 1, sevens.pixels[:, :, ::-1], sevens.pixels)
        return Images(np.ascontiguousarray(pixels), half, ("seven", "mirrored"))

    return Splits(*map(change, _three(splits)))


# what is done to a Fit


def do_not_shuffle(fit: Fit) -> None:
    """Shows the training pictures sorted by class, the same in every epoch."""
    order = np.argsort(fit.loader.pictures.labels, kind="stable")
    fit.loader._order = lambda epoch: order  # type: ignore[method-assign]


def kill_units(share: float, layers: int) -> Callable[[Fit], None]:
    """Gives such a share of the units of the first layers a bias from which a ReLU never wakes."""

    def wound(fit: Fit) -> None:
        modules = list(fit.model.modules())
        norms = [layer for layer in modules if isinstance(layer, nn.BatchNorm2d)]
        with torch.no_grad():
            for layer in (norms or [layer for layer in modules if isinstance(layer, nn.Conv2d)])[:layers]:
                assert layer.bias is not None
                layer.bias[: int(share * len(layer.bias))] = -50

    return wound


def freeze(layers: int) -> Callable[[Fit], None]:
    """Freezes the first convolutions and dense layers, and what normalises after them."""

    def wound(fit: Fit) -> None:
        kinds = (nn.Conv2d, nn.Linear)
        for layer in [layer for layer in fit.model.modules() if isinstance(layer, kinds)][:layers]:
            layer.requires_grad_(False)

    return wound


def enlarge(factor: float) -> Callable[[Fit], None]:
    """Multiplies all first weights."""

    def wound(fit: Fit) -> None:
        with torch.no_grad():
            for layer in fit.model.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight.mul_(factor)

    return wound


def _three(splits: Splits) -> tuple[Images, Images, Images]:
    assert isinstance(splits.train, Images)
    assert isinstance(splits.val, Images)
    assert isinstance(splits.test, Images)
    return splits.train, splits.val, splits.test


def _several(cause: str, found: set[str], bases: dict[str, tuple[str, ...]], **more: Any) -> list[Case]:
    return [Case(cause, frozenset(found), base, changes, **more) for base, changes in bases.items()]


LENET, SMALL, CNN, RESNET, TINY, PLAIN, OLD, ALEX, TWENTY, OTHERS = BASES
PLAIN_AUGMENT = ("augment.random_crop=false", "augment.padding=0", "augment.horizontal_flip=0")

FIRST = [
    *_several("rate × 100", {"learning_rate_too_high", "diverged"}, {
        LENET: ("training.learning_rate=0.2",), SMALL: ("training.learning_rate=0.2",),
        CNN: ("training.learning_rate=10",), RESNET: ("training.learning_rate=10",),
    }),
    *_several("rate ÷ 1000", {"learning_rate_too_low"}, {
        LENET: ("training.learning_rate=2e-6",), SMALL: ("training.learning_rate=2e-6",),
        RESNET: ("training.learning_rate=1e-4",), TINY: ("training.learning_rate=1e-4",),
    }),
    *_several("sorted, not shuffled", {"order_repeats"}, {LENET: (), RESNET: (), TINY: ()}, wound=do_not_shuffle),
    *_several("labels shuffled", {"labels_unrelated"}, {LENET: (), CNN: (), TINY: ()}, spoil=relabel(1, True)),
    *_several("40 % of the labels wrong", {"label_noise"}, {
        LENET: (), SMALL: (), CNN: (), RESNET: (),
    }, spoil=relabel(0.4)),
    *_several("few pictures, no augmentation", {"overfitting"}, {
        CNN: ("training.epochs=25", *PLAIN_AUGMENT), TINY: ("training.epochs=25", *PLAIN_AUGMENT),
        RESNET: ("training.epochs=30", "training.milestones=[20, 26]", *PLAIN_AUGMENT),
    }, sizes=(1500, 500)),
    *_several("batches of 2 with batch norm", {"few_for_batch_norm"}, {
        SMALL: ("training.batch_size=2", "training.epochs=2"), CNN: ("training.batch_size=2", "training.epochs=1"),
        RESNET: ("training.batch_size=64", "training.accumulate=32", "training.epochs=3", "training.milestones=[2]"),
    }, sizes=(1500, 1000)),
    Case("dead units", frozenset({"dead_units"}), SMALL, wound=kill_units(0.6, 1)),
    Case("dead units", frozenset({"dead_units"}), RESNET, wound=kill_units(0.6, 3)),
    Case("dead units", frozenset({"dead_units"}), LENET, ('model.nonlinearity="relu"',), wound=kill_units(0.6, 2)),
    Case("frozen layers", frozenset({"layers_stand_still"}), LENET, wound=freeze(3)),
    Case("frozen layers", frozenset({"layers_stand_still"}), RESNET, wound=freeze(12)),
    Case("validation in training", frozenset({"leakage"}), SMALL, spoil=leak(0)),
    Case("validation in training", frozenset({"leakage"}), CNN, spoil=leak(5)),
    Case("validation in training", frozenset({"leakage"}), TINY, spoil=leak(5)),
    Case("a rare class", frozenset({"class_ignored", "imbalance"}), CNN, spoil=make_rare(3, 6)),
    Case("a rare class", frozenset({"class_ignored", "imbalance"}), RESNET, spoil=make_rare(5, 6)),
    Case("a rare class", frozenset({"class_ignored", "imbalance"}), TINY, spoil=make_rare(2, 6)),
    *_several("augmentation too strong", {"augmentation_too_strong"}, {
        CNN: ("augment.rotation=180", "augment.erasing=1", "augment.erasing_area=[0.4, 0.8]"),
        SMALL: ("augment.rotation=180", "augment.erasing=1", "augment.erasing_area=[0.3, 0.6]"),
    }),
    Case("6 and 9 turned", frozenset({"augmentation_changes_labels"}), SMALL, ("augment.rotation=180",),
         spoil=keep_classes(6, 9)),
    Case("saturated from the start", frozenset({"saturated_layers"}), LENET, wound=enlarge(30)),
    Case("saturated from the start", frozenset({"saturated_layers"}), CNN,
         ('model.nonlinearity="tanh"', 'model.normalisation="none"', "training.learning_rate=0.01"),
         wound=enlarge(30)),
    Case("deep without normalisation", frozenset({"vanishing_gradients"}), RESNET,
         ('model.name="plain56_cifar"', 'model.normalisation="none"', 'model.nonlinearity="tanh"',
          'model.initialisation="xavier"', "training.epochs=4", "training.milestones=[3]"), wound=enlarge(0.5)),
    *_several("held back too much", {"underfitting"}, {
        CNN: ("training.weight_decay=0.3", "training.learning_rate=0.01"),
        SMALL: ("model.dropout=0.98", "model.channel_dropout=0.9"),
    }),
    *_several("constant, high rate", {"plateau"}, {
        RESNET: ("training.epochs=24", 'training.schedule="constant"', "training.milestones=[]",
                 "training.learning_rate=0.8"),
    }),
    Case("40 pictures of validation", frozenset({"validation_too_small"}), CNN, sizes=(6000, 40)),
    Case("only red", frozenset({"unused_input_channel"}), CNN, spoil=keep_channel),
    *_several("", set(), {LENET: (), SMALL: ()}),
    Case("", frozenset(), LENET, ('training.optimizer="sgd"', "training.learning_rate=0.05")),
    Case("", frozenset(), LENET, ('model.name="lenet5_1998"',)),
    Case("", frozenset(), SMALL, spoil=keep_classes(0, 1, 3, 7)),
    Case("", frozenset(), SMALL, ('model.normalisation="group"', "augment.rotation=10")),
    Case("", frozenset(), CNN, sizes=(20000, 2500)),
    Case("", frozenset(), CNN, ('model.normalisation="group"', "training.learning_rate=0.03"), sizes=(20000, 2500)),
    Case("", frozenset(), RESNET, sizes=(20000, 2500)),
    Case("", frozenset(), RESNET, ("training.label_smoothing=0.1", 'training.schedule="cosine"',
                                    "training.milestones=[]"), sizes=(20000, 2500)),
]  # fmt: skip


SECOND = [
    *_several("rate × 100", {"learning_rate_too_high", "diverged"}, {
        PLAIN: ("training.learning_rate=10",), OLD: ("training.learning_rate=0.2",),
        ALEX: ("training.learning_rate=0.03",), TWENTY: ("training.learning_rate=10",),
    }),
    *_several("rate ÷ 1000", {"learning_rate_too_low"}, {
        PLAIN: ("training.learning_rate=1e-4",), ALEX: ("training.learning_rate=3e-7",),
        OTHERS: ("training.learning_rate=1e-4",),
    }),
    *_several("sorted, not shuffled", {"order_repeats"}, {PLAIN: (), OTHERS: ()}, wound=do_not_shuffle),
    *_several("labels shuffled", {"labels_unrelated"}, {PLAIN: (), OLD: (), TWENTY: ()}, spoil=relabel(1, True)),
    *_several("30 % of the labels wrong", {"label_noise"}, {PLAIN: (), OLD: (), ALEX: ()}, spoil=relabel(0.3)),
    *_several("50 % of the labels wrong", {"label_noise"}, {PLAIN: (), OLD: ()}, spoil=relabel(0.5)),
    *_several("few pictures, no augmentation", {"overfitting"}, {
        TWENTY: ("training.epochs=40", "training.milestones=[25, 35]", *PLAIN_AUGMENT),
        OTHERS: ("training.epochs=40", "training.milestones=[25, 35]", *PLAIN_AUGMENT),
    }, sizes=(2000, 800)),
    *_several("batches of 3 with batch norm", {"few_for_batch_norm"}, {
        PLAIN: ("training.batch_size=3", "training.epochs=1", "training.milestones=[1]"),
        OTHERS: ("training.batch_size=96", "training.accumulate=32", "training.epochs=2", "training.milestones=[1]"),
    }, sizes=(1500, 1000)),
    *_several("dead units", {"dead_units"}, {PLAIN: (), TWENTY: (), OTHERS: ()}, wound=kill_units(0.7, 4)),
    *_several("frozen layers", {"layers_stand_still"}, {PLAIN: (), ALEX: (), OTHERS: ()}, wound=freeze(4)),
    Case("validation in training", frozenset({"leakage"}), PLAIN, spoil=leak(0)),
    Case("validation in training", frozenset({"leakage"}), TWENTY, spoil=leak(6)),
    Case("validation in training", frozenset({"leakage"}), ALEX, spoil=leak(4)),
    Case("a rare class", frozenset({"class_ignored", "imbalance"}), TWENTY, spoil=make_rare(7, 5)),
    Case("a rare class", frozenset({"class_ignored", "imbalance"}), OTHERS, spoil=make_rare(1, 5)),
    Case("7 and its mirror image, flipped", frozenset({"augmentation_changes_labels"}), PLAIN,
         ("augment.horizontal_flip=0.5",), spoil=mirror_as_class),
    *_several("dropout of 0.97", {"dropout_too_strong"}, {ALEX: ("model.dropout=0.97", *PLAIN_AUGMENT)}),
    Case("saturated from the start", frozenset({"saturated_layers"}), OLD, wound=enlarge(30)),
    Case("deep without normalisation", frozenset({"vanishing_gradients"}), PLAIN,
         ('model.name="plain44_cifar"', 'model.normalisation="none"', 'model.nonlinearity="tanh"',
          'model.initialisation="xavier"', "training.epochs=4", "training.milestones=[3]"), wound=enlarge(0.4)),
    Case("60 pictures of validation", frozenset({"validation_too_small"}), TWENTY, sizes=(8000, 60)),
    Case("only red", frozenset({"unused_input_channel"}), ALEX, spoil=keep_channel),
    *_several("", set(), {PLAIN: (), OLD: ()}),
    Case("", frozenset(), PLAIN, ('model.name="resnet32_cifar"',)),
    Case("", frozenset(), PLAIN, ('training.optimizer="adamw"', "training.learning_rate=0.002",
                                  'training.schedule="cosine"', "training.milestones=[]")),
    Case("", frozenset(), OLD, ('model.name="cnn_mnist"', 'training.optimizer="adam"', "training.learning_rate=0.001",
                                'training.loss="cross_entropy"')),
    Case("", frozenset(), PLAIN, ("augment.rotation=15", "training.label_smoothing=0.1"), spoil=keep_classes(1, 4, 9)),
    Case("", frozenset(), RESNET, ('model.name="airbench"',), sizes=(30000, 3000)),
    Case("", frozenset(), RESNET, ('model.name="resnet32_cifar"', "training.learning_rate=0.05"), sizes=(30000, 3000)),
    Case("", frozenset(), RESNET, ('model.nonlinearity="gelu"',), sizes=(30000, 3000)),
    Case("", frozenset(), RESNET, ('model.name="plain20_cifar"', "training.ema_decay=0.99"), sizes=(30000, 3000)),
]  # fmt: skip

SETS = {"first": FIRST, "second": SECOND}


@functools.cache
def pictures(root: Path, source: str) -> tuple[Images, Images]:
    """A set's two parts in memory; of Tiny ImageNet some classes, the first ten or those named, at 32 pixels."""
    source, *ends = source.split()
    begin, end = map(int, ends or (0, 10))
    parts = load_parts("mnist", root=root) if source == "mnist" else load_parts(root / source)
    prepare = Prepare(resize=(32, 32)) if source.startswith("tiny") else Prepare(channels=1 if source == "mnist" else 3)
    train, test = (keep_ready(parts[name], prepare) for name in parts)
    assert isinstance(train, Images)
    assert isinstance(test, Images)
    if not source.startswith("tiny"):
        return train, test
    some = keep_classes(*range(begin, end))(Splits(train, train, test))
    return some.train, some.test  # type: ignore[return-value]


def splits_of(case: Case, root: Path) -> Splits:
    """The case's pictures, before they are spoilt: training and validation from the training part."""
    base = BASES[case.base]
    train, test = pictures(root, base.source)
    count, held = case.sizes or (base.train, base.val)
    order = np.random.default_rng(0).permutation(len(train))
    chosen = [train.select(np.sort(order[begin:end])) for begin, end in ((0, count), (count, count + held))]
    return Splits(chosen[0], chosen[1], test.select(np.arange(min(500, len(test)))))


def run(case: Case, root: Path, seed: int) -> tuple[History, list[str]]:
    """Trains and asks; gives the history, and what was said while it trained."""
    splits = splits_of(case, root)
    if case.spoil is not None:
        splits = case.spoil(splits)
    recipe = load_recipe(BASES[case.base].recipe, (*BASES[case.base].changes, *case.changes))
    fit = Fit(recipe, splits, seed=seed)
    if case.wound is not None:
        case.wound(fit)
    watch, said = Watch(begin_history(recipe, make_contract(splits))), []
    try:
        for report in fit.steps():
            said += [finding.name for finding in watch.take(report)]
    except TrainingDivergedError as error:
        return replace(watch.history, diverged=error.problem), said
    return replace(watch.history, finished=True, answers=ask(fit.classifier(), recipe, splits, seed)), said


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder of cifar10-jpeg, tiny-imagenet-50 and mnist")
    options.add_argument("--set", choices=SETS, default="first")
    options.add_argument("--kept", type=Path, default=Path("runs/doctor"), help="folder of finished runs")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    table = Table("run", "cause", "findings", "seconds", "")
    results: list[dict[str, Any]] = []
    for number, case in enumerate(SETS[given.set]):
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{number:02d} {case.cause or 'healthy'} {case.base}")
        path = given.kept / f"{name}.json.gz"
        if not path.exists():
            started = time.perf_counter()
            history, said = run(case, given.data, seed=number)
            about = {"cause": case.cause, "expected": sorted(case.found), "base": case.base, "said": said}
            about["seconds"] = round(time.perf_counter() - started, 1)
            save_history(path, history, about)
        history, about = load_history(path)
        found = examine(history)
        results.append(about | {"run": name, "found": [(one.name, one.severity) for one in found]})
        table.add_row(name, case.cause or "–", listed(found), f"{about['seconds']:.0f}", verdict(case, found))
        Console(stderr=True).print(f"{name}: {listed(found)} → {verdict(case, found)}", highlight=False)
    Console().print(table)
    faulty = [row for row in results if row["cause"]]
    healthy = [row for row in results if not row["cause"]]
    hits = sum(any(name in row["expected"] for name, _ in row["found"]) for row in faulty)
    alarms = sum(any(severity != "note" for _, severity in row["found"]) for row in healthy)
    Console().print(f"{hits} of {len(faulty)} causes found; {alarms} of {len(healthy)} healthy runs with a finding")
    if given.record:
        write_record(
            given.record,
            f"doctor-{given.set}",
            {"found": hits, "faulty": len(faulty), "alarms": alarms, "runs": results},
        )


def listed(found: list[Diagnosis]) -> str:
    """The findings' names, the worst first; notes in brackets."""
    return ", ".join(one.name if one.severity != "note" else f"({one.name})" for one in found)


def verdict(case: Case, found: list[Diagnosis]) -> str:
    """Whether the cause was found, or a healthy run left in peace."""
    loud = {one.name for one in found if one.severity != "note"}
    if case.cause:
        return "found" if loud & case.found else "MISSED"
    return "FALSE" if loud else "quiet"


if __name__ == "__main__":
    main()
