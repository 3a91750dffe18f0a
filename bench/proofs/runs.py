"""Small runs that differ in all that exact resume has to survive, each in a process of its own; and comparing them."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from eyebright import road
from eyebright.data.batches import keep_ready
from eyebright.data.images import Pictures
from eyebright.errors import EyebrightError
from eyebright.evaluation.evaluate import compute_logits
from eyebright.tensors import read_safetensors
from eyebright.training import fit, run
from eyebright.training.checkpoint import list_checkpoints, load_checkpoint
from eyebright.training.run import Run

WALL_CLOCK = ("seconds", "images_per_second")
NOT_IN_MEMORY = 1  # bytes of pixels that may be taken into memory: then none are
KEPT: dict[str, Callable[..., Pictures]] = {
    "in memory": keep_ready,
    "mapped": partial(keep_ready, limit=NOT_IN_MEMORY),
    "streamed": lambda pictures, prepare, on_read: pictures,
}


@dataclass(frozen=True)
class Variant:
    """A recipe and how it is carried out.

    Attributes:
        recipe: its name.
        changes: to it.
        workers: that prepare batches.
        kept: where decoded pictures are: ``"in memory"``, ``"mapped"`` from the cache, or nowhere: ``"streamed"``.
        every_step: whether each step writes a checkpoint, instead of each epoch only.
        threads: that one operation may use.
    """

    recipe: str
    changes: tuple[str, ...]
    workers: int = 0
    kept: str = "in memory"
    every_step: bool = False
    threads: int = 1


def _digits(*changes: str, **options: Any) -> Variant:
    return Variant("lenet5-digits", ("training.epochs=3", "training.batch_size=64", *changes), **options)


def _photographs(*changes: str, **options: Any) -> Variant:
    size = ("prepare.resize=36", "prepare.crop=32", "training.epochs=3", "training.batch_size=8")
    return Variant("cnn-binary-224", (*size, *changes), **options)


SGD = ('training.optimizer="sgd"', "training.learning_rate=0.02")
EMA = "training.ema_decay=0.9"
BFLOAT16 = 'training.number_format="bfloat16"'

VARIANTS = {
    "Adam, one cycle, each step": _digits(every_step=True),
    "Dropout and batch norm, several milestones, bfloat16, EMA, each step": _digits(
        "model.name=cnn_mnist", "prepare.resize=[28,28]", "prepare.crop=28", 'training.schedule="multi_step"',
        "training.milestones=[1,2]", "training.number_format=bfloat16", EMA, every_step=True,
    ),
    "SGD with Nesterov, cosine after a warm-up, accumulation, 2 workers, each step": _digits(
        *SGD, "training.nesterov=true", 'training.schedule="cosine"', "training.warmup_epochs=0.5",
        "training.accumulate=3", workers=2, every_step=True,
    ),
    "photographs streamed, random crops, 4 workers, each step": _photographs(
        "augment.random_crop=true", "augment.horizontal_flip=0.5", workers=4, kept="streamed", every_step=True
    ),
    "SGD, plateau told by the loss, best kept, each step": _digits(
        *SGD, 'training.schedule="plateau"', "training.patience_epochs=1", 'training.monitor="val_loss"',
        'training.keep="best"', every_step=True,
    ),
    "photographs mapped, ResNet-20, SGD, cosine, EMA, 2 workers, 2 threads": _photographs(
        *SGD, "model.name=resnet20_cifar", 'training.loss="cross_entropy"', 'training.schedule="cosine"', EMA,
        "augment.brightness=0.2", workers=2, kept="mapped", threads=2,
    ),
    "SGD, constant, EMA": _digits(*SGD, 'training.schedule="constant"', EMA),
    "AdamW, linear, clipped, bfloat16, 1 worker, 2 threads": _digits(
        'training.optimizer="adamw"', "training.weight_decay=0.1", 'training.schedule="linear"',
        "training.clip_norm=0.5", BFLOAT16, workers=1, threads=2,
    ),
    "Adam, steps, smoothing, balanced classes, no validation": _digits(
        'training.schedule="step"', "training.step_epochs=1", "training.label_smoothing=0.1",
        'training.class_weights="balanced"', "data.val_fraction=0",
    ),
    "Muon, small pictures at first, easy ones left out, each step": _digits(
        'training.optimizer="muon"', "training.learning_rate=0.2", "model.name=airbench", "model.widths=[8,16,16]",
        "training.sides=[[0.0,16],[0.5,24]]", "training.skip_easy=[0.5,0.6]", every_step=True,
    ),
    "photographs in memory, one sigmoid output": _photographs("prepare.resize=[32,32]"),
}  # fmt: skip


def make_photographs(folder: Path, count: int = 120) -> Path:
    """A folder of two classes of JPEGs of all sizes, dark ones and bright ones; always the same."""
    chance = np.random.default_rng(0)
    for name, level in (("bright", 170), ("dark", 40)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count // 2):
            height, width = chance.integers(36, 90, 2)
            pixels = chance.integers(level, level + 60, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.jpg")
    return folder


def train(variant: Variant, path: Path, photographs: Path) -> None:
    """Begins a run of this variant, or resumes it where there is one, and goes on to its end."""
    torch.set_num_threads(variant.threads)
    quiet = Console(quiet=True)
    run.CHECKPOINT_SECONDS = 0 if variant.every_step else 300
    fit.keep_ready = KEPT[variant.kept]
    if Run(path).exists:
        road.resume(path, workers=variant.workers, console=quiet)
        return
    data = photographs if variant.recipe.startswith("cnn-binary") else None
    road.train(
        variant.recipe, data=data, out=path, changes=variant.changes, device="cpu", workers=variant.workers,
        console=quiet,
    )  # fmt: skip


def start(function: Callable[[], object], log: Path) -> int:
    """Calls a function in a process of its own (a copy of this one) and returns its number.

    It ends with 0, with 1 after an error of the user's, 130 when interrupted, 70 after a bug; `log` tells more.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        function()
        code = 0
    except EyebrightError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt as interrupt:
        print(interrupt, file=sys.stderr)
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    """How a process ended: its exit code, or minus the signal that killed it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def kill_after_step(child: int, path: Path, step: int, chance: random.Random) -> None:
    """Kills a process a few milliseconds after its run has recorded this step."""
    lines = path / "steps.jsonl"
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if count_steps(path) >= step:
            time.sleep(chance.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
            return
        time.sleep(0.0005 if lines.exists() else 0.01)


def count_steps(path: Path) -> int:
    """How many steps a run has recorded."""
    lines = path / "steps.jsonl"
    return lines.read_bytes().count(b"\n") if lines.exists() else 0


def logits(path: Path) -> bytes:
    """A run's answers to its test part, bit for bit."""
    done = Run.open(path)
    classifier = done.classifier("cpu")
    test = done.data.load().test
    return compute_logits(classifier, test).tobytes()


def differences(first: Path, second: Path) -> list[str]:
    """In what two finished runs differ, wall-clock times aside: nothing where they are bit-equal."""
    found = []
    one, other = Run.open(first), Run.open(second)
    if not other.concluded:
        return ["it is not finished"]
    found += [f"{name}: {problem}" for name, problem in other.check().items() if problem]
    kind = "eyebright.classifier"
    (weights, header), (others, other_header) = (read_safetensors(r.classifier_path, kind, 1) for r in (one, other))
    if not _same(weights, others) or header != other_header:
        found.append("classifier")
    last, others_last = (load_checkpoint(list_checkpoints(r.path / "checkpoints")[-1]).state for r in (one, other))
    if not _same(last.tensors, others_last.tensors):
        found.append("state of the network, the optimiser or the average")
    if _timeless(last.values) != _timeless(others_last.values):
        found.append("counters")
    if [_timeless(line) for line in one.metrics()] != [_timeless(line) for line in other.metrics()]:
        found.append("metrics")
    if (first / "steps.jsonl").read_bytes() != (second / "steps.jsonl").read_bytes():
        found.append("steps")
    if _timeless(one.evaluation or {}) != _timeless(other.evaluation or {}):
        found.append("evaluation")
    if logits(first) != logits(second):
        found.append("predictions")
    return found


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].numpy().tobytes() == other[name].numpy().tobytes()
        for name in one
    )


def _timeless(values: dict[str, Any]) -> dict[str, Any]:
    left_out = (*WALL_CLOCK, "test_opened")
    return {
        key: _timeless(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in left_out
    }


def finish(path: Path, variant: Variant, photographs: Path, log: Path) -> str | None:
    """Resumes a run to its end, in a process of its own; what went wrong, or None."""
    code = wait(start(lambda: train(variant, path, photographs), log))
    return None if code == 0 else f"resuming ended with {code}: {log.read_text()[-2000:]}"


def save(path: Path, value: Any) -> None:
    """Writes plain values as JSON."""
    path.write_text(json.dumps(value, indent=1))
