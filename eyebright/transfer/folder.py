"""The folder that a transfer leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eyebright.device import Plan
from eyebright.errors import OutputError, RunError
from eyebright.files import make_folder, read_json, write_json
from eyebright.training.folder import Folder, now
from eyebright.training.recipe import DataSection
from eyebright.training.run import Run


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

    @classmethod
    @contextmanager
    def begin(cls, path: Path, seed: int, plan: Plan) -> Iterator[TransferFolder]:
        """Makes the folder, or goes on in one that was broken off; keeps other processes out of it within the block.

        Raises:
            RunError: there is a run in it, or a finished transfer, or another process is at it.
            OutputError: it cannot be made.
        """
        folder = cls(path)
        folder.check_free()
        make_folder(folder.kept)
        with folder.locked():
            folder.check_free()
            opened = folder.environment["test_openings"] if (path / "environment.json").exists() else []
            folder.begin_environment(seed, plan, notes=[], test_openings=opened)
            yield folder

    @property
    def kept(self) -> Path:
        """Where trainings that are done are, until all is."""
        return self.path / "kept"

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

    def finish(self, values: dict[str, Any], seconds: float) -> None:
        """Says that all is done: from here on it is a transfer."""
        write_json(self.path / self.MARK, values)
        self.write_checksums(self.MARK, self.figure_path.name)
        self.write_environment({"finished": now(), "seconds": seconds})
        shutil.rmtree(self.kept, ignore_errors=True)  # it was for going on

    def check_free(self) -> None:
        """Whether a transfer may begin here, or go on.

        Raises:
            RunError: there is a run in it, or a finished transfer.
            OutputError: it is a file.
        """
        for kind, what in ((Run, "run"), (TransferFolder, "finished transfer")):
            if kind(self.path).exists:
                raise RunError(
                    f"there is a {what} in {self.path}",
                    expected="a folder that does not exist yet, or one whose transfer was broken off",
                    remedy="choose another folder with --out",
                )
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file", expected="a folder", remedy="choose another place with --out")


def open_folder(path: str | Path) -> Run | TransferFolder:
    """A run, or a transfer.

    Raises:
        RunError: it is neither.
    """
    transfer = TransferFolder(Path(path))
    return transfer if transfer.exists else Run.open(path)
