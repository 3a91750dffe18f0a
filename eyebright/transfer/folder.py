"""The folder that a transfer leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout

from eyebright.device import Plan
from eyebright.errors import RunError
from eyebright.files import make_folder, read_json, write_json
from eyebright.training.folder import Folder, now
from eyebright.training.recipe import DataSection
from eyebright.training.run import Run

KEPT = "kept"


class TransferFolder(Folder):
    """A transfer's folder.

    Beside what is in every `Folder`:

    =================== ==================================================================
    ``transfer.json``   what was asked for and tried, and all figures; written at the end
    ``transfer.png``    the same to look at
    ``kept/``           trainings that are done, until all is
    =================== ==================================================================

    Args:
        path: the folder.
    """

    KIND = "transfer"
    MARK = "transfer.json"
    MADE_BY = "eyebright transfer"

    @contextmanager
    def begun(self, seed: int, plan: Plan, asked: dict[str, Any], notes: Sequence[str] = ()) -> Iterator[None]:
        """Makes the folder, or goes on in one that was broken off; keeps other processes out of it within the block.

        Args:
            seed: of all chance in it.
            plan: the execution plan.
            asked: what makes it another transfer if it is another; kept as ``environment["asked"]``.
            notes: what is to be said of the pictures.

        Raises:
            RunError: there are other things in it, or another transfer was broken off there, or another process is at
                it.
            OutputError: it cannot be made.
        """
        self.check_free(asked)
        make_folder(self.kept)
        with self.locked():
            self.check_free(asked)
            opened = self.environment["test_openings"] if (self.path / "environment.json").exists() else []
            self.begin_environment(seed, plan, asked=asked, notes=list(notes), test_openings=opened)
            yield

    def check_free(self, asked: dict[str, Any]) -> None:
        """Whether a transfer may begin here, or go on.

        Args:
            asked: what is asked for.

        Raises:
            RunError: there is a finished transfer, or another one that was broken off, or something else.
            OutputError: it is a file.
        """
        if self.exists:
            raise RunError(
                f"there is a finished transfer in {self.path}",
                expected="a folder that does not exist yet, or one whose transfer was broken off",
                remedy="choose another folder with --out",
            )
        if self.broken_off and (other := self.differences(asked)):
            raise RunError(
                f"in {self.path} another transfer was broken off: with other {', '.join(other)}",
                expected="the same transfer, which would go on, or a folder that does not exist yet",
                remedy="choose another folder with --out, or remove this one",
            )
        begun = {
            "environment.json", "split.json", "split.safetensors", "classifier.safetensors", "receipt.json",
            "evaluation.json", "report.html", self.figure_path.name,
        }  # fmt: skip
        self.check_alone({KEPT, *begun} if self.broken_off else {KEPT} if self._is_new else ())

    @property
    def broken_off(self) -> bool:
        """Whether a transfer was begun here and is not done."""
        return not self.exists and self.kept.is_dir() and (self.path / "environment.json").is_file()

    def differences(self, asked: dict[str, Any]) -> list[str]:
        """In what the transfer that was begun here was another one; how many minutes it may take does not matter."""
        before = self.environment.get("asked", {})
        return [name for name in {**before, **asked} if before.get(name) != asked.get(name) and name != "minutes"]

    @property
    def in_use(self) -> bool:
        """Whether a process is at work in it."""
        try:
            with self._lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    @property
    def _is_new(self) -> bool:
        """Whether there is nothing but the empty folder that `begun` makes first."""
        return self.kept.is_dir() and not any(self.kept.iterdir())

    @property
    def kept(self) -> Path:
        """Where trainings that are done are, until all is."""
        return self.path / KEPT

    @property
    def figure_path(self) -> Path:
        """Where all that was tried is drawn."""
        return self.path / "transfer.png"

    @property
    def data(self) -> DataSection:
        """Which pictures, as they were asked for."""
        return DataSection(**self.values["data"])

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Validation too, where pictures were judged in folds: the kept one learned from all of them then."""
        return ("train", "val") if self.values["folds"] > 1 else ("train",)

    @property
    def values(self) -> dict[str, Any]:
        """What was asked for, what was tried, and all figures of it."""
        return read_json(self.path / self.MARK, "figures of a transfer")

    def finish(self, values: dict[str, Any]) -> None:
        """Says that all is done: from here on it is a transfer."""
        self.write_checksums(self.figure_path.name)
        self.write_environment({"finished": now()})
        write_json(self.path / self.MARK, values)
        shutil.rmtree(self.kept, ignore_errors=True)  # it was for going on

    def _checks(self) -> dict[str, Callable[[], object]]:
        return super()._checks() | {self.MARK: lambda: self.values}


def open_folder(path: str | Path) -> Run | TransferFolder:
    """A run, or a transfer that is done.

    Raises:
        RunError: it is neither.
    """
    run, transfer = Run(Path(path)), TransferFolder(Path(path))
    if transfer.exists:
        return transfer
    if run.exists:
        return run
    if transfer.broken_off:
        raise RunError(
            f"the transfer in {path} is not finished",
            expected="a finished transfer, or a run",
            remedy=f"give the same `eyebright transfer` again, with --out {path}: it goes on",
        )
    raise RunError(
        f"{path} is neither a run nor a transfer",
        expected=f"a folder that `{Run.MADE_BY}` or `{TransferFolder.MADE_BY}` made, with a {Run.MARK} or a "
        f"{TransferFolder.MARK} in it",
        remedy="check the path",
    )


def find_folder(path: Path) -> Run | TransferFolder | None:
    """The same; None where it is no folder, or one with a classifier alone, which knows no pictures.

    Raises:
        RunError: it is a folder of something else.
    """
    transfer = TransferFolder(path)
    is_known = transfer.exists or transfer.broken_off or Run(path).exists
    if not path.is_dir() or (transfer.classifier_path.is_file() and not is_known):
        return None
    return open_folder(path)


def open_run(path: str | Path) -> Run:
    """A run: what has a recipe and a history of training.

    Raises:
        RunError: it is none.
    """
    folder = open_folder(path)
    if isinstance(folder, TransferFolder):
        raise RunError(
            f"{path} is a transfer, which has no recipe and no history of training",
            expected=f"a run, a folder that `{Run.MADE_BY}` made",
            remedy=f"see {folder.report_path}; eyebright inspect {path} shows features, saliency, mistakes, embedding, "
            "robustness",
        )
    return folder
