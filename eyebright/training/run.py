"""The run folder: everything that a training run leaves behind, and all that it needs to go on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from eyebright.classifier import Classifier
from eyebright.data.split import Contract
from eyebright.device import Plan, describe_machine
from eyebright.errors import OutputError, RunError
from eyebright.files import make_folder, write_json, write_text
from eyebright.training.checkpoint import list_checkpoints, newest_checkpoint, save_checkpoint
from eyebright.training.fit import Fit, Report, StepReport
from eyebright.training.recipe import Recipe, load_recipe

CHECKPOINT_SECONDS = 300  # within long epochs, a checkpoint is written this often
METRICS = (
    "epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "learning_rate", "seconds", "images_per_second",
)  # fmt: skip


class Run:
    """A run's folder.

    ========================== =======================================================================
    ``recipe.toml``            the whole recipe, defaults included; written before anything slow
    ``split.json, split.npz``  which pictures are in which part
    ``environment.json``       seed, machine, versions, execution plan, times estimated and taken
    ``metrics.jsonl``          a line an epoch
    ``steps.jsonl``            a line a step
    ``checkpoints/``           the last two and the best
    ``classifier.safetensors`` what was trained
    ``evaluation.json``        the figures on the test part
    ``report.html``            all of it to look at
    ========================== =======================================================================

    Args:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self._checkpointed = time.monotonic()

    @classmethod
    def create(cls, path: Path, recipe: Recipe, seed: int, plan: Plan) -> Run:
        """Makes the folder of a new run.

        Raises:
            RunError: there is a run in it already.
            OutputError: it cannot be made.
        """
        if (path / "recipe.toml").exists():
            raise RunError(
                f"there is a run in {path} already",
                expected="a folder that does not exist yet, or is empty",
                remedy=f"go on with it: eyebright train --resume {path}; or choose another folder with --out",
            )
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file", expected="a folder", remedy="choose another place with --out")
        make_folder(path / "checkpoints")
        environment = {"seed": seed, "plan": plan.as_dict(), "machine": describe_machine(), "started": _now()}
        write_json(path / "environment.json", environment)
        write_text(path / "recipe.toml", recipe.to_toml())  # last: from here on it is a run
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run.

        Raises:
            RunError: there is none.
        """
        run = cls(Path(path))
        if not (run.path / "recipe.toml").is_file():
            raise RunError(
                f"{path} is not a run",
                expected="a folder that `eyebright train` made, with a recipe.toml in it",
                remedy="check the path",
            )
        return run

    def discard(self) -> None:
        """Takes back what `create` and the checks before training wrote: the input was at fault, nothing is lost."""
        for name in ("recipe.toml", "environment.json", "split.json", "split.npz", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty: something in it is not ours
            (self.path / "checkpoints").rmdir()
            self.path.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps two processes from training the same run. A dead process's lock is not in the way.

        Raises:
            RunError: another process is at it.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"another process is training {self.path}",
                expected="one process for a run",
                remedy="wait until it is done, or choose another folder with --out",
            ) from error
        except OSError as error:
            raise OutputError(
                f"cannot write in {self.path}: {error.strerror or error}",
                expected="a folder that this user may write to",
                remedy="choose another folder with --out",
            ) from error
        try:
            yield
        finally:
            lock.release()

    @property
    def recipe(self) -> Recipe:
        """The recipe, as it was."""
        return load_recipe(self.path / "recipe.toml")

    @property
    def environment(self) -> dict[str, Any]:
        """Seed, plan, machine, times."""
        values: dict[str, Any] = self._read_json("environment.json")
        return values

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.environment["seed"])

    @property
    def plan(self) -> Plan:
        """The execution plan that the run began with."""
        return Plan(**self.environment["plan"])

    @property
    def contract(self) -> dict[str, Any]:
        """What ``split.json`` says: classes, counts, root digest."""
        values: dict[str, Any] = self._read_json("split.json")
        return values

    @property
    def has_contract(self) -> bool:
        """Whether the pictures were looked at before the run was interrupted."""
        return (self.path / "split.json").exists()

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The figures on the test part, once there are any."""
        return self._read_json("evaluation.json") if (self.path / "evaluation.json").exists() else None

    @property
    def finished(self) -> bool:
        """Whether training is done and its classifier written."""
        return "finished" in self.environment

    @property
    def classifier_path(self) -> Path:
        """Where the classifier is, or will be."""
        return self.path / "classifier.safetensors"

    @property
    def report_path(self) -> Path:
        """Where the report is, or will be."""
        return self.path / "report.html"

    def classifier(self, device: str = "auto") -> Classifier:
        """The classifier: of a run that is not done, the best so far.

        Raises:
            StoredFileError: there is none yet, or it is damaged.
        """
        return Classifier.load(self.classifier_path, device=device)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``: one for each epoch."""
        return _read_lines(self.path / "metrics.jsonl")

    def steps(self) -> list[dict[str, Any]]:
        """The lines of ``steps.jsonl``: one for each step."""
        return _read_lines(self.path / "steps.jsonl")

    def write_contract(self, contract: Contract) -> None:
        """Keeps which pictures are in which part."""
        contract.save(self.path)

    def write_environment(self, values: dict[str, Any]) -> None:
        """Adds values to ``environment.json``."""
        write_json(self.path / "environment.json", self.environment | values)

    def write_evaluation(self, values: dict[str, Any]) -> None:
        """Keeps the figures on the test part, and counts how often it was opened."""
        opened = (self.evaluation or {}).get("test_opened", 0) + 1
        write_json(self.path / "evaluation.json", values | {"test_opened": opened})

    def record(self, report: StepReport | Report, fit: Fit) -> None:
        """Takes a report: a line of metrics, and a checkpoint after each epoch and every few minutes."""
        if isinstance(report, Report):
            values = asdict(report)
            self._append("metrics.jsonl", {key: values[key] for key in METRICS})
            if report.best or fit.val is None or fit.recipe.training.keep == "last":
                fit.classifier().save(self.classifier_path)
            self.checkpoint(fit)
        else:
            line = {"step": report.step, "epoch": report.epoch, "loss": report.loss}
            self._append("steps.jsonl", line | {"learning_rate": report.learning_rate})
            if time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
                self.checkpoint(fit)

    def checkpoint(self, fit: Fit) -> None:
        """Writes a checkpoint; then removes all but the last two and the best."""
        folder = self.path / "checkpoints"
        make_folder(folder)
        save_checkpoint(folder / f"step-{fit.step:09d}.safetensors", fit.state())
        best_step = fit.best.epoch * fit.loader.steps if fit.best else -1
        kept = {f"step-{best_step:09d}.safetensors"} | {path.name for path in list_checkpoints(folder)[-2:]}
        for path in list_checkpoints(folder):
            if path.name not in kept:
                path.unlink(missing_ok=True)
        self._checkpointed = time.monotonic()

    def restore(self, fit: Fit) -> int:
        """Brings a Fit and the metrics back to the newest checkpoint that can be read.

        Returns:
            The step at which training goes on; 0 where there is no checkpoint yet.
        """
        newest = newest_checkpoint(self.path / "checkpoints")
        if newest is not None:
            fit.load_state(newest[1])
        self._cut_lines("metrics.jsonl", fit.step)
        self._cut_lines("steps.jsonl", fit.step)
        return fit.step

    def finish(self, fit: Fit, estimated_seconds: float | None) -> None:
        """Writes the classifier and says that training is done; a resumed run has no estimate of the whole."""
        fit.classifier().save(self.classifier_path)
        seconds = sum(line["seconds"] for line in self.metrics())
        self.write_environment(
            {"finished": _now(), "training_seconds": seconds, "estimated_seconds": estimated_seconds}
        )

    def _append(self, name: str, values: dict[str, Any]) -> None:
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path / name}: {error.strerror or error}",
                expected="a folder that this user may write to, on a disk with room left",
                remedy=f"free some room, then: eyebright train --resume {self.path}",
            ) from error

    def _cut_lines(self, name: str, step: int) -> None:
        path = self.path / name
        if path.exists():
            kept = [json.dumps(line) + "\n" for line in _read_lines(path) if line["step"] <= step]
            write_text(path, "".join(kept))

    def _read_json(self, name: str) -> Any:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"cannot read {path}: {error}",
                expected="the file that `eyebright train` wrote",
                remedy="start the run again in another folder; its recipe.toml can be trained as it is",
            ) from error


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
