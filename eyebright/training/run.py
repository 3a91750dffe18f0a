"""The run folder: everything that a training run leaves behind, and all that it needs to go on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from eyebright.data.images import Pictures
from eyebright.device import Plan, describe_machine
from eyebright.errors import RunError, StoredFileError
from eyebright.files import (
    append_line,
    cut,
    file_digest,
    make_folder,
    remove,
    remove_unfinished,
    sync,
    write_text,
)
from eyebright.layers.network import Network
from eyebright.training.checkpoint import (
    Checkpoint,
    Lengths,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)
from eyebright.training.first import create_first, introduce, needs_pictures
from eyebright.training.fit import Fit, Report, StepReport
from eyebright.training.folder import Folder, check_beginning, now
from eyebright.training.loss import count_outputs
from eyebright.training.observe import Observation
from eyebright.training.recipe import DataSection, Recipe, load_recipe

CHECKPOINT_SECONDS = 300  # within long epochs, a checkpoint is written this often
METRICS = (
    "epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "learning_rate", "seconds", "images_per_second",
)  # fmt: skip
LINES = ("metrics.jsonl", "steps.jsonl", "layers.jsonl")  # the files that grow


class Run(Folder):
    """A run's folder.

    Beside what is in every `Folder`:

    =============================== ==================================================================
    ``recipe.toml``                 the whole recipe, defaults included; written before anything slow
    ``metrics.jsonl``               a line an epoch
    ``steps.jsonl``                 a line a step
    ``layers.jsonl``                a line for each step in which the layers were looked at
    ``checkpoints/``                the last two and the best
    =============================== ==================================================================

    Args:
        path: the folder.
    """

    KIND = "run"
    MARK = "recipe.toml"
    MADE_BY = "eyebright train"

    def __init__(self, path: Path):
        super().__init__(path)
        self._checkpointed = time.monotonic()

    @classmethod
    def create(cls, path: Path, recipe: Recipe, seed: int, plan: Plan) -> Run:
        """Makes the folder of a new run.

        Raises:
            RunError: there is a run in it already, or another process is making one.
            OutputError: it cannot be made.
        """
        with cls.begin(path, recipe, seed, plan) as run:
            return run

    @classmethod
    @contextmanager
    def begin(cls, path: Path, recipe: Recipe, seed: int, plan: Plan) -> Iterator[Run]:
        """Makes the folder of a new run, as `create` does, and keeps other processes out of it within the block."""
        run = cls(path)
        run._check_free()  # first without the lock, which would leave a file in the other run
        make_folder(path / "checkpoints")
        with run.locked():
            run._check_free()
            text = recipe.to_toml()
            digest = hashlib.sha256(text.encode()).hexdigest()
            run.begin_environment(seed, plan, checksums={"recipe.toml": digest})
            write_text(path / "recipe.toml", text)  # last: from here on it is a run
            yield run

    def discard(self) -> None:
        """Takes back what `create` and the checks before training wrote: the input was at fault, nothing is lost."""
        names = ("recipe.toml", "environment.json", "split.json", "split.safetensors", *LINES, ".lock")
        with suppress(OSError):  # not empty: something in it is not ours
            remove_unfinished(self.path)
            for name in names:
                (self.path / name).unlink(missing_ok=True)
            (self.path / "checkpoints").rmdir()
            self.path.rmdir()

    @property
    def recipe(self) -> Recipe:
        """The recipe, as it was when the run began.

        Raises:
            RunError: the file has been changed since.
        """
        path = self.path / "recipe.toml"
        if file_digest(path) != self.environment["checksums"]["recipe.toml"]:
            raise RunError(
                f"{path} has been changed since the run began",
                expected="the recipe that the run has been trained with so far",
                remedy=f"to train the changed recipe: eyebright train {path} --out another folder; "
                "to go on with this run, put the old recipe back",
            )
        return load_recipe(path)

    @property
    def data(self) -> DataSection:
        """What the recipe says of its pictures."""
        return self.recipe.data

    @property
    def concluded(self) -> bool:
        """Whether the run is finished, evaluated and reported."""
        return self.finished and "report.html" in self.environment["checksums"] and self.report_path.exists()

    def first_model(self, pictures: Callable[[], Pictures]) -> Network:
        """The network as it was before training, bit for bit: the seed gives it again.

        Args:
            pictures: gives the training part; asked only where first weights depend on the pictures.
        """
        recipe, contract = self.recipe, self.contract
        outputs = count_outputs(recipe.training, contract.labels["train"], contract.classes)
        model = create_first(recipe, recipe.prepare, outputs, self.seed)
        if needs_pictures(model, recipe):
            train = pictures()
            introduce(model, recipe, recipe.prepare.settle(train), train)
        model.remove_auxiliary_heads()
        return model.eval()

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``: one for each epoch."""
        return _read_lines(self.path / "metrics.jsonl")

    def require_epochs(self) -> None:
        """Checks that there is something to draw.

        Raises:
            RunError: no epoch is done yet.
        """
        if not self.metrics():
            raise RunError(
                f"{self.path} has no epoch yet",
                expected="a run of at least one whole epoch",
                remedy=f"wait, or eyebright train --resume {self.path}",
            )

    def kept_epoch(self) -> dict[str, Any]:
        """The line of the epoch whose weights are kept: the best on validation, or the last."""
        lines, training = self.metrics(), self.recipe.training
        if training.keep == "last" or lines[-1]["val_accuracy"] is None:
            return lines[-1]
        if training.monitor == "val_loss":
            return min(lines, key=lambda line: line["val_loss"])
        return max(lines, key=lambda line: line["val_accuracy"])

    def steps(self) -> list[dict[str, Any]]:
        """The lines of ``steps.jsonl``: one for each step."""
        return _read_lines(self.path / "steps.jsonl")

    def observations(self) -> list[Observation]:
        """What was seen inside the network: the lines of ``layers.jsonl``."""
        return [Observation.from_dict(line) for line in _read_lines(self.path / "layers.jsonl")]

    def record(self, report: StepReport | Report, fit: Fit) -> None:
        """Takes a report: a line of metrics, and a checkpoint after each epoch and every few minutes."""
        if isinstance(report, Report):
            values = asdict(report)
            append_line(self.path / "metrics.jsonl", json.dumps({key: values[key] for key in METRICS}))
            if report.best or fit.val is None or fit.recipe.training.keep == "last":
                fit.classifier().save(self.classifier_path)
            self.checkpoint(fit)
        else:
            line = {"step": report.step, "epoch": report.epoch, "loss": report.loss}
            append_line(self.path / "steps.jsonl", json.dumps(line | {"learning_rate": report.learning_rate}))
            if report.observation is not None:
                append_line(self.path / "layers.jsonl", json.dumps(report.observation.as_dict()))
            if time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
                self.checkpoint(fit)

    @property
    def first_plan(self) -> Plan:
        """The execution plan that it began with."""
        changes = self.environment.get("changes_of_plan")
        return Plan(**changes[0]["plan_before"]) if changes else self.plan

    def take_plan(self, plan: Plan, step: int) -> None:
        """After a step, training goes by another plan, on this machine; what was before is kept."""
        before = self.environment
        change = {
            "time": now(), "step": step, "differences": plan.tell_differences(self.plan),
            "plan_before": before["plan"], "machine_before": before["machine"],
        }  # fmt: skip
        changes = [*before.get("changes_of_plan", []), change]
        self.write_environment({"plan": plan.as_dict(), "machine": describe_machine(), "changes_of_plan": changes})

    def checkpoint(self, fit: Fit) -> None:
        """Writes a checkpoint; then removes all but the last two and the best."""
        folder = self.path / "checkpoints"
        lengths: Lengths = {}
        for path in self._lines():
            sync(path)  # before the checkpoint that counts on it
            lengths[path.name] = (path.stat().st_size, file_digest(path))
        save_checkpoint(folder / f"step-{fit.step:09d}.safetensors", Checkpoint(fit.state(), lengths))
        best_step = fit.best.epoch * fit.loader.steps if fit.best else -1
        kept = {f"step-{best_step:09d}.safetensors"} | {path.name for path in list_checkpoints(folder)[-2:]}
        for path in list_checkpoints(folder):
            if path.name not in kept:
                remove(path)
        self._checkpointed = time.monotonic()

    def restore(self, fit: Fit) -> list[str]:
        """Brings a Fit and the lines written so far back to the newest checkpoint that is whole.

        Without any checkpoint they are at the beginning. A damaged checkpoint is put aside.

        Returns:
            What was found damaged, in words.

        Raises:
            StoredFileError: there are checkpoints, and none of them can be used.
        """
        folder = self.path / "checkpoints"
        for place in (self.path, folder):
            remove_unfinished(place)
        problems: dict[Path, str] = {}
        for path, found in load_newest(folder):
            try:
                if isinstance(found, StoredFileError):
                    raise found
                for name, (length, digest) in found.lengths.items():
                    check_beginning(self.path / name, length, digest)
            except StoredFileError as error:
                problems[path] = error.problem
                continue
            fit.load_state(found.state)
            for name in LINES:  # one that was not there yet is from after the checkpoint
                if name in found.lengths:
                    cut(self.path / name, found.lengths[name][0])
                else:
                    remove(self.path / name)
            for damaged in problems:
                damaged.replace(damaged.with_suffix(".damaged"))
            return list(problems.values())
        if problems:
            raise StoredFileError(
                f"none of the checkpoints in {folder} can be used: {'; '.join(problems.values())}",
                expected="one that is whole, and the lines that were written before it",
                remedy=f"to train from the beginning, remove the folder {folder} and resume again",
            )
        for name in LINES:
            remove(self.path / name)
        return []

    def finish(self, fit: Fit, estimated_seconds: float | None) -> None:
        """Writes the classifier and says that training is done; a resumed run has no estimate of the whole."""
        fit.classifier().save(self.classifier_path)
        if (receipt := fit.receipt()) is not None:
            self.write_receipt(receipt)
        for path in self._lines():
            sync(path)
        self.write_checksums(*(path.name for path in self._lines()))
        seconds = sum(line["seconds"] for line in self.metrics())
        self.write_environment({"finished": now(), "training_seconds": seconds, "estimated_seconds": estimated_seconds})

    def _checks(self) -> dict[str, Callable[[], object]]:
        checkpoints = list_checkpoints(self.path / "checkpoints")
        return super()._checks() | {f"checkpoints/{path.name}": partial(load_checkpoint, path) for path in checkpoints}

    def _check_free(self) -> None:
        if self.exists:
            raise RunError(
                f"there is a run in {self.path} already",
                expected="a folder that does not exist yet, or is empty",
                remedy=f"go on with it: eyebright train --resume {self.path}; or choose another folder with --out",
            )
        self.check_alone({"checkpoints", "environment.json"})  # of a run that was begun and then killed

    def _lines(self) -> list[Path]:
        return [self.path / name for name in LINES if (self.path / name).exists()]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a last line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
